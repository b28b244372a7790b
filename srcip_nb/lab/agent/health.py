"""A small HTTP server in a host: one answer for every path, as kube-proxy's health checks of a Service are, or for one.

    health {host, port, status, headers, body, address, path}    opens the port, or changes what it answers
    health {host, port, status: null}                            closes it

HTTP/1.1 with ``Connection: close``. Connections that send nothing are closed after some seconds, and of very many at
once the oldest go first, so a port stays open whatever is done to it.
"""

from __future__ import annotations

import http
import os
import socket
import time
from collections.abc import Mapping
from typing import NamedTuple

from .protocol import RequestError
from .reactor import READ, Reactor
from .spaces import Space, in_thread

PATIENCE, PAUSE = 5.0, 1.0
MOST_CONNECTIONS = 256
_LONGEST_REQUEST = 16384


class Reply(NamedTuple):
    """What a port answers; with a path, on that path alone, and 404 elsewhere."""

    status: int
    headers: Mapping[str, str]
    body: str
    path: str = ""


NOT_FOUND = Reply(
    404, {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}, "404 page not found\n"
)
"""What Go's net/http, and with it kube-proxy, says about other paths."""


def render(status: int, headers: Mapping[str, str], body: str, date: str) -> bytes:
    """Write the answer: status line, headers, length, body."""
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    raw = body.encode()
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Date: {date}", f"Content-Length: {len(raw)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + raw


def asked_path(request: bytes) -> str:
    """Take the path, without its query, from a request's first line; "" if there is none."""
    words = request.split(b"\n", 1)[0].split()
    return words[1].partition(b"?")[0].decode("latin-1") if len(words) > 1 else ""


def http_date(seconds: float) -> str:
    """Write a time as HTTP does, whatever the locale: ``Sun, 15 Oct 2023 04:23:57 GMT``."""
    t = time.gmtime(seconds)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[t.tm_wday]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return (
        f"{day}, {t.tm_mday:02d} {months[t.tm_mon - 1]} {t.tm_year} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
    )


class Listener:
    """One open port and its connections; all but making it happens in the reactor's thread."""

    def __init__(self, space: Space, address: str, port: int, reply: Reply, reactor: Reactor) -> None:
        self.address, self.reply = address, reply
        self._reactor = reactor
        self._socket: socket.socket = in_thread(self._open, space, address, port)
        self._connections: dict[socket.socket, bytes] = {}
        self._since: dict[socket.socket, float] = {}
        self._is_sweeping = False

    @staticmethod
    def _open(space: Space, address: str, port: int) -> socket.socket:
        space.enter_net()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            listener.close()
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not a port"
            raise RequestError(f"port {port} of {space.name}: {reason}") from error
        return listener

    def start(self) -> None:
        """Begin to answer."""
        self._reactor.watch(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Close the port and its connections."""
        self._reactor.forget(self._socket.fileno())
        self._socket.close()
        for connection in list(self._connections):
            self._drop(connection)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            # The caller gave up before it was let in.
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            self._drop(next(iter(self._connections)))
        connection.setblocking(False)
        self._connections[connection] = b""
        self._since[connection] = time.monotonic()
        self._reactor.watch(connection.fileno(), lambda: self._serve(connection), READ)
        if not self._is_sweeping:
            self._is_sweeping = True
            self._reactor.call_later(PAUSE, self._drop_silent)

    def _serve(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_LONGEST_REQUEST)
            request = self._connections[connection] + data
            self._connections[connection] = request
            is_complete = b"\r\n\r\n" in request or b"\n\n" in request
            if is_complete:
                reply = self.reply if self.reply.path in ("", asked_path(request)) else NOT_FOUND
                answer = render(reply.status, reply.headers, reply.body, http_date(time.time()))
                if request.startswith(b"HEAD "):
                    answer = answer[: answer.index(b"\r\n\r\n") + 4]
                connection.send(answer)
                connection.shutdown(socket.SHUT_WR)
            if is_complete or not data or len(request) > _LONGEST_REQUEST:
                self._drop(connection)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._connections.pop(connection, None)
        self._since.pop(connection, None)
        self._reactor.forget(connection.fileno())
        connection.close()

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for connection, since in list(self._since.items()):
            if now - since > PATIENCE:
                self._drop(connection)
        self._is_sweeping = bool(self._since)
        if self._is_sweeping:
            self._reactor.call_later(PAUSE, self._drop_silent)


class HealthPorts:
    """All open ports by host and number."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._listeners: dict[tuple[str, int], Listener] = {}

    def answer(self, space: Space, port: int, reply: Reply, address: str) -> None:
        """Open a port on an address (0.0.0.0 for all), or change its answer.

        Raises:
            RequestError: the port is in use in that host.
        """
        listener = self._listeners.get((space.name, port))
        if listener and listener.address == address:
            listener.reply = reply
            return
        self.close(space.name, port)
        listener = self._listeners[space.name, port] = Listener(space, address, port, reply, self._reactor)
        self._reactor.run(listener.start)

    def close(self, host: str, port: int) -> None:
        """Close a port; one that is not open is no error."""
        listener = self._listeners.pop((host, port), None)
        if listener:
            self._reactor.run(listener.close)

    def forget(self, host: str) -> None:
        """Close all ports of a host that is removed."""
        for name, port in list(self._listeners):
            if name == host:
                self.close(name, port)
