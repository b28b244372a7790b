r"""Proxy mode nftables: a Plan for each service port becomes map elements and chains, as `nft -s list ruleset` prints.

    services -- service-ips: cluster IP . tcp . 80 --------------------> service-x   one of all endpoints        DNAT
       |             `------ external IP, VIP --> external-x -- Cluster -> service-x
       |                                            ^   |  `--- Local ---> local-x   one of this node's          DNAT
       |                                            |   `- own pods, host -> service-x
       `---- service-nodeports: tcp . 30080 --------'

x is HASH-namespace/service/protocol/port name. One map look-up finds a Service among any number of them; in mode
iptables every rule is tried in turn. With session affinity service-x leads to endpoint-x chains, each with a set of the
clients that it has. What finds no endpoint is in no-endpoint-services and no-endpoint-nodeports; source ranges are
looked at first of all, in firewall-x. masquerading does what is marked, and what has come back to the pod that asked
(hairpin-connections). Node ports are at the node's own address alone, never at 127.0.0.1. Chains, maps and comments are
those of kubernetes v1.36.2 pkg/proxy/nftables/proxier.go with its default flags and --cluster-cidr.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from srcip_nb.lab.proxy.iptables import CLUSTER_CIDR
from srcip_nb.lab.proxy.model import Endpoint, Node, Plan, ServiceKey, ServicePort, plan
from srcip_nb.lab.proxy.nfttable import Container, Lines, Table, as_text, listed
from srcip_nb.lab.proxy.state import ServiceEntry, ServiceMap

SERVICE_CIDR = "10.1.0.0/16"
"""All cluster IPs: one that no Service has is dropped (kube-proxy reads it from the ServiceCIDR objects)."""

TABLE = "ip kube-proxy"
TABLE_IPV6 = "ip6 kube-proxy"

_NAME_LENGTH = 240
_MARK = "meta mark set meta mark | 0x00004000"
_COMMENT = "rules for kube-proxy"
_BASE_CHAINS = {
    "filter-prerouting-pre-dnat": (
        "type filter hook prerouting priority dstnat - 10; policy accept;",
        "ct state new jump firewall-check",
    ),
    "filter-output-pre-dnat": (
        "type filter hook output priority -110; policy accept;",
        "ct state new jump firewall-check",
    ),
    "filter-input": (
        "type filter hook input priority filter; policy accept;",
        "ct state new jump nodeport-endpoints-check",
        "ct state new jump service-endpoints-check",
    ),
    "filter-forward": (
        "type filter hook forward priority filter; policy accept;",
        "ct state new jump service-endpoints-check",
        "ct state new jump cluster-ips-check",
    ),
    "filter-output": (
        "type filter hook output priority filter; policy accept;",
        "ct state new jump service-endpoints-check",
        "ct state new jump cluster-ips-check",
    ),
    "nat-prerouting": ("type nat hook prerouting priority dstnat; policy accept;", "jump services"),
    "nat-output": ("type nat hook output priority -100; policy accept;", "jump services"),
    "nat-postrouting": ("type nat hook postrouting priority srcnat; policy accept;", "jump masquerading"),
}


@dataclass
class PortRules:
    """All that one service port adds: elements of the shared sets and maps, sets and chains of its own."""

    elements: list[tuple[str, str, str]] = field(default_factory=list)
    sets: dict[str, Lines] = field(default_factory=dict)
    chains: dict[str, Lines] = field(default_factory=dict)


def hashed_name(name: str) -> str:
    """Put the first 8 characters of base32(sha256(name)) before a name; cut it where nftables would not take it."""
    name = f"{base64.b32encode(hashlib.sha256(name.encode()).digest()[:5]).decode()}-{name}"
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."


def duration(seconds: int) -> str:
    """Write a time as nft lists it: 5400 is 1h30m."""
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _plain_name(port: ServicePort) -> str:
    return f"{port.namespace}/{port.service}/{port.protocol}/{port.name}"


def port_rules(chosen: Plan, node: Node, cluster_cidr: str) -> PortRules:
    """Write down one plan.

    Args:
        chosen: what the node does with this service port.
        node: the node; its own address decides whether source ranges let the VIP itself in.
        cluster_cidr: the pods' addresses.
    """
    port, out = chosen.port, PortRules()
    base = hashed_name(_plain_name(port))
    cluster_chain, local_chain = f"service-{base}", f"local-{base}"
    external_chain, firewall_chain = f"external-{base}", f"firewall-{base}"
    internal_chain = local_chain if port.internal_policy_local else cluster_chain
    # Unlike mode iptables: the firewall is there without endpoints too, so what it shuts out is dropped, not refused.
    uses_firewall = bool(port.load_balancer_vips) and bool(port.source_ranges)
    why_not = f' comment "{port.full_name}" : {"drop" if chosen.has_endpoints else "goto reject-chain"}'

    def add(container: str, key: str, rest: str = "") -> None:
        out.elements.append((container, key, rest))

    # Which packets are this service port's?
    at = f"{port.protocol} . {port.port}"
    add("cluster-ips", port.cluster_ip)
    if chosen.has_internal_endpoints:
        add("service-ips", f"{port.cluster_ip} . {at}", f" : goto {internal_chain}")
    else:
        add("no-endpoint-services", f"{port.cluster_ip} . {at}", why_not)
    for address in (*port.external_ips, *port.load_balancer_vips):
        if chosen.has_endpoints:
            add("service-ips", f"{address} . {at}", f" : goto {external_chain}")
        if not chosen.has_external_endpoints:
            add("no-endpoint-services", f"{address} . {at}", why_not)
    if uses_firewall:
        for address in port.load_balancer_vips:
            add("firewall-ips", f"{address} . {at}", f" : goto {firewall_chain}")
    if port.node_port:
        if chosen.has_endpoints:
            add("service-nodeports", f"{port.protocol} . {port.node_port}", f" : goto {external_chain}")
        if not chosen.has_external_endpoints:
            add("no-endpoint-nodeports", f"{port.protocol} . {port.node_port}", why_not)
    for endpoint in chosen.reachable_endpoints:
        if endpoint.node_name == node.name:
            back_to_itself = f"{endpoint.ip} . {endpoint.ip} . {port.protocol} . {endpoint.port}"
            add("hairpin-connections", back_to_itself)

    # Where do they go?
    balance = _balance if port.affinity_seconds is None else _balance_with_affinity
    if chosen.uses_cluster_policy:
        out.chains[cluster_chain] = balance(port, chosen.cluster_endpoints)
    if chosen.uses_local_policy:
        out.chains[local_chain] = balance(port, chosen.local_endpoints)
    if chosen.uses_external_traffic:
        out.chains[external_chain] = _external_chain(chosen, cluster_chain, local_chain, cluster_cidr)
    if uses_firewall:
        out.chains[firewall_chain] = _firewall_chain(port, node)
    if port.affinity_seconds is not None:
        for endpoint in chosen.reachable_endpoints:
            name = _endpoint_name(port, endpoint)
            timeout = f"timeout {duration(port.affinity_seconds)}"
            out.sets[f"affinity-{name}"] = ("type ipv4_addr", "size 65535", "flags dynamic,timeout", timeout)
            out.chains[f"endpoint-{name}"] = (
                f"update @affinity-{name} {{ ip saddr }}",
                f"meta l4proto {port.protocol} dnat to {endpoint.text}",
            )
    return out


def _endpoint_name(port: ServicePort, endpoint: Endpoint) -> str:
    return hashed_name(f"{_plain_name(port)}__{endpoint.ip}/{endpoint.port}")


def _balance(port: ServicePort, endpoints: tuple[Endpoint, ...]) -> Lines:
    """Choose one of several endpoints: a random number and a map from it to an address and port."""
    choices = ", ".join(f"{n} : {endpoint.ip} . {endpoint.port}" for n, endpoint in enumerate(endpoints))
    chosen = f"numgen random mod {len(endpoints)} map {{ {choices} }}"
    return (f"meta l4proto {port.protocol} dnat ip addr . port to {chosen}",)


def _balance_with_affinity(port: ServicePort, endpoints: tuple[Endpoint, ...]) -> Lines:
    """Choose the endpoint that this client had before, else any; the endpoint's own chain remembers the client."""
    names = [_endpoint_name(port, endpoint) for endpoint in endpoints]
    choices = ", ".join(f"{n} : goto endpoint-{name}" for n, name in enumerate(names))
    remembered = (f"ip saddr @affinity-{name} goto endpoint-{name}" for name in names)
    return (*remembered, f"numgen random mod {len(names)} vmap {{ {choices} }}")


