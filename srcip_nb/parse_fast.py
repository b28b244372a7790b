r"""Access lines by the million: a block of bytes is read as columns, and only what is doubtful goes line by line.

An access line holds six quotes (combined) or eight (main), and where they stand the fields are::

    10.0.5.0 - - [15/Oct/2023:04:23:57 +0000] "GET / HTTP/1.1" 200 292 "-" "Firefox" "-"
    start        bracket = q0 - 29            q0             q1        q2q3q4      q5q6q7

So numpy finds all newlines and quotes of a block at once and compares the bytes around them; a field is then a piece
(begin, end) of the block, and pyarrow cuts out a column of pieces in one go. A line that fails a comparison is not
yet wrong: it is read by ``parse_lines.read_line()``, which is the definition, and its strings become pieces behind the
block's. Nothing is guessed: what is accepted here is what the definition accepts, with the same values.
"""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from srcip_nb.parse_columns import (
    INTEGERS,
    KIND_CODE,
    LEVEL_CODE,
    NAT,
    STRINGS,
    Bytes,
    Columns,
    Mask,
    Numbers,
    columns_of,
)
from srcip_nb.parse_lines import TIME, access_time, decode, read_line

NEWLINE, RETURN, QUOTE, SPACE, DASH, BACKSLASH, X, ZERO, OPEN, CLOSE, QUESTION, AND = b'\n\r" -\\x0[]?&'
IS_UPPER_HEX = np.isin(np.arange(256), np.frombuffer(b"0123456789ABCDEF", np.uint8))
IS_LOWER_HEX = np.isin(np.arange(256), np.frombuffer(b"0123456789abcdef", np.uint8))
COMBINED_QUOTES, MAIN_QUOTES = 6, 8
TIME_WIDTH = len("15/Oct/2023:04:23:57 +0000")
HOUR_WIDTH = len("15/Oct/2023:04")
WORD = 8  # bytes compared at once; the longest method here with its space, and a protocol
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT")
PROTOCOLS = np.frombuffer(b"HTTP/1.1HTTP/1.0HTTP/0.9HTTP/2.0HTTP/3.0", np.uint64)
RUN_WIDTH = 8  # hexadecimal digits of a run's id
REQUEST_KEY = b"&request="
MOST_DIGITS = 18


def parse_block(block: bytes, zone: tzinfo) -> Columns:
    """Read a block of whole lines, the last with or without its newline, into columns."""
    if not block.endswith(b"\n"):
        block += b"\n"
    data = np.frombuffer(block, np.uint8)
    lines = _find_lines(data)
    access = _read_access(block, data, lines)
    is_left = np.ones(len(lines.start), bool)
    is_left[access.row] = False
    row = np.flatnonzero(is_left)
    where = zip(lines.start[row].tolist(), lines.end[row].tolist(), strict=True)
    others = columns_of([read_line(decode(block[begin:end]), zone) for begin, end in where])
    return _weave(block, access, row, others)


class _Lines(NamedTuple):
    start: Numbers
    end: Numbers  # without the line ending
    marks: Numbers  # where the block's quotes and newlines are
    first: Numbers  # index in `marks` of the line's first quote
    quotes: Numbers  # how many it has
    is_plain: Mask  # it is ASCII, and each backslash in it begins an escape of nginx's


class _Access(NamedTuple):
    row: Numbers  # index of the line in the block
    kind: npt.NDArray[np.int8]
    time: Numbers
    integers: dict[str, tuple[Numbers, Mask]]  # values, is missing
    pieces: dict[str, tuple[Numbers, Numbers, Mask]]  # begin, end, is missing


def _find_lines(data: Bytes) -> _Lines:
    marks = np.flatnonzero((data == NEWLINE) | (data == QUOTE))
    newlines = np.flatnonzero(data[marks] == NEWLINE)
    line_feed = marks[newlines]
    start = np.concatenate(([0], line_feed[:-1] + 1))
    first = np.concatenate(([0], newlines[:-1] + 1))
    end = line_feed - ((line_feed > start) & (data[line_feed - 1] == RETURN))
    is_plain = np.ones(len(start), bool)
    special = np.flatnonzero((data == BACKSLASH) | (data > 0x7F))
    is_plain[np.searchsorted(line_feed, special[~_is_nginx_escape(data, special)])] = False
    return _Lines(start, end, marks, first, newlines - first, is_plain)


