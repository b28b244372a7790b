"""What kubectl and stern write before a log line, taken off and kept.

::

    kubectl logs --timestamps            2026-11-22T14:28:04.128091048Z 10.0.5.0 - - [22/Nov/2026:14:28:04 ...
    kubectl logs --prefix [--timestamps] [pod/webserver-68c554c9f6-ck6h2/nginx] 10.0.5.0 - - [22/Nov/2026:14:28:04 ...
    stern [--timestamps]                 webserver-68c554c9f6-ck6h2 nginx 10.0.5.0 - - [22/Nov/2026:14:28:04 ...

The time is the container runtime's: finer than nginx's own, which has whole seconds, and there for every kind of line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa

from srcip_nb.errors import UsageError
from srcip_nb.parse_columns import NAT, Columns

_TIME = rb"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2}) "
_NAME = rb"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"  # of a Kubernetes object: RFC 1123
_PATTERNS = {
    "timestamps": re.compile(rb"()()" + _TIME),
    "kubectl": re.compile(rb"\[pod/(" + _NAME + rb")/(" + _NAME + rb")\] (?:" + _TIME + rb")?"),
    "stern": re.compile(rb"(" + _NAME + rb") (" + _NAME + rb") (?:" + _TIME + rb")?"),
}
PREFIXES = tuple(_PATTERNS)


def check_prefix(prefix: str | None) -> None:
    """Raise UsageError for a prefix that is not known here."""
    if prefix is not None and prefix not in _PATTERNS:
        raise UsageError(
            f"Unknown prefix {prefix!r}", f"Known are {', '.join(PREFIXES)}; leave it out for bare log lines."
        )


def take_prefix(lines: Iterable[bytes], prefix: str) -> tuple[list[bytes], Columns]:
    """Take the prefix off each line that has it.

    Args:
        lines: lines with or without their line endings.
        prefix: one of PREFIXES.

    Returns:
        The lines without it, and the columns ``pod``, ``container`` (not for "timestamps") and ``time_logged``; missing
        where a line has no such prefix: that line is left as it is.
    """
    pattern = _PATTERNS[prefix]
    bare: list[bytes] = []
    pods: list[bytes | None] = []
    containers: list[bytes | None] = []
    times: list[int] = []
    for line in lines:
        found = pattern.match(line)
        time = _nanoseconds(found) if found else None
        if found is None or time is None:
            bare.append(line)
            pods.append(None)
            containers.append(None)
            times.append(NAT)
            continue
        bare.append(line[found.end() :])
        pods.append(found[1])
        containers.append(found[2])
        times.append(time)
    columns: Columns = {} if prefix == "timestamps" else {"pod": _text(pods), "container": _text(containers)}
    return bare, columns | {"time_logged": np.array(times, np.int64)}


def logged_at(line: bytes) -> int | None:
    """Nanoseconds since 1970 of the time that a line begins with; None if it begins with none."""
    found = _PATTERNS["timestamps"].match(line)
    return _nanoseconds(found) if found else None


def _text(values: list[bytes | None]) -> pa.Array:
    return pa.array(values, pa.large_binary()).cast(pa.large_string())


def _nanoseconds(found: re.Match[bytes]) -> int | None:
    """The time in a prefix: NAT if it names none, None if it names one that does not exist."""
    _, _, second, fraction, zone = found.groups()
    if second is None:
        return NAT
    whole = _second(second + zone.replace(b"Z", b"+00:00"))
    return None if whole is None else whole + int((fraction or b"").ljust(9, b"0"))


@lru_cache(maxsize=1 << 12)
def _second(text: bytes) -> int | None:
    try:
        when = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    fits_nanoseconds = 1678 <= when.year <= 2261
    return int(when.timestamp()) * 1_000_000_000 if fits_nanoseconds else None
