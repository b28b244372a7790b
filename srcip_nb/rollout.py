"""Waiting until what was applied is there: the Deployment rolled out, the Service with its address.

The words are kubectl's (``kubectl rollout status``). A pod that cannot start ends the wait at once, with what the
cluster says about it, where waiting longer would not help.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import DEPLOYMENT, SERVICE, wait_until
from srcip_nb.errors import NotFinishedError
from srcip_nb.listening import wait_listening

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

# Reasons of a waiting container that do not pass by themselves: a wrong name stays wrong, and a back-off means that
# the kubelet has tried at least twice.
HOPELESS = {
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CrashLoopBackOff",
}
# What the Deployment controller writes on a Deployment, its ReplicaSets and their pods.
REVISION = "deployment.kubernetes.io/revision"
TEMPLATE_HASH = "pod-template-hash"
VIP_WITHIN = 15.0  # seconds; where a load balancer is at all, it answers in less


def wait_ready(
    cluster: Cluster,
    timeout: float = 60.0,
    *,
    deployment: str = DEPLOYMENT,
    service: str = SERVICE,
    vip_within: float = VIP_WITHIN,
) -> pd.DataFrame:
    """Wait until the Deployment is rolled out, the Service has its external address, and its pods listen.

    A Service whose EXTERNAL-IP stays pending is no error, since many clusters have no load balancer: the table says
    by which road to go on. So it does of pods that still refuse connections (asked in a lab alone, see listening.py).

    Args:
        cluster: where.
        timeout: seconds for the rollout.
        deployment: name of the Deployment.
        service: name of the Service.
        vip_within: seconds for the address, after the rollout.

    Returns:
        One row each for the Deployment and the Service: kind, name, state, seconds.

    Raises:
        NotFinishedError: with the last state seen, and the events of the pod that does not start.
        ClusterError: no such Deployment or Service.
    """
    import pandas as pd

    started = time.monotonic()

    def look_at_rollout() -> str:
        live = cluster.get("deployments", deployment)
        state = rollout_state(live)
        if state and trouble(_newest_pods(cluster, live), only=HOPELESS):
            raise _HopelessError(state)
        return state

    try:
        wait_until(look_at_rollout, f"the rollout of deployment {deployment!r}", timeout)
    except (_HopelessError, NotFinishedError) as error:
        state = error.cause if isinstance(error, NotFinishedError) else str(error)
        raise _not_started(cluster, cluster.get("deployments", deployment), state) from error
    ready = cluster.get("deployments", deployment)["status"].get("readyReplicas", 0)
    rows = [("Deployment", deployment, f"{ready} of {ready} replicas ready", time.monotonic() - started)]
    address = wait_for_address(cluster, service, vip_within)
    state = address or _pending(cluster.get("services", service))
    refusing = wait_listening(cluster, service, service_address(cluster.get("services", service)))
    if refusing:
        state += f"; connections are still refused by {refusing}"
    rows.append(("Service", service, state, time.monotonic() - started))
    return pd.DataFrame(rows, columns=["kind", "name", "state", "seconds"]).round({"seconds": 2})


def rollout_state(deployment: dict[str, Any]) -> str:
    """What a rollout still waits for, in kubectl's words; "" when it is complete.

    Source: kubernetes v1.36.2 staging/src/k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go.
    """
    name, status = deployment["metadata"]["name"], deployment.get("status") or {}
    wanted = deployment["spec"].get("replicas", 1)
    replicas, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    available = status.get("availableReplicas", 0)
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "waiting for deployment spec update to be observed"
    if updated < wanted:
        return f"{updated} out of {wanted} new replicas of {name} have been updated"
    if replicas > updated:
        return f"{replicas - updated} old replicas of {name} are pending termination"
    if available < updated:
        return f"{available} of {updated} updated replicas of {name} are available"
    return ""


def trouble(pods: list[dict[str, Any]], only: set[str] | None = None) -> dict[str, str]:
    """Why pods do not run: pod name -> the reason and message of its waiting container, or of its scheduling.

    Args:
        pods: Pod objects.
        only: reasons that count; None: all.
    """
    found = {}
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        states = [c.get("state", {}).get("waiting") for c in status.get("containerStatuses") or []]
        states += [
            {"reason": c.get("reason"), "message": c.get("message")}
            for c in status.get("conditions") or []
            if c["type"] == "PodScheduled" and c["status"] == "False"
        ]
        for state in states:
            if state and (only is None or state.get("reason") in only):
                found[name] = ": ".join(word for word in (state.get("reason"), state.get("message")) if word)
    return found


def service_address(service: dict[str, Any]) -> str:
    """The external address a load balancer gave the Service, an IP address or a name; "" while there is none."""
    ingress = (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or []
    return next((entry.get("ip") or entry.get("hostname") for entry in ingress), "") or ""


class _HopelessError(Exception):
    """A rollout for which it makes no sense to wait longer; the message is its state."""


def _newest_pods(cluster: Cluster, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of the Deployment's present template; those of an earlier one may be as broken as they like."""
    metadata = deployment["metadata"]
    if (deployment.get("status") or {}).get("observedGeneration", 0) < metadata.get("generation", 0):
        return []  # which template is the present one is not yet written down
    labels = deployment["spec"]["selector"].get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    revision = (metadata.get("annotations") or {}).get(REVISION)
    newest = [
        body["metadata"]["labels"][TEMPLATE_HASH]
        for body in cluster.list("replicasets", labels=selector)
        if (body["metadata"].get("annotations") or {}).get(REVISION) == revision
    ]
    return [pod for value in newest for pod in cluster.list("pods", labels=f"{selector},{TEMPLATE_HASH}={value}")]


def _not_started(cluster: Cluster, deployment: dict[str, Any], state: str) -> NotFinishedError:
    name = deployment["metadata"]["name"]
    said = trouble(_newest_pods(cluster, deployment))
    words = [f"{pod}: {reason}" for pod, reason in said.items()]
    for pod in said:
        events = cluster.list("events", fields=f"involvedObject.name={pod},type=Warning")
        words += [f"event {e['reason']}: {e['message']}" for e in events[-3:]]
    unique = list(dict.fromkeys(words))
    cannot_pull = any("ErrImagePull" in word or "ImagePullBackOff" in word for word in unique)
    elsewhere = "; an image that the nodes can pull: connect(…, image='REGISTRY/nginx:TAG')" if cannot_pull else ""
    return NotFinishedError(
        f"deployment {name!r} is not ready ({state})" + "".join(f"; {word}" for word in unique),
        f"Look closer: kubectl describe pods -n {cluster.namespace}{elsewhere}",
    )


def _pending(service: dict[str, Any]) -> str:
    port = service["spec"]["ports"][0].get("nodePort")
    road = f"visit() goes by node port {port}" if port else "and it has no node port; try visit(target='clusterip')"
    return f"EXTERNAL-IP <pending>: no load balancer gave it an address; {road}"


def wait_for_address(cluster: Cluster, name: str, timeout: float) -> str:
    """The Service's external address; "" where it stays pending."""
    service = cluster.get("services", name)
    if service["spec"].get("type") != "LoadBalancer":
        return f"type {service['spec'].get('type')}, no external address"

    def look() -> str:
        return "" if service_address(cluster.get("services", name)) else "EXTERNAL-IP is <pending>"

    try:
        wait_until(look, f"the external address of service {name!r}", timeout)
    except NotFinishedError:
        return ""
    return service_address(cluster.get("services", name))
