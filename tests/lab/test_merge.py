import copy
import random

import pytest

from srcip_nb.lab.api.merge import json_patch, merge_patch, strategic_merge_patch
from srcip_nb.lab.api.status import ApiError
from tests.lab.schema_truth import answer, request

A, B, C = {"port": 80, "name": "a"}, {"port": 81, "name": "b"}, {"port": 82, "name": "c"}


def ports(patch, present=(A, B)):
    obj = {"spec": {"ports": list(present), "type": "NodePort"}}
    return strategic_merge_patch(obj, {"spec": patch}, "Service")["spec"].get("ports")


@pytest.mark.parametrize(
    ("name", "apply"),
    [
        ("patch-strategic-local", lambda obj, patch: strategic_merge_patch(obj, patch, "Service")),
        ("patch-merge-cluster", merge_patch),
        ("patch-json-local", json_patch),
    ],
)
def test_the_policy_is_changed_and_nothing_else(name, apply) -> None:
    truth = answer(name)["spec"]
    live = answer("get-service")
    before = copy.deepcopy(live)
    patched = apply(live, request(name))
    assert patched["spec"]["externalTrafficPolicy"] == truth["externalTrafficPolicy"]
    assert {**patched["spec"], "externalTrafficPolicy": "Cluster"} == before["spec"]
    assert live == before


def test_merge_patch_is_rfc_7386() -> None:
    obj = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge_patch(obj, {"a": {"b": None, "c": [3], "e": {"f": None}}, "d": {"x": 1}}) == {
        "a": {"c": [3], "e": {}},
        "d": {"x": 1},
    }


# -- strategic merge ---------------------------------------------------------------------------------------------------


def test_lists_are_merged_by_their_key() -> None:
    assert ports({"ports": [{"port": 81, "nodePort": 30001}]}) == [A, {**B, "nodePort": 30001}]


def test_new_items_stand_before_those_the_patch_does_not_name() -> None:
    assert ports({"ports": [C]}) == [C, A, B]


def test_items_are_deleted_by_their_key() -> None:
    assert ports({"ports": [{"port": 80, "$patch": "delete"}]}) == [B]


def test_a_list_is_replaced() -> None:
    assert ports({"ports": [{"$patch": "replace"}, C]}) == [C]


def test_null_removes_the_list() -> None:
    assert ports({"ports": None}) is None


@pytest.mark.parametrize(
    ("order", "patch", "expected"),
    [
        ([81, 80], None, [B, A]),
        ([81, 82], [C], [A, B, C]),
        ([82, 80, 81], [C], [C, A, B]),
        ([81], [{"port": 80, "$patch": "delete"}], [B]),
    ],
)
def test_set_element_order(order, patch, expected) -> None:
    wanted = {"$setElementOrder/ports": [{"port": port} for port in order]}
    assert ports({**wanted, **({"ports": patch} if patch else {})}) == expected


def test_retain_keys_drops_the_others() -> None:
    obj = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge_patch(obj, patch, "Deployment") == {"spec": {"strategy": {"type": "Recreate"}}}


