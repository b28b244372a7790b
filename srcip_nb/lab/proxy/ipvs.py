r"""Proxy mode ipvs: a virtual server in the kernel for each address of a Service, and iptables for what IPVS cannot do.

    kube-ipvs0        a dummy device with every cluster IP, external IP and VIP: their packets are "for this node"
    virtual servers   address:port -> endpoints, one after the other (rr); masquerade forwarding (-m): DNAT, in INPUT
    ip sets           which addresses and ports are a Service's, by kind; one rule asks a whole set
    KUBE-SERVICES     looks a packet up in the sets and marks what has to be masqueraded; KUBE-POSTROUTING does it

Where policy Local finds no endpoint on the node, a virtual server gets the endpoints of all nodes: packets are not
dropped as in the other modes, and whether the client's address survives is then for the pod network to say. Sets,
rules, order and comments are those of kubernetes v1.36.2 pkg/proxy/ipvs/proxier.go and ipset.go with default flags and
--cluster-cidr. The mode is deprecated since Kubernetes 1.35.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from srcip_nb.lab.proxy.iptables import CLUSTER_CIDR
from srcip_nb.lab.proxy.ipvs_sets import FILTER_BY_SET, NAT_BY_SET, PORTS, SETS
from srcip_nb.lab.proxy.model import Endpoint, Node, Plan, ServicePort, plan
from srcip_nb.lab.proxy.ruleset import Ruleset, as_text
from srcip_nb.lab.proxy.state import ServiceMap

DEVICE = "kube-ipvs0"
SCHEDULERS = ("rr", "lc", "sh")
"""Round robin, least connections, by source address."""

SYSCTLS = {
    "net.ipv4.vs.conntrack": "1",
    "net.ipv4.vs.expire_nodest_conn": "1",
    "net.ipv4.vs.expire_quiescent_template": "1",
    # --ipvs-strict-arp, which MetalLB asks for: kube-ipvs0 has the VIP on every node, and one alone may answer for it.
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.arp_announce": "2",
}

_MARK = "0x4000"
_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True)
class VirtualServer:
    """One address and port that IPVS answers for.

    Attributes:
        protocol: "tcp", "udp" or "sctp".
        address, port: where it listens.
        scheduler: "rr", "lc" or "sh".
        affinity_seconds: how long a client stays with its endpoint; None without session affinity.
        endpoints: "IP:port" of each, sorted.
    """

    protocol: str
    address: str
    port: int
    scheduler: str
    affinity_seconds: int | None
    endpoints: tuple[str, ...]

    @property
    def name(self) -> str:
        """As ipvsadm has it: "-t 10.1.0.10:80"."""
        option = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}[self.protocol]
        return f"{option} {self.address}:{self.port}"

    @property
    def settings(self) -> str:
        """Scheduler and persistence, as ipvsadm has them."""
        persistent = "" if self.affinity_seconds is None else f" -p {self.affinity_seconds}"
        return f"-s {self.scheduler}{persistent}"


@dataclass
class State:
    """All that the mode keeps on a node.

    Attributes:
        servers: virtual servers by name.
        addresses: of kube-ipvs0.
        sets: set -> entries, as ipset(8) prints them.
        rules: the iptables part.
    """

    servers: dict[str, VirtualServer] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)
    sets: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in SETS})
    rules: Ruleset = field(default_factory=dict)


def ipvs_state(
    services: ServiceMap,
    node: Node,
    node_addresses: Sequence[str],
    cluster_cidr: str = CLUSTER_CIDR,
    scheduler: str = "rr",
) -> State:
    """Decide all that a node keeps for these Services.

    Args:
        services: the Services with their endpoints.
        node: whose state.
        node_addresses: every address of the node's devices but kube-ipvs0 and lo: node ports are open on each.
        cluster_cidr: the pods' addresses.
        scheduler: how a virtual server shares connections out.
    """
    state = State()
    unreachable_from_node: list[str] = []
    for key in sorted(services):
        for port, endpoints in services[key]:
            _add_port(state, plan(port, endpoints, node), endpoints, node, node_addresses, scheduler)
            unreachable_from_node += _kept_from_node(port, node)
    state.sets["KUBE-IPVS-IPS"] = set(state.addresses)
    state.rules = _rules(state.sets, cluster_cidr, unreachable_from_node)
    return state


def _add_port(
    state: State,
    plan: Plan,
    endpoints: Iterable[Endpoint],
    node: Node,
    node_addresses: Sequence[str],
    scheduler: str,
) -> None:
    port, sets = plan.port, state.sets
    of_internal = _endpoints_of(plan, port.internal_policy_local)
    of_external = _endpoints_of(plan, port.external_policy_local)

    def serve(address: str, number: int, texts: tuple[str, ...], bind: bool) -> None:
        server = VirtualServer(port.protocol, address, number, scheduler, port.affinity_seconds, texts)
        state.servers[server.name] = server
        if bind:
            state.addresses.add(address)

    for endpoint in endpoints:
        if endpoint.node_name == node.name:
            sets["KUBE-LOOP-BACK"].add(f"{endpoint.ip},{port.protocol}:{endpoint.port},{endpoint.ip}")
    sets["KUBE-CLUSTER-IP"].add(_at(port, port.cluster_ip))
    serve(port.cluster_ip, port.port, of_internal, bind=True)
    for address in port.external_ips:
        sets["KUBE-EXTERNAL-IP-LOCAL" if port.external_policy_local else "KUBE-EXTERNAL-IP"].add(_at(port, address))
        serve(address, port.port, of_external, bind=address not in node_addresses)
    for address in port.load_balancer_vips:
        sets["KUBE-LOAD-BALANCER"].add(_at(port, address))
        if port.external_policy_local:
            sets["KUBE-LOAD-BALANCER-LOCAL"].add(_at(port, address))
        _add_source_ranges(sets, port, address, node)
        serve(address, port.port, of_external, bind=address not in node_addresses)
    if port.node_port:
        _add_node_port(sets, port, node_addresses)
        for address in node_addresses:
            serve(address, port.node_port, of_external, bind=False)
    if port.health_check_node_port:
        sets["KUBE-HEALTH-CHECK-NODE-PORT"].add(str(port.health_check_node_port))


def _endpoints_of(plan: Plan, is_policy_local: bool) -> tuple[str, ...]:
    """Under Local this node's; if it has none, all nodes', for the sake of the node's own pods."""
    prefers_local = is_policy_local and bool(plan.local_endpoints)
    chosen = plan.local_endpoints if prefers_local else plan.cluster_endpoints
    return tuple(sorted({endpoint.text for endpoint in chosen}))


