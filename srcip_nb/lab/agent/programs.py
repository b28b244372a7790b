"""Programs that run in a host or pod for a request: on pipes or on a terminal, to the end or as a stream."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .argv import check_argv
from .processes import Feed, Process, Processes, pump
from .protocol import RequestError

OUTPUT_LIMIT = 64 << 20

Use = Callable[[str, bytes], None]
"""What to do with output: the stream's name ("stdout" or "stderr") and bytes."""

Enter = Callable[[], str]
"""Takes the calling thread into the host or pod; its space's name."""


class Running:
    """A request that is under way, for those that speak to it: input, signal, resize.

    Attributes:
        id: the request's.
        process: its program, once it has been started.
        feed: its standard input.
        terminal: file descriptor of its terminal; -1 without one.
        size: rows and columns that were asked for before there was a terminal; () if none were.
        is_stopped: set when it is to end before it has a program.
    """

    def __init__(self, number: Any) -> None:
        self.id = number
        self.process: Process | None = None
        self.feed: Feed | None = None
        self.terminal = -1
        self.size: tuple[int, int] | tuple[()] = ()
        self.is_stopped = threading.Event()


def resize_terminal(fd: int, rows: int, columns: int) -> None:
    """Tell a terminal how large it is; its program gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def run(
    processes: Processes,
    running: Running,
    enter: Enter,
    argv: Sequence[str],
    stdin: str | None,
    timeout: float | None,
    env: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Run a program to its end and keep what it writes.

    Raises:
        RequestError: it cannot be started, did not end in time, or wrote more than can be kept.
    """
    kept: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    size = 0

    def keep(stream: str, data: bytes) -> None:
        nonlocal size
        size += len(data)
        if size <= OUTPUT_LIMIT:
            kept[stream].append(data)
        else:
            _kill(processes, running)

    if running.feed:
        running.feed.put((stdin or "").encode())
        running.feed.put(None)
    deadline = None if timeout is None else time.monotonic() + timeout
    is_in_time = _on_pipes(processes, running, enter, argv, env, keep, deadline)
    if size > OUTPUT_LIMIT:
        raise RequestError(f"{argv[0]} wrote more than {OUTPUT_LIMIT >> 20} MiB and was killed; use open for a stream")
    if not is_in_time:
        raise RequestError(f"{argv[0]} was killed: it had not ended after {timeout:g} s")
    texts = {stream: b"".join(pieces).decode(errors="replace") for stream, pieces in kept.items()}
    return {"code": _code(running), **texts}


def stream(
    processes: Processes,
    running: Running,
    enter: Enter,
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    use: Use,
) -> dict[str, Any]:
    """Run a program on pipes and hand on what it writes."""
    _on_pipes(processes, running, enter, argv, env, use, None)
    return {"code": _code(running)}


def stream_terminal(
    processes: Processes,
    running: Running,
    enter: Enter,
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    size: tuple[int, int],
    use: Use,
) -> dict[str, Any]:
    """Run a program on a terminal of its own and hand on what it writes, all of it as standard output."""
    check_argv(argv)
    ours, theirs = pty.openpty()
    # Asked for before the thread enters a pod, whose /proc does not know the agent.
    terminal = os.ttyname(theirs)
    try:
        resize_terminal(ours, *size)
        space = enter()
        environment = {"TERM": "xterm", **(env or {})}
        running.terminal = ours
        if running.size:
            resize_terminal(ours, *running.size)
        running.process = processes.start(argv, space, (-1, -1, -1), environment, terminal=terminal)
        _carry(processes, running, {ours: lambda data: use("stdout", data)}, os.dup(ours), None, end_of_input=b"\x04")
    finally:
        running.terminal = -1
        os.close(ours)
        os.close(theirs)
    return {"code": _code(running)}


def _on_pipes(
    processes: Processes,
    running: Running,
    enter: Enter,
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    use: Use,
    deadline: float | None,
) -> bool:
    """Run a program; False if it was killed at the time limit."""
    check_argv(argv)
    space = enter()
    (in_read, in_write), (out_read, out_write), (err_read, err_write) = (os.pipe() for _ in range(3))
    theirs, ours = (in_read, out_write, err_write), (in_write, out_read, err_read)
    try:
        running.process = processes.start(argv, space, theirs, env)
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    try:
        outputs = {out_read: lambda data: use("stdout", data), err_read: lambda data: use("stderr", data)}
        return _carry(processes, running, outputs, in_write, deadline)
    finally:
        os.close(out_read)
        os.close(err_read)


def _carry(
    processes: Processes,
    running: Running,
    outputs: Mapping[int, Callable[[bytes], None]],
    input_fd: int,
    deadline: float | None,
    end_of_input: bytes = b"",
) -> bool:
    process, feed = running.process, running.feed
    if process is None or feed is None:
        raise RequestError("this request runs no program")
    try:
        if running.is_stopped.is_set():
            _kill(processes, running)
        is_in_time = pump(process, outputs, input_fd, feed, deadline, end_of_input)
        if not is_in_time:
            _kill(processes, running)
        process.ended.wait()
        return is_in_time
    finally:
        process.close()


def _kill(processes: Processes, running: Running) -> None:
    if running.process:
        processes.signal(running.process, signal.SIGKILL, is_group=True)


def _code(running: Running) -> int | None:
    return running.process.code if running.process else None
