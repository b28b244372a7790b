"""The official Python client, which checks every answer against its own models."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kubernetes import client, dynamic, watch

from tests.lab.apiserver import TOKEN, ApiServer, api_server

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "nginx"}]},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server(bookmark_every=0.05) as server:
        yield server


@pytest.fixture
def api(server: ApiServer) -> Iterator[client.ApiClient]:
    configuration = client.Configuration(host=server.url)
    configuration.api_key = {"authorization": f"Bearer {TOKEN}"}
    with client.ApiClient(configuration) as api:
        yield api


def test_objects_come_and_go(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_pod("default", POD)
    core.create_namespaced_service("default", SERVICE)
    assert [pod.metadata.name for pod in core.list_pod_for_all_namespaces().items] == ["p"]
    patched = core.patch_namespaced_service("web", "default", {"spec": {"externalTrafficPolicy": "Local"}})
    assert patched.spec.health_check_node_port >= 30000
    assert core.read_namespaced_service("web", "default").spec.ports[0].port == 80
    core.delete_namespaced_pod("p", "default")
    core.delete_namespaced_service("web", "default")
    assert core.list_namespaced_pod("default").items == []
    assert [namespace.metadata.name for namespace in core.list_namespace().items] == ["default"]


def test_errors_arrive_as_they_are(api: client.ApiClient) -> None:
    with pytest.raises(client.ApiException) as caught:
        client.CoreV1Api(api).read_namespaced_pod("none", "default")
    assert caught.value.status == 404
    assert 'pods \\"none\\" not found' in str(caught.value.body)


def test_the_dynamic_client_applies_and_takes_over(api: client.ApiClient) -> None:
    services = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="Service")
    for manager, policy in (("one", "Cluster"), ("two", "Local")):
        body = {**SERVICE, "spec": {**SERVICE["spec"], "externalTrafficPolicy": policy}}
        services.server_side_apply(
            body=body, name="web", namespace="default", field_manager=manager, force_conflicts=True
        )
    assert services.get(name="web", namespace="default").spec.externalTrafficPolicy == "Local"


def test_watching(api: client.ApiClient, server: ApiServer) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_pod("default", POD)
    following = watch.Watch()
    seen = []
    for event in following.stream(core.list_namespaced_pod, "default", timeout_seconds=10):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "ADDED":
            server.call(server.store.delete, "pods", "default", "p", grace=0)
        else:
            following.stop()
    assert seen == [("ADDED", "p"), ("DELETED", "p")]


def test_logs_arrive_byte_for_byte(api: client.ApiClient, server: ApiServer) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_pod("default", POD)
    pod = server.call(server.store.bind, "default", "p", "worker01")
    pod["status"]["containerStatuses"] = [
        {"name": "c", "state": {"running": {}}, "ready": True, "restartCount": 0, "image": "nginx", "imageID": "x"}
    ]
    server.call(server.store.update, "pods", pod, subresource="status")
    server.call(server.logs.append, "default", "p", "c", time.time_ns(), '{"a": "あ"}\n')
    raw = core.read_namespaced_pod_log("p", "default", _preload_content=False)
    assert raw.data.decode() == '{"a": "あ"}\n'
    raw.release_conn()
