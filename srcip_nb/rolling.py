"""Rolling updates: new pods in place of the old ones, one after the other, and knowing when the last old one is gone.

    restart(cluster)                kubectl rollout restart deployment webserver
    run_on(cluster, "worker02")     the same Deployment, its pods on one node (a nodeSelector in its template)

``kubectl rollout status`` is content when the new pods are available; here the call returns when the old ones are gone
as well and every node's rules name the new ones only, so that what is sent afterwards meets just these.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from srcip_nb.apply import apply, require_ours
from srcip_nb.cluster import DEPLOYMENT, SERVICE, wait_until
from srcip_nb.errors import UsageError
from srcip_nb.manifest_files import lesson_objects
from srcip_nb.observe import endpoints, pods
from srcip_nb.rollout import rollout_state
from srcip_nb.scale import wait_settled
from srcip_nb.traffic import announcers

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"  # kubectl v1.36 pkg/polymorphichelpers/objectrestarter.go
HOSTNAME = "kubernetes.io/hostname"  # a label that every kubelet gives its node


def restart(
    cluster: Cluster, deployment: str = DEPLOYMENT, service: str = SERVICE, timeout: float = 60.0
) -> pd.DataFrame:
    """Replace every pod of the Deployment by a new one, as ``kubectl rollout restart`` does, and return the new ones.

    Args:
        cluster: where.
        deployment: name of the Deployment.
        service: name of the Service that sends to its pods.
        timeout: seconds for each of the steps.

    Returns:
        As ``cluster.pods()``.

    Raises:
        UsageError: on a real cluster, the Deployment is not ours; nothing was changed.
        NotFinishedError: not done in time; the message holds the last state seen.
    """
    require_ours(cluster, cluster.get("deployments", deployment), "Deployment")
    now = datetime.now(timezone.utc).isoformat()
    template = {"metadata": {"annotations": {RESTARTED_AT: now}}}
    cluster.patch("deployments", deployment, {"spec": {"template": template}})
    return _when_done(cluster, deployment, service, timeout)


def run_on(cluster: Cluster, node: str | None, timeout: float = 60.0) -> pd.DataFrame:
    """Have the lesson's pods run on one node only, by a rolling update; None: wherever the scheduler puts them again.

    The lesson's Deployment is applied with a ``nodeSelector``; to apply it as it stands takes that away again.

    Args:
        cluster: where.
        node: name of a node that takes pods.
        timeout: seconds for each of the steps.

    Returns:
        As ``cluster.pods()``.

    Raises:
        UsageError: there is no such node.
        NotFinishedError: not done in time, for example because the node takes no pods.
    """
    nodes = {one["metadata"]["name"]: one for one in cluster.list("nodes")}
    if node is not None and node not in nodes:
        raise UsageError(f"there is no node {node!r}", f"Choose one of: {', '.join(sorted(nodes))}")
    found = next(one for one in lesson_objects(cluster.namespace) if one["kind"] == "Deployment")
    if node is not None:
        name = nodes[node]["metadata"]["labels"].get(HOSTNAME, node)
        found["spec"]["template"]["spec"]["nodeSelector"] = {HOSTNAME: name}
    apply(cluster, found)
    return _when_done(cluster, DEPLOYMENT, SERVICE, timeout)


def _when_done(cluster: Cluster, deployment: str, service: str, timeout: float) -> pd.DataFrame:
    def state() -> str:
        return rollout_state(_live())

    def _live() -> dict[str, Any]:
        return cluster.get("deployments", deployment)

    remedy = "cluster.events() says what the pods wait for."
    wait_until(state, f"the rollout of deployment {deployment!r}", timeout, remedy=remedy)
    live = _live()
    wait_settled(cluster, live, live["spec"]["replicas"], service, timeout)
    what = f"an announcer of service {service!r} that may take its requests"
    wait_until(lambda: _wrong_announcer(cluster, service), what, timeout, every=0.2, remedy=remedy)
    return pods(cluster)


def _wrong_announcer(cluster: Cluster, service: str) -> str:
    """Who still announces the address without a pod to answer, under Local; "" if nobody, or nobody says it."""
    if cluster.get("services", service)["spec"].get("externalTrafficPolicy") != "Local":
        return ""
    said, able = announcers(cluster, service), set(endpoints(cluster, service)["NODE"])
    return ", ".join(f"{node} has no endpoint" for node in said if node not in able) if able else ""
