r"""Proxy mode iptables: a Plan for each service port becomes chains and rules, in the form that iptables-save prints.

    KUBE-SERVICES -- cluster IP --------------------------------> KUBE-SVC-x  one of all endpoints -> KUBE-SEP-y  DNAT
       |    |
       |    `------ external IP, VIP ----> KUBE-EXT-x - Cluster -> KUBE-SVC-x
       |            (VIP: KUBE-FW-x first)  ^  |  `---- Local ---> KUBE-SVL-x  one of this node's -> KUBE-SEP-y  DNAT
       |                                    |  `- own pods, host > KUBE-SVC-x
       `----------- an address of the node --> KUBE-NODEPORTS

x is 16 characters of base32(sha256("namespace/service:port" + protocol)), y of the same with the endpoint added, for a
chain's name may be 28 characters long. KUBE-FW is there with loadBalancerSourceRanges only. KUBE-MARK-MASQ marks what
KUBE-POSTROUTING then masquerades. What finds no endpoint is refused or dropped in the filter table. Rules, order and
comments are those of kubernetes v1.36.2 pkg/proxy/iptables/proxier.go with its default flags and --cluster-cidr.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from srcip_nb.lab.proxy.model import Endpoint, Node, Plan, ServiceKey, ServicePort, plan
from srcip_nb.lab.proxy.ruleset import Ruleset, as_text
from srcip_nb.lab.proxy.state import ServiceEntry, ServiceMap

CLUSTER_CIDR = "10.0.0.0/16"
"""All pods' addresses: a client inside it is a pod of this cluster (kube-proxy --cluster-cidr)."""

LARGE_CLUSTER_ENDPOINTS = 1000
"""With more endpoints than this, rules that name an endpoint carry no comment (largeClusterEndpointsThreshold)."""

INVALID_DROPPED_COUNTER = "ct_state_invalid_dropped_pkts"
LOCALHOST_COUNTER = "localhost_nps_accepted_pkts"
NFACCT_COUNTERS = (INVALID_DROPPED_COUNTER, LOCALHOST_COUNTER)
"""The two counters that kube-proxy keeps in the kernel and names in its rules (nfacct)."""

_MARK = "0x4000"
_NEW = "-m conntrack --ctstate NEW"
_ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED"
_LAST = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"

