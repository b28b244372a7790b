"""What each kind of object may hold: the Kubernetes 1.36 schemas, compiled to small `Type` objects.

The schemas come with the package kubernetes-validate (one JSON file of definitions). They are read once, the kinds that
the lab serves are compiled without their descriptions, and the file's text is let go:

    schema_of("Service").of("spec").of("ports")     # Type(form="list", relation="map", keys=("port", "protocol"), ...)

Everything that has to know an object's shape asks here: merging patches, tracking field owners, refusing what a strict
server refuses. Two kinds of refusal, in the words of Go's JSON decoder, because kubectl shows them as they are:

    strict_errors(obj, "Service")   # ['unknown field "spec.prots"']
    type_error(obj, "Service")      # 'json: cannot unmarshal number into Go struct field ServiceSpec.spec.type ...'
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from srcip_nb.errors import LabError

VERSION = "v1.36.0"
"""The schemas' Kubernetes version (patch releases do not change them)."""

DEFINITION_OF = {
    "Namespace": "io.k8s.api.core.v1.Namespace",
    "ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "Node": "io.k8s.api.core.v1.Node",
    "Pod": "io.k8s.api.core.v1.Pod",
    "Service": "io.k8s.api.core.v1.Service",
    "ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
    "Endpoints": "io.k8s.api.core.v1.Endpoints",
    "Event": "io.k8s.api.core.v1.Event",
    "Binding": "io.k8s.api.core.v1.Binding",
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "ReplicaSet": "io.k8s.api.apps.v1.ReplicaSet",
    "EndpointSlice": "io.k8s.api.discovery.v1.EndpointSlice",
    "Scale": "io.k8s.api.autoscaling.v1.Scale",
    "DeleteOptions": "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "SelfSubjectReview": "io.k8s.api.authentication.v1.SelfSubjectReview",
    "SelfSubjectAccessReview": "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    "SelfSubjectRulesReview": "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
}
"""The kinds that the lab reads, and the definition of each."""

