"""All controllers of a lab, started together."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.controllers.deployment import DeploymentController
from srcip_nb.lab.controllers.endpoints import EndpointsController, create_kubernetes_service
from srcip_nb.lab.controllers.events import forget_old_events
from srcip_nb.lab.controllers.garbage import GarbageCollector
from srcip_nb.lab.controllers.kubelet import Kubelet
from srcip_nb.lab.controllers.loop import Controller, keep_all_running
from srcip_nb.lab.controllers.namespace import NamespaceController, create_first_namespaces
from srcip_nb.lab.controllers.node import Machine, NodeController, create_nodes
from srcip_nb.lab.controllers.replicaset import ReplicaSetController
from srcip_nb.lab.controllers.scheduler import Scheduler
from srcip_nb.lab.topology import SERVICE_CIDR, Topology

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store
    from srcip_nb.lab.controllers.podnetwork import PodNetwork
    from srcip_nb.lab.controllers.proxy import Proxy
    from srcip_nb.lab.kernel import Agent

Part = tuple[str, Callable[[], Awaitable[None]]]


async def run_controllers(
    store: Store,
    agent: Agent,
    topology: Topology,
    podlogs: PodLogs,
    proxy: Proxy,
    pod_network: PodNetwork,
    *,
    ca_pem: str = "",
) -> None:
    """Fill the store with what every cluster holds, then run every controller until cancelled.

    A controller that breaks is told of on standard error, with its traceback, and started again after a second; the
    others go on.

    Args:
        store: the objects.
        agent: the kernel's part.
        topology: the hosts, already built.
        podlogs: where the containers' lines go.
        proxy: kube-proxy, not yet running.
        pod_network: its agents, whose rules are loaded.
        ca_pem: the API's certificate, for kube-root-ca.crt.
    """
    from srcip_nb.lab.controllers.loadbalancer import run_loadbalancer

    fill(store, topology, kernel=str(agent.ready.get("kernel", "")))
    parts = [
        *object_controllers(store, topology, ca_pem=ca_pem),
        ("kubelet", Kubelet(store, agent, topology, podlogs).run),
        ("kube-proxy", proxy.run),
        ("pod network", pod_network.run),
        ("load balancer", lambda: run_loadbalancer(store, agent, topology)),
    ]
    await keep_all_running(parts)


def fill(store: Store, topology: Topology, *, kernel: str = "") -> None:
    """Create the namespaces, the nodes and the Service `kubernetes`, where they are missing."""
    create_first_namespaces(store)
    create_nodes(store, topology, Machine(kernel))
    control_plane = next(host for host in topology.nodes if host.role == "control-plane")
    create_kubernetes_service(store, str(ipaddress.ip_network(SERVICE_CIDR)[1]), control_plane.address)


def object_controllers(store: Store, topology: Topology, *, ca_pem: str = "") -> list[Part]:
    """The controllers that need no kernel, as (name, start)."""
    controllers: list[Controller[Any]] = [
        NamespaceController(store, ca_pem),
        GarbageCollector(store),
        DeploymentController(store),
        ReplicaSetController(store),
        Scheduler(store),
        NodeController(store, topology),
        EndpointsController(store),
    ]
    return [*((c.name, c.run) for c in controllers), ("event keeper", lambda: forget_old_events(store))]
