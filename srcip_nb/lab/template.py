r"""Many labs at once: one process imports what a supervisor needs, and each lab's supervisor is a fork of it.

    caller --orders, a socket--> template --fork--> supervisor of the first lab
                                         \--fork--> supervisor of the second lab, ...

A supervisor that starts as a program of its own spends most of its start, and most of its memory, on reading modules
and the Kubernetes schemas. A fork has them already, and shares the pages with its siblings until one of them writes
(copy on write, fork(2)); ``gc.freeze`` keeps Python's garbage collector from writing to all of them. The template runs
no thread and no event loop, so nothing is halfway through anything when it forks. It ends when the caller closes the
socket, or ends; its supervisors go on: each watches its own owner.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any, BinaryIO

from srcip_nb.errors import LabError
from srcip_nb.lab.api.schema import schema_of
from srcip_nb.lab.state import Process
from srcip_nb.lab.supervisor import carry_out

LONGEST_ORDER = 1 << 16
ENDS_WITHIN = 5.0  # seconds


class Forked:
    """A supervisor that the template has forked; the template collects its end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process = Process.of(pid)

    def wait(self, timeout: float | None = None) -> int:
        """Return 0 when it has ended, or after ``timeout`` seconds 1."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._process and self._process.alive:
            if deadline is not None and time.monotonic() > deadline:
                return 1
            time.sleep(0.01)
        return 0


class Template:
    """The warm process, for a ``with`` block; ``launch`` is what ``lifecycle.start`` takes. Threads may share it.

    Example:
        >>> with Template() as template:
        ...     lifecycle.start(spec, owner, where, template.launch)
    """

    def __enter__(self) -> Template:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._one_at_a_time = threading.Lock()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "srcip_nb.lab.template", str(other.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
                cwd="/",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        try:
            self._process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def launch(self, order: dict[str, Any], log: BinaryIO, ready_fd: int) -> Forked:
        """Fork a supervisor on an order: see ``lifecycle.Launcher``.

        Raises:
            LabError: the template has ended.
        """
        with self._one_at_a_time:
            try:
                socket.send_fds(self._socket, [json.dumps(order).encode()], [log.fileno(), ready_fd])
                answer = self._socket.recv(LONGEST_ORDER)
            except OSError:
                answer = b""
        if not answer:
            raise LabError("the process that labs are forked from has ended", "Start them again.")
        return Forked(int(answer))


def main() -> None:
    """Import, then fork a supervisor for each order, until the socket closes."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    _warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the children's ends, wait(2)
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, LONGEST_ORDER, 2)
        if not order:
            return
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(KeyboardInterrupt):
                _be_a_supervisor(json.loads(order), orders, *descriptors)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        orders.send(str(pid).encode())


def _warm_up() -> None:
    """Read what every lab reads in the end, the Kubernetes schemas included."""
    for name in ("srcip_nb.lab.kernel", "srcip_nb.lab.serve"):
        importlib.import_module(name)
    schema_of("Service")
    gc.collect()
    gc.freeze()


def _be_a_supervisor(order: dict[str, Any], orders: socket.socket, log: int, ready_fd: int) -> None:
    orders.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    carry_out({**order, "ready_fd": ready_fd})


if __name__ == "__main__":
    main()