_SPECIAL = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intstr.IntOrString",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "resource.Quantity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "v1.Time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "v1.MicroTime",
}
_ANYTHING = {"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "io.k8s.apimachinery.pkg.runtime.RawExtension"}

# The schema says "string" where Go has a type of its own; a decoding error names Go's type.
_GO_STRINGS = {
    "ServiceSpec.type": "v1.ServiceType",
    "ServiceSpec.sessionAffinity": "v1.ServiceAffinity",
    "ServiceSpec.externalTrafficPolicy": "v1.ServiceExternalTrafficPolicy",
    "ServiceSpec.internalTrafficPolicy": "v1.ServiceInternalTrafficPolicy",
    "ServiceSpec.ipFamilyPolicy": "v1.IPFamilyPolicy",
    "ServiceSpec.ipFamilies": "v1.IPFamily",
    "ServicePort.protocol": "v1.Protocol",
    "ContainerPort.protocol": "v1.Protocol",
    "EndpointPort.protocol": "v1.Protocol",
    "EndpointSlice.addressType": "v1.AddressType",
    "Container.imagePullPolicy": "v1.PullPolicy",
    "Container.terminationMessagePolicy": "v1.TerminationMessagePolicy",
    "HTTPGetAction.scheme": "v1.URIScheme",
    "PodSpec.restartPolicy": "v1.RestartPolicy",
    "PodSpec.dnsPolicy": "v1.DNSPolicy",
    "Toleration.operator": "v1.TolerationOperator",
    "Toleration.effect": "v1.TaintEffect",
    "Taint.effect": "v1.TaintEffect",
    "DeploymentStrategy.type": "v1.DeploymentStrategyType",
    "NamespaceSpec.finalizers": "v1.FinalizerName",
    "NamespaceStatus.phase": "v1.NamespacePhase",
    "PodStatus.phase": "v1.PodPhase",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Type:
    """The shape of one value.

    Attributes:
        form: "struct" (named fields), "map" (any key), "list", "scalar" or "any".
        go: the type's name in Go, as decoding errors show it: v1.ServiceSpec, int32, []v1.ServicePort.
        fields: of a struct, each field's type by its name.
        required: of a struct, the fields that an object cannot be without.
        element: of a list or map, the type of what it holds.
        relation: how two writers share it: "granular" (structs, maps), "atomic" (one owner for the whole), "map" (a
            list whose items are known by `keys`) or "set" (a list of scalars).
        keys: of a list with relation "map", the fields that tell its items apart.
        strategies: what strategic merge patch does with it: any of "merge", "replace", "retainKeys".
        merge_key: of a list that is merged, the field by which strategic merge patch tells its items apart.
    """

    form: str
    go: str
    fields: dict[str, Type] = dataclasses.field(default_factory=dict)
    required: frozenset[str] = frozenset()
    element: Type | None = None
    relation: str = "granular"
    keys: tuple[str, ...] = ()
    strategies: frozenset[str] = frozenset()
    merge_key: str = ""

    def of(self, key: str) -> Type:
        """The type of the value under `key` of a struct or map; ANY where the schema knows no such field."""
        return self.fields.get(key) or self.element or ANY


ANY = Type("any", "interface {}")


def read_definitions() -> dict[str, Any]:
    """Every definition of the Kubernetes schemas by its name, read anew from the installed package.

    Raises:
        LabError: the package kubernetes-validate is missing or has no schemas of this version.
    """
    spec = importlib.util.find_spec("kubernetes_validate")
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        path = Path(folder, "kubernetes-json-schema", f"{VERSION}-local", "_definitions.json")
        if path.is_file():
            with path.open(encoding="utf-8") as file:
                definitions: dict[str, Any] = json.load(file)["$defs"]
            return definitions
    raise LabError(
        f"the Kubernetes {VERSION} schemas are not installed", "Type: pip install --upgrade 'kubernetes-validate>=1.36'"
    )


def schema_of(kind: str) -> Type:
    """The shape of a kind.

    Raises:
        KeyError: the lab has no such kind.
    """
    return _compiled()[kind]


@lru_cache(maxsize=1)
def _compiled() -> dict[str, Type]:
    definitions = read_definitions()
    compiled: dict[str, Type] = {}
    return {kind: _compile_named(name, definitions, compiled) for kind, name in DEFINITION_OF.items()}


def _compile_named(name: str, definitions: dict[str, Any], compiled: dict[str, Type]) -> Type:
    if name in _SPECIAL:
        return Type("scalar", _SPECIAL[name])
    if name in _ANYTHING:
        return ANY
    if name not in compiled:
        definition = definitions[name]
        go = ".".join(name.split(".")[-2:])
        fields: dict[str, Type] = {}
        compiled[name] = Type(
            "struct",
            go,
            fields,
            required=frozenset(definition.get("required", ())),
            relation=definition.get("x-kubernetes-map-type", "granular"),
        )
        for field, node in definition.get("properties", {}).items():
            go_string = _GO_STRINGS.get(f"{go.split('.')[1]}.{field}", "string")
            fields[field] = _compile(node, go_string, definitions, compiled)
    return compiled[name]


def _compile(node: dict[str, Any], go_string: str, definitions: dict[str, Any], compiled: dict[str, Type]) -> Type:
    strategies = frozenset(filter(None, node.get("x-kubernetes-patch-strategy", "").split(",")))
    if "$ref" in node:
        named = _compile_named(node["$ref"].rsplit("/", 1)[1], definitions, compiled)
        relation = node.get("x-kubernetes-map-type", named.relation)
        if not strategies and relation == named.relation:
            return named
        return dataclasses.replace(named, strategies=strategies, relation=relation)
    word = _json_type(node)
    if word == "array":
        element = _compile(node["items"], go_string, definitions, compiled)
        return Type(
            "list",
            f"[]{element.go}",
            element=element,
            relation=node.get("x-kubernetes-list-type", "atomic"),
            keys=tuple(node.get("x-kubernetes-list-map-keys", ())),
            strategies=strategies,
            merge_key=node.get("x-kubernetes-patch-merge-key", ""),
        )
    if word == "object":
        values = node.get("additionalProperties")
        if not isinstance(values, dict):
            return ANY
        element = _compile(values, go_string, definitions, compiled)
        relation = node.get("x-kubernetes-map-type", "granular")
        return Type("map", f"map[string]{element.go}", element=element, relation=relation, strategies=strategies)
    go = {"integer": node.get("format", "int64"), "boolean": "bool", "number": "float64"}.get(word, go_string)
    return Type("scalar", "[]uint8" if node.get("format") == "byte" else go)


def _json_type(node: dict[str, Any]) -> str:
    words = node.get("type", "string")
    return next(word for word in words if word != "null") if isinstance(words, list) else str(words)


# -- what a strict server refuses --------------------------------------------------------------------------------------


def strict_errors(obj: Any, kind: str) -> list[str]:
    """The fields of an object that its kind does not have, each as the server says it, in the object's order.

    Returns:
        sentences such as `unknown field "spec.ports[0].prot"`; at most 100.
    """
    found = _unknown_fields(obj, schema_of(kind), "")
    return [f'unknown field "{path}"' for _, path in zip(range(100), found, strict=False)]


def _unknown_fields(value: Any, shape: Type, path: str) -> Iterator[str]:
    if shape.form == "struct" and isinstance(value, dict):
        for key, inner in value.items():
            inner_path = f"{path}.{key}" if path else key
            if key in shape.fields:
                yield from _unknown_fields(inner, shape.fields[key], inner_path)
            else:
                yield inner_path
    elif shape.form == "map" and isinstance(value, dict) and shape.element is not None:
        for key, inner in value.items():
            yield from _unknown_fields(inner, shape.element, f"{path}.{key}")
    elif shape.form == "list" and isinstance(value, list) and shape.element is not None:
        for index, inner in enumerate(value):
            yield from _unknown_fields(inner, shape.element, f"{path}[{index}]")


# -- values of a wrong type --------------------------------------------------------------------------------------------

_QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}([.,]\d+)?(Z|[+-]\d{2}:\d{2})")
_QUANTITY_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def type_error(obj: Any, kind: str) -> str | None:
    """What is wrong with the first value that has not its field's type, in the words of Go's JSON decoder; or None."""
    shape = schema_of(kind)
    return _type_error(obj, shape, shape.go.split(".")[1], "")


def type_message(kind: str, api_version: str, error: str) -> str:
    """The sentence of the 400 that answers an object which cannot be decoded because of an `error`."""
    return f'{kind} in version "{api_version.rsplit("/", 1)[-1]}" cannot be handled as a {kind}: {error}'


def _type_error(value: Any, shape: Type, struct: str, path: str) -> str | None:
    if value is None or shape.form == "any":
        return None
    if shape.form == "scalar":
        return _scalar_error(value, shape.go, struct, path)
    holder = dict if shape.form in ("struct", "map") else list
    if not isinstance(value, holder):
        return _mismatch(_go_value(value), shape.go, struct, path)
    if isinstance(value, list):
        inner = ((item, shape.element or ANY, struct, path) for item in value)
    elif shape.form == "map":
        inner = ((item, shape.element or ANY, struct, path) for item in value.values())
    else:
        name = shape.go.split(".")[1]
        inner = (
            (item, shape.fields[key], name, f"{path}.{key}" if path else key)
            for key, item in value.items()
            if key in shape.fields
        )
    return next(filter(None, (_type_error(*each) for each in inner)), None)


def _scalar_error(value: Any, go: str, struct: str, path: str) -> str | None:
    if go == "resource.Quantity":
        is_quantity = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if is_quantity or _QUANTITY.fullmatch(str(value)) else _QUANTITY_ERROR
    if go in ("v1.Time", "v1.MicroTime"):
        return _time_error(value)
    if go == "intstr.IntOrString":
        if isinstance(value, str):
            return None
        return _integer_error(value, "int32", lambda word: f"json: cannot unmarshal {word} into Go value of type int32")
    if go in ("int32", "int64"):
        return _integer_error(value, go, lambda word: _mismatch(word, go, struct, path))
    word = {"bool": "bool", "float64": "number"}.get(go, "string")
    return None if _go_value(value) == word else _mismatch(_go_value(value), go, struct, path)


def _integer_error(value: Any, go: str, sentence: Callable[[str], str]) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return sentence(_go_value(value))
    bits = int(go[3:]) - 1
    fits = isinstance(value, int) and -(2**bits) <= value < 2**bits
    return None if fits else sentence(f"number {value}")


def _time_error(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"json: cannot unmarshal {_go_value(value)} into Go value of type string"
    if value == "" or _TIME.fullmatch(value):
        return None
    return f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'


def _mismatch(word: str, go: str, struct: str, path: str) -> str:
    where = f"Go struct field {struct}.{path}" if path else "Go value"
    return f"json: cannot unmarshal {word} into {where} of type {go}"


def _go_value(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array"
