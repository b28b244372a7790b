"""Three ways to change part of an object: JSON merge patch, strategic merge patch, JSON Patch.

    merge_patch(obj, {"spec": {"type": None}})                       RFC 7386: null removes, lists are replaced whole
    strategic_merge_patch(obj, {"spec": {"ports": [...]}}, kind)     Kubernetes' own: lists are merged by a key
    json_patch(obj, [{"op": "replace", "path": "/spec/type", ...}])  RFC 6902: a list of operations

What is handed in is never changed; the answer shares no part with it. (The fourth way, server-side apply: managed.py.)

A strategic merge patch may hold directives, which `kubectl apply` and `kubectl edit` send:

    {"$patch": "replace", ...} {"$patch": "delete"}   replace or delete this map, or the list item with this key
    {"$retainKeys": ["type"], ...}                    drop every other key of this map
    {"$deleteFromPrimitiveList/finalizers": ["x"]}    take scalars out of a merged list
    {"$setElementOrder/ports": [{"port": 80}]}        the order that the merged list shall have

Source: kubernetes v1.36.2 apimachinery pkg/util/strategicpatch/patch.go, apiserver pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from srcip_nb.lab.api import status
from srcip_nb.lab.api.schema import ANY, Type, schema_of

Object = dict[str, Any]

_PATCH = "$patch"
_RETAIN_KEYS = "$retainKeys"
_SET_ORDER = "$setElementOrder/"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_MAX_OPERATIONS = 10_000
"""Operations that one JSON Patch may hold, as in a real API server."""


def merge_patch(obj: Object, patch: Any) -> Object:
    """The object after a JSON merge patch (RFC 7386).

    Raises:
        ApiError: 400, the patch is not an object.
    """
    if not isinstance(patch, dict):
        raise status.bad_request("Invalid JSON Patch")
    merged: Object = _merge_patch(copy.deepcopy(obj), copy.deepcopy(patch))
    return merged


def _merge_patch(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_patch(result.get(key), value)
    return result


def json_patch(obj: Object, operations: Any) -> Object:
    """The object after a JSON Patch (RFC 6902).

    Raises:
        ApiError: 400 where the patch is no JSON Patch, 413 where it has over 10,000 operations, 422 where it cannot be
            carried out on this object (a test fails, a path does not exist).
    """
    import jsonpatch
    from jsonpointer import JsonPointerException

    if not isinstance(operations, list):
        word = "object" if isinstance(operations, dict) else type(operations).__name__
        raise status.bad_request(f"json: cannot unmarshal {word} into Go value of type jsonpatch.Patch")
    if len(operations) > _MAX_OPERATIONS:
        raise status.too_large(
            f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}"
        )
    try:
        jsonpatch.JsonPatch(operations)
    except (jsonpatch.InvalidJsonPatch, JsonPointerException, TypeError) as error:
        raise status.bad_request(f"Invalid JSON Patch: {error}") from error
    patched: Any = copy.deepcopy(obj)
    for index, operation in enumerate(operations):
        where = f"operation {index}, {operation['op']} {operation['path']}"
        try:
            patched = jsonpatch.JsonPatch([copy.deepcopy(operation)]).apply(patched, in_place=True)
        except jsonpatch.JsonPatchTestFailed as error:
            raise status.rejected_patch(f"{where}: the value there is another, or there is none") from error
        except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError) as error:
            # TypeError and KeyError: a path that leads into a string or past a list, which the library does not check.
            raise status.rejected_patch(f"{where}: it does not apply to this object") from error
    if not isinstance(patched, dict):
        raise status.rejected_patch("the patch replaces the whole object by something else")
    return patched


def strategic_merge_patch(obj: Object, patch: Any, kind: str) -> Object:
    """The object after a strategic merge patch.

    Raises:
        ApiError: 400 or 500 in the server's words, where a directive is malformed or a list item lacks its key.
        KeyError: the lab has no such kind.
    """
    if not isinstance(patch, dict):
        raise status.bad_request("invalid JSON document")
    return _merge_map(copy.deepcopy(obj), copy.deepcopy(patch), schema_of(kind))


def _merge_map(original: Object, patch: Object, shape: Type) -> Object:
    if _PATCH in patch:
        directive = patch.pop(_PATCH)
        if directive == "replace":
            return patch
        if directive == "delete":
            return {}
        raise status.unknown_error(
            f"unknown patch type: {directive} in map: {status.go_map({_PATCH: directive, **patch})}"
        )
    _retain_keys(original, patch)
    _merge_ordered_lists(original, patch, shape)
    for key, value in patch.items():
        if key.startswith(_DELETE_FROM):
            _delete_from_list(original, key.removeprefix(_DELETE_FROM), value)
        elif value is None:
            original.pop(key, None)
        else:
            _merge_field(original, key, value, shape.of(key))
    return original


def _merge_field(original: Object, key: str, value: Any, field: Type) -> None:
    present = original.get(key)
    replaces = "replace" in field.strategies
    if isinstance(present, dict) and isinstance(value, dict) and not replaces:
        original[key] = _merge_map(present, value, field)
    elif isinstance(present, list) and isinstance(value, list) and "merge" in field.strategies:
        original[key] = _merge_list(present, value, field)
    elif isinstance(value, dict) and _PATCH in value:
        # A directive for a map that is not there: nothing to delete or replace.
        original.pop(key, None)
    else:
        original[key] = _without_directives(value)


def _retain_keys(original: Object, patch: Object) -> None:
    if _RETAIN_KEYS not in patch:
        return
    retained = patch.pop(_RETAIN_KEYS)
    is_list = isinstance(retained, list)
    unlisted = [
        key for key, value in patch.items() if value is not None and not key.startswith((_DELETE_FROM, _SET_ORDER))
    ]
    if not is_list or any(key not in retained for key in unlisted):
        raise status.bad_request("invalid patch format of retainKeys")
    for key in [key for key in original if key not in retained]:
        del original[key]


def _delete_from_list(original: Object, key: str, values: Any) -> None:
    if not isinstance(values, list):
        raise status.bad_request("invalid patch format of primitive list")
    if isinstance(original.get(key), list):
        original[key] = [item for item in original[key] if item not in values]


def _merge_ordered_lists(original: Object, patch: Object, shape: Type) -> None:
    """Merge the lists that the patch gives an order for, and take them and their orders out of the patch."""
    for directive in [key for key in patch if key.startswith(_SET_ORDER)]:
        key, order = directive.removeprefix(_SET_ORDER), patch.pop(directive)
        field = shape.of(key)
        identity = _identity(field)
        present, wanted = original.get(key), patch.pop(key, None)
        if not isinstance(order, list) or not isinstance(wanted, (list, type(None))):
            raise status.bad_request("invalid patch format of setElementOrder list")
        _check_order(wanted or [], order, identity)
        if isinstance(present, list) and wanted is not None:
            merged = _merge_list(present, wanted, field) if "merge" in field.strategies else wanted
        elif isinstance(present, list):
            merged = present
        elif wanted is not None:
            merged = _without_directives(wanted)
        else:
            continue
        original[key] = _in_order(merged, order, present if isinstance(present, list) else [], identity)


def _check_order(wanted: list[Any], order: list[Any], identity: Callable[[Any], Any]) -> None:
    """Refuse a patch whose items do not stand in the order that it gives itself."""
    if not order or not wanted:
        return
    items = [identity(item) for item in wanted if not (isinstance(item, dict) and _PATCH in item)]
    remaining = iter([identity(item) for item in order])
    if not all(item in remaining for item in items):
        shown = f"{status.go_map(wanted)}\n doesn't match {_SET_ORDER.rstrip('/')} list:\n{status.go_map(order)}"
        raise status.unknown_error(f"The order in patch list:\n{shown}\n")


def _merge_list(original: list[Any], patch: list[Any], field: Type) -> list[Any]:
    if not field.merge_key:
        merged = list(original)
        merged.extend(item for item in patch if item not in merged)
        return _in_order(merged, patch, original, _identity(field))
    identity = _identity(field)
    element = field.element or ANY
    kept = original
    for item in patch:
        directive = item.get(_PATCH) if isinstance(item, dict) else None
        if directive == "delete":
            gone = identity(item)
            kept = [present for present in kept if identity(present) != gone]
        elif directive == "merge":
            raise status.unknown_error("merging lists cannot yet be specified in the patch")
        elif directive not in (None, "replace"):
            raise status.unknown_error(f"unknown patch type: {directive} in map: {status.go_map(item)}")
    plain = [item for item in patch if not (isinstance(item, dict) and _PATCH in item)]
    if any(isinstance(item, dict) and item.get(_PATCH) == "replace" for item in patch):
        return plain
    merged = list(kept)
    for item in plain:
        key = identity(item)
        places = [place for place, present in enumerate(merged) if identity(present) == key]
        if places:
            merged[places[0]] = _merge_map(merged[places[0]], dict(item), element)
        else:
            merged.append(_without_directives(item))
    return _in_order(merged, plain, kept, identity)


def _identity(field: Type) -> Callable[[Any], Any]:
    """How to tell the items of a merged list apart: by the merge key, or the scalar itself."""

    def by_key(item: Any) -> Any:
        if not isinstance(item, dict):
            raise status.unknown_error(f"expected a map with the merge key {field.merge_key}, but received {item!r}")
        if field.merge_key not in item:
            shown = status.go_map(item)
            raise status.unknown_error(f"map: {shown} does not contain declared merge key: {field.merge_key}")
        return item[field.merge_key]

    return by_key if field.merge_key else lambda item: item


def _in_order(items: list[Any], order: list[Any], live: list[Any], identity: Callable[[Any], Any]) -> list[Any]:
    """Items in the order of `order`; those it does not name are put before the first that follows them in `live`."""
    ranks = {_rank_key(identity(item)): rank for rank, item in reversed(list(enumerate(order)))}
    places = {_rank_key(identity(item)): place for place, item in reversed(list(enumerate(live)))}
    named = [item for item in items if _rank_key(identity(item)) in ranks]
    named.sort(key=lambda item: ranks[_rank_key(identity(item))])
    others = [item for item in items if _rank_key(identity(item)) not in ranks]
    result: list[Any] = []
    for item in named:
        place = places.get(_rank_key(identity(item)))
        while others and place is not None and places.get(_rank_key(identity(others[0])), place) < place:
            result.append(others.pop(0))
        result.append(item)
    return result + others


def _rank_key(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def _without_directives(value: Any) -> Any:
    """What a patch adds where there was nothing: itself, less nulls and directives."""
    if isinstance(value, dict):
        return {
            key: _without_directives(item)
            for key, item in value.items()
            if item is not None and not key.startswith("$") and not (isinstance(item, dict) and _PATCH in item)
        }
    if isinstance(value, list):
        return [_without_directives(item) for item in value if not (isinstance(item, dict) and _PATCH in item)]
    return value
