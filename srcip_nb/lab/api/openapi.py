"""The API described for its clients: OpenAPI v3, one document a group, and v2 as JSON.

kubectl reads v3 for two things: whether PATCH of a kind takes the parameter fieldValidation (then it leaves validation
to the server), and the fields that `kubectl explain` shows. Both come from the schemas of schema.py, in the form that
a real server gives them:

    openapi_v3_index()      {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=..."}, ...}}
    openapi_v3("apps/v1")   paths of deployments and replicasets, and every schema that they need
    openapi_v2()            all groups in one document

The documents are made anew at each call; whoever serves them keeps the bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from srcip_nb.lab.api.resources import GROUP_VERSIONS, RESOURCES, Resource
from srcip_nb.lab.api.schema import DEFINITION_OF, VERSION, read_definitions

Object = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_ALWAYS = (f"{_META}.DeleteOptions", f"{_META}.Status", f"{_META}.Patch")
_INFO = {"title": "Kubernetes", "version": VERSION}
_ACTIONS = {"get": "get", "list": "list", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_PARAMETERS = {
    "dryRun": "When present, indicates that modifications should not be persisted: All.",
    "fieldManager": "The name of the actor or entity that is making these changes.",
    "fieldValidation": "What to do with unknown or duplicate fields: Ignore, Warn or Strict.",
}


def openapi_v3_index() -> Object:
    """Where the document of each group and version is."""
    paths = {}
    for group, version in GROUP_VERSIONS:
        path = _root(group, version).lstrip("/")
        digest = hashlib.sha256(f"{VERSION} {path}".encode()).hexdigest().upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def openapi_v3(group_version: str) -> Object:
    """The document of one group and version ("v1", "apps/v1").

    Raises:
        KeyError: the lab does not serve it.
    """
    group, _, version = group_version.rpartition("/")
    if (group, version) not in GROUP_VERSIONS:
        raise KeyError(group_version)
    served = [resource for resource in RESOURCES.values() if (resource.group, resource.version) == (group, version)]
    schemas = {name: _v3(node) for name, node in _needed(served).items()}
    return {"openapi": "3.0.0", "info": _INFO, "paths": _paths(served, is_v3=True), "components": {"schemas": schemas}}


def openapi_v2() -> Object:
    """Everything that the lab serves, as OpenAPI v2 (swagger)."""
    served = list(RESOURCES.values())
    definitions = {name: _v2(node) for name, node in _needed(served).items()}
    return {"swagger": "2.0", "info": _INFO, "paths": _paths(served, is_v3=False), "definitions": definitions}


# -- schemas -----------------------------------------------------------------------------------------------------------


def _needed(served: list[Resource]) -> Object:
    """The definitions of the resources and of all that they refer to."""
    definitions = read_definitions()
    waiting = [name for resource in served for name in _definitions_of(resource)]
    waiting += [name for name in _ALWAYS if name in definitions]
    needed: Object = {}
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = definitions[name]
            waiting.extend(_references(definitions[name]))
    return dict(sorted(needed.items()))


def _definitions_of(resource: Resource) -> list[str]:
    has_scale = any(name == "scale" for name, _ in resource.subresources)
    name = DEFINITION_OF[resource.kind]
    return [name, f"{name}List", *([DEFINITION_OF["Scale"]] if has_scale else [])]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rsplit("/", 1)[1]
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def _v3(node: Any) -> Any:
    node = _plain(node, "#/components/schemas/")
    if "oneOf" in node:
        words = [_word(choice) for choice in node["oneOf"]]
        is_int_or_string = {"format": "int-or-string"} if "integer" in words else {}
        return {**node, **is_int_or_string, "oneOf": [{"type": word} for word in words]}
    node = _inside(node, _v3)
    if "$ref" in node and len(node) > 1:
        # Version 3 allows nothing beside a reference.
        return {"allOf": [{"$ref": node.pop("$ref")}], **node}
    return node


def _v2(node: Any) -> Any:
    node = _plain(node, "#/definitions/")
    if "oneOf" in node:
        words = {_word(choice) for choice in node.pop("oneOf")}
        return {**node, "type": "string", **({"format": "int-or-string"} if "integer" in words else {})}
    return _inside(node, _v2)


def _plain(node: Object, references: str) -> Object:
    """One schema in a server's form: no "null" among its types, references into the document."""
    plain = {key: value for key, value in node.items() if key != "enum"}
    if "type" in plain:
        plain["type"] = _word(plain)
    if "$ref" in plain:
        plain["$ref"] = references + plain["$ref"].rsplit("/", 1)[1]
    return plain


