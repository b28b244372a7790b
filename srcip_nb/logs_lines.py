"""Log lines as a shell shows them: which are shown, and each as a line of a table, as JSON or as it is.

::

    POD                         CONTAINER  NODE      SOURCE        OWNER     LINE
    webserver-68c554c9f6-ck6h2  nginx      worker02  10.0.5.0      worker01  10.0.5.0 - - [15/Oct/2023:04:23:57 ...
    webserver-68c554c9f6-nlhk2  nginx      worker01  192.168.1.45  worker01  192.168.1.45 - - [15/Oct/2023:04:23 ...

The source is the address that nginx logged, the owner whose address it is by the address book. Only text in, text out
here; a stream has no last line, so its columns grow with what they meet.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcip_nb.errors import UsageError
from srcip_nb.logs import Batch, frame_of
from srcip_nb.parse_lines import decode, read_line
from srcip_nb.parse_prefix import logged_at

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("table", "json", "raw", "parquet")
COLORS = ("auto", "always", "never")
UNOWNED = "-"

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:h|ms|m|s|us|µs|ns))+")
_PALETTE = (36, 32, 35, 33, 34, 31, 96, 92, 95, 93, 94, 91)  # ANSI foreground colours that both backgrounds bear
_RED_AND_BOLD = "1;31"


@dataclass(frozen=True)
class Line:
    """One line of a log and where it comes from."""

    time: str  # RFC 3339 with nanoseconds, the container runtime's; "" if it bears none
    namespace: str
    pod: str
    container: str
    node: str
    workload: str
    restarts: int
    message: str
    source: str  # the address that asked, as nginx logged it; "" if the line names none
    owner: str = ""  # whose address that is; "" if nobody's that is known


def seconds_of(duration: str) -> float:
    """Seconds of a duration as Go and so kubectl and stern write it: ``48h0m0s``, ``1h30m``, ``5s``.

    Raises:
        UsageError: it is none, or not above 0.
    """
    if not _DURATION.fullmatch(duration):
        raise UsageError(f"{duration!r} is no duration", "Write it as in --since 30s, 5m, 1h30m")
    parts = re.findall(r"([0-9.]+)(h|ms|m|s|us|µs|ns)", duration)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise UsageError(f"{duration!r} is no time at all", "Write it as in --since 30s, 5m, 1h30m")
    return seconds


def lines_of(batches: Iterable[Batch], owner_of: Callable[[str], str]) -> list[Line]:
    """The lines of batches, each container's in their order.

    Args:
        batches: as a follower gives them.
        owner_of: whose address it is; "" for nobody's.
    """
    found = []
    for one, restarts, data in batches:
        for raw in data.removesuffix(b"\n").split(b"\n"):
            time, _, message = decode(raw.removesuffix(b"\r")).partition(" ")
            if not time[:4].isdigit():  # a kubelet's own words bear no time
                time, message = "", f"{time} {message}".strip()
            row = read_line(message)
            source = row.remote_addr or row.client or ""
            owner = owner_of(source) if source else ""
            found.append(
                Line(
                    time,
                    one.namespace,
                    one.pod,
                    one.name,
                    one.node,
                    one.workload,
                    restarts,
                    message,
                    source,
                    owner,
                )
            )
    return found


@dataclass(frozen=True)
class Filter:
    """Which lines are shown, by regular expressions that their words contain."""

    include: Sequence[re.Pattern[str]] = ()
    exclude: Sequence[re.Pattern[str]] = ()

    def takes(self, message: str) -> bool:
        """Whether it is shown: one of those to include is in it (or none is named), none of those to exclude."""
        is_wanted = not self.include or any(pattern.search(message) for pattern in self.include)
        return is_wanted and not any(pattern.search(message) for pattern in self.exclude)


def table_of(batches: Sequence[Batch], owner_of: Callable[[str], str], shown: Filter) -> pd.DataFrame:
    """The lines as a table: columns of ``logs.logs``, and ``text``, ``workload``, ``source``, ``owner`` (string).

    ``source`` and ``owner`` are missing where a line names no address, ``owner`` also where nobody is known to have it.
    """
    import pandas as pd

    workloads = {(one.namespace, one.pod): one.workload for one, _, _ in batches}
    frame = frame_of(batches)
    # Both are in the order of time, and lines of one moment as they came.
    lines = sorted(lines_of(batches, owner_of), key=lambda line: time_of(line.time))
    frame["text"] = pd.array([line.message for line in lines], "string")
    places = zip(frame["namespace"], frame["pod"], strict=True)
    frame["workload"] = pd.array([workloads[place] or None for place in places], "string")
    frame["source"] = pd.array([line.source or None for line in lines], "string")
    frame["owner"] = pd.array([line.owner or None for line in lines], "string")
    is_shown = pd.Series([shown.takes(line.message) for line in lines], index=frame.index, dtype=bool)
    return frame[is_shown].reset_index(drop=True)


def time_of(text: str) -> int:
    """Nanoseconds since 1970, for sorting; what bears no time comes last, as pandas sorts it."""
    at = logged_at(f"{text} ".encode())
    return (1 << 63) if at is None else at


class Table:
    """Lines in columns, with a header before the first.

    Args:
        color: each pod in a colour of its own, what is to be highlighted in red.
        highlight: what to highlight.
        timestamps: a column for the container runtime's time.
        namespaces: a column for the namespace.
    """

    def __init__(
        self,
        color: bool = False,
        highlight: Sequence[re.Pattern[str]] = (),
        timestamps: bool = False,
        namespaces: bool = False,
    ) -> None:
        self._color = color
        self._highlight = highlight
        self._columns = ["time"] * timestamps + ["namespace"] * namespaces
        self._columns += ["pod", "container", "node", "source", "owner"]
        self._widths = {name: len(name) for name in self._columns}
        self._is_begun = False

    def __call__(self, lines: Sequence[Line]) -> str:
        """The lines as text; each ends with a newline."""
        if not lines:
            return ""
        rows = [{name: getattr(line, name) or UNOWNED for name in self._columns} for line in lines]
        for name in self._columns:
            self._widths[name] = max(self._widths[name], *(len(row[name]) for row in rows))
        text = "" if self._is_begun else self._row({name: name.upper() for name in self._columns}, "LINE", "")
        self._is_begun = True
        for line, row in zip(lines, rows, strict=True):
            color = color_of(line.pod) if self._color else ""
            message = highlighted(line.message, self._highlight) if self._color else line.message
            text += self._row(row, message, color)
        return text

    def _row(self, row: dict[str, str], message: str, color: str) -> str:
        cells = {name: row[name].ljust(self._widths[name]) for name in self._columns}
        for name in ("pod", "container"):
            cells[name] = painted(cells[name], color)
        return "  ".join([*cells.values(), message]) + "\n"


def raw_of(lines: Iterable[Line], timestamps: bool = False, highlight: Sequence[re.Pattern[str]] = ()) -> str:
    """The lines as the containers wrote them."""
    return "".join(f"{line.time} " * timestamps + highlighted(line.message, highlight) + "\n" for line in lines)


def json_of(lines: Iterable[Line]) -> str:
    """One JSON object a line; the keys that stern has too have its names."""
    return "".join(
        json.dumps(
            {
                "time": line.time or None,
                "message": line.message,
                "nodeName": line.node,
                "namespace": line.namespace,
                "podName": line.pod,
                "containerName": line.container,
                "restarts": line.restarts,
                "workload": line.workload or None,
                "source": line.source or None,
                "owner": line.owner or None,
            },
            ensure_ascii=False,
        )
        + "\n"
        for line in lines
    )


def color_of(pod: str) -> str:
    """The ANSI colour of a pod: the same in every run."""
    return str(_PALETTE[zlib.crc32(pod.encode()) % len(_PALETTE)])


def painted(text: str, color: str) -> str:
    """The text in an ANSI colour; "" is none."""
    return f"\x1b[{color}m{text}\x1b[0m" if color else text


def highlighted(message: str, patterns: Sequence[re.Pattern[str]]) -> str:
    """The message with every part that a pattern matches in bold red."""
    if not patterns:
        return message
    marks = [span for pattern in patterns for span in (found.span() for found in pattern.finditer(message))]
    text, at = "", 0
    for begin, end in sorted(span for span in marks if span[0] < span[1]):
        begin = max(begin, at)  # what two patterns match is marked once
        if begin < end:
            text += message[at:begin] + painted(message[begin:end], _RED_AND_BOLD)
            at = end
    return text + message[at:]
