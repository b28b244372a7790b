"""Small makers of Services, EndpointSlices and Nodes for the proxy's tests."""

from __future__ import annotations

from typing import Any


def service(name: str = "web", namespace: str = "seminar", **spec: Any) -> dict[str, Any]:
    """A Service with one TCP port 80; `ingress` fills status.loadBalancer, `labels` and `annotations` the metadata."""
    ingress = spec.pop("ingress", None)
    metadata = {"name": name, "namespace": namespace}
    metadata |= {key: spec.pop(key) for key in ("labels", "annotations", "creationTimestamp") if key in spec}
    ports = spec.pop("ports", None) or [{"port": 80, "protocol": "TCP"}]
    obj: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "clusterIP": "10.1.0.10", "ports": ports, **spec},
        "status": {"loadBalancer": {"ingress": ingress} if ingress else {}},
    }
    return obj


def endpoint(ip: str, node: str | None = None, state: str = "ready", **hints: list[str]) -> dict[str, Any]:
    """An endpoint: ready, starting (not yet ready), terminating (still serving) or gone (serving no more)."""
    conditions = {
        "ready": {"ready": True, "serving": True, "terminating": False},
        "starting": {"ready": False, "serving": False, "terminating": False},
        "terminating": {"ready": False, "serving": True, "terminating": True},
        "gone": {"ready": False, "serving": False, "terminating": True},
    }[state]
    entry: dict[str, Any] = {"addresses": [ip], "conditions": conditions}
    if node:
        entry["nodeName"] = node
    if hints:
        kinds = {"zones": "forZones", "nodes": "forNodes"}
        entry["hints"] = {kinds[kind]: [{"name": name} for name in names] for kind, names in hints.items()}
    return entry


def endpoint_slice(
    of: dict[str, Any], *endpoints: dict[str, Any], ports: Any = None, suffix: str = "x"
) -> dict[str, Any]:
    """The EndpointSlice of a Service; its ports are the Service's own unless given."""
    metadata = of["metadata"]
    if ports is None:
        ports = [{"name": p.get("name", ""), "port": p["port"], "protocol": p["protocol"]} for p in of["spec"]["ports"]]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{suffix}",
            "namespace": metadata["namespace"],
            "labels": {"kubernetes.io/service-name": metadata["name"]},
        },
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": ports,
    }


def node(name: str, address: str, zone: str = "", ready: str = "True", **labels: str) -> dict[str, Any]:
    """A Node."""
    if zone:
        labels["topology.kubernetes.io/zone"] = zone
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


NODES = [
    node("master01", "192.168.1.41", "zone-a"),
    node("worker01", "192.168.1.45", "zone-a"),
    node("worker02", "192.168.1.46", "zone-b"),
]
