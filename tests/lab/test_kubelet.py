from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from srcip_nb.errors import LabError
from srcip_nb.lab.controllers import kubelet_container
from srcip_nb.lab.controllers.kubelet_pod import AddressPool
from srcip_nb.lab.controllers.kubelet_probes import http_outcome, http_request
from srcip_nb.lab.controllers.kubelet_status import ContainerView, PodView, phase, pod_status, qos_class, terminated
from srcip_nb.lab.controllers.kubelet_volumes import (
    ConfigError,
    MountError,
    environment_of,
    mounts_of,
    service_variables,
    unhonoured_fields,
)
from srcip_nb.lab.topology import topology

from .controller_objects import STAMP, Running, pod, run

DATA = Path(__file__).parent.parent / "data" / "controllers"
RUNNING = {"running": {"startedAt": STAMP}}


def recorded(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


# -- status ----------------------------------------------------------------------------------------------------------


def test_status_of_a_running_pod_is_what_the_real_kubelet_wrote() -> None:
    for real in recorded("pods"):
        (container,) = real["status"]["containerStatuses"]
        view = ContainerView(
            container["name"],
            container["image"],
            container["imageID"],
            container["state"],
            {},
            container["containerID"],
            0,
            True,
            True,
        )
        status = real["status"]
        seen = PodView(status["hostIP"], status["startTime"], status["podIP"], True, [view])
        assert pod_status(real, seen, "2026-11-22T15:00:00Z") == status


def test_conditions_of_a_pod_that_is_not_ready_yet() -> None:
    waiting = PodView("192.168.1.45", STAMP, containers=[ContainerView("nginx", "nginx")])
    status = pod_status(pod("web"), waiting, STAMP)
    said = {c["type"]: (c["status"], c.get("reason"), c.get("message")) for c in status["conditions"]}
    unready = ("False", "ContainersNotReady", "containers with unready status: [nginx]")
    assert said["Ready"] == said["ContainersReady"] == unready
    assert said["PodReadyToStartContainers"][0] == "False"
    assert said["Initialized"][0] == said["PodScheduled"][0] == "True"
    assert status["phase"] == "Pending"
    assert "podIP" not in status


def test_a_condition_keeps_its_transition_time_while_it_stays() -> None:
    web = pod("web")
    view = PodView(
        "192.168.1.45", STAMP, "10.0.5.2", True, [ContainerView("nginx", "nginx", state=RUNNING, ready=True)]
    )
    web["status"] = pod_status(web, view, STAMP)
    view.containers[0].ready = False
    later = "2026-11-22T15:00:00Z"
    times = {c["type"]: c["lastTransitionTime"] for c in pod_status(web, view, later)["conditions"]}
    assert (times["Ready"], times["Initialized"]) == (later, STAMP)


@pytest.mark.parametrize(
    ("policy", "codes", "expected"),
    [
        ("Always", [None], "Running"),
        ("Always", [1], "Running"),
        ("Never", [0], "Succeeded"),
        ("Never", [0, 1], "Failed"),
        ("Never", [1, None], "Running"),
        ("OnFailure", [0], "Succeeded"),
        ("OnFailure", [1], "Running"),
    ],
)
def test_phase(policy: str, codes: list[int | None], expected: str) -> None:
    views = [
        ContainerView(str(n), "nginx", state=RUNNING if code is None else terminated(code, STAMP, STAMP, "lab://1"))
        for n, code in enumerate(codes)
    ]
    assert phase(pod("web", spec={"restartPolicy": policy}), PodView("", STAMP, containers=views)) == expected


def test_a_signal_is_told_as_128_and_its_number() -> None:
    assert terminated(-9, STAMP, STAMP, "")["terminated"]["exitCode"] == 137
    assert terminated(0, STAMP, STAMP, "")["terminated"]["reason"] == "Completed"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
    ],
)
def test_qos_class(resources: dict[str, Any], expected: str) -> None:
    web = pod("web")
    web["spec"]["containers"][0]["resources"] = resources
    assert qos_class(web) == expected


# -- volumes and variables -------------------------------------------------------------------------------------------


def with_volume(volume: dict[str, Any], **mount: Any) -> dict[str, Any]:
    container = {
        "name": "nginx",
        "image": "nginx",
        "volumeMounts": [{"name": "v", "mountPath": "/srv/", **mount}],
    }
    return pod("web", spec={"containers": [container], "volumes": [{"name": "v", **volume}]})