def _external_chain(chosen: Plan, cluster_chain: str, local_chain: str, cluster_cidr: str) -> Lines:
    """Write external-x: what happens to traffic for a node port, an external IP or a VIP."""
    if not chosen.port.external_policy_local:
        rules, policy_chain = [f'{_MARK} comment "masquerade"'], cluster_chain
    else:
        # Pods and the node itself are not held to the policy: as if they had gone out to a load balancer and come back.
        rules = [
            f'ip saddr {cluster_cidr} goto {cluster_chain} comment "short-circuit pod traffic"',
            f'fib saddr type local {_MARK} comment "masquerade local traffic"',
            f'fib saddr type local goto {cluster_chain} comment "short-circuit local traffic"',
        ]
        policy_chain = local_chain
    return (*rules, f"goto {policy_chain}") if chosen.has_external_endpoints else tuple(rules)


def _firewall_chain(port: ServicePort, node: Node) -> Lines:
    """Write firewall-x: which sources may use the VIPs."""
    sources = [str(network) for network in port.source_ranges]
    # A node that has the VIP as a local address calls it with the VIP as source.
    if any(ipaddress.IPv4Address(node.address) in network for network in port.source_ranges):
        sources += port.load_balancer_vips
    return (f"ip saddr != {{ {', '.join(sources)} }} drop",)


