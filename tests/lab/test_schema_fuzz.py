"""Whatever has the right types is stored or refused, and never breaks the server."""

import copy
import json
import random

import pytest

from srcip_nb.lab.api.allocate import allocate_service
from srcip_nb.lab.api.defaults import prepare_create, set_defaults
from srcip_nb.lab.api.managed import apply, updated
from srcip_nb.lab.api.merge import merge_patch, strategic_merge_patch
from srcip_nb.lab.api.schema import Type, schema_of, strict_errors, type_error
from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.api.unsupported import unsupported
from srcip_nb.lab.api.validation import validate_create, validate_update

KINDS = (
    "Namespace",
    "ConfigMap",
    "Node",
    "Pod",
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Deployment",
    "ReplicaSet",
    "Event",
)
API_VERSIONS = {"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "EndpointSlice": "discovery.k8s.io/v1"}
WORDS = (
    "", "web", "web", "A b", "Local", "ClusterIP", "NodePort", "LoadBalancer", "None", "TCP", "IPv4", "10.1.0.5", "25%",
    "RollingUpdate", "Always", "Exists", "NoExecute", "x" * 300,
)  # fmt: skip
NUMBERS = (0, 0, 1, 80, 30080, 30081, -1, 70000, 2**31 - 1)


def anything(shape: Type, chance: random.Random, depth: int = 0):
    """A value of this shape, made by chance."""
    if shape.form == "any":
        return {}
    if shape.form == "scalar":
        return scalar(shape.go, chance)
    size = chance.choice((0, 1, 1, 2)) if depth < 7 else 0
    if shape.form == "list":
        return [anything(shape.element, chance, depth + 1) for _ in range(size)]
    if shape.form == "map":
        return {chance.choice(("a", "app", "b c")): anything(shape.element, chance, depth + 1) for _ in range(size)}
    wanted = [
        name for name in shape.fields if name in ("metadata", "spec") or chance.random() < 4 / (len(shape.fields) + 4)
    ]
    return {
        name: None if chance.random() < 0.05 else anything(shape.fields[name], chance, depth + 1) for name in wanted
    }


def scalar(go: str, chance: random.Random):
    if go == "bool":
        return chance.random() < 0.5
    if go in ("int32", "int64"):
        return chance.choice(NUMBERS)
    if go == "float64":
        return 0.5
    if go in ("v1.Time", "v1.MicroTime"):
        return chance.choice((None, "2026-11-22T14:26:58Z"))
    if go == "resource.Quantity":
        return chance.choice(("1", 1, "500m"))
    if go == "intstr.IntOrString":
        return chance.choice((*WORDS[:3], "25%", *NUMBERS))
    return chance.choice(WORDS)


def random_object(kind: str, chance: random.Random):
    obj = anything(schema_of(kind), chance)
    metadata = obj.get("metadata") or {}
    for name in ("managedFields", "ownerReferences", "uid"):
        metadata.pop(name, None)
    metadata["name"], metadata["namespace"] = "web", "seminar"
    return {**obj, "apiVersion": API_VERSIONS.get(kind, "v1"), "kind": kind, "metadata": metadata}


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def stored(kind: str, obj, old=None):
    """The object as it would be stored, if it may."""
    obj = copy.deepcopy(obj)
    set_defaults(kind, obj)
    again = copy.deepcopy(obj)
    set_defaults(kind, again)
    assert again == obj, "defaults are set once"
    entries = updated(old, obj, "me", kind, now="2026-01-01T00:00:00Z")
    if old is None:
        prepare_create(kind, obj)
    if kind == "Service":
        allocate_service(obj, old, [], choose=lambda numbers: numbers[0])
    causes = validate_create(kind, obj) if old is None else validate_update(kind, obj, old)
    assert all(cause.message and cause.reason for cause in causes)
    if not causes:
        unsupported(kind, obj)
    obj["metadata"]["managedFields"] = entries
    json.dumps(obj)
    return obj


@pytest.mark.parametrize("kind", KINDS)
def test_any_object_is_stored_or_refused(kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(60):
        obj, other = random_object(kind, chance), random_object(kind, chance)
        assert strict_errors(obj, kind) == []
        assert type_error(obj, kind) is None
        before = copy.deepcopy(obj)
        try:
            old = stored(kind, obj)
            stored(kind, other, old)
        except ApiError as error:
            assert error.code in (422, 500)
        assert obj == before


@pytest.mark.parametrize("kind", KINDS)
def test_any_patch_is_carried_out_or_refused(kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(40):
        obj, patch = random_object(kind, chance), random_object(kind, chance)
        set_defaults(kind, obj)
        before, asked = copy.deepcopy(obj), copy.deepcopy(patch)
        merged = merge_patch(obj, patch)
        set_defaults(kind, merged)
        try:
            merged = strategic_merge_patch(obj, patch, kind)
            set_defaults(kind, merged)
            config = without_nulls(patch)
            applied = apply(obj, config, "one", False, kind)
            assert apply(applied, config, "one", False, kind) == applied, "applying again changes nothing"
            set_defaults(kind, applied)
        except ApiError as error:
            assert error.code in (400, 409, 500)
        assert (obj, patch) == (before, asked)
