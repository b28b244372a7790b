"""All objects of the lab, in memory: the one place where Kubernetes objects are made, changed and removed.

    create · update · patch · delete      controllers call these; so does the HTTP server, on behalf of kubectl
    get · list                            what is there now
    watch · changes                       what happens from now on

Each write does what a real API server does before it stores an object (names, defaults, allocation, validation, field
managers, generation) and then gives it the next number of the store's one counter, its resourceVersion. `resource` is
always a plural name ("services"), `namespace` is "" for nodes and namespaces.

**Who may change what.** `get`, and every write, hand out a copy that the caller may change. `list`, `watch` and `peek`
hand out the stored objects themselves, which must not be changed: copy one with `objects.copied` first.

Every refusal is an `ApiError` with a real server's words.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from srcip_nb.lab.api import allocate, defaults, lifecycle, managed, merge, status, validation
from srcip_nb.lab.api.history import HISTORY, Version
from srcip_nb.lab.api.memory import Memory
from srcip_nb.lab.api.objects import JsonObject, copied, generated_name, in_order, timestamp
from srcip_nb.lab.api.preconditions import check_current, check_identity, check_namespace, check_preconditions, is_same
from srcip_nb.lab.api.resources import RESOURCES, Resource
from srcip_nb.lab.api.scale import scale_of, scaled
from srcip_nb.lab.api.unsupported import unsupported

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY)

LASTING_NAMESPACES = ("default", "kube-system", "kube-public")
GENERATE_ATTEMPTS = 8

Inspect = Callable[[JsonObject], None]
"""Looks at a patched object before it is stored and raises ApiError if it must not be."""


class Store(Memory):
    """The objects of one lab.

    Args:
        clock: seconds since 1970, for time stamps.
        history: events of each resource that a watch may still ask for; older ones are 410.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, history: int = HISTORY) -> None:
        super().__init__(history)
        self._clock = clock

    # -- writing -----------------------------------------------------------------------------------------------------

    def create(self, resource: str, obj: JsonObject, *, manager: str = "srcip-nb", dry_run: bool = False) -> JsonObject:
        """Store a new object and return a copy of it.

        Args:
            resource: the plural name.
            obj: the object; not changed. metadata.generateName may stand for a name.
            manager: who writes, for metadata.managedFields.
            dry_run: do everything but store it.

        Raises:
            ApiError: 404 no such namespace, 403 it is being deleted, 409 the name is taken, 422 not valid.
        """
        return self._create(RESOURCES[resource], copied(obj), manager, dry_run)

    def update(
        self,
        resource: str,
        obj: JsonObject,
        *,
        subresource: str = "",
        manager: str = "srcip-nb",
        dry_run: bool = False,
    ) -> JsonObject:
        """Replace an object and return a copy of what it is then; an update that changes nothing is no event.

        Args:
            resource: the plural name.
            obj: the whole new object; not changed. If it holds a resourceVersion, that must be the present one.
            subresource: "" (status is kept), "status" (all but status is kept), "scale" (`obj` is a Scale, and so
                is the answer), "finalize" (a namespace's spec.finalizers alone).
            manager: who writes, for metadata.managedFields.
            dry_run: do everything but store it.

        Raises:
            ApiError: 404, 409 the object changed since it was read, 422 not valid.
        """
        metadata = obj["metadata"]
        old = self._version(resource, metadata.get("namespace", ""), metadata["name"])
        if subresource == "scale":
            changed = self._update(RESOURCES[resource], scaled(old.obj, obj), old, subresource, manager, dry_run)
            return scale_of(changed)
        return self._update(RESOURCES[resource], copied(obj), old, subresource, manager, dry_run)

    def patch(
        self,
        resource: str,
        namespace: str,
        name: str,
        patch: Any,
        content_type: str = MERGE_PATCH,
        *,
        subresource: str = "",
        manager: str = "srcip-nb",
        force: bool = False,
        dry_run: bool = False,
        inspect: Inspect | None = None,
    ) -> JsonObject:
        """Change part of an object and return a copy of what it is then.

        Args:
            resource: the plural name.
            namespace: "" for a resource without.
            name: the object's name.
            patch: what the content type says: an object, or for JSON Patch a list of operations.
            content_type: one of PATCH_TYPES; APPLY creates the object if it is not there.
            subresource: as for `update`.
            manager: who writes; for APPLY the field manager.
            force: take fields from other managers (APPLY).
            dry_run: do everything but store it.
            inspect: looks at the patched object first.

        Raises:
            ApiError: 404, 409 fields belong to another manager, 415 no such content type, 422 not valid.
        """
        found = RESOURCES[resource]
        if content_type == APPLY:
            return self._apply(found, namespace, name, patch, subresource, manager, force, dry_run)
        old = self._version(resource, namespace, name)
        if subresource == "scale":
            scale = _patched(scale_of(old.obj), patch, content_type, "Scale")
            return scale_of(self._update(found, scaled(old.obj, scale), old, subresource, manager, dry_run))
        changed = _patched(old.obj, patch, content_type, found.kind)
        if inspect:
            inspect(changed)
        check_identity(found, changed, namespace, name)
        return self._update(found, copied(changed), old, subresource, manager, dry_run)

    def delete(
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        propagation: str | None = None,
        grace: int | None = None,
        dry_run: bool = False,
        preconditions: JsonObject | None = None,
    ) -> JsonObject:
        """Delete an object, or mark it as being deleted; returns a copy of its last state.

        A pod on a node stays, with deletionTimestamp, until it is deleted with grace=0 (the kubelet's part); an object
        with finalizers, until an update takes the last away. Deleting what is marked already changes nothing.

        Args:
            resource: the plural name.
            namespace: "" for a resource without.
            name: the object's name.
            propagation: "Background", "Foreground", "Orphan", or None for what the object says.
            grace: seconds, for pods; 0 removes at once.
            dry_run: do everything but delete.
            preconditions: {"uid": ..., "resourceVersion": ...} that the object must still have.

        Raises:
            ApiError: 404, 403 a namespace that every cluster needs, 409 a precondition does not hold.
        """
        found, version = RESOURCES[resource], self._version(resource, namespace, name)
        if resource == "namespaces" and name in LASTING_NAMESPACES:
            raise status.forbidden(resource, name, "this namespace may not be deleted")
        check_preconditions(found, version, preconditions or {})
        marked = lifecycle.mark_deleted(found, version.obj, self._clock(), grace, propagation)
        if lifecycle.is_finished(found, marked) and resource != "pods" and not _is_terminating(version.obj):
            # Only what waits for its end is seen with a deletionTimestamp; this goes in one step.
            return copied(version.obj if dry_run else self._commit(found, version.obj, version, removed=True))
        return copied(marked if dry_run else self._settle(found, marked, version))

    def bind(self, namespace: str, name: str, node: str) -> JsonObject:
        """Put a pod on a node, as pods/binding does: spec.nodeName and the condition PodScheduled, which nobody owns.

        Raises:
            ApiError: 404, 409 the pod is on a node already or is being deleted.
        """
        old = self._version("pods", namespace, name)
        if old.obj["spec"].get("nodeName") or old.obj["metadata"].get("deletionTimestamp"):
            bound = old.obj["spec"].get("nodeName")
            detail = (
                f"pod {name} is already assigned to node {status.quoted(bound)}" if bound else "pod is being deleted"
            )
            raise status.conflict("pods/binding", name, detail)
        new = copied(old.obj)
        new["spec"]["nodeName"] = node
        conditions = new.setdefault("status", {}).setdefault("conditions", [])
        kept = [condition for condition in conditions if condition["type"] != "PodScheduled"]
        scheduled = {
            "type": "PodScheduled",
            "observedGeneration": new["metadata"].get("generation", 1),
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": timestamp(self._clock()),
        }
        new["status"]["conditions"] = [*kept, scheduled]
        return copied(self._commit(RESOURCES["pods"], new, old))

    # -- the steps of a write ----------------------------------------------------------------------------------------

    def _create(
        self, resource: Resource, obj: JsonObject, manager: str, dry_run: bool, *, applied: bool = False
    ) -> JsonObject:
        metadata = obj.setdefault("metadata", {})
        if not resource.namespaced:
            metadata.pop("namespace", None)
        obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
        generates = not metadata.get("name") and bool(metadata.get("generateName"))
        if resource.namespaced:
            namespace = metadata.setdefault("namespace", "default")
            found = self.peek("namespaces", "", namespace)
            check_namespace(found, namespace, resource, metadata.get("name") or "")
        lifecycle.prepare_create(resource, metadata)
        defaults.set_defaults(resource.kind, obj)
        if not applied:
            _own(obj, managed.updated(None, obj, manager, resource.kind, ""))
        if generates:
            metadata["name"] = self._free_name(resource, metadata)
        defaults.prepare_create(resource.kind, obj)
        if resource.name == "services":
            self._allocate(obj, None)
        _refuse_invalid(resource, obj, validation.validate_create(resource.kind, obj))
        unsupported(resource.kind, obj)
        if self.peek(resource.name, metadata.get("namespace", ""), metadata["name"]):
            raise status.already_exists(resource.name, metadata["name"])
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = timestamp(self._clock())
        if dry_run:
            return in_order(obj)
        return copied(self._commit(resource, obj, None))

    def _update(
        self,
        resource: Resource,
        obj: JsonObject,
        old: Version,
        subresource: str,
        manager: str,
        dry_run: bool,
        *,
        applied: bool = False,
    ) -> JsonObject:
        obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
        check_current(resource, obj["metadata"], old)
        new = lifecycle.prepare_update(resource, obj, old.obj, "" if subresource == "scale" else subresource)
        metadata = new["metadata"]
        defaults.set_defaults(resource.kind, new)
        if not applied:
            _own(new, managed.updated(old.obj, new, manager, resource.kind, subresource))
        if resource.name == "services" and not subresource:
            self._allocate(new, old.obj)
        _refuse_invalid(resource, new, validation.validate_update(resource.kind, new, old.obj))
        if not subresource:
            unsupported(resource.kind, new)
        lifecycle.count_generation(resource, new, old.obj, subresource)
        metadata["resourceVersion"] = old.obj["metadata"]["resourceVersion"]
        if is_same(new, old.obj):
            return copied(old.obj)
        if dry_run:
            return in_order(new)
        return copied(self._settle(resource, new, old))

    def _apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        config: JsonObject,
        subresource: str,
        manager: str,
        force: bool,
        dry_run: bool,
    ) -> JsonObject:
        old = self._objects[resource.name].get((namespace, name))
        if subresource and old is None:
            raise status.not_found(resource.name, name)
        check_identity(resource, config, namespace, name)
        if subresource == "scale":
            raise status.method_not_allowed()
        live = copied(old.obj) if old else None
        obj = managed.apply(live, copied(config), manager, force, resource.kind, subresource=subresource)
        if old is None:
            if resource.namespaced:
                obj["metadata"]["namespace"] = namespace
            obj["metadata"]["name"] = name
            return self._create(resource, obj, manager, dry_run, applied=True)
        return self._update(resource, obj, old, subresource, manager, dry_run, applied=True)

    def _settle(self, resource: Resource, new: JsonObject, old: Version) -> JsonObject:
        """Store the new state, or remove the object if it waits for nothing more."""
        if lifecycle.is_finished(resource, new):
            return self._commit(resource, new, old, removed=True)
        return old.obj if is_same(new, old.obj) else self._commit(resource, new, old)

    def _allocate(self, obj: JsonObject, old: JsonObject | None) -> None:
        others = [other for other in self.list("services") if old is None or other is not old]
        allocate.allocate_service(obj, old, others)

    def _free_name(self, resource: Resource, metadata: JsonObject) -> str:
        names = (generated_name(metadata["generateName"]) for _ in range(GENERATE_ATTEMPTS))
        taken = ""
        for taken in names:
            if not self.peek(resource.name, metadata.get("namespace", ""), taken):
                return taken
        raise status.already_exists(resource.name, taken)


def _patched(obj: JsonObject, patch: Any, content_type: str, kind: str) -> JsonObject:
    if content_type == JSON_PATCH:
        return merge.json_patch(copied(obj), patch)
    if content_type == MERGE_PATCH or (content_type == STRATEGIC_MERGE_PATCH and kind == "Scale"):
        return merge.merge_patch(copied(obj), patch)
    if content_type == STRATEGIC_MERGE_PATCH:
        return merge.strategic_merge_patch(copied(obj), patch, kind)
    raise status.unsupported_media_type()


def _is_terminating(obj: JsonObject) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def _refuse_invalid(resource: Resource, obj: JsonObject, causes: Iterable[status.Cause]) -> None:
    found = list(causes)
    if found:
        raise status.invalid(resource.kind, obj["metadata"].get("name", ""), found)


def _own(obj: JsonObject, entries: list[JsonObject]) -> None:
    """Write down who owns which fields; an object of which nobody owns anything has no such list."""
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)
