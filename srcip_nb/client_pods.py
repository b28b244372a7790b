"""Pods to ask from: one with an address of its own in the pod network, one that shares its node's.

    visitor         a client as any pod is one
    host-visitor    hostNetwork: true; to the rules of its node it is the node

Requests start in them through the API (exec), so they need nothing but their image. They are clients of ``visit`` by
their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcip_nb.apply import apply
from srcip_nb.clients import find_client
from srcip_nb.cluster import wait_until
from srcip_nb.notebook import Shown
from srcip_nb.observe import pods

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

VISITOR, HOST_VISITOR = "visitor", "host-visitor"
LABELS = {"app": "asker"}
IMAGE = "nginx:latest"
ASK_WITHIN = 3.0  # seconds


def client_pods(cluster: Cluster, node: str, timeout: float = 60.0) -> pd.DataFrame:
    """Start both on a node and return them when they are ready, as ``cluster.pods()`` does.

    Args:
        cluster: where.
        node: its name.
        timeout: seconds.

    Returns:
        The two pods.

    Raises:
        NotFinishedError: not ready in time; the message says which is not.
    """
    apply(cluster, [pod_object(VISITOR, node, False), pod_object(HOST_VISITOR, node, True)])
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())

    def look() -> str:
        found = pods(cluster, selector)
        waiting = found.index[found["READY"] != "1/1"]
        return ", ".join(f"{name} is not ready" for name in waiting)

    wait_until(look, "the client pods", timeout, remedy="cluster.events() says what they wait for.")
    return pods(cluster, selector)


def ask_on(cluster: Cluster, node: str, url: str) -> Shown:
    """What a node itself is answered, for example by a port that listens on 127.0.0.1 alone: the body, else the error.

    In a lab the node's host asks, on a real cluster a pod on the node's network, made if there is none.

    Args:
        cluster: where.
        node: its name.
        url: an http URL.

    Raises:
        UsageError: no such node.
        ClusterError: no pod can run there.
    """
    request = {"id": 0, "url": url, "headers": {}}
    (answer,) = find_client(cluster, node).send([request], concurrency=1, timeout=ASK_WITHIN)
    return Shown(answer["body"] or answer["error"] or f"HTTP {answer['status']}")


def pod_object(name: str, node: str, host_network: bool) -> dict[str, Any]:
    """The manifest of a client pod; it only waits to be asked from."""
    container = {"name": "nginx", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}
    if host_network:
        spec["hostNetwork"] = True
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": LABELS}, "spec": spec}
