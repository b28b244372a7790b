"""The columns of a parsed log, and the frame made of them; whoever read the lines, the frame is built here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from srcip_nb.parse_lines import KINDS, LEVELS, Row

STRINGS = (
    "remote_addr", "remote_user", "method", "uri", "protocol", "referer", "user_agent", "forwarded_for", "run",
    "message", "client", "server", "upstream", "host", "raw",
)  # fmt: skip
TIMES = ("time", "time_logged")
BEFORE = ("pod", "container", "time_logged")  # what kubectl or stern wrote before the line, where that was asked for
INTEGERS = {"status": pd.Int16Dtype(), "bytes": pd.Int64Dtype(), "request": pd.Int64Dtype(), "pid": pd.Int64Dtype(),
            "connection": pd.Int64Dtype()}  # fmt: skip
CATEGORIES = {"kind": pd.CategoricalDtype(list(KINDS)), "level": pd.CategoricalDtype(list(LEVELS), ordered=True)}
TEXT = pd.StringDtype("pyarrow")
NAT = np.iinfo(np.int64).min

# Codes of the two categories, as pandas keeps them: -1 is "none".
KIND_CODE = {name: code for code, name in enumerate(KINDS)}
LEVEL_CODE = {name: code for code, name in enumerate(LEVELS)} | {None: -1}

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Columns = dict[str, Any]
"""Field of Row -> its values: strings as pyarrow large_string, integers as (values, is missing), ``time`` as int64 with
NAT, ``kind`` and ``level`` as int8 codes."""


def columns_of(rows: Sequence[Row]) -> Columns:
    """The columns of rows that were read one at a time."""
    if not rows:
        return no_columns(0)
    values = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    return {
        "kind": np.array([KIND_CODE[kind] for kind in values["kind"]], np.int8),
        "level": np.array([LEVEL_CODE[level] for level in values["level"]], np.int8),
        "time": np.array([NAT if time is None else time for time in values["time"]], np.int64),
        **{name: _integers(values[name]) for name in INTEGERS},
        **{name: pa.array(values[name], pa.large_string()) for name in STRINGS},
    }


def _integers(values: Sequence[int | None]) -> tuple[Numbers, Mask]:
    return np.array([value or 0 for value in values], np.int64), np.array([value is None for value in values], bool)


def no_columns(count: int) -> Columns:
    """The columns of that many rows of kind other that hold nothing at all."""
    return {
        "kind": np.full(count, KIND_CODE["other"], np.int8),
        "level": np.full(count, LEVEL_CODE[None], np.int8),
        "time": np.full(count, NAT, np.int64),
        **{name: (np.zeros(count, np.int64), np.ones(count, bool)) for name in INTEGERS},
        **{name: pa.nulls(count, pa.large_string()) for name in STRINGS},
    }


def frame_of(blocks: list[Columns]) -> pd.DataFrame:
    """One DataFrame of blocks of columns, in order; ``line`` counts from 1. The blocks are used up."""
    names = [name for name in BEFORE if name in blocks[0]] + list(Row._fields)
    # Taken out of the blocks one by one: each column's parts are freed once it is made.
    frame = pd.DataFrame({name: _made(name, [block.pop(name) for block in blocks]) for name in names}, copy=False)
    frame.insert(0, "line", np.arange(1, len(frame) + 1))
    return frame


def _made(name: str, parts: list[Any]) -> Any:
    if name in CATEGORIES:
        return pd.Categorical.from_codes(np.concatenate(parts), dtype=CATEGORIES[name])
    if name in TIMES:
        return pd.DatetimeIndex(np.concatenate(parts).view("M8[ns]"), tz="UTC")
    if name in INTEGERS:
        values, is_missing = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return pd.arrays.IntegerArray(values.astype(INTEGERS[name].type, copy=False), is_missing)
    return TEXT.__from_arrow__(pa.chunked_array(parts))  # type: ignore[attr-defined]
