"""What a node owns, network by network: the part of the address book that knows how pod networks speak.

    who says so                                    what it says of a node
      Node.status.addresses                          its own addresses (a cloud's CCM lists each network card's)
      annotations projectcalico.org/…                Calico's tunnels: VXLAN, IP-in-IP, WireGuard; none by plain BGP
      annotations flannel.alpha.coreos.com/…         which backend: its tunnel has the pod range's first address
      CiliumNode.spec                                Cilium's router (cilium_host), health endpoint, ingress
      annotations k3s.io/…                           k3s: internal and external addresses
      nobody                                         by custom: the second address of the pod range, the pods' gateway

In clouds whose pods have addresses of the cloud's own network (AWS VPC CNI, Azure CNI) nodes have no pod range, or none
that they own an address of. There the pods' own addresses are all that the API tells: secondary addresses of network
cards that no pod has are in no object, and stay unknown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, NamedTuple

from srcip_nb.text import t

# Annotations in which a pod network writes a node's own addresses in it. Calico: libcalico-go
# lib/backend/k8s/resources/node.go; Cilium (only with annotate-k8s-node): pkg/annotation/k8s.go.
# The values are keys of ``text``: what is said of such an address.
TUNNEL_ANNOTATIONS = {
    "projectcalico.org/IPv4VXLANTunnelAddr": "book.vxlan",
    "projectcalico.org/IPv6VXLANTunnelAddr": "book.vxlan",
    "projectcalico.org/IPv4IPIPTunnelAddr": "book.ipip",
    "projectcalico.org/IPv4WireguardInterfaceAddr": "book.wireguard",
    "projectcalico.org/IPv6WireguardInterfaceAddr": "book.wireguard",
    "network.cilium.io/ipv4-cilium-host": "book.cilium",
    "network.cilium.io/ipv6-cilium-host": "book.cilium",
    "network.cilium.io/ipv4-health-ip": "book.cilium_health",
    "network.cilium.io/ipv6-health-ip": "book.cilium_health",
    "network.cilium.io/ipv4-Ingress-ip": "book.cilium_ingress",
    "io.cilium.network.ipv4-cilium-host": "book.cilium",
    "io.cilium.network.ipv4-health-ip": "book.cilium_health",
}
# A node's own addresses as its network or distribution uses them. Flannel: pkg/subnet/kube/annotations.go; k3s:
# pkg/cloudprovider/instances.go (several are separated by commas).
NODE_ANNOTATIONS = {
    "projectcalico.org/IPv4Address": "book.calico",
    "projectcalico.org/IPv6Address": "book.calico",
    "flannel.alpha.coreos.com/public-ip": "book.flannel",
    "flannel.alpha.coreos.com/public-ip-overwrite": "book.flannel",
    "flannel.alpha.coreos.com/public-ipv6": "book.flannel",
    "k3s.io/internal-ip": "book.k3s",
    "k3s.io/external-ip": "book.k3s",
}
FLANNEL_BACKEND = "flannel.alpha.coreos.com/backend-type"

FLANNEL_TUNNELS = {"vxlan", "wireguard", "ipip", "udp"}
"""Backends whose device has the first address of the node's pod range (flannel pkg/backend/*: subnet lease's IP)."""

_SPEAK_FOR_THEMSELVES = ("projectcalico.org/", "network.cilium.io/", "io.cilium.network.")

# Pods' names and Node labels by which networks are known that write nothing into Nodes.
_KINDNET_POD = "kindnet-"
_CILIUM_PODS = {"k8s-app": "cilium"}
_AZURE_OVERLAY = "kubernetes.azure.com/azure-cni-overlay"

_NO_TUNNEL_CLOUDS = ("aws://", "azure://", "gce://", "kind://")
"""Schemes of spec.providerID whose own pod networks have no tunnel device with an address of the pod range."""


class Entry(NamedTuple):
    """One line of the book: the address, what it is, who has it, on which node, and how that is known."""

    address: str
    kind: str
    owner: str
    node: str
    reason: str


def node_entries(nodes: list[dict[str, Any]]) -> list[Entry]:
    """What nodes are known to own: their addresses in the API, then what their pod network wrote into annotations."""
    own, annotated = [], []
    for node in nodes:
        name = node["metadata"]["name"]
        for entry in node.get("status", {}).get("addresses") or []:
            if entry["type"] in {"InternalIP", "ExternalIP"}:
                own.append(Entry(entry["address"], "node", name, name, t("book.node", node=name, type=entry["type"])))
        annotations = node["metadata"].get("annotations") or {}
        for kind, reasons in (("node", NODE_ANNOTATIONS), ("pod-network", TUNNEL_ANNOTATIONS)):
            for key, reason in reasons.items():
                for address in annotations.get(key, "").split(","):
                    annotated.append(Entry(address.split("/")[0].strip(), kind, name, name, t(reason, node=name)))
    return own + annotated


def cilium_entries(cilium_nodes: list[dict[str, Any]]) -> list[Entry]:
    """What CiliumNode objects say of nodes (cilium pkg/k8s/apis/cilium.io/v2/types.go, NodeSpec)."""
    entries = []
    for item in cilium_nodes:
        name, spec = item["metadata"]["name"], item.get("spec") or {}
        for entry in spec.get("addresses") or []:
            if entry.get("type") == "CiliumInternalIP":
                entries.append(Entry(entry.get("ip", ""), "pod-network", name, name, t("book.cilium", node=name)))
            elif entry.get("type") in {"InternalIP", "ExternalIP"}:
                reason = t("book.node", node=name, type=entry["type"])
                entries.append(Entry(entry.get("ip", ""), "node", name, name, reason))
        for part, key in (("health", "book.cilium_health"), ("ingress", "book.cilium_ingress")):
            for address in (spec.get(part) or {}).values():
                entries.append(Entry(str(address), "pod-network", name, name, t(key, node=name)))
    return entries


def range_entries(nodes: list[dict[str, Any]], pods: list[dict[str, Any]] | None = None) -> list[Entry]:
    """Ends of nodes' pod ranges: the first address for a tunnel, the second for the pods' gateway, on the node itself.

    Flannel's backend says whether there is a tunnel. Networks that say what they use (Calico, Cilium), and those that
    are known to own no such address (Azure's), are left out. Where nobody says anything it is a custom, and since that
    is less than a fact, these entries come last in a book.

    Args:
        nodes: the Nodes.
        pods: of all namespaces, by which kindnet and Cilium are known.
    """
    names = [pod["metadata"].get("name", "") for pod in pods or []]
    labels = [pod["metadata"].get("labels") or {} for pod in pods or []]
    is_kindnet = any(name.startswith(_KINDNET_POD) for name in names)
    is_cilium = any(_CILIUM_PODS.items() <= found.items() for found in labels)
    entries = []
    for node in [] if is_cilium else nodes:
        name = node["metadata"]["name"]
        has_tunnel, has_gateway = _ends(node, is_kindnet)
        for network in _ranges(node):
            if has_tunnel:
                reason = t("book.first", node=name, range=network)
                entries.append(Entry(str(network[0]), "pod-network", name, name, reason))
            if has_gateway:
                reason = t("book.second", node=name, range=network)
                entries.append(Entry(str(network[1]), "pod-network", name, name, reason))
    return entries


def _ends(node: dict[str, Any], is_kindnet: bool) -> tuple[bool, bool]:
    """Whether a node owns the first and the second address of its pod range."""
    annotations = node["metadata"].get("annotations") or {}
    if any(key.startswith(_SPEAK_FOR_THEMSELVES) for key in annotations):
        return False, False
    if FLANNEL_BACKEND in annotations:
        return annotations[FLANNEL_BACKEND] in FLANNEL_TUNNELS, True
    if (node["metadata"].get("labels") or {}).get(_AZURE_OVERLAY) == "true":
        return False, False
    provider = (node.get("spec") or {}).get("providerID") or ""
    return not is_kindnet and not provider.startswith(_NO_TUNNEL_CLOUDS), True


def _ranges(node: dict[str, Any]) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    spec = node.get("spec") or {}
    for text in spec.get("podCIDRs") or [spec.get("podCIDR")]:
        try:
            network = ipaddress.ip_network(text or "", strict=False)
        except ValueError:
            continue
        if network.num_addresses >= 4:
            yield network
