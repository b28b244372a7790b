"""Addresses of LoadBalancer Services as MetalLB gives and announces them; pure functions.

    allocate()    which Service gets which address of the pool, or why none    metallb controller/service.go
    leader()      layer 2: which one node answers ARP for an address           metallb speaker/layer2_controller.go
    bgp_nodes()   BGP: which nodes tell the router of an address               metallb speaker/bgp_controller.go
    route_text()  what the router makes of that

The leader is the first eligible node by sha256("node#address"): every node finds the same without asking another. So
one address has one entry node, and another address perhaps another.

By BGP each eligible node announces the address for itself, and the router shares connections out to them: half each
for two nodes, however many pods a node has. When the set of nodes changes, the router's hash changes too, and an open
connection may find itself at another node.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from srcip_nb.lab.proxy.model import SERVICE_NAME_LABEL, ServiceKey, ipv4
from srcip_nb.lab.topology import Topology

POOL_NAME = "first-pool"
EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"

_ANNOTATIONS = ("metallb.io", "metallb.universe.tf")


@dataclass(frozen=True)
class Assignment:
    """What allocate() decided for one Service.

    Attributes:
        addresses: what status.loadBalancer.ingress is to hold; empty without an address.
        is_new: the Service did not have these addresses before.
        error: why it did not get what it asked for, in MetalLB's words; "" if it did.
    """

    addresses: tuple[str, ...] = ()
    is_new: bool = False
    error: str = ""


class _RefusedError(Exception):
    """An address cannot be given to a Service; the text is MetalLB's."""


@dataclass
class _Pool:
    """Who has what: address -> Services."""

    addresses: tuple[str, ...]
    users: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def take(self, service: Mapping[str, Any], addresses: tuple[str, ...]) -> None:
        """Give addresses to a Service, or say why not."""
        shown = _quoted(addresses)
        if any(address not in self.addresses for address in addresses):
            raise _RefusedError(f"{shown} is not allowed in config")
        if len(addresses) > 2:
            raise _RefusedError(f"more than two addresses {shown}")
        if len(addresses) == 2:
            raise _RefusedError(f'"{addresses[0]}" "{addresses[1]}" has the same family')
        for address in addresses:
            self._check_sharing(service, address)
        for address in addresses:
            self.users.setdefault(address, []).append(service)

    def _check_sharing(self, service: Mapping[str, Any], address: str) -> None:
        others = self.users.get(address, [])
        names = [_key_text(other) for other in others]
        if any(not _may_share(service, other) for other in others):
            taken_by = ",".join(names)
            raise _RefusedError(
                f'can\'t change sharing key for "{_key_text(service)}", address also in use by {taken_by}'
            )
        for other in others:
            for protocol, port in sorted(_ports(service) & _ports(other)):
                raise _RefusedError(f'port {protocol}/{port} is already in use on "{address}"')

    def take_any(self, service: Mapping[str, Any]) -> tuple[str, ...]:
        """Give the first address that is free, or may be shared."""
        for address in self.addresses:
            try:
                self.take(service, (address,))
            except _RefusedError:
                continue
            return (address,)
        raise _RefusedError("no available IPs")


def _quoted(addresses: Iterable[str]) -> str:
    return "[" + " ".join(f'"{address}"' for address in addresses) + "]"


def _key_text(service: Mapping[str, Any]) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def _annotation(service: Mapping[str, Any], name: str) -> str:
    annotations = service["metadata"].get("annotations") or {}
    for prefix in _ANNOTATIONS:
        if f"{prefix}/{name}" in annotations:
            return str(annotations[f"{prefix}/{name}"])
    return ""


def _ports(service: Mapping[str, Any]) -> set[tuple[str, int]]:
    return {(port.get("protocol") or "TCP", port["port"]) for port in service["spec"].get("ports") or ()}


