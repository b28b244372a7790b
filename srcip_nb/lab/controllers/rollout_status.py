"""How far a rollout is: a Deployment's status and conditions, without reading anything.

`kubectl rollout status`, `kubectl wait --for=condition=Available` and the READY column read nothing else.
Source of the words: kubernetes v1.36.2 pkg/controller/deployment/progress.go and util/deployment_util.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from srcip_nb.lab.controllers.objects import Object, annotations_of, seconds_of
from srcip_nb.lab.controllers.rollout import (
    REVISION_HISTORY,
    new_replicaset,
    replicas_of,
    status_count,
    surge_and_unavailable,
)

_COMPLETE, _PROGRESSING, _TIMED_OUT = "NewReplicaSetAvailable", "ReplicaSetUpdated", "ProgressDeadlineExceeded"
_PAUSED, _RESUMED = "DeploymentPaused", "DeploymentResumed"


def deployment_status(deployment: Object, replicasets: Sequence[Object], stamp: str) -> Object:
    """The status that a Deployment should have.

    Args:
        deployment: as stored, with its present status.
        replicasets: those that it controls.
        stamp: the time now, as `objects.now` gives it.
    """
    before = deployment.get("status") or {}
    new = new_replicaset(deployment, replicasets)
    conditions = [dict(condition) for condition in before.get("conditions") or []]
    status = _counts(deployment, replicasets, new)
    if before.get("collisionCount"):
        status["collisionCount"] = before["collisionCount"]
    if deployment["spec"].get("progressDeadlineSeconds") is None:
        conditions = [condition for condition in conditions if condition["type"] != "Progressing"]
    else:
        conditions = _with_progress(deployment, new, before, status, conditions, stamp)
    conditions = _with_condition(conditions, _availability(deployment, status), stamp)
    conditions = _with_failure(conditions, replicasets, stamp)
    return {
        **{field: value for field, value in status.items() if value != 0 or field in _ALWAYS},
        "conditions": conditions,
    }


_ALWAYS = {"terminatingReplicas"}


def _counts(deployment: Object, replicasets: Sequence[Object], new: Object | None) -> dict[str, Any]:
    def total(field: str) -> int:
        return sum(status_count(rs, field) for rs in replicasets)

    available = total("availableReplicas")
    return {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": total("replicas"),
        "updatedReplicas": status_count(new, "replicas") if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(replicas_of(rs) for rs in replicasets) - available),
        "terminatingReplicas": total("terminatingReplicas"),
    }


def is_complete(deployment: Object, status: Object) -> bool:
    """Whether every pod asked for is of the present template and available, and no other is left."""
    wanted = replicas_of(deployment)
    return all(int(status.get(field) or 0) == wanted for field in ("updatedReplicas", "replicas", "availableReplicas"))


def seconds_to_deadline(deployment: Object, at: float) -> float | None:
    """How long until the rollout is called failed if nothing moves; None when no rollout is under way."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    status = deployment.get("status") or {}
    progress = next((c for c in status.get("conditions") or [] if c["type"] == "Progressing"), None)
    is_settled = progress is None or progress["reason"] in (_COMPLETE, _TIMED_OUT, _PAUSED)
    if deadline is None or progress is None or is_settled:
        return None
    return max(0.0, seconds_of(progress["lastUpdateTime"]) + deadline - at) + 1


