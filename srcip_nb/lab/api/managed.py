"""Who wrote which field: metadata.managedFields, and server-side apply, which is built on it.

Every write is remembered under its manager's name, operation and subresource; the fields that a later writer changes
pass to that writer. An apply says what a manager wants, whole:

    a field that it names                         is set and becomes its own; if another manager owns it and the value
                                                  differs, that is a conflict (409), unless force
    a field that it named last time, and no more  is removed, unless somebody else owns it too
    everything else                               is left alone

    apply(live, config, "srcip-nb", False, "Service")        the new object, managedFields included
    updated(old, new, "kubectl-edit", "Service")             the new managedFields after any other write

Source: kubernetes v1.36.2 apimachinery pkg/util/managedfields/internal, sigs.k8s.io/structured-merge-diff v6 merge/.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass, replace
from typing import Any

from srcip_nb.lab.api import status
from srcip_nb.lab.api.decode import empty_object
from srcip_nb.lab.api.fieldsets import (
    NOTHING,
    Comparison,
    Fields,
    compare,
    decode,
    dotted,
    encode,
    fields_of,
    in_reading_order,
    merge,
    remove,
    typed_errors,
    with_structs,
    without_below,
)
from srcip_nb.lab.api.schema import Type, schema_of

Object = dict[str, Any]

_MAX_UPDATERS = 10
"""Entries of operation Update that an object keeps; older ones are merged into one, as on a real server."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_NEVER_OWNED = {("f:apiVersion",), ("f:kind",), ("f:metadata",)} | {
    ("f:metadata", f"f:{name}")
    for name in (
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    )
}

# What a write through the resource itself, and through a subresource, cannot change.
_STATUS = ("f:status",)
_SPEC = ("f:spec",)
_RESET: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "Namespace": {"": (_STATUS,), "status": (_SPEC,), "finalize": (_STATUS,)},
    "Node": {"": (_STATUS,), "status": (_SPEC,)},
    "Service": {"": (_STATUS,), "status": (_SPEC,)},
    "ReplicaSet": {"": (_STATUS,), "status": (_SPEC,)},
    "Deployment": {"": (_STATUS,), "status": (_SPEC, ("f:metadata", "f:labels"))},
    "Pod": {
        "": (_STATUS,),
        "status": (_SPEC, ("f:metadata", "f:deletionTimestamp"), ("f:metadata", "f:ownerReferences")),
    },
}


