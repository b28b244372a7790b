"""One container's log, followed across broken connections and restarts: no line lost, none twice.

Whenever a connection ends, the log is asked for again from a second before the newest line on, and what was had already
is left out. Times alone do not tell that: access log and error log are written by two hands, so their times may be out
of order, and lines of one moment may be equal. So a line is left out as often as it was had, with the same time and the
same words. A line without an end is asked for again, until it has one or the container has ended.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from srcip_nb.errors import SrcipError
from srcip_nb.logs_api import CHUNK, BrokenOffError, Container, Wire, containers_of, rfc3339
from srcip_nb.parse_prefix import logged_at
from srcip_nb.rest import READ_TIMEOUT, ApiAnswerError, path_of

IDLE = 60.0  # seconds without a line after which a log is asked for again, in case the connection is dead
LOOK_AGAIN = 5.0  # seconds between looks at a container that does not run, if the watch says nothing
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds before connecting again
WAITING_OR_GONE = (400, 404)


class Owner(Protocol):
    """What a reader's thread may do to the one that started it."""

    closed: threading.Event

    def add(self, one: Container, restarts: int, lines: list[bytes]) -> None:
        """Take lines, each with its time before it and without its newline."""

    def note(self, error: SrcipError) -> None:
        """Take an error to be shown."""

    def news(self) -> int:
        """How much the watch has told so far."""

    def wait_for_news(self, known: int, seconds: float) -> None:
        """Wait until the watch has told more than what is known, or so many seconds."""


class Had:
    """Which of a log's newest lines were had already."""

    def __init__(self) -> None:
        self._by_second: dict[int, Counter[bytes]] = {}
        self._newest = 0
        self._owed: Counter[bytes] = Counter()

    def since(self) -> int | None:
        """From which second on to ask again; None before the first line."""
        return self._newest - 1 if self._by_second else None

    def begin_again(self) -> None:
        """The log comes anew from ``since()`` on."""
        self._owed = sum(self._by_second.values(), Counter())

    def take(self, line: bytes) -> bool:
        """Whether the line is new; from now on it was had."""
        if self._owed[line] > 0:
            self._owed[line] -= 1
            return False
        second = (logged_at(line) or 0) // 1_000_000_000
        self._by_second.setdefault(second, Counter())[line] += 1
        if second > self._newest:
            self._newest = second
            for old in [known for known in self._by_second if known < second - 1]:
                del self._by_second[old]
        return True


class Reader:
    """Reads one container's log in a thread of its own.

    Args:
        owner: gets the lines.
        wire: the thread's own connections.
        one: the container.
        options: which lines to begin with.
    """

    def __init__(self, owner: Owner, wire: Wire, one: Container, options: dict[str, Any]) -> None:
        self.is_begun = threading.Event()  # the first answer is there, whatever it is
        self._owner = owner
        self._wire = wire
        self._one = one
        self._options = options
        self._had = Had()

    def run(self) -> None:
        """Read until the pod is gone or the owner is closed."""
        reading: int | None = None  # the start of the container that is being read
        finished: int | None = None  # the one that was read to its end
        pause = FIRST_PAUSE
        try:
            while not self._owner.closed.is_set():
                known = self._owner.news()
                one = self._look()
                if one is None:
                    return
                if not one.has_log or (one.restarts == finished and not one.is_running):
                    self.is_begun.set()
                    self._owner.wait_for_news(known, LOOK_AGAIN)
                    continue
                if reading is not None and one.restarts > reading:
                    _, is_whole = self._read(one, reading, previous=True)
                    if not is_whole:
                        self._owner.closed.wait(LONGEST_PAUSE / 4)
                        continue
                reading = one.restarts
                count, is_whole = self._read(one, reading)
                if is_whole and not one.is_running:
                    finished = one.restarts
                    continue
                pause = FIRST_PAUSE if count else min(2 * pause, LONGEST_PAUSE)
                self._owner.closed.wait(pause)
        finally:
            self.is_begun.set()
            self._wire.close()

    def _look(self) -> Container | None:
        """The container as it is now, or None if its pod is gone."""
        pause = FIRST_PAUSE
        while not self._owner.closed.is_set():
            try:
                pod = self._wire.json(path_of("pods", self._one.namespace, self._one.pod))
            except ApiAnswerError as error:
                if error.code == 404:
                    return None
                self._owner.note(error)
            except SrcipError as error:
                self._owner.note(error)
            else:
                is_same = pod["metadata"]["uid"] == self._one.uid
                return next(iter(containers_of(pod, self._one.name)), None) if is_same else None
            self._owner.closed.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def _read(self, one: Container, restarts: int, *, previous: bool = False) -> tuple[int, bool]:
        """Read what there is, and of a container that runs what comes; returns how many lines, and if that was all."""
        follows = one.is_running and not previous
        query = {
            "container": one.name,
            "timestamps": "true",
            "follow": "true" if follows else None,
            "previous": "true" if previous else None,
            **self._from(),
        }
        count, begun = 0, b""
        try:
            with self._wire.open(one.path, query, IDLE if follows else READ_TIMEOUT) as response:
                self.is_begun.set()
                for chunk in response.stream(CHUNK):
                    *lines, begun = (begun + chunk).split(b"\n")
                    count += self._take(one, restarts, lines)
        except ApiAnswerError as error:
            if error.code in WAITING_OR_GONE:
                return count, previous  # a log that is no longer there has no more lines
            self._owner.note(error)
            return count, False
        except BrokenOffError as error:
            is_idle = follows and error.is_timeout
            if not is_idle:
                self._owner.note(error)
            return count, False
        finally:
            self.is_begun.set()
        if begun and not follows:
            count += self._take(one, restarts, [begun])
        return count, True

    def _from(self) -> dict[str, Any]:
        """Where to begin: behind what was had, or as was asked for."""
        since = self._had.since()
        if since is not None:
            self._had.begin_again()
            return {"sinceTime": rfc3339(since)}
        options = self._options
        if options.get("tailLines") == 0 or options.get("sinceSeconds"):
            # Should the connection break off before the first line, then all that was written since now is wanted.
            self._options = {"sinceTime": rfc3339(self._wire.date)}
        return options

    def _take(self, one: Container, restarts: int, lines: Iterable[bytes]) -> int:
        new = [line for line in lines if self._had.take(line)]
        if new:
            self._owner.add(one, restarts, new)
        return len(new)
