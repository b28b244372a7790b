"""A Service for a Deployment's pods, the way ``kubectl expose deployment`` makes one, and knowing when it answers."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from srcip_nb.apply import apply
from srcip_nb.clients import Client, list_clients
from srcip_nb.cluster import DEPLOYMENT, wait_until
from srcip_nb.observe import endpoints, service
from srcip_nb.rollout import VIP_WITHIN, service_address, wait_for_address
from srcip_nb.targets import find_targets
from srcip_nb.traffic import send

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

ASK_TIMEOUT = 1.0  # seconds


def expose(
    cluster: Cluster,
    name: str,
    type: str = "ClusterIP",
    deployment: str = DEPLOYMENT,
    port: int = 80,
    timeout: float = 30.0,
) -> pd.DataFrame:
    """Make a Service for the pods of a Deployment, wait until it answers, and return it as in ``kubectl get service``.

    It answers when it has its endpoints and, in a lab, every node gets an answer at its cluster IP; on a
    real cluster, when this machine gets one at the node ports or the external address, if it has such. Its
    externalTrafficPolicy is Cluster, whatever it was before.

    Args:
        cluster: where.
        name: of the Service.
        type: ClusterIP, NodePort or LoadBalancer.
        deployment: whose pods it sends to; a Deployment with ready pods.
        port: of the Service and of the pods.
        timeout: seconds for each of the steps.

    Raises:
        UsageError: on a real cluster, a Service of that name exists and is not ours.
        ManifestError: the API takes no such Service.
        NotFinishedError: it did not answer in time.
    """
    live = cluster.get("deployments", deployment)
    spec = {"type": type, "selector": live["spec"]["selector"]["matchLabels"], "ports": [{"port": port}]}
    if type != "ClusterIP":
        # The API's own default, said all the same: a run before this one may have left Local.
        spec["externalTrafficPolicy"] = "Cluster"
    apply(cluster, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    wanted = live["spec"].get("replicas", 1)
    wait_until(lambda: _missing(cluster, name, wanted), f"the endpoints of service {name!r}", timeout)
    if type == "LoadBalancer":
        wait_for_address(cluster, name, VIP_WITHIN)
    wait_until(lambda: _silent(cluster, name), f"an answer of service {name!r} by way of every node", timeout)
    return service(cluster, name)


def _missing(cluster: Cluster, name: str, wanted: int) -> str:
    ready = int(endpoints(cluster, name)["READY"].sum())
    return "" if ready >= wanted else f"{ready} ready endpoints of {wanted}"


def _silent(cluster: Cluster, name: str) -> str:
    """What does not answer yet; a node's rules for all addresses of a Service come at once, so one is enough."""
    body, nodes = cluster.get("services", name), cluster.list("nodes")
    asked: list[tuple[Client, str]] = []
    if cluster.lab is not None:
        (target,) = find_targets(body, nodes, "clusterip")
        in_cluster = {node["metadata"]["name"] for node in nodes}
        asked += [(client, target) for client in list_clients(cluster) if client.name in in_cluster]
    own = list_clients(cluster)[0]
    if service_address(body):
        asked.append((own, find_targets(body, nodes, None)[0]))
    elif cluster.lab is None and body["spec"]["type"] == "NodePort":
        asked += [(own, target) for target in find_targets(body, nodes, "nodeport")]
    silent = []
    for client, target in asked:
        (result,) = send(client, secrets.token_hex(4), [target], 1, timeout=ASK_TIMEOUT)
        silent += [] if result["status"] else [f"{client.name} -> {target}: {result['error']}"]
    return ", ".join(silent)
