from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.api.store import APPLY, JSON_PATCH, MERGE_PATCH, Store

POD = {
    "metadata": {"name": "web", "namespace": "seminar", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "nginx", "image": "nginx"}]},
}
DEPLOYMENT = {
    "metadata": {"name": "web", "namespace": "seminar"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": POD["spec"]},
    },
}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "seminar"}, "data": data}


@pytest.fixture
def store() -> Store:
    store = Store(clock=lambda: 1_700_000_000.0)
    store.create("namespaces", {"metadata": {"name": "seminar"}})
    return store


def refusal(call: Any, *args: Any, **kwargs: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call(*args, **kwargs)
    return caught.value


# -- create ----------------------------------------------------------------------------------------------------------


def test_a_new_object_is_complete(store: Store) -> None:
    metadata = store.create("configmaps", config_map("a", key="value"), manager="me")["metadata"]
    assert metadata["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert metadata["managedFields"][0]["manager"] == "me"
    assert len(metadata["uid"]) == 36
    assert metadata["resourceVersion"] == str(store.revision)
    assert list(store.get("configmaps", "seminar", "a"))[:3] == ["kind", "apiVersion", "metadata"]


def test_generate_name_makes_a_free_name(store: Store) -> None:
    made = {
        store.create("configmaps", {"metadata": {"generateName": "a-", "namespace": "seminar"}})["metadata"]["name"]
        for _ in range(20)
    }
    assert len(made) == 20
    assert all(len(name) == 7 and name.startswith("a-") for name in made)


def test_create_needs_a_namespace_that_is_there_and_stays(store: Store) -> None:
    error = refusal(store.create, "configmaps", {"metadata": {"name": "a", "namespace": "none"}})
    assert (error.code, error.message) == (404, 'namespaces "none" not found')
    store.delete("namespaces", "", "seminar")
    error = refusal(store.create, "configmaps", config_map("a"))
    assert (error.code, error.message) == (
        403,
        'configmaps "a" is forbidden: unable to create new content in namespace seminar because it is being terminated',
    )
    assert error.status["details"]["causes"][0]["reason"] == "NamespaceTerminating"


def test_a_name_can_be_taken_once(store: Store) -> None:
    store.create("configmaps", config_map("a"))
    assert refusal(store.create, "configmaps", config_map("a")).message == 'configmaps "a" already exists'


def test_dry_run_changes_nothing(store: Store) -> None:
    before = store.revision
    shown = store.create("configmaps", config_map("a", key="value"), dry_run=True)
    assert shown["metadata"]["uid"]
    assert "resourceVersion" not in shown["metadata"]
    assert (store.list("configmaps"), store.revision) == ([], before)


def test_what_was_handed_in_or_out_is_not_the_stored_object(store: Store) -> None:
    given = config_map("a", key="value")
    handed_out = store.create("configmaps", given)
    given["data"]["key"] = handed_out["data"]["key"] = store.get("configmaps", "seminar", "a")["data"]["key"] = "x"
    assert store.get("configmaps", "seminar", "a")["data"] == {"key": "value"}


# -- update ----------------------------------------------------------------------------------------------------------


def test_update_refuses_a_stale_version(store: Store) -> None:
    old = store.create("configmaps", config_map("a", key="1"))
    store.update("configmaps", {**old, "data": {"key": "2"}})
    error = refusal(store.update, "configmaps", {**old, "data": {"key": "3"}})
    assert (error.code, error.message) == (
        409,
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
        "please apply your changes to the latest version and try again",
    )
    assert store.get("configmaps", "seminar", "a")["data"] == {"key": "2"}


def test_update_without_a_version_is_unconditional_but_not_of_another_object(store: Store) -> None:
    store.create("configmaps", config_map("a", key="1"))
    assert store.update("configmaps", config_map("a", key="2"))["data"] == {"key": "2"}
    other = config_map("a")
    other["metadata"]["uid"] = "another"
    assert "Precondition failed: UID" in refusal(store.update, "configmaps", other).message


def test_an_update_that_changes_nothing_is_no_event(store: Store) -> None:
    old = store.create("configmaps", config_map("a", key="1"), manager="me")
    assert store.update("configmaps", old, manager="me")["metadata"]["resourceVersion"] == str(store.revision)
    assert old["metadata"]["resourceVersion"] == str(store.revision)


def test_status_and_spec_are_written_apart(store: Store) -> None:
    pod = store.create("pods", POD)
    pod["status"]["phase"] = "Running"
    pod["metadata"]["labels"]["b"] = "1"
    unchanged = store.update("pods", pod)
    assert (unchanged["status"]["phase"], unchanged["metadata"]["labels"]["b"]) == ("Pending", "1")
    unchanged["status"]["phase"] = "Running"
    unchanged["spec"]["nodeName"] = "worker01"
    changed = store.update("pods", unchanged, subresource="status")
    assert (changed["status"]["phase"], changed["spec"].get("nodeName")) == ("Running", None)


def test_generation_counts_changes_of_the_spec_alone(store: Store) -> None:
    made = store.create("deployments", DEPLOYMENT)
    assert made["metadata"]["generation"] == 1
    labelled = store.patch("deployments", "seminar", "web", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    scaled = store.patch("deployments", "seminar", "web", {"spec": {"replicas": 3}})
    assert scaled["metadata"]["generation"] == 2
    scaled["status"] = {"replicas": 3}
    assert store.update("deployments", scaled, subresource="status")["metadata"]["generation"] == 2


def test_scale_reads_and_writes_replicas(store: Store) -> None:
    store.create("deployments", DEPLOYMENT)
    scale = store.get("deployments", "seminar", "web", subresource="scale")
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 1}, "app=web")
    scale["spec"]["replicas"] = 4
    assert store.update("deployments", scale, subresource="scale")["spec"] == {"replicas": 4}
    assert store.get("deployments", "seminar", "web")["spec"]["replicas"] == 4
    assert refusal(store.update, "deployments", scale, subresource="scale").code == 409
    error = refusal(store.patch, "deployments", "seminar", "web", {"spec": {"replicas": -1}}, subresource="scale")
    assert (error.code, "greater than or equal to 0" in error.message) == (422, True)


def test_bind_puts_a_pod_on_a_node_once(store: Store) -> None:
    store.create("pods", POD)
    bound = store.bind("seminar", "web", "worker01")
    assert bound["spec"]["nodeName"] == "worker01"
    assert [(c["type"], c["status"]) for c in bound["status"]["conditions"]] == [("PodScheduled", "True")]
    assert {entry["manager"] for entry in bound["metadata"]["managedFields"]} == {"srcip-nb"}
    assert refusal(store.bind, "seminar", "web", "worker02").code == 409


def test_what_is_written_through_status_is_no_new_generation(store: Store) -> None:
    created = store.create("deployments", DEPLOYMENT)
    created["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    told = store.update("deployments", created, subresource="status", manager="kube-controller-manager")
    assert (told["metadata"]["generation"], told["metadata"]["annotations"]) == (1, created["metadata"]["annotations"])
    told["metadata"]["annotations"] = {"said": "by a person"}
    assert store.update("deployments", told)["metadata"]["generation"] == 2


# -- patch -----------------------------------------------------------------------------------------------------------


def test_patches_of_each_kind(store: Store) -> None:
    store.create("configmaps", config_map("a", one="1"))
    store.patch("configmaps", "seminar", "a", {"data": {"two": "2"}}, MERGE_PATCH)
    store.patch("configmaps", "seminar", "a", [{"op": "remove", "path": "/data/one"}], JSON_PATCH)
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"three": "3"}}
    obj = store.patch("configmaps", "seminar", "a", applied, APPLY, manager="me")
    assert obj["data"] == {"two": "2", "three": "3"}
    assert refusal(store.patch, "configmaps", "seminar", "a", {}, "text/plain").code == 415


