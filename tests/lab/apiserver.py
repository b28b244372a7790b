"""An API server in a thread of its own, for tests that speak to it over HTTP as any client does."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.api.server import make_app
from srcip_nb.lab.api.store import Store

TOKEN = "token-of-the-test"
T = TypeVar("T")


class Answer(NamedTuple):
    status: int
    content_type: str
    body: Any
    headers: http.client.HTTPMessage

    @property
    def lines(self) -> list[Any]:
        """A watch's answer, event by event."""
        return [json.loads(line) for line in self.body.splitlines()]


class ApiServer:
    def __init__(self, store: Store, logs: PodLogs, port: int, loop: asyncio.AbstractEventLoop, scheme: str) -> None:
        self.store, self.logs, self.port, self.loop = store, logs, port, loop
        self.url = f"{scheme}://127.0.0.1:{port}"

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run something on the server's thread, where the store lives."""

        async def run() -> T:
            return function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = "application/json",
        accept: str | None = "application/json",
        token: str | None = TOKEN,
        agent: str = "test/1",
    ) -> Answer:
        headers = {"User-Agent": agent}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if accept:
            headers["Accept"] = accept
        if body is not None and content_type:
            headers["Content-Type"] = content_type
        data = body if isinstance(body, (bytes, type(None))) else body if isinstance(body, str) else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, data.encode() if isinstance(data, str) else data, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        kind = response.headers["Content-Type"]
        is_json = kind.startswith("application/json") and "watch=" not in urlsplit(path).query
        return Answer(response.status, kind, json.loads(text) if is_json and text else text, response.headers)


@contextmanager
def api_server(store: Store | None = None, tls: ssl.SSLContext | None = None, **options: Any) -> Iterator[ApiServer]:
    """A server on a free port of 127.0.0.1, with the namespace default."""
    store, logs, loop = store or Store(), PodLogs(), asyncio.new_event_loop()
    started: dict[str, Any] = {}

    async def start() -> None:
        if store.peek("namespaces", "", "default") is None:
            store.create("namespaces", {"metadata": {"name": "default"}})
        runner = web.AppRunner(make_app(store, TOKEN, logs, **options), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        started["runner"], started["port"] = runner, runner.addresses[0][1]

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        yield ApiServer(store, logs, started["port"], loop, "https" if tls else "http")
    finally:
        if "runner" in started:
            asyncio.run_coroutine_threadsafe(started["runner"].cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