def _may_share(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both ask for it by the same allow-shared-ip, and send the traffic to the same pods if either is Local."""

    def backend(service: Mapping[str, Any]) -> Any:
        is_local = service["spec"].get("externalTrafficPolicy") == "Local"
        return service["spec"].get("selector") if is_local else None

    sharing = _annotation(one, "allow-shared-ip")
    return bool(sharing) and sharing == _annotation(other, "allow-shared-ip") and backend(one) == backend(other)


def present_addresses(service: Mapping[str, Any]) -> tuple[str, ...]:
    """List the addresses in status.loadBalancer.ingress."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return tuple(entry["ip"] for entry in ingress if entry.get("ip"))


def is_load_balancer(service: Mapping[str, Any]) -> bool:
    """Is this a Service that MetalLB serves? One with a loadBalancerClass is left to whoever has that class."""
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def _wanted_addresses(service: Mapping[str, Any]) -> tuple[str, ...]:
    """Read what the Service asks for: annotation metallb.io/loadBalancerIPs, or spec.loadBalancerIP."""
    annotation, in_spec = _annotation(service, "loadBalancerIPs"), service["spec"].get("loadBalancerIP") or ""
    if annotation and in_spec:
        raise _RefusedError("service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP")
    wanted = tuple(ipv4(part) for part in (annotation or in_spec).split(",")) if annotation or in_spec else ()
    if None in wanted:
        where = f'metallb.io/loadBalancerIPs: "{annotation}"' if annotation else f'spec.loadBalancerIP "{in_spec}"'
        raise _RefusedError(f"invalid {where}")
    return tuple(address for address in wanted if address is not None)


def pool_addresses(first: str, last: str) -> tuple[str, ...]:
    """List the addresses of a pool, both ends included."""
    ends = (int(ipaddress.IPv4Address(first)), int(ipaddress.IPv4Address(last)))
    return tuple(str(ipaddress.IPv4Address(number)) for number in range(ends[0], ends[1] + 1))


def allocate(services: Iterable[Mapping[str, Any]], pool: tuple[str, ...]) -> dict[ServiceKey, Assignment]:
    """Decide the addresses of all LoadBalancer Services at once.

    Who has an address keeps it, as long as it is allowed and nobody asked for another; then the others get theirs, the
    oldest first.

    Args:
        services: all Services of all namespaces; those that are no LoadBalancer are passed over.
        pool: the addresses to give, in this order.
    """
    taken = _Pool(pool)
    in_order = sorted(
        filter(is_load_balancer, services),
        key=lambda service: (service["metadata"].get("creationTimestamp") or "", _key_text(service)),
    )
    decided: dict[ServiceKey, Assignment] = {}
    for step in (_keep, _give):
        for service in in_order:
            key = (service["metadata"]["namespace"], service["metadata"]["name"])
            if key not in decided and (assignment := step(service, taken)):
                decided[key] = assignment
    return decided


def _keep(service: Mapping[str, Any], taken: _Pool) -> Assignment | None:
    """Leave a Service the addresses it has; None if it has none, or may keep them no longer."""
    present = present_addresses(service)
    if not present:
        return None
    try:
        wanted = _wanted_addresses(service)
    except _RefusedError as refused:
        taken.users.setdefault(present[0], []).append(service)
        return Assignment(present, error=f"invalid requested loadbalancer IPs: {refused}")
    if (wanted and set(wanted) != set(present)) or not _pool_is_right(service):
        return None
    try:
        taken.take(service, present)
    except _RefusedError:
        return None  # the pool changed, or somebody wrote the status: it gets another address, with an Event
    return Assignment(present)


def _give(service: Mapping[str, Any], taken: _Pool) -> Assignment:
    """Give a Service what it asks for, or the first address that is free."""
    try:
        wanted = _wanted_addresses(service)
        if not _pool_is_right(service):
            raise _RefusedError(f'unknown pool "{_annotation(service, "address-pool")}"')
        if wanted:
            taken.take(service, wanted)
        return Assignment(wanted or taken.take_any(service), is_new=True)
    except _RefusedError as refused:
        return Assignment(error=str(refused))


def _pool_is_right(service: Mapping[str, Any]) -> bool:
    return _annotation(service, "address-pool") in ("", POOL_NAME)


def _may_serve(endpoint: Mapping[str, Any]) -> bool:
    conditions = endpoint.get("conditions") or {}
    return conditions.get("ready") is not False or conditions.get("serving") is True


def _has_condition(node: Mapping[str, Any], kind: str) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def may_announce(node: Mapping[str, Any]) -> bool:
    """May a node announce addresses? It is Ready, has a network, and is not labelled out; a cordoned node may."""
    is_excluded = EXCLUDE_LABEL in (node["metadata"].get("labels") or {})
    return _has_condition(node, "Ready") and not _has_condition(node, "NetworkUnavailable") and not is_excluded


def leader(
    vip: str,
    nodes: Iterable[Mapping[str, Any]],
    service: Mapping[str, Any],
    slices: Iterable[Mapping[str, Any]],
) -> str | None:
    """Choose the node that announces an address.

    Args:
        vip: the address.
        nodes: all Node objects.
        service: whose address it is; under externalTrafficPolicy Local only nodes with an endpoint that serves qualify.
        slices: EndpointSlices, of any Services.

    Returns:
        The node's name; None while no endpoint serves, or no node qualifies.
    """
    serving = [endpoint for endpoint in _endpoints(service, slices) if _may_serve(endpoint)]
    candidates = _eligible(nodes, service, serving)
    return min(candidates, key=lambda name: hashlib.sha256(f"{name}#{vip}".encode()).digest(), default=None)


def bgp_nodes(
    nodes: Iterable[Mapping[str, Any]], service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Choose the nodes that announce a Service's addresses by BGP.

    An endpoint counts if it serves in every slice that has its address. A node that is not Ready has lost its session.

    Args:
        nodes: all Node objects.
        service: whose addresses they are; under externalTrafficPolicy Local only nodes with an endpoint that serves
            qualify, under Cluster every node.
        slices: EndpointSlices, of any Services.

    Returns:
        The nodes' names in order; none while no endpoint serves, or no node qualifies.
    """
    endpoints = _endpoints(service, slices)
    unfit = {address for endpoint in endpoints if not _may_serve(endpoint) for address in endpoint["addresses"]}
    serving = [endpoint for endpoint in endpoints if not unfit.issuperset(endpoint["addresses"])]
    return tuple(sorted(_eligible(nodes, service, serving)))


def route_text(t: Topology, vip: str, nodes: Iterable[str]) -> str:
    """Write the command by which the router shares an address out to nodes, all alike; to none: it drops its route.

    Args:
        t: the lab.
        vip: the address.
        nodes: names of the nodes that announce it.
    """
    hops = "".join(f" nexthop via {t.host(node).address}" for node in nodes)
    return f"ip -n {t.router.name} route {'replace' if hops else 'del'} {vip}/32{hops}\n"


def _endpoints(service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    key = (service["metadata"]["namespace"], service["metadata"]["name"])
    return [
        endpoint
        for endpoint_slice in slices
        if (endpoint_slice["metadata"]["namespace"], _service_of(endpoint_slice)) == key
        for endpoint in endpoint_slice.get("endpoints") or ()
    ]


def _eligible(
    nodes: Iterable[Mapping[str, Any]], service: Mapping[str, Any], serving: list[Mapping[str, Any]]
) -> set[str]:
    """Find the nodes that may announce a Service with these serving endpoints."""
    if not serving:
        return set()
    candidates = {node["metadata"]["name"] for node in nodes if may_announce(node)}
    is_local = service["spec"].get("externalTrafficPolicy") == "Local"
    return candidates & {endpoint.get("nodeName") for endpoint in serving} if is_local else candidates


def _service_of(endpoint_slice: Mapping[str, Any]) -> str:
    return str((endpoint_slice["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL, ""))