def _at(port: ServicePort, address: str) -> str:
    return f"{address},{port.protocol}:{port.port}"


def _add_source_ranges(sets: dict[str, set[str]], port: ServicePort, address: str, node: Node) -> None:
    if not port.source_ranges:
        return
    sets["KUBE-LOAD-BALANCER-FW"].add(_at(port, address))
    for network in port.source_ranges:
        text = str(network.network_address) if network.prefixlen == 32 else str(network)
        sets["KUBE-LOAD-BALANCER-SOURCE-CIDR"].add(f"{_at(port, address)},{text}")
    if not _kept_from_node(port, node):
        sets["KUBE-LOAD-BALANCER-SOURCE-IP"].add(f"{_at(port, address)},{address}")


def _kept_from_node(port: ServicePort, node: Node) -> list[str]:
    """Rules that keep the node from the VIPs: it is in no source range, and would call from the VIP's own address."""
    if not port.source_ranges or any(_holds(network, node.address) for network in port.source_ranges):
        return []
    number = _PROTOCOL_NUMBERS[port.protocol]
    return [
        f"-s {vip}/32 -m ipvs --vproto {number} --vaddr {vip}/32 --vport {port.port} -j DROP"
        for vip in port.load_balancer_vips
    ]


def _holds(network: Any, address: str) -> bool:
    return type(network.network_address)(address) in network


