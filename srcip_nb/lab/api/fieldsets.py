"""Sets of fields: which parts of an object somebody wrote, and the arithmetic on objects that needs them.

A field is a path of elements from the object's root, a set of fields a frozenset of paths. Elements are written as in
metadata.managedFields:

    ("f:spec", 'f:ports', 'k:{"port":80,"protocol":"TCP"}', "f:nodePort")
      f:NAME    a field of a struct, or a key of a map          k:{...}  the item of a list with these key fields
      v:VALUE   this value in a list that is a set

What counts as one field follows the schema: a scalar, a whole atomic list or map; a struct or map is its fields.

Source: sigs.k8s.io/structured-merge-diff v6 (typed/{compare,merge,remove,tofieldset,validate}.go, fieldpath/).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from srcip_nb.lab.api.schema import ANY, Type
from srcip_nb.lab.api.status import go_escape

Path = tuple[str, ...]
Fields = frozenset[Path]

NOTHING: Fields = frozenset()
_ABSENT: Any = object()
_KEY_DEFAULTS = {"protocol": "TCP"}
"""Key fields that have a default: an item without them is the same item as one with it."""


class Comparison(NamedTuple):
    """What a change did to an object: the fields that only the old one has, that differ, that only the new one has."""

    removed: Fields
    modified: Fields
    added: Fields


# -- the written form --------------------------------------------------------------------------------------------------


def encode(fields: Iterable[Path]) -> dict[str, Any]:
    """A set of fields as managedFields hold it (fieldsV1): nested maps, "." for a field that is in the set itself."""
    return _emit(_tree(fields))


def decode(fields_v1: dict[str, Any]) -> Fields:
    """The set of fields that `encode` wrote."""
    return frozenset(_read(fields_v1, ()))


def dotted(path: Path) -> str:
    """A path as an error message shows it: .spec.ports[port=80,protocol="TCP"].nodePort."""
    return "".join(_dotted_element(element) for element in path)


def in_reading_order(fields: Iterable[Path]) -> list[Path]:
    """Paths in the order in which a server lists them: at each level the fields themselves before what is inside."""
    last = 0
    return sorted(fields, key=lambda path: [(at + 1 < len(path) or last, _order(e)) for at, e in enumerate(path)])


def _dotted_element(element: str) -> str:
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return f".{text}"
    if kind == "v:":
        return f"[={text}]"
    pairs = ",".join(f"{name}={_json(value)}" for name, value in json.loads(text).items())
    return f"[{pairs}]"


def _order(element: str) -> tuple[int, list[tuple[str, int, Any]]]:
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return 0, [(text, 0, "")]
    values = json.loads(text).items() if kind == "k:" else [("", json.loads(text))]
    return (1 if kind == "k:" else 2), [(name, *_scalar_order(value)) for name, value in values]


def _scalar_order(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, (int, float)) else (1, str(value))


def _tree(fields: Iterable[Path]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path in fields:
        node = root
        for element in path:
            node = node.setdefault(element, {})
        node[""] = True
    return root


def _emit(node: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for element in sorted((key for key in node if key), key=_order):
        child = node[element]
        inside = _emit(child)
        written[element] = {".": {}, **inside} if inside and "" in child else inside
    return written


def _read(node: dict[str, Any], path: Path) -> Iterator[Path]:
    for element, child in node.items():
        if element == ".":
            yield path
        elif element[:2] in ("f:", "k:", "v:"):
            if not child:
                yield (*path, element)
            else:
                yield from _read(child, (*path, element))


def _json(value: Any) -> str:
    return go_escape(json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True))


def item_element(item: Any, field: Type) -> str:
    """The path element of one item of a list that is a "map" or a "set".

    Raises:
        ValueError: the item lacks every key field, or is not what such a list holds.
    """
    if field.relation == "set":
        if isinstance(item, (dict, list)) or item is None:
            word = "a map type" if isinstance(item, dict) else "an explicit null" if item is None else "a list type"
            raise ValueError(f"associative list without keys has an element that's {word}")
        return f"v:{_json(item)}"
    if not isinstance(item, dict):
        word = "a null element" if item is None else "non-map elements"
        raise ValueError(f"associative list with keys may not have {word}")
    key = {name: item.get(name, _default_key(field, name)) for name in field.keys}
    key = {name: value for name, value in key.items() if value is not None or name in item}
    if not key:
        names = " ".join(f'"{name}"' for name in field.keys)
        raise ValueError(
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
    return f"k:{_json(key)}"


def _default_key(field: Type, name: str) -> str | None:
    """What an item without this key field is known by: a reference without a name, say, is the one named ""."""
    is_required = field.element is not None and name in field.element.required
    return _KEY_DEFAULTS.get(name, None if is_required else "")


# -- what an object holds, and how two differ --------------------------------------------------------------------------


def fields_of(value: Any, shape: Type) -> Fields:
    """Every field that an object holds."""
    return frozenset(path for path in _fields_of(value, shape, ()) if path)


def _fields_of(value: Any, shape: Type, path: Path) -> Iterator[Path]:
    if _is_leaf(shape):
        yield path
    elif isinstance(value, list):
        for item in value:
            element = item_element(item, shape)
            yield from _fields_of(item, shape.element or ANY, (*path, element))
            yield (*path, element)
    elif isinstance(value, dict):
        for key, inner in value.items():
            inner_path = (*path, f"f:{key}")
            yield from _fields_of(inner, shape.of(key), inner_path)
            if inner is None or inner == {} or key not in shape.fields:
                yield inner_path


def compare(old: Any, new: Any, shape: Type) -> Comparison:
    """How `new` differs from `old`."""
    sets: tuple[set[Path], set[Path], set[Path]] = (set(), set(), set())
    _compare(old, new, shape, (), sets)
    return Comparison(*(frozenset(path for path in paths if path) for paths in sets))


def _compare(old: Any, new: Any, shape: Type, path: Path, sets: tuple[set[Path], set[Path], set[Path]]) -> None:
    removed, modified, added = sets
    is_whole = _is_leaf(shape) or not (_content(old) or _content(new))
    if is_whole:
        if old is not _ABSENT and new is not _ABSENT and old != new:
            modified.add(path)
    elif shape.form == "list":
        old_items, new_items = _by_element(old, shape), _by_element(new, shape)
        for element in {**old_items, **new_items}:
            before, after = old_items.get(element, [_ABSENT]), new_items.get(element, [_ABSENT])
            if len(before) == len(after) == 1:
                _compare(before[0], after[0], shape.element or ANY, (*path, element), sets)
            elif before != after:
                # The same item several times is compared as one.
                modified.add((*path, element))
    else:
        old_fields, new_fields = _content(old) or {}, _content(new) or {}
        for key in {**old_fields, **new_fields}:
            _compare(
                old_fields.get(key, _ABSENT), new_fields.get(key, _ABSENT), shape.of(key), (*path, f"f:{key}"), sets
            )
    if old is _ABSENT:
        added.add(path)
    elif new is _ABSENT:
        removed.add(path)


def merge(live: Any, config: Any, shape: Type) -> Any:
    """`live` with everything that `config` says put over it; items that only one of them has are kept."""
    if config is _ABSENT:
        return live
    if live is _ABSENT or _is_leaf(shape) or not (_content(live) or _content(config)):
        return config
    if shape.form == "list":
        return _merge_lists(live or [], config or [], shape)
    before, after = live or {}, config or {}
    return {key: merge(before.get(key, _ABSENT), after.get(key, _ABSENT), shape.of(key)) for key in {**before, **after}}


def _merge_lists(live: list[Any], config: list[Any], shape: Type) -> list[Any]:
    """Items of both: shared ones in the order of `config`, the others of `live` where they stood among them."""
    element = shape.element or ANY
    present = {item_element(item, shape): item for item in live}
    wanted = {item_element(item, shape): item for item in config}
    left, right = list(present), list(wanted)
    shared = [key for key in right if key in present]
    result, done = [], set()
    while left or right:
        if left and right and left[0] != right[0] and left[0] in wanted and shared and shared[0] != left[0]:
            left.pop(0)
        elif left and left[0] not in wanted:
            result.append(present[left.pop(0)])
        elif left and left[0] in done:
            left.pop(0)
        else:
            key = right.pop(0)
            result.append(merge(present.get(key, _ABSENT), wanted[key], element))
            done.add(key)
            if shared and shared[0] == key:
                shared.pop(0)
    return result


def remove(value: Any, fields: Fields, shape: Type) -> Any:
    """A copy of the object without these fields; a struct or list that loses all it has stays, empty."""
    return _remove(value, _tree(fields), shape)


def _remove(value: Any, tree: dict[str, Any], shape: Type) -> Any:
    if _is_leaf(shape) or not value or not tree:
        return value
    if isinstance(value, list):
        kept = []
        for item in value:
            node = tree.get(item_element(item, shape), {})
            if "" not in node:
                kept.append(_remove(item, node, shape.element or ANY))
        return kept
    return {
        key: _remove(inner, tree.get(f"f:{key}", {}), shape.of(key))
        for key, inner in value.items()
        if "" not in tree.get(f"f:{key}", {})
    }


def with_structs(fields: Fields, shape: Type) -> Fields:
    """The set and every struct field on the way to its fields: what has to be kept for them to be there."""
    result = set(fields)
    for path in fields:
        at = shape
        for length, element in enumerate(path[:-1], 1):
            name = element[2:]
            is_struct_field = element.startswith("f:") and name in at.fields
            if is_struct_field:
                result.add(path[:length])
            at = at.of(name) if element.startswith("f:") else at.element or ANY
    return frozenset(result)


def without_below(fields: Fields, roots: Iterable[Path]) -> Fields:
    """The set less these roots and all that is inside them."""
    roots = tuple(roots)
    return frozenset(path for path in fields if not any(path[: len(root)] == root for root in roots))


def _is_leaf(shape: Type) -> bool:
    return shape.form in ("scalar", "any") or shape.relation == "atomic"


def _content(value: Any) -> Any:
    return None if value is _ABSENT else value


def _by_element(value: Any, shape: Type) -> dict[str, list[Any]]:
    items: dict[str, list[Any]] = {}
    for item in _content(value) or []:
        items.setdefault(item_element(item, shape), []).append(item)
    return items


# -- objects that do not fit their schema ------------------------------------------------------------------------------


def typed_errors(value: Any, shape: Type, path: str = "") -> Iterator[str]:
    """What server-side apply finds wrong with an object's shape: unknown fields, wrong types, items given twice."""
    if value is None or shape.form == "any":
        return
    if shape.form == "scalar":
        yield from _scalar_errors(value, shape.go, path)
    elif shape.form == "list":
        if not isinstance(value, list):
            yield f"{path}: expected list, got {_shown(value)}"
            return
        seen = set()
        for index, item in enumerate(value):
            element = f"[{index}]"
            if shape.relation != "atomic":
                try:
                    key = item_element(item, shape)
                except ValueError as error:
                    yield f"{path}: element {index}: {error}"
                    return
                element = _dotted_element(key)
                if key in seen:
                    yield f"{path}: duplicate entries for key {element}"
                seen.add(key)
            yield from typed_errors(item, shape.element or ANY, path + element)
    elif not isinstance(value, dict):
        yield f"{path}: expected map, got {_shown(value)}"
    else:
        for key, inner in value.items():
            if shape.form == "struct" and key not in shape.fields:
                yield f"{path}.{key}: field not declared in schema"
            else:
                yield from typed_errors(inner, shape.of(key), f"{path}.{key}")


def _scalar_errors(value: Any, go: str, path: str) -> Iterator[str]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if go in ("int32", "int64", "float64"):
        if not is_number:
            word = {str: "string", bool: "bool", dict: "map[string]interface {}"}.get(type(value), "[]interface {}")
            yield f"{path}: expected numeric (int or float), got {word}"
    elif go == "bool":
        if not isinstance(value, bool):
            yield f"{path}: expected boolean, got {_shown(value)}"
    elif go in ("intstr.IntOrString", "resource.Quantity"):
        if isinstance(value, (dict, list)):
            yield f"{path}: expected any scalar, got {_shown(value)}"
    elif not isinstance(value, str):
        yield f"{path}: expected string, got {_shown(value)}"


def _shown(value: Any) -> str:
    return f"&value.valueUnstructured{{Value:{_json(value)}}}"
