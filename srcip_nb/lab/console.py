"""The routes that Kubernetes has no word for: hosts, commands in them, requests that start there.

    GET  /lab/v1          settings and state
    GET  /lab/v1/hosts    names a learner can type
    GET  /lab/v1/stats    memory and processes
    POST /lab/v1/exec     a command, its end awaited
    GET  /lab/v1/open     a command with its streams, over a websocket
    POST /lab/v1/visit    requests from a host; one JSON line for each batch that ended
    POST /lab/v1/trace    one request from a host, and what the nodes' kernels said about it
    GET  /lab/v1/proxy-mode    kube-proxy's mode, and how each node stands
    POST /lab/v1/proxy-mode    {"mode": ...}: change over, every node awaited

A websocket message is one byte for the stream (``streams.py``) and then its bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from srcip_nb.errors import LabError, NotFinishedError
from srcip_nb.lab.api.status import ApiError, bad_request, internal_error, not_found
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.controllers.proxy import Proxy
from srcip_nb.lab.kernel import Agent, AgentError
from srcip_nb.lab.spec import PROXY_MODES
from srcip_nb.lab.streams import EXIT, RESIZE, SIGNAL, STDERR, STDIN, STDOUT
from srcip_nb.lab.topology import Topology
from srcip_nb.lab.tracing import Tracer

CHANGE_OVER_WITHIN = 60.0
"""Seconds for all nodes to take another proxy mode's rules; a User Mode Linux on a busy machine needs a good part."""

NO_EXIT_CODE = 255  # the command did not come to an end of its own; ssh(1) tells it so


