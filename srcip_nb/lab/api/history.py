"""What happened to the objects of a store, in order, and those who follow it.

Every change is an `Event` with the store's next resource version. A `History` keeps the last ones of each resource, so
that a client that was away can go on where it stopped; whoever comes too late is told 410 and lists anew.

    change -> Event -> History (bounded)
                    -> Watch   (one queue for each follower, filtered by namespace and selectors when it is read)
                    -> Changes (only the names of what changed, merged: for controllers)

One thread and one event loop: nothing here locks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from srcip_nb.lab.api import status
from srcip_nb.lab.api.objects import JsonObject, Key, encoded, key_of

HISTORY = 2000  # events kept of each resource: minutes of a busy lab, a few MB at most
BACKLOG = 20_000  # events that may wait for one follower before it is dropped as too slow

Scope = Callable[[JsonObject], bool]


class Version:
    """One version of one object, never changed once made; its JSON is made once, however many clients read it."""

    __slots__ = ("_json", "key", "obj", "revision")

    def __init__(self, obj: JsonObject, revision: int) -> None:
        self.obj = obj
        self.revision = revision
        self.key: Key = key_of(obj)
        self._json: bytes | None = None

    @property
    def json(self) -> bytes:
        """The object as it goes out, compact."""
        if self._json is None:
            self._json = encoded(self.obj)
        return self._json


class Event(NamedTuple):
    """One change: `type` is ADDED, MODIFIED or DELETED; `before` is the version that it replaced."""

    type: str
    version: Version
    before: Version | None


class History:
    """The last events of every resource.

    Args:
        limit: events kept of each resource.
    """

    def __init__(self, limit: int = HISTORY) -> None:
        self._limit = limit
        self._events: dict[str, deque[Event]] = {}
        self._forgotten: dict[str, int] = {}

    def append(self, resource: str, event: Event) -> None:
        """Keep an event; the oldest goes when there are too many."""
        events = self._events.setdefault(resource, deque())
        events.append(event)
        if len(events) > self._limit:
            self._forgotten[resource] = events.popleft().version.revision

    def since(self, resource: str, revision: int) -> list[Event]:
        """The events after a resource version, oldest first.

        Raises:
            ApiError: 410, some of them are kept no more.
        """
        oldest = self._forgotten.get(resource, 0)
        if revision < oldest:
            raise status.gone(f"too old resource version: {revision} ({oldest})")
        found = []
        for event in reversed(self._events.get(resource, ())):
            if event.version.revision <= revision:
                break
            found.append(event)
        return found[::-1]


class Waiter:
    """A flag that one coroutine waits for and synchronous code raises; without an event loop it is only a flag."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let the waiting coroutine go on; nothing happens when none waits."""
        if self._future and not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until `wake`, at most `timeout` seconds; False when the time ran out."""
        self._future = asyncio.get_running_loop().create_future()
        try:
            done, _ = await asyncio.wait((self._future,), timeout=timeout)
            return bool(done)
        finally:
            self._future = None


class Watch:
    """Follows a resource: first what is there (if asked for), then every change, until it is closed.

    An async iterator of `(type, object)`: the objects belong to the store and must not be changed. A change by which
    an object begins to match the selectors arrives as ADDED, one by which it ceases to as DELETED.

    Attributes:
        initial: the versions that were there when the watch began; `async for` gives them first, as ADDED.
    """

    def __init__(
        self,
        initial: Iterable[Version],
        events: Iterable[Event],
        matches: Scope | None,
        on_close: Callable[[Watch], None],
    ) -> None:
        self.initial: list[Version] = list(initial)
        self._matches = matches
        self._queue: deque[Event] = deque(events)
        self._on_close = on_close
        self._waiter = Waiter()
        self._too_slow = False
        self.closed = False

    def push(self, event: Event) -> None:
        """Queue a change; called by the store."""
        if len(self._queue) >= BACKLOG:
            self._too_slow = True
        else:
            self._queue.append(event)
        self._waiter.wake()

    def pending(self) -> Iterator[tuple[str, Version]]:
        """The changes that wait, each as this watch sees it, without waiting for more.

        Raises:
            ApiError: 410, this watch was read too slowly and has a gap.
        """
        while self._queue:
            seen = self._seen(self._queue.popleft())
            if seen:
                yield seen
        if self._too_slow:
            raise status.gone("the watch was read too slowly and lost events")

    async def wait(self, timeout: float | None = None) -> None:
        """Return when changes wait, when the watch is closed, or after `timeout` seconds."""
        if not self._queue and not self.closed and not self._too_slow:
            await self._waiter.wait(timeout)

    def close(self) -> None:
        """Stop following; an `async for` over it ends."""
        if not self.closed:
            self.closed = True
            self._on_close(self)
            self._waiter.wake()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> tuple[str, JsonObject]:
        if self.initial:
            return "ADDED", self.initial.pop(0).obj
        while True:
            for kind, version in self.pending():
                return kind, version.obj
            if self.closed:
                raise StopAsyncIteration
            await self.wait()

    def _seen(self, event: Event) -> tuple[str, Version] | None:
        if self._matches is None:
            return event.type, event.version
        did_match = event.before is not None and self._matches(event.before.obj)
        does_match = event.type != "DELETED" and self._matches(event.version.obj)
        if does_match:
            return ("MODIFIED" if did_match else "ADDED"), event.version
        if did_match:
            return "DELETED", event.version
        return None


class Changes:
    """Which objects changed since one last asked: for controllers that reconcile whole state.

    Several changes of one object are one entry, and nothing is lost between two calls of `wait`.
    """

    def __init__(self, resources: Iterable[str], on_close: Callable[[Changes], None]) -> None:
        self.resources = frozenset(resources)
        self._changed: dict[tuple[str, str, str], None] = {}
        self._on_close = on_close
        self._waiter = Waiter()

    def push(self, resource: str, version: Version) -> None:
        """Note a change; called by the store."""
        if resource in self.resources:
            namespace, name = version.key
            self._changed[resource, namespace, name] = None
            self._waiter.wake()

    async def wait(self, timeout: float | None = None) -> list[tuple[str, str, str]]:
        """What changed, as (resource, namespace, name) in order; waits for a change, at most `timeout` seconds."""
        if not self._changed:
            await self._waiter.wait(timeout)
        changed, self._changed = list(self._changed), {}
        return changed

    def close(self) -> None:
        """Stop noting changes."""
        self._on_close(self)


def scope(namespace: str | None, *predicates: Callable[[JsonObject], bool] | None) -> Scope | None:
    """One predicate out of a namespace (None or "" for all) and selectors; None when everything is in."""
    tests: list[Callable[[JsonObject], Any]] = [test for test in predicates if test]
    if namespace:
        tests.insert(0, lambda obj: obj["metadata"].get("namespace") == namespace)
    if not tests:
        return None
    return lambda obj: all(test(obj) for test in tests)
