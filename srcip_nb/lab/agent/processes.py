"""Processes of the lab: started from any thread, reaped in one place, fed and read until they end.

The agent is the first process of its pid namespace, so orphans become its children and it has to reap what it never
started. `Processes` therefore waits for all children in one thread, and takes a child's status only under the lock
under which children are started and signalled: a pid is never signalled after it could have been used again.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from . import syscalls
from .argv import check_argv, fault, find_program

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "USER": "root", "LANG": "C.UTF-8", "SHELL": "/bin/sh"}

# A program starts with the defaults, whatever the agent was started with or has set for itself.
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)

PIPE_READS = 16


class Process:
    """One started process.

    Attributes:
        pid: as the agent sees it.
        ended: set once `code` is known.
        code: exit status, or minus the signal's number.
        space: name of the host or pod it runs in.
        fd: a pidfd, readable once the process has ended; closed by `close()`.
    """

    def __init__(self, pid: int, space: str) -> None:
        self.pid = pid
        self.space = space
        self.fd = os.pidfd_open(pid)
        self.code: int | None = None
        self.ended = threading.Event()
        self._on_end: list[Callable[[], None]] = []

    def close(self) -> None:
        """Let go of the pidfd."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Processes:
    """Starts, signals and reaps."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._alive: dict[int, Process] = {}
        self._something_runs = threading.Event()
        threading.Thread(target=self._reap, name="reaper", daemon=True).start()

    def start(
        self,
        argv: Sequence[str],
        space: str,
        fds: tuple[int, int, int],
        env: Mapping[str, str] | None = None,
        terminal: str = "",
        is_init: bool = False,
    ) -> Process:
        """Start a program in the calling thread's namespaces.

        Args:
            argv: program and arguments; the program is looked up in the environment's PATH.
            space: name of the host or pod, for `kill_space`.
            fds: standard input, output and error of the program.
            env: added to the agent's plain environment.
            terminal: path of a terminal that becomes the program's controlling one, in place of fds.
            is_init: start it as the first process of a pid namespace of its own, in a mount namespace of its own
                that differs from the calling thread's by /proc and, where nothing else is mounted there, /run.

        Raises:
            RequestError: the program is not there or cannot be run.
        """
        check_argv(argv)
        environment = {**ENVIRONMENT, **(env or {})}
        program = find_program(argv[0], environment["PATH"])
        with self._lock:
            if is_init:
                pid = _fork_init(program, argv, environment, fds)
            else:
                pid = _spawn(program, argv, environment, fds, terminal)
            process = self._alive[pid] = Process(pid, space)
            self._something_runs.set()
        return process

    def on_end(self, process: Process, function: Callable[[], None]) -> None:
        """Call a function, in the reaper's thread, once a process has ended (at once if it has)."""
        with self._lock:
            if not process.ended.is_set():
                process._on_end.append(function)
                return
        function()

    def signal(self, process: Process, number: int, is_group: bool = False) -> bool:
        """Send a signal; False if the process has ended. With is_group, to what it started as well."""
        with self._lock:
            if process.ended.is_set():
                return False
            if is_group:
                os.killpg(process.pid, number)
            else:
                os.kill(process.pid, number)
            return True

    def kill_space(self, space: str) -> None:
        """Kill whatever was started in a host or pod and has not ended."""
        with self._lock:
            for process in list(self._alive.values()):
                if process.space == space:
                    self.signal(process, signal.SIGKILL, is_group=True)

    def _reap(self) -> None:
        while True:
            try:
                # Looked at without taking it: the pid stays taken until the lock is held.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                self._something_runs.wait()
                self._something_runs.clear()
                continue
            if found is None:
                continue
            callbacks: list[Callable[[], None]] = []
            with self._lock:
                try:
                    pid, status = os.waitpid(found.si_pid, 0)
                except ChildProcessError:
                    # A program that could not be started: posix_spawn(3) has collected it by itself.
                    continue
                process = self._alive.pop(pid, None)
                if process:
                    process.code = os.waitstatus_to_exitcode(status)
                    process.ended.set()
                    callbacks = process._on_end
            for function in callbacks:
                try:
                    function()
                except Exception:
                    traceback.print_exc()


def _spawn(program: str, argv: Sequence[str], env: Mapping[str, str], fds: tuple[int, int, int], terminal: str) -> int:
    """Start a program in a session of its own; posix_spawn, unlike fork, does not copy the agent's memory first."""
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    if terminal:
        # The first terminal that the leader of a session opens becomes the controlling one.
        actions.append((os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0))
        actions += [(os.POSIX_SPAWN_DUP2, 0, target) for target in (1, 2)]
    else:
        actions += [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(fds)]
    try:
        return os.posix_spawn(program, list(argv), env, file_actions=actions, setsid=True, setsigdef=_SIGNALS)
    except OSError as error:
        raise fault(argv[0], error) from error