def _empty_table(family: str, node: Node | None = None, cluster_cidr: str = "", service_cidr: str = "") -> Table:
    """Write a table without a Service.

    Args:
        family: "ip" or "ip6"; the lab has no IPv6, so kube-proxy's ip6 table is never more than this.
        node: whose address answers node ports; None: all of the node's addresses do.
        cluster_cidr: who is a pod; "": nobody knows.
        service_cidr: addresses that are dropped where no Service has them; "": none.
    """
    address = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}[family]
    to_service = f"{family} daddr . meta l4proto . th dport"
    at_service = f"type {address} . inet_proto . inet_service : verdict"
    at_port = "type inet_proto . inet_service : verdict"
    hairpin = f"type {address} . {address} . inet_proto . inet_service"

    def declared(kind: str, type_: str, comment: str) -> Container:
        return Container(kind, (type_, f'comment "{comment}"'))

    containers = {
        "hairpin-connections": declared("set", hairpin, "service hairpin connections"),
        "cluster-ips": declared("set", f"type {address}", "Active ClusterIPs"),
        "nodeport-ips": declared("set", f"type {address}", "IPs that accept NodePort traffic"),
        "no-endpoint-services": declared(
            "map", at_service, "vmap to drop or reject packets to services with no endpoints"
        ),
        "no-endpoint-nodeports": declared(
            "map", at_port, "vmap to drop or reject packets to service nodeports with no endpoints"
        ),
        "firewall-ips": declared("map", at_service, "destinations that are subject to LoadBalancerSourceRanges"),
        "service-ips": declared("map", at_service, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
        "service-nodeports": declared("map", at_port, "NodePort traffic"),
    }
    not_loopback = f"{family} daddr != {'::1' if family == 'ip6' else '127.0.0.0/8'}"
    to_node_port = f"{family} daddr @nodeport-ips meta l4proto . th dport vmap"
    first_of_services: Lines = ()
    if node is None:
        del containers["nodeport-ips"]
        checked = f"{not_loopback} meta l4proto . th dport vmap"
        served = f"fib daddr type local {checked}"
    else:
        checked = served = to_node_port
        if not ipaddress.ip_address(node.address).is_loopback:
            containers["nodeport-ips"].elements[node.address] = ""
    if cluster_cidr:
        not_a_pod = f"{family} daddr @cluster-ips {family} saddr != {cluster_cidr}"
        first_of_services = (f'{not_a_pod} {_MARK} comment "masquerade clusterIP traffic from outside cluster"',)
    unallocated = f'{family} daddr {service_cidr} drop comment "Drop traffic to unallocated ClusterIPs"'
    is_hairpin = f"ct status dnat {family} saddr . {to_service} @hairpin-connections"
    chains: dict[str, Lines] = {
        **_BASE_CHAINS,
        "nodeport-endpoints-check": (f"{checked} @no-endpoint-nodeports",),
        "service-endpoints-check": (f"{to_service} vmap @no-endpoint-services",),
        "firewall-check": (f"{to_service} vmap @firewall-ips",),
        "services": (*first_of_services, f"{to_service} vmap @service-ips", f"{served} @service-nodeports"),
        "masquerading": (
            "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random",
            f"{is_hairpin} masquerade fully-random",
        ),
        "cluster-ips-check": (
            f'{family} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"',
            *((unallocated,) if service_cidr else ()),
        ),
        "reject-chain": ('comment "helper for @no-endpoint-services / @no-endpoint-nodeports"', "reject"),
    }
    return Table(f"{family} kube-proxy", _COMMENT, containers, chains)


def ipv6_table() -> Table:
    """Write the ip6 table: kube-proxy makes it on every machine that knows IPv6, Services or not."""
    return _empty_table("ip6")


@dataclass
class Renderer:
    """Writes the table of one node, and writes a Service again only when it changed.

    Attributes:
        node: the node; give a new Renderer when it changes.
        cluster_cidr: the pods' addresses.
        service_cidr: the cluster IPs.
    """

    node: Node
    cluster_cidr: str = CLUSTER_CIDR
    service_cidr: str = SERVICE_CIDR
    _written: dict[ServiceKey, tuple[ServiceEntry, list[PortRules]]] = field(default_factory=dict, repr=False)

    def _of_service(self, key: ServiceKey, entry: ServiceEntry) -> list[PortRules]:
        kept = self._written.get(key)
        if kept is not None and kept[0] is entry:
            return kept[1]
        rules = [port_rules(plan(port, ends, self.node), self.node, self.cluster_cidr) for port, ends in entry]
        self._written[key] = (entry, rules)
        return rules

    def table(self, services: ServiceMap) -> Table:
        """Write the table for these Services, in order of namespace and name."""
        for gone in self._written.keys() - services.keys():
            del self._written[gone]
        table = _empty_table("ip", self.node, self.cluster_cidr, self.service_cidr)
        elements = {name: container.elements for name, container in table.containers.items()}
        for key in sorted(services):
            for part in self._of_service(key, services[key]):
                for name, element, rest in part.elements:
                    elements[name][element] = rest
                for name, declaration in part.sets.items():
                    table.containers[name] = Container("set", declaration)
                table.chains.update(part.chains)
        return table


def nftables_rules(
    services: Iterable[Mapping[str, Any]],
    slices: Iterable[Mapping[str, Any]],
    nodes: Iterable[Mapping[str, Any]],
    node_name: str,
    cluster_cidr: str = CLUSTER_CIDR,
    service_cidr: str = SERVICE_CIDR,
    *,
    as_listed: bool = True,
) -> str:
    """Write all that kube-proxy in nftables mode has a node load.

    Args:
        services: Service objects, of all namespaces.
        slices: EndpointSlice objects, of all namespaces.
        nodes: Node objects.
        node_name: the node, see ``Node.among``.
        cluster_cidr: the pods' addresses.
        service_cidr: the cluster IPs.
        as_listed: as `nft -s list ruleset` prints it; else as kube-proxy writes it, and `nft -f` is to load it.

    Returns:
        Tables "ip kube-proxy" and "ip6 kube-proxy".
    """
    renderer = Renderer(Node.among(nodes, node_name), cluster_cidr, service_cidr)
    table = renderer.table(ServiceMap.of(services, slices))
    tables = [table, ipv6_table()]
    return as_text(map(listed, tables)) if as_listed else as_text(tables, is_sorted=False)
