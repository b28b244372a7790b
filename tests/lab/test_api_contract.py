"""What a real v1.36.2 API server answered (tests/data/api), asked again of the lab's, in the order of the recording.

The lab gets the same objects first: by HTTP what a person would apply, through the store what controllers made.
Values that differ from run to run are made alike; everything else has to be the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.apiserver import ApiServer, api_server

DATA = Path(__file__).parent.parent / "data" / "api"
RECORDED = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}

VOLATILE = {
    "uid": "UID",
    "resourceVersion": "RV",
    "creationTimestamp": "TIME",
    "deletionTimestamp": "TIME",
    "time": "TIME",
    "nodePort": 30000,
    "healthCheckNodePort": 30001,
    "clusterIP": "IP",
    "clusterIPs": ["IP"],
}
# The lab has fewer resources than a whole cluster; discovery is compared resource by resource.
DISCOVERY = {"discovery-core_v1", "discovery-apps_v1", "discovery-discovery_v1"}
# Recorded after changes: the first is asked in its turn, the others show a third pod come and go.
LATER = {"list-for-watch", "list-pods-now", "table-pods-three"}
READS = [
    *(name for name in RECORDED if name.startswith(("list-", "table-")) and name not in LATER),
    "field-selector",
    "get-deployment",
    "get-service",
    "scale-get",
]
WRITES = [
    "patch-strategic-local",
    "patch-merge-cluster",
    "patch-json-local",
    "list-for-watch",
    "patch-back",
    "apply-create",
    "apply-conflict",
    "apply-force",
    "create-dryrun",
    "scale-patch",
    "scale-down",
    "delete-configmap",
]
ERRORS = [name for name in RECORDED if name.startswith(("error-", "log-error"))] + ["delete-service-missing"]


def alike(value: Any, key: str = "") -> Any:
    """The value with everything that differs from run to run replaced."""
    if key in VOLATILE and value is not None:
        return VOLATILE[key]
    if isinstance(value, dict):
        return {name: alike(item, name) for name, item in value.items()}
    if isinstance(value, list):
        if key == "cells":
            return [re.sub(r"^(\d+[ydhms])+$|10\.1\.\d+\.\d+|(?<=80:)\d+", "*", str(cell)) for cell in value]
        return [alike(item) for item in value]
    return value


def ask(server: ApiServer, name: str) -> tuple[int, str, Any, dict[str, Any]]:
    request, response = RECORDED[name]["request"], RECORDED[name]["response"]
    answer = server.request(
        request["method"],
        request["path"],
        request["body"],
        content_type=request["content_type"],
        accept=request["accept"],
        agent="Python-urllib/3.11",
    )
    return answer.status, answer.content_type.split(";")[0], answer.body, response


def recorded_items(name: str) -> list[dict[str, Any]]:
    return RECORDED[name]["response"]["body"]["items"]


def put(server: ApiServer, resource: str, item: dict[str, Any]) -> None:
    """Make a recorded object as it is, status and field owners included."""
    owners = item["metadata"].get("managedFields")
    created = server.call(server.store.create, resource, item, manager="x")
    if item.get("status"):
        created["status"] = item["status"]
        created = server.call(server.store.update, resource, created, subresource="status", manager="x")
    created["metadata"]["managedFields"] = owners
    generation = item["metadata"].get("generation")
    version = server.store._objects[resource][created["metadata"].get("namespace", ""), created["metadata"]["name"]]
    version.obj["metadata"].update({"managedFields": owners} if owners else {})
    if generation:
        version.obj["metadata"]["generation"] = generation


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with api_server() as server:
        for resource in ("namespaces", "configmaps", "nodes", "services", "deployments", "replicasets", "pods"):
            for item in recorded_items(f"list-{resource}"):
                if item["metadata"]["name"] != "default":
                    put(server, resource, item)
        for resource in ("endpoints", "endpointslices", "events"):
            for item in recorded_items(f"list-{resource}"):
                put(server, resource, item)
        default = server.store._objects["namespaces"]["", "default"]
        default.obj["metadata"]["managedFields"] = recorded_items("list-namespaces")[0]["metadata"]["managedFields"]
        yield server


def scale_up(server: ApiServer) -> None:
    """What the Deployment's controller had done before scale-down was recorded."""
    deployment = server.call(server.store.get, "deployments", "seminar", "webserver")
    deployment["status"]["replicas"] = 3
    server.call(server.store.update, "deployments", deployment, subresource="status", manager="kube-controller-manager")


def third_pod(server: ApiServer) -> None:
    pod = next(pod for pod in recorded_items("list-pods-now") if pod["metadata"]["name"].endswith("-mz2cf"))
    put(server, "pods", pod)


BEFORE = {"scale-down": scale_up, "log-error-container": third_pod}


@pytest.mark.parametrize("name", [*READS, *WRITES, *ERRORS])
def test_the_lab_answers_as_a_real_api_server(server: ApiServer, name: str) -> None:
    if name in BEFORE:
        BEFORE[name](server)
    code, content_type, body, expected = ask(server, name)
    assert alike(body) == alike(expected["body"])
    assert (code, content_type) == (expected["status"], expected["content_type"].split(";")[0])


@pytest.mark.parametrize("name", sorted(DISCOVERY))
def test_discovery_lists_what_the_lab_has_as_a_real_server_does(server: ApiServer, name: str) -> None:
    code, content_type, body, expected = ask(server, name)
    real = {entry["name"]: entry for entry in expected["body"]["resources"]}
    assert [entry["name"] for entry in body["resources"]] == sorted(entry["name"] for entry in body["resources"])
    assert {entry["name"]: entry for entry in body["resources"]} == {
        entry["name"]: real[entry["name"]] for entry in body["resources"]
    }
    assert {**body, "resources": []} == {**expected["body"], "resources": []}
    assert (code, content_type) == (200, "application/json")


def test_aggregated_discovery_lists_what_the_lab_has(server: ApiServer) -> None:
    _, _, body, expected = ask(server, "discovery-aggregated-api")
    real = {entry["resource"]: entry for entry in expected["body"]["items"][0]["versions"][0]["resources"]}
    for entry in body["items"][0]["versions"][0]["resources"]:
        served = {sub["subresource"]: sub for sub in entry.pop("subresources", [])}
        theirs = {sub["subresource"]: sub for sub in real[entry["resource"]].pop("subresources", [])}
        assert served == {name: theirs[name] for name in served}
        assert entry == real[entry["resource"]]


def test_version_and_health(server: ApiServer) -> None:
    assert ask(server, "discovery-version")[2]["gitVersion"] == "v1.36.2"
    assert ask(server, "discovery-readyz")[2] == "ok"


def test_logs_with_the_recorded_words(server: ApiServer) -> None:
    pod = "webserver-59c5d794d9-rt8fr"
    first, second = RECORDED["log-tail"]["response"]["body"].splitlines(keepends=True)
    server.call(server.logs.append, "seminar", pod, "nginx", 1, "an older line\n")
    server.call(server.logs.append, "seminar", pod, "nginx", 1795357684_128091048, first)
    server.call(server.logs.append, "seminar", pod, "nginx", 1795357684_128259301, second)
    for name in ("log-tail", "log-timestamps"):
        path = RECORDED[name]["request"]["path"].replace("webserver-59c5d794d9-mz2cf", pod)
        answer = server.request("GET", path)
        assert answer.body == RECORDED[name]["response"]["body"]
        assert answer.content_type.split(";")[0] == "text/plain"
