"""``srcip-nb lab exec``: a command in a host with this terminal's own streams."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from types import FrameType

import websocket

from srcip_nb.errors import LabError
from srcip_nb.lab.client import LabClient
from srcip_nb.lab.streams import EXIT, RESIZE, SIGNAL, STDERR, STDIN, STDOUT


def attach(client: LabClient, host: str, argv: Sequence[str]) -> int:
    """Run a command in a host or pod with this process's input, output and terminal.

    Returns:
        Its exit code, as a shell tells it: 127 where there is no such program, 128 and the signal's number where a
        signal ended it.

    Raises:
        LabError: no such host or pod, or the lab has ended.
    """
    terminal = os.isatty(0) and os.isatty(1)
    options = {"context": client.ssl_context}
    try:
        socket = websocket.create_connection(
            client.open_url(host, argv, terminal),
            header=[f"Authorization: Bearer {client.token}"],
            sslopt=options,
            timeout=None,
            http_no_proxy=["127.0.0.1"],
        )
    except websocket.WebSocketBadStatusException as error:
        raise LabError(_reason(error), "") from error
    except OSError as error:
        raise LabError(f"lab {client.name!r} does not answer ({error})", "See: srcip-nb lab list") from error
    with contextlib.closing(socket), _terminal(socket) if terminal else _interrupts(socket):
        threading.Thread(target=_send_input, args=(socket,), daemon=True).start()
        return _show_output(socket, client.name)


def _reason(error: websocket.WebSocketBadStatusException) -> str:
    try:
        return str(json.loads(error.resp_body or b"{}")["message"])
    except (ValueError, KeyError, TypeError):
        return f"the lab refused the command (HTTP {error.status_code})"


def _show_output(socket: websocket.WebSocket, name: str) -> int:
    while True:
        try:
            message = socket.recv()
        except (OSError, websocket.WebSocketException):
            message = b""
        if not isinstance(message, bytes) or not message:
            raise LabError(f"lab {name!r} ended while the command ran", "Start it again: srcip-nb lab up")
        channel, data = message[0], message[1:]
        if channel == EXIT:
            code = int(data)
            return code if code >= 0 else 128 - code  # ended by a signal: as a shell tells it
        stream = {STDOUT: sys.stdout, STDERR: sys.stderr}[channel]
        stream.buffer.write(data)
        stream.flush()


def _send_input(socket: websocket.WebSocket) -> None:
    with contextlib.suppress(OSError, websocket.WebSocketException):  # the command has ended; nobody reads any more
        while data := os.read(0, 65536):
            socket.send_binary(bytes([STDIN]) + data)
        socket.send_binary(bytes([STDIN]))


@contextlib.contextmanager
def _interrupts(socket: websocket.WebSocket) -> Iterator[None]:
    """Ctrl-C goes to the command, not to this process."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        socket.send_binary(bytes([SIGNAL]) + b"INT")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _terminal(socket: websocket.WebSocket) -> Iterator[None]:
    """This terminal passes every key on; the command's terminal has the same size."""

    def resize(number: int, frame: FrameType | None) -> None:
        size = shutil.get_terminal_size()
        socket.send_binary(bytes([RESIZE]) + json.dumps({"rows": size.lines, "cols": size.columns}).encode())

    before = termios.tcgetattr(0)
    previous = signal.signal(signal.SIGWINCH, resize)
    tty.setraw(0)
    resize(signal.SIGWINCH, None)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, previous)