def _add_node_port(sets: dict[str, set[str]], port: ServicePort, node_addresses: Sequence[str]) -> None:
    is_sctp = port.protocol == "sctp"
    kind = "SCTP-HASH" if is_sctp else port.protocol.upper()
    entries = {f"{address},sctp:{port.node_port}" for address in node_addresses} if is_sctp else {str(port.node_port)}
    sets[f"KUBE-NODE-PORT-{kind}"] |= entries
    if port.external_policy_local:
        sets[f"KUBE-NODE-PORT-LOCAL-{kind}"] |= entries


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'


def _match(name: str, of_packet: str) -> str:
    return f"{_comment(SETS[name][1])} -m set --match-set {name} {of_packet}"


def _by_set(table: Iterable[tuple[str, str, str, str]], sets: Mapping[str, set[str]], chain: str) -> Iterator[str]:
    for of_chain, name, of_packet, target in table:
        if of_chain == chain and sets[name]:
            protocol = name.split("-")[-1].lower()
            wanted = f"-p {protocol} " if protocol in ("tcp", "udp") else "-p sctp " if "SCTP" in name else ""
            yield f"{wanted}{_match(name, of_packet)} -j {target}"


def _external_ip_rules(name: str) -> tuple[str, ...]:
    """What comes from outside the node, or is for one of its addresses, goes on to IPVS as it is."""
    match = _match(name, "dst,dst")
    return (
        f"{match} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT",
        f"{match} -m addrtype --dst-type LOCAL -j ACCEPT",
    )


