"""A lab of a notebook's own, beside the one that the course shares.

Some questions need another network than the course's lab has: more nodes, or another way to announce addresses. What
is asked there must not disturb the notebooks that use the shared one, so it is a lab for itself. It belongs to the
kernel that asked for it, and ends with it at the latest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcip_nb.lab import Lab
from srcip_nb.text import t
from srcip_nb.worlds import LessonCluster, connect

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

_running: dict[tuple[tuple[str, Any], ...], Lab] = {}


def second_lab(beside: Cluster, **settings: Any) -> LessonCluster | None:
    """Start a lab of these settings, and connect to it; the one that runs already if the cell is run again.

    Args:
        beside: the notebook's cluster. Beside a real cluster no lab is started: one sentence says so.
        **settings: as ``Lab`` takes them, for example ``workers=3, announce="bgp"``.

    Returns:
        The cluster, in the same namespace; None beside a real cluster.

    Raises:
        LabError: it cannot be started.
        UsageError: a setting is unknown or out of range.
    """
    if beside.lab is None:
        print(t("second_lab.none"))
        return None
    key = tuple(sorted(settings.items()))
    if key not in _running:
        lab = Lab(**settings)
        lab.__enter__()
        _running[key] = lab
    return connect(lab=_running[key], namespace=beside.namespace)


def end_second_labs() -> None:
    """Stop the labs that ``second_lab`` started here."""
    while _running:
        _, lab = _running.popitem()
        lab.__exit__(None, None, None)
