"""Answers that do not end by themselves: watches and followed logs, and noticing that nobody listens any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

CHECK_EVERY = 5.0
"""Seconds after which an idle stream looks whether its client is still there."""

OPEN_STREAMS = web.AppKey("open_streams", set[asyncio.Task[None]])
"""The tasks that write the streams which are open now."""


class Stream:
    """A chunked answer; as a context manager it is known to the server, which ends it when the server stops.

    Args:
        request: whose answer it is.
        content_type: of the whole.
        headers: more of them.
    """

    def __init__(self, request: web.Request, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        self.request = request
        self.response = web.StreamResponse(headers={"Content-Type": content_type, **(headers or {})})
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Stream:
        self._task = asyncio.current_task()
        if self._task:
            self.request.app[OPEN_STREAMS].add(self._task)
        await self.response.prepare(self.request)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self.request.app[OPEN_STREAMS].discard(self._task)

    @property
    def is_gone(self) -> bool:
        """Whether the client closed the connection."""
        transport = self.request.transport
        return transport is None or transport.is_closing()

    async def write(self, data: bytes) -> None:
        """Send a piece; nothing is sent, and nothing raised, when the client is gone."""
        if data and not self.is_gone:
            try:
                await self.response.write(data)
            except ConnectionError:
                return  # the client left while it was written to: `is_gone` says so from now on

    async def end(self) -> web.StreamResponse:
        """Close the answer properly, if there is still somebody."""
        if not self.is_gone:
            try:
                await self.response.write_eof()
            except ConnectionError:
                return self.response
        return self.response


async def end_streams(app: web.Application) -> None:
    """End every open stream; the server calls this when it stops."""
    open_now = app[OPEN_STREAMS]
    tasks = list(open_now)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
