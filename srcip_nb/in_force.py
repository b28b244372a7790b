"""Knowing when a change of a Service counts: the API takes it at once, the nodes' rules follow a moment later.

kube-proxy takes the changes of Services in the order in which the API made them, and tells by the healthCheckNodePort
of a Service whether it has loaded the rules (see ``policy.py``). So after a change of one Service, the policy of
another is changed and changed back: once every node was seen to follow that, it has the change before it as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcip_nb.apply import require_ours
from srcip_nb.cluster import SERVICE, wait_until
from srcip_nb.notebook import Yaml
from srcip_nb.policy import policy
from srcip_nb.traffic import POLICIES

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

HINTS_WITHIN = 10.0  # seconds; the EndpointSlice controller writes them in well under one


def wait_in_force(cluster: Cluster, marker: str = SERVICE) -> None:
    """Return when every node's rules hold what the API holds now.

    Args:
        cluster: where.
        marker: a LoadBalancer Service whose externalTrafficPolicy is changed and changed back.

    Raises:
        NotFinishedError: not seen to be in force in time.
    """
    now = cluster.get("services", marker)["spec"]["externalTrafficPolicy"]
    other = next(value for value in POLICIES if value != now)
    policy(cluster, other, marker)
    policy(cluster, now, marker)


def patch_service(cluster: Cluster, name: str, marker: str = SERVICE, **fields: Any) -> Yaml:
    """Change fields of a Service's spec as ``kubectl patch service`` does, and return when they are in force.

    Args:
        cluster: where.
        name: of the Service.
        marker: see ``wait_in_force``.
        **fields: of spec, for example ``internalTrafficPolicy="Local"``; None takes a field away.

    Returns:
        The fields as the API holds them now; null for one that the Service has not.

    Raises:
        ClusterError: the API refused, with its words; nothing was changed.
        UsageError: on a real cluster the Service is not ours; nothing was changed.
        NotFinishedError: set in the API, but not seen to be in force in time.
    """
    import yaml

    require_ours(cluster, cluster.get("services", name), "Service")
    now = cluster.patch("services", name, {"spec": fields})["spec"]
    if "trafficDistribution" in fields:
        wait_until(lambda: _without_hints(cluster, name), f"the hints of service {name!r}", HINTS_WITHIN)
    wait_in_force(cluster, marker)
    return Yaml(yaml.safe_dump({field: now.get(field) for field in fields}, sort_keys=False))


def _without_hints(cluster: Cluster, name: str) -> str:
    """Which ready endpoints do not have the hints yet that the Service's trafficDistribution asks for."""
    wanted = cluster.get("services", name)["spec"].get("trafficDistribution")
    behind = []
    for piece in cluster.list("endpointslices", labels=f"kubernetes.io/service-name={name}"):
        for endpoint in piece.get("endpoints") or []:
            if not endpoint["conditions"].get("ready"):
                continue
            hints = endpoint.get("hints") or {}
            zones = bool(wanted and endpoint.get("zone"))
            nodes = wanted == "PreferSameNode"
            if (bool(hints.get("forZones")), bool(hints.get("forNodes"))) != (zones, nodes):
                behind += endpoint["addresses"]
    return ", ".join(behind)
