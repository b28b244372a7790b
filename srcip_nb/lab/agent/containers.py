"""What runs in pods: started as the first process of a pid namespace, its output turned into log events.

A container that ends takes everything it started with it, for the kernel ends a pid namespace with its first process.
The containers of a pod have its files in common, and each its own /proc and /run: a mount namespace below the pod's.

Log events are `{"event": "log", "pod", "container", "time", "stream", "text"}`: text is one or more whole lines, time
is that of the first, in nanoseconds since 1970; the next line's is one more, and so on. Times rise strictly over the
whole lab. A line longer than 16 KiB is cut there, as container runtimes do.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import syscalls
from .argv import check_argv
from .processes import Process, Processes
from .protocol import RequestError
from .reactor import Reactor
from .spaces import Space, in_thread

LONGEST_LINE = 16384
# What comes line after line is read some lines at a time: each time costs as much as a request itself on a slow kernel.
# Seconds between two readings that are called busy; how long the next one waits then, and at most while it goes on.
BUSY, PAUSE, LONGEST_PAUSE = 0.02, 0.005, 0.05


def signal_number(name: object) -> int:
    """Find a signal by name, with or without SIG.

    Raises:
        RequestError: there is none of that name.
    """
    text = str(name).upper().removeprefix("SIG")
    try:
        return int(signal.Signals[f"SIG{text}"])
    except KeyError:
        raise RequestError(f"there is no signal {name!r}") from None


class Clock:
    """Wall-clock nanoseconds that never repeat; used by the reactor's thread alone."""

    def __init__(self) -> None:
        self._last = 0

    def take(self, count: int) -> int:
        """Take as many numbers as there are lines; the first of them."""
        first = max(time.time_ns(), self._last + 1)
        self._last = first + count - 1
        return first


