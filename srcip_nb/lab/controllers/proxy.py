"""kube-proxy on every node: what the API says becomes rules in each node's kernel.

    Services, EndpointSlices, Nodes --> ServiceMap --> node by node, side by side:  rules loaded
                                                                                    stale UDP flows forgotten
                                                                                    health checks answered

Changes that come in a burst are taken together, and a node is loaded only if its rules differ. A health check port
opens after the rules are in force and closes after they are gone. A node whose kernel refuses its rules gets a Warning
Event, answers its health checks with 503, and is tried again every second.

`Proxy.in_force` is the resourceVersion of the state that every node holds: who changed a Service waits with
`wait_in_force(resourceVersion)`.

Set `Proxy.mode` while it runs, and every node changes over without losing a request: it has both modes' rules for a
moment, then the old ones go. ConfigMap kube-system/kube-proxy tells the mode, as on a cluster made by kubeadm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import LabError, NotFinishedError, UsageError
from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.loop import all_of
from srcip_nb.lab.controllers.objects import now
from srcip_nb.lab.proxy.calls import CallsAgent, run
from srcip_nb.lab.proxy.conntrack import LIST_UDP, has_udp, stale_flows
from srcip_nb.lab.proxy.health import HEALTHZ_PORT, METRICS_PORT, Answer, mode_answer, proxy_answer, service_answers
from srcip_nb.lab.proxy.iptables import CLUSTER_CIDR
from srcip_nb.lab.proxy.model import Node, ServiceKey
from srcip_nb.lab.proxy.node import MODES, NodeProxy, proxy_of
from srcip_nb.lab.proxy.state import ServiceMap

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store
    from srcip_nb.lab.topology import Topology

BURST = 0.004
"""Seconds in which changes are collected before a sync: a Service and its EndpointSlices arrive apart."""

RETRY_AFTER = 1.0
"""Seconds after which a node that could not be loaded is tried again."""

LOOK_AFTER = 5.0
"""Seconds between two looks whether somebody cleared the tables (kube-proxy's --iptables-sync-period is 30)."""

LOOK_SHARE = 0.02
"""Share of the time that such looks may take: where there are many rules they are further apart."""

COMPONENT = "kube-proxy"

_CONFIGURATION = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
clusterCIDR: {cluster_cidr}
ipvs:
  scheduler: {ipvs_scheduler}
kind: KubeProxyConfiguration
mode: {mode}
"""


@dataclass
class _OnNode:
    """What one node has: the mode at work, and the ports that are open.

    Attributes:
        node: as the rules were written for it.
        mode: name of the mode.
        proxy: the mode at work.
        retired: modes that were at work before, by name, whose rules are still to go.
        answers: open ports and what they answer.
        udp_changed: flows are to be looked through after the next load.
        error: why the last sync failed; "" if it did not.
        synced_at: when it last succeeded.
    """

    node: Node
    mode: str
    proxy: NodeProxy
    retired: dict[str, NodeProxy] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    udp_changed: bool = False
    error: str = ""
    synced_at: str = ""


class Proxy:
    """kube-proxy for all nodes of a lab.

    Args:
        store: the API's objects.
        agent: runs commands on hosts and answers health checks there.
        topology: which hosts are nodes.
        mode: proxy mode, one of `proxy.node.MODES`.
        cluster_cidr: the pods' addresses.
        ipvs_scheduler: how mode ipvs shares connections out.

    Attributes:
        in_force: resourceVersion of the state that every node holds; 0 before the first sync and during a change over.
        on_mode: called with the mode's name when every node has changed over.

    Raises:
        UsageError: there is no such mode.
    """

    def __init__(
        self,
        store: Store,
        agent: CallsAgent,
        topology: Topology,
        mode: str = "iptables",
        cluster_cidr: str = CLUSTER_CIDR,
        ipvs_scheduler: str = "rr",
    ) -> None:
        self.in_force = 0
        self.on_mode: Callable[[str], None] | None = None
        self._store = store
        self._agent = agent
        self._hosts = topology.nodes
        self._cluster_cidr = cluster_cidr
        self._ipvs_scheduler = ipvs_scheduler
        self._services = ServiceMap()
        self._udp: set[ServiceKey] = set()
        self._on_node: dict[str, _OnNode] = {}
        self._told_mode = ""
        self._due = asyncio.Event()
        self._synced = asyncio.Condition()
        self.mode = mode

    @property
    def mode(self) -> str:
        """The proxy mode; set another and every node changes over: the new rules first, then the old ones go."""
        return self._mode

    @mode.setter
    def mode(self, name: str) -> None:
        if name not in MODES:
            raise UsageError(f"there is no proxy mode {name!r}", f"take one of {', '.join(MODES)}")
        self._mode = name
        self.in_force = 0
        self._due.set()

    def status(self) -> dict[str, Any]:
        """Tell mode, resourceVersion in force, and of each node when it was last in order and what is wrong."""
        nodes = {name: {"syncedAt": it.synced_at, "error": it.error} for name, it in self._on_node.items()}
        return {"mode": self._mode, "resourceVersion": self.in_force, "nodes": nodes}

    async def wait_in_force(self, revision: int | str, timeout: float = 10.0) -> None:
        """Return when every node holds the rules for a resourceVersion or a later one.

        Raises:
            NotFinishedError: that was not so in time; the message holds the nodes that failed.
        """
        async with self._synced:
            try:
                await asyncio.wait_for(self._synced.wait_for(lambda: self.in_force >= int(revision)), timeout)
            except asyncio.TimeoutError:
                errors = "; ".join(f"{name}: {it.error}" for name, it in self._on_node.items() if it.error)
                raise NotFinishedError(
                    f"after {timeout:g} s the rules for resourceVersion {revision} are not in force on every node"
                    f" ({errors or f'they are at {self.in_force}'})"
                ) from None

    async def run(self) -> None:
        """Keep the rules right until cancelled."""
        changes = self._store.changes("services", "endpointslices", "nodes")

        async def notice() -> None:
            while True:
                await changes.wait()
                self._due.set()

        try:
            await all_of(notice(), self._work(), self._look_after())
        finally:
            changes.close()

    async def _work(self) -> None:
        while True:
            self._due.clear()
            await self.sync()
            failing = any(it.error for it in self._on_node.values())
            try:
                await asyncio.wait_for(self._due.wait(), RETRY_AFTER if failing else None)
            except asyncio.TimeoutError:
                continue
            await asyncio.sleep(BURST)

    async def _look_after(self) -> None:
        took = 0.0
        while True:
            await asyncio.sleep(max(LOOK_AFTER, took / LOOK_SHARE))
            begun = time.monotonic()
            for it in list(self._on_node.values()):
                if not it.error and not await it.proxy.is_whole():
                    self._due.set()
            took = time.monotonic() - begun

    async def sync(self) -> None:
        """Bring every node to the state that the API has now; one that fails does not hold up the others."""
        revision, mode = self._store.revision, self._mode
        changed = self._services.update_from(self._store.list("services"), self._store.list("endpointslices"))
        udp = {key for key in changed if key in self._services and has_udp(self._services[key])}
        udp_changed = bool(udp or changed & self._udp)
        self._udp = (self._udp - changed) | udp
        await asyncio.gather(*(self._sync_node(host.name, host.address, mode, udp_changed) for host in self._hosts))
        if mode == self._mode and not any(it.error for it in self._on_node.values()):
            self._tell_mode(mode)
            async with self._synced:
                self.in_force = revision
                self._synced.notify_all()

    def _tell_mode(self, mode: str) -> None:
        """Once for each mode that all nodes have, write the ConfigMap and call whoever wants to know."""
        if mode == self._told_mode or not self._store.peek("namespaces", "", "kube-system"):
            return
        self._told_mode = mode
        config = kube_proxy_configmap(mode, self._cluster_cidr, self._ipvs_scheduler)
        if self._store.peek("configmaps", "kube-system", COMPONENT):
            self._store.update("configmaps", config)
        else:
            self._store.create("configmaps", config)
        if self.on_mode:
            self.on_mode(mode)

    async def _sync_node(self, name: str, address: str, mode: str, udp_changed: bool) -> None:
        obj = self._store.peek("nodes", "", name)
        node = Node.from_object(obj) if obj else Node(name, address)
        it = self._on_node.get(name)
        if it is None:
            it = self._on_node[name] = _OnNode(node, mode, self._proxy_of(mode, node))
            if obj:
                record(self._store, obj, "Starting", "", component=COMPONENT, host=name)
        elif it.mode != mode:
            before = it.retired[it.mode] = it.proxy
            # Back to a mode whose rules have not gone yet: they must not go now, and are known still, unless the mode
            # between may have touched the tables they are in.
            known = it.retired.pop(mode, None)
            is_untouched = known is not None and not (known.uses_iptables and before.uses_iptables)
            it.proxy = known if known is not None and is_untouched else self._proxy_of(mode, node)
            it.mode = mode
        it.node = it.proxy.node = node
        it.udp_changed |= udp_changed
        try:
            loaded = await it.proxy.sync(self._services)
            for retired in list(it.retired):
                await it.retired[retired].remove(keep_iptables=it.proxy.uses_iptables)
                del it.retired[retired]
            if it.udp_changed:
                await self._forget_stale_flows(name)
                it.udp_changed = False
            if loaded or it.error or not it.synced_at:
                it.synced_at = now()
            it.error = ""
        except LabError as error:
            it.error = error.cause
            if obj:
                record(self._store, obj, "SyncProxyRulesFailed", error.cause, "Warning", component=COMPONENT, host=name)
        await self._answer(it)

    def _proxy_of(self, mode: str, node: Node) -> NodeProxy:
        return proxy_of(mode, self._agent, node, self._cluster_cidr, self._ipvs_scheduler)

    async def _forget_stale_flows(self, host: str) -> None:
        for flow in stale_flows(await run(self._agent, host, LIST_UDP), self._services):
            # A flow that ended in the meantime makes conntrack fail: it is gone, which is what was wanted.
            await self._agent.call("exec", host=host, argv=flow.delete_command(), timeout=RETRY_AFTER)

    async def _answer(self, it: _OnNode) -> None:
        is_healthy = not it.error
        wanted = service_answers(self._services, it.node, is_healthy)
        wanted[HEALTHZ_PORT] = proxy_answer(it.synced_at or now(), is_healthy)
        wanted[METRICS_PORT] = mode_answer(it.mode)
        for port in it.answers.keys() - wanted.keys() if is_healthy else ():
            await self._agent.call("health", host=it.node.name, port=port, status=None)
            del it.answers[port]
        for port, answer in wanted.items():
            may_open = is_healthy or port in it.answers
            if may_open and it.answers.get(port) != answer:
                await self._open(it, port, answer)

    async def _open(self, it: _OnNode, port: int, answer: Answer) -> None:
        name = it.node.name
        try:
            await self._agent.call("health", host=name, port=port, **answer._asdict())
        except LabError as error:
            self._tell_not_opened(name, port, error)
        else:
            it.answers[port] = answer

    def _tell_not_opened(self, node: str, port: int, error: LabError) -> None:
        """Say at the Service, or at the node for the proxy's own ports, that a port could not be opened."""
        for key, entry in self._services.items():
            if any(service_port.health_check_node_port == port for service_port, _ in entry):
                message = f'node {node} failed to start healthcheck "{key[0]}/{key[1]}" on port {port}: {error.cause}'
                service = self._store.peek("services", *key)
                if service:
                    reason = "FailedToStartServiceHealthcheck"
                    record(self._store, service, reason, message, "Warning", component=COMPONENT, host=node)
                return
        obj = self._store.peek("nodes", "", node)
        if obj:
            message = f"port {port} cannot be opened: {error.cause}"
            record(
                self._store, obj, "FailedToStartProxyHealthcheck", message, "Warning", component=COMPONENT, host=node
            )


def kube_proxy_configmap(mode: str, cluster_cidr: str = CLUSTER_CIDR, ipvs_scheduler: str = "rr") -> dict[str, Any]:
    """Write the ConfigMap in which kubeadm keeps kube-proxy's configuration: data key config.conf, field mode."""
    text = _CONFIGURATION.format(mode=mode, cluster_cidr=cluster_cidr, ipvs_scheduler=ipvs_scheduler)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": COMPONENT, "namespace": "kube-system", "labels": {"app": COMPONENT}},
        "data": {"config.conf": text},
    }
