import copy

import pytest

from srcip_nb.lab.api.defaults import prepare_create, set_defaults
from srcip_nb.lab.api.fieldsets import compare, decode, dotted, encode, fields_of, in_reading_order, merge
from srcip_nb.lab.api.managed import apply, updated
from srcip_nb.lab.api.schema import schema_of
from srcip_nb.lab.api.status import ApiError
from tests.lab.schema_truth import answer, applied, request, service, timeless

SYSTEM = ("uid", "resourceVersion", "generation", "creationTimestamp")


def config_map(data, **metadata):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "seminar", **metadata}}
    return {**config, "data": data} if data else config


def applies(live, config, manager, force=False, kind="ConfigMap"):
    obj = apply(live, copy.deepcopy(config), manager, force, kind)
    set_defaults(kind, obj)
    return obj


def owners(obj):
    return {
        (entry["manager"], entry["operation"]): {dotted(path) for path in decode(entry["fieldsV1"])}
        for entry in obj["metadata"].get("managedFields", [])
    }


def conflict(live, config, manager, kind="ConfigMap"):
    with pytest.raises(ApiError) as caught:
        apply(live, config, manager, False, kind)
    assert caught.value.code == 409
    return caught.value


# -- as a real server --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["get-service", "get-deployment"])
def test_a_create_owns_what_was_sent_and_defaulted(name: str) -> None:
    truth = answer(name)
    obj = applied(truth)
    set_defaults(truth["kind"], obj)
    entries = updated(None, obj, "kubectl-client-side-apply", truth["kind"])
    assert timeless(entries) == timeless(truth["metadata"]["managedFields"])[:1]


def test_a_controller_owns_the_status_it_writes() -> None:
    truth = answer("get-deployment")
    live = applied(truth)
    set_defaults("Deployment", live)
    live["metadata"]["managedFields"] = updated(None, live, "kubectl-client-side-apply", "Deployment")
    prepare_create("Deployment", live)
    live["metadata"].update({name: truth["metadata"][name] for name in SYSTEM})
    entries = updated(live, truth, "kube-controller-manager", "Deployment", "status", now="2030-01-01T00:00:00Z")
    assert timeless(entries) == timeless(truth["metadata"]["managedFields"])


def test_a_pod_is_owned_by_its_maker_and_its_kubelet() -> None:
    for truth in answer("list-pods")["items"]:
        truth.update(apiVersion="v1", kind="Pod")
        entries = truth["metadata"].pop("managedFields")
        made = copy.deepcopy({key: truth[key] for key in ("apiVersion", "kind", "metadata", "spec")})
        for name in SYSTEM:
            del made["metadata"][name]
        decided = ("nodeName", "tolerations", "priority", "preemptionPolicy")
        made["spec"] = {key: value for key, value in made["spec"].items() if key not in decided}
        set_defaults("Pod", made)
        first = updated(None, made, "kube-controller-manager", "Pod")
        assert timeless(first) == timeless(entries)[:1]
        # The scheduler's binding belongs to nobody: node name and the condition PodScheduled.
        bound = copy.deepcopy(truth)
        scheduled = {
            key: value for key, value in truth["status"]["conditions"][-1].items() if key != "observedGeneration"
        }
        bound["status"] = {"phase": "Pending", "qosClass": "BestEffort", "conditions": [scheduled]}
        bound["metadata"]["managedFields"] = first
        assert timeless(updated(bound, truth, "kubelet", "Pod", "status", now="2030-01-01T00:00:00Z")) == timeless(
            entries
        )


@pytest.mark.parametrize("name", ["patch-strategic-local", "patch-merge-cluster", "patch-json-local"])
def test_a_patched_field_passes_to_its_patcher(name: str) -> None:
    live = answer("get-service")
    if name == "patch-merge-cluster":
        live = answer("patch-strategic-local")
    new = copy.deepcopy(live)
    new["spec"]["externalTrafficPolicy"] = answer(name)["spec"]["externalTrafficPolicy"]
    entries = updated(live, new, "Python-urllib", "Service", now=answer(name)["metadata"]["managedFields"][1]["time"])
    assert entries == answer(name)["metadata"]["managedFields"]


def test_an_object_without_fields_has_no_owner() -> None:
    obj = request("create-dryrun")
    set_defaults("ConfigMap", obj)
    assert updated(None, obj, "kubectl", "ConfigMap") == []
    assert "managedFields" not in answer("create-dryrun")["metadata"]


def test_apply_conflict_and_force_are_a_real_servers() -> None:
    one = applies(None, request("apply-create"), "one")
    assert timeless(one["metadata"]["managedFields"]) == timeless(answer("apply-create")["metadata"]["managedFields"])
    assert conflict(one, request("apply-conflict"), "two").status == answer("apply-conflict")
    two = applies(one, request("apply-force"), "two", force=True)
    assert timeless(two["metadata"]["managedFields"]) == timeless(answer("apply-force")["metadata"]["managedFields"])
    assert two["data"] == answer("apply-force")["data"]