class Console:
    """The lab's own routes, over one agent."""

    def __init__(
        self, agent: Agent, store: Store, topology: Topology, proxy: Proxy, info: Callable[[], dict[str, Any]]
    ) -> None:
        self.agent = agent
        self.store = store
        self.topology = topology
        self.proxy = proxy
        self.info = info
        self.tracer = Tracer(agent, [node.name for node in topology.nodes])

    def add_routes(self, app: web.Application) -> None:
        """Put the routes into the API's application, behind its token."""
        app.router.add_get("/lab/v1", self._info)
        app.router.add_get("/lab/v1/hosts", self._hosts)
        app.router.add_get("/lab/v1/stats", self._stats)
        app.router.add_post("/lab/v1/exec", self._exec)
        app.router.add_get("/lab/v1/open", self._open)
        app.router.add_post("/lab/v1/visit", self._visit)
        app.router.add_post("/lab/v1/trace", self._trace)
        app.router.add_get("/lab/v1/proxy-mode", self._proxy_status)
        app.router.add_post("/lab/v1/proxy-mode", self._set_proxy_mode)

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(self.info())

    async def _hosts(self, request: web.Request) -> web.Response:
        hosts = [{"name": h.name, "role": h.role, "address": h.address} for h in self.topology.hosts]
        return web.json_response({"hosts": hosts})

    async def _stats(self, request: web.Request) -> web.Response:
        stats = await self.agent.call("stats")
        helpers = _children()  # the janitor, and who waits for the agent
        own = [_resident_kb(pid) for pid in ("self", *helpers)]
        return web.json_response(
            {
                **stats,
                "rss_kb": stats["rss_kb"] + sum(rss for rss, _ in own),
                "pss_kb": stats["pss_kb"] + sum(pss for _, pss in own),
                "supervisor_rss_kb": own[0][0],
                "processes": stats["processes"] + len(own),
            }
        )

    async def _exec(self, request: web.Request) -> web.Response:
        asked = await request.json()
        host = self.find_host(asked.get("host", ""))
        try:
            result = await self.agent.call(
                "exec",
                host=host,
                argv=_argv(asked.get("argv")),
                stdin=asked.get("stdin"),
                timeout=float(asked.get("timeout") or 60),
            )
        except AgentError as error:
            if error.code is None:
                raise bad_request(error.cause) from error
            result = {"code": error.code, "stdout": "", "stderr": f"{error.cause}\n"}
        return web.json_response({key: result[key] for key in ("code", "stdout", "stderr")})

    async def _visit(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        host = self.find_host(asked.get("host", ""))
        stream = self.agent.stream(
            "visit",
            host=host,
            requests=asked.get("requests", []),
            concurrency=int(asked.get("concurrency") or 1),
            timeout=float(asked.get("timeout") or 2),
            rate=asked.get("rate"),
        )
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            async for event in stream:
                await response.write(json.dumps(event).encode() + b"\n")
        except AgentError as error:
            await response.write(json.dumps({"error": error.cause}).encode() + b"\n")
        await response.write_eof()
        return response

    async def _trace(self, request: web.Request) -> web.Response:
        asked = await request.json()
        host = self.find_host(asked.get("host", ""))
        try:
            # Shielded: it cleans up after itself even if whoever asked is gone by then.
            return web.json_response(await asyncio.shield(self.tracer.trace(host, asked.get("url", ""))))
        except LabError as error:
            raise internal_error(f"{error.cause}. {error.remedy}".strip()) from error

    async def _proxy_status(self, request: web.Request) -> web.Response:
        return web.json_response(self.proxy.status())

    async def _set_proxy_mode(self, request: web.Request) -> web.Response:
        asked = (await request.json()).get("mode")
        before = self.proxy.mode
        if asked not in PROXY_MODES:
            raise bad_request(f"there is no proxy mode {asked!r}; take one of {', '.join(PROXY_MODES)}")
        if asked != before:
            self.proxy.mode = asked
        try:
            await self.proxy.wait_in_force(1, CHANGE_OVER_WITHIN)  # a change over begins at 0
        except NotFinishedError as error:
            # A kernel or machine that cannot do it keeps what it had: the old rules are there until the new ones are.
            self.proxy.mode = before
            raise internal_error(f"the proxy mode is still {before}: {error.cause}") from error
        return web.json_response(self.proxy.status())

    async def _open(self, request: web.Request) -> web.WebSocketResponse:
        host = self.find_host(request.query.get("host", ""))
        argv = _argv(json.loads(request.query.get("argv", "[]")))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        stream = self.agent.stream("open", host=host, argv=argv, tty=bool(request.query.get("tty")))
        reader = asyncio.ensure_future(self._forward_input(socket, stream.id))
        try:
            async for event in stream:
                for key, channel in (("stdout", STDOUT), ("stderr", STDERR)):
                    if key in event:
                        await socket.send_bytes(bytes([channel]) + base64.b64decode(event[key]))
            code = stream.result["code"]
            await socket.send_bytes(bytes([EXIT]) + str(code).encode())
        except AgentError as error:
            await socket.send_bytes(bytes([STDERR]) + f"{error.cause}\n".encode())
            await socket.send_bytes(bytes([EXIT]) + str(error.code or NO_EXIT_CODE).encode())
        finally:
            reader.cancel()
            await socket.close()
        return socket

    async def _forward_input(self, socket: web.WebSocketResponse, command: int) -> None:
        async for message in socket:
            if message.type != WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == STDIN:
                await self.agent.call("input", to=command, data=base64.b64encode(data).decode() if data else None)
            elif channel == RESIZE:
                size = json.loads(data)
                await self.agent.call("resize", to=command, rows=size["rows"], cols=size["cols"])
            elif channel == SIGNAL:
                await self.agent.call("signal", to=command, signal=data.decode())
        # The other end is gone: a command that nobody can see any more must not stay.
        await self.agent.call("signal", to=command, signal="KILL")

    def find_host(self, name: str) -> str:
        """The agent's name of a host or pod: a host as it is, a pod as NAMESPACE/POD.

        Raises:
            ApiError: 404 with the names there are; 400 when a pod's name stands in several namespaces.
        """
        if name in {host.name for host in self.topology.hosts}:
            return name
        pods = [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in self.store.list("pods")]
        if name in pods:
            return name
        matching = [pod for pod in pods if pod.split("/")[1] == name]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise bad_request(f"{name} is a pod in several namespaces: {', '.join(matching)}")
        known = ", ".join([host.name for host in self.topology.hosts] + pods)
        error = not_found("hosts", name)
        raise ApiError({**error.status, "message": f"the lab has no host or pod {name!r}; there are: {known}"})


def _argv(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise bad_request("no command: give a program and its arguments, for example: -- ip address")
    return value


def _children() -> list[str]:
    """Pids of this process's children (/proc/PID/task/TID/children, proc(5)); [] where the kernel does not tell."""
    lists = [task / "children" for task in Path("/proc/self/task").iterdir()]
    return [pid for file in lists if file.exists() for pid in file.read_text().split()]


def _resident_kb(pid: str) -> tuple[int, int]:
    """Resident memory of a process in KiB: all of it, and with shared pages shared out (smaps_rollup, proc(5))."""
    try:
        lines = Path("/proc", pid, "smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # it has just ended
        return 0, 0
    sizes = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines)}
    return sizes["Rss"], sizes["Pss"]
