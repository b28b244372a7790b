"""What a proxy decides before any rule is written: the same for every proxy mode.

Three steps, all pure, each in the words of kube-proxy (kubernetes v1.36.2 pkg/proxy):

    Service        -> ServicePort   one for each port: addresses, node port, policies     (serviceport.go)
    EndpointSlices -> Endpoint      for each port, sorted by "IP:port" as text             (endpointslicecache.go)
    both + a Node  -> Plan          which endpoints this node may use, and for what        (topology.go)

A mode (iptables.py) only writes a Plan down. IPv4 only: the lab has no IPv6 addresses.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service it belongs to."""

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
"""Services and EndpointSlices with this label are left to another proxy (cmd/kube-proxy/app/server.go)."""

HEADLESS_LABEL = "service.kubernetes.io/headless"
"""EndpointSlices of headless Services carry this label; kube-proxy does not watch them."""

ZONE_LABEL = "topology.kubernetes.io/zone"

DEFAULT_AFFINITY_SECONDS = 10800
"""sessionAffinityConfig.clientIP.timeoutSeconds when a manifest leaves it out: three hours."""

ServiceKey = tuple[str, str]
"""(namespace, name) of a Service."""


@dataclass(frozen=True)
class Node:
    """The node that the rules are for.

    Attributes:
        name: metadata.name.
        address: its first InternalIP (else ExternalIP, else 127.0.0.1, as kube-proxy takes it).
        zone: label topology.kubernetes.io/zone, "" without one.
    """

    name: str
    address: str
    zone: str = ""

    @classmethod
    def from_object(cls, node: Mapping[str, Any]) -> Node:
        """Read a Node object."""
        labels = node["metadata"].get("labels") or {}
        addresses = (node.get("status") or {}).get("addresses") or []
        by_type: dict[str, str] = {}
        for entry in addresses:
            by_type.setdefault(entry["type"], entry["address"])
        address = by_type.get("InternalIP") or by_type.get("ExternalIP") or "127.0.0.1"
        return cls(node["metadata"]["name"], address, labels.get(ZONE_LABEL, ""))

    @classmethod
    def among(cls, nodes: Iterable[Mapping[str, Any]], name: str) -> Node:
        """Find one by name; a node that is not there is taken to have the address 127.0.0.1, as kube-proxy does."""
        known = {node["metadata"]["name"]: cls.from_object(node) for node in nodes}
        return known.get(name) or cls(name, "127.0.0.1")


