"""Which addresses a Service has: from Service and pods to EndpointSlices and Endpoints, without reading anything.

    Service (selector) + pods  ->  EndpointSlices: what kube-proxy reads; ready, serving and terminating of each pod
                               ->  Endpoints: the older form, ready or not ready and nothing else

Source: kubernetes v1.36.2 staging/src/k8s.io/endpointslice/utils.go and pkg/controller/endpoint.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from srcip_nb.lab.controllers.objects import (
    Object,
    annotations_of,
    has_labels,
    is_finished,
    is_ready,
    is_terminating,
    labels_of,
    owner_reference,
)

MAX_ENDPOINTS = 100
"""Endpoints in one slice (--max-endpoints-per-slice)."""

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
ZONE = "topology.kubernetes.io/zone"

_ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
_UNCOPIED_ANNOTATIONS = {"kubectl.kubernetes.io/last-applied-configuration", TRIGGER_TIME}

Port = tuple[str, str, int, str]
"""Name, protocol, number, appProtocol ("" for none) of a Service's port as one pod has it."""


def selected_pods(service: Object, pods: Iterable[Object]) -> list[Object]:
    """The pods behind a Service: selected, with an address, and not ended; in order of their addresses."""
    selector = service["spec"].get("selector") or {}
    namespace = service["metadata"].get("namespace", "")
    found = [
        pod
        for pod in pods
        if pod["metadata"].get("namespace", "") == namespace
        and has_labels(labels_of(pod), selector)
        and (pod.get("status") or {}).get("podIP")
        and not is_finished(pod)
    ]
    return sorted(found, key=lambda pod: (int(ipaddress.ip_address(pod["status"]["podIP"])), pod["metadata"]["name"]))


def ports_of(service: Object, pod: Object) -> tuple[Port, ...]:
    """The Service's ports as this pod has them; a target port by a name that the pod does not have is left out."""
    ports = []
    for port in service["spec"].get("ports") or []:
        protocol = port.get("protocol", "TCP")
        number = _target_number(port, protocol, pod)
        if number is not None:
            ports.append((port.get("name") or "", protocol, number, port.get("appProtocol") or ""))
    return tuple(ports)


def _target_number(port: Object, protocol: str, pod: Object) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    for container in pod["spec"].get("containers") or []:
        for own in container.get("ports") or []:
            if own.get("name") == target and own.get("protocol", "TCP") == protocol:
                return int(own["containerPort"])
    return None