_MANGLE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"), ()),
    "KUBE-PROXY-CANARY": (),
}
_FILTER_HOOKS: dict[str, tuple[str, ...]] = {
    "INPUT": (
        "-j KUBE-FIREWALL",
        f'{_NEW} -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
        '-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS',
        f'{_NEW} -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
    ),
    "FORWARD": (
        f'{_NEW} -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
        '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
        f'{_NEW} -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        f'{_NEW} -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
    ),
    "OUTPUT": (
        "-j KUBE-FIREWALL",
        f'{_NEW} -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
        f'{_NEW} -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    ),
}
_NAT_HOOKS: dict[str, tuple[str, ...]] = {
    "PREROUTING": ('-m comment --comment "kubernetes service portals" -j KUBE-SERVICES',),
    "INPUT": (),
    "OUTPUT": ('-m comment --comment "kubernetes service portals" -j KUBE-SERVICES',),
    "POSTROUTING": ('-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',),
}
# What has a source on another network and a destination on 127.0.0.0/8 would otherwise get in: route_localnet is on.
_BLOCK_LOCALNET = (
    '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections"'
    " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)


@dataclass(frozen=True)
class Features:
    """What differs between kernels and is seen in the rules.

    Attributes:
        nfacct: the kernel counts by name (xt_nfacct); then two kinds of rules name a counter.
    """

    nfacct: bool = True


class PortRules(NamedTuple):
    """All that one service port adds: rules for shared chains, and chains of its own."""

    nat_services: list[str]
    nat_node_ports: list[str]
    filter_services: list[str]
    filter_external: list[str]
    filter_firewall: list[str]
    filter_node_ports: list[str]
    chains: dict[str, tuple[str, ...]]


@functools.lru_cache(maxsize=1 << 16)
def chain_hash(text: str) -> str:
    """Shorten a name to 16 characters as kube-proxy does: the first of base32(sha256(text))."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode()


def endpoint_chain(port: ServicePort, endpoint: Endpoint) -> str:
    """Name the KUBE-SEP chain that sends a packet to this endpoint."""
    return "KUBE-SEP-" + chain_hash(port.full_name + port.protocol + endpoint.text)


@functools.cache
def probability(n: int) -> str:
    """One in n, as iptables-save shows it: kube-proxy writes ten digits, the kernel keeps a multiple of 2**-31."""
    return f"{round(float(f'{1 / n:.10f}') * 2**31) / 2**31:.11f}"


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'


def _to(address: str, port: ServicePort, comment: str, target: str) -> str:
    """Write a rule for packets to address and this service port."""
    protocol = port.protocol
    return f"-d {address}/32 -p {protocol} {_comment(comment)} -m {protocol} --dport {port.port} -j {target}"


def _balance(
    port: ServicePort, endpoints: tuple[Endpoint, ...], chain_of: Mapping[Endpoint, str], large: bool
) -> list[str]:
    """Write the rules that choose one of several endpoints: the one this client had before, else any."""
    rules = []
    name = port.full_name
    choices = [
        ("" if large else f'-m comment --comment "{name} -> {endpoint.text}" ', chain_of[endpoint])
        for endpoint in endpoints
    ]
    if port.affinity_seconds is not None:
        remembered = f"-m recent --rcheck --seconds {port.affinity_seconds} --reap"
        for start, chain in choices:
            rules.append(f"{start}{remembered} --name {chain} --mask 255.255.255.255 --rsource -j {chain}")
    left = len(endpoints)
    for start, chain in choices:
        chance = f"-m statistic --mode random --probability {probability(left)} " if left > 1 else ""
        rules.append(f"{start}{chance}-j {chain}")
        left -= 1
    return rules


def port_rules(chosen: Plan, node: Node, *, cluster_cidr: str, features: Features, large: bool = False) -> PortRules:
    """Write down one plan.

    Args:
        chosen: what the node does with this service port.
        node: the node; its own address decides whether source ranges let the VIP itself in.
        cluster_cidr: the pods' addresses.
        features: what the kernel can do.
        large: more than LARGE_CLUSTER_ENDPOINTS endpoints in the cluster.
    """
    port = chosen.port
    name, protocol = port.full_name, port.protocol
    hashed = chain_hash(name + protocol)
    cluster_chain, local_chain = f"KUBE-SVC-{hashed}", f"KUBE-SVL-{hashed}"
    external_chain, firewall_chain = f"KUBE-EXT-{hashed}", f"KUBE-FW-{hashed}"
    internal_chain = local_chain if port.internal_policy_local else cluster_chain
    vip_chain = firewall_chain if chosen.uses_firewall else external_chain
    why, verdict = f"{name} has no local endpoints", "DROP"
    if not chosen.has_endpoints:
        why, verdict = f"{name} has no endpoints", "REJECT --reject-with icmp-port-unreachable"
    out = PortRules([], [], [], [], [], [], {})

    # Which packets are this service port's?
    if chosen.has_internal_endpoints:
        out.nat_services.append(_to(port.cluster_ip, port, f"{name} cluster IP", internal_chain))
    else:
        out.filter_services.append(_to(port.cluster_ip, port, why, verdict))
    for addresses, kind, chain in (
        (port.external_ips, "external", external_chain),
        (port.load_balancer_vips, "loadbalancer", vip_chain),
    ):
        for address in addresses:
            if chosen.has_endpoints:
                out.nat_services.append(_to(address, port, f"{name} {kind} IP", chain))
            if not chosen.has_external_endpoints:
                out.filter_external.append(_to(address, port, why, verdict))
    if chosen.uses_firewall:
        for address in port.load_balancer_vips:
            not_accepted = f"{name} traffic not accepted by {firewall_chain}"
            out.filter_firewall.append(_to(address, port, not_accepted, "DROP"))
    if port.node_port:
        to_node_port = f"-m {protocol} --dport {port.node_port}"
        if chosen.has_endpoints:
            start = f"-p {protocol} {_comment(name)} {to_node_port}"
            if features.nfacct:
                counted = f"-m nfacct --nfacct-name  {LOCALHOST_COUNTER}"
                out.nat_node_ports.append(f"-d 127.0.0.0/8 {start} {counted} -j {external_chain}")
            out.nat_node_ports.append(f"{start} -j {external_chain}")
        if not chosen.has_external_endpoints:
            own_address = "-m addrtype --dst-type LOCAL"
            out.filter_external.append(f"-p {protocol} {_comment(why)} {own_address} {to_node_port} -j {verdict}")
    if port.health_check_node_port:
        comment = _comment(f"{name} health check node port")
        out.filter_node_ports.append(f"-p tcp {comment} -m tcp --dport {port.health_check_node_port} -j ACCEPT")

    # Where do they go?
    chain_of = {endpoint: endpoint_chain(port, endpoint) for endpoint in chosen.reachable_endpoints}
    own_chains: dict[str, list[str]] = {}
    if chosen.has_internal_endpoints:
        from_outside = _to(port.cluster_ip, port, f"{name} cluster IP", "KUBE-MARK-MASQ")
        own_chains[internal_chain] = [f"! -s {cluster_cidr} {from_outside}"]
    if chosen.uses_external_traffic:
        own_chains[external_chain] = _external_chain(chosen, cluster_chain, local_chain, cluster_cidr)
    if chosen.uses_firewall:
        own_chains[firewall_chain] = _firewall_chain(port, node, external_chain)
    if chosen.uses_cluster_policy:
        own_chains.setdefault(cluster_chain, []).extend(_balance(port, chosen.cluster_endpoints, chain_of, large))
    if chosen.uses_local_policy:
        own_chains.setdefault(local_chain, []).extend(_balance(port, chosen.local_endpoints, chain_of, large))
    out.chains.update({chain: tuple(rules) for chain, rules in own_chains.items()})
    comment = "" if large else f" {_comment(name)}"
    for endpoint, chain in chain_of.items():
        remember = (
            "" if port.affinity_seconds is None else f" -m recent --set --name {chain} --mask 255.255.255.255 --rsource"
        )
        out.chains[chain] = (
            f"-s {endpoint.ip}/32{comment} -j KUBE-MARK-MASQ",
            f"-p {protocol}{comment}{remember} -m {protocol} -j DNAT --to-destination {endpoint.text}",
        )
    return out


def _external_chain(chosen: Plan, cluster_chain: str, local_chain: str, cluster_cidr: str) -> list[str]:
    """Write KUBE-EXT: what happens to traffic for a node port, an external IP or a VIP."""
    name = chosen.port.full_name
    if not chosen.port.external_policy_local:
        masquerade = _comment(f"masquerade traffic for {name} external destinations")
        rules, policy_chain = [f"{masquerade} -j KUBE-MARK-MASQ"], cluster_chain
    else:
        # Pods and the node itself are not held to the policy: as if they had gone out to a load balancer and come back.
        own = "-m addrtype --src-type LOCAL"
        pods = _comment(f"pod traffic for {name} external destinations")
        rules = [
            f"-s {cluster_cidr} {pods} -j {cluster_chain}",
            f"{_comment(f'masquerade LOCAL traffic for {name} external destinations')} {own} -j KUBE-MARK-MASQ",
            f"{_comment(f'route LOCAL traffic for {name} external destinations')} {own} -j {cluster_chain}",
        ]
        policy_chain = local_chain
    return [*rules, f"-j {policy_chain}"] if chosen.has_external_endpoints else rules


def _firewall_chain(port: ServicePort, node: Node, external_chain: str) -> list[str]:
    """Write KUBE-FW: which sources may use the VIPs."""
    name = port.full_name
    comment = _comment(f"{name} loadbalancer IP")
    rules = [f"-s {network} {comment} -j {external_chain}" for network in port.source_ranges]
    # A node that has the VIP as a local address calls it with the VIP as source.
    node_is_allowed = any(ipaddress.IPv4Address(node.address) in network for network in port.source_ranges)
    if node_is_allowed:
        rules += [f"-s {vip}/32 {comment} -j {external_chain}" for vip in port.load_balancer_vips]
    return [*rules, _comment(f"other traffic to {name} will be dropped by KUBE-PROXY-FIREWALL")]


@dataclass
class Renderer:
    """Writes the rules of one node, and writes a Service again only when it changed.

    Attributes:
        node: the node; give a new Renderer when it changes.
        cluster_cidr: the pods' addresses.
        features: what the node's kernel can do.
    """

    node: Node
    cluster_cidr: str = CLUSTER_CIDR
    features: Features = field(default_factory=Features)
    _written: dict[ServiceKey, tuple[ServiceEntry, bool, list[PortRules]]] = field(default_factory=dict, repr=False)

    def _of_service(self, key: ServiceKey, entry: ServiceEntry, large: bool) -> list[PortRules]:
        kept = self._written.get(key)
        if kept is not None and kept[0] is entry and kept[1] == large:
            return kept[2]
        rules = [
            port_rules(
                plan(port, endpoints, self.node),
                self.node,
                cluster_cidr=self.cluster_cidr,
                features=self.features,
                large=large,
            )
            for port, endpoints in entry
        ]
        self._written[key] = (entry, large, rules)
        return rules

    def ruleset(self, services: ServiceMap) -> Ruleset:
        """Write all rules for these Services; in the shared chains, Services come in order of namespace and name."""
        large = services.endpoint_count > LARGE_CLUSTER_ENDPOINTS
        for gone in self._written.keys() - services.keys():
            del self._written[gone]
        parts = [part for key in sorted(services) for part in self._of_service(key, services[key], large)]
        counted = f" -m nfacct --nfacct-name  {INVALID_DROPPED_COUNTER}" if self.features.nfacct else ""
        filter_table: dict[str, tuple[str, ...]] = {
            **_FILTER_HOOKS,
            "KUBE-EXTERNAL-SERVICES": tuple(rule for part in parts for rule in part.filter_external),
            "KUBE-FIREWALL": (_BLOCK_LOCALNET,),
            "KUBE-FORWARD": (
                f"-m conntrack --ctstate INVALID{counted} -j DROP",
                f"{_comment('kubernetes forwarding rules')} -m mark --mark {_MARK}/{_MARK} -j ACCEPT",
                f"{_comment('kubernetes forwarding conntrack rule')} {_ESTABLISHED} -j ACCEPT",
            ),
            "KUBE-NODEPORTS": tuple(rule for part in parts for rule in part.filter_node_ports),
            "KUBE-PROXY-CANARY": (),
            "KUBE-PROXY-FIREWALL": tuple(rule for part in parts for rule in part.filter_firewall),
            "KUBE-SERVICES": tuple(rule for part in parts for rule in part.filter_services),
        }
        nat_table: dict[str, tuple[str, ...]] = {
            **_NAT_HOOKS,
            "KUBE-MARK-MASQ": (f"-j MARK --set-xmark {_MARK}/{_MARK}",),
            "KUBE-NODEPORTS": tuple(rule for part in parts for rule in part.nat_node_ports),
            "KUBE-POSTROUTING": (
                f"-m mark ! --mark {_MARK}/{_MARK} -j RETURN",
                f"-j MARK --set-xmark {_MARK}/0x0",
                f"{_comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
            ),
            "KUBE-PROXY-CANARY": (),
            "KUBE-SERVICES": (
                *(rule for part in parts for rule in part.nat_services),
                f"{_comment(_LAST)} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
            ),
        }
        for part in parts:
            nat_table.update(part.chains)
        return {"mangle": dict(_MANGLE), "filter": filter_table, "nat": nat_table}


def iptables_rules(
    services: Iterable[Mapping[str, Any]],
    slices: Iterable[Mapping[str, Any]],
    nodes: Iterable[Mapping[str, Any]],
    node_name: str,
    cluster_cidr: str = CLUSTER_CIDR,
    features: Features | None = None,
) -> str:
    """Write all that kube-proxy in iptables mode has a node load.

    Args:
        services: Service objects, of all namespaces.
        slices: EndpointSlice objects, of all namespaces.
        nodes: Node objects.
        node_name: the node, see ``Node.among``.
        cluster_cidr: the pods' addresses.
        features: what the kernel can do; all by default.

    Returns:
        Tables mangle, filter and nat in the form of iptables-save, for iptables-legacy-restore.
    """
    renderer = Renderer(Node.among(nodes, node_name), cluster_cidr, features or Features())
    return as_text(renderer.ruleset(ServiceMap.of(services, slices)))
