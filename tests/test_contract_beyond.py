"""What the course needs of an API beyond the recorded exchanges: the same tests for the lab and for a cluster."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.contract import Api, ready_pods

# The certificate of a test cluster may be nobody's.
pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def config_map(name: str, data: dict[str, str] | None = None, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": data or {}}


def names(answer: Any) -> list[str]:
    return [item["metadata"]["name"] for item in answer.body["items"]]


def test_a_watch_goes_on_from_a_version(api: Api) -> None:
    path = f"{api.path}/configmaps"
    version = api.ask("GET", path).body["metadata"]["resourceVersion"]
    api.make(path, config_map("watched", {"a": "1"}))
    api.ask("PATCH", f"{path}/watched", {"data": {"a": "2"}}, content_type=MERGE)
    api.ask("DELETE", f"{path}/watched")
    events = api.watch(path, version)
    mine = [event for event in events if event["object"]["metadata"]["name"] == "watched"]
    assert [(event["type"], event["object"]["data"]["a"]) for event in mine] == [
        ("ADDED", "1"),
        ("MODIFIED", "2"),
        ("DELETED", "2"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in mine]
    assert int(version) < versions[0] < versions[1] < versions[2]
    since = [event["type"] for event in api.watch(path, str(versions[0])) if event in mine]
    assert since == ["MODIFIED", "DELETED"]


def test_a_watch_by_label_tells_what_leaves_the_selection(api: Api) -> None:
    path = f"{api.path}/configmaps"
    made = api.make(path, config_map("leaving", kind="red"))
    api.ask("PATCH", f"{path}/leaving", {"metadata": {"labels": {"kind": "blue"}}}, content_type=MERGE)
    version = made["metadata"]["resourceVersion"]
    text = api.ask("GET", f"{path}?watch=1&labelSelector=kind%3Dred&resourceVersion={version}&timeoutSeconds=1").body
    assert [json.loads(line)["type"] for line in text.splitlines()] == ["DELETED"]


def test_a_version_of_the_future_is_refused(api: Api) -> None:
    answer = api.ask("GET", f"{api.path}/configmaps?resourceVersion=999999999&resourceVersionMatch=Exact")
    assert answer.status in (400, 410, 504)
    assert answer.body["kind"] == "Status"


def test_lists_in_pages(api: Api) -> None:
    path = f"{api.path}/configmaps?labelSelector=page%3Dyes&limit=2"
    for number in range(5):
        api.make(f"{api.path}/configmaps", config_map(f"page-{number}", page="yes"))
    found, pages, more = [], 0, ""
    while pages == 0 or more:
        answer = api.ask("GET", path + (f"&continue={quote(more)}" if more else ""))
        assert len(answer.body["items"]) <= 2
        found += names(answer)
        more, pages = answer.body["metadata"].get("continue", ""), pages + 1
    assert (found, pages) == ([f"page-{number}" for number in range(5)], 3)
    assert api.ask("GET", f"{path}&continue=bogus").status == 400


def test_names_are_generated(api: Api) -> None:
    made = api.make(f"{api.path}/configmaps", {"metadata": {"generateName": "made-"}})
    assert re.fullmatch(r"made-[a-z0-9]{5}", made["metadata"]["name"])
    assert made["metadata"]["generateName"] == "made-"


def test_dry_runs_change_nothing(api: Api) -> None:
    path = f"{api.path}/configmaps"
    api.make(path, config_map("dry", {"a": "1"}))
    patched = api.ask("PATCH", f"{path}/dry?dryRun=All", {"data": {"a": "2"}}, content_type=MERGE)
    deleted = api.ask("DELETE", f"{path}/dry?dryRun=All")
    assert (patched.status, patched.body["data"], deleted.status) == (200, {"a": "2"}, 200)
    assert api.ask("GET", f"{path}/dry").body["data"] == {"a": "1"}
    refused = api.ask("POST", f"{path}?dryRun=perhaps", config_map("x"))
    assert refused.status == 422
    assert refused.body["message"] == (
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["perhaps"]: supported values: "All"'
    )


def test_the_status_is_another_resource(api: Api) -> None:
    path = f"{api.path}/services"
    api.make(path, {"metadata": {"name": "plain"}, "spec": {"ports": [{"port": 80}]}})
    ingress = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}
    api.ask("PATCH", f"{path}/plain", {"status": ingress}, content_type=MERGE)
    assert api.ask("GET", f"{path}/plain").body["status"] == {"loadBalancer": {}}
    both = {"spec": {"sessionAffinity": "ClientIP"}, "status": {"conditions": [condition("True")]}}
    answer = api.ask("PATCH", f"{path}/plain/status", both, content_type=MERGE)
    assert answer.status == 200
    assert answer.body["spec"]["sessionAffinity"] == "None"
    assert answer.body["status"]["conditions"][0]["status"] == "True"


def condition(status: str) -> dict[str, str]:
    return {
        "type": "Test",
        "status": status,
        "reason": "Asked",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def test_a_collection_is_deleted_by_label(api: Api) -> None:
    path = f"{api.path}/configmaps"
    for number in range(3):
        api.make(path, config_map(f"red-{number}", color="red"))
    api.make(path, config_map("green", color="green"))
    assert api.ask("DELETE", f"{path}?labelSelector=color%3Dred").status == 200
    assert names(api.ask("GET", f"{path}?labelSelector=color")) == ["green"]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("tier in (a,b)", ["sel-a", "sel-b"]),
        ("tier notin (a,b),set=yes", ["sel-c"]),
        ("set=yes,tier!=a", ["sel-b", "sel-c"]),
        ("set,!tier", []),
    ],
)
def test_label_selectors(api: Api, selector: str, found: list[str]) -> None:
    for tier in "abc":
        api.ask("POST", f"{api.path}/configmaps", config_map(f"sel-{tier}", tier=tier, set="yes"))
    assert names(api.ask("GET", f"{api.path}/configmaps?labelSelector={quote(selector)}")) == found


def test_a_broken_label_selector_is_refused(api: Api) -> None:
    answer = api.ask("GET", f"{api.path}/configmaps?labelSelector={quote('a in b')}")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")


def test_field_selectors(api: Api) -> None:
    pod = ready_pods(api)[0]
    for fields in (
        f"metadata.name={pod['metadata']['name']}",
        f"spec.nodeName={pod['spec']['nodeName']}",
        "status.phase=Running",
        "status.phase!=Pending",
    ):
        assert pod["metadata"]["name"] in names(api.ask("GET", f"{api.path}/pods?fieldSelector={quote(fields)}"))
    assert names(api.ask("GET", f"{api.path}/pods?fieldSelector=status.phase%3DFailed")) == []
    involved = f"involvedObject.name={pod['metadata']['name']}"
    events = api.ask("GET", f"{api.path}/events?fieldSelector={quote(involved)}").body["items"]
    assert {event["reason"] for event in events} >= {"Scheduled", "Started"}


def test_a_stale_version_is_a_conflict(api: Api) -> None:
    path = f"{api.path}/configmaps"
    made = api.make(path, config_map("stale"))
    api.ask("PATCH", f"{path}/stale", {"data": {"a": "1"}}, content_type=MERGE)
    answer = api.ask("PUT", f"{path}/stale", made)
    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in answer.body["message"]
    other = {"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}}
    refused = api.ask("DELETE", f"{path}/stale", other)
    assert (refused.status, refused.body["reason"]) == (409, "Conflict")


def test_patches_by_their_kind(api: Api) -> None:
    path = f"{api.path}/configmaps"
    api.make(path, config_map("patched", {"a": "1", "b": "2"}))
    gone = api.ask("PATCH", f"{path}/patched", {"data": {"a": None}}, content_type=MERGE)
    assert gone.body["data"] == {"b": "2"}
    test = [{"op": "test", "path": "/data/b", "value": "3"}, {"op": "remove", "path": "/data/b"}]
    refused = api.ask("PATCH", f"{path}/patched", test, content_type=JSON_PATCH)
    assert (refused.status, refused.body["reason"]) == (422, "Invalid")
    env = {"name": "nginx", "env": [{"name": "A", "value": "1"}]}
    by_name = {"spec": {"template": {"spec": {"containers": [env]}}}}
    merged = api.ask("PATCH", f"{api.apps}/deployments/webserver?dryRun=All", by_name, content_type=STRATEGIC)
    container = merged.body["spec"]["template"]["spec"]["containers"][0]
    assert (container["env"], container["image"]) == (env["env"], "nginx:latest")


@pytest.mark.parametrize(
    ("path", "patch", "field"),
    [
        ("services/webserver", {"spec": {"clusterIP": "10.1.2.3"}}, "spec.clusterIPs[0]"),
        ("deployments/webserver", {"spec": {"selector": {"matchLabels": {"app": "x"}}}}, "spec.selector"),
    ],
)
def test_what_cannot_be_changed(api: Api, path: str, patch: dict[str, Any], field: str) -> None:
    base = api.apps if path.startswith("deployments") else api.path
    answer = api.ask("PATCH", f"{base}/{path}", patch, content_type=MERGE)
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert field in [cause["field"] for cause in answer.body["details"]["causes"]]


def test_server_side_apply_owns_field_by_field(api: Api) -> None:
    path = f"{api.path}/configmaps/owned"

    def apply(manager: str, data: dict[str, str], force: str = "") -> Any:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned"}, "data": data}
        return api.ask("PATCH", f"{path}?fieldManager={manager}{force}", body, content_type=APPLY)

    assert apply("one", {"a": "1", "b": "1"}).status == 201
    assert apply("two", {"c": "2"}).body["data"] == {"a": "1", "b": "1", "c": "2"}
    conflict = apply("two", {"a": "2", "c": "2"})
    assert (conflict.status, conflict.body["details"]["causes"][0]["field"]) == (409, ".data.a")
    assert apply("two", {"a": "2", "c": "2"}, "&force=true").body["data"] == {"a": "2", "b": "1", "c": "2"}
    assert apply("one", {}).body["data"] == {"a": "2", "c": "2"}  # what one alone owned goes, what two has stays


def test_logs_from_a_time_in_lines_and_bytes(api: Api) -> None:
    path = f"{api.path}/pods/{ready_pods(api)[0]['metadata']['name']}/log"
    whole = api.ask("GET", f"{path}?timestamps=true").body.splitlines(keepends=True)
    assert len(whole) > 3
    times = [datetime.fromisoformat(line[:19] + "+00:00") for line in whole]
    assert times == sorted(times)
    later = times[-1] + timedelta(seconds=2)
    since = api.ask("GET", f"{path}?timestamps=true&sinceTime={quote(times[-1].isoformat().replace('+00:00', 'Z'))}")
    assert since.body == "".join(line for line, time in zip(whole, times, strict=True) if time >= times[-1])
    assert api.ask("GET", f"{path}?sinceTime={quote(later.isoformat().replace('+00:00', 'Z'))}").body == ""
    assert api.ask("GET", f"{path}?tailLines=1&timestamps=true").body == whole[-1]
    assert api.ask("GET", f"{path}?tailLines=0").body == ""
    assert api.ask("GET", f"{path}?limitBytes=10").body == api.ask("GET", path).body[:10]


@pytest.mark.parametrize("query", ["tailLines=-1", "limitBytes=0", "sinceSeconds=0", "sinceSeconds=1&sinceTime=x"])
def test_wrong_questions_for_logs(api: Api, query: str) -> None:
    path = f"{api.path}/pods/{ready_pods(api)[0]['metadata']['name']}/log?{query}"
    assert api.ask("GET", path).status in (400, 422)


def test_the_log_before_a_first_start(api: Api) -> None:
    name = ready_pods(api)[0]["metadata"]["name"]
    answer = api.ask("GET", f"{api.path}/pods/{name}/log?previous=true")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert answer.body["message"] == f'previous terminated container "nginx" in pod "{name}" not found'


def test_exec_over_a_websocket(api: Api) -> None:
    from kubernetes.client import CoreV1Api
    from kubernetes.stream import stream

    name = ready_pods(api)[0]["metadata"]["name"]
    said = stream(
        CoreV1Api(api.client).connect_get_namespaced_pod_exec,
        name,
        api.namespace,
        command=["sh", "-c", "echo out; echo err >&2; exit 3"],
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    said.run_forever(timeout=20)
    said.sock.shutdown()  # close() leaves the socket open once the server has ended it
    assert (said.read_stdout(), said.read_stderr(), said.returncode) == ("out\n", "err\n", 3)


def test_the_scale_is_another_resource(api: Api) -> None:
    path = f"{api.apps}/deployments/webserver/scale"
    scale = api.ask("GET", path).body
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["status"]["selector"] == "app=webserver"
    scale["spec"]["replicas"] = 3
    assert api.ask("PUT", path, scale).body["spec"]["replicas"] == 3
    api.until(lambda: len(ready_pods(api)) == 3)
    assert api.ask("PATCH", path, {"spec": {"replicas": 2}}, content_type=MERGE).status == 200
    api.until(lambda: len(ready_pods(api)) == 2)


def test_who_may_do_what(api: Api) -> None:
    body = {"spec": {"resourceAttributes": {"namespace": api.namespace, "verb": "list", "resource": "pods"}}}
    answer = api.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    assert (answer.status, answer.body["status"]["allowed"]) == (201, True)


def test_credentials_that_are_wrong(api: Api) -> None:
    configuration = api.client.configuration
    response = api.client.rest_client.pool_manager.request(
        "GET", f"{configuration.host}/api", headers={"Authorization": "Bearer wrong"}, retries=False
    )
    assert (response.status, json.loads(response.data)["reason"]) == (401, "Unauthorized")


def test_what_owned_goes_with_its_owner(api: Api) -> None:
    template = {
        "metadata": {"labels": {"app": "short"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "nginx", "image": "nginx:latest", "imagePullPolicy": "IfNotPresent"}],
        },
    }
    body = {
        "metadata": {"name": "short"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "short"}}, "template": template},
    }
    api.make(f"{api.apps}/deployments", body)
    pods = f"{api.path}/pods?labelSelector=app%3Dshort"
    [pod] = api.until(lambda: api.ask("GET", pods).body["items"])
    owner = pod["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("ReplicaSet", True, True)
    api.ask("DELETE", f"{api.apps}/deployments/short", {"propagationPolicy": "Background"})
    api.until(lambda: not api.ask("GET", pods).body["items"])
    api.until(lambda: not api.ask("GET", f"{api.apps}/replicasets?labelSelector=app%3Dshort").body["items"])


def test_a_namespace_ends_with_all_that_is_in_it(api: Api) -> None:
    name = f"{api.namespace}-2"
    made = api.make("/api/v1/namespaces", {"metadata": {"name": name}})
    assert made["spec"]["finalizers"] == ["kubernetes"]
    api.make(f"/api/v1/namespaces/{name}/configmaps", config_map("inside"))
    deleted = api.ask("DELETE", f"/api/v1/namespaces/{name}")
    assert deleted.status == 200
    api.until(lambda: api.ask("GET", f"/api/v1/namespaces/{name}").status == 404)
    refused = api.ask("POST", f"/api/v1/namespaces/{name}/configmaps", config_map("late"))
    assert (refused.status, refused.body["reason"]) == (404, "NotFound")


def test_finalizers_hold_an_object(api: Api) -> None:
    path = f"{api.path}/configmaps"
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    api.make(path, held)
    api.ask("DELETE", f"{path}/held")
    assert api.ask("GET", f"{path}/held").body["metadata"]["deletionTimestamp"]
    api.ask("PATCH", f"{path}/held", {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert api.ask("GET", f"{path}/held").status == 404
