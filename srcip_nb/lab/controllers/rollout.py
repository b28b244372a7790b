"""What a Deployment does next: from the Deployment and its ReplicaSets to a list of actions, without reading anything.

A rollout goes step by step. Each look at (Deployment, ReplicaSets) gives the next steps only; what they cause (pods
that become ready) changes the ReplicaSets' status, and that is looked at again. So a rollout of 2 with one pod more
and none fewer goes: new 0 -> 1; one ready: old 2 -> 1; new 1 -> 2; ready: old 1 -> 0.

Source of the rules: kubernetes v1.36.2 pkg/controller/deployment (rolling.go, recreate.go, sync.go) and util.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from srcip_nb.lab.controllers.objects import (
    POD_TEMPLATE_HASH,
    Object,
    annotations_of,
    copied,
    is_terminating,
    labels_of,
    owner_reference,
)

_SAFE_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # apimachinery pkg/util/rand/rand.go: no vowels, so no words
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"

_OWN_ANNOTATIONS = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
}


@dataclass(frozen=True)
class Action:
    """One step: ``create``, ``update`` or ``delete`` this ReplicaSet, and the sentence of the Event that tells it."""

    verb: str
    replicaset: Object
    event: str = ""


# -- reading ---------------------------------------------------------------------------------------------------------


def replicas_of(obj: Object) -> int:
    """How many pods are asked for; the API's default is 1."""
    replicas = obj["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def status_count(replicaset: Object, field: str) -> int:
    """A number out of the status, 0 where it is not there yet."""
    return int((replicaset.get("status") or {}).get(field) or 0)


def _scaled_value(value: Any, total: int, up: bool) -> int:
    """An IntOrString such as 1 or "25%" of a total."""
    if isinstance(value, str) and value.endswith("%"):
        part = int(value[:-1]) * total / 100
        return math.ceil(part) if up else math.floor(part)
    return int(value)


def surge_and_unavailable(deployment: Object) -> tuple[int, int]:
    """How many pods there may be beyond those asked for, and how many of those may be missing, during a rollout.

    Both 0 would be a standstill: then one may be missing (ResolveFenceposts). Recreate has none of both.
    """
    strategy = deployment["spec"].get("strategy") or {}
    total = replicas_of(deployment)
    if strategy.get("type", "RollingUpdate") != "RollingUpdate" or total == 0:
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    surge = _scaled_value(rolling.get("maxSurge", "25%"), total, up=True)
    unavailable = _scaled_value(rolling.get("maxUnavailable", "25%"), total, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, total)


def template_hash(template: Object, collisions: int = 0) -> str:
    """The pod-template-hash: 32 bits of FNV-1a as decimal digits, each digit written as a letter that makes no words.

    The real one hashes Go's dump of the structure; here it is canonical JSON, so the shape is the same and the value is
    not.
    """
    text = json.dumps(_without_hash(template), sort_keys=True, separators=(",", ":"))
    number = 0x811C9DC5
    for byte in (text + (str(collisions) if collisions else "")).encode():
        number = ((number ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(_SAFE_LETTERS[ord(digit) % len(_SAFE_LETTERS)] for digit in str(number))


def _without_hash(template: Object) -> Object:
    metadata = dict(template.get("metadata") or {})
    metadata.pop("creationTimestamp", None)
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != POD_TEMPLATE_HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}


def by_age(replicasets: Sequence[Object]) -> list[Object]:
    """Oldest first, by name where two are of the same second."""
    return sorted(replicasets, key=lambda rs: (rs["metadata"].get("creationTimestamp", ""), rs["metadata"]["name"]))


def new_replicaset(deployment: Object, replicasets: Sequence[Object]) -> Object | None:
    """The ReplicaSet that has the Deployment's present template, the oldest if there are several."""
    wanted = _without_hash(deployment["spec"]["template"])
    return next((rs for rs in by_age(replicasets) if _without_hash(rs["spec"]["template"]) == wanted), None)


def _revision(replicaset: Object) -> int:
    text = annotations_of(replicaset).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


# -- deciding --------------------------------------------------------------------------------------------------------


def plan_rollout(deployment: Object, replicasets: Sequence[Object]) -> list[Action]:
    """The next steps of a Deployment, [] when there is nothing to do (or nothing before some pod changes).

    Args:
        deployment: as stored, defaults filled in.
        replicasets: those that the Deployment controls.
    """
    if is_terminating(deployment):
        return []
    new = new_replicaset(deployment, replicasets)
    old = [rs for rs in by_age(replicasets) if rs is not new]
    if deployment["spec"].get("paused"):
        return _plan_scaling(deployment, new, old) or _plan_cleanup(deployment, new, old)
    if _is_scaling(deployment, replicasets) and (scaling := _plan_scaling(deployment, new, old)):
        return scaling
    if new is not None:
        annotated = _annotated(deployment, new, old)
        if annotated != new:
            return [Action("update", annotated)]
    is_recreate = (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"
    steps = _plan_recreate(deployment, new, old) if is_recreate else _plan_rolling(deployment, new, old)
    return steps or _plan_cleanup(deployment, new, old)


def _plan_rolling(deployment: Object, new: Object | None, old: list[Object]) -> list[Action]:
    surge, unavailable = surge_and_unavailable(deployment)
    total = replicas_of(deployment)
    everything = [*old, new] if new else old
    room = total + surge - sum(replicas_of(rs) for rs in everything)
    present = replicas_of(new) if new else 0
    wanted = total if present > total else present + max(0, min(room, total - present))
    if new is None:
        return [_creation(deployment, old, wanted)]
    if wanted != present:
        return [_scaled(deployment, new, wanted)]
    return _plan_old_down(deployment, new, old, total - unavailable)


def _plan_old_down(deployment: Object, new: Object, old: list[Object], min_available: int) -> list[Action]:
    """Take old pods away: first those that do not work, then as many working ones as new ones stand in for."""
    everything = [*old, new]
    new_unavailable = replicas_of(new) - status_count(new, "availableReplicas")
    may_go = sum(replicas_of(rs) for rs in everything) - min_available - new_unavailable
    if may_go <= 0:
        return []
    targets = {rs["metadata"]["name"]: replicas_of(rs) for rs in old}
    for rs in old:
        unhealthy = replicas_of(rs) - status_count(rs, "availableReplicas")
        taken = max(0, min(may_go, unhealthy))
        targets[rs["metadata"]["name"]] -= taken
        may_go -= taken
    spare = sum(status_count(rs, "availableReplicas") for rs in everything) - min_available
    for rs in old:
        taken = max(0, min(spare, targets[rs["metadata"]["name"]]))
        targets[rs["metadata"]["name"]] -= taken
        spare -= taken
    return [
        _scaled(deployment, rs, targets[rs["metadata"]["name"]])
        for rs in old
        if targets[rs["metadata"]["name"]] != replicas_of(rs)
    ]


def _plan_recreate(deployment: Object, new: Object | None, old: list[Object]) -> list[Action]:
    """All old pods away, and only when the last has really gone the new ones."""
    to_empty = [rs for rs in old if replicas_of(rs) > 0]
    if to_empty:
        return [_scaled(deployment, rs, 0) for rs in to_empty]
    if not all(_has_no_pods_left(rs) for rs in old):
        return []
    total = replicas_of(deployment)
    if new is None:
        return [_creation(deployment, old, total)]
    return [_scaled(deployment, new, total)] if replicas_of(new) != total else []


def _has_no_pods_left(replicaset: Object) -> bool:
    is_observed = status_count(replicaset, "observedGeneration") >= replicaset["metadata"].get("generation", 0)
    pods = status_count(replicaset, "replicas") + status_count(replicaset, "terminatingReplicas")
    return is_observed and pods == 0


def _is_scaling(deployment: Object, replicasets: Sequence[Object]) -> bool:
    """Whether spec.replicas was changed since the ReplicaSets in use were last sized."""
    desired = str(replicas_of(deployment))
    return any(
        replicas_of(rs) > 0 and annotations_of(rs).get(DESIRED_REPLICAS, desired) != desired for rs in replicasets
    )


def _plan_scaling(deployment: Object, new: Object | None, old: list[Object]) -> list[Action]:
    """Bring the ReplicaSets to a new total, in proportion when a rollout is under way."""
    total = replicas_of(deployment)
    everything = [*old, new] if new else old
    active = [rs for rs in everything if replicas_of(rs) > 0]
    if len(active) <= 1:
        only = active[0] if active else new or (old[-1] if old else None)
        return [_scaled(deployment, only, total)] if only and _needs_size(deployment, only, total) else []
    new_is_complete = new is not None and replicas_of(new) == total and status_count(new, "availableReplicas") == total
    if new_is_complete:
        return [_scaled(deployment, rs, 0) for rs in old if replicas_of(rs) > 0]
    if (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") != "RollingUpdate":
        return []
    surge, _ = surge_and_unavailable(deployment)
    sizes = _proportional_sizes(active, total, surge)
    return [
        _scaled(deployment, rs, size)
        for rs, size in zip(active, sizes, strict=True)
        if _needs_size(deployment, rs, size)
    ]


def _needs_size(deployment: Object, replicaset: Object, size: int) -> bool:
    is_marked = annotations_of(replicaset).get(DESIRED_REPLICAS) == str(replicas_of(deployment))
    return replicas_of(replicaset) != size or not is_marked


def _proportional_sizes(active: list[Object], total: int, surge: int) -> list[int]:
    """Sizes of the ReplicaSets in use when total + surge pods are shared out by their present share."""
    allowed = total + surge if total > 0 else 0
    to_add = allowed - sum(replicas_of(rs) for rs in active)
    biggest_first = sorted(range(len(active)), key=lambda at: -replicas_of(active[at]))
    sizes = [replicas_of(rs) for rs in active]
    added = 0
    for at in biggest_first:
        before = int(annotations_of(active[at]).get(MAX_REPLICAS) or status_count(active[at], "replicas") or 1)
        share = math.floor(sizes[at] * allowed / before + 0.5) - sizes[at] if total else -sizes[at]
        left = to_add - added
        share = min(share, left) if to_add > 0 else max(share, left)
        sizes[at] += share
        added += share
    sizes[biggest_first[0]] = max(0, sizes[biggest_first[0]] + to_add - added)
    return sizes


def _plan_cleanup(deployment: Object, new: Object | None, old: list[Object]) -> list[Action]:
    """Forget the oldest empty ReplicaSets beyond revisionHistoryLimit."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    is_under_way = any(replicas_of(rs) > 0 for rs in old)
    if limit is None or is_under_way:
        return []
    empty = [rs for rs in old if _has_no_pods_left(rs) and not is_terminating(rs)]
    surplus = max(0, len(empty) - limit)
    return [Action("delete", rs) for rs in sorted(empty, key=_revision)[:surplus]]


# -- making ReplicaSets ----------------------------------------------------------------------------------------------


def _marked(deployment: Object, annotations: dict[str, str]) -> dict[str, str]:
    total = replicas_of(deployment)
    surge, _ = surge_and_unavailable(deployment)
    return {**annotations, DESIRED_REPLICAS: str(total), MAX_REPLICAS: str(total + surge)}


def _copied_annotations(deployment: Object) -> dict[str, str]:
    return {name: value for name, value in annotations_of(deployment).items() if name not in _OWN_ANNOTATIONS}


def _annotated(deployment: Object, new: Object, old: list[Object]) -> Object:
    """The new ReplicaSet with the Deployment's annotations and the highest revision; a rolled back one moves up."""
    present = annotations_of(new)
    highest_old = max((_revision(rs) for rs in old), default=0)
    annotations = {**present, **_copied_annotations(deployment)}
    if _revision(new) <= highest_old:
        annotations[REVISION] = str(highest_old + 1)
        if REVISION in present:
            history = [*present.get(REVISION_HISTORY, "").split(","), present[REVISION]]
            annotations[REVISION_HISTORY] = ",".join(revision for revision in history if revision)
    changed = copied(new)
    changed["metadata"]["annotations"] = _marked(deployment, annotations)
    min_ready = deployment["spec"].get("minReadySeconds", 0)
    if min_ready != new["spec"].get("minReadySeconds", 0):
        changed["spec"]["minReadySeconds"] = min_ready
    return changed


def _creation(deployment: Object, old: list[Object], size: int) -> Action:
    name = deployment["metadata"]["name"]
    collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
    digest = template_hash(deployment["spec"]["template"], collisions)
    template = copied(deployment["spec"]["template"])
    template.setdefault("metadata", {}).setdefault("labels", {})[POD_TEMPLATE_HASH] = digest
    selector = copied(deployment["spec"]["selector"])
    selector.setdefault("matchLabels", {})[POD_TEMPLATE_HASH] = digest
    revision = str(max((_revision(rs) for rs in old), default=0) + 1)
    annotations = _marked(deployment, {**_copied_annotations(deployment), REVISION: revision})
    replicaset: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name}-{digest}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": {**labels_of({"metadata": template["metadata"]})},
            "annotations": annotations,
            "ownerReferences": [owner_reference(deployment, "apps/v1", "Deployment")],
        },
        "spec": {"replicas": size, "selector": selector, "template": template},
    }
    if deployment["spec"].get("minReadySeconds"):
        replicaset["spec"]["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    event = f"Scaled up replica set {name}-{digest} from 0 to {size}" if size else ""
    return Action("create", replicaset, event)


def _scaled(deployment: Object, replicaset: Object, size: int) -> Action:
    before = replicas_of(replicaset)
    changed = copied(replicaset)
    changed["spec"]["replicas"] = size
    changed["metadata"]["annotations"] = _marked(deployment, annotations_of(replicaset))
    name = replicaset["metadata"]["name"]
    if size == before:
        return Action("update", changed)
    direction = "up" if size > before else "down"
    return Action("update", changed, f"Scaled {direction} replica set {name} from {before} to {size}")