def _fork_init(program: str, argv: Sequence[str], env: Mapping[str, str], fds: tuple[int, int, int]) -> int:
    """Start a program as the first process of a new pid namespace; its pid in the agent's.

    The new namespace is for children of whoever makes it, so there is one process between, which leaves at once: the
    agent is the first process of its own namespace and inherits the program.
    """
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        _become_init(program, argv, env, fds, write_end)
    os.close(write_end)
    pid = 0
    with os.fdopen(read_end) as report:
        # It ends when both have gone on: the one between by leaving, the program by exec, which closes the other end.
        for line in report:
            kind, _, text = line.rstrip("\n").partition(" ")
            if kind == "failed":
                raise fault(argv[0], OSError(int(text), os.strerror(int(text))))
            pid = int(text)
    return pid


def _become_init(
    program: str, argv: Sequence[str], env: Mapping[str, str], fds: tuple[int, int, int], report: int
) -> NoReturn:
    """Turn the forked child's child into the program; the report pipe gets "pid N" and, if it fails, "failed ERRNO"."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
        pid = os.fork()
        if pid:
            os.write(report, f"pid {pid}\n".encode())
            os._exit(0)
        os.setsid()
        _mount_own()
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.execve(program, list(argv), dict(env))
    except OSError as error:
        os.write(report, f"failed {error.errno}\n".encode())
    finally:
        os._exit(127)


def _mount_own() -> None:
    """Give the calling process a mount namespace with the /proc and the /run that are its own."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    # /proc shows the pid namespace of whoever mounts it. It goes over the old one: in a user namespace, only those who
    # see a /proc may mount one.
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    with open("/proc/self/mounts") as file:
        has_volume_below = any(line.split()[1].startswith("/run/") for line in file)
    if not has_volume_below:
        # Programs leave their pid there, and two of one kind would overwrite each other's.
        syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=64m,mode=755")


class Feed:
    """What is still to be written to a program's standard input; `put` from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data = bytearray()
        self._is_closed = False
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def put(self, data: bytes | None) -> None:
        """Add bytes; None ends the input."""
        with self._lock:
            if self._is_closed or self.wake_fd < 0:
                return
            if data is None:
                self._is_closed = True
            else:
                self._data += data
            os.eventfd_write(self.wake_fd, 1)

    def write_to(self, fd: int) -> bool:
        """Write what goes in without waiting; False once all is written and the input has ended."""
        with self._lock:
            try:
                while self._data:
                    del self._data[: os.write(fd, bytes(self._data[:65536]))]
            except BlockingIOError:
                return True
            except OSError:
                # The program does not read any more; what it has not read is of no use to anybody.
                self._data.clear()
                return False
            return not self._is_closed

    @property
    def is_waiting(self) -> bool:
        """Whether bytes are left to write."""
        return bool(self._data)

    def close(self) -> None:
        """Let go of the file descriptor."""
        with self._lock:
            os.close(self.wake_fd)
            self.wake_fd = -1


def pump(
    process: Process,
    outputs: Mapping[int, Callable[[bytes], None]],
    input_fd: int,
    feed: Feed,
    deadline: float | None = None,
    end_of_input: bytes = b"",
) -> bool:
    """Carry a program's input and output until it has ended.

    What the program itself wrote is always read; a process that it left behind may go on writing to nobody.

    Args:
        process: the program.
        outputs: for each file descriptor to read, what to do with the bytes.
        input_fd: where the feed goes; closed here.
        feed: the input.
        deadline: on time.monotonic()'s clock.
        end_of_input: what is written before the input is closed (a terminal takes ^D).

    Returns:
        False if the deadline came first.
    """
    reading = dict(outputs)
    is_input_open = True
    for fd in [*reading, input_fd]:
        os.set_blocking(fd, False)
    os.eventfd_write(feed.wake_fd, 1)
    with select.epoll() as epoll:
        for fd in [*reading, process.fd, feed.wake_fd]:
            epoll.register(fd, select.EPOLLIN)
        epoll.register(input_fd, 0)
        try:
            while True:
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = {fd for fd, _ in epoll.poll(wait)}
                if feed.wake_fd in ready:
                    os.eventfd_read(feed.wake_fd)
                if is_input_open and ready & {feed.wake_fd, input_fd}:
                    if feed.write_to(input_fd):
                        epoll.modify(input_fd, select.EPOLLOUT if feed.is_waiting else 0)
                    else:
                        epoll.unregister(input_fd)
                        is_input_open = False
                        _close_input(input_fd, end_of_input)
                for fd in ready & set(reading):
                    if not _read(fd, reading[fd]):
                        epoll.unregister(fd)
                        del reading[fd]
                if process.fd in ready:
                    for fd, use in reading.items():
                        # What it left in the pipe, and no more: others may still be writing.
                        for _ in range(PIPE_READS):
                            if not _read(fd, use, is_last=True):
                                break
                    return True
                if wait == 0:
                    return False
        finally:
            if is_input_open:
                os.close(input_fd)


def _close_input(fd: int, farewell: bytes) -> None:
    try:
        if farewell:
            os.write(fd, farewell)
    except OSError:
        # The terminal is full or gone: nobody is left to say good-bye to.
        return
    finally:
        os.close(fd)


def _read(fd: int, use: Callable[[bytes], None], is_last: bool = False) -> bool:
    """Read once; False at the end (or, with is_last, when nothing is there)."""
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return not is_last
    except OSError:
        # EIO: a terminal whose other end has been closed.
        return False
    if data:
        use(data)
    return bool(data)
