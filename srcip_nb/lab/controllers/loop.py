"""How a controller runs: watch, remember which objects to look at, look at each as a whole.

    store.watch ──> keys ──> WorkQueue ──> reconcile(key) ──> store
                     ^                          |
                     '── later, after a conflict or at a time it asked for

A controller is level-triggered: `reconcile` gets a key, never an event, reads what there is now and mends the
difference. A change that comes while a key waits adds nothing; one that comes while it is worked on has it looked at
again.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.controllers.objects import Key, Object, key_of

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store

K = TypeVar("K", bound=Hashable)

KeysOf = Callable[[Object], Iterable[K]]

RESTART_AFTER = 1.0
"""Seconds after which a controller that broke is started again."""

_FIRST_RETRY, _LAST_RETRY = 0.005, 2.0


class WorkQueue(Generic[K]):
    """Keys to look at: each at most once in the queue, and never worked on twice at the same time."""

    def __init__(self) -> None:
        self._waiting: dict[K, None] = {}
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._wake = asyncio.Event()
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def add(self, key: K) -> None:
        """Have the key looked at as soon as its turn comes."""
        if key in self._working:
            self._again.add(key)
        else:
            self._waiting[key] = None
            self._wake.set()

    def add_after(self, key: K, delay: float) -> None:
        """Have the key looked at after `delay` seconds; an earlier time asked for stands."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer and not timer.cancelled() and timer.when() <= loop.time() + delay:
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._due, key)

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    async def get(self) -> K:
        """The next key; it is being worked on until `done`."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The work on a key has ended."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """Forget every timer."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


class Controller(Generic[K]):
    """One controller: what it watches, and what it does about one key.

    A subclass gives `watched` and `reconcile`. What was last seen of each watched resource is kept in `seen`, so that
    an object that stops concerning a key (a label taken away) wakes that key too.
    """

    name = "controller"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.queue: WorkQueue[K] = WorkQueue()
        self.seen: dict[str, dict[Key, Object]] = {}
        self._failures: dict[K, int] = {}

    def watched(self) -> dict[str, KeysOf[K]]:
        """Resources to watch, and for each the keys that one object of it concerns."""
        return {}

    async def reconcile(self, key: K) -> float | None:
        """Make what is so what should be; return seconds after which to look again, or None."""
        raise LookupError(f"{self.name} has nothing to do about {key}")

    async def run(self) -> None:
        """Watch and work until cancelled, or until something breaks."""
        watched = self.watched()
        watches = [self._watch(resource, keys_of) for resource, keys_of in watched.items()]
        try:
            await all_of(*watches, self._work())
        finally:
            self.queue.close()

    async def _watch(self, resource: str, keys_of: KeysOf[K]) -> None:
        while True:
            seen = self.seen[resource] = {}
            watch = self.store.watch(resource)
            try:
                async for event, obj in watch:
                    self._take(event, obj, seen, keys_of)
            except ApiError as error:
                if error.code != 410:  # Gone: fell behind; the next watch begins with everything there is
                    raise
            finally:
                watch.close()

    def _take(self, event: str, obj: Object, seen: dict[Key, Object], keys_of: KeysOf[K]) -> None:
        before = seen.get(key_of(obj))
        if event == "DELETED":
            seen.pop(key_of(obj), None)
        else:
            seen[key_of(obj)] = obj
        for version in (before, obj):
            if version is not None:
                for key in keys_of(version):
                    self.queue.add(key)

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                again = await self.reconcile(key)
                self._failures.pop(key, None)
                if again is not None:
                    self.queue.add_after(key, again)
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
                # Somebody else was faster; look again at what there is now.
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                self.queue.add_after(key, min(_FIRST_RETRY * 2**failures, _LAST_RETRY))
            finally:
                self.queue.done(key)
            await asyncio.sleep(0)  # let requests be answered between two keys


async def all_of(*coroutines: Awaitable[None]) -> None:
    """Run all until one fails or this is cancelled; then cancel the others and wait for their end."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def keep_running(name: str, start: Callable[[], Awaitable[None]]) -> None:
    """Run a controller for ever: when it breaks, its traceback goes to standard error and it is started again."""
    while True:
        try:
            await start()
        except Exception:  # whatever it was: one broken controller must neither stop the others nor stay dead
            print(f"srcip-nb lab: the {name} broke and is started again", file=sys.stderr)
            traceback.print_exc()
        await asyncio.sleep(RESTART_AFTER)


async def keep_all_running(parts: Sequence[tuple[str, Callable[[], Awaitable[None]]]]) -> None:
    """`keep_running` for each (name, start), side by side, until cancelled."""
    await all_of(*(keep_running(name, start) for name, start in parts))
