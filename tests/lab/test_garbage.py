from __future__ import annotations

from typing import Any

from .controller_objects import Running, run


def owned(name: str, owner: dict[str, Any], **fields: Any) -> dict[str, Any]:
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    return {"metadata": {"name": name, "ownerReferences": [{**reference, **fields}]}}


def test_a_deployment_takes_replicasets_and_pods_along() -> None:
    async def test(cluster: Running) -> None:
        cluster.create_deployment()
        await cluster.until(lambda: len(cluster.agent.pods) == 2)
        cluster.store.delete("deployments", "seminar", "web", propagation="Background")
        await cluster.until(lambda: not cluster.pods() and not cluster.store.list("replicasets", "seminar"))
        await cluster.rest()
        assert cluster.agent.pods == {}

    run(test)


def test_orphan_leaves_the_pods_and_a_new_deployment_adopts_them() -> None:
    async def test(cluster: Running) -> None:
        cluster.create_deployment()
        await cluster.until(lambda: len(cluster.agent.pods) == 2)
        before = {p["metadata"]["uid"] for p in cluster.pods()}
        cluster.store.delete("deployments", "seminar", "web", propagation="Orphan")
        await cluster.until(lambda: cluster.get("deployments", "web") is None)
        await cluster.rest()
        (replicaset,) = cluster.store.list("replicasets", "seminar")
        assert not replicaset["metadata"].get("ownerReferences")
        cluster.create_deployment()
        await cluster.rest()
        assert {p["metadata"]["uid"] for p in cluster.pods()} == before
        (replicaset,) = cluster.store.list("replicasets", "seminar")
        assert replicaset["metadata"]["ownerReferences"][0]["kind"] == "Deployment"

    run(test)


def test_foreground_waits_for_dependents_that_block() -> None:
    async def test(cluster: Running) -> None:
        owner = cluster.create("configmaps", {"metadata": {"name": "owner"}})
        held = owned("held", owner, blockOwnerDeletion=True)
        held["metadata"]["finalizers"] = ["example.com/hold"]
        cluster.create("configmaps", held)
        cluster.create("configmaps", owned("free", owner))
        await cluster.rest()
        cluster.store.delete("configmaps", "seminar", "owner", propagation="Foreground")
        await cluster.until(lambda: cluster.get("configmaps", "free") is None)
        await cluster.rest()
        assert cluster.get("configmaps", "owner") is not None
        freed = cluster.store.get("configmaps", "seminar", "held")
        freed["metadata"]["finalizers"] = [f for f in freed["metadata"]["finalizers"] if f != "example.com/hold"]
        cluster.store.update("configmaps", freed)
        await cluster.until(lambda: cluster.get("configmaps", "owner") is None)
        assert cluster.get("configmaps", "held") is None

    run(test)


def test_an_owner_that_never_was_is_no_owner() -> None:
    async def test(cluster: Running) -> None:
        nobody = {"metadata": {"name": "nobody", "uid": "00000000-0000-0000-0000-000000000000"}}
        cluster.create("configmaps", owned("lost", nobody))
        await cluster.until(lambda: cluster.get("configmaps", "lost") is None)

    run(test)


def test_one_owner_of_two_is_enough() -> None:
    async def test(cluster: Running) -> None:
        first = cluster.create("configmaps", {"metadata": {"name": "first"}})
        second = cluster.create("configmaps", {"metadata": {"name": "second"}})
        shared = owned("shared", first)
        shared["metadata"]["ownerReferences"] += owned("shared", second)["metadata"]["ownerReferences"]
        cluster.create("configmaps", shared)
        await cluster.rest()
        cluster.store.delete("configmaps", "seminar", "first")
        await cluster.rest()
        left = cluster.get("configmaps", "shared")
        assert left is not None
        assert [r["name"] for r in left["metadata"]["ownerReferences"]] == ["second"]

    run(test)


def test_a_relabelled_pod_is_let_go_and_replaced() -> None:
    async def test(cluster: Running) -> None:
        cluster.create_deployment(1)
        await cluster.until(lambda: len(cluster.agent.pods) == 1)
        (old,) = cluster.pods()
        relabelled = cluster.store.get("pods", "seminar", old["metadata"]["name"])
        relabelled["metadata"]["labels"]["app"] = "debug"
        cluster.store.update("pods", relabelled)
        await cluster.until(lambda: len(cluster.agent.pods) == 2)
        await cluster.rest()
        kept = cluster.get("pods", old["metadata"]["name"])
        assert kept is not None
        assert not kept["metadata"].get("ownerReferences")

    run(test)


def test_a_service_takes_its_slices_and_endpoints_along() -> None:
    async def test(cluster: Running) -> None:
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
        cluster.create("services", {"metadata": {"name": "web"}, "spec": spec})
        await cluster.until(lambda: cluster.get("endpoints", "web") and cluster.store.list("endpointslices", "seminar"))
        cluster.store.delete("services", "seminar", "web")
        await cluster.until(
            lambda: not cluster.get("endpoints", "web") and not cluster.store.list("endpointslices", "seminar")
        )

    run(test)


def test_a_service_without_selector_is_left_alone() -> None:
    async def test(cluster: Running) -> None:
        cluster.create("services", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})
        own = {
            "metadata": {"name": "web"},
            "subsets": [{"addresses": [{"ip": "192.168.1.122"}], "ports": [{"port": 80}]}],
        }
        cluster.create("endpoints", own)
        cluster.create_pod()
        await cluster.until_ready()
        await cluster.rest()
        assert cluster.store.list("endpointslices", "seminar") == []
        kept = cluster.get("endpoints", "web")
        assert kept is not None
        assert kept["subsets"][0]["addresses"] == [{"ip": "192.168.1.122"}]

    run(test)


def test_a_rolling_update_ends_with_new_pods_only() -> None:
    async def test(cluster: Running) -> None:
        cluster.create_deployment()
        await cluster.until(lambda: (cluster.get("deployments", "web") or {})["status"].get("availableReplicas") == 2)
        changed = cluster.store.get("deployments", "seminar", "web")
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:1.27"
        cluster.store.update("deployments", changed)
        await cluster.rest()
        assert [p["spec"]["containers"][0]["image"] for p in cluster.pods()] == ["nginx:1.27"] * 2
        assert sorted(p["spec"]["nodeName"] for p in cluster.pods()) == ["worker01", "worker02"]
        found = cluster.get("deployments", "web")
        assert found is not None
        assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
        conditions = {c["type"]: c["reason"] for c in found["status"]["conditions"]}
        assert conditions == {"Progressing": "NewReplicaSetAvailable", "Available": "MinimumReplicasAvailable"}

    run(test)