def endpoint_of(service: Object, pod: Object, zones: Mapping[str, str]) -> Object:
    """One endpoint of a slice.

    Args:
        service: for publishNotReadyAddresses, and the subdomain of pods that have a host name.
        pod: with an address.
        zones: node name -> zone, for nodes that are in one.
    """
    metadata, status = pod["metadata"], pod["status"]
    serving = is_ready(pod)
    terminating = is_terminating(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    endpoint: Object = {
        "addresses": [status["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
    }
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = pod["spec"]["hostname"]
    endpoint["targetRef"] = {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    node = pod["spec"].get("nodeName")
    if node:
        endpoint["nodeName"] = node
        if node in zones:
            endpoint["zone"] = zones[node]
    hints = hints_of(service, endpoint) if ready else {}
    return {**endpoint, "hints": hints} if hints else endpoint


def hints_of(service: Object, endpoint: Object) -> Object:
    """For whom a ready endpoint is meant, by the Service's trafficDistribution; {} where for everybody.

    Its own zone for each of the three values, where the node is in one; under PreferSameNode its node too. Source:
    kubernetes v1.36.2 staging/src/k8s.io/endpointslice/trafficdist/trafficdist.go.
    """
    wanted = service["spec"].get("trafficDistribution")
    hints: Object = {}
    if wanted in ("PreferClose", "PreferSameZone", "PreferSameNode") and "zone" in endpoint:
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if wanted == "PreferSameNode" and "nodeName" in endpoint:
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints


def endpointslices_for(
    service: Object,
    pods: Iterable[Object],
    present: Sequence[Object] = (),
    zones: Mapping[str, str] | None = None,
) -> list[Object]:
    """The EndpointSlices that a Service should have.

    Pods with the same port numbers share slices of at most 100. A present slice is used again, so its name stays; the
    others have a generateName for the store to fill. A Service without endpoints keeps one empty slice.

    Args:
        service: with a selector.
        pods: every pod (others' are passed over).
        present: the slices that it has now.
        zones: node name -> zone.
    """
    groups: dict[tuple[Port, ...], list[Object]] = {}
    for pod in selected_pods(service, pods):
        groups.setdefault(ports_of(service, pod), []).append(endpoint_of(service, pod, zones or {}))
    chunks = [
        (ports, endpoints[start : start + MAX_ENDPOINTS])
        for ports, endpoints in sorted(groups.items())
        for start in range(0, len(endpoints), MAX_ENDPOINTS)
    ]
    unused = sorted(present, key=lambda piece: piece["metadata"]["name"])
    slices = []
    for ports, endpoints in chunks or [((), [])]:
        wanted_ports = [_slice_port(port) for port in ports]
        same_ports = [piece for piece in unused if piece.get("ports") == wanted_ports]
        reused = next(iter(same_ports or unused), None)
        if reused is not None:
            unused.remove(reused)
        slices.append(_slice(service, wanted_ports, endpoints, reused))
    return slices


def _slice_port(port: Port) -> Object:
    name, protocol, number, app_protocol = port
    written: Object = {"name": name, "protocol": protocol, "port": number}
    return {**written, "appProtocol": app_protocol} if app_protocol else written


def _slice(service: Object, ports: list[Object], endpoints: list[Object], present: Object | None) -> Object:
    name = service["metadata"]["name"]
    labels = {**labels_of(service), MANAGED_BY: MANAGER, SERVICE_NAME: name}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    metadata = {
        **(present["metadata"] if present else {"generateName": f"{name}-"}),
        "namespace": service["metadata"]["namespace"],
        "labels": labels,
        "ownerReferences": [owner_reference(service, "v1", "Service")],
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def endpoints_for(service: Object, pods: Iterable[Object], present: Object | None = None) -> Object:
    """The Endpoints object that a Service should have: addresses ready and not ready; terminating pods are left out."""
    subsets: dict[tuple[Port, ...], Object] = {}
    publishes_all = bool(service["spec"].get("publishNotReadyAddresses"))
    for pod in selected_pods(service, pods):
        if is_terminating(pod) and not publishes_all:
            continue
        subset = subsets.setdefault(ports_of(service, pod), {})
        field = "addresses" if publishes_all or is_ready(pod) else "notReadyAddresses"
        subset.setdefault(field, []).append(_address(service, pod))
    metadata = service["metadata"]
    annotations = {name: v for name, v in annotations_of(service).items() if name not in _UNCOPIED_ANNOTATIONS}
    if present and TRIGGER_TIME in annotations_of(present):
        annotations[TRIGGER_TIME] = annotations_of(present)[TRIGGER_TIME]
    labels = {**labels_of(service), _ENDPOINTS_MANAGED_BY: "endpoint-controller"}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    own = {"name": metadata["name"], "namespace": metadata["namespace"]}
    wanted: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {**(present["metadata"] if present else own), "labels": labels},
    }
    if annotations:
        wanted["metadata"]["annotations"] = annotations
    if subsets:
        wanted["subsets"] = [_subset(ports, subset) for ports, subset in sorted(subsets.items())]
    return wanted


def _subset(ports: Sequence[Port], subset: Object) -> Object:
    written = {field: sorted(addresses, key=lambda a: a["ip"]) for field, addresses in sorted(subset.items())}
    shown = [{name: value for name, value in _slice_port(port).items() if value} for port in ports]
    listed = [{"port": port["port"], **port} for port in shown]
    return {**written, "ports": listed} if listed else written


def _address(service: Object, pod: Object) -> Object:
    metadata = pod["metadata"]
    address: Object = {"ip": pod["status"]["podIP"]}
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        address["hostname"] = pod["spec"]["hostname"]
    if pod["spec"].get("nodeName"):
        address["nodeName"] = pod["spec"]["nodeName"]
    reference = {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}
    return {**address, "targetRef": reference}
