"""Pods to ask from: one with an address of its own in the pod network, one that shares its node's.

    visitor         a client as any pod is one
    host-visitor    hostNetwork: true; to the rules of its node it is the node

Requests start in them through the API (exec), so they need nothing but their image. In a lab they are clients of
``visit`` by their names; on a real cluster requests start on this machine only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcip_nb.apply import apply
from srcip_nb.cluster import wait_until
from srcip_nb.observe import pods
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

VISITOR, HOST_VISITOR = "visitor", "host-visitor"
LABELS = {"app": "visitor"}
IMAGE = "nginx:latest"


def client_pods(cluster: Cluster, node: str, timeout: float = 60.0) -> pd.DataFrame | None:
    """Start both on a node and return them when they are ready, as ``cluster.pods()`` does.

    Args:
        cluster: where.
        node: its name.
        timeout: seconds.

    Returns:
        The two pods; None on a real cluster, where one sentence says that they are left out.

    Raises:
        NotFinishedError: not ready in time; the message says which is not.
    """
    if cluster.lab is None:
        print(t("client_pods.none"))
        return None
    apply(cluster, [pod_object(VISITOR, node, False), pod_object(HOST_VISITOR, node, True)])
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())

    def look() -> str:
        found = pods(cluster, selector)
        waiting = found.index[found["READY"] != "1/1"]
        return ", ".join(f"{name} is not ready" for name in waiting)

    wait_until(look, "the client pods", timeout, remedy="cluster.events() says what they wait for.")
    return pods(cluster, selector)


def pod_object(name: str, node: str, host_network: bool) -> dict[str, Any]:
    """The manifest of a client pod; it only waits to be asked from."""
    container = {"name": "nginx", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}
    if host_network:
        spec["hostNetwork"] = True
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": LABELS}, "spec": spec}