def test_a_patch_cannot_rename(store: Store) -> None:
    store.create("configmaps", config_map("a"))
    error = refusal(store.patch, "configmaps", "seminar", "a", {"metadata": {"name": "b"}})
    assert error.message == "the name of the object (b) does not match the name on the URL (a)"


# -- delete ----------------------------------------------------------------------------------------------------------


def test_delete_removes_at_once_what_waits_for_nothing(store: Store) -> None:
    store.create("configmaps", config_map("a"))
    assert "deletionTimestamp" not in store.delete("configmaps", "seminar", "a")["metadata"]
    assert refusal(store.delete, "configmaps", "seminar", "a").message == 'configmaps "a" not found'


def test_a_finalizer_holds_an_object_until_it_is_taken_away(store: Store) -> None:
    obj = config_map("a")
    obj["metadata"]["finalizers"] = ["example.com/hold"]
    store.create("configmaps", obj)
    held = store.delete("configmaps", "seminar", "a")
    assert held["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:20Z"
    store.patch("configmaps", "seminar", "a", {"metadata": {"finalizers": None}})
    assert store.peek("configmaps", "seminar", "a") is None


@pytest.mark.parametrize(
    ("propagation", "finalizers"), [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])]
)
def test_propagation_leaves_a_finalizer_for_the_garbage_collector(
    store: Store, propagation: str, finalizers: list[str]
) -> None:
    store.create("deployments", DEPLOYMENT)
    held = store.delete("deployments", "seminar", "web", propagation=propagation)
    assert held["metadata"]["finalizers"] == finalizers
    assert held["metadata"]["generation"] == 2
    store.delete("deployments", "seminar", "web", propagation="Background")
    assert store.peek("deployments", "seminar", "web") is None