def _is_nginx_escape(data: Bytes, at: Numbers) -> Mask:
    last = len(data) - 1  # a newline, and so never part of an escape
    x, high, low = (data[np.minimum(at + step, last)] for step in (1, 2, 3))
    return (data[at] == BACKSLASH) & (x == X) & IS_UPPER_HEX[high] & IS_UPPER_HEX[low]


def _read_access(block: bytes, data: Bytes, lines: _Lines) -> _Access:
    """The lines that are access lines beyond doubt."""
    has_quotes = (lines.quotes == MAIN_QUOTES) | (lines.quotes == COMBINED_QUOTES)
    row = np.flatnonzero(has_quotes & lines.is_plain)
    is_main = lines.quotes[row] == MAIN_QUOTES
    # Positions: start and end of the line, then its quotes; the two that a combined line lacks stand on its last one.
    nth = np.where(is_main, np.arange(MAIN_QUOTES)[:, None], np.minimum(np.arange(MAIN_QUOTES), 5)[:, None])
    at = np.concatenate([[lines.start[row], lines.end[row]], lines.marks[lines.first[row] + nth]])
    has_room = (at[2] - at[0] >= len("A -  [] ") + TIME_WIDTH) & (at[4] - at[3] >= len('" 200 0 "') - 1)
    row, is_main, at = row[has_room], is_main[has_room], at[:, has_room]
    fits = _has_bytes_between(data, is_main, at)
    row, is_main, at = row[fits], is_main[fits], at[:, fits]
    start, _, q0, q1, q2, q3, q4, q5, q6, q7 = at

    bracket = q0 - len("[] ") - TIME_WIDTH
    space = start + _find(_cut(block, start, bracket - 1), " ")
    is_prefix = (
        (space > start) & (space + len(" - ") < bracket) & (data[space + 1] == DASH) & (data[space + 2] == SPACE)
    )
    time, is_time = _times(data, bracket + 1)
    size, is_size = _digits(block, q1 + len('" 200 '), q2 - 1)
    method_end, uri_end, is_request = _split_requests(data, q0 + 1, q1)
    run_at, request, has_ids, is_settled = _ids(block, data, method_end + 1, uri_end)

    def or_dash(begin: Numbers, end: Numbers) -> tuple[Numbers, Numbers, Mask]:
        return begin, end, (end - begin == 1) & (data[begin] == DASH)

    never = np.zeros(len(row), bool)
    found = _Access(
        row,
        np.where(is_main, KIND_CODE["access_main"], KIND_CODE["access_combined"]).astype(np.int8),
        time,
        {
            "status": (_status(data, q1), never),
            "bytes": (size, never),
            "request": (request, ~has_ids),
        },
        {
            "remote_addr": (start, space, never),
            "remote_user": or_dash(space + len(" - "), bracket - 1),
            "method": (q0 + 1, method_end, never),
            "uri": (method_end + 1, uri_end, never),
            "protocol": (uri_end + 1, q1, never),
            "referer": or_dash(q2 + 1, q3),
            "user_agent": or_dash(q4 + 1, q5),
            "forwarded_for": (q6 + 1, q7, ~is_main | ((q7 - q6 == 2) & (data[q6 + 1] == DASH))),
            "run": (run_at, run_at + RUN_WIDTH, ~has_ids),
        },
    )
    is_certain = is_prefix & is_time & is_size & is_request & is_settled
    return found if is_certain.all() else _only(found, is_certain)


def _only(access: _Access, mask: Mask) -> _Access:
    return _Access(
        access.row[mask],
        access.kind[mask],
        access.time[mask],
        {name: (values[mask], missing[mask]) for name, (values, missing) in access.integers.items()},
        {name: (begin[mask], end[mask], gone[mask]) for name, (begin, end, gone) in access.pieces.items()},
    )


def _has_bytes_between(data: Bytes, is_main: Mask, at: Numbers) -> Mask:
    """Whether spaces, brackets, the status' digits and the end of the line are where the quotes say."""
    _, end, q0, q1, q2, q3, q4, q5, q6, q7 = at
    bracket = q0 - len("[] ") - TIME_WIDTH
    size_width = q2 - q1 - len('" 200  ')
    return (
        (data[bracket - 1] == SPACE) & (data[bracket] == OPEN) & (data[q0 - 2] == CLOSE) & (data[q0 - 1] == SPACE)
        & (data[q1 + 1] == SPACE) & _are_digits(data, q1 + 2, q1 + 3, q1 + 4) & (data[q1 + 5] == SPACE)
        & (size_width <= MOST_DIGITS) & (data[q2 - 1] == SPACE)
        & (q4 == q3 + 2) & (data[q3 + 1] == SPACE)
        & (~is_main | ((q6 == q5 + 2) & (data[q5 + 1] == SPACE)))
        & (q7 == end - 1)
    )  # fmt: skip


