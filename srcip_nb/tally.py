"""What a notebook's checks found, kept beside it while it is worked on: one JSON line each, for whoever teaches.

    SRCIP_PROGRESS=FILE      where the lines go; nothing is kept where it is not set

A line has the time, the notebook's number and what happened: it was begun, a check was made (its sentence and whether
it holds), it was done. No answer, no prediction and no address is in it. Only the newest word on each check counts, so
a file that grows past ``LIMIT`` is cut to these.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

PROGRESS = "SRCIP_PROGRESS"
LIMIT = 256 << 10
"""Bytes that the file of a participant may take."""

BEGUN, CHECKED, DONE = "begin", "check", "done"
Line = dict[str, str]


@dataclass
class Tally:
    """How far one notebook is.

    Attributes:
        notebook: its number, such as ``02``.
        checks: the state (``held``, ``failed`` or ``open``) of each check, by its cell and sentence.
        is_done: whether its last cell was reached, now or in an earlier go.
        last: when something happened last, ISO 8601 in UTC.
    """

    notebook: str
    checks: dict[tuple[str, str], str] = field(default_factory=dict)
    is_done: bool = False
    last: str = ""
    _executions: dict[str, str] = field(default_factory=dict)

    def _take(self, line: Line) -> None:
        self.last = line.get("time", "")
        event, cell, execution = line.get("event"), line.get("cell", ""), line.get("execution", "")
        if event == BEGUN:
            self.checks.clear()
        elif event == CHECKED:
            if cell and self._executions.get(cell) != execution:  # run again: what it said before does not count
                self.checks = {key: state for key, state in self.checks.items() if key[0] != cell}
            self._executions[cell] = execution
            self.checks[cell, line.get("says", "")] = line.get("state", "")
        elif event == DONE:
            self.is_done = True

    def count(self, state: str) -> int:
        """How many checks are in a state."""
        return sum(one == state for one in self.checks.values())

    def sentences(self, state: str) -> list[str]:
        """What the checks in a state say, in the order they were made."""
        return [says for (_, says), one in self.checks.items() if one == state]


def note(event: str, notebook: str, cell: str = "", execution: int = 0, says: str = "", state: str = "") -> None:
    """Keep one line where ``SRCIP_PROGRESS`` says; a file that cannot be written stops nobody from learning."""
    path = os.environ.get(PROGRESS)
    if not path:
        return
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    line = {"time": now, "notebook": notebook, "event": event, "cell": cell, "says": says, "state": state}
    line["execution"] = str(execution or "")
    with contextlib.suppress(OSError):
        _append(Path(path), line)


def _append(path: Path, line: Line) -> None:
    import fcntl  # Windows has none; there this module can be imported all the same

    with open(path, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(_text(line))
        file.flush()
        if file.tell() > LIMIT:
            file.seek(0)
            kept = compact(lines_of(file.read()))
            file.truncate(0)
            file.write("".join(map(_text, kept)))


def _text(line: Line) -> str:
    return json.dumps({name: value for name, value in line.items() if value}, ensure_ascii=False) + "\n"


def lines_of(text: str) -> list[Line]:
    """The lines that are what ``note`` writes; the file is the participant's, so anything may be in it."""
    found = []
    for line in text.splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict) and all(isinstance(value, str) for value in data.values()):
            found.append(data)
    return found


def tallies(lines: Iterable[Line]) -> list[Tally]:
    """How far each notebook is; the one that was worked on last stands last. To begin again forgets its checks."""
    found: dict[str, Tally] = {}
    for line in lines:
        number = line.get("notebook", "")
        tally = found.pop(number, None) or Tally(number)
        found[number] = tally
        tally._take(line)
    return list(found.values())


def compact(lines: Iterable[Line], limit: int = LIMIT // 2) -> list[Line]:
    """The lines that still count, in order; if even these take more than ``limit`` bytes, the newest of them."""
    newest: dict[tuple[str, ...], Line] = {}
    for line in lines:
        number, event = line.get("notebook", ""), line.get("event", "")
        cell, execution = line.get("cell", ""), line.get("execution", "")
        if event == BEGUN:
            newest = {key: one for key, one in newest.items() if key[:2] != (number, CHECKED)}
        elif cell:
            newest = {
                key: one
                for key, one in newest.items()
                if key[:3] != (number, event, cell) or one.get("execution", "") == execution
            }
        key = (number, event, cell, line.get("says", ""))
        newest.pop(key, None)
        newest[key] = line
    kept, size = [], 0
    for line in reversed(newest.values()):
        size += len(_text(line).encode())
        if size > limit:
            break
        kept.append(line)
    return kept[::-1]


def read(path: Path) -> list[Tally]:
    """The tallies of a file, none where there is no file; a file of any length is read as far as ``LIMIT`` goes."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * LIMIT))
            return tallies(lines_of(file.read(2 * LIMIT).decode(errors="replace")))
    except OSError:
        return []
