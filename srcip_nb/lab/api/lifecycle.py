"""What becomes of an object when it is created, updated and deleted: pure rules, one per step.

Which part of an update counts (spec, or status through /status), when metadata.generation goes up, and whether a
deletion removes an object at once or leaves it there, marked, until somebody finishes the work:

    delete ─ finalizers, or a pod on a node ──> deletionTimestamp set ── last finalizer gone / grace 0 ──> removed
           └ none of these ──────────────────────────────────────────────────────────────────────────────> removed

Source: kubernetes v1.36.2 pkg/registry/*/strategy.go and apiserver pkg/registry/rest/{create,update,delete}.go.
"""

from __future__ import annotations

from srcip_nb.lab.api.objects import JsonObject, seconds_of, timestamp, without
from srcip_nb.lab.api.resources import Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

_SYSTEM_METADATA = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


def prepare_create(resource: Resource, metadata: JsonObject) -> None:
    """Take from a new object's metadata, in place, what only the server sets; its generation begins at 1."""
    for name in (*_SYSTEM_METADATA, "resourceVersion", "selfLink"):
        metadata.pop(name, None)
    if resource.has_generation:
        metadata["generation"] = 1


def prepare_update(resource: Resource, new: JsonObject, old: JsonObject, subresource: str) -> JsonObject:
    """The object that an update asks for: what the caller may not change is taken from `old`.

    Through the resource itself the status stays, through "status" everything else does, through "finalize" all but a
    namespace's spec.finalizers.
    """
    if subresource in ("status", "finalize"):
        part = "status" if subresource == "status" else "spec"
        kept = {**without(old, (part,)), "metadata": new["metadata"]}
        if part in new:
            kept[part] = new[part]
        new = kept
        if subresource == "status" and resource.group == "apps":
            _restore(new["metadata"], old["metadata"], ("labels",))
    elif resource.has_status:
        _restore(new, old, ("status",))
        if resource.name == "namespaces":
            _restore(new.setdefault("spec", {}), old.get("spec", {}), ("finalizers",))
    _restore(new["metadata"], old["metadata"], _SYSTEM_METADATA)
    return new


def count_generation(resource: Resource, new: JsonObject, old: JsonObject, subresource: str = "") -> None:
    """Raise metadata.generation by one, in place, when what is wanted has changed; nobody wants through /status."""
    is_wish = subresource != "status"
    if resource.has_generation and is_wish and _wanted(resource, new) != _wanted(resource, old):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def is_finished(resource: Resource, obj: JsonObject) -> bool:
    """Whether an object that is being deleted has nothing left to wait for, so that it goes now."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if resource.name == "namespaces":
        return not (obj.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def grace_period(resource: Resource, obj: JsonObject, asked: int | None) -> int:
    """Seconds that a deletion gives the object; only a pod that runs on a node is given any."""
    spec = obj.get("spec") or {}
    has_ended = (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    if resource.name != "pods" or not spec.get("nodeName") or has_ended:
        return 0
    period = spec.get("terminationGracePeriodSeconds", 30) if asked is None else asked
    return 1 if period < 0 else period


def mark_deleted(
    resource: Resource, obj: JsonObject, now: float, grace: int | None, propagation: str | None
) -> JsonObject:
    """The object as a deletion leaves it, whether it is then removed (`is_finished`) or stays.

    An object that is marked already stays as it is, unless its grace gets shorter.

    Args:
        resource: its resource.
        obj: its present state, not changed.
        now: seconds since 1970.
        grace: seconds asked for, None for the object's own.
        propagation: "Foreground" and "Orphan" add a finalizer that the garbage collector takes away, "Background"
            takes it away, None leaves the finalizers as they are.
    """
    marked = {**obj, "metadata": dict(obj["metadata"])}
    metadata = marked["metadata"]
    finalizers = _finalizers(metadata.get("finalizers") or [], propagation)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    period = grace_period(resource, obj, grace)
    if "deletionTimestamp" not in metadata:
        metadata["deletionTimestamp"] = timestamp(now + period)
        metadata["deletionGracePeriodSeconds"] = period
        if metadata.get("generation"):
            metadata["generation"] += 1
        if resource.name == "namespaces":
            marked["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    elif grace is not None and period < metadata.get("deletionGracePeriodSeconds", 0):
        shorter_by = metadata["deletionGracePeriodSeconds"] - period
        metadata["deletionTimestamp"] = timestamp(seconds_of(metadata["deletionTimestamp"]) - shorter_by)
        metadata["deletionGracePeriodSeconds"] = period
    return marked


def _finalizers(present: list[str], propagation: str | None) -> list[str]:
    if propagation is None:
        return present
    kept = [name for name in present if name not in (FOREGROUND, ORPHAN)]
    added = {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(propagation, [])
    return kept + added


def _wanted(resource: Resource, obj: JsonObject) -> JsonObject:
    """The part of an object whose changes count as a new generation."""
    metadata = obj["metadata"]
    if resource.name == "endpointslices":
        return {**without(obj, ("metadata",)), "labels": metadata.get("labels")}
    if resource.name == "deployments":
        return {"spec": obj.get("spec"), "annotations": metadata.get("annotations")}
    return {"spec": obj.get("spec")}


def _restore(new: JsonObject, old: JsonObject, names: tuple[str, ...]) -> None:
    for name in names:
        if name in old:
            new[name] = old[name]
        else:
            new.pop(name, None)
