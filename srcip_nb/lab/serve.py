"""The parts of a lab put together: store, API over TLS, controllers, and the lab's own routes, over one agent."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import trustme
from aiohttp import web

from srcip_nb.errors import UsageError
from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.api.server import make_app
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.console import Console
from srcip_nb.lab.controllers import run_controllers
from srcip_nb.lab.controllers.podnetwork import PodNetwork
from srcip_nb.lab.controllers.proxy import Proxy
from srcip_nb.lab.kernel import Agent
from srcip_nb.lab.spec import LabSpec
from srcip_nb.lab.topology import Topology, topology, topology_text


class Served:
    """A lab that answers: where, with which certificate and token."""

    def __init__(self, url: str, ca_pem: bytes, token: str, store: Store, topology: Topology, proxy: Proxy) -> None:
        self.url = url
        self.ca_pem = ca_pem
        self.token = token
        self.store = store
        self.topology = topology
        self.proxy = proxy

    async def nodes_ready(self) -> None:
        """Return when every node of the topology is Ready."""
        waiting = {host.name for host in self.topology.nodes}
        async for _, node in self.store.watch("nodes"):
            conditions = node.get("status", {}).get("conditions", [])
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                waiting.discard(node["metadata"]["name"])
            if not waiting:
                return


@contextlib.asynccontextmanager
async def serve(spec: LabSpec, agent: Agent) -> AsyncIterator[Served]:
    """Build the network, start API and controllers, and stop them at the end.

    Raises:
        UsageError: the port asked for is taken.
    """
    hosts = topology(spec.workers, spec.clients, spec.cni, spec.announce)
    await agent.call("configure", text=topology_text(hosts))
    pod_network = PodNetwork(agent, hosts)
    await pod_network.load()
    store, podlogs, token = Store(), PodLogs(), secrets.token_urlsafe(32)

    proxy = Proxy(store, agent, hosts, spec.proxy_mode, ipvs_scheduler=spec.ipvs_scheduler)

    def info() -> dict[str, Any]:
        state = {"proxy_mode": proxy.mode, "kernel": agent.ready, "runs_on": agent.kernel, "agentPid": agent.pid}
        return {**spec.to_dict(), **state}

    app = make_app(store, token, podlogs, runs=agent)
    Console(agent, store, hosts, proxy, info).add_routes(app)
    authority = trustme.CA(organization_name="srcip-nb lab")
    listening = _listen(spec.port)
    url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    controllers = asyncio.ensure_future(
        run_controllers(store, agent, hosts, podlogs, proxy, pod_network, ca_pem=authority.cert_pem.bytes().decode())
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, listening, ssl_context=_tls(authority)).start()
        yield Served(url, authority.cert_pem.bytes(), token, store, hosts, proxy)
    finally:
        controllers.cancel()
        await asyncio.gather(controllers, return_exceptions=True)
        await runner.cleanup()


def _listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1 and nowhere else."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UsageError(
            f"port {port} on 127.0.0.1 is taken ({error.strerror})", "Choose another, or leave --port out."
        ) from error


def _tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context
