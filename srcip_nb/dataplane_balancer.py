"""Who gives Services their external addresses and how these are announced: pure functions over what was seen.

MetalLB     its speakers' Events nodeAssigned, ServiceL2Status, ServiceBGPStatus, L2Advertisement, BGPAdvertisement
ServiceLB   DaemonSets svclb-* with the label svccontroller.k3s.cattle.io/svcname (k3s pkg/cloudprovider)
Cilium      Service condition cilium.io/IPAMRequestSatisfied (operator/pkg/lbipam)
kube-vip    its pods; Service annotation kube-vip.io/vipHost or kube-vip.io/loadbalancerIPs
a cloud     Nodes' spec.providerID; whether it gives addresses is seen only at a Service that has one
none        a Service of type LoadBalancer that has waited for an address for more than ``PENDING`` seconds
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone

from srcip_nb.dataplane import HOSTNAME, NONE, PROXY, SERVICE_LB, VIP, Fact
from srcip_nb.dataplane_seen import Object, Seen, annotations_of, containers_of, where

METALLB = "metallb"
SVCLB_LABEL = "svccontroller.k3s.cattle.io/svcname"
CILIUM_CONDITION = "cilium.io/IPAMRequestSatisfied"
KUBE_VIP_ANNOTATIONS = ("kube-vip.io/vipHost", "kube-vip.io/loadbalancerIPs")
PENDING = 60.0
"""Seconds after which a Service without an address counts as one that nobody gives an address to."""

# Schemes of spec.providerID that are no cloud's: kind, k3s, minikube and machines without one.
_NO_CLOUD = {"kind", "k3s", "k3d", "minikube", "rke2", "metal3", "harvester", "vagrant"}
_ASSIGNED = re.compile(r'announcing from node "(?P<node>[^"]*)"(?: with protocol "(?P<protocol>[^"]*)")?')
_PROTOCOLS = {"layer2": "l2", "bgp": "bgp"}


def load_balancer(seen: Seen) -> Fact:
    """Who gives Services their external addresses."""
    for look in (_metallb, _service_lb, _cilium, _kube_vip, _cloud, _none):
        found = look(seen)
        if found is not None:
            return found
    services = _balanced(seen)
    why = seen.silent.get("Service")
    if why:
        return Fact("", f"Services: {why}")
    if services:
        return Fact("", f"{where(services[0])} has an address, and no sign of who gave it was found")
    return Fact("", "no Service of type LoadBalancer is there to show it; it shows after cluster.apply()")


def _metallb(seen: Seen) -> Fact | None:
    for kind in ("ServiceL2Status", "ServiceBGPStatus"):
        for item in seen.all(kind):
            return Fact(METALLB, _status_words(item))
    for event, *_ in assignments(seen):
        return Fact(METALLB, f"{_event_words(event)} (told by {_teller(event) or 'nobody who gives a name'})")
    for kind in ("L2Advertisement", "BGPAdvertisement"):
        for item in seen.all(kind):
            return Fact(METALLB, where(item))
    return None


def _event_words(event: Object) -> str:
    return f"Event {event['reason']} on {_involved(event)}: {event['message']}"


def _teller(event: Object) -> str:
    return (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""


def _service_lb(seen: Seen) -> Fact | None:
    for item in [*seen.all("DaemonSet"), *seen.all("Pod")]:
        if SVCLB_LABEL in (item["metadata"].get("labels") or {}):
            return Fact(SERVICE_LB, f"{where(item)}: label {SVCLB_LABEL}")
    return None


def _cilium(seen: Seen) -> Fact | None:
    for service in _balanced(seen):
        conditions = (service.get("status") or {}).get("conditions") or []
        if any(condition["type"] == CILIUM_CONDITION and condition["status"] == "True" for condition in conditions):
            return Fact("cilium", f"{where(service)}: condition {CILIUM_CONDITION}")
    return None


def _kube_vip(seen: Seen) -> Fact | None:
    for service in _balanced(seen):
        for key in KUBE_VIP_ANNOTATIONS:
            if key in annotations_of(service):
                return Fact("kube-vip", f"{where(service)}: annotation {key}")
    is_given = any(_has_address(service) for service in _balanced(seen))
    for item in [*seen.all("DaemonSet"), *seen.all("Pod")] if is_given else []:
        if any("kube-vip" in container.get("image", "") for container in containers_of(item)):
            return Fact("kube-vip", f"{where(item)} runs the image of kube-vip")
    return None


def _cloud(seen: Seen) -> Fact | None:
    """A cloud's name alone gives no addresses: it takes a Service that has one."""
    served = next((service for service in _balanced(seen) if _has_address(service)), None)
    for node in seen.all("Node"):
        provider = (node.get("spec") or {}).get("providerID") or ""
        scheme = provider.split("://")[0] if "://" in provider else ""
        if not scheme or scheme in _NO_CLOUD:
            continue
        if served is None:
            return None
        return Fact(scheme, f"{where(node)}: spec.providerID {provider}; {where(served)} has an address")
    return None


def _none(seen: Seen) -> Fact | None:
    waiting = [service for service in _balanced(seen) if not _has_address(service)]
    if not waiting or any(_has_address(service) for service in _balanced(seen)):
        return None
    oldest = max(waiting, key=_age)
    if _age(oldest) < PENDING:
        return Fact("", f"{where(oldest)} has waited {_age(oldest):.0f} s for an address; look again in a minute")
    return Fact(NONE, f"{where(oldest)}: EXTERNAL-IP pending since {oldest['metadata']['creationTimestamp']}")