class LogPipe:
    """One output of a container, cut into whole lines."""

    def __init__(self, fd: int, emit: Callable[[bytes], None], on_end: Callable[[], None], reactor: Reactor) -> None:
        self._fd = fd
        self._emit = emit
        self._on_end = on_end
        self._reactor = reactor
        self._rest = b""
        self._read_at, self._pause = 0.0, 0.0
        os.set_blocking(fd, False)
        reactor.watch(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            self._pause = 0.0
            self._reactor.watch(self._fd, self._read)
            return
        before, self._read_at = self._read_at, time.monotonic()
        if data and self._pause:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._reactor.call_later(self._pause, self._read)
        elif data and self._read_at - before < BUSY:
            self._pause = PAUSE
            self._reactor.forget(self._fd)
            self._reactor.call_later(self._pause, self._read)
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        while len(rest) > LONGEST_LINE or (rest and not data):
            whole, newline, rest = whole + newline + rest[:LONGEST_LINE], b"\n", rest[LONGEST_LINE:]
        self._rest = rest
        if newline:
            self._emit(whole + newline)
        if not data:
            self._reactor.forget(self._fd)
            os.close(self._fd)
            self._on_end()


class Container:
    """One running program of a pod."""

    def __init__(self, process: Process, env: dict[str, str]) -> None:
        self.process = process
        self.env = env
        self.waits_for = {"stdout", "stderr", "end"}
        self.gone = threading.Event()


class Containers:
    """All containers, by pod and name."""

    def __init__(self, processes: Processes, reactor: Reactor, send: Callable[[dict[str, Any]], None]) -> None:
        self._processes = processes
        self._reactor = reactor
        self._send = send
        self._clock = Clock()
        self._running: dict[tuple[str, str], Container] = {}

    def start(self, pod: str, space: Space, name: str, argv: Sequence[str], env: dict[str, str]) -> int:
        """Start a container; its pid as the agent sees it.

        Raises:
            RequestError: it runs already, or its program cannot be started.
        """
        check_argv(argv)
        if (pod, name) in self._running:
            raise RequestError(f"container {name} of pod {pod} runs already")
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        pipes = [os.pipe() for _ in range(2)]

        env = {"HOSTNAME": space.hostname, **env}

        def run() -> Process:
            space.enter()
            fds = (stdin, pipes[0][1], pipes[1][1])
            return self._processes.start(argv, space.name, fds, env, is_init=True)

        try:
            process = in_thread(run)
        except BaseException:
            for read_end, _ in pipes:
                os.close(read_end)
            raise
        finally:
            for fd in (stdin, pipes[0][1], pipes[1][1]):
                os.close(fd)
        container = self._running[pod, name] = Container(process, env)
        for stream, (read_end, _) in zip(("stdout", "stderr"), pipes, strict=True):
            self._follow(pod, name, container, stream, read_end)
        self._processes.on_end(
            process, lambda: self._reactor.call(lambda: self._part_ended(pod, name, container, "end"))
        )
        return process.pid

    def _follow(self, pod: str, name: str, container: Container, stream: str, fd: int) -> None:
        def emit(data: bytes) -> None:
            first = self._clock.take(data.count(b"\n"))
            text = data.decode(errors="replace")
            event = {"event": "log", "pod": pod, "container": name, "time": first, "stream": stream, "text": text}
            self._send(event)

        LogPipe(fd, emit, lambda: self._part_ended(pod, name, container, stream), self._reactor)

    def _part_ended(self, pod: str, name: str, container: Container, part: str) -> None:
        """Tell of the end once all of the log has been told."""
        container.waits_for.discard(part)
        if container.waits_for:
            return
        process = container.process
        del self._running[pod, name]
        process.close()
        self._send({"event": "exited", "pod": pod, "container": name, "pid": process.pid, "code": process.code})
        container.gone.set()

    def stop(self, pod: str, name: str, number: int, grace: float) -> int | None:
        """Ask a container to end, and kill it when the grace period is over; its code, None if it does not run."""
        container = self._running.get((pod, name))
        if container is None:
            return None
        if grace > 0 and self._processes.signal(container.process, number):
            container.process.ended.wait(grace)
        self._processes.signal(container.process, signal.SIGKILL)
        container.gone.wait()
        return container.process.code

    def stop_all(self, pod: str) -> None:
        """Kill all containers of a pod."""
        for key in list(self._running):
            if key[0] == pod:
                self.stop(*key, signal.SIGKILL, 0)

    def enter(self, pod: str, space: Space, name: str = "") -> None:
        """Take the calling thread into a pod, and what it forks next into a running container, for good.

        Args:
            pod: whose container.
            space: the pod's.
            name: which; "" for the first that runs, or for the bare pod if none does.

        Raises:
            RequestError: the container named does not run.
        """
        # Opened before the thread enters the pod, whose /proc numbers processes in another way.
        inside = self._open_namespaces(pod, name)
        if name and not inside:
            raise RequestError(f"container {name} of pod {pod} does not run")
        try:
            space.enter()
            for fd, kind in inside:
                syscalls.setns(fd, kind)
        finally:
            for fd, _ in inside:
                os.close(fd)

    def environment(self, pod: str, name: str) -> dict[str, str]:
        """The variables that a running container was started with; {} for another, or for "" as its name."""
        container = self._running.get((pod, name))
        return dict(container.env) if container else {}

    def _open_namespaces(self, pod: str, name: str) -> list[tuple[int, int]]:
        """Mount and pid namespace of a running container; [] if there is none."""
        for key, container in list(self._running.items()):
            if key == (pod, name or key[1]) and not container.process.ended.is_set():
                opened: list[tuple[int, int]] = []
                try:
                    for kind, flag in (("mnt", syscalls.CLONE_NEWNS), ("pid", syscalls.CLONE_NEWPID)):
                        path = f"/proc/{container.process.pid}/ns/{kind}"
                        opened.append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), flag))
                except FileNotFoundError:
                    # It ended just now.
                    for fd, _ in opened:
                        os.close(fd)
                else:
                    return opened
        return []
