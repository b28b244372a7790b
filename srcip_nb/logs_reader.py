"""One container's log, followed across broken connections and restarts: no line lost, none twice.

Whenever a connection ends, the container is looked at and its log asked for again, a little of it twice; ``logs_had``
leaves out what was had. Between the look and the answer a container can start again, and a pod of the same name take
another's place: so it is looked at once more when the answer begins, and the answer dropped if it may be another's. A
line without an end is asked for again, until it has one or the container has ended.

A kubelet keeps a container's newest log file and its last start but one. What was written to others while no connection
stood is beyond the API; then a ``LostLinesError`` says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

from srcip_nb.errors import SrcipError
from srcip_nb.logs_api import CHUNK, BrokenOffError, Wire, rfc3339
from srcip_nb.logs_had import Had
from srcip_nb.logs_query import Container, containers_of
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

    def ask(self, path: str) -> dict[str, Any]:
        """An object of the API."""

    def news(self) -> int:
        """How much the watch has told so far."""

    def wait_for_news(self, known: int, seconds: float) -> None:
        """Wait until the watch has told more than what is known, or so many seconds."""


class LostLinesError(SrcipError):
    """Lines of a log may be missing, and no API gives them any more."""

    def __init__(self, one: Container, why: str) -> None:
        super().__init__(
            f"Lines of {one.pod}/{one.name} may be missing: {why}",
            "Read them on the node, or where the cluster's logs are collected",
        )


class Reader:
    """Reads one container's log in a thread of its own.

    Args:
        owner: gets the lines.
        wire: the thread's own connections.
        one: the container.
        options: which lines to begin with; None: the pod came while others were followed, and every line is wanted.
    """

    def __init__(self, owner: Owner, wire: Wire, one: Container, options: dict[str, Any] | None) -> None:
        self.is_begun = threading.Event()  # the first answer is there, whatever it is
        self.is_placed = threading.Event()  # where its lines begin is settled: what is written from now on will come
        self.wire = wire
        self._owner = owner
        self._one = one
        self._options = options or {}
        if self._options.get("tailLines") != 0:
            self.is_placed.set()
        self._asked_at: float | None = None
        self._is_broken = False  # the last answer did not come to its end
        self._had = Had()
        # The start of the container that is being read, and the one that was read to its end.
        self._reading: int | None = None if options is not None else -1
        self._finished = self._reading

    def run(self) -> None:
        """Read until the pod is gone or the owner is closed."""
        pause = FIRST_PAUSE
        try:
            while not self._owner.closed.is_set():
                known = self._owner.news()
                one = self._look()
                if one is None:
                    self._say_what_a_deleted_pod_takes_along()
                    return
                if not one.has_log or (one.restarts == self._finished and not one.is_running):
                    self.is_begun.set()
                    self.is_placed.set()
                    self._owner.wait_for_news(known, LOOK_AGAIN)
                    continue
                count = 0
                if self._is_caught_up(one):
                    count, is_whole = self._read(one, one.restarts)
                    if is_whole and not one.is_running:
                        self._finished = one.restarts
                        continue
                pause = FIRST_PAUSE if count else min(2 * pause, LONGEST_PAUSE)
                self._owner.closed.wait(pause)
        finally:
            self.is_begun.set()
            self.is_placed.set()
            self.wire.close()

    def _look(self) -> Container | None:
        """The container as it is now, or None if its pod is gone."""
        pause = FIRST_PAUSE
        while not self._owner.closed.is_set():
            try:
                pod = self._owner.ask(path_of("pods", self._one.namespace, self._one.pod))
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

    def _is_caught_up(self, one: Container) -> bool:
        """Whether the starts before the container's present one were read as far as they can be."""
        if self._reading is None or one.restarts <= self._reading:
            self._reading = one.restarts
            return True
        before = one.restarts - 1
        if before > self._reading:  # the kubelet keeps one start; those before it are gone
            is_all_read = self._reading == self._finished
            gone = before - self._reading - is_all_read
            if gone:
                self._lost(f"it started {one.restarts - self._reading} times while it could not be read")
            self._begin_start(before)
        if before != self._finished:
            _, is_whole = self._read(one, before, previous=True)
            if not is_whole:
                return False
            self._finished = before
        self._begin_start(one.restarts)
        return True

    def _begin_start(self, restarts: int) -> None:
        self._reading = restarts
        self._had, self._options = Had(), {}

    def _read(self, one: Container, restarts: int, *, previous: bool = False) -> tuple[int, bool]:
        """Read what there is, and of a container that runs what comes; returns how many lines, and if that was all."""
        follows = one.is_running and not previous
        count, begun = 0, b""
        try:
            query = {
                "container": one.name,
                "timestamps": "true",
                "follow": "true" if follows else None,
                "previous": "true" if previous else None,
                **self._from(one),
            }
            with self.wire.open(one.path, query, IDLE if follows else READ_TIMEOUT) as response:
                self.is_begun.set()
                now = self._look()
                is_this_start = now is not None and now.restarts == one.restarts
                if not is_this_start:
                    return 0, False
                for chunk in response.stream(CHUNK):
                    *lines, begun = (begun + chunk).split(b"\n")
                    count += self._take(one, restarts, lines)
        except ApiAnswerError as error:
            if error.code in WAITING_OR_GONE:
                if previous:
                    self._lost("the log of the start before is gone")
                return count, previous  # a log that is no longer there has no more lines
            self._is_broken = True
            self._owner.note(error)
            return count, False
        except BrokenOffError as error:
            is_idle = follows and error.is_timeout
            if not is_idle:
                self._is_broken = True
                self._owner.note(error)
            return count, False
        finally:
            self.is_begun.set()
        self._is_broken = False
        if begun and not follows:
            count += self._take(one, restarts, [begun])
        return count, True

    def _from(self, one: Container) -> dict[str, Any]:
        """Where to begin: behind what was had, or as was asked for.

        By the node's clock alone: the API server's and this machine's may differ from it.
        """
        asked_before, now = self._asked_at, time.monotonic()
        self._asked_at = now if asked_before is None else asked_before
        if self._options.get("tailLines") == 0 and self._had.since() is None:
            self._skip_what_is_there(one)
        since = self._had.since()
        if since is not None:
            self._had.begin_again()
            return {"sinceTime": rfc3339(since)}
        if self._options.get("sinceSeconds") and asked_before is not None:
            # It broke off before the first line: all that was written since then is wanted.
            return {**self._options, "sinceSeconds": self._options["sinceSeconds"] + int(now - asked_before) + 1}
        return self._options

    def _skip_what_is_there(self, one: Container) -> None:
        """Take the last line there is as had, so that wherever it breaks off, what came after is known."""
        with self.wire.open(one.path, {"container": one.name, "timestamps": "true", "tailLines": 1}) as response:
            last = response.read().rstrip(b"\n")
        self._options = {}
        if last:
            self._had.begin_after(last)
        self.is_placed.set()

    def _take(self, one: Container, restarts: int, lines: Iterable[bytes]) -> int:
        had_gap = self._had.has_gap
        new = [line for line in lines if self._had.take(line)]
        if self._had.has_gap and not had_gap:
            self._lost("the log begins behind what was read last; was it rotated while no connection stood?")
        if new:
            self._owner.add(one, restarts, new)
        return len(new)

    def _say_what_a_deleted_pod_takes_along(self) -> None:
        is_cut_short = self._is_broken and self._reading is not None and self._reading != self._finished
        if is_cut_short and not self._owner.closed.is_set():
            self._lost("the pod was deleted while its log could not be read")

    def _lost(self, why: str) -> None:
        self._owner.note(LostLinesError(self._one, why))