def _with_progress(
    deployment: Object,
    new: Object | None,
    before: Object,
    status: Object,
    conditions: list[Object],
    stamp: str,
) -> list[Object]:
    present = next((condition for condition in conditions if condition["type"] == "Progressing"), None)
    is_paused = bool(deployment["spec"].get("paused"))
    was_paused = present is not None and present["reason"] == _PAUSED
    if is_paused or was_paused:
        if is_paused and present is not None and present["reason"] == _TIMED_OUT:
            return conditions
        word, sentence = (_PAUSED, "Deployment is paused") if is_paused else (_RESUMED, "Deployment is resumed")
        return _with_condition(conditions, ("Progressing", "Unknown", word, sentence), stamp)
    if new is None:
        return conditions
    name = f'"{new["metadata"]["name"]}"'
    named = f"ReplicaSet {name}"
    is_about_another = present is not None and present["reason"] != _RESUMED and name not in present["message"]
    if present is None or is_about_another:
        is_old = REVISION_HISTORY in annotations_of(new)
        word, sentence = (
            ("FoundNewReplicaSet", f"Found new replica set {name}")
            if is_old
            else ("NewReplicaSetCreated", f"Created new replica set {name}")
        )
        present = _turned(present, _condition("Progressing", "True", word, sentence, stamp))
        conditions = [*(c for c in conditions if c["type"] != "Progressing"), present]
    was_complete = status["replicas"] == status["updatedReplicas"] and present["reason"] == _COMPLETE
    if was_complete:
        return conditions
    if is_complete(deployment, status):
        finding = ("Progressing", "True", _COMPLETE, f"{named} has successfully progressed.")
        return _with_condition(conditions, finding, stamp)
    if _has_moved(before, status):
        moving = _turned(present, _condition("Progressing", "True", _PROGRESSING, f"{named} is progressing.", stamp))
        return [*(c for c in conditions if c["type"] != "Progressing"), moving]
    if _has_timed_out(deployment, present, stamp):
        finding = ("Progressing", "False", _TIMED_OUT, f"{named} has timed out progressing.")
        return _with_condition(conditions, finding, stamp)
    return conditions


def _has_moved(before: Object, status: Object) -> bool:
    def was(field: str) -> int:
        return int(before.get(field) or 0)

    return (
        status["updatedReplicas"] > was("updatedReplicas")
        or status["replicas"] - status["updatedReplicas"] < was("replicas") - was("updatedReplicas")
        or status["readyReplicas"] > was("readyReplicas")
        or status["availableReplicas"] > was("availableReplicas")
    )


def _has_timed_out(deployment: Object, progress: Object, stamp: str) -> bool:
    if progress["reason"] == _TIMED_OUT:
        return True
    if progress["reason"] == _COMPLETE:
        return False
    deadline = int(deployment["spec"]["progressDeadlineSeconds"])
    return seconds_of(stamp) > seconds_of(progress["lastUpdateTime"]) + deadline


def _availability(deployment: Object, status: Object) -> tuple[str, str, str, str]:
    _, unavailable = surge_and_unavailable(deployment)
    if status["availableReplicas"] >= replicas_of(deployment) - unavailable:
        return "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."
    return "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."


def _with_failure(conditions: list[Object], replicasets: Sequence[Object], stamp: str) -> list[Object]:
    for replicaset in replicasets:
        for failure in (replicaset.get("status") or {}).get("conditions") or []:
            if failure["type"] == "ReplicaFailure":
                finding = ("ReplicaFailure", failure["status"], failure["reason"], failure["message"])
                return _with_condition(conditions, finding, stamp)
    return [condition for condition in conditions if condition["type"] != "ReplicaFailure"]


def _condition(kind: str, value: str, reason: str, message: str, stamp: str) -> Object:
    return {
        "type": kind,
        "status": value,
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def _with_condition(conditions: list[Object], finding: tuple[str, str, str, str], stamp: str) -> list[Object]:
    """The conditions with this one: unchanged if it says the same; its transition time stays while its value does."""
    kind, value, reason, _ = finding
    present = next((condition for condition in conditions if condition["type"] == kind), None)
    if present and (present["status"], present["reason"]) == (value, reason):
        return conditions
    return [*(c for c in conditions if c["type"] != kind), _turned(present, _condition(*finding, stamp))]


def _turned(present: Object | None, condition: Object) -> Object:
    """A new condition, with the present one's transition time if its value is the same."""
    if present and present["status"] == condition["status"]:
        return {**condition, "lastTransitionTime": present["lastTransitionTime"]}
    return condition
