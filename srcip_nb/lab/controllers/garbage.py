"""The garbage collector: what belongs to an object goes with it.

    delete, background     owner gone            -> dependents are deleted then
    delete, foreground     "foregroundDeletion"  -> dependents first; the owner's finalizer when none blocks it any more
    delete, orphan         "orphan"              -> dependents lose their owner reference, then the finalizer goes

Source: kubernetes v1.36.2 pkg/controller/garbagecollector/garbagecollector.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from srcip_nb.lab.api.lifecycle import FOREGROUND, ORPHAN
from srcip_nb.lab.api.resources import BY_KIND, RESOURCES
from srcip_nb.lab.controllers.loop import Controller, KeysOf
from srcip_nb.lab.controllers.objects import Object, copied, is_terminating

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store

Place = tuple[str, str, str, str]
"""Resource, namespace, name and uid."""

_MANAGER = "generic-garbage-collector"


class GarbageCollector(Controller[Place]):
    """Owner references -> deletions. A key is the (resource, namespace, name, uid) of an owner or of a dependent."""

    name = "garbage collector"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._dependents: dict[str, dict[tuple[str, str, str], None]] = {}

    def watched(self) -> dict[str, KeysOf[Place]]:
        """Everything that can own or be owned."""
        return {name: self._keys_for(name) for name in RESOURCES if name != "events"}

    def _keys_for(self, resource: str) -> KeysOf[Place]:
        def keys_of(obj: Object) -> Iterable[Place]:
            metadata = obj["metadata"]
            place = (resource, metadata.get("namespace", ""), metadata["name"])
            references = metadata.get("ownerReferences") or []
            for reference in references:
                self._dependents.setdefault(reference["uid"], {})[place] = None
            owners = [_place_of_owner(reference, place[1]) for reference in references]
            has_finalizer = {FOREGROUND, ORPHAN} & set(metadata.get("finalizers") or [])
            concerns_itself = references or has_finalizer or metadata["uid"] in self._dependents
            return [*filter(None, owners), *([(*place, metadata["uid"])] if concerns_itself else [])]

        return keys_of

    async def reconcile(self, key: Place) -> float | None:
        """See to one object: whether its owners are there, and what its own deletion means to its dependents."""
        resource, namespace, name, uid = key
        obj = self.store.peek(resource, namespace, name)
        if obj is None or obj["metadata"]["uid"] != uid:
            for place, dependent in self._living_dependents(uid):
                self._lose_owner(place[0], dependent)
            self._dependents.pop(uid, None)
            return None
        finalizers = obj["metadata"].get("finalizers") or []
        if is_terminating(obj) and ORPHAN in finalizers:
            for place, dependent in self._living_dependents(uid):
                self._drop_references(place[0], dependent, {uid})
            self._drop_finalizer(resource, obj, ORPHAN)
        elif is_terminating(obj) and FOREGROUND in finalizers:
            self._delete_in_foreground(resource, obj)
        elif not is_terminating(obj) and obj["metadata"].get("ownerReferences"):
            self._lose_owner(resource, obj)
        return None

    def _living_dependents(self, uid: str) -> Iterator[tuple[tuple[str, str, str], Object]]:
        for place in list(self._dependents.get(uid, ())):
            dependent = self.store.peek(*place)
            references = dependent["metadata"].get("ownerReferences") or [] if dependent else []
            if dependent and any(reference["uid"] == uid for reference in references):
                yield place, dependent
            else:
                del self._dependents[uid][place]

    def _lose_owner(self, resource: str, obj: Object) -> None:
        """Delete an object of which no owner is left; take away references to owners that are gone."""
        metadata = obj["metadata"]
        references = metadata.get("ownerReferences") or []
        gone = {reference["uid"] for reference in references if not self._is_there(reference, metadata)}
        if len(gone) == len({reference["uid"] for reference in references}):
            if not is_terminating(obj):
                finalizers = metadata.get("finalizers") or []
                word = "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
                self.store.delete(
                    resource,
                    metadata.get("namespace", ""),
                    metadata["name"],
                    propagation=word,
                    preconditions={"uid": metadata["uid"]},
                )
        elif gone:
            self._drop_references(resource, obj, gone)

    def _is_there(self, reference: Object, metadata: Object) -> bool:
        place = _place_of_owner(reference, metadata.get("namespace", ""))
        if place is None:
            return True  # of a kind that the lab does not have: not for it to judge
        owner = self.store.peek(*place[:3])
        return owner is not None and owner["metadata"]["uid"] == reference["uid"]

    def _delete_in_foreground(self, resource: str, owner: Object) -> None:
        uid = owner["metadata"]["uid"]
        is_blocked = False
        for place, dependent in list(self._living_dependents(uid)):
            if not is_terminating(dependent):
                self.store.delete(*place, propagation="Foreground")
            still = self.store.peek(*place)
            references = still["metadata"].get("ownerReferences") or [] if still else []
            is_blocked |= any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in references)
        if not is_blocked:
            self._drop_finalizer(resource, owner, FOREGROUND)

    def _drop_finalizer(self, resource: str, obj: Object, finalizer: str) -> None:
        changed = copied(obj)
        changed["metadata"]["finalizers"] = [word for word in changed["metadata"]["finalizers"] if word != finalizer]
        self.store.update(resource, changed, manager=_MANAGER)

    def _drop_references(self, resource: str, obj: Object, uids: set[str]) -> None:
        changed = copied(obj)
        references = changed["metadata"]["ownerReferences"]
        changed["metadata"]["ownerReferences"] = [reference for reference in references if reference["uid"] not in uids]
        self.store.update(resource, changed, manager=_MANAGER)


def _place_of_owner(reference: Object, namespace: str) -> Place | None:
    """Where an owner is, as a key; None for a kind that the lab does not have."""
    resource = BY_KIND.get(reference["kind"])
    if resource is None or resource.api_version != reference["apiVersion"]:
        return None
    return resource.name, namespace if resource.namespaced else "", reference["name"], reference["uid"]