# -- apply -------------------------------------------------------------------------------------------------------------


def test_several_conflicts_are_listed_by_manager() -> None:
    live = applies(None, config_map({"y": "1", "x": "1"}), "a")
    live = applies(live, config_map({"z": "1"}), "b")
    error = conflict(live, config_map({"x": "2", "y": "2", "z": "2"}), "c")
    assert error.message == (
        'Apply failed with 3 conflicts: conflicts with "a":\n- .data.x\n- .data.y\nconflicts with "b":\n- .data.z'
    )
    assert [cause["message"] for cause in error.status["details"]["causes"]] == [
        'conflict with "a"',
        'conflict with "a"',
        'conflict with "b"',
    ]


def test_an_updaters_conflict_names_its_version() -> None:
    live = service(type="NodePort")
    set_defaults("Service", live)
    live["metadata"]["managedFields"] = updated(None, live, "kubectl-create", "Service")
    config = service(externalTrafficPolicy="Local", type="NodePort")
    config["spec"]["ports"][0]["protocol"] = "TCP"
    assert conflict(live, config, "me", "Service").message == (
        'Apply failed with 1 conflict: conflict with "kubectl-create" using v1: .spec.externalTrafficPolicy'
    )


def test_equal_values_are_shared_without_conflict() -> None:
    live = applies(applies(None, config_map({"a": "1"}), "one"), config_map({"a": "1"}), "two")
    assert owners(live) == {("one", "Apply"): {".data.a"}, ("two", "Apply"): {".data.a"}}


def test_what_is_applied_no_more_goes_unless_somebody_owns_it() -> None:
    live = applies(None, config_map({"a": "1", "b": "1"}), "one")
    live = applies(live, config_map({"a": "1"}), "two")
    live = applies(live, config_map({}), "one")
    assert live["data"] == {"a": "1"}
    assert owners(live) == {("two", "Apply"): {".data.a"}}


def test_an_updaters_fields_stay() -> None:
    live = applies(None, config_map({"a": "1"}), "one")
    new = copy.deepcopy(live)
    new["data"]["b"] = "2"
    live = {**new, "metadata": {**new["metadata"], "managedFields": updated(live, new, "edit", "ConfigMap")}}
    live = applies(live, config_map({"c": "3"}), "one")
    assert live["data"] == {"b": "2", "c": "3"}


