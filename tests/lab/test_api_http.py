"""What clients see over HTTP beyond the recorded answers."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from tests.lab.apiserver import TOKEN, Answer, ApiServer, api_server

NAMESPACE = "/api/v1/namespaces/default"
CONFIG_MAPS = f"{NAMESPACE}/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server(bookmark_every=0.05) as server:
        yield server


def config_map(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


POD = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}


def make(server: ApiServer, *names: str) -> Answer:
    for name in names:
        answer = server.request("POST", CONFIG_MAPS, config_map(name))
        assert answer.status == 201, answer.body
    return answer


def deployment() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx"}]},
            },
        },
    }


def service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec},
    }


# -- who may ask what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["wrong", "", None])
def test_without_the_token_there_is_nothing_but_health_and_version(server: ApiServer, token: str | None) -> None:
    answer = server.request("GET", "/api/v1/pods", token=token)
    assert (answer.status, answer.body["reason"], answer.body["message"]) == (401, "Unauthorized", "Unauthorized")
    assert [server.request("GET", path, token=token).status for path in ("/healthz", "/livez", "/version")] == [200] * 3


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nope", 404),
        ("GET", "/apis/nope/v1", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("GET", "/api/v1/pods/name", 404),
        ("GET", "/apis/apps/v1/services", 404),
        ("GET", f"{CONFIG_MAPS}/a/status", 404),
        ("POST", f"{CONFIG_MAPS}/a", 405),
        ("POST", "/api/v1/configmaps", 405),
        ("DELETE", "/api/v1/configmaps", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("PUT", CONFIG_MAPS, 405),
        ("POST", "/version", 405),
    ],
)
def test_paths_and_verbs_that_are_not_there(server: ApiServer, method: str, path: str, code: int) -> None:
    answer = server.request(method, path, {} if method in ("POST", "PUT") else None)
    assert (answer.status, answer.body["kind"], answer.body["code"]) == (code, "Status", code)


@pytest.mark.parametrize("path", ["pods/a/attach", "pods/a/portforward", "pods/a/eviction", "services/a/proxy/index"])
def test_what_the_lab_lacks_is_said(server: ApiServer, path: str) -> None:
    answer = server.request("POST", f"{NAMESPACE}/{path}")
    resource, _, subresource = path.split("/")[:3]
    assert answer.status == 501
    assert answer.body["message"].startswith(f"the lab has no {resource}/{subresource}: ")


def test_a_body_that_is_too_large_is_refused(server: ApiServer) -> None:
    answer = server.request("POST", CONFIG_MAPS, config_map("a", data={"a": "x" * 3_200_000}))
    assert (answer.status, answer.body["message"]) == (413, "Request entity too large: limit is 3145728")


# -- writing ---------------------------------------------------------------------------------------------------------


def test_field_validation(server: ApiServer) -> None:
    body = config_map("a", dta={})
    assert server.request("POST", f"{CONFIG_MAPS}?fieldValidation=Strict&dryRun=All", body).status == 400
    warned = server.request("POST", f"{CONFIG_MAPS}?fieldValidation=Warn&dryRun=All", body)
    assert warned.headers.get_all("Warning") == ['299 - "unknown field \\"dta\\""']
    silent = server.request("POST", f"{CONFIG_MAPS}?fieldValidation=Ignore&dryRun=All", body)
    assert (silent.status, silent.headers.get_all("Warning")) == (201, None)
    assert server.request("POST", f"{CONFIG_MAPS}?dryRun=All", body).headers.get_all("Warning")
    twice = '{"metadata":{"name":"a"},"data":{},"data":{}}'
    answer = server.request("POST", f"{CONFIG_MAPS}?fieldValidation=Strict", twice)
    assert answer.body["message"].endswith('strict decoding error: duplicate field "data"')
    assert server.request("POST", f"{CONFIG_MAPS}?fieldValidation=Maybe", body).status == 422


def test_patches_are_validated_too(server: ApiServer) -> None:
    make(server, "a")
    for kind, patch in (("merge-patch", {"dta": {"x": "y"}}), ("strategic-merge-patch", {"dta": {"x": "y"}})):
        strict = f"{CONFIG_MAPS}/a?fieldValidation=Strict"
        answer = server.request("PATCH", strict, patch, content_type=f"application/{kind}+json")
        assert (answer.status, answer.body["reason"]) == (422, "Invalid")
        assert 'strict decoding error: unknown field "dta"' in answer.body["message"]
        answer = server.request("PATCH", f"{CONFIG_MAPS}/a", patch, content_type=f"application/{kind}+json")
        assert (answer.status, answer.headers["Warning"]) == (200, '299 - "unknown field \\"dta\\""')
    answer = server.request(
        "PATCH", f"{CONFIG_MAPS}/a", {"data": {"x": 1}}, content_type="application/merge-patch+json"
    )
    assert (answer.status, "cannot unmarshal number" in answer.body["message"]) == (422, True)
    answer = server.request("PATCH", f"{CONFIG_MAPS}/a", "{", content_type="application/merge-patch+json")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")


def test_a_post_needs_no_content_type(server: ApiServer) -> None:
    assert server.request("POST", CONFIG_MAPS, config_map("a"), content_type=None).status == 201


def test_names_on_url_and_in_body_have_to_agree(server: ApiServer) -> None:
    make(server, "a")
    answer = server.request("PUT", f"{CONFIG_MAPS}/a", config_map("b"))
    assert answer.body["message"] == "the name of the object (b) does not match the name on the URL (a)"
    elsewhere = config_map("c")
    elsewhere["metadata"]["namespace"] = "other"
    assert server.request("POST", CONFIG_MAPS, elsewhere).body["message"] == (
        "the namespace of the provided object does not match the namespace sent on the request"
    )
    assert server.request("PUT", f"{CONFIG_MAPS}/a", {"metadata": {}}).status == 400


def test_the_user_agent_is_the_manager_of_those_who_name_none(server: ApiServer) -> None:
    body = config_map("a", data={"k": "v"})
    made = server.request("POST", CONFIG_MAPS, body, agent="curl/8.0").body
    assert made["metadata"]["managedFields"][0]["manager"] == "curl"
    made = server.request("PUT", f"{CONFIG_MAPS}/a?fieldManager=me", config_map("a", data={"k": "w"})).body
    owners = {entry["manager"]: entry["fieldsV1"] for entry in made["metadata"]["managedFields"]}
    assert owners == {"curl": {"f:data": {}}, "me": {"f:data": {"f:k": {}}}}


def test_server_side_apply_takes_yaml_and_force_in_any_spelling(server: ApiServer) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {day: 2023-10-08}\n"
    path = f"{CONFIG_MAPS}/a?fieldManager=one"
    made = server.request("PATCH", path, text, content_type=APPLY)
    assert (made.status, made.body["data"]) == (201, {"day": "2023-10-08"})
    changed = text.replace("10-08", "10-09")
    assert server.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=two", changed, content_type=APPLY).status == 409
    for force in ("true", "True"):
        answer = server.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=two&force={force}", changed, content_type=APPLY)
        assert answer.status == 200
    needs_manager = server.request("PATCH", f"{CONFIG_MAPS}/a", text, content_type=APPLY)
    assert needs_manager.body["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    )
    broken = server.request("PATCH", path, "a: b\n- c", content_type=APPLY)
    assert (broken.status, broken.body["message"][:26]) == (400, "error decoding YAML: yaml:")


def test_apply_may_not_make_unknown_fields(server: ApiServer) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndta: {}\n"
    answer = server.request("PATCH", f"{CONFIG_MAPS}/a?fieldManager=one", text, content_type=APPLY)
    assert ".dta: field not declared in schema" in answer.body["message"]
    assert server.call(server.store.list, "configmaps") == []


def test_delete_options_come_in_the_query_or_the_body(server: ApiServer) -> None:
    made = make(server, "a", "b").body
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "another"}}
    assert server.request("DELETE", f"{CONFIG_MAPS}/b", body).status == 409
    assert server.request("DELETE", f"{CONFIG_MAPS}/b?dryRun=All").body["details"]["uid"] == made["metadata"]["uid"]
    assert server.request("DELETE", f"{CONFIG_MAPS}/b", {"propagationPolicy": "Maybe"}).status == 422
    assert server.request("DELETE", f"{CONFIG_MAPS}/b", {}).body["status"] == "Success"
    assert server.request("POST", DEPLOYMENTS, deployment()).status == 201
    held = server.request("DELETE", f"{DEPLOYMENTS}/web?propagationPolicy=Foreground").body
    assert (held["kind"], held["metadata"]["finalizers"]) == ("Deployment", ["foregroundDeletion"])


def test_delete_collection(server: ApiServer) -> None:
    make(server, "a", "b", "c")
    answer = server.request("DELETE", f"{CONFIG_MAPS}?fieldSelector=metadata.name!%3Db")
    assert [item["metadata"]["name"] for item in answer.body["items"]] == ["a", "c"]
    assert [obj["metadata"]["name"] for obj in server.call(server.store.list, "configmaps")] == ["b"]


def test_a_dry_run_through_every_verb_stores_nothing(server: ApiServer) -> None:
    make(server, "a")
    before = server.store.revision
    applied = config_map("z")
    for method, path, body, kind in (
        ("POST", f"{CONFIG_MAPS}?dryRun=All", config_map("b"), "application/json"),
        ("PUT", f"{CONFIG_MAPS}/a?dryRun=All", config_map("a", data={"x": "y"}), "application/json"),
        ("PATCH", f"{CONFIG_MAPS}/a?dryRun=All", {"data": {"x": "y"}}, "application/merge-patch+json"),
        ("PATCH", f"{CONFIG_MAPS}/z?dryRun=All&fieldManager=me", applied, APPLY),
        ("DELETE", f"{CONFIG_MAPS}/a?dryRun=All", None, None),
        ("DELETE", f"{CONFIG_MAPS}?dryRun=All", None, None),
    ):
        assert server.request(method, path, body, content_type=kind).status in (200, 201)
    assert server.store.revision == before
    assert server.request("POST", f"{CONFIG_MAPS}?dryRun=Some", config_map("b")).status == 422


# -- reading ---------------------------------------------------------------------------------------------------------


def test_lists_in_parts_are_of_one_moment(server: ApiServer) -> None:
    make(server, *"abcde")
    first = server.request("GET", f"{CONFIG_MAPS}?limit=2").body
    assert first["metadata"]["remainingItemCount"] == 3
    make(server, "aa")
    server.request("DELETE", f"{CONFIG_MAPS}/e")
    token = first["metadata"]["continue"]
    second = server.request("GET", f"{CONFIG_MAPS}?limit=2&continue={token}").body
    third = server.request("GET", f"{CONFIG_MAPS}?continue={second['metadata']['continue']}").body
    assert "continue" not in third["metadata"]
    assert [item["metadata"]["name"] for part in (first, second, third) for item in part["items"]] == list("abcde")
    assert {part["metadata"]["resourceVersion"] for part in (first, second, third)} == {
        first["metadata"]["resourceVersion"]
    }
    assert server.request("GET", f"{CONFIG_MAPS}?continue=nonsense").status == 400
    assert server.request("GET", f"/api/v1/services?continue={token}").status == 400
    for _ in range(40):
        server.request("GET", f"{CONFIG_MAPS}?limit=1")
    expired = server.request("GET", f"{CONFIG_MAPS}?continue={token}")
    assert (expired.status, expired.body["reason"]) == (410, "Expired")


def test_resource_versions_of_reads(server: ApiServer) -> None:
    make(server, "a")
    assert server.request("GET", f"{CONFIG_MAPS}?resourceVersion=0").status == 200
    future = server.request("GET", f"{CONFIG_MAPS}?resourceVersion=999999")
    assert (future.status, future.body["reason"]) == (504, "Timeout")
    assert server.request("GET", f"{CONFIG_MAPS}?resourceVersion=x").status == 400
    assert server.request("GET", f"{CONFIG_MAPS}?resourceVersion=1&resourceVersionMatch=Exact").status == 410
    assert server.request("GET", f"{CONFIG_MAPS}?resourceVersionMatch=Exact").status == 422


def test_forms_of_an_answer(server: ApiServer) -> None:
    make(server, "a")
    partial = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"
    assert server.request("GET", f"{CONFIG_MAPS}/a", accept=partial.format("")).body["kind"] == "PartialObjectMetadata"
    listed = server.request("GET", CONFIG_MAPS, accept=partial.format("List")).body
    assert (listed["kind"], listed["items"][0]["kind"]) == ("PartialObjectMetadataList", "PartialObjectMetadata")
    table = server.request("GET", f"{CONFIG_MAPS}/a?includeObject=Object", accept=TABLE).body
    assert (table["kind"], table["rows"][0]["object"]["kind"]) == ("Table", "ConfigMap")
    assert server.request("GET", f"{CONFIG_MAPS}/a", accept="application/yaml").body.startswith("kind: ConfigMap\n")
    assert server.request("GET", f"{CONFIG_MAPS}/a", accept="text/html").status == 406
    assert b"\n  " in raw(server, f"{CONFIG_MAPS}/a?pretty=true")
    assert b"\n  " not in raw(server, f"{CONFIG_MAPS}/a")


def raw(server: ApiServer, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
    data = connection.getresponse().read()
    connection.close()
    return data


def test_endpoints_come_with_a_warning(server: ApiServer) -> None:
    answer = server.request("GET", "/api/v1/endpoints")
    assert answer.headers["Warning"].startswith('299 - "v1 Endpoints is deprecated')


def test_everything_that_goes_out_is_valid(server: ApiServer) -> None:
    made = [
        make(server, "a").body,
        server.request("POST", DEPLOYMENTS, deployment()).body,
        server.request("POST", f"{NAMESPACE}/services", service(type="LoadBalancer")).body,
        server.request("GET", "/api/v1/namespaces/default").body,
        server.request("GET", f"{DEPLOYMENTS}/web/scale").body,
        server.request("POST", f"{NAMESPACE}/pods", POD).body,
        server.request("POST", "/api/v1/nodes", {"metadata": {"name": "n"}}).body,
        server.request("DELETE", f"{NAMESPACE}/services/web").body,
    ]
    for obj in made:
        kubernetes_validate.validate(obj, "1.36", strict=True)
    assert {obj["kind"] for obj in made} >= {"ConfigMap", "Deployment", "Service", "Namespace", "Scale", "Pod", "Node"}


# -- logs ------------------------------------------------------------------------------------------------------------


def running_pod(server: ApiServer) -> None:
    server.call(server.store.create, "pods", POD)
    pod = server.call(server.store.bind, "default", "p", "worker01")
    pod["status"]["containerStatuses"] = [
        {
            "name": "c",
            "state": {"running": {"startedAt": "2026-11-22T14:26:59Z"}},
            "ready": True,
            "restartCount": 0,
            "image": "nginx",
            "imageID": "x",
        }
    ]
    server.call(server.store.update, "pods", pod, subresource="status")


def test_logs_are_read_and_followed(server: ApiServer) -> None:
    running_pod(server)
    path = f"{NAMESPACE}/pods/p/log"
    server.call(server.logs.append, "default", "p", "c", time.time_ns(), "one\ntwo\n")
    assert server.request("GET", path).body == "one\ntwo\n"
    assert server.request("GET", f"{path}?tailLines=1&limitBytes=2").body == "tw"
    assert server.request("GET", f"{path}?sinceTime=2100-01-01T00:00:00Z").body == ""
    assert server.request("GET", f"{path}?sinceSeconds=60").body == "one\ntwo\n"

    def more() -> None:
        server.logs.append("default", "p", "c", time.time_ns(), "three\n")
        server.logs.finish("default", "p", "c")

    server.loop.call_soon_threadsafe(server.loop.call_later, 0.05, more)
    assert server.request("GET", f"{path}?follow=true&tailLines=1").body == "two\nthree\n"
    server.logs.restart("default", "p", "c")


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=1&sinceTime=2100-01-01T00:00:00Z", 422, "at most one of `sinceTime` or `sinceSeconds`"),
        ("sinceTime=today", 400, 'parsing time "today"'),
        ("previous=true", 400, 'previous terminated container "c" in pod "p" not found'),
        ("stream=Stdout", 422, "stream: Unsupported value"),
    ],
)
def test_log_options_that_make_no_sense(server: ApiServer, query: str, code: int, words: str) -> None:
    running_pod(server)
    answer = server.request("GET", f"{NAMESPACE}/pods/p/log?{query}")
    assert (answer.status, words in answer.body["message"]) == (code, True), answer.body


def test_a_hundred_streams_at_once(server: ApiServer) -> None:
    """A hundred clients follow; one change reaches them all; none hinders an ordinary request."""
    make(server, "a")
    count, connections = 100, []
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request(
            "GET", f"{CONFIG_MAPS}?watch=1&timeoutSeconds=60", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        connections.append((connection, connection.getresponse()))
    for _, response in connections:
        assert json.loads(response.readline())["type"] == "ADDED"
    make(server, "b")
    for _, response in connections:
        assert json.loads(response.readline())["object"]["metadata"]["name"] == "b"
    assert threading.active_count() < 20
    for connection, _ in connections:
        connection.close()