CONFIGMAP = {"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}}


def test_a_configmap_is_a_directory_of_its_keys() -> None:
    mounts = mounts_of(with_volume({"configMap": {"name": "page"}}), {"page": CONFIGMAP}.get)
    assert mounts.files == {"/srv/a": "1", "/srv/b": "2", "/srv/c": {"base64": "AAE="}}
    assert mounts.directories == ["/srv"]


def test_items_choose_and_rename() -> None:
    volume = {"configMap": {"name": "page", "items": [{"key": "a", "path": "sub/x"}]}}
    assert mounts_of(with_volume(volume), {"page": CONFIGMAP}.get).files == {"/srv/sub/x": "1"}


def test_modes_of_files_are_honoured() -> None:
    items = [{"key": "a", "path": "a"}, {"key": "c", "path": "c", "mode": 0o600}]
    volume = {"configMap": {"name": "page", "defaultMode": 0o755, "items": items}}
    assert mounts_of(with_volume(volume), {"page": CONFIGMAP}.get).files == {
        "/srv/a": {"text": "1", "mode": 0o755},
        "/srv/c": {"base64": "AAE=", "mode": 0o600},
    }


@pytest.mark.parametrize(
    ("volume", "mount", "said"),
    [
        ({"configMap": {"name": "none"}}, {}, 'MountVolume.SetUp failed for volume "v" : configmap "none" not found'),
        ({"configMap": {"name": "page", "items": [{"key": "z", "path": "z"}]}}, {}, "non-existent config key: z"),
        ({"hostPath": {"path": "/"}}, {}, "the lab has no hostPath volumes"),
        ({"secret": {"secretName": "s"}}, {}, 'secret "s" not found'),
        ({"emptyDir": {}}, {"subPath": "x"}, "not a subPath"),
        ({"emptyDir": {}}, {"name": "other"}, "no volume of that name"),
    ],
)
def test_what_cannot_be_mounted_is_said(volume: dict[str, Any], mount: dict[str, Any], said: str) -> None:
    with pytest.raises(MountError) as error:
        mounts_of(with_volume(volume, **mount), {"page": CONFIGMAP}.get)
    assert said in str(error.value)


def test_optional_may_be_missing() -> None:
    assert mounts_of(with_volume({"configMap": {"name": "none", "optional": True}}), {}.get).files == {}


def test_environment() -> None:
    web = pod("web", node="worker01")
    container = {
        "envFrom": [{"configMapRef": {"name": "page"}, "prefix": "P_"}],
        "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "page", "key": "a"}}},
            {"name": "SUM", "value": "$(IP)-$(P_b)-$$(IP)"},
        ],
    }
    made = environment_of(web, container, {"podIP": "10.0.5.2"}, {"page": CONFIGMAP}.get)
    assert made == {
        "P_a": "1",
        "P_b": "2",
        "IP": "10.0.5.2",
        "APP": "web",
        "KEY": "1",
        "SUM": "10.0.5.2-2-$(IP)",
    }


@pytest.mark.parametrize(
    "source",
    [
        {"configMapKeyRef": {"name": "none", "key": "a"}},
        {"configMapKeyRef": {"name": "page", "key": "z"}},
        {"secretKeyRef": {"name": "s", "key": "k"}},
        {"fieldRef": {"fieldPath": "status.nothing"}},
    ],
)
def test_a_variable_that_cannot_be_had(source: dict[str, Any]) -> None:
    container = {"env": [{"name": "X", "valueFrom": source}]}
    with pytest.raises(ConfigError):
        environment_of(pod("web"), container, {}, {"page": CONFIGMAP}.get)