def test_a_pod_on_a_node_is_given_time(store: Store) -> None:
    store.create("pods", POD)
    store.bind("seminar", "web", "worker01")
    leaving = store.delete("pods", "seminar", "web")
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 30
    assert leaving["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:50Z"
    shorter = store.delete("pods", "seminar", "web", grace=5)
    assert shorter["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:25Z"
    store.delete("pods", "seminar", "web", grace=60)
    assert store.get("pods", "seminar", "web")["metadata"]["deletionGracePeriodSeconds"] == 5
    store.delete("pods", "seminar", "web", grace=0)
    assert store.peek("pods", "seminar", "web") is None


def test_a_pod_without_a_node_goes_at_once(store: Store) -> None:
    store.create("pods", POD)
    store.delete("pods", "seminar", "web")
    assert store.list("pods") == []


def test_a_namespace_terminates_until_it_is_finalized(store: Store) -> None:
    leaving = store.delete("namespaces", "", "seminar")
    assert leaving["status"]["phase"] == "Terminating"
    leaving["spec"]["finalizers"] = []
    store.update("namespaces", leaving)
    assert store.get("namespaces", "", "seminar")["spec"]["finalizers"] == ["kubernetes"]
    store.update("namespaces", {**leaving, "metadata": {"name": "seminar"}}, subresource="finalize")
    assert store.peek("namespaces", "", "seminar") is None


def test_preconditions_and_lasting_namespaces(store: Store) -> None:
    store.create("namespaces", {"metadata": {"name": "default"}})
    error = refusal(store.delete, "namespaces", "", "default")
    assert error.message == 'namespaces "default" is forbidden: this namespace may not be deleted'
    store.create("configmaps", config_map("a"))
    assert refusal(store.delete, "configmaps", "seminar", "a", preconditions={"uid": "x"}).code == 409
    assert store.peek("configmaps", "seminar", "a")


# -- following -------------------------------------------------------------------------------------------------------


def seen(store: Store, count: int, **options: Any) -> list[tuple[str, str]]:
    """The first events of a watch on ConfigMaps."""

    async def collect() -> list[tuple[str, str]]:
        events = []
        watch = store.watch("configmaps", **options)
        async for kind, obj in watch:
            events.append((kind, obj["metadata"]["name"]))
            if len(events) == count:
                break
        return events

    return asyncio.run(asyncio.wait_for(collect(), 5))


def test_a_watch_begins_with_what_is_there_or_goes_on_from_a_version(store: Store) -> None:
    first = store.create("configmaps", config_map("b"))["metadata"]["resourceVersion"]
    store.create("configmaps", config_map("a"))
    store.patch("configmaps", "seminar", "b", {"data": {"x": "y"}})
    store.delete("configmaps", "seminar", "a")
    assert seen(store, 1) == [("ADDED", "b")]
    assert seen(store, 3, since=first) == [("ADDED", "a"), ("MODIFIED", "b"), ("DELETED", "a")]


def test_a_watch_wakes_for_a_change_and_ends_when_it_is_closed(store: Store) -> None:
    async def follow() -> list[str]:
        watch = store.watch("configmaps", initial=False)
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, store.create, "configmaps", config_map("a"))
        loop.call_later(0.03, watch.close)
        return [kind async for kind, _ in watch]

    assert asyncio.run(asyncio.wait_for(follow(), 5)) == ["ADDED"]


def test_a_selector_turns_changes_into_coming_and_going(store: Store) -> None:
    first = store.create("configmaps", config_map("a"))["metadata"]["resourceVersion"]
    for value in ("web", "db"):
        store.patch("configmaps", "seminar", "a", {"metadata": {"labels": {"app": value}}})
    assert seen(store, 2, since=first, labels="app=web") == [("ADDED", "a"), ("DELETED", "a")]


def test_a_version_too_long_ago_is_gone() -> None:
    store = Store(history=3)
    store.create("namespaces", {"metadata": {"name": "seminar"}})
    store.create("configmaps", config_map("a"))
    for index in range(5):
        store.patch("configmaps", "seminar", "a", {"data": {"x": str(index)}})
    error = refusal(store.watch, "configmaps", since=2)
    assert (error.code, error.status["reason"]) == (410, "Expired")
    assert len(list(store.watch("configmaps", since=store.revision - 3).pending())) == 3
    assert refusal(store.watch, "configmaps", since=store.revision + 1).code == 410


def test_changes_are_merged_and_never_lost(store: Store) -> None:
    changes = store.changes("configmaps")
    store.create("configmaps", config_map("a"))
    store.patch("configmaps", "seminar", "a", {"data": {"x": "y"}})
    store.create("pods", POD)
    assert asyncio.run(changes.wait()) == [("configmaps", "seminar", "a")]
    assert asyncio.run(changes.wait(timeout=0.01)) == []


def test_followers_that_nobody_reads_are_forgotten(store: Store) -> None:
    store.watch("configmaps")
    store.changes("configmaps")
    gc.collect()
    assert not store._watches["configmaps"]
    assert not store._changes


def test_lists_are_in_order_and_selected(store: Store) -> None:
    for name in ("c", "a", "b"):
        store.create("configmaps", {"metadata": {"name": name, "namespace": "seminar", "labels": {"n": name}}})
    assert [obj["metadata"]["name"] for obj in store.list("configmaps")] == ["a", "b", "c"]
    assert [obj["metadata"]["name"] for obj in store.list("configmaps", labels="n in (a,c)")] == ["a", "c"]
    assert [obj["metadata"]["name"] for obj in store.list("configmaps", fields="metadata.name!=a")] == ["b", "c"]
    assert store.list("configmaps", "default") == []
