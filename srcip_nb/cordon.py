"""Keeping new pods off a node of a lab, and letting them on again: ``kubectl cordon`` and ``kubectl uncordon``.

Pods that run there stay; who wants them gone deletes them, and their successors go elsewhere (``kubectl drain`` does
both). Nodes of a real cluster belong to others as well, so they are left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from srcip_nb.errors import UsageError
from srcip_nb.observe import nodes

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster


def cordon(cluster: Cluster, node: str) -> pd.DataFrame:
    """Let no more pods be scheduled onto a node, and return the nodes; STATUS says SchedulingDisabled.

    Raises:
        UsageError: this is a real cluster, or there is no such node; nothing was changed.
    """
    return _set(cluster, node, True)


def uncordon(cluster: Cluster, node: str) -> pd.DataFrame:
    """Let pods be scheduled onto a node again, and return the nodes.

    Raises:
        UsageError: this is a real cluster, or there is no such node; nothing was changed.
    """
    return _set(cluster, node, False)


def _set(cluster: Cluster, node: str, is_cordoned: bool) -> pd.DataFrame:
    word = "cordon" if is_cordoned else "uncordon"
    if cluster.lab is None:
        raise UsageError(
            f"nodes of a real cluster are not for srcip-nb to {word}",
            f"If it is yours: kubectl --context {cluster.world.name} {word} {node}",
        )
    known = sorted(one["metadata"]["name"] for one in cluster.list("nodes"))
    if node not in known:
        raise UsageError(f"there is no node {node!r}", f"Choose one of: {', '.join(known)}")
    cluster.patch("nodes", node, {"spec": {"unschedulable": is_cordoned or None}})
    return nodes(cluster)
