"""The contract that any API server keeps: what a real v1.36.2 answered, and what the course needs beyond it.

The same tests run against the lab, and against the cluster of SRCIP_TEST_KUBECONFIG where that is set: the seed's
manifests are applied in a namespace of its own, its pods run, then the recorded requests are asked in their order.
Short answers (errors, patches, dry runs, server-side apply) have to be equal but for what differs from run to run; of
objects that controllers and kubelets fill, every recorded field has to be there and of its type: a server may say more.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.contract import Api, missing, ready_pods, shape

# The certificate of a test cluster may be nobody's.
pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

DATA = Path(__file__).parent / "data" / "api"
RECORDED = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}
THIRD_POD = "webserver-59c5d794d9-mz2cf"

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
    "generation": 1,
    "annotations": {},
    "loadBalancer": {},
}
EQUAL_IN_ALL = {"apply-create", "apply-conflict", "apply-force", "create-dryrun"}  # managedFields too
PATCHES = ["patch-strategic-local", "patch-merge-cluster", "patch-json-local", "list-for-watch", "patch-back"]
EQUAL = [
    *(name for name in RECORDED if name.startswith("error-")),
    "delete-service-missing",
    "log-error-pod",
    *sorted(EQUAL_IN_ALL, key=["apply-create", "apply-conflict", "apply-force", "create-dryrun"].index),
    "delete-configmap",
    *PATCHES,
]
TABLES = [name for name in RECORDED if name.startswith("table-")]
SHAPES = [
    *(name for name in RECORDED if name.startswith("list-") and name not in PATCHES),
    "get-deployment",
    "get-service",
    "field-selector",
    "scale-get",
    "scale-patch",
    "scale-down",
]
DISCOVERY = [name for name in RECORDED if name.startswith("discovery-")]
WATCHES = [name for name in RECORDED if name.startswith("watch-")]
OTHERS = ["log-tail", "log-timestamps", "log-error-container"]
# What belongs to one network, one machine or one moment, not to the API.
NOT_OF_THE_API = re.compile(
    r"\.metadata\.(annotations|labels|deletion\w+)|\.items\[\]\.data\.|\.managedFields"
    r"|\.status\.(allocatable|capacity|images|declaredFeatures)"
)


def test_every_recorded_exchange_is_in_the_suite():
    assert sorted([*EQUAL, *TABLES, *SHAPES, *DISCOVERY, *WATCHES, *OTHERS]) == sorted(RECORDED)
    assert len(RECORDED) == 68


def words(api: Api) -> dict[str, str]:
    """Names that the recording has for those that are there now."""
    return {THIRD_POD: ready_pods(api)[0]["metadata"]["name"]}


def alike(value: Any, key: str = "", *, owners: bool = True) -> Any:
    """The value with everything that differs from run to run replaced."""
    if key in VOLATILE and value is not None:
        return VOLATILE[key]
    if isinstance(value, dict):
        ours = {"app.kubernetes.io/managed-by", "kubernetes.io/metadata.name"}
        return {
            name: alike(item, name, owners=owners)
            for name, item in value.items()
            if (owners or name != "managedFields") and name not in ours and (owners or name != "annotations")
        }
    if isinstance(value, list):
        return [alike(item, owners=owners) for item in value]
    return value


@pytest.mark.parametrize("name", EQUAL)
def test_short_answers_are_equal(api: Api, name: str) -> None:
    expected = RECORDED[name]["response"]
    answer = api.ask_recorded(RECORDED[name]["request"], words(api))
    owners = name in EQUAL_IN_ALL
    found = alike(answer.body, owners=owners)
    assert found == alike(expected["body"], owners=owners)
    assert (answer.status, answer.content_type) == (expected["status"], expected["content_type"].split(";")[0])


@pytest.mark.parametrize("name", SHAPES)
def test_objects_have_every_recorded_field(api: Api, name: str) -> None:
    expected = RECORDED[name]["response"]
    answer = api.ask_recorded(RECORDED[name]["request"], words(api))
    gone = missing(shape(expected["body"]), shape(answer.body))
    assert [line for line in gone if not NOT_OF_THE_API.search(line)] == []
    assert (answer.status, answer.content_type) == (expected["status"], expected["content_type"].split(";")[0])


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_recorded_columns_and_kinds_of_cells(api: Api, name: str) -> None:
    expected = RECORDED[name]["response"]["body"]
    answer = api.ask_recorded(RECORDED[name]["request"], words(api))
    assert answer.status == 200
    assert answer.body["columnDefinitions"] == expected["columnDefinitions"]
    assert {**answer.body, "metadata": 0, "rows": 0} == {**expected, "metadata": 0, "rows": 0}
    assert answer.body["rows"]
    for row in answer.body["rows"]:
        assert [type(cell) for cell in row["cells"]] == [type(cell) for cell in expected["rows"][0]["cells"]]
        assert row["object"]["kind"] == "PartialObjectMetadata"


@pytest.mark.parametrize("name", DISCOVERY)
def test_discovery_says_what_the_recorded_server_said(api: Api, name: str) -> None:
    """Of each resource that is served, the same; which resources beside those of the course is a server's choice."""
    expected = RECORDED[name]["response"]["body"]
    answer = api.ask_recorded(RECORDED[name]["request"], {})
    assert answer.status == 200
    if name == "discovery-readyz":
        assert answer.body == "ok"
    elif name == "discovery-version":
        assert missing(shape(expected), shape(answer.body)) == []
    elif "resources" in expected:
        real = {entry["name"]: entry for entry in expected["resources"]}
        assert [entry for entry in answer.body["resources"] if entry != real.get(entry["name"], entry)] == []
        assert {**answer.body, "resources": []} == {**expected, "resources": []}
    else:
        assert missing(shape({**expected, "groups": []}), shape({**answer.body, "groups": []})) == []


