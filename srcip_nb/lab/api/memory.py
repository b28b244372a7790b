"""The objects themselves and what is known of their past: reading, following, and the one way to make a change.

`Store` (store.py) puts the rules of writing on top. `resource` is always a plural name ("services"); a namespace is ""
for objects that have none.
"""

from __future__ import annotations

import builtins
import weakref

from srcip_nb.lab.api import status
from srcip_nb.lab.api.history import Changes, Event, History, Version, Watch, scope
from srcip_nb.lab.api.objects import JsonObject, Key, copied, in_order
from srcip_nb.lab.api.resources import RESOURCES, Resource
from srcip_nb.lab.api.scale import scale_of
from srcip_nb.lab.api.selectors import field_selector, label_selector


class Memory:
    """Every object of a lab by resource and key, with one counter of changes and a bounded history.

    Args:
        history: events of each resource that a watch may still ask for; older ones are 410.
    """

    def __init__(self, history: int) -> None:
        self._objects: dict[str, dict[Key, Version]] = {name: {} for name in RESOURCES}
        self._history = History(history)
        # Weak: a follower that nobody reads any more needs no change told.
        self._watches: dict[str, weakref.WeakSet[Watch]] = {name: weakref.WeakSet() for name in RESOURCES}
        self._changes: weakref.WeakSet[Changes] = weakref.WeakSet()
        self._revision = 1

    @property
    def revision(self) -> int:
        """The resourceVersion of the last change."""
        return self._revision

    def get(self, resource: str, namespace: str, name: str, *, subresource: str = "") -> JsonObject:
        """A copy of one object, or with subresource="scale" its Scale.

        Raises:
            ApiError: 404.
        """
        obj = self._version(resource, namespace, name).obj
        return scale_of(obj) if subresource == "scale" else copied(obj)

    def peek(self, resource: str, namespace: str, name: str) -> JsonObject | None:
        """The stored object itself, not to be changed; None if there is none."""
        version = self._objects[resource].get((namespace, name))
        return version.obj if version else None

    def list(self, resource: str, namespace: str | None = None, labels: str = "", fields: str = "") -> list[JsonObject]:
        """The stored objects themselves, not to be changed, in order of namespace and name.

        Args:
            resource: the plural name.
            namespace: None or "" for all.
            labels: a label selector, "app=web,tier!=db".
            fields: a field selector, "spec.nodeName=worker01".

        Raises:
            ApiError: 400, a selector cannot be read.
        """
        return [version.obj for version in self.versions(resource, namespace, labels, fields)]

    def versions(
        self, resource: str, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> builtins.list[Version]:
        """As `list`, but with what the server needs to send objects quickly."""
        matches = scope(namespace, label_selector(labels), field_selector(RESOURCES[resource], fields))
        objects = self._objects[resource]
        return [objects[key] for key in sorted(objects) if matches is None or matches(objects[key].obj)]

    def watch(
        self,
        resource: str,
        namespace: str | None = None,
        since: int | str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        initial: bool | None = None,
    ) -> Watch:
        """Follow a resource: `async for type, object in store.watch("pods")`, type ADDED, MODIFIED or DELETED.

        Following begins with this call, not with the first step of the loop, so nothing is missed in between. The
        objects must not be changed. A watch that is closed, or that nothing refers to any more, costs nothing.

        Args:
            resource: the plural name.
            namespace: None or "" for all.
            since: a resourceVersion after which to begin; None or 0 begins now.
            labels: a label selector.
            fields: a field selector.
            initial: whether the objects that are there come first, as ADDED; by default when `since` is None or 0.

        Raises:
            ApiError: 410, `since` is too long ago or still to come (of another store); 400, a selector cannot be read.
        """
        matches = scope(namespace, label_selector(labels), field_selector(RESOURCES[resource], fields))
        revision = int(since or 0)
        if revision > self._revision:
            raise status.gone(f"too large resource version: {revision} ({self._revision})")
        wants_initial = (revision == 0) if initial is None else initial
        present = self.versions(resource, namespace, labels, fields) if wants_initial else []
        missed = self._history.since(resource, revision) if revision and not wants_initial else []
        watch = Watch(present, missed, matches, self._watches[resource].discard)
        self._watches[resource].add(watch)
        return watch

    def changes(self, *resources: str) -> Changes:
        """Learn which objects of some resources change: `await changes.wait()` gives (resource, namespace, name)."""
        unknown = set(resources) - set(RESOURCES)
        if unknown:
            raise KeyError(", ".join(sorted(unknown)))
        changes = Changes(resources, self._changes.discard)
        self._changes.add(changes)
        return changes

    def _version(self, resource: str, namespace: str, name: str) -> Version:
        version = self._objects[resource].get((namespace or "", name))
        if version is None:
            raise status.not_found(resource, name)
        return version

    def _commit(self, resource: Resource, obj: JsonObject, old: Version | None, *, removed: bool = False) -> JsonObject:
        self._revision += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self._revision)}
        version = Version(in_order({**obj, "metadata": metadata}), self._revision)
        if removed:
            del self._objects[resource.name][version.key]
        else:
            self._objects[resource.name][version.key] = version
        event = Event("DELETED" if removed else "MODIFIED" if old else "ADDED", version, old)
        self._history.append(resource.name, event)
        for watch in self._watches[resource.name]:
            watch.push(event)
        for changes in self._changes:
            changes.push(resource.name, version)
        return version.obj
