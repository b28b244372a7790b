"""What a Service's healthCheckNodePort says: it tells a load balancer to which nodes it may send.

Under ``Local`` kube-proxy answers on this port of every node: 200 where a ready pod of the Service runs, 503 where none
does, with the number of local endpoints in the body (kubernetes v1.36.2 pkg/proxy/healthcheck/service_health.go). Under
``Cluster`` there is no such port.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from srcip_nb.clients import find_client
from srcip_nb.cluster import SERVICE
from srcip_nb.errors import UsageError
from srcip_nb.notebook import Shown
from srcip_nb.targets import internal_ip, join

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

ASK_TIMEOUT = 1.0  # seconds


def health(cluster: Cluster, service: str = SERVICE, client: str | None = None) -> pd.DataFrame:
    """Ask every node's health check node port, from a client.

    Args:
        cluster: where.
        service: name of the Service.
        client: the host that asks; None: the first of ``cluster.clients()``.

    Returns:
        Index node; url, status (NA without an answer), error, local_endpoints (NA if it did not say).

    Raises:
        UsageError: the Service has no such port; it has one under externalTrafficPolicy Local only.
    """
    port = cluster.get("services", service)["spec"].get("healthCheckNodePort")
    if not port:
        raise UsageError(f"service {service!r} has no healthCheckNodePort", 'It has one under cluster.policy("Local").')
    nodes = {node["metadata"]["name"]: internal_ip(node) for node in cluster.list("nodes")}
    urls = [f"http://{join(address, port)}/healthz" for address in nodes.values()]
    requests = [{"id": n, "url": url, "headers": {}} for n, url in enumerate(urls)]
    answers = find_client(cluster, client).send(requests, concurrency=len(urls), timeout=ASK_TIMEOUT)
    by_id = {answer["id"]: answer for answer in answers}
    rows = [(url, by_id[n]["status"], by_id[n]["error"], _local_endpoints(by_id[n])) for n, url in enumerate(urls)]
    frame = pd.DataFrame(
        rows, columns=["url", "status", "error", "local_endpoints"], index=pd.Index(nodes, name="node")
    )
    return frame.astype({"url": "string", "status": "Int16", "error": "string", "local_endpoints": "Int64"})


def health_answer(cluster: Cluster, node: str, service: str = SERVICE) -> Shown:
    """What one node's kube-proxy says on the health check node port, word for word: status and body.

    Raises:
        UsageError: the Service has no such port, or there is no such node.
    """
    port = cluster.get("services", service)["spec"].get("healthCheckNodePort")
    addresses = {one["metadata"]["name"]: internal_ip(one) for one in cluster.list("nodes")}
    if not port or node not in addresses:
        missing = f"service {service!r} has no healthCheckNodePort" if not port else f"there is no node {node!r}"
        raise UsageError(missing, 'Set cluster.policy("Local") first; the nodes are in cluster.nodes().')
    request = {"id": 0, "url": f"http://{join(addresses[node], port)}/healthz", "headers": {}}
    (answer,) = find_client(cluster, None).send([request], concurrency=1, timeout=ASK_TIMEOUT)
    return Shown(f"GET {request['url']}\n{answer['status'] or answer['error']}\n{answer['body']}".rstrip())


def _local_endpoints(answer: dict[str, Any]) -> int | None:
    try:
        return int(json.loads(answer["body"])["localEndpoints"])
    except (ValueError, KeyError, TypeError):
        return None  # no answer, or not kube-proxy's