def _are_digits(data: Bytes, *at: Numbers) -> Mask:
    return np.logical_and.reduce([data[position] - ZERO <= 9 for position in at])  # below "0" an unsigned byte wraps


def _status(data: Bytes, q1: Numbers) -> Numbers:
    hundreds, tens, ones = (data[q1 + n].astype(np.int64) - ZERO for n in (2, 3, 4))
    return hundreds * 100 + tens * 10 + ones


def _digits(block: bytes, begin: Numbers, end: Numbers) -> tuple[Numbers, Mask]:
    """The whole numbers in pieces of at most 18 bytes, and which pieces are one; 0 where it is not."""
    pieces = _cut(block, begin, end)
    is_number = pc.ascii_is_decimal(pieces)
    values = pc.cast(pc.if_else(is_number, pieces, "0"), pa.int64())
    return values.to_numpy(), is_number.to_numpy(zero_copy_only=False)


def _times(data: Bytes, begin: Numbers) -> tuple[Numbers, Mask]:
    """The time in the 26 bytes from each begin: the definition reads each hour once, minutes and seconds are added."""
    text = _windows(data, begin, TIME_WIDTH)
    hour_and_zone = np.ascontiguousarray(np.delete(text, np.s_[HOUR_WIDTH : HOUR_WIDTH + len(":00:00")], axis=1))
    width = hour_and_zone.shape[1]
    keys = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(begin), [None, pa.py_buffer(hour_and_zone)])
    encoded = keys.dictionary_encode()
    hours = [_hour(key.decode("latin-1")) for key in encoded.dictionary.to_pylist()]
    hour = np.array([NAT if time is None else time for time in hours], np.int64)[encoded.indices.to_numpy()]
    colons = (text[:, 14] == ord(":")) & (text[:, 17] == ord(":"))
    digits = text[:, [15, 16, 18, 19]] - ZERO
    is_clock = colons & (digits <= np.array([5, 9, 5, 9])).all(axis=1)
    seconds = digits @ np.array([600, 60, 10, 1])
    return hour + seconds * 1_000_000_000, is_clock & (hour != NAT)


def _hour(key: str) -> int | None:
    text = f"{key[:HOUR_WIDTH]}:00:00{key[HOUR_WIDTH:]}"
    return access_time(text) if re.fullmatch(TIME, text) else None


def _split_requests(data: Bytes, begin: Numbers, end: Numbers) -> tuple[Numbers, Numbers, Mask]:
    """Where the method and the URI end, and which requests are METHOD URI PROTOCOL beyond doubt."""
    head = _windows(data, begin, WORD).view(np.uint64)[:, 0]
    tail = _windows(data, end - WORD, WORD).view(np.uint64)[:, 0]
    method_end = begin.copy()
    for method in METHODS:
        mask, word = _word(b"\xff" * (len(method) + 1)), _word(method + b" ")
        method_end[(head & mask) == word] += len(method)
    uri_end = end - len(" HTTP/1.1")
    is_protocol = (data[uri_end] == SPACE) & np.isin(tail, PROTOCOLS)
    return method_end, uri_end, (method_end > begin) & (method_end < uri_end) & is_protocol


def _word(text: bytes) -> np.uint64:
    """Up to eight bytes as one number, as a window of the data has them."""
    return np.frombuffer(text.ljust(WORD, b"\0"), np.uint64)[0]


def _ids(block: bytes, data: Bytes, begin: Numbers, end: Numbers) -> tuple[Numbers, Numbers, Mask, Mask]:
    """Where the run's id is, the request's number, which URIs have both, and for which that is beyond doubt.

    Beyond doubt is a URI without ``run=``, or one whose first ``run=`` is that of ``?run=<8 digits>&request=<number>``
    at its end.
    """
    at = _find(_cut(block, begin, np.maximum(begin, end)), "run=")
    run_at, number, has_ids = begin + at + len("run="), np.zeros(len(begin), np.int64), np.zeros(len(begin), bool)
    number_at = run_at + RUN_WIDTH + len(REQUEST_KEY)
    has_room = np.flatnonzero((at > 0) & (number_at < end) & (end - number_at <= MOST_DIGITS))
    if len(has_room):
        begins, runs = data[run_at[has_room] - len("?run=")], run_at[has_room]
        value, is_number = _digits(block, number_at[has_room], end[has_room])
        text = _windows(data, runs, RUN_WIDTH + len(REQUEST_KEY))
        is_key = (text[:, RUN_WIDTH:] == np.frombuffer(REQUEST_KEY, np.uint8)).all(axis=1)
        is_run = IS_LOWER_HEX[text[:, :RUN_WIDTH]].all(axis=1) & ((begins == QUESTION) | (begins == AND))
        number[has_room] = value
        has_ids[has_room] = is_key & is_run & is_number
    return run_at, np.where(has_ids, number, 0), has_ids, has_ids | (at < 0)