class Endpoint(NamedTuple):
    """One address and port that may answer for a service port.

    Attributes:
        ip: the pod's (or host's) address.
        port: the target port, a number: named target ports are resolved in the EndpointSlice.
        node_name: where it runs; "" if the slice does not say.
        ready: may get traffic. True also for a Service with publishNotReadyAddresses.
        serving: ready, whether or not it is being deleted.
        terminating: its pod is being deleted.
        zone_hints, node_hints: hints.forZones and hints.forNodes (trafficDistribution).
    """

    ip: str
    port: int
    node_name: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone_hints: frozenset[str] = frozenset()
    node_hints: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """Write "IP:port", the form that rules, comments and chain names are made of."""
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True)
class ServicePort:
    """One port of one Service, as far as traffic is concerned.

    Attributes:
        namespace, service, name: whose port; name "" for the only port of a Service.
        protocol: "tcp", "udp" or "sctp".
        cluster_ip, port, node_port: where it listens; node_port 0 for none.
        external_ips: spec.externalIPs.
        load_balancer_vips: addresses of status.loadBalancer with ipMode VIP (or none given); ipMode Proxy is left out.
        source_ranges: spec.loadBalancerSourceRanges, masked; empty when one of them means everybody.
        affinity_seconds: sessionAffinity ClientIP: its timeout; None without affinity.
        health_check_node_port: of a LoadBalancer Service with externalTrafficPolicy Local, else 0.
        external_policy_local, internal_policy_local: is the policy Local?
    """

    namespace: str
    service: str
    name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_vips: tuple[str, ...] = ()
    source_ranges: tuple[ipaddress.IPv4Network, ...] = ()
    affinity_seconds: int | None = None
    health_check_node_port: int = 0
    external_policy_local: bool = False
    internal_policy_local: bool = False

    @property
    def full_name(self) -> str:
        """Its name in comments and in what chains are named after: "namespace/service", then ":port name" if any."""
        return f"{self.namespace}/{self.service}:{self.name}" if self.name else f"{self.namespace}/{self.service}"

    @property
    def externally_accessible(self) -> bool:
        """Can it be reached by something other than its cluster IP?"""
        return bool(self.node_port or self.load_balancer_vips or self.external_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Does any of its traffic go by policy Cluster?

        External traffic always may: pods and the node itself are not held to externalTrafficPolicy Local.
        """
        return not self.internal_policy_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        """Does any of its traffic go by policy Local?"""
        return self.internal_policy_local or (self.external_policy_local and self.externally_accessible)


@dataclass(frozen=True)
class Plan:
    """One service port as seen from one node: every decision, named.

    Attributes:
        port: whose plan.
        cluster_endpoints: what policy Cluster may use from this node (hints taken into account).
        local_endpoints: what policy Local may use on this node.
        reachable_endpoints: both together: the endpoints that this node needs rules for.
        has_endpoints: is there a usable endpoint on any node? Without one, traffic is refused.
    """

    port: ServicePort
    cluster_endpoints: tuple[Endpoint, ...]
    local_endpoints: tuple[Endpoint, ...]
    reachable_endpoints: tuple[Endpoint, ...]
    has_endpoints: bool

    @property
    def has_internal_endpoints(self) -> bool:
        """Does traffic to the cluster IP find an endpoint here? If not though has_endpoints, it is dropped."""
        return self.has_endpoints and (not self.port.internal_policy_local or bool(self.local_endpoints))

    @property
    def has_external_endpoints(self) -> bool:
        """Does traffic from outside find an endpoint here? If not though has_endpoints, it is dropped."""
        return self.has_endpoints and (not self.port.external_policy_local or bool(self.local_endpoints))

    @property
    def uses_cluster_policy(self) -> bool:
        """Is there a place for policy Cluster to send traffic to?"""
        return bool(self.cluster_endpoints) and self.port.uses_cluster_endpoints

    @property
    def uses_local_policy(self) -> bool:
        """Is there a place for policy Local to send traffic to?"""
        return bool(self.local_endpoints) and self.port.uses_local_endpoints

    @property
    def uses_external_traffic(self) -> bool:
        """Are rules for external traffic needed?

        Also without an endpoint for outsiders: the node's own and its pods' traffic is sent on to other nodes.
        """
        return self.has_endpoints and self.port.externally_accessible

    @property
    def uses_firewall(self) -> bool:
        """Is traffic to the VIPs held to loadBalancerSourceRanges? Traffic to node ports never is."""
        return self.has_endpoints and bool(self.port.load_balancer_vips) and bool(self.port.source_ranges)


def ipv4(text: str) -> str | None:
    """Write an IPv4 address canonically; None if it is none. Leading zeros are taken as decimal, as Kubernetes does."""
    try:
        socket.inet_pton(socket.AF_INET, text)
        return text
    except OSError:
        octets = text.strip().split(".")
    if len(octets) != 4 or not all(octet.isascii() and octet.isdigit() for octet in octets):
        return None
    numbers = [int(octet) for octet in octets]
    return ".".join(map(str, numbers)) if max(numbers) < 256 else None


def _ipv4s(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(address for text in texts if (address := ipv4(text)) is not None)


def _source_ranges(texts: Iterable[str]) -> tuple[ipaddress.IPv4Network, ...]:
    networks = []
    for text in texts:
        address, _, prefix = text.strip().partition("/")
        if (canonical := ipv4(address)) is not None and prefix.isdigit() and int(prefix) <= 32:
            networks.append(ipaddress.IPv4Network(f"{canonical}/{int(prefix)}", strict=False))
    allows_everybody = any(network.prefixlen == 0 for network in networks)
    return () if allows_everybody else tuple(networks)


def _ipv4_cluster_ip(spec: Mapping[str, Any]) -> str | None:
    families = spec.get("ipFamilies") or []
    if not families:
        return ipv4(spec.get("clusterIP") or "")
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    for family, address in zip(families, addresses, strict=False):
        if family == "IPv4":
            return ipv4(address)
    return None


def service_ports(service: Mapping[str, Any]) -> list[ServicePort]:
    """Read a Service object: one ServicePort for each of its ports.

    Returns:
        An empty list for what no proxy serves: headless, ExternalName, not yet allocated, left to another proxy.
    """
    metadata, spec = service["metadata"], service.get("spec") or {}
    cluster_ip = _ipv4_cluster_ip(spec)
    left_to_another_proxy = PROXY_NAME_LABEL in (metadata.get("labels") or {})
    if cluster_ip is None or spec.get("type") == "ExternalName" or left_to_another_proxy:
        return []
    kind = spec.get("type") or "ClusterIP"
    external_ips = _ipv4s(spec.get("externalIPs") or ())
    takes_external_policy = kind in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    external_policy_local = takes_external_policy and spec.get("externalTrafficPolicy") == "Local"
    affinity_seconds = None
    if spec.get("sessionAffinity") == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity_seconds = config.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    vips = _ipv4s(entry["ip"] for entry in ingress if entry.get("ip") and entry.get("ipMode", "VIP") == "VIP")
    needs_health_check = kind == "LoadBalancer" and external_policy_local
    return [
        ServicePort(
            namespace=metadata.get("namespace") or "default",
            service=metadata["name"],
            name=port.get("name") or "",
            protocol=(port.get("protocol") or "TCP").lower(),
            cluster_ip=cluster_ip,
            port=port["port"],
            node_port=port.get("nodePort") or 0,
            external_ips=external_ips,
            load_balancer_vips=vips,
            source_ranges=_source_ranges(spec.get("loadBalancerSourceRanges") or ()),
            affinity_seconds=affinity_seconds,
            health_check_node_port=(spec.get("healthCheckNodePort") or 0) if needs_health_check else 0,
            external_policy_local=external_policy_local,
            internal_policy_local=spec.get("internalTrafficPolicy") == "Local",
        )
        for port in spec.get("ports") or ()
    ]


def service_key(endpoint_slice: Mapping[str, Any]) -> ServiceKey | None:
    """Say which Service an EndpointSlice belongs to; None if kube-proxy would not look at it."""
    metadata = endpoint_slice["metadata"]
    labels = metadata.get("labels") or {}
    service = labels.get(SERVICE_NAME_LABEL)
    not_ours = HEADLESS_LABEL in labels or PROXY_NAME_LABEL in labels or endpoint_slice.get("addressType") != "IPv4"
    return None if not_ours or not service else (metadata.get("namespace") or "default", service)


def _endpoint(entry: Mapping[str, Any], port: int) -> Endpoint | None:
    addresses = entry.get("addresses") or ()
    ip = ipv4(addresses[0]) if addresses else None
    if ip is None:
        return None
    conditions, hints = entry.get("conditions") or {}, entry.get("hints")
    return Endpoint(
        ip=ip,
        port=port,
        node_name=entry.get("nodeName") or "",
        ready=conditions.get("ready") is not False,
        serving=conditions.get("serving") is not False,
        terminating=conditions.get("terminating") is True,
        zone_hints=frozenset(zone["name"] for zone in hints.get("forZones") or ()) if hints else frozenset(),
        node_hints=frozenset(node["name"] for node in hints.get("forNodes") or ()) if hints else frozenset(),
    )


def endpoints_by_port(slices: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Endpoint, ...]]:
    """Read all EndpointSlices of one Service.

    An address that is listed twice counts once, and one that is not terminating wins: a new pod may have taken over the
    address of one that is going.

    Returns:
        (port name, protocol in lower case) -> endpoints, sorted by "IP:port" as text: 10.0.5.10 before 10.0.5.8.
    """
    found: dict[tuple[str, str], dict[str, Endpoint]] = {}
    for endpoint_slice in slices:
        for port in endpoint_slice.get("ports") or ():
            if not port.get("port"):
                continue
            of_port = found.setdefault((port.get("name") or "", (port.get("protocol") or "TCP").lower()), {})
            for entry in endpoint_slice.get("endpoints") or ():
                endpoint = _endpoint(entry, port["port"])
                if endpoint is None:
                    continue
                text = endpoint.text
                if not (endpoint.terminating and text in of_port):
                    of_port[text] = endpoint
    return {key: tuple(of_port[text] for text in sorted(of_port)) for key, of_port in found.items()}


def topology_mode(endpoints: Iterable[Endpoint], node: Node) -> str:
    """Decide how hints narrow policy Cluster: "PreferSameNode", "PreferSameZone" or "" (not at all).

    A kind of hint counts only if every ready endpoint has it and at least one of them names this node, or this zone.
    """
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if not ready:
        return ""
    if all(endpoint.node_hints for endpoint in ready) and any(node.name in endpoint.node_hints for endpoint in ready):
        return "PreferSameNode"
    if all(endpoint.zone_hints for endpoint in ready) and any(node.zone in endpoint.zone_hints for endpoint in ready):
        return "PreferSameZone"
    return ""


def plan(port: ServicePort, endpoints: tuple[Endpoint, ...], node: Node) -> Plan:
    """Decide which endpoints a node uses for a service port.

    Ready endpoints first. Where there is none (for Cluster: anywhere; for Local: on this node), endpoints that are
    being deleted but still serve take their place.
    """
    usable = any(endpoint.ready or (endpoint.serving and endpoint.terminating) for endpoint in endpoints)
    cluster: tuple[Endpoint, ...] = ()
    mode = ""
    if port.uses_cluster_endpoints:
        mode = topology_mode(endpoints, node)
        cluster = tuple(endpoint for endpoint in endpoints if endpoint.ready)
        if mode == "PreferSameNode":
            cluster = tuple(endpoint for endpoint in cluster if node.name in endpoint.node_hints)
        elif mode == "PreferSameZone":
            cluster = tuple(endpoint for endpoint in cluster if node.zone in endpoint.zone_hints)
        cluster = cluster or tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)
    local: tuple[Endpoint, ...] = ()
    if port.uses_local_endpoints:
        here = tuple(endpoint for endpoint in endpoints if endpoint.node_name == node.name)
        local = tuple(endpoint for endpoint in here if endpoint.ready)
        local = local or tuple(endpoint for endpoint in here if endpoint.serving and endpoint.terminating)
    together = {endpoint.text: endpoint for endpoint in (*cluster, *local)}
    reachable = cluster if len(together) == len(cluster) else tuple(together[text] for text in sorted(together))
    return Plan(port, cluster, local, reachable, usable)
