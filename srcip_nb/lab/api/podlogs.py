"""What the containers wrote: kept in memory for each container, read and followed like `kubectl logs`.

    append(namespace, pod, container, time_ns, text)     the kubelet part, as lines arrive
    restart(...)      a new start of the container: what was there becomes `previous`
    finish(...)       it ended: whoever follows reaches the end
    remove(...)       the pod is gone, and its logs with it

    read(...) -> text                what is there, once
    async for text in follow(...)    what is there, then what comes

Text is kept as it came, in blocks of complete lines with one time each (nanoseconds since 1970); 10 MiB a container, as
a kubelet keeps by default (containerLogMaxSize), the oldest goes first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timezone
from itertools import islice

LIMIT = 10 * 1024 * 1024
"""Bytes kept of one container (characters are counted; logs are nearly all ASCII)."""

PIECE = 256 * 1024
"""Characters that `follow` hands out at once at most, so that other clients get their turn."""


class PodLogs:
    """The logs of all containers of a lab.

    Args:
        limit: characters kept of each container.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._present: dict[tuple[str, str, str], _Log] = {}
        self._previous: dict[tuple[str, str, str], _Log] = {}

    def append(self, namespace: str, pod: str, container: str, time_ns: int, text: str) -> None:
        """Keep what a container wrote.

        Args:
            namespace: the pod's.
            pod: its name.
            container: the container's name.
            time_ns: when, in nanoseconds since 1970.
            text: one or more lines; a last one without its newline is given one.
        """
        if text:
            log = self._present.get((namespace, pod, container))
            if log is None:
                log = self._present[(namespace, pod, container)] = _Log(self._limit)
            log.append(time_ns, text if text.endswith("\n") else f"{text}\n")

    def restart(self, namespace: str, pod: str, container: str) -> None:
        """Begin a new log for a container that starts again; the old one is `previous` from now on."""
        key = (namespace, pod, container)
        old = self._present.get(key)
        if old and (
            old.end or old.finished
        ):  # else nothing was written yet, and whoever follows it waits for this start
            old.finish()
            self._previous[key] = old
            self._present[key] = _Log(self._limit)

    def finish(self, namespace: str, pod: str, container: str) -> None:
        """The container ended: its log stays, and those who follow it come to an end."""
        log = self._present.get((namespace, pod, container))
        if log:
            log.finish()

    def remove(self, namespace: str, pod: str) -> None:
        """Forget the logs of a pod that is gone; those who follow them come to an end."""
        for logs in (self._present, self._previous):
            for key in [key for key in logs if key[:2] == (namespace, pod)]:
                logs.pop(key).finish()

    def read(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        tail: int | None = None,
        since_ns: int | None = None,
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> str:
        """What a container wrote, "" if nothing.

        Args:
            namespace: the pod's.
            pod: its name.
            container: the container's name.
            previous: of the container's last start but one.
            tail: the last so many lines only.
            since_ns: only what was written at or after this time, nanoseconds since 1970.
            timestamps: put the time before each line, "2026-11-22T14:28:04.128091048Z ".
            limit_bytes: cut after so many bytes of UTF-8.
        """
        log = (self._previous if previous else self._present).get((namespace, pod, container))
        if log is None:
            return ""
        return cut("".join(_shown(log.select(tail, since_ns), timestamps)), limit_bytes)

    async def follow(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        tail: int | None = None,
        since_ns: int | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[str]:
        """What a container wrote, as `read`, and then what it writes, until it ends.

        A container that wrote nothing yet is waited for. A reader that is too slow misses what was dropped meanwhile.
        """
        key = (namespace, pod, container)
        log = self._present.setdefault(key, _Log(self._limit))
        blocks, at = log.select(tail, since_ns), log.end
        while True:
            text = "".join(_shown(blocks, timestamps))
            for start in range(0, len(text), PIECE):
                yield text[start : start + PIECE]
            if at == log.end:
                if log.finished:
                    return
                await log.wait()
            blocks, at = log.after(at), log.end


class _Log:
    """Blocks of lines in order of arrival; a block's number is its place since the beginning."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blocks: deque[tuple[int, str]] = deque()
        self._size = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.end = 0
        self.finished = False

    def append(self, time_ns: int, text: str) -> None:
        self._blocks.append((time_ns, text))
        self._size += len(text)
        self.end += 1
        while self._size > self._limit and len(self._blocks) > 1:
            self._size -= len(self._blocks.popleft()[1])
        self._wake()

    def finish(self) -> None:
        self.finished = True
        self._wake()

    def after(self, number: int) -> list[tuple[int, str]]:
        """The blocks from that number on, as far as they are still there."""
        first = self.end - len(self._blocks)
        return list(islice(self._blocks, max(0, number - first), None))

    def select(self, tail: int | None, since_ns: int | None) -> list[tuple[int, str]]:
        blocks = [block for block in self._blocks if since_ns is None or block[0] >= since_ns]
        return blocks if tail is None else _last_lines(blocks, tail)

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        try:
            await future
        finally:
            if future in self._waiters:
                self._waiters.remove(future)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)


def stamped(time_ns: int) -> str:
    """A time as `kubectl logs --timestamps` shows it: RFC 3339 with nine digits."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def cut(text: str, limit_bytes: int | None) -> str:
    """The text's first bytes, whole characters only."""
    if limit_bytes is None or len(text) * 4 <= limit_bytes:
        return text
    return text.encode()[:limit_bytes].decode(errors="ignore")


def _last_lines(blocks: list[tuple[int, str]], count: int) -> list[tuple[int, str]]:
    chosen: list[tuple[int, str]] = []
    for time_ns, text in reversed(blocks):
        if count <= 0:
            break
        lines = text.count("\n")
        if lines > count:
            text = "\n".join(text.split("\n")[-count - 1 :])
        chosen.append((time_ns, text))
        count -= lines
    return chosen[::-1]


def _shown(blocks: list[tuple[int, str]], timestamps: bool) -> Iterator[str]:
    for time_ns, text in blocks:
        if timestamps:
            stamp = stamped(time_ns)
            yield "".join(f"{stamp} {line}\n" for line in text[:-1].split("\n"))
        else:
            yield text
