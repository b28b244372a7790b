"""A lab of a notebook's own, beside the one that the course shares.

Some questions need another network than the course's lab has: more nodes, or another way to announce addresses. What
is asked there must not disturb the notebooks that use the shared one, so it is a lab for itself. It belongs to the
kernel that asked for it, and ends with it at the latest. In a recording it is a part of its own, named by its settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import LabError
from srcip_nb.recordings import replay_rest
from srcip_nb.tape import ReplayTape, told
from srcip_nb.taped import TapedLab
from srcip_nb.text import t
from srcip_nb.worlds import LessonCluster, cluster_of, first_line

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster
    from srcip_nb.lab import Lab

_running: dict[str, tuple[contextlib.ExitStack, LessonCluster]] = {}


@contextlib.contextmanager
def lab_beside(beside: Cluster, **settings: Any) -> Iterator[LessonCluster]:
    """A lab of these settings, and the cluster in it, for as long as the block takes.

    Args:
        beside: the notebook's cluster; its namespace, image and tape are the lab's too.
        **settings: as ``Lab`` takes them.

    Raises:
        LabError: it cannot be started, or could not when it was recorded.
        UsageError: a setting is unknown or out of range, or no such lab was recorded.
    """
    started: list[Lab] = []
    refused: list[LabError] = []
    with contextlib.ExitStack() as stack:

        def start() -> dict[str, str]:
            from srcip_nb.lab import Lab  # a recording opens where nothing of Linux can be imported

            try:
                started.append(stack.enter_context(Lab(**settings)))
            except LabError as error:
                refused.append(error)
                return {"cause": error.cause, "remedy": error.remedy}
            return {}

        name, tape = name_of(settings), beside.rest.tape
        said = told(tape, f"lab {name}", start)
        if said:
            raise refused[0] if refused else LabError(said["cause"], said["remedy"])
        shared: dict[str, Any] = {"image": beside.image, "adopt": beside.adopt, "run_id": beside.run_id}
        own = tape.beside(name) if tape else None
        if isinstance(own, ReplayTape):
            yield LessonCluster(replay_rest(own), beside.namespace, TapedLab(own), **shared)
        else:
            yield cluster_of(started[0].client, own, namespace=beside.namespace, **shared)


def name_of(settings: dict[str, Any]) -> str:
    """What a lab is called in a recording: its settings, "announce=bgp workers=3"."""
    return " ".join(f"{name}={value}" for name, value in sorted(settings.items()))


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
    key = name_of(settings)
    known = [beside, *(one for name, (_, one) in _running.items() if name == key)]
    is_recorded = any(isinstance(one.rest.tape, ReplayTape) for one in known)
    if is_recorded:  # it begins anew, as connect() does
        _end(key)
    if key not in _running:
        stack = contextlib.ExitStack()
        _running[key] = stack, stack.enter_context(lab_beside(beside, **settings))
    cluster = _running[key][1]
    print(first_line(cluster))
    return cluster


def end_second_labs() -> None:
    """Stop the labs that ``second_lab`` started here."""
    for key in list(_running):
        _end(key)


def _end(key: str) -> None:
    if key in _running:
        _running.pop(key)[0].close()
