"""A node as a client: a pod on its host's network, made when it is asked for.

Such a pod has no address of its own: what it sends leaves with the node's. It waits for a shell's work for at most an
hour and is not started again, so that an interrupted run leaves nothing running; it bears our label, so
``cluster.delete()`` takes it away with the lesson. It tolerates every taint: a control plane is a client as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcip_nb.apply import apply
from srcip_nb.cluster import DEPLOYMENT, is_ready, wait_until
from srcip_nb.errors import ClusterError, NotFinishedError, UsageError
from srcip_nb.rest import ApiAnswerError
from srcip_nb.rollout import trouble

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

APP = "srcip-client"
IMAGE = "nginx:latest"
LIVES = 3600  # seconds
READY_WITHIN = 60.0  # seconds; an image may have to be pulled


def host_pod_object(name: str, node: str, image: str = IMAGE, app: str = APP) -> dict[str, Any]:
    """The pod: on the node's network, only waiting, since port 80 of a host may be taken."""
    container = {"name": "nginx", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", str(LIVES)]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "containers": [container],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
        },
    }


def host_pod(cluster: Cluster, node: str) -> str:
    """The running pod that is this node as a client, NAMESPACE/NAME; made if there is none.

    Raises:
        UsageError: there is no such node.
        ClusterError: the node is not Ready, the cluster's policy takes no pods on the host's network, or there is no
            namespace yet.
        NotFinishedError: it did not start in time; the message says why.
    """
    found = next((body for body in cluster.list("nodes") if body["metadata"]["name"] == node), None)
    if found is None:
        raise UsageError(f"there is no node {node!r}", "See them: cluster.nodes()")
    if not is_ready(found):
        raise ClusterError(f"node {node!r} is not Ready: no pod starts there", f"See why: kubectl describe node {node}")
    name = f"{APP}-{node}"[:63].rstrip("-.")
    live = cluster.find("pods", name)
    if live is not None and has_ended(live):
        cluster.request("DELETE", f"/api/v1/namespaces/{cluster.namespace}/pods/{name}")
        wait_until(
            lambda: "it is there" if cluster.find("pods", name) else "", f"the end of pod {name!r}", READY_WITHIN
        )
        live = None
    if live is None:
        try:
            apply(cluster, host_pod_object(name, node, image_of(cluster)))
        except ApiAnswerError as error:
            if error.code == 403 and "PodSecurity" in error.cause:
                raise ClusterError(
                    f"namespace {cluster.namespace!r} takes no pod on the host's network: {error.cause}",
                    "Let the client be a pod: visit(client='pod/NAME'), or this machine",
                ) from error
            raise
    wait_for_host_pod(cluster, name)
    return f"{cluster.namespace}/{name}"


def image_of(cluster: Cluster) -> str:
    """The image of the lesson's Deployment: what the cluster can pull, its clients can use too."""
    found = cluster.find("deployments", DEPLOYMENT)
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"]) if found else IMAGE


def has_ended(pod: dict[str, Any]) -> bool:
    """Whether a pod will not run again, or is being deleted."""
    return pod["status"].get("phase") in ("Succeeded", "Failed") or bool(pod["metadata"].get("deletionTimestamp"))


def wait_for_host_pod(cluster: Cluster, name: str) -> None:
    """Return when the pod is Ready.

    Raises:
        NotFinishedError: not in time; the message holds its state and its newest warning.
    """

    def look() -> str:
        pod = cluster.get("pods", name)
        if is_ready(pod):
            return ""
        return trouble([pod]).get(name) or str(pod["status"].get("phase") or "Pending")

    try:
        wait_until(look, f"pod {name!r} on the host's network", READY_WITHIN)
    except NotFinishedError as error:
        fields = f"involvedObject.name={name},type=Warning"
        said = [event["message"] for event in cluster.list("events", fields=fields)]
        raise NotFinishedError(
            f"{error.cause}{f'; {said[-1]}' if said else ''}", "Is its node Ready? kubectl get nodes"
        ) from (error)
