"""What kube-proxy answers over HTTP on a node: pure functions from state to (status, headers, body).

    :healthCheckNodePort   any path     how many ready endpoints of one Service this node has: 200, or 503 for none
    :10256                 /healthz     is the proxy itself well? (for load balancers and externalTrafficPolicy Cluster)
    :10249                 /proxyMode   the mode it runs in; on the node's 127.0.0.1 only

Words and headers as kubernetes v1.36.2 pkg/proxy/healthcheck/{service_health,proxy_health}.go.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from srcip_nb.lab.proxy.model import Node, ServiceKey
from srcip_nb.lab.proxy.state import ServiceEntry, ServiceMap

HEALTHZ_PORT = 10256
METRICS_PORT = 10249


class Answer(NamedTuple):
    """An HTTP answer: on one path, or with "" on all; on one address of the node, or with 0.0.0.0 on all."""

    status: int
    headers: dict[str, str]
    body: str
    path: str = ""
    address: str = "0.0.0.0"


def health_check_port(entry: ServiceEntry) -> int:
    """Tell the port that load balancers ask about this Service on every node; 0 if it has none."""
    return next((port.health_check_node_port for port, _ in entry if port.health_check_node_port), 0)


def local_ready_endpoints(entry: ServiceEntry, node: Node) -> int:
    """Count the addresses on this node that are ready for the Service: a pod with two ports counts once."""
    return len({e.ip for _, endpoints in entry for e in endpoints if e.ready and e.node_name == node.name})


def service_answer(key: ServiceKey, local_endpoints: int, proxy_is_healthy: bool = True) -> Answer:
    """Say how many endpoints of a Service this node has: 200 with one or more, else 503."""
    namespace, name = (json.dumps(part) for part in key)
    body = (
        "{\n"
        '\t"service": {\n'
        f'\t\t"namespace": {namespace},\n'
        f'\t\t"name": {name}\n'
        "\t},\n"
        f'\t"localEndpoints": {local_endpoints},\n'
        f'\t"serviceProxyHealthy": {"true" if proxy_is_healthy else "false"}\n'
        "}"
    )
    headers = {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(local_endpoints),
    }
    return Answer(200 if local_endpoints and proxy_is_healthy else 503, headers, body)


def service_answers(services: ServiceMap, node: Node, proxy_is_healthy: bool = True) -> dict[int, Answer]:
    """Write the answers of all health check node ports of a node: port -> answer."""
    return {
        port: service_answer(key, local_ready_endpoints(entry, node), proxy_is_healthy)
        for key, entry in services.items()
        if (port := health_check_port(entry))
    }


def proxy_answer(synced_at: str, proxy_is_healthy: bool = True) -> Answer:
    """Say whether the proxy itself is well.

    Args:
        synced_at: when the rules were last made to fit, 2026-11-22T14:26:58Z; the lab writes it for all three times.
        proxy_is_healthy: did that last sync succeed?
    """
    health = {
        "lastUpdated": synced_at,
        "currentTime": synced_at,
        "nodeEligible": True,
        "healthy": proxy_is_healthy,
        "status": {"IPv4": {"lastUpdated": synced_at, "healthy": proxy_is_healthy}},
    }
    headers = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
    body = json.dumps(health, separators=(",", ":"))
    return Answer(200 if proxy_is_healthy else 503, headers, body, "/healthz")


def mode_answer(mode: str) -> Answer:
    """Say which proxy mode runs, as `curl http://localhost:10249/proxyMode` shows it."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return Answer(200, headers, mode, "/proxyMode", "127.0.0.1")