def test_ports_are_items_with_keys() -> None:
    live = applies(None, service(ports=[{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]), "one", kind="Service")
    live["spec"]["ports"][0]["nodePort"] = 30080
    live = applies(live, service(ports=[{"port": 80, "name": "a"}]), "one", kind="Service")
    assert live["spec"]["ports"] == [
        {"port": 80, "name": "a", "protocol": "TCP", "targetPort": 80, "nodePort": 30080},
    ]
    config = service(ports=[{"port": 80, "name": "z"}])
    error = conflict(live, config, "two", "Service")
    assert error.message.endswith('conflict with "one": .spec.ports[port=80,protocol="TCP"].name')


def test_atomic_parts_have_one_owner() -> None:
    live = applies(None, service(selector={"app": "web"}), "one", kind="Service")
    error = conflict(live, service(selector={"app": "web", "tier": "x"}), "two", "Service")
    assert error.message.endswith(": .spec.selector")


def test_sets_are_merged() -> None:
    live = applies(None, config_map({}, finalizers=["a/b"]), "one")
    live = applies(live, config_map({}, finalizers=["c/d"]), "two")
    assert sorted(live["metadata"]["finalizers"]) == ["a/b", "c/d"]
    assert owners(live)[("two", "Apply")] == {'.metadata.finalizers[="c/d"]'}
    live = applies(live, config_map({}), "one")
    assert live["metadata"]["finalizers"] == ["c/d"]


def test_applying_again_changes_nothing() -> None:
    config = config_map({"a": "1"})
    live = apply(None, copy.deepcopy(config), "one", False, "ConfigMap", now="2026-01-01T00:00:00Z")
    assert apply(live, config, "one", False, "ConfigMap", now="2027-01-01T00:00:00Z") == live


def test_kubectl_takes_over_from_its_client_side_apply() -> None:
    live = answer("get-service")
    config = applied(live)
    del config["metadata"]["annotations"]
    config["spec"]["externalTrafficPolicy"] = "Local"
    taken = applies(live, config, "kubectl", kind="Service")
    assert taken["spec"]["externalTrafficPolicy"] == "Local"
    assert '"externalTrafficPolicy":"Local"' in applied(taken)["metadata"]["annotations"].popitem()[1]
    assert conflict(live, config, "somebody", "Service")


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        (
            service(foo=1),
            500,
            "failed to create typed patch object (seminar/web; /v1, Kind=Service): "
            ".spec.foo: field not declared in schema",
        ),
        (
            service(ports="x"),
            500,
            'failed to create typed patch object (seminar/web; /v1, Kind=Service): '
            '.spec.ports: expected list, got &value.valueUnstructured{Value:"x"}',
        ),
        (
            service(ports=[{"port": 80}, {"port": 80, "protocol": "TCP"}]),
            500,
            "failed to create typed patch object (seminar/web; /v1, Kind=Service): "
            '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]',
        ),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_refused(config, code, message) -> None:
    with pytest.raises(ApiError) as caught:
        apply(None, config, "one", False, "Service")
    assert (caught.value.code, caught.value.message) == (code, message)
    assert "reason" not in caught.value.status


def test_managed_fields_may_not_be_applied() -> None:
    with pytest.raises(ApiError, match="managedFields must be nil"):
        apply(None, config_map({}, managedFields=[]), "one", False, "ConfigMap")


# -- entries -----------------------------------------------------------------------------------------------------------


def test_entries_can_be_reset_and_replaced() -> None:
    live = applies(None, config_map({"a": "1"}), "one")
    reset = copy.deepcopy(live)
    reset["metadata"]["managedFields"] = [{}]
    assert updated(live, reset, "me", "ConfigMap") == []
    forgotten = copy.deepcopy(live)
    del forgotten["metadata"]["managedFields"]
    assert updated(live, forgotten, "me", "ConfigMap") == live["metadata"]["managedFields"]
    renamed = copy.deepcopy(live)
    renamed["metadata"]["managedFields"][0]["manager"] = "other"
    assert updated(live, renamed, "me", "ConfigMap")[0]["manager"] == "other"


def test_at_most_ten_updaters_are_remembered() -> None:
    live = config_map({})
    for index in range(15):
        new = copy.deepcopy(live)
        new.setdefault("data", {})[f"k{index}"] = "v"
        new["metadata"]["managedFields"] = updated(
            live, new, f"m{index}", "ConfigMap", now=f"2026-01-01T00:00:{index:02}Z"
        )
        live = new
    entries = live["metadata"]["managedFields"]
    assert len(entries) == 10
    assert entries[0]["manager"] == "ancient-changes"
    assert set(entries[0]["fieldsV1"]["f:data"]) == {".", *(f"f:k{index}" for index in range(6))}


# -- field sets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["get-service", "get-deployment", "list-pods", "list-nodes"])
def test_sets_are_written_as_they_were_read(name: str) -> None:
    found = answer(name)
    for item in found.get("items", [found]):
        for entry in item["metadata"]["managedFields"]:
            written = encode(decode(entry["fieldsV1"]))
            assert written == entry["fieldsV1"]
            assert str(written) == str(entry["fieldsV1"]), "the keys' order"


def test_comparing_finds_each_kind_of_change() -> None:
    shape = schema_of("Service")
    old = {"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "NodePort", "clusterIP": "x"}}
    new = {"spec": {"ports": [{"port": 81, "protocol": "TCP"}], "type": "ClusterIP", "externalName": "y"}}
    change = compare(old, new, shape)
    assert {dotted(path) for path in change.modified} == {".spec.type"}
    assert {dotted(path) for path in change.removed} == {
        ".spec.clusterIP",
        '.spec.ports[port=80,protocol="TCP"]',
        '.spec.ports[port=80,protocol="TCP"].port',
        '.spec.ports[port=80,protocol="TCP"].protocol',
    }
    assert [dotted(path) for path in in_reading_order(change.added)][:2] == [
        ".spec.externalName",
        '.spec.ports[port=81,protocol="TCP"]',
    ]


def test_an_object_differs_from_nothing_by_all_its_fields() -> None:
    for name in ("get-service", "get-deployment"):
        obj = answer(name)
        shape = schema_of(obj["kind"])
        assert compare(obj, obj, shape) == (frozenset(), frozenset(), frozenset())
        assert fields_of(obj, shape) <= compare({}, obj, shape).added


@pytest.mark.parametrize(
    ("live", "config", "expected"),
    [
        ("abc", "b", "abc"),
        ("abc", "ca", "bca"),
        ("ab", "xb", "axb"),
        ("ab", "cd", "abcd"),
        ("", "ab", "ab"),
        ("abcd", "dxb", "acdxb"),
    ],
)
def test_the_order_of_merged_items(live: str, config: str, expected: str) -> None:
    shape = schema_of("ConfigMap").of("metadata").of("finalizers")
    assert "".join(merge(list(live), list(config), shape)) == expected
