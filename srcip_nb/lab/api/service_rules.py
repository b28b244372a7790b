"""What a Service needs, by its type and policies: the questions that defaults, allocation and validation share.

Source: kubernetes v1.36.2 pkg/api/service/util.go, pkg/registry/core/service/strategy.go.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

HEADLESS = "None"
"""The cluster IP of a Service that has none."""


def is_externally_accessible(service: Object) -> bool:
    """Whether anybody outside the cluster can reach it: by its type, or by external IPs."""
    spec = service["spec"]
    has_external_ips = spec.get("type", "ClusterIP") == "ClusterIP" and bool(spec.get("externalIPs"))
    return needs_node_port(service) or has_external_ips


def is_headless(service: Object) -> bool:
    """Whether it has no cluster IP by its own wish."""
    return service["spec"].get("clusterIPs") == [HEADLESS]


def needs_cluster_ip(service: Object) -> bool:
    """Whether it holds a cluster IP ("None" counts): every type but ExternalName."""
    return service["spec"].get("type") != "ExternalName"


def needs_node_port(service: Object) -> bool:
    """Whether its type has node ports."""
    return service["spec"].get("type") in ("NodePort", "LoadBalancer")


def needs_health_check(service: Object) -> bool:
    """Whether every node answers a load balancer's question if it has local endpoints: LoadBalancer and Local."""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def node_ports(service: Object) -> list[int]:
    """The node ports of its ports, without the health check's."""
    return [port["nodePort"] for port in service["spec"].get("ports", []) if port.get("nodePort")]
