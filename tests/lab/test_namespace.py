from __future__ import annotations

import pytest

from srcip_nb.lab.controllers import loop
from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.namespace import FROM_THE_START
from srcip_nb.lab.controllers.node import evictions

from .controller_objects import Running, node, pod, run


def test_every_cluster_has_these_from_the_start() -> None:
    async def test(cluster: Running) -> None:
        assert [n["metadata"]["name"] for n in cluster.store.list("namespaces")] == [*FROM_THE_START, "seminar"]
        names = [n["metadata"]["name"] for n in cluster.store.list("nodes")]
        assert names == ["master01", "worker01", "worker02"]
        service = cluster.get("services", "kubernetes", "default")
        assert service is not None
        assert service["spec"]["clusterIP"] == "10.1.0.1"
        piece = cluster.get("endpointslices", "kubernetes", "default")
        assert piece is not None
        assert piece["endpoints"][0]["addresses"] == ["192.168.1.41"]

    run(test)


def test_the_certificate_is_in_every_namespace_and_comes_back() -> None:
    async def test(cluster: Running) -> None:
        found = await cluster.until(lambda: cluster.get("configmaps", "kube-root-ca.crt"))
        assert found["data"] == {"ca.crt": "PEM"}
        cluster.store.delete("configmaps", "seminar", "kube-root-ca.crt")
        again = await cluster.until(lambda: cluster.get("configmaps", "kube-root-ca.crt"))
        assert again["metadata"]["uid"] != found["metadata"]["uid"]

    run(test)


def test_a_namespace_goes_when_all_in_it_has_gone() -> None:
    async def test(cluster: Running) -> None:
        cluster.create_deployment()
        await cluster.until(lambda: len(cluster.agent.pods) == 2)
        cluster.store.delete("namespaces", "", "seminar")
        await cluster.until(lambda: cluster.store.peek("namespaces", "", "seminar") is None)
        assert cluster.agent.pods == {}
        for resource in ("pods", "replicasets", "deployments", "configmaps", "events"):
            assert cluster.store.list(resource, "seminar") == []

    run(test)


def test_what_keeps_a_namespace_is_said() -> None:
    async def test(cluster: Running) -> None:
        held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
        cluster.create("configmaps", held)
        cluster.store.delete("namespaces", "", "seminar")

        def told() -> str:
            namespace = cluster.store.peek("namespaces", "", "seminar")
            conditions = (namespace or {}).get("status", {}).get("conditions", [])
            return " ".join(c["message"] for c in conditions)

        await cluster.until(lambda: "example.com/hold in 1 resource instances" in told())
        freed = cluster.store.get("configmaps", "seminar", "held")
        del freed["metadata"]["finalizers"]
        cluster.store.update("configmaps", freed)
        await cluster.until(lambda: cluster.store.peek("namespaces", "", "seminar") is None)

    run(test)


def test_the_same_event_is_counted() -> None:
    async def test(cluster: Running) -> None:
        page = cluster.create("configmaps", {"metadata": {"name": "page"}})
        for _ in range(3):
            record(cluster.store, page, "Told", "again", component="test")
        (event,) = cluster.store.list("events", "seminar")
        assert event["count"] == 3

    run(test)


def test_a_broken_controller_is_told_of_and_started_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "RESTART_AFTER", 0.0)
    monkeypatch.setattr(
        "srcip_nb.lab.controllers.namespace.NamespaceController._publish_root_ca", breaking_once(), raising=True
    )

    async def test(cluster: Running) -> None:
        await cluster.until(lambda: cluster.get("configmaps", "made"))

    run(test)
    told = capsys.readouterr().err
    assert "the namespace controller broke and is started again" in told
    assert "ZeroDivisionError" in told


def breaking_once():  # type: ignore[no-untyped-def]
    calls: list[str] = []

    def publish(self, namespace: str) -> None:  # type: ignore[no-untyped-def]
        calls.append(namespace)
        if len(calls) == 1:
            raise ZeroDivisionError
        if namespace == "seminar" and self.store.peek("configmaps", "seminar", "made") is None:
            self.store.create("configmaps", {"metadata": {"name": "made", "namespace": "seminar"}})

    return publish


def test_cordon_gets_its_taint_and_loses_it() -> None:
    async def test(cluster: Running) -> None:
        worker = cluster.store.get("nodes", "", "worker01")
        worker["spec"]["unschedulable"] = True
        cluster.store.update("nodes", worker)
        tainted = await cluster.until(
            lambda: (n := cluster.store.get("nodes", "", "worker01"))["spec"].get("taints") and n
        )
        assert tainted["spec"]["taints"][0]["key"] == "node.kubernetes.io/unschedulable"
        cluster.create_pod()
        ready = await cluster.until_ready()
        assert ready["spec"]["nodeName"] == "worker02"
        del tainted["spec"]["unschedulable"]
        cluster.store.update("nodes", tainted)
        await cluster.until(lambda: "taints" not in cluster.store.get("nodes", "", "worker01")["spec"])

    run(test)


def test_no_execute_drives_pods_away() -> None:
    tainted = node("worker01", [{"key": "down", "effect": "NoExecute", "timeAdded": "2026-11-22T14:26:58Z"}])
    since = 1_795_357_618.0
    stays = pod("stays", spec={"tolerations": [{"operator": "Exists"}]})
    later = pod("later", spec={"tolerations": [{"key": "down", "operator": "Exists", "tolerationSeconds": 30}]})
    goes = pod("goes")
    assert evictions(tainted, [stays, later, goes], since + 10) == ([goes], 20.0)
    assert evictions(tainted, [stays, later], since + 30) == ([later], None)
    assert evictions(node("worker02"), [goes], since) == ([], None)