def test_services_are_told_as_variables() -> None:
    def one(name: str, ip: str, *ports: dict[str, Any], namespace: str = "seminar") -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": list(ports)}}

    services = [
        one("back-end", "10.1.0.7", {"port": 80, "name": "http"}, {"port": 8080, "name": "by-proxy"}),
        one("headless", "None", {"port": 80}),
        one("far", "10.1.0.8", {"port": 80}, namespace="other"),
        one("kubernetes", "10.1.0.1", {"port": 443, "name": "https"}, namespace="default"),
    ]
    asks = {"metadata": {"name": "web", "namespace": "seminar"}, "spec": {}}
    made = service_variables(asks, services)
    assert made["BACK_END_SERVICE_HOST"] == "10.1.0.7"
    assert made["BACK_END_SERVICE_PORT"] == "80"
    assert made["BACK_END_SERVICE_PORT_BY_PROXY"] == "8080"
    assert made["BACK_END_PORT"] == "tcp://10.1.0.7:80"
    assert made["BACK_END_PORT_8080_TCP_ADDR"] == "10.1.0.7"
    assert made["KUBERNETES_SERVICE_HOST"] == "10.1.0.1"
    assert not [name for name in made if name.startswith(("HEADLESS", "FAR"))]
    alone = service_variables({**asks, "spec": {"enableServiceLinks": False}}, services)
    assert {name.partition("_")[0] for name in alone} == {"KUBERNETES"}


def test_fields_that_the_lab_does_nothing_about_are_named() -> None:
    container = {"name": "nginx", "image": "nginx", "resources": {"limits": {"cpu": "1"}}, "stdin": True}
    web = pod("web", spec={"containers": [container], "hostPID": True, "dnsConfig": {}})
    assert unhonoured_fields(web) == [
        "spec.hostPID",
        "spec.containers[nginx].stdin",
        "spec.containers[nginx].resources.limits",
    ]


def test_addresses_are_given_out_in_turn() -> None:
    lab = topology(cni="calico")
    host = lab.host("worker02")
    pool = AddressPool(lab.pod_addresses(host), host.pod_block)
    first = pool.take()
    assert first == "10.0.30.66"  # not the tunnel's .64, nor .65, which looks like a gateway
    pool.give_back(first)
    assert pool.take() == "10.0.30.67"
    others = [pool.take() for _ in range(61)]
    assert others[-1] == first
    assert "10.0.30.65" in others
    assert pool.take() == ""


# -- probes ----------------------------------------------------------------------------------------------------------


def test_an_http_probe_as_a_kubelet_sends_it() -> None:
    container = {"ports": [{"name": "web", "containerPort": 8080}]}
    get = {"path": "healthz", "port": "web", "httpHeaders": [{"name": "X-A", "value": "1"}]}
    request = http_request(get, container, "10.0.5.2")
    assert request is not None
    assert request["url"] == "http://10.0.5.2:8080/healthz"
    assert request["headers"]["User-Agent"] == "kube-probe/1.36"
    assert request["headers"]["X-A"] == "1"
    assert http_request({"port": "none"}, container, "10.0.5.2") is None


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ({"status": 200}, (True, "")),
        ({"status": 399}, (True, "")),
        ({"status": 404}, (False, "HTTP probe failed with statuscode: 404")),
        (
            {"status": None, "error": "refused"},
            (False, 'Get "http://10.0.5.2:80/": dial tcp 10.0.5.2:80: connect: connection refused'),
        ),
    ],
)
def test_what_a_probe_makes_of_an_answer(result: dict[str, Any], outcome: tuple[bool, str]) -> None:
    assert http_outcome("http://10.0.5.2:80/", result) == outcome


# -- the whole part, over a stand-in for the agent -------------------------------------------------------------------


def test_a_pod_gets_address_files_program_and_status() -> None:
    async def test(cluster: Running) -> None:
        cluster.create("configmaps", {"metadata": {"name": "page"}, "data": {"index.html": "hello"}})
        mount = {"name": "v", "mountPath": "/usr/share/nginx/html"}
        cluster.create_pod(container={"volumeMounts": [mount]}, volumes=[{"name": "v", "configMap": {"name": "page"}}])
        ready = await cluster.until_ready()
        assert (ready["spec"]["nodeName"], ready["status"]["podIP"]) == ("worker01", "10.0.5.2")
        files = cluster.agent.pods["seminar/web"]
        assert files["/usr/share/nginx/html/index.html"] == "hello"
        assert "/usr/share/nginx/html/50x.html" not in files
        assert "log_format  main" in files["/etc/nginx/nginx.conf"]
        (started,) = cluster.agent.named("start")
        assert started["argv"] == ["/bin/sh", "/docker-entrypoint.sh", "nginx", "-g", "daemon off;"]
        assert cluster.podlogs.read("seminar", "web", "nginx").endswith("start worker processes\n")
        assert [reason for reason, _ in cluster.events("web")] == ["Scheduled", "Pulled", "Created", "Started"]

    run(test)