def _rules(sets: Mapping[str, set[str]], cluster_cidr: str, unreachable_from_node: Sequence[str]) -> Ruleset:
    services = ["-s 127.0.0.0/8 -j RETURN", *_by_set(NAT_BY_SET, sets, "KUBE-SERVICES")]
    if sets["KUBE-CLUSTER-IP"]:
        services.append(f"! -s {cluster_cidr} {_match('KUBE-CLUSTER-IP', 'dst,dst')} -j KUBE-MARK-MASQ")
    if sets["KUBE-EXTERNAL-IP"]:
        services.append(f"{_match('KUBE-EXTERNAL-IP', 'dst,dst')} -j KUBE-MARK-MASQ")
        services += _external_ip_rules("KUBE-EXTERNAL-IP")
    if sets["KUBE-EXTERNAL-IP-LOCAL"]:
        services += _external_ip_rules("KUBE-EXTERNAL-IP-LOCAL")
    services.append("-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT")
    for name in ("KUBE-CLUSTER-IP", "KUBE-LOAD-BALANCER"):
        if sets[name]:
            services.append(f"-m set --match-set {name} dst,dst -j ACCEPT")
    nat = {
        "PREROUTING": (f"{_comment('kubernetes service portals')} -j KUBE-SERVICES",),
        "INPUT": (),
        "OUTPUT": (f"{_comment('kubernetes service portals')} -j KUBE-SERVICES",),
        "POSTROUTING": (f"{_comment('kubernetes postrouting rules')} -j KUBE-POSTROUTING",),
        "KUBE-LOAD-BALANCER": (*_by_set(NAT_BY_SET, sets, "KUBE-LOAD-BALANCER"), "-j KUBE-MARK-MASQ"),
        "KUBE-MARK-MASQ": (f"-j MARK --set-xmark {_MARK}/{_MARK}",),
        "KUBE-NODE-PORT": tuple(_by_set(NAT_BY_SET, sets, "KUBE-NODE-PORT")),
        "KUBE-POSTROUTING": (
            *_by_set(NAT_BY_SET, sets, "KUBE-POSTROUTING"),
            f"-m mark ! --mark {_MARK}/{_MARK} -j RETURN",
            f"-j MARK --set-xmark {_MARK}/0x0",
            f"{_comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
        ),
        "KUBE-SERVICES": tuple(services),
    }
    mangle: dict[str, tuple[str, ...]] = dict.fromkeys(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"), ())
    return {"mangle": mangle, "filter": _filter_rules(sets, unreachable_from_node), "nat": nat}


def _filter_rules(sets: Mapping[str, set[str]], unreachable_from_node: Sequence[str]) -> dict[str, tuple[str, ...]]:
    let_in = [
        f"-m set --match-set {name} {of_packet} -j RETURN"
        for name, of_packet in (
            ("KUBE-LOAD-BALANCER", "dst,dst"),
            ("KUBE-CLUSTER-IP", "dst,dst"),
            ("KUBE-EXTERNAL-IP", "dst,dst"),
            ("KUBE-EXTERNAL-IP-LOCAL", "dst,dst"),
            ("KUBE-HEALTH-CHECK-NODE-PORT", "dst"),
        )
    ]
    return {
        "INPUT": (
            f"{_comment('kubernetes ipvs access filter')} -j KUBE-IPVS-FILTER",
            f"{_comment('kube-proxy firewall rules')} -j KUBE-PROXY-FIREWALL",
            f"{_comment('kubernetes health check rules')} -j KUBE-NODE-PORT",
        ),
        "FORWARD": (
            f"{_comment('kube-proxy firewall rules')} -j KUBE-PROXY-FIREWALL",
            f"{_comment('kubernetes forwarding rules')} -j KUBE-FORWARD",
        ),
        "OUTPUT": (f"{_comment('kubernetes ipvs access filter')} -j KUBE-IPVS-OUT-FILTER",),
        "KUBE-FORWARD": (
            f"{_comment('kubernetes forwarding rules')} -m mark --mark {_MARK}/{_MARK} -j ACCEPT",
            f"{_comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ),
        "KUBE-IPVS-FILTER": (
            *let_in,
            "-m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst"
            " -j REJECT --reject-with icmp-port-unreachable",
        ),
        "KUBE-IPVS-OUT-FILTER": tuple(unreachable_from_node),
        "KUBE-NODE-PORT": (f"{_match('KUBE-HEALTH-CHECK-NODE-PORT', 'dst')} -j ACCEPT",),
        "KUBE-PROXY-FIREWALL": tuple(_by_set(FILTER_BY_SET, sets, "KUBE-PROXY-FIREWALL")),
        "KUBE-SOURCE-RANGES-FIREWALL": (
            *_by_set(FILTER_BY_SET, sets, "KUBE-SOURCE-RANGES-FIREWALL"),
            "-j DROP",
        ),
    }


def servers_text(servers: Mapping[str, VirtualServer]) -> str:
    """Virtual servers in the form of `ipvsadm -Sn`."""
    lines = []
    for name, server in sorted(servers.items()):
        lines.append(f"-A {name} {server.settings}")
        lines += [f"-a {name} -r {endpoint} -m -w 1" for endpoint in server.endpoints]
    return "\n".join([*lines, ""])


def sets_text(sets: Mapping[str, set[str]]) -> str:
    """Sets in the form of `ipset save`, without sizes."""
    lines = []
    for name, entries in sorted(sets.items()):
        kind = SETS[name][0]
        lines.append(f"create {name} {kind}{'' if kind == PORTS else ' family inet'}")
        lines += [f"add {name} {entry}" for entry in sorted(entries)]
    return "\n".join([*lines, ""])


def state_text(state: State) -> str:
    """A node's state in four sections: virtual servers, sets, addresses of kube-ipvs0, rules."""
    addresses = "".join(f"{DEVICE}    inet {address}/32 scope global {DEVICE}\n" for address in sorted(state.addresses))
    return (
        f"[ipvsadm -Sn]\n{servers_text(state.servers)}[ipset save]\n{sets_text(state.sets)}"
        f"[{DEVICE}]\n{addresses}[iptables-save]\n{as_text(state.rules)}"
    )


def ipvs_text(
    services: Iterable[Mapping[str, Any]],
    slices: Iterable[Mapping[str, Any]],
    node: Node,
    node_addresses: Sequence[str],
    cluster_cidr: str = CLUSTER_CIDR,
) -> str:
    """Write all that kube-proxy in ipvs mode keeps on a node: see ``state_text``."""
    state = ServiceMap()
    state.update_from(services, slices)
    return state_text(ipvs_state(state, node, node_addresses, cluster_cidr))
