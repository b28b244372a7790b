from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from srcip_nb.lab.api import watching
from srcip_nb.lab.api.store import Store
from tests.lab.apiserver import TOKEN, ApiServer, api_server

PATH = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    store = Store(history=5)
    with api_server(store, bookmark_every=0.05) as server:
        make(server, "a")
        yield server


def make(server: ApiServer, name: str) -> dict[str, Any]:
    return server.call(server.store.create, "configmaps", {"metadata": {"name": name, "namespace": "default"}})


def events(
    server: ApiServer, query: str, count: int, accept: str = "application/json", path: str = PATH
) -> list[tuple[str, Any]]:
    """The first events of a watch; then the client leaves."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept}
    connection.request("GET", f"{path}?watch=1&allowWatchBookmarks=true&{query}", headers=headers)
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    seen = [json.loads(response.readline()) for _ in range(count)]
    response.close()
    connection.close()
    return [(event["type"], event["object"]) for event in seen]


def test_without_a_version_what_is_there_comes_first(server: ApiServer) -> None:
    (kind, obj), (then, _) = events(server, "", 2)
    assert (kind, obj["kind"], obj["apiVersion"], obj["metadata"]["name"]) == ("ADDED", "ConfigMap", "v1", "a")
    assert then == "BOOKMARK"
    assert events(server, f"resourceVersion={server.store.revision}", 1)[0][0] == "BOOKMARK"


def test_the_time_of_a_watch_runs_out(server: ApiServer) -> None:
    answer = server.request("GET", f"{PATH}?watch=1&timeoutSeconds=1&resourceVersion={server.store.revision}")
    assert (answer.status, answer.body) == (200, "")


def test_one_object_can_be_watched_by_its_own_path(server: ApiServer) -> None:
    make(server, "b")
    seen = events(server, "", 2, path=f"{PATH}/b")
    assert [obj["metadata"].get("name") for _, obj in seen] == ["b", None]


def test_bookmarks_come_to_those_who_allow_them(server: ApiServer) -> None:
    bookmark = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": str(server.store.revision)}}
    seen = events(server, f"resourceVersion={server.store.revision}", 2)
    assert seen == [("BOOKMARK", bookmark), ("BOOKMARK", bookmark)]


def test_initial_events_end_with_a_bookmark_that_says_so(server: ApiServer) -> None:
    (first, _), (second, bookmark) = events(server, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan", 2)
    assert (first, second) == ("ADDED", "BOOKMARK")
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    ((kind, without),) = events(server, "sendInitialEvents=false&resourceVersionMatch=NotOlderThan", 1)
    assert (kind, "annotations" in without["metadata"]) == ("BOOKMARK", False)


@pytest.mark.parametrize(
    "query",
    ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan", "resourceVersion=x", "fieldSelector=data.a%3Db"],
)
def test_options_that_do_not_go_together_are_refused_before_the_stream(server: ApiServer, query: str) -> None:
    assert server.request("GET", f"{PATH}?watch=1&{query}").status in (400, 422)


def test_a_version_too_long_ago_is_an_error_event(server: ApiServer) -> None:
    for name in "bcdefgh":
        make(server, name)
    ((kind, status),) = events(server, "resourceVersion=1", 1)
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
    assert status["message"].startswith("too old resource version: 1 (")


def test_tables_are_watched_too_with_their_columns_once(server: ApiServer) -> None:
    make(server, "b")
    (kind, first), (_, second) = events(server, "", 2, TABLE)
    assert (kind, first["kind"], [column["name"] for column in first["columnDefinitions"]]) == (
        "ADDED",
        "Table",
        ["Name", "Data", "Age"],
    )
    assert first["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert (second["columnDefinitions"], second["rows"][0]["cells"][0]) == (None, "b")


def test_a_client_that_leaves_is_noticed(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CHECK_EVERY", 0.01)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", f"{PATH}?watch=1", headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    assert json.loads(response.readline())["type"] == "ADDED"
    assert len(server.store._watches["configmaps"]) == 1
    response.close()
    connection.close()
    deadline = time.monotonic() + 5
    while server.store._watches["configmaps"] and time.monotonic() < deadline:
        server.call(lambda: None)
    assert not server.store._watches["configmaps"]


def test_open_watches_do_not_hold_up_the_end() -> None:
    with api_server() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", f"{PATH}?watch=1", headers={"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        started = time.monotonic()
    assert time.monotonic() - started < 10, "it waited for the watch"
    response.close()
    connection.close()
