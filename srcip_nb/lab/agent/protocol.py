r"""The agent's end of the wire: one JSON object a line, both ways.

    host -> agent    {"id": 1, "op": "exec", ...}\n         a request
                     &PIECE\n                               a piece of a request that is longer than a piece may be
    agent -> host    {"ready": {"piece": 60000, ...}}\n     once, first; a piece is this long or shorter
                     +\n                                    a line from the host was read: the next may come
                     {"id": 1, "event": {...}}\n            any number while a request runs
                     {"id": 1, "result": ...}\n             its end, or
                     {"id": 1, "error": "one sentence"}\n    and "code": 126 or 127 where no program could be run
                     {"event": "log", ...}\n                what belongs to no request

Every line from the host is answered ``+`` before the host sends the next one. A pipe does not need that, and takes long
pieces; the serial line of a User Mode Linux does: it stops for ever once its 4096 byte buffer has been nearly full.
Such a line is slow too, some megabytes a second at the cost of the guest's only CPU. So over it a long message goes
packed, as ``=`` and base64 of its zlib form, and so does a request that is longer than a piece.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import threading
import zlib
from collections.abc import Iterator
from typing import Any

# What is said of a host that has gone: by a pipe the one, by a serial line the other.
_GONE = (errno.EPIPE, errno.EIO)
PIECE_OF_SERIAL_LINE, PIECE_OF_PIPE = 3000, 60000
_WORTH_PACKING = 1000  # bytes
_FASTEST = 1


def pack(message: bytes) -> bytes:
    """A message in its packed form, without the line's end."""
    return b"=" + base64.b64encode(zlib.compress(message, _FASTEST))


def unpack(line: bytes) -> bytes:
    """The message of a line, packed or not.

    Raises:
        ValueError: it begins as a packed one and is none.
    """
    if line[:1] != b"=":
        return line
    try:
        return zlib.decompress(base64.b64decode(line[1:], validate=True))
    except zlib.error as error:
        raise ValueError(f"not packed as it should be: {error}") from error


class RequestError(Exception):
    """A request that cannot be done; the message is one sentence for the reader of the answer."""


class ProgramError(RequestError):
    """A program that cannot be run.

    Attributes:
        code: the exit code by which a shell tells it: 127, it is not there; 126, it may not be run.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Wire:
    """Lines in from one file descriptor, lines out to another; writing is safe from any thread."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._lock = threading.Lock()
        self._is_serial = os.isatty(read_fd)

    @property
    def piece(self) -> int:
        """Bytes that the host may send before it waits."""
        return PIECE_OF_SERIAL_LINE if self._is_serial else PIECE_OF_PIPE

    def requests(self) -> Iterator[dict[str, Any]]:
        """Read requests until the host closes its end; lines that are no request are answered with an error."""
        buffer = b""
        pieces: list[bytes] = []
        while data := self._read():
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                self._write(b"+\n")
                if line[:1] == b"&":
                    pieces.append(line[1:])
                    continue
                raw = b"".join([*pieces, line])
                pieces.clear()
                try:
                    request = json.loads(unpack(raw))
                    if not isinstance(request, dict):
                        raise ValueError("not an object")
                except ValueError as error:
                    self.send({"id": None, "error": f"a request was not a JSON object: {error}"})
                    continue
                yield request

    def _read(self) -> bytes:
        try:
            return os.read(self._read_fd, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""  # a serial line whose other end is gone

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; blocks while the host does not read."""
        data = json.dumps(message, separators=(",", ":")).encode()
        self._write((pack(data) if self._is_serial and len(data) > _WORTH_PACKING else data) + b"\n")

    def _write(self, data: bytes) -> None:
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._write_fd, data) :]
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                # The host has gone; requests() comes to its end by itself, and the agent with it.
                return