def test_what_happened_is_told_in_the_real_words() -> None:
    real = {event["reason"]: event for event in recorded("events") if event["involvedObject"]["kind"] == "Pod"}

    async def test(cluster: Running) -> None:
        cluster.create_pod(containers=[{"name": "nginx", "image": "nginx:latest"}])
        await cluster.until_ready()
        for event in cluster.store.list("events", "seminar"):
            expected = real[event["reason"]]
            assert event["source"].keys() == expected["source"].keys()
            assert event["involvedObject"].get("fieldPath") == expected["involvedObject"].get("fieldPath")
            assert event["reportingComponent"] == expected["reportingComponent"]
            assert event.get("count") == expected.get("count")
            if event["reason"] != "Scheduled":
                assert event["message"] == expected["message"]

    run(test)


def test_a_configmap_that_changes_changes_the_files() -> None:
    async def test(cluster: Running) -> None:
        page = cluster.create("configmaps", {"metadata": {"name": "page"}, "data": {"a": "1", "b": "2"}})
        cluster.create_pod(
            container={"volumeMounts": [{"name": "v", "mountPath": "/srv"}]},
            volumes=[{"name": "v", "configMap": {"name": "page"}}],
        )
        await cluster.until_ready()
        cluster.store.update("configmaps", {**page, "data": {"a": "9"}})
        await cluster.rest()
        (written,) = cluster.agent.named("pod_write")
        assert (written["files"], written["remove"]) == ({"/srv/a": "9"}, ["/srv/b"])

    run(test)


def test_a_missing_configmap_is_waited_for() -> None:
    async def test(cluster: Running) -> None:
        cluster.create_pod(
            container={"volumeMounts": [{"name": "v", "mountPath": "/srv"}]},
            volumes=[{"name": "v", "configMap": {"name": "late"}}],
        )
        said = 'MountVolume.SetUp failed for volume "v" : configmap "late" not found'
        await cluster.until(lambda: ("FailedMount", said) in cluster.events("web"))
        assert cluster.container()["is"] == "ContainerCreating"
        cluster.create("configmaps", {"metadata": {"name": "late"}, "data": {"a": "1"}})
        await cluster.until_ready()

    run(test)


def test_an_unknown_image_is_err_image_pull_then_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet_container, "_BACK_OFF_SHOWN_AFTER", 0.01)

    async def test(cluster: Running) -> None:
        cluster.create_pod(containers=[{"name": "c", "image": "httpd:2.4"}])
        await cluster.until(lambda: cluster.container()["is"] == "ErrImagePull")
        await cluster.until(lambda: cluster.container()["is"] == "ImagePullBackOff")
        told = cluster.events("web")
        assert any(reason == "Failed" and "its images are: nginx" in message for reason, message in told)
        assert ("BackOff", 'Back-off pulling image "httpd:2.4"') in told
        changed = cluster.store.get("pods", "seminar", "web")
        changed["spec"]["containers"][0]["image"] = "nginx:1.27"
        cluster.store.update("pods", changed)
        ready = await cluster.until_ready()
        assert ready["status"]["containerStatuses"][0]["image"] == "docker.io/library/nginx:1.27"
        assert "/etc/nginx/nginx.conf" in cluster.agent.pods["seminar/web"]

    run(test)


def test_a_container_that_ends_is_started_again_at_once_and_then_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet_container, "FIRST_BACK_OFF", 0.02)

    async def test(cluster: Running) -> None:
        cluster.agent.crashes_with = 1
        cluster.create_pod()
        await cluster.until(lambda: cluster.container()["is"] == "CrashLoopBackOff")
        status = cluster.container()
        assert status["restartCount"] == 1
        assert status["lastState"]["terminated"]["exitCode"] == 1
        cluster.agent.crashes_with = None
        await cluster.until_ready()
        assert cluster.container()["restartCount"] == 2
        assert any(r == "BackOff" and "Back-off restarting failed container nginx" in m for r, m in cluster.events())

    run(test)


def test_never_restarted_it_ends_as_it_ended() -> None:
    async def test(cluster: Running) -> None:
        cluster.agent.crashes_with = 3
        cluster.create_pod(restartPolicy="Never", container={"command": ["false"]})
        await cluster.until(lambda: (cluster.get("pods", "web") or {})["status"]["phase"] == "Failed")
        assert cluster.container()["state"]["terminated"]["exitCode"] == 3
        assert len(cluster.agent.named("start")) == 1

    run(test)