def test_scalars_are_added_and_taken_out() -> None:
    obj = {"metadata": {"finalizers": ["a/b", "c/d"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["e/f"]}}
    assert strategic_merge_patch(obj, patch, "Pod")["metadata"]["finalizers"] == ["e/f", "c/d"]


def test_maps_are_replaced_and_deleted() -> None:
    obj = {"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}}}
    patch = {"metadata": {"labels": {"$patch": "replace", "c": "3"}, "annotations": {"$patch": "delete"}}}
    merged = strategic_merge_patch(obj, patch, "Pod")
    assert merged == {"metadata": {"labels": {"c": "3"}, "annotations": {}}}


def test_atomic_lists_are_replaced_whole() -> None:
    obj = {"spec": {"clusterIPs": ["10.1.0.1"]}}
    assert strategic_merge_patch(obj, {"spec": {"clusterIPs": ["10.1.0.2"]}}, "Service")["spec"]["clusterIPs"] == [
        "10.1.0.2"
    ]


def test_containers_of_a_template_are_merged_by_name() -> None:
    live = answer("get-deployment")
    containers = [{"name": "nginx", "image": "nginx:1.27"}]
    patched = strategic_merge_patch(live, {"spec": {"template": {"spec": {"containers": containers}}}}, "Deployment")
    (container,) = patched["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "nginx:1.27"
    assert container["volumeMounts"] == live["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]


@pytest.mark.parametrize(
    ("patch", "code", "message"),
    [
        ([], 400, "invalid JSON document"),
        ({"spec": {"ports": [{"name": "x"}]}}, 500, "map: map[name:x] does not contain declared merge key: port"),
        ({"spec": {"$patch": "frob"}}, 500, "unknown patch type: frob in map: map[$patch:frob]"),
        ({"spec": {"$retainKeys": ["a"], "type": "x"}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$setElementOrder/ports": 1}}, 400, "invalid patch format of setElementOrder list"),
    ],
)
def test_malformed_patches_are_refused(patch, code, message) -> None:
    with pytest.raises(ApiError) as caught:
        strategic_merge_patch(answer("get-service"), patch, "Service")
    assert (caught.value.code, caught.value.message) == (code, message)


def test_merging_an_object_into_itself_changes_nothing() -> None:
    for name in ("get-service", "get-deployment"):
        obj = answer(name)
        assert strategic_merge_patch(obj, obj, obj["kind"]) == obj


def test_an_order_holds_whatever_was_there() -> None:
    chance = random.Random(1)
    for _ in range(200):
        live = [{"port": port} for port in chance.sample(range(1, 9), chance.randrange(1, 7))]
        wanted = [{"port": port} for port in chance.sample(range(1, 9), chance.randrange(1, 7))]
        merged = ports({"$setElementOrder/ports": wanted, "ports": wanted}, live)
        assert [item for item in merged if item in wanted] == wanted
        assert [item for item in merged if item not in wanted] == [item for item in live if item not in wanted]


# -- JSON Patch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({}, 400),
        ([1], 400),
        ([{"op": "frob", "path": "/spec"}], 400),
        ([{"op": "add", "path": "spec", "value": 1}], 400),
        ([{"op": "test", "path": "/spec/type", "value": "x"}], 422),
        ([{"op": "replace", "path": "/spec/nope", "value": "x"}], 422),
        ([{"op": "remove", "path": "/spec/ports/9"}], 422),
        ([{"op": "add", "path": "/spec/type/x", "value": 1}], 422),
        ([{"op": "replace", "path": "", "value": 3}], 422),
        ([{"op": "test", "path": "/spec"}] * 10_001, 413),
    ],
)
def test_json_patches_that_cannot_be_carried_out(operations, code) -> None:
    live = answer("get-service")
    before = copy.deepcopy(live)
    with pytest.raises(ApiError) as caught:
        json_patch(live, operations)
    assert caught.value.code == code
    assert live == before
    if code == 422:
        assert caught.value.message == "the server rejected our request due to an error in our request"


def test_a_rejected_patch_names_the_operation() -> None:
    operations = [{"op": "add", "path": "/spec/x", "value": 1}, {"op": "test", "path": "/spec/type", "value": "x"}]
    with pytest.raises(ApiError) as caught:
        json_patch(answer("get-service"), operations)
    (cause,) = caught.value.status["details"]["causes"]
    assert cause["message"] == "operation 1, test /spec/type: the value there is another, or there is none"


def test_what_a_patch_adds_is_a_copy() -> None:
    value = {"a": ["b"]}
    patched = json_patch({}, [{"op": "add", "path": "/x", "value": value}])
    patched["x"]["a"].append("c")
    assert value == {"a": ["b"]}