def _inside(node: Object, convert: Any) -> Object:
    if "properties" in node:
        node["properties"] = {name: convert(inner) for name, inner in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            node[key] = convert(node[key])
    return node


def _word(node: Object) -> str:
    words = node["type"]
    return next(word for word in words if word != "null") if isinstance(words, list) else str(words)


# -- paths -------------------------------------------------------------------------------------------------------------


def _root(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def _paths(served: list[Resource], is_v3: bool) -> Object:
    paths: Object = {}
    for resource in served:
        root = _root(resource.group, resource.version)
        holder = f"{root}/namespaces/{{namespace}}" if resource.namespaced else root
        collection, item = f"{holder}/{resource.name}", f"{holder}/{resource.name}/{{name}}"
        paths[collection] = _operations(resource, ("list", "create"), "", collection, is_v3)
        paths[item] = _operations(resource, ("get", "update", "patch", "delete"), "", item, is_v3)
        if resource.namespaced:
            everywhere = f"{root}/{resource.name}"
            paths[everywhere] = _operations(resource, ("list",), "", everywhere, is_v3)
        for subresource, verbs in resource.subresources:
            path = f"{item}/{subresource}"
            paths[path] = _operations(resource, verbs, subresource, path, is_v3)
    return dict(sorted(paths.items()))


def _operations(resource: Resource, verbs: tuple[str, ...], subresource: str, path: str, is_v3: bool) -> Object:
    operations: Object = {}
    for verb in verbs:
        if verb in resource.verbs_of(subresource):
            method = "get" if verb in ("get", "list") else _ACTIONS[verb]
            operations[method] = _operation(resource, verb, subresource, path, is_v3)
    names = [name for name in ("namespace", "name") if f"{{{name}}}" in path]
    operations["parameters"] = [_parameter(name, f"{name} of the object", "path", is_v3) for name in names]
    return operations


def _operation(resource: Resource, verb: str, subresource: str, path: str, is_v3: bool) -> Object:
    scope = "Namespaced" if "{namespace}" in path else ""
    # A list over all namespaces is an operation of its own.
    everywhere = "ForAllNamespaces" if verb == "list" and resource.namespaced and not scope else ""
    group_word = (resource.group.split(".")[0] or "core").capitalize() + resource.version.capitalize()
    is_scale = subresource == "scale"
    kind = "Scale" if is_scale else resource.kind
    group, version = ("autoscaling", "v1") if is_scale else (resource.group, resource.version)
    definition = DEFINITION_OF[kind] + ("List" if verb == "list" else "")
    operation: Object = {
        "operationId": f"{verb}{group_word}{scope}{resource.kind}{subresource.capitalize()}{everywhere}",
        "tags": [f"{resource.group.split('.')[0] or 'core'}_{resource.version}"],
        "responses": {"200": _content("OK", definition, is_v3)},
        "x-kubernetes-action": _ACTIONS[verb],
        "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version},
    }
    if verb in ("create", "update", "patch"):
        operation["parameters"] = [_parameter(name, text, "query", is_v3) for name, text in _PARAMETERS.items()]
        _add_body(operation, "" if verb == "patch" else definition, is_v3)
    return operation


def _parameter(name: str, description: str, place: str, is_v3: bool) -> Object:
    parameter: Object = {"name": name, "in": place, "description": description}
    if place == "path":
        parameter["required"] = True
    kind = {"type": "string", "uniqueItems": True}
    return {**parameter, "schema": kind} if is_v3 else {**parameter, **kind}


def _content(description: str, definition: str, is_v3: bool) -> Object:
    schema = {"$ref": ("#/components/schemas/" if is_v3 else "#/definitions/") + definition}
    if is_v3:
        return {"description": description, "content": {"application/json": {"schema": schema}}}
    return {"description": description, "schema": schema}


def _add_body(operation: Object, definition: str, is_v3: bool) -> None:
    """Say, in place, what a write sends: an object of the kind, or a patch ("")."""
    types = ("application/json",) if definition else _PATCH_TYPES
    references = "#/components/schemas/" if is_v3 else "#/definitions/"
    schema = {"$ref": references + definition} if definition else {"type": "object"}
    if is_v3:
        content = {media_type: {"schema": schema} for media_type in types}
        operation["requestBody"] = {"content": content, "required": True}
    else:
        operation["consumes"] = list(types)
        operation["parameters"].append({"name": "body", "in": "body", "required": True, "schema": schema})