def test_init_containers_come_first() -> None:
    async def test(cluster: Running) -> None:
        init = {"name": "first", "image": "nginx", "command": ["true"]}
        cluster.create_pod(initContainers=[init])
        await cluster.until(lambda: ("seminar/web", "first") in cluster.agent.running)
        assert len(cluster.agent.named("start")) == 1
        assert cluster.container()["is"] == "PodInitializing"
        cluster.agent.end("seminar/web", "first", 0)
        await cluster.until_ready()

    run(test)


def test_a_readiness_probe_decides_when_it_is_ready() -> None:
    async def test(cluster: Running) -> None:
        cluster.agent.probe_result = {"status": 503, "error": ""}
        probe = {"httpGet": {"port": 80, "path": "/ready"}, "periodSeconds": 1}
        cluster.create_pod(container={"readinessProbe": probe})
        said = ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
        await cluster.until(lambda: said in cluster.events("web"))
        assert cluster.container()["ready"] is False
        assert cluster.container()["started"] is True
        cluster.agent.probe_result = {"status": 200, "error": ""}
        await cluster.until_ready()
        (first, *_) = cluster.agent.named("visit")
        assert first["host"] == "worker01"
        assert first["requests"][0]["url"] == "http://10.0.5.2:80/ready"

    run(test)


def test_a_failed_liveness_probe_restarts() -> None:
    async def test(cluster: Running) -> None:
        cluster.agent.probe_result = {"status": None, "error": "refused"}
        probe = {"httpGet": {"port": 80}, "failureThreshold": 1}
        cluster.create_pod(container={"livenessProbe": probe})
        said = ("Killing", "Container nginx failed liveness probe, will be restarted")
        await cluster.until(lambda: said in cluster.events("web"))
        cluster.agent.probe_result = {"status": 200, "error": ""}
        await cluster.until(lambda: cluster.container()["restartCount"] == 1 and cluster.container()["ready"])
        (stopped,) = cluster.agent.named("stop")
        assert (stopped["signal"], stopped["grace"]) == ("QUIT", 30.0)

    run(test)


def test_without_the_line_it_is_ready_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet_container, "LISTENING_WITHIN", 0.01)

    async def test(cluster: Running) -> None:
        cluster.agent.logs_start = False
        cluster.create_pod()
        await cluster.until_ready()

    run(test)


