"""One thread that waits for everything: log pipes, ARP packets, health connections, timers.

Callbacks run in that thread, one at a time, and must not block. A callback that raises is reported on standard error
and loses its file descriptor; the others go on.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable

READ = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP


class Reactor:
    """An epoll loop; `call`, `watch` and `forget` may be used from any thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._calls: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="reactor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Run a function in the reactor's thread soon."""
        with self._lock:
            self._calls.append(function)
        os.eventfd_write(self._wake_fd, 1)

    def run(self, function: Callable[[], None]) -> None:
        """Run a function in the reactor's thread and wait until it is done; not for callbacks."""
        done = threading.Event()

        def run() -> None:
            try:
                function()
            finally:
                done.set()

        self.call(run)
        done.wait()

    def call_later(self, delay: float, function: Callable[[], None]) -> None:
        """Run a function in the reactor's thread after a number of seconds."""
        timer = (time.monotonic() + delay, next(self._order), function)
        if threading.current_thread() is self._thread:
            heapq.heappush(self._timers, timer)
        else:
            self.call(lambda: heapq.heappush(self._timers, timer))

    def watch(self, fd: int, callback: Callable[[], None], events: int = READ) -> None:
        """Call back whenever a file descriptor is ready."""
        with self._lock:
            is_known = fd in self._callbacks
            self._callbacks[fd] = callback
        if is_known:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; to be called before the file descriptor is closed. Unknown ones are no error."""
        with self._lock:
            is_known = self._callbacks.pop(fd, None) is not None
        if is_known:
            self._epoll.unregister(fd)

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            wait = max(0.0, self._timers[0][0] - now) if self._timers else None
            for fd, _ in self._epoll.poll(wait):
                if fd == self._wake_fd:
                    os.eventfd_read(fd)
                    with self._lock:
                        calls, self._calls = self._calls, []
                    for function in calls:
                        self._guard(function)
                    continue
                with self._lock:
                    callback = self._callbacks.get(fd)
                if callback and not self._guard(callback):
                    self.forget(fd)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._guard(heapq.heappop(self._timers)[2])

    @staticmethod
    def _guard(function: Callable[[], None]) -> bool:
        try:
            function()
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return False
        return True
