"""Where requests go: what a target's name means for a Service, as host:port.

(none)       the external address; without one, the node port of the node that stands for it
vip          the external address or nothing
nodeport     the node port of every node, in turn
worker01     the node port of that node
clusterip    the cluster IP
host:port    as it is
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import is_ready
from srcip_nb.errors import UsageError
from srcip_nb.rollout import service_address
from srcip_nb.text import t

if TYPE_CHECKING:
    from srcip_nb.clients import Client
    from srcip_nb.cluster import Cluster


def entry_targets(
    cluster: Cluster, service: dict[str, Any], target: str | None, sender: Client | None = None
) -> tuple[list[str], str]:
    """The host:port, or several, that a target means, and in words why it is another than asked for ("" mostly).

    Where no load balancer gave a Service its address, the node port of one node stands for it:

    - for a client inside the cluster that of its own node: its rules would catch a packet to the external address, and
      treat it as they do one to their own node port (kubernetes v1.36.2, ``pkg/proxy/iptables/proxier.go``);
    - for one outside that of the first node by name that is Ready and runs a ready pod of the Service, as one node
      announces an address in MetalLB's layer 2 mode, so that it answers under both policies; without such a node, that
      of the first Ready one.

    Args:
        cluster: where.
        service: the Service.
        target: as ``visit`` takes it.
        sender: who is to ask; None: somebody outside.

    Raises:
        UsageError: the Service has no such address, or there is no such target.
    """
    nodes = cluster.list("nodes")
    is_pending = service["spec"].get("type") == "LoadBalancer" and not service_address(service)
    if target is not None or not is_pending or not service["spec"]["ports"][0].get("nodePort"):
        return find_targets(service, nodes, target), ""
    own = sender.node if sender else ""
    entry = own or entry_node(nodes, _nodes_with_pod(cluster, service))
    return find_targets(service, nodes, entry or None), t("visit.no_address", node=entry) if entry else ""


def _nodes_with_pod(cluster: Cluster, service: dict[str, Any]) -> set[str]:
    from srcip_nb.observe import endpoints

    found = endpoints(cluster, service["metadata"]["name"])
    return set(found.loc[found["READY"].fillna(False), "NODE"])


def entry_node(nodes: list[dict[str, Any]], with_pod: Collection[str]) -> str:
    """The node whose port stands for an external address: the first Ready one with a pod, else the first Ready one.

    Args:
        nodes: the Nodes.
        with_pod: names of those that run a ready pod of the Service.

    Returns:
        Its name; "" where no node is Ready.
    """
    able = sorted(node["metadata"]["name"] for node in nodes if is_ready(node) and internal_ip(node))
    return next((name for name in able if name in with_pod), able[0] if able else "")


def find_targets(service: dict[str, Any], nodes: list[dict[str, Any]], target: str | None) -> list[str]:
    """The host:port, or several, that a target means.

    Args:
        service: the Service.
        nodes: the Nodes.
        target: as ``visit`` takes it.

    Raises:
        UsageError: the Service has no such address, or there is no such target.
    """
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]
    inside = {node["metadata"]["name"]: internal_ip(node) for node in nodes}
    if target in (None, "vip"):
        address = service_address(service)
        if not address:
            raise UsageError(f"service {name!r} has no external address", "Take its node ports: target='nodeport'")
        return [join(address, port["port"])]
    if target == "clusterip":
        return [join(service["spec"]["clusterIP"], port["port"])]
    if target == "nodeport" or target in inside:
        if not port.get("nodePort"):
            raise UsageError(f"service {name!r} has no node port", "Take its cluster IP: target='clusterip'")
        asked = {target: inside[target]} if target in inside else inside
        return [join(address, port["nodePort"]) for address in asked.values() if address]
    host, colon, number = target.rpartition(":")
    if colon and host and number.isdecimal() and 0 < int(number) < 65536:
        return [target]
    raise UsageError(
        f"no target {target!r}",
        f"Give 'nodeport', 'clusterip', host:port, or a node: {', '.join(sorted(inside))}; or leave it out",
    )


def internal_ip(node: dict[str, Any]) -> str:
    """A node's InternalIP, "" if it has none."""
    found = node.get("status", {}).get("addresses") or []
    return next((entry["address"] for entry in found if entry["type"] == "InternalIP"), "")


def join(address: str, port: int) -> str:
    """host:port, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
