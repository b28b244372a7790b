"""What the server hands out to a Service: its cluster IP, node ports and health check port.

Nothing is booked anywhere: what is in use is read from the Services that there are, so a value is free again as soon as
its Service is gone or has no more need of it.

    create    what is asked for, if free and in the range; else a random free value of the range's upper part (the lower
              part is left for those who ask: 10.1.0.1-10.1.1.0, 30000-30085)
    update    values that the client left out stay; those that the new type or policy does not need go

    allocate_service(service, None, others)    # in place: clusterIP, clusterIPs, ipFamilies, ports[].nodePort ...

Source: kubernetes v1.36.2 pkg/registry/core/service/{storage/alloc.go,storage/storage.go,strategy.go}.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from srcip_nb.lab.api import status
from srcip_nb.lab.api.service_rules import (
    HEADLESS,
    is_externally_accessible,
    needs_cluster_ip,
    needs_health_check,
    needs_node_port,
    node_ports,
)
from srcip_nb.lab.api.validation_service import cluster_ip_causes

Object = dict[str, Any]
Choose = Callable[[Sequence[int]], int]

SERVICE_RANGE = ipaddress.IPv4Network("10.1.0.0/16")
NODE_PORTS = range(30000, 32768)

# The part of each range that only explicit requests are served from: min(max(16, size/16), 256) addresses and
# min(max(16, size/32), 128) ports.
_RESERVED_ADDRESSES = 256
_RESERVED_PORTS = 86
_TRIES = 32


def allocate_service(
    service: Object, old: Object | None, others: Iterable[Object], *, choose: Choose = random.choice
) -> None:
    """Give a Service, in place, the values that it needs, and take away those that it needs no more.

    Call it after the defaults and after the field owners were counted, before validation.

    Args:
        service: the Service as it is wanted.
        old: the Service as it is; None when it is created.
        others: every other Service of the cluster.
        choose: picks one of a sequence of free values.

    Raises:
        ApiError: 422 for a value in use or out of range, or a family that this IPv4 cluster has not; 500 for a health
            check port in use, as a real server.
    """
    others = list(others)
    if old is not None:
        _keep_allocated(service, old)
    _match_cluster_ips(service, old)
    _set_families(service, old)
    _allocate_cluster_ip(service, old, others, choose)
    _allocate_ports(service, old, others, choose)
    if old is not None:
        _drop_unneeded(service, old)


# -- cluster IP --------------------------------------------------------------------------------------------------------


def _match_cluster_ips(service: Object, old: Object | None) -> None:
    """Bring clusterIPs in line with clusterIP, where a client set only the latter."""
    spec = service["spec"]
    cluster_ip, cluster_ips = spec.get("clusterIP", ""), spec.get("clusterIPs", [])
    if old is None:
        if cluster_ip and not cluster_ips:
            spec["clusterIPs"] = [cluster_ip]
        return
    old_ip, old_ips = old["spec"].get("clusterIP", ""), old["spec"].get("clusterIPs", [])
    if not cluster_ips and old_ips and cluster_ip == old_ip:
        spec["clusterIPs"] = list(old_ips)
    elif cluster_ip != old_ip and cluster_ips == old_ips:
        spec["clusterIPs"] = [cluster_ip] if cluster_ip else []


def _set_families(service: Object, old: Object | None) -> None:
    spec = service["spec"]
    if not needs_cluster_ip(service):
        return
    has_no_endpoints_of_its_own = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
    old_policy = (old or {"spec": {}})["spec"].get("ipFamilyPolicy")
    policy = spec.setdefault(
        "ipFamilyPolicy", old_policy or ("RequireDualStack" if has_no_endpoints_of_its_own else "SingleStack")
    )
    causes = cluster_ip_causes(service)
    families = spec.setdefault("ipFamilies", [])
    addresses = [address for address in spec.get("clusterIPs", []) if address != HEADLESS]
    if not causes and policy == "SingleStack":
        message = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
        several = {"cluster IPs": len(addresses) == 2, "IP families": len(families) == 2}
        causes = [
            status.invalid_value("spec.ipFamilyPolicy", policy, message.format(what))
            for what, is_set in several.items()
            if is_set
        ]
    if not causes:
        for index, address in list(enumerate(addresses))[len(families) :]:
            if ":" in address:
                message = "IPv6 is not configured on this cluster"
                causes.append(status.invalid_value(f"spec.clusterIPs[{index}]", spec["clusterIPs"], message))
            else:
                families.append("IPv4")
    _refuse(service, causes)
    if has_no_endpoints_of_its_own:
        families.extend(["IPv4"] if not families else [])
        if len(families) < 2 and policy != "SingleStack":
            families.append("IPv6" if families[0] == "IPv4" else "IPv4")
        return
    if policy == "RequireDualStack":
        message = "this cluster is not configured for dual-stack services"
        causes.append(status.invalid_value("spec.ipFamilyPolicy", policy, message))
    causes += [
        status.invalid_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(families)
        if family != "IPv4"
    ]
    _refuse(service, causes)
    families.extend(["IPv4"] if not families else [])


def _allocate_cluster_ip(service: Object, old: Object | None, others: list[Object], choose: Choose) -> None:
    spec = service["spec"]
    is_new_to_addresses = old is None or not needs_cluster_ip(old)
    if not needs_cluster_ip(service) or not is_new_to_addresses or spec.get("clusterIP") == HEADLESS:
        return
    used = {address for other in others for address in other["spec"].get("clusterIPs", [])}
    if spec.get("clusterIP"):
        error = _address_error(spec["clusterIP"], used)
        if error:
            message = f"failed to allocate IP {spec['clusterIP']}: {error}"
            _refuse(service, [status.invalid_value("spec.clusterIPs", spec["clusterIPs"], message)])
        return
    first = int(SERVICE_RANGE.network_address) + 1
    last = int(SERVICE_RANGE.broadcast_address)
    used_numbers = {int(ipaddress.IPv4Address(address)) for address in used if address != HEADLESS}
    chosen = _free(range(first + _RESERVED_ADDRESSES, last), range(first, last), used_numbers, choose)
    if chosen is None:
        name = service["metadata"]["name"]
        raise status.internal_error(f'failed to allocate a serviceIP for Service "{name}": range is full')
    spec["clusterIP"] = str(ipaddress.IPv4Address(chosen))
    spec["clusterIPs"] = [spec["clusterIP"]]


def _address_error(text: str, used: set[str]) -> str:
    address = ipaddress.ip_address(text)
    if address not in SERVICE_RANGE:
        return "the provided network does not match the current range"
    if address in (SERVICE_RANGE.network_address, SERVICE_RANGE.broadcast_address):
        return f"the provided IP ({text}) is not in the valid range. The range of valid IPs is {SERVICE_RANGE}"
    return "provided IP is already allocated" if text in used else ""


# -- ports -------------------------------------------------------------------------------------------------------------


def _allocate_ports(service: Object, old: Object | None, others: list[Object], choose: Choose) -> None:
    spec = service["spec"]
    used = {port for other in others for port in (*node_ports(other), other["spec"].get("healthCheckNodePort", 0))}
    held = set(node_ports(old)) if old and needs_node_port(old) else set()
    if old and needs_health_check(old):
        used.add(old["spec"].get("healthCheckNodePort", 0))
    if needs_node_port(service):
        if old is None:
            _share_requested_ports(spec)
        _allocate_node_ports(service, held, used | held, choose)
        used |= set(node_ports(service))
    is_new_to_health_checks = needs_health_check(service) and not (old and needs_health_check(old))
    if is_new_to_health_checks:
        asked = spec.get("healthCheckNodePort", 0)
        error = _port_error(asked, used) if asked else ""
        if error:
            raise status.internal_error(f"failed to allocate requested HealthCheck NodePort {asked}: {error}")
        spec["healthCheckNodePort"] = asked or _free_port(used | held, choose)


def _share_requested_ports(spec: Object) -> None:
    """One node port for TCP and UDP of the same port, where the client named it for one of them."""
    requested: dict[int, int] = {}
    for port in spec.get("ports", []):
        if port.get("nodePort"):
            requested.setdefault(port["port"], port["nodePort"])
    for port in spec.get("ports", []):
        if not port.get("nodePort") and port["port"] in requested:
            port["nodePort"] = requested[port["port"]]


def _allocate_node_ports(service: Object, held: set[int], used: set[int], choose: Choose) -> None:
    spec = service["spec"]
    allocates = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
    own: dict[int, int] = {}
    taken: set[int] = set()
    for index, port in enumerate(spec.get("ports", [])):
        asked = port.get("nodePort", 0)
        if asked and asked not in held and asked not in taken:
            error = _port_error(asked, used)
            if error:
                _refuse(service, [status.invalid_value(f"spec.ports[{index}].nodePort", asked, error)])
        elif not asked and allocates:
            is_shared = port["port"] in own and not held
            port["nodePort"] = asked = own[port["port"]] if is_shared else _free_port(used | taken, choose)
        if asked:
            taken.add(asked)
            own.setdefault(port["port"], asked)


def _port_error(port: int, used: set[int]) -> str:
    if port not in NODE_PORTS:
        valid = f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
        return f"provided port is not in the valid range. The range of valid ports is {valid}"
    return "provided port is already allocated" if port in used else ""


def _free_port(used: set[int], choose: Choose) -> int:
    chosen = _free(NODE_PORTS[_RESERVED_PORTS:], NODE_PORTS, used, choose)
    if chosen is None:
        raise status.internal_error("failed to allocate a nodePort: range is full")
    return chosen


def _free(preferred: range, whole: range, used: set[int], choose: Choose) -> int | None:
    """A free number: of the preferred part while there is one, else of the whole; None when all are in use."""
    for _ in range(_TRIES):
        chosen = choose(preferred)
        if chosen not in used:
            return chosen
    for numbers in (preferred, whole):
        free = [number for number in numbers if number not in used]
        if free:
            return choose(free)
    return None


# -- updates -----------------------------------------------------------------------------------------------------------


def _keep_allocated(service: Object, old: Object) -> None:
    """Take over what the client left out: it may send the same manifest again and keep its addresses and ports."""
    spec, old_spec = service["spec"], old["spec"]
    if needs_cluster_ip(old) and needs_cluster_ip(service):
        for name in ("clusterIP", "clusterIPs"):
            if not spec.get(name) and old_spec.get(name):
                value = old_spec[name]
                spec[name] = list(value) if isinstance(value, list) else value
    if needs_node_port(old) and needs_node_port(service):
        used = set(node_ports(old)) & set(node_ports(service))
        by_name = {port.get("name", ""): port.get("nodePort", 0) for port in old_spec.get("ports", [])}
        for port in spec.get("ports", []):
            kept = by_name.get(port.get("name", ""), 0)
            if not port.get("nodePort") and kept and kept not in used:
                port["nodePort"] = kept
    if needs_health_check(old) and needs_health_check(service) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = old_spec.get("healthCheckNodePort", 0)


def _drop_unneeded(service: Object, old: Object) -> None:
    """Clear fields that the new type or policy has no use for, unless the client changed them in the same update."""
    spec, old_spec = service["spec"], old["spec"]

    def drop(*names: str) -> None:
        if all(spec.get(name) == old_spec.get(name) for name in names):
            for name in names:
                spec.pop(name, None)

    if needs_cluster_ip(old) and not needs_cluster_ip(service):
        drop("clusterIP", "clusterIPs")
        drop("ipFamilies")
        drop("ipFamilyPolicy")
    if needs_node_port(old) and not needs_node_port(service) and set(node_ports(service)) <= set(node_ports(old)):
        for port in spec.get("ports", []):
            port.pop("nodePort", None)
    if needs_health_check(old) and not needs_health_check(service):
        drop("healthCheckNodePort")
    if old_spec.get("type") == "LoadBalancer" != spec.get("type"):
        drop("allocateLoadBalancerNodePorts")
        drop("loadBalancerClass")
        service["status"] = {**service.get("status", {}), "loadBalancer": {}}
    if is_externally_accessible(old) and not is_externally_accessible(service):
        drop("externalTrafficPolicy")


def _refuse(service: Object, causes: list[status.Cause]) -> None:
    if causes:
        raise status.invalid("Service", service["metadata"].get("name", ""), causes)