def _age(item: Object) -> float:
    """Seconds since an object was made."""
    created = item["metadata"].get("creationTimestamp")
    if not created:
        return 0.0
    return (datetime.now(timezone.utc) - datetime.fromisoformat(created.replace("Z", "+00:00"))).total_seconds()


def announce(seen: Seen) -> Fact:
    """How external addresses are announced: "l2", "bgp" or both; told by what is announced, else by what may be."""
    at_work: dict[str, str] = {}
    configured: dict[str, str] = {}
    for kind, way in (("ServiceL2Status", "l2"), ("ServiceBGPStatus", "bgp")):
        for item in seen.all(kind):
            at_work.setdefault(way, _status_words(item))
    for kind, way in (("L2Advertisement", "l2"), ("BGPAdvertisement", "bgp")):
        for item in seen.all(kind):
            configured.setdefault(way, where(item))
    for event, _, protocol in assignments(seen):
        if protocol:
            at_work.setdefault(protocol, _event_words(event))
    said = at_work or configured
    if not said:
        return Fact("", "nobody says that an address is announced")
    return Fact(", ".join(sorted(said, reverse=True)), "; ".join(said[name] for name in sorted(said, reverse=True)))


def announcing(seen: Seen) -> dict[str, tuple[str, str]]:
    """Service ("namespace/name") -> the nodes that announce its address, comma-separated, and who says so.

    MetalLB's status objects count before its Events; of these only the newest speaks in layer 2 mode, while by BGP
    each node has one of its own, which stays when the node stops.
    """
    found: dict[str, tuple[str, str]] = {}
    by_service: dict[str, list[Object]] = {}
    for item in [*seen.all("ServiceL2Status"), *seen.all("ServiceBGPStatus")]:
        status = item.get("status") or {}
        if status.get("node"):
            by_service.setdefault(f"{status['serviceNamespace']}/{status['serviceName']}", []).append(item)
    for service, items in by_service.items():
        nodes = sorted({item["status"]["node"] for item in items})
        found[service] = ", ".join(nodes), "; ".join(sorted({item["kind"] for item in items}))
    newest: dict[str, list[tuple[str, str]]] = {}
    for event, node, protocol in assignments(seen):
        newest.setdefault(_involved(event).removeprefix("Service "), []).append((node, protocol))
    there = {where(service).removeprefix("Service ") for service in seen.all("Service")}
    for service, said in newest.items():
        if service in found or service not in there:
            continue
        is_bgp = said[-1][1] == "bgp"
        nodes = sorted({node for node, protocol in said if protocol == "bgp"}) if is_bgp else [said[-1][0]]
        found[service] = ", ".join(nodes), "Events nodeAssigned" if is_bgp else "the newest Event nodeAssigned"
    return found


def assignments(seen: Seen) -> Iterator[tuple[Object, str, str]]:
    """MetalLB's Events nodeAssigned, the oldest first: event, node, "l2" or "bgp" ("" before MetalLB 0.13).

    The words are those of metallb speaker/main.go.
    """
    for event in sorted(seen.all("Event"), key=_when):
        said = _ASSIGNED.search(event.get("message") or "")
        if event.get("reason") == "nodeAssigned" and said:
            yield event, said["node"], _PROTOCOLS.get(said["protocol"] or "", "")


def _when(event: Object) -> tuple[str, int]:
    version = str(event["metadata"].get("resourceVersion") or "")
    return str(event.get("lastTimestamp") or event.get("eventTime") or ""), int(version) if version.isdecimal() else 0


def _involved(event: Object) -> str:
    involved = event.get("involvedObject") or {}
    return f"{involved.get('kind', 'Service')} {involved.get('namespace', '')}/{involved.get('name', '')}"


def _status_words(item: Object) -> str:
    status = item.get("status") or {}
    service = f"{status.get('serviceNamespace', '')}/{status.get('serviceName', '')}"
    return f"{where(item)}: node {status.get('node', '')} for Service {service}"


def ip_mode(seen: Seen) -> Fact:
    """What kube-proxy makes of the external addresses: rules (VIP), or none (Proxy, or a name instead).

    ipMode is v1.Service status.loadBalancer.ingress[].ipMode (KEP-1860); unset means VIP.
    """
    by_value: dict[str, str] = {}
    for service in _balanced(seen):
        for ingress in _ingress(service):
            if ingress.get("ip"):
                mode = ingress.get("ipMode")
                said = f"ipMode {mode}" if mode else "ipMode is not set, which means VIP"
                by_value.setdefault(PROXY if mode == PROXY else VIP, f"{where(service)}: {ingress['ip']}, {said}")
            elif ingress.get("hostname"):
                by_value.setdefault(HOSTNAME, f"{where(service)}: {ingress['hostname']}")
    if not by_value:
        return Fact("", seen.silent.get("Service") or "no Service has an external address")
    if len(by_value) > 1:
        return Fact("", f"Services differ: {'; '.join(by_value.values())}")
    return Fact(*next(iter(by_value.items())))


def _balanced(seen: Seen) -> list[Object]:
    return [service for service in seen.all("Service") if (service.get("spec") or {}).get("type") == "LoadBalancer"]


def _ingress(service: Object) -> list[Object]:
    return ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def _has_address(service: Object) -> bool:
    return bool(_ingress(service))