def _windows(data: Bytes, begin: Numbers, width: int) -> Bytes:
    """The bytes from each begin on, one row each."""
    if not len(begin):
        return np.empty((0, width), np.uint8)  # the block may be shorter than a window
    return np.lib.stride_tricks.sliding_window_view(data, width)[begin]


def _find(strings: pa.Array, what: str) -> Numbers:
    return pc.find_substring(strings, what).to_numpy().astype(np.int64)


def _cut(block: bytes, begin: Numbers, end: Numbers) -> pa.Array:
    pieces = _Pieces(block)
    base = pieces.add(begin, end)
    return pieces.array().take(pa.array(base + 2 * np.arange(len(begin))))


class _Pieces:
    """Strings that are pieces of one buffer.

    An arrow array of strings is a buffer and offsets: string k reaches from offset k to offset k + 1. With a begin
    and an end for each piece laid out in turn, every second string is a piece and those between are never looked at.
    """

    def __init__(self, block: bytes) -> None:
        self._texts: list[Any] = [block]
        self._size = len(block)
        self._offsets: list[Numbers] = []
        self._count = 0

    def add(self, begin: Numbers, end: Numbers) -> int:
        """Add pieces of the block; returns the index of the first, the others follow in steps of two."""
        return self._add(np.column_stack([begin, end]).ravel())

    def add_strings(self, strings: pa.Array) -> int:
        """Add whole strings; returns the index of the first, the others follow in steps of one."""
        _, offsets, text = strings.buffers()
        first = self._add(np.frombuffer(offsets, np.int64)[: len(strings) + 1] + self._size) if len(strings) else 0
        if text is not None:
            self._texts.append(text)
            self._size += len(text)
        return first

    def _add(self, offsets: Numbers) -> int:
        self._count += len(offsets)
        self._offsets.append(offsets)
        return self._count - len(offsets)

    def array(self) -> pa.Array:
        # The last offset is the buffer's length, so that arrow's estimate of a string's length is not negative.
        offsets = np.concatenate([*self._offsets, [self._size]])
        text = self._texts[0] if len(self._texts) == 1 else b"".join(self._texts)
        return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(text))


def _weave(block: bytes, access: _Access, other_row: Numbers, others: Columns) -> Columns:
    """The columns of the whole block, of its access lines' pieces and of the other lines' values."""
    count = len(access.row) + len(other_row)

    def woven(mine: Any, theirs: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        made = np.empty(count, dtype)
        made[access.row], made[other_row] = mine, theirs
        return made

    columns: Columns = {
        "kind": woven(access.kind, others["kind"], np.int8),
        "time": woven(access.time, others["time"], np.int64),
        "level": woven(LEVEL_CODE[None], others["level"], np.int8),
    }
    for name in INTEGERS:
        values, missing = access.integers.get(name, (0, True))
        columns[name] = woven(values, others[name][0], np.int64), woven(missing, others[name][1], bool)
    nothing = pa.nulls(count, pa.large_string())
    pieces, indices = _Pieces(block), {}
    for name in STRINGS:
        if name not in access.pieces and others[name].null_count == len(other_row):
            columns[name] = nothing
            continue
        mine: Any = 0
        gone: Any = True
        if name in access.pieces:
            begin, end, gone = access.pieces[name]
            mine = pieces.add(begin, end) + 2 * np.arange(len(access.row))
        theirs = pieces.add_strings(others[name]) + np.arange(len(other_row))
        is_null = others[name].is_null().to_numpy(zero_copy_only=False)
        indices[name] = pa.array(woven(mine, theirs, np.int64), mask=woven(gone, is_null, bool))
    array = pieces.array()
    return columns | {name: array.take(index) for name, index in indices.items()}