@pytest.mark.parametrize("name", WATCHES)
def test_watches_are_frames_of_the_recorded_kinds(api: Api, name: str) -> None:
    expected = RECORDED[name]["response"]
    answer = api.ask_recorded(RECORDED[name]["request"], {})
    assert answer.status == expected["status"]
    kinds, recorded = kinds_of(answer.body), kinds_of(expected["body"])
    is_history_long_gone = ("ERROR", "Status") in kinds
    if name == "watch-expired":
        assert is_history_long_gone or kinds <= {("ADDED", "Service"), ("MODIFIED", "Service")}
    elif name == "watch-initial":
        assert kinds <= {("ADDED", "Service")}
    else:  # the recorded server's etcd could not tell how far it was, so it refused what others do
        assert kinds in (recorded, {("ADDED", "Service"), ("BOOKMARK", "Service")})


def kinds_of(body: Any) -> set[tuple[str, str]]:
    """Of a watch's events, which type and which kind of object."""
    events = [body] if isinstance(body, dict) else map(json.loads, body.splitlines())
    return {(event["type"], event["object"]["kind"]) for event in events}


def test_logs_have_the_recorded_form(api: Api) -> None:
    names = words(api)
    tail = api.ask_recorded(RECORDED["log-tail"]["request"], names)
    stamped = api.ask_recorded(RECORDED["log-timestamps"]["request"], names)
    assert (tail.status, tail.content_type) == (200, "text/plain")
    assert len(tail.body.splitlines()) == 2
    time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z ")
    assert [time.sub("", line, count=1) for line in stamped.body.splitlines()] == tail.body.splitlines()
    assert all(time.match(line) for line in stamped.body.splitlines())


def test_the_log_of_no_such_container(api: Api) -> None:
    expected = RECORDED["log-error-container"]["response"]
    answer = api.ask_recorded(RECORDED["log-error-container"]["request"], words(api))
    assert (answer.status, answer.body) == (expected["status"], expected["body"])
