"""Many pods' logs at once, as they are written.

One thread watches the pods, one more reads each container (``logs_reader``)::

    watcher   list, then watch: starts a reader for each container it has not met, tells all of them that there is news
    reader    read lines; whenever the connection ends, look how the container is, and connect again

Threads never print and never fail unseen: what went wrong is in ``errors``, and what cannot get better is raised by
``rows()`` and ``wait_for()``.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pandas as pd

from srcip_nb.errors import NotFinishedError, SrcipError
from srcip_nb.logs import AT_ONCE, PLACE, Batch, frame_of, in_order
from srcip_nb.logs_api import CHUNK, Wire
from srcip_nb.logs_query import DEFAULT_PODS, Container, Query
from srcip_nb.logs_reader import FIRST_PAUSE, LONGEST_PAUSE, Reader
from srcip_nb.rest import ApiAnswerError

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

WATCH = 60  # seconds that one watch lasts at most, and a dead connection goes unnoticed
BEGIN_WITHIN = 1.0  # seconds to wait for the first answers; a kubelet may keep its answer back until there is a line
PLACED_WITHIN = 30.0  # seconds to wait until it is settled after which line "only what comes" begins
STOP_WITHIN = 2.0  # seconds that closing waits for its threads
HOPELESS = (401, 403)  # refusals that trying again does not mend
PATIENCE = 10.0  # seconds that such refusals are borne where lines were read before
KEPT = 1000  # errors that are remembered
LOOK_UP = 0.5  # seconds after which a wait without end looks up


def follow(cluster: Cluster, pods: str = DEFAULT_PODS, **query: Any) -> Follower:
    """Follow the logs of pods, also of those that come later, until the end of the ``with`` block.

    ::

        with follow(cluster, tail=0) as lines:
            cluster.visit(20)
            lines.wait_for(20)

    Args:
        cluster: where.
        pods: as for ``logs``.
        query: ``selector``, ``container``, ``since_seconds``, ``since_time``, ``tail`` and more, as in
            ``logs_query.Query``; ``tail=0`` is only what comes.

    Returns:
        A ``Follower``; the logs of all pods that run are being read when it is returned.

    Raises:
        UsageError: a wrong argument.
        ApiAnswerError: no such Deployment, Service or pod, or the API does not let you.
        ClusterError: the API does not answer.
    """
    return Follower(cluster, Query(pods, **query))


class Follower:
    """Follows the logs of pods until it is closed; made by ``logs.follow``.

    Attributes:
        errors: what went wrong lately, oldest first: connections that broke off (they were taken up again), refusals,
            and lines that nobody can read any more (``LostLinesError``).
    """

    def __init__(self, cluster: Cluster, query: Query) -> None:
        self.errors: list[SrcipError] = []
        self.closed = threading.Event()
        self._cluster = cluster
        self._target = query.target(cluster)
        self._news = threading.Condition()
        self._told = 0  # grows with what the watch tells
        self._fatal: Exception | None = None
        self._refused_since: tuple[float, int] | None = None  # when, and how many lines there were
        self._batches: list[Batch] = []
        self._waiting = 0  # bytes in the batches
        self._most_waiting: int | None = None
        self._count = 0  # lines that came; grows, so that who waits sees that there are more
        self._frame = frame_of([])
        self._making = threading.Lock()
        self._wires: list[Wire] = []
        self._threads: list[threading.Thread] = []
        self._few = threading.Semaphore(AT_ONCE)
        self._looking = self._wire()
        self._readers: dict[tuple[str, str], Reader] = {}
        found = cluster.request("GET", self._target.path, query=self._target.listing)[1]
        self._take_up(found.get("items") or [], query.options())
        begin = time.monotonic()
        readers = list(self._readers.values())
        for reader in readers:
            reader.is_placed.wait(max(0.0, begin + PLACED_WITHIN - time.monotonic()))
        for reader in readers:
            reader.is_begun.wait(max(0.0, begin + BEGIN_WITHIN - time.monotonic()))
        wire = self._wire()
        self._start("watch", lambda: self._watch(wire, found["metadata"]["resourceVersion"]))

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed.is_set() else "following"
        return f"<Follower {state}, {len(self._readers)} containers, {len(self.errors)} errors>"

    def close(self) -> None:
        """End all threads; the rows stay. It does no harm to close twice."""
        self.closed.set()
        with self._news:
            for wire in self._wires:
                wire.cut()
            threads = list(self._threads)
            self._news.notify_all()
        end = time.monotonic() + STOP_WITHIN
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def rows(self, run: str | None = None) -> pd.DataFrame:
        """All rows so far, or those that carry the id of a run; columns and order as ``logs.logs`` has them.

        Raises:
            ClusterError: the API refuses for good (credentials, permissions).
        """
        if self._fatal is not None:
            raise self._fatal
        with self._making:
            with self._news:
                batches = self._taken()
            if batches:
                self._frame = _joined(self._frame, frame_of(batches))
            frame = self._frame
        return frame.copy() if run is None else frame[frame["run"] == run].reset_index(drop=True)

    def wait_for(
        self, what: int | Callable[[pd.DataFrame], bool], timeout: float = 10.0, *, run: str | None = None
    ) -> pd.DataFrame:
        """Wait until so many requests are logged, or until the rows are as wanted.

        Args:
            what: a number of access lines (probes do not count), or a function of the rows: enough or not.
            timeout: seconds.
            run: only rows that carry the id of this run.

        Returns:
            The rows.

        Raises:
            NotFinishedError: not in time; what was there until then is in the message.
            ClusterError: as for ``rows``.
        """
        end = time.monotonic() + timeout
        while True:
            with self._news:
                seen = self._count
            rows = self.rows(run)
            requests = int((rows["status"].notna() & ~rows["probe"]).sum())
            if what(rows) if callable(what) else requests >= what:
                return rows
            if not self._more_than(seen, end):
                wanted = "" if callable(what) else f" of {what}"
                trouble = f"; {self.errors[-1].cause}" if self.errors else ""
                raise NotFinishedError(
                    f"{requests}{wanted} requests were in the logs after {timeout:g} s ({len(rows)} lines{trouble})",
                    "Did the requests reach a pod? Look at the pods: cluster.pods()",
                )

    def take(self) -> list[Batch]:
        """The lines that came since they were last taken or asked for, without waiting; they are kept no longer.

        Raises:
            ClusterError: as for ``rows``.
        """
        if self._fatal is not None:
            raise self._fatal
        with self._news:
            batches = self._taken()
            self._news.notify_all()
        return batches

    def batches(self, most_waiting: int = 1 << 24) -> Iterator[list[Batch]]:
        """The lines as they come, for whoever keeps no table: each is forgotten here when it was given.

        Args:
            most_waiting: bytes; while so many wait to be taken, the logs are not read on, so that a slow reader
                costs the API's patience and not this machine's memory.

        Yields:
            What came since the last time; nothing, now and then, while nothing comes. Ends when the follower is
            closed and all was given.

        Raises:
            ClusterError: as for ``rows``.
        """
        self._most_waiting = most_waiting
        while True:
            with self._news:
                self._news.wait_for(
                    lambda: bool(self._batches) or self._fatal is not None or self.closed.is_set(), LOOK_UP
                )
                batches = self._taken()
                self._news.notify_all()
            if batches:
                yield batches
                continue
            if self._fatal is not None:
                raise self._fatal
            if self.closed.is_set():
                return
            yield []

    def _taken(self) -> list[Batch]:
        batches, self._batches, self._waiting = self._batches, [], 0
        return batches

    def _more_than(self, seen: int, end: float) -> bool:
        """Wait until there are more lines than that, or an error to raise; False if that will not be."""
        with self._news:
            self._news.wait_for(
                lambda: self._count != seen or self._fatal is not None or self.closed.is_set(), end - time.monotonic()
            )
            return self._count != seen or self._fatal is not None

    # -- what the threads do ------------------------------------------------------------------------------------------

    def add(self, one: Container, restarts: int, lines: list[bytes]) -> None:
        """Take lines from a reader."""
        data = b"\n".join([*lines, b""])
        with self._news:
            self._news.wait_for(
                lambda: self._most_waiting is None or self._waiting < self._most_waiting or self.closed.is_set()
            )
            self._batches.append((one, restarts, data))
            self._waiting += len(data)
            self._count += len(lines)
            self._news.notify_all()

    def ask(self, path: str) -> dict[str, Any]:
        """An object of the API, for readers, a few of them at once."""
        with self._few:
            return self._looking.json(path)

    def note(self, error: SrcipError) -> None:
        """Keep an error for whoever looks; one that cannot get better is raised where rows are asked for."""
        with self._news:
            if self.closed.is_set():
                return  # closing breaks off whatever is being read
            self.errors.append(error)
            del self.errors[:-KEPT]
            if isinstance(error, ApiAnswerError) and error.code in HOPELESS and self._is_for_good():
                self._fatal = error
                self.closed.set()
            self._news.notify_all()

    def _is_for_good(self) -> bool:
        """Whether a refusal stays one: an API server that has just started refuses for some seconds whom it knows."""
        now = time.monotonic()
        if self._refused_since is None or self._refused_since[1] != self._count:
            self._refused_since = now, self._count
        return self._count == 0 or now - self._refused_since[0] > PATIENCE

    def news(self) -> int:
        """How much the watch has told so far."""
        with self._news:
            return self._told

    def wait_for_news(self, known: int, seconds: float) -> None:
        """Wait until the watch has told more than what is known, until closed, or so many seconds."""
        with self._news:
            self._news.wait_for(lambda: self._told != known or self.closed.is_set(), seconds)

    def _wire(self) -> Wire:
        wire = Wire(self._cluster)
        with self._news:
            self._wires.append(wire)
        return wire

    def _start(self, name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # a fault of this module: it must reach the caller, not end a thread unseen
                with self._news:
                    self._fatal = error
                    self._news.notify_all()

        thread = threading.Thread(target=run, name=f"srcip-nb logs: {name}", daemon=True)
        with self._news:
            if self.closed.is_set():
                return
            self._threads.append(thread)
            thread.start()

    def _take_up(self, pods: Iterable[dict[str, Any]], options: dict[str, Any] | None) -> None:
        """Start readers for containers not met; with options those that were there, without those that came later."""
        for pod in pods:
            for one in self._target.containers(pod):
                if (one.uid, one.name) in self._readers or self.closed.is_set():
                    continue
                reader = Reader(self, self._wire(), one, options)
                self._readers[one.uid, one.name] = reader
                self._start(f"{one.pod}/{one.name}", partial(self._read, reader, one))

    def _read(self, reader: Reader, one: Container) -> None:
        try:
            reader.run()
        finally:
            with self._news:  # pods come and go for days, and what belongs to them goes with them
                self._readers.pop((one.uid, one.name), None)
                self._threads.remove(threading.current_thread())
                self._wires.remove(reader.wire)

    def _watch(self, wire: Wire, version: str | None) -> None:
        pause = FIRST_PAUSE
        while not self.closed.is_set():
            try:
                if version is None:
                    found = wire.json(self._target.path, self._target.listing)
                    self._take_up(found.get("items") or [], None)
                    version = found["metadata"]["resourceVersion"]
                version = self._watch_from(wire, version)
                pause = FIRST_PAUSE
            except SrcipError as error:
                if not self.closed.is_set():
                    self.note(error)
                version = None
                self.closed.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        wire.close()

    def _watch_from(self, wire: Wire, version: str) -> str | None:
        """Watch until the server ends it; returns from where to go on, None where that has to be listed anew."""
        query = {
            **self._target.listing,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": WATCH,
        }
        begun = b""
        with wire.open(self._target.path, query, WATCH + LONGEST_PAUSE) as response:
            for chunk in response.stream(CHUNK):
                *lines, begun = (begun + chunk).split(b"\n")
                for event in map(json.loads, filter(None, lines)):
                    if event["type"] == "ERROR":  # 410: the history does not reach back that far
                        return None
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._take_up([event["object"]], None)
                with self._news:
                    self._told += 1
                    self._news.notify_all()
        return version


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    if first.empty:
        return second
    both = [first, second]
    for name in PLACE:
        categories = sorted(set(first[name].cat.categories) | set(second[name].cat.categories))
        both = [frame.assign(**{name: frame[name].cat.set_categories(categories)}) for frame in both]
    return in_order(pd.concat(both, ignore_index=True))