def test_a_deleted_pod_ends_gracefully_and_then_is_gone() -> None:
    async def test(cluster: Running) -> None:
        cluster.agent.stop_waits = asyncio.Event()
        cluster.create(
            "services", {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
        )
        cluster.create_pod()
        await cluster.until_ready()
        cluster.store.delete("pods", "seminar", "web")
        await cluster.until(lambda: cluster.agent.named("stop"))
        await cluster.rest()
        (piece,) = cluster.store.list("endpointslices", "seminar")
        assert piece["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
        assert ("Killing", "Stopping container nginx") in cluster.events("web")
        cluster.agent.stop_waits.set()
        await cluster.until(lambda: cluster.get("pods", "web") is None)
        await cluster.rest()
        assert cluster.agent.pods == {}
        (piece,) = cluster.store.list("endpointslices", "seminar")
        assert piece["endpoints"] == []

    run(test)


def test_a_pod_deleted_by_force_does_not_wait() -> None:
    async def test(cluster: Running) -> None:
        cluster.agent.stop_waits = asyncio.Event()
        cluster.create_pod()
        await cluster.until_ready()
        cluster.store.delete("pods", "seminar", "web")
        await cluster.until(lambda: cluster.agent.named("stop"))
        cluster.store.delete("pods", "seminar", "web", grace=0)
        cluster.create_pod()
        ready = await cluster.until_ready()
        assert len(cluster.agent.named("pod_del")) == 1
        assert ready["status"]["podIP"] == "10.0.5.3"

    run(test)


def test_pre_stop_runs_before_the_signal() -> None:
    async def test(cluster: Running) -> None:
        cluster.create_pod(container={"lifecycle": {"preStop": {"exec": {"command": ["touch", "/bye"]}}}})
        await cluster.until_ready()
        cluster.store.delete("pods", "seminar", "web", grace=7)
        await cluster.until(lambda: cluster.get("pods", "web") is None)
        ops = [op for op, _ in cluster.agent.calls if op in ("exec", "stop", "pod_del")]
        assert ops == ["exec", "stop", "pod_del"]
        (hook,), (stopped,) = cluster.agent.named("exec"), cluster.agent.named("stop")
        assert hook["argv"][-2:] == ["touch", "/bye"]
        assert 6 < stopped["grace"] <= 7

    run(test)


def test_a_probe_that_the_agent_cannot_send_is_a_failed_probe() -> None:
    async def test(cluster: Running) -> None:
        async def broken(**arguments: Any) -> Any:
            raise LabError("it had not ended after 6 s")

        cluster.agent._exec = broken
        cluster.create_pod(container={"readinessProbe": {"exec": {"command": ["sleep", "9"]}}})
        said = ("Unhealthy", "Readiness probe failed: it had not ended after 6 s")
        await cluster.until(lambda: said in cluster.events("web"))

    run(test)


def test_a_pod_on_its_hosts_network_has_the_hosts_address_and_takes_its_ports() -> None:
    async def test(cluster: Running) -> None:
        for name in ("p1", "p2", "p3"):
            cluster.create_pod(name, hostNetwork=True, container={"ports": [{"containerPort": 80}]})
        one, two = await cluster.until_ready("p1"), await cluster.until_ready("p2")
        assert [one["status"]["podIP"], two["status"]["podIP"]] == ["192.168.1.45", "192.168.1.46"]
        assert [call["host"] for call in cluster.agent.named("pod_add")] == ["worker01", "worker02"]
        said = "2 node(s) didn't have free ports for the requested pod ports"
        await cluster.until(lambda: any(said in message for _, message in cluster.events("p3")))
        cluster.store.delete("pods", "seminar", "p1")
        await cluster.until(lambda: (cluster.get("pods", "p3") or {})["status"].get("podIP") == "192.168.1.45")
        # The node's own address was never one of those that pods are given.
        cluster.create_pod("plain")
        assert (await cluster.until_ready("plain"))["status"]["podIP"] == "10.0.5.2"

    run(test)


def test_a_pod_may_name_its_node() -> None:
    async def test(cluster: Running) -> None:
        cluster.create_pod(nodeName="master01")
        ready = await cluster.until_ready()
        assert ready["status"]["podIP"] == "10.0.241.2"

    run(test)


# -- the same over a real kernel -------------------------------------------------------------------------------------


@pytest.mark.lab
def test_a_real_pod_serves_its_page_logs_who_came_and_leaves_nothing() -> None:
    async def test(cluster: Running) -> None:
        page = cluster.create("configmaps", {"metadata": {"name": "page"}, "data": {"index.html": "hello\n"}})
        probe = {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 1}
        container = {
            "volumeMounts": [{"name": "v", "mountPath": "/usr/share/nginx/html"}],
            "readinessProbe": probe,
            "livenessProbe": {"tcpSocket": {"port": 80}},
            "startupProbe": {"exec": {"command": ["grep", "-q", "log_format", "/etc/nginx/nginx.conf"]}},
        }
        cluster.create_pod(container=container, volumes=[{"name": "v", "configMap": {"name": "page"}}])
        await cluster.until_ready()

        async def get() -> str:
            done = await cluster.agent.call("exec", host="worker02", argv=["curl", "-s", "http://10.0.5.2/"])
            return str(done["stdout"])

        assert await get() == "hello\n"
        cluster.store.update("configmaps", {**page, "data": {"index.html": "changed\n"}})
        while await get() != "changed\n":
            await asyncio.sleep(0)
        log = cluster.podlogs.read("seminar", "web", "nginx")
        assert "/docker-entrypoint.sh: Configuration complete; ready for start up" in log
        assert "[notice] 1#1: start worker processes" in log
        assert "192.168.1.45 - - [" in log and '"GET / HTTP/1.1" 200 6 "-" "kube-probe/1.36" "-"' in log
        cluster.store.delete("pods", "seminar", "web")
        await cluster.until(lambda: cluster.get("pods", "web") is None)
        stats = await cluster.agent.call("stats")
        assert stats["namespaces"] == len(cluster.topology.hosts)
        assert stats["processes"] == 1

    run(test, kernel=True)
