"""Requests, many at once, from one thread: each a new connection, each reported with the address it was sent from.

The sockets belong to the network namespace that the calling thread is in; without an agent that is the machine's own.

    for batch in visit(requests, concurrency=16, timeout=3.0):
        for result in batch: ...

A request is ``{"id": 0, "url": "http://192.168.1.56/?request=0", "headers": {}}``. Its result:

=============  ======  =====================================================================================
id             any     the request's
sent_at        int     nanoseconds since 1970, just before the connection was asked for
client_ip      str     the socket's own address; "" if it never got one
client_port    int     the socket's own port; 0 if it never got one
status         int     HTTP status; None without an answer
error          str     "", "timeout", "refused", "reset", "unreachable", "closed" (before the answer was whole),
                       or the system's words
latency_ms     float   from sent_at to the end of the answer, or to the error
body           str     the first 200 bytes, as text
=============  ======  =====================================================================================
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

BODY_BYTES = 200
_KEPT_BYTES = 65536
_BATCH, _BATCH_SECONDS = 64, 0.05
_STANDSTILL = 0.5
_AGENT = "srcip-nb"

_ERRORS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
}


def error_word(number: int) -> str:
    """Name an errno as the `error` column does."""
    return _ERRORS.get(number) or os.strerror(number)


class Target:
    """Where a URL leads, its query aside: looked at and written out once for all requests that differ in nothing else.

    Raises:
        ValueError: it is no http:// URL, or a header holds a line break.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// URL")
        fields = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": _AGENT, "Accept": "*/*"}
        given = {name.title(): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in {**fields, **given}.items()]
        if any(character in line for line in lines for character in "\r\n"):
            raise ValueError("a URL or a header holds a line break")
        self.host, self.port = parts.hostname, parts.port or 80
        self._path = f"GET {parts.path or '/'}"
        self._rest = "\r\n".join([" HTTP/1.1", *lines, "Connection: close", "", ""])

    def request(self, query: str) -> bytes:
        """Write the request with that query, "" for none.

        Raises:
            ValueError: it holds a line break.
        """
        if "\r" in query or "\n" in query:
            raise ValueError("a URL or a header holds a line break")
        return f"{self._path}{'?' if query else ''}{query}{self._rest}".encode()


class Exchange:
    """One request on its way."""

    __slots__ = (
        *("client_ip", "client_port", "data", "deadline", "error", "id", "request", "sent_at", "size", "socket"),
        "started",
    )

    def __init__(self, number: Any, request: bytes) -> None:
        self.id = number
        self.request = request
        self.data = bytearray()
        self.size: float = -1
        self.error = ""
        self.client_ip, self.client_port = "", 0
        self.socket: socket.socket | None = None
        self.sent_at, self.started, self.deadline = 0, 0.0, 0.0

    def is_whole(self) -> bool:
        """Whether the answer has come to the end that its Content-Length promises."""
        if self.size < 0:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = _header(bytes(self.data[:end]), b"content-length")
            self.size = end + 4 + int(length) if length.isdigit() else math.inf
        return len(self.data) >= self.size

    def result(self, now: float) -> dict[str, Any]:
        """Write the result as the module's table has it."""
        latency_ms = round((now - self.started) * 1000, 3)
        status, body = None, ""
        if not self.error:
            status, body = parse_answer(bytes(self.data))
            if status is None:
                self.error = "closed" if not self.data else "not HTTP"
            elif len(self.data) < self.size < math.inf:
                self.error, status = "closed", None
        return {
            "id": self.id,
            "sent_at": self.sent_at,
            "client_ip": self.client_ip,
            "client_port": self.client_port,
            "status": status,
            "error": self.error,
            "latency_ms": latency_ms,
            "body": body,
        }


def _header(head: bytes, name: bytes) -> bytes:
    at = head.lower().find(b"\n" + name + b":")
    return head[at + len(name) + 2 :].split(b"\r\n", 1)[0].strip() if at >= 0 else b""


def parse_answer(data: bytes) -> tuple[int | None, str]:
    """Take status and the first bytes of the body out of an HTTP answer; (None, "") if it is not a whole one."""
    head, end, body = data.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not end or len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return None, ""
    if _header(head, b"transfer-encoding").lower() == b"chunked":
        body = _without_chunks(body)
    return int(words[1]), body[:BODY_BYTES].decode(errors="replace")


def _without_chunks(body: bytes) -> bytes:
    pieces = []
    while body:
        size, _, body = body.partition(b"\r\n")
        digits = size.split(b";")[0].strip()
        try:
            length = int(digits, 16)
        except ValueError:
            break
        if length == 0:
            break
        pieces.append(body[:length])
        body = body[length + 2 :]
    return b"".join(pieces)


class Visitor:
    """The loop: starts, watches and ends exchanges.

    On User Mode Linux a system call costs some 30 us, and there even reading a clock is one: so a clock is read once a
    turn and once a request, and the sockets are watched by poll(2), which wants no call of its own for each of them.

    Patience counts only while the loop runs. A turn that ends half a second after it should have means that the machine
    stood still or was too busy, and whoever is asked probably stood still with it: the rest is not held against him.
    """

    def __init__(self, concurrency: int, timeout: float, rate: float | None) -> None:
        self._poll = select.poll()
        self._open: dict[int, Exchange] = {}
        # All have the same patience, so they run out of it in the order in which they started.
        self._deadlines: deque[Exchange] = deque()
        self._addresses: dict[str, str] = {}
        self._targets: dict[tuple[Any, ...], Target] = {}
        self._concurrency, self._timeout, self._rate = concurrency, timeout, rate
        self._epoch, self._epoch_at = 0, -math.inf
        self._stood_still = 0.0
        self.done: list[dict[str, Any]] = []

    def close(self) -> None:
        """Close what is still open."""
        for exchange in self._open.values():
            if exchange.socket:
                exchange.socket.close()

    def run(
        self, requests: Sequence[Mapping[str, Any]], is_stopped: Callable[[], bool]
    ) -> Iterator[list[dict[str, Any]]]:
        """Send all; batches of results as they come."""
        started = told = now = time.monotonic()
        at, count = 0, len(requests)
        while at < count or self._open:
            if is_stopped():
                at = count
                for exchange in list(self._open.values()):
                    self._end(exchange, "stopped")
            due = count if self._rate is None else min(count, int((now - started) * self._rate) + 1)
            self._set_epoch(now)
            while at < due and len(self._open) < self._concurrency:
                self._begin(requests[at])
                at += 1
            wait = self._wait(now, started, at, count)
            before, now = now, self._turn(wait)
            self._stood_still += max(0.0, now - before - wait - _STANDSTILL)
            awake = now - self._stood_still
            while self._deadlines and (self._deadlines[0].socket is None or self._deadlines[0].deadline <= awake):
                exchange = self._deadlines.popleft()
                if exchange.socket is not None:
                    self._end(exchange, "timeout")
            if self.done and (len(self.done) >= _BATCH or now - told >= _BATCH_SECONDS):
                batch, self.done, told = self.done, [], now
                yield batch
        if self.done:
            yield self.done

    def _wait(self, now: float, started: float, at: int, count: int) -> float:
        wait = _BATCH_SECONDS
        if self._deadlines:
            wait = min(wait, self._deadlines[0].deadline - (now - self._stood_still))
        if self._rate is not None and at < count and len(self._open) < self._concurrency:
            wait = min(wait, started + at / self._rate - now)
        return max(0.0, wait) if self._open or at < count else 0.0

    def _set_epoch(self, now: float) -> None:
        """Look how far the two clocks are apart: from time to time, since the one that tells the date may be set."""
        if now - self._epoch_at >= _BATCH_SECONDS:
            self._epoch, self._epoch_at = time.time_ns() - time.monotonic_ns(), now

    def _begin(self, request: Mapping[str, Any]) -> None:
        exchange = Exchange(request["id"], b"")
        started = time.monotonic_ns()
        exchange.sent_at, exchange.started = started + self._epoch, started / 1e9
        exchange.deadline = exchange.started - self._stood_still + self._timeout
        try:
            target, query = self._target(request)
            exchange.request = target.request(query)
            address = self._resolve(target.host)
            channel = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            self._end(exchange, "no such host" if isinstance(error, socket.gaierror) else error_word(error.errno or 0))
            return
        except ValueError as error:
            self._end(exchange, str(error))
            return
        exchange.socket = channel
        self._open[channel.fileno()] = exchange
        code = channel.connect_ex((address, target.port))
        client_ip, exchange.client_port = channel.getsockname()
        exchange.client_ip = "" if client_ip == "0.0.0.0" else client_ip
        if code == errno.EINPROGRESS:
            code = self._send_early(exchange, channel)
        if code:
            self._end(exchange, error_word(code))
            return
        self._deadlines.append(exchange)
        self._poll.register(channel.fileno(), _awaited(exchange))

    def _send_early(self, exchange: Exchange, channel: socket.socket) -> int:
        """Send at once: between namespaces the connection mostly stands before connect has returned; 0 or an errno."""
        try:
            exchange.request = exchange.request[channel.send(exchange.request) :]
        except BlockingIOError:
            # Not yet, or never: the kernel keeps an ICMP error that came before connect returned as a "soft" one, to
            # be had only by asking, and tries again a second later.
            return channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:
            return error.errno or 0
        return 0

    def _target(self, request: Mapping[str, Any]) -> tuple[Target, str]:
        place, _, query = request["url"].partition("#")[0].partition("?")
        headers = request.get("headers") or {}
        key = (place, *headers.items())
        if key not in self._targets:
            self._targets[key] = Target(place, headers)
        return self._targets[key], query

    def _resolve(self, host: str) -> str:
        if host not in self._addresses:
            found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
            self._addresses[host] = str(found[0][4][0])
        return self._addresses[host]

    def _turn(self, wait: float) -> float:
        events = self._poll.poll(math.ceil(wait * 1000))
        now = time.monotonic()
        for fd, event in events:
            exchange = self._open[fd]
            channel = exchange.socket
            if channel is None:
                continue
            try:
                if event & select.POLLOUT and exchange.request:
                    exchange.request = exchange.request[channel.send(exchange.request) :]
                    self._poll.modify(fd, _awaited(exchange))
                    continue
                data = channel.recv(65536)
            except BlockingIOError:
                continue
            except OSError as error:
                self._end(exchange, error_word(error.errno or 0), now)
                continue
            room = _KEPT_BYTES - len(exchange.data)
            exchange.data += data[:room]
            if exchange.size >= 0:
                # What is not kept is counted, so that the end is still seen.
                exchange.size -= max(0, len(data) - room)
            if not data or exchange.is_whole():
                self._end(exchange, "", now)
        return now

    def _end(self, exchange: Exchange, error: str, happened: float | None = None) -> None:
        channel = exchange.socket
        if channel is not None:
            self._open.pop(channel.fileno(), None)
            with contextlib.suppress(KeyError):
                self._poll.unregister(channel.fileno())
            channel.close()
            exchange.socket = None
        exchange.error = error
        self.done.append(exchange.result(time.monotonic() if happened is None else happened))


def _awaited(exchange: Exchange) -> int:
    return select.POLLOUT if exchange.request else select.POLLIN


def visit(
    requests: Sequence[Mapping[str, Any]],
    concurrency: int = 16,
    timeout: float = 5.0,
    rate: float | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[list[dict[str, Any]]]:
    """Send requests and yield their results in small batches, in the order in which they end.

    Args:
        requests: each with `id`, `url` and, if wanted, `headers`.
        concurrency: how many may be on their way at once.
        timeout: seconds that each may take, not counted those in which this thread did not get to run.
        rate: how many to start a second at most; None for as fast as it goes.
        is_stopped: asked again and again; once true, the rest is given up (error "stopped").

    Raises:
        ValueError: a number that makes no sense.
    """
    if concurrency < 1 or timeout <= 0 or (rate is not None and rate <= 0):
        raise ValueError("concurrency, timeout and rate have to be more than 0")
    visitor = Visitor(concurrency, timeout, rate)
    try:
        yield from visitor.run(requests, is_stopped)
    finally:
        visitor.close()
