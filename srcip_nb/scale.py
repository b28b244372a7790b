"""Another number of pods, and knowing when requests meet just these.

``kubectl scale`` returns at once. Here the call returns when the pods that go are gone, the pods that come are ready,
the Service's EndpointSlices list exactly these, and, where a healthCheckNodePort tells, every node's kube-proxy does
too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pandas as pd

from srcip_nb.apply import require_ours
from srcip_nb.cluster import DEPLOYMENT, SERVICE, wait_until
from srcip_nb.health import health
from srcip_nb.observe import endpoints, pods

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

# seconds; kubernetes v1.36 pkg/proxy/apis/config: iptables.minSyncPeriod is 1 s. A health check node port says 0 once
# the last pod is terminating, while the rules still lead there: until the end of that pod is in the next ones.
NEXT_RULES = 2.0


def scale(
    cluster: Cluster, replicas: int, deployment: str = DEPLOYMENT, service: str = SERVICE, timeout: float = 60.0
) -> pd.DataFrame:
    """Set the number of pods, wait until requests meet just these, and return them as ``cluster.pods()`` does.

    Args:
        cluster: where.
        replicas: how many pods.
        deployment: name of the Deployment.
        service: name of the Service that sends to them.
        timeout: seconds.

    Raises:
        UsageError: on a real cluster, the Deployment is not ours; nothing was changed.
        NotFinishedError: not there in time; the message holds the last state seen.
        ClusterError: the API refused, for example a negative number.
    """
    live = cluster.get("deployments", deployment)
    require_ours(cluster, live, "Deployment")
    cluster.patch("deployments", deployment, {"spec": {"replicas": replicas}})
    wait_settled(cluster, live, replicas, service, timeout)
    has_pods_that_went = replicas < live["spec"].get("replicas", 1)
    if has_pods_that_went and cluster.lab is None:
        time.sleep(NEXT_RULES)
    return pods(cluster)


def wait_settled(cluster: Cluster, deployment: dict[str, Any], replicas: int, service: str, timeout: float) -> None:
    """Wait until the Deployment has so many pods, all ready and none on its way out, and requests meet just these.

    Raises:
        NotFinishedError: not there in time; the message holds the last state seen.
    """
    labels = ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())
    remedy = "cluster.events() says what the pods wait for."
    what = f"{replicas} pods of deployment {deployment['metadata']['name']!r}"
    wait_until(lambda: _difference(cluster, labels, replicas, service), what, timeout, remedy=remedy)
    wait_until(lambda: _behind(cluster, service), "the nodes' rules for these pods", timeout)


def _difference(cluster: Cluster, labels: str, replicas: int, service: str) -> str:
    found = len(cluster.list("pods", labels=labels))
    ready = int(endpoints(cluster, service)["READY"].sum())
    return "" if found == ready == replicas else f"{found} pods, {ready} ready endpoints"


def _behind(cluster: Cluster, service: str) -> str:
    """The nodes whose kube-proxy does not count the endpoints yet, as far as a health check node port tells."""
    if not cluster.get("services", service)["spec"].get("healthCheckNodePort"):
        return ""
    wanted = endpoints(cluster, service)["NODE"].value_counts()
    said = health(cluster, service)["local_endpoints"].dropna()
    behind = [f"{node} says {count}" for node, count in said.items() if count != wanted.get(node, 0)]
    return ", ".join(behind)