@dataclass(frozen=True)
class _Entry:
    """One entry of managedFields."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""
    time: str | None = None
    fields: Fields = NOTHING

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What makes it the same writer: an applier's API version does not count."""
        version = "" if self.operation == "Apply" else self.api_version
        return self.manager, self.operation, version, self.subresource

    def described(self) -> str:
        """As a conflict names it."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


def updated(
    old: Object | None, new: Object, manager: str, kind: str, subresource: str = "", *, now: str | None = None
) -> list[Object]:
    """The managedFields after a create, update or patch by `manager`.

    Call it with the object as the client wanted it, defaults filled in, before the server allocates or decides anything
    itself: what the server adds afterwards (cluster IP, node ports, tolerations) belongs to nobody.

    Args:
        old: the object before, None for a create.
        new: the object after; managedFields in it, if readable, take the place of the old one's.
        manager: the writer's name; "" becomes "unknown".
        kind: the object's kind.
        subresource: "status" and so on, "" for the object itself.
        now: the time of the entry, RFC 3339; None for the clock's.

    Returns:
        the entries, sorted as a server sorts them; [] when nobody owns a field (the key is then left out), or when the
        object cannot be compared (a list item without its key): a server then forgets the owners and goes on.
    """
    shape = schema_of(kind)
    entries = _entries_before(old, new, is_subresource=bool(subresource))
    before: Object = empty_object(kind) if old is None else {**old, "metadata": _unmanaged(old)}
    after: Object = {**new, "metadata": _unmanaged(new)}
    try:
        change = _filtered(compare(before, after, shape), kind, subresource)
    except ValueError:
        return []
    changed = change.modified | change.added
    kept = [replace(entry, fields=entry.fields - changed - change.removed) for entry in entries]
    own = _Entry(manager or "unknown", "Update", new["apiVersion"], subresource, now or _now(), changed - _NEVER_OWNED)
    if own.fields:
        previous = [entry for entry in kept if entry.identity == own.identity]
        own = replace(own, fields=own.fields.union(*(entry.fields for entry in previous)))
        kept = [entry for entry in kept if entry.identity != own.identity] + [own]
    return _written(_capped(kept))


def apply(
    live: Object | None,
    config: Object,
    manager: str,
    force: bool,
    kind: str,
    *,
    subresource: str = "",
    now: str | None = None,
) -> Object:
    """The object after a server-side apply, its managedFields included; defaults are the caller's work.

    Args:
        live: the object as it is, None if there is none yet.
        config: what the manager applies: apiVersion, kind, metadata.name and every field that it wants.
        manager: the field manager.
        force: take over fields that others own.
        kind: the object's kind.
        subresource: "status" and so on, "" for the object itself.
        now: the time of the entry, RFC 3339; None for the clock's.

    Raises:
        ApiError: 409 for conflicts, 400 for managedFields in the config, 500 (as a real server) for a field that the
            kind does not have or a value of a wrong type.
    """
    shape = schema_of(kind)
    _check_config(config, live, shape, kind)
    entries = _read((live or {}).get("metadata", {}).get("managedFields"))
    before: Object = empty_object(kind) if live is None else {**live, "metadata": _unmanaged(live)}
    try:
        merged, entries = _apply(before, config, manager, force, kind, subresource, entries, now)
    except _ConflictsError as conflicts:
        if manager != "kubectl" or not _agree_with_last_applied(before, conflicts, shape):
            raise conflicts.refusal() from None
        merged, entries = _apply(before, config, manager, True, kind, subresource, entries, now)
    obj = copy.deepcopy(merged)
    if manager == "kubectl" and obj["metadata"].get("annotations", {}).get(_LAST_APPLIED):
        obj["metadata"]["annotations"][_LAST_APPLIED] = _last_applied_text(config)
    managed_fields = _written(entries)
    if managed_fields:
        obj["metadata"]["managedFields"] = managed_fields
    return obj


class _ConflictsError(Exception):
    """Fields that an apply would change and that others own, by entry."""

    def __init__(self, by_entry: dict[_Entry, Fields]) -> None:
        self.by_entry = by_entry
        super().__init__()

    def refusal(self) -> status.ApiError:
        conflicts = [(entry.described(), dotted(path)) for entry, path in self._sorted()]
        causes = [status.Cause("FieldManagerConflict", f"conflict with {who}", path) for who, path in conflicts]
        if len(conflicts) == 1:
            who, path = conflicts[0]
            return status.apply_conflict(f"Apply failed with 1 conflict: conflict with {who}: {path}", causes)
        lines = []
        for who in dict.fromkeys(who for who, _ in conflicts):
            lines.append(f"conflicts with {who}:")
            lines.extend(f"- {path}" for owner, path in conflicts if owner == who)
        return status.apply_conflict(f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines), causes)

    def _sorted(self) -> list[tuple[_Entry, tuple[str, ...]]]:
        entries = sorted(self.by_entry, key=lambda entry: entry.identity)
        return [(entry, path) for entry in entries for path in in_reading_order(self.by_entry[entry])]


def _apply(
    live: Object,
    config: Object,
    manager: str,
    force: bool,
    kind: str,
    subresource: str,
    entries: list[_Entry],
    now: str | None,
) -> tuple[Object, list[_Entry]]:
    shape = schema_of(kind)
    reset = _RESET.get(kind, {}).get(subresource, ())
    own = _Entry(
        manager, "Apply", config["apiVersion"], subresource, None, without_below(fields_of(config, shape), reset)
    )
    last = next((entry for entry in entries if entry.identity == own.identity), None)
    others = [entry for entry in entries if entry.identity != own.identity]
    merged: Object = merge(live, config, shape)
    if last:
        merged = _pruned(merged, last.fields, [own.fields, *(entry.fields for entry in others)], shape)
    change = _filtered(compare(live, merged, shape), kind, subresource)
    changed = change.modified | change.added
    conflicts = {entry: entry.fields & changed for entry in others if entry.fields & changed}
    if conflicts and not force:
        raise _ConflictsError(conflicts)
    others = [replace(entry, fields=entry.fields - changed - change.removed) for entry in others]
    is_changed = merged != live
    applied_at = (now or _now()) if is_changed or last is None else last.time
    own = replace(own, fields=own.fields - _NEVER_OWNED, time=applied_at)
    return merged, [*others, own]


def _pruned(merged: Object, last: Fields, owned: list[Fields], shape: Type) -> Object:
    """Take away what the manager applied last time and nobody, itself included, asks for now."""
    last = with_structs(last, shape)
    wanted = with_structs(frozenset().union(*owned), shape)
    present = with_structs(fields_of(merged, shape), shape)
    left = with_structs(fields_of(remove(merged, last, shape), shape), shape)
    # First what anybody owns comes back, then what the manager never applied itself (items without an owner).
    left = with_structs(fields_of(remove(merged, present - (left | wanted), shape), shape), shape)
    pruned: Object = remove(merged, (present - left) & last, shape)
    return pruned


def _filtered(change: Comparison, kind: str, subresource: str) -> Comparison:
    reset = _RESET.get(kind, {}).get(subresource, ())
    return Comparison(*(without_below(fields, reset) for fields in change))


def _check_config(config: Object, live: Object | None, shape: Type, kind: str) -> None:
    metadata = config.get("metadata") or {}
    version = (live or config)["apiVersion"]
    if config["apiVersion"] != version:
        raise status.bad_request(
            "Incorrect version specified in apply patch. "
            f"Specified patch version: {config['apiVersion']}, expected: {version}"
        )
    if metadata.get("managedFields") is not None:
        raise status.bad_request("metadata.managedFields must be nil")
    errors = list(typed_errors(config, shape))
    if errors:
        named = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
        group_version = version if "/" in version else f"/{version}"
        shown = errors[0] if len(errors) == 1 else "\n".join(["errors:", *(f"  {error}" for error in errors)])
        raise status.unknown_error(
            f"failed to create typed patch object ({named}; {group_version}, Kind={kind}): {shown}"
        )


def _agree_with_last_applied(live: Object, conflicts: _ConflictsError, shape: Type) -> bool:
    """Whether every conflict is over a field that client-side `kubectl apply` set to the value it still has."""
    text = live.get("metadata", {}).get("annotations", {}).get(_LAST_APPLIED, "")
    try:
        last_applied = json.loads(text)
    except ValueError:
        return False
    if not isinstance(last_applied, dict) or list(typed_errors(last_applied, shape)):
        return False
    change = compare(last_applied, live, shape)
    allowed = fields_of(last_applied, shape) - change.modified - change.added - change.removed
    return all(fields <= allowed for fields in conflicts.by_entry.values())


def _last_applied_text(config: Object) -> str:
    shown = copy.deepcopy(config)
    shown["metadata"].get("annotations", {}).pop(_LAST_APPLIED, None)
    return status.go_escape(json.dumps(shown, ensure_ascii=False, separators=(",", ":"), sort_keys=True)) + "\n"


# -- the entries -------------------------------------------------------------------------------------------------------


def _entries_before(old: Object | None, new: Object, is_subresource: bool) -> list[_Entry]:
    """The entries that a write starts from: those it brings, if it may bring any, else those that are there."""
    given = new["metadata"].get("managedFields")
    present = _read((old or {}).get("metadata", {}).get("managedFields"))
    if is_subresource or given is None:
        return present
    is_reset = not given or given == [{}]
    return [] if is_reset else _read(given) or present


def _read(entries: Any) -> list[_Entry]:
    """The entries of managedFields; [] if any of them cannot be read, as a real server does."""
    read = []
    for entry in entries or []:
        is_readable = (
            isinstance(entry, dict)
            and entry.get("operation") in ("Apply", "Update")
            and entry.get("apiVersion")
            and entry.get("fieldsType") == "FieldsV1"
        )
        if not is_readable:
            return []
        fields = decode(entry.get("fieldsV1") or {})
        read.append(
            _Entry(
                entry.get("manager", ""),
                entry["operation"],
                entry["apiVersion"],
                entry.get("subresource", ""),
                entry.get("time"),
                fields,
            )
        )
    return read


def _written(entries: list[_Entry]) -> list[Object]:
    written = []
    order = sorted(
        entries,
        key=lambda entry: (entry.operation, entry.time or "", entry.manager, entry.api_version, entry.subresource),
    )
    for entry in order:
        if not entry.fields:
            continue
        item: Object = {"manager": entry.manager, "operation": entry.operation, "apiVersion": entry.api_version}
        if entry.time:
            item["time"] = entry.time
        item["fieldsType"] = "FieldsV1"
        item["fieldsV1"] = encode(entry.fields)
        if entry.subresource:
            item["subresource"] = entry.subresource
        written.append(item)
    return written


def _capped(entries: list[_Entry]) -> list[_Entry]:
    """At most ten updaters: the oldest of a version become one, "ancient-changes"."""
    updaters = sorted(
        (entry for entry in entries if entry.operation == "Update" and entry.fields),
        key=lambda entry: (entry.time or "", entry.identity),
    )
    surplus = len(updaters) - _MAX_UPDATERS
    if surplus <= 0:
        return entries
    oldest = updaters[: surplus + 1]
    ancient = replace(
        oldest[-1],
        manager="ancient-changes",
        subresource="",
        fields=frozenset().union(*(entry.fields for entry in oldest)),
    )
    return [entry for entry in entries if entry not in oldest] + [ancient]


def _unmanaged(obj: Object) -> Object:
    return {key: value for key, value in obj.get("metadata", {}).items() if key != "managedFields"}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
