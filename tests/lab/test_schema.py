import pytest

from srcip_nb.lab.api import openapi
from srcip_nb.lab.api.resources import GROUP_VERSIONS, RESOURCES
from srcip_nb.lab.api.schema import (
    DEFINITION_OF,
    schema_of,
    strict_errors,
    type_error,
    type_message,
)
from tests.lab.schema_truth import answer, request


def test_shapes_carry_what_merging_needs() -> None:
    ports = schema_of("Service").of("spec").of("ports")
    assert (ports.form, ports.relation, ports.keys, ports.merge_key) == ("list", "map", ("port", "protocol"), "port")
    assert schema_of("Service").of("spec").of("selector").relation == "atomic"
    assert schema_of("Deployment").of("spec").of("selector").relation == "atomic"
    assert schema_of("Pod").of("spec").of("volumes").strategies == {"merge", "retainKeys"}


def test_unknown_fields_are_told_with_their_path() -> None:
    obj = {"foo": 1, "spec": {"ports": [{"port": 80, "bar": 1}], "selector": {"any": "x"}, "Type": "NodePort"}}
    assert strict_errors(obj, "Service") == [
        'unknown field "foo"',
        'unknown field "spec.ports[0].bar"',
        'unknown field "spec.Type"',
    ]


def test_the_strict_sentence_is_a_real_servers() -> None:
    errors = strict_errors(request("error-400-unknown-field-strict"), "ConfigMap")
    said = type_message("ConfigMap", "v1", f"strict decoding error: {', '.join(errors)}")
    assert said == answer("error-400-unknown-field-strict")["message"]


def test_several_unknown_fields_are_told_in_order() -> None:
    assert strict_errors({"x": 1, "y": 2}, "Deployment") == ['unknown field "x"', 'unknown field "y"']


@pytest.mark.parametrize(
    ("kind", "obj", "word", "field", "go"),
    [
        ("Service", {"spec": {"ports": "x"}}, "string", "ServiceSpec.spec.ports", "[]v1.ServicePort"),
        ("Service", {"spec": {"ports": [{"port": "x"}]}}, "string", "ServicePort.spec.ports.port", "int32"),
        ("Service", {"spec": {"ports": [{"port": 8.5}]}}, "number 8.5", "ServicePort.spec.ports.port", "int32"),
        ("Service", {"spec": {"type": 3}}, "number", "ServiceSpec.spec.type", "v1.ServiceType"),
        ("ConfigMap", {"data": {"a": 1}}, "number", "ConfigMap.data", "string"),
        ("ConfigMap", {"metadata": {"labels": {"a": True}}}, "bool", "ObjectMeta.metadata.labels", "string"),
        ("Deployment", {"spec": {"replicas": 2**31}}, "number 2147483648", "DeploymentSpec.spec.replicas", "int32"),
        ("Deployment", {"spec": []}, "array", "Deployment.spec", "v1.DeploymentSpec"),
    ],
)
def test_wrong_types_are_worded_as_go_words_them(kind: str, obj: dict, word: str, field: str, go: str) -> None:
    assert type_error(obj, kind) == f"json: cannot unmarshal {word} into Go struct field {field} of type {go}"


def test_a_port_number_or_name_is_nothing_else() -> None:
    error = type_error({"spec": {"ports": [{"targetPort": {}}]}}, "Service")
    assert error == "json: cannot unmarshal object into Go value of type int32"


def test_right_types_pass() -> None:
    for name in ("get-service", "get-deployment"):
        obj = answer(name)
        assert type_error(obj, obj["kind"]) is None
        assert strict_errors(obj, obj["kind"]) == []
    for name in ("list-pods", "list-nodes", "list-events", "list-endpointslices", "list-namespaces"):
        kind = answer(name)["kind"].removesuffix("List")
        for item in answer(name)["items"]:
            assert type_error(item, kind) is None
            assert strict_errors(item, kind) == []
    assert type_error({"spec": None, "metadata": {"labels": None}}, "Service") is None


def test_times_and_quantities_are_read() -> None:
    assert type_error({"metadata": {"creationTimestamp": "2026-11-22T14:26:58Z"}}, "Pod") is None
    assert "parsing time" in str(type_error({"metadata": {"creationTimestamp": "yesterday"}}, "Pod"))
    limits = {"spec": {"containers": [{"resources": {"limits": {"cpu": "500m", "memory": 1}}}]}}
    assert type_error(limits, "Pod") is None
    limits["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "many"
    assert "quantities must match" in str(type_error(limits, "Pod"))


def test_the_type_sentence_names_the_kind() -> None:
    assert type_message("Deployment", "apps/v1", "why") == (
        'Deployment in version "v1" cannot be handled as a Deployment: why'
    )


# -- OpenAPI -----------------------------------------------------------------------------------------------------------


def test_the_index_lists_every_group() -> None:
    index = openapi.openapi_v3_index()["paths"]
    assert set(index) == {f"apis/{group}/{version}" if group else f"api/{version}" for group, version in GROUP_VERSIONS}
    assert all(entry["serverRelativeURL"].startswith(f"/openapi/v3/{path}?hash=") for path, entry in index.items())


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
def test_every_patch_takes_field_validation(resource) -> None:
    paths = openapi.openapi_v3(resource.api_version)["paths"]
    item = next(path for path in paths if path.endswith(f"/{resource.name}/{{name}}"))
    patch = paths[item]["patch"]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == resource.kind
    assert {"name": "fieldValidation", "in": "query"}.items() <= patch["parameters"][-1].items()


@pytest.mark.parametrize("document", [openapi.openapi_v3("v1"), openapi.openapi_v3("apps/v1"), openapi.openapi_v2()])
def test_every_reference_is_answered_and_no_type_is_a_list(document) -> None:
    schemas = document["components"]["schemas"] if "components" in document else document["definitions"]

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                assert node["$ref"].rsplit("/", 1)[1] in schemas
            assert not (isinstance(node.get("type"), list))
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list):
            for inner in node:
                walk(inner)

    walk(document)


def test_the_kinds_keep_their_group_version_kind() -> None:
    schemas = openapi.openapi_v3("v1")["components"]["schemas"]
    named = schemas[DEFINITION_OF["Service"]]["x-kubernetes-group-version-kind"]
    assert named == [{"group": "", "kind": "Service", "version": "v1"}]
