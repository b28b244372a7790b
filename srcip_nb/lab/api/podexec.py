"""pods/exec: what `kubectl exec` speaks, over a websocket whose messages begin with the number of a channel.

    client -> 0 input · 4 {"Width": 80, "Height": 24} · 255 0 (of v5: the input has ended)
    server -> 1 output · 2 errors · 3 a Status at the end: Success, or the exit code

Sources: kubernetes v1.36.2 apimachinery pkg/util/remotecommand/constants.go, kubelet pkg/cri/streaming/remotecommand
(exec.go, websocket.go), pkg/registry/core/pod/strategy.go (ExecLocation).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from srcip_nb.errors import LabError
from srcip_nb.lab.api import status
from srcip_nb.lab.api.objects import JsonObject
from srcip_nb.lab.api.options import boolean
from srcip_nb.lab.api.podlog_answers import container_of
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.api.streams import OPEN_STREAMS

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


class Running(Protocol):
    """A program that runs: the agent's Stream."""

    @property
    def result(self) -> Any:
        """{"code": ...}, or its error, once it has ended."""

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Yield {"stdout" or "stderr": base64} until the program has ended."""

    async def input(self, data: bytes | None) -> None:
        """Write to its standard input; None ends it."""

    async def resize(self, rows: int, cols: int) -> None:
        """Tell its terminal the size."""

    async def cancel(self) -> None:
        """Kill it, if it still runs, and wait for its end."""


class Runs(Protocol):
    """Who runs programs in pods: the agent."""

    def stream(self, op: str, **arguments: Any) -> Running:
        """Begin."""


async def answer_exec(request: web.Request, store: Store, runs: Runs | None, namespace: str, name: str) -> Any:
    """Run a program in a container, its streams over a websocket, and tell how it ended.

    Raises:
        ApiError: 404 no such pod, 400 the request lacks something or is no websocket's, 500 the container does not run.
    """
    query = request.query
    pod = store.get("pods", namespace, name)
    wants = {stream: boolean(query.get(stream, "")) for stream in ("stdin", "stdout", "stderr", "tty")}
    argv = query.getall("command", [])
    if not argv:
        raise status.bad_request("you must specify a command for the container")
    if not (wants["stdin"] or wants["stdout"] or wants["stderr"]):
        raise status.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    container = container_of(pod, query.get("container", ""))
    if not pod["spec"].get("nodeName"):
        raise status.bad_request(f"pod {name} does not have a host assigned")
    if runs is None or not _is_running(pod, container):
        raise status.internal_error(f'unable to upgrade connection: container not found ("{container}")')
    socket = web.WebSocketResponse(protocols=PROTOCOLS)
    if not socket.can_prepare(request).ok:
        raise status.bad_request("Upgrade request required: exec is spoken over a websocket (kubectl 1.31 and later)")
    await socket.prepare(request)
    running = runs.stream("open", host=f"{namespace}/{name}", container=container, argv=argv, tty=wants["tty"])
    await _carry(request, socket, running, wants)
    return socket


async def _carry(
    request: web.Request, socket: web.WebSocketResponse, running: Running, wants: Mapping[str, bool]
) -> None:
    """Bring bytes both ways until the program ends or the client leaves, which ends the program."""
    writing = asyncio.ensure_future(_write(socket, running, wants))
    reading = asyncio.ensure_future(_read(socket, running, wants["stdin"]))
    request.app[OPEN_STREAMS].add(writing)
    try:
        await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (writing, reading):
            task.cancel()
        await asyncio.gather(writing, reading, return_exceptions=True)
        request.app[OPEN_STREAMS].discard(writing)
        await running.cancel()
        await socket.close()


async def _write(socket: web.WebSocketResponse, running: Running, wants: Mapping[str, bool]) -> None:
    try:
        async for event in running:
            for stream, channel in (("stdout", STDOUT), ("stderr", STDERR)):
                if stream in event and wants[stream]:
                    await socket.send_bytes(bytes([channel]) + base64.b64decode(event[stream]))
        outcome = ended(running.result["code"])
    except LabError as error:
        outcome = status.internal_error(f"error executing command in container: {error.cause}").status
    except ConnectionError:
        return  # the client has left: nobody is there to be told
    await socket.send_bytes(bytes([ERROR]) + json.dumps(outcome).encode())


async def _read(socket: web.WebSocketResponse, running: Running, wants_stdin: bool) -> None:
    """Hand on what the client sends; returns when the client is gone."""
    if not wants_stdin:
        await running.input(None)
    async for message in socket:
        data = message.data.encode() if message.type == WSMsgType.TEXT else message.data
        if not data:
            continue
        channel, rest = data[0], data[1:]
        if channel == STDIN and wants_stdin and rest:
            await running.input(rest)
        elif channel == CLOSE and rest == bytes([STDIN]):
            await running.input(None)
        elif channel == RESIZE:
            await _resize(running, rest)


async def _resize(running: Running, data: bytes) -> None:
    try:
        size = json.loads(data)
        rows, columns = int(size["Height"]), int(size["Width"])
    except (ValueError, KeyError, TypeError):
        return  # as a real server: what is no size changes none
    if 0 < rows < 65536 and 0 < columns < 65536:
        await running.resize(rows, columns)


def ended(code: int) -> JsonObject:
    """The Status that tells how a program ended; minus a signal's number counts as 128 and the signal."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    exit_code = code if code > 0 else 128 - code
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {exit_code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(exit_code)}]},
    }


def _is_running(pod: JsonObject, container: str) -> bool:
    found = pod.get("status") or {}
    statuses = [*(found.get("containerStatuses") or []), *(found.get("initContainerStatuses") or [])]
    return any(s["name"] == container and "running" in (s.get("state") or {}) for s in statuses)
