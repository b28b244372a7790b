"""Small questions about Kubernetes objects (plain JSON dicts) that every controller asks.

Nothing here reads a store or a clock but `now` and `now_micro`; objects handed in are never changed.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from srcip_nb.lab.api.objects import JsonObject, Key, copied, key_of, random_suffix, seconds_of

__all__ = ["Key", "Object", "copied", "key_of", "random_suffix", "seconds_of"]

Object = JsonObject

POD_TEMPLATE_HASH = "pod-template-hash"


def now() -> str:
    """The time as metav1.Time prints it, to the second: 2026-11-22T14:26:58Z."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    """The time as metav1.MicroTime prints it: 2026-11-22T14:26:58.584267Z."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# -- labels ----------------------------------------------------------------------------------------------------------


def labels_of(obj: Object) -> dict[str, str]:
    """The labels, empty where there are none."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    """The annotations, empty where there are none."""
    return obj["metadata"].get("annotations") or {}


def has_labels(labels: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether every wanted label is there with its value (a Service's selector, a nodeSelector)."""
    return all(labels.get(name) == value for name, value in wanted.items())


def meets(requirement: Object, values: dict[str, str]) -> bool:
    """Whether one requirement (key, operator, values) holds; Gt and Lt compare whole numbers, as node affinity does."""
    name, operator = requirement["key"], requirement["operator"]
    wanted = requirement.get("values") or []
    value = values.get(name)
    if operator == "In":
        return value in wanted
    if operator == "NotIn":
        return value not in wanted
    if operator == "Exists":
        return name in values
    if operator == "DoesNotExist":
        return name not in values
    if value is None or not _is_whole(value) or not wanted or not _is_whole(wanted[0]):
        return False
    return int(value) > int(wanted[0]) if operator == "Gt" else int(value) < int(wanted[0])


def _is_whole(text: str) -> bool:
    return text.lstrip("+-").isdigit()


# -- owners ----------------------------------------------------------------------------------------------------------


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the controller, if there is one."""
    for reference in obj["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return dict(reference)
    return None


def is_controlled_by(obj: Object, owner: Object) -> bool:
    """Whether `owner` is the controller of this object, by uid."""
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def owner_reference(owner: Object, api_version: str, kind: str) -> Object:
    """The reference that makes `owner` the controller of an object."""
    metadata = owner["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_terminating(obj: Object) -> bool:
    """Whether its deletion has been asked for."""
    return "deletionTimestamp" in obj["metadata"]


# -- pods ------------------------------------------------------------------------------------------------------------


def phase_of(pod: Object) -> str:
    """Pending, Running, Succeeded or Failed."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_finished(pod: Object) -> bool:
    """Whether none of its containers will run again."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Whether a ReplicaSet counts it: neither finished nor on its way out."""
    return not is_finished(pod) and not is_terminating(pod)


def condition_of(obj: Object, kind: str) -> Object | None:
    """The condition of that type out of `status.conditions`."""
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition["type"] == kind:
            return dict(condition)
    return None


def is_ready(obj: Object) -> bool:
    """Whether the Ready condition of a pod or node is True."""
    condition = condition_of(obj, "Ready")
    return condition is not None and condition["status"] == "True"


def tolerates(tolerations: Iterable[Object], taint: Object) -> bool:
    """Whether one of the tolerations covers the taint (kubernetes v1.36.2 component-helpers scheduling/corev1)."""
    for toleration in tolerations:
        has_effect = toleration.get("effect") in (None, "", taint["effect"])
        has_key = toleration.get("key") in (None, "", taint["key"])
        exists = toleration.get("operator") == "Exists"
        has_value = exists or (toleration.get("value") or "") == (taint.get("value") or "")
        names_key = bool(toleration.get("key")) or exists
        if has_effect and has_key and has_value and names_key:
            return True
    return False
