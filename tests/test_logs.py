"""logs(): the logs of many pods as one table, against an API over real HTTP."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from srcip_nb.cluster import Cluster
from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.logs import logs
from srcip_nb.logs_query import containers_of, selector_text
from srcip_nb.rest import ApiAnswerError, Rest, World, load_kubernetes
from tests.logs_fake import START, FakeApi

ACCESS = b'10.0.5.0 - - [14/Nov/2023:22:13:20 +0000] "GET /?run=0123abcd&request=%d HTTP/1.1" 200 2 "-" "%s" "-"'


def cluster_of(api: FakeApi, ca: str | None = None) -> Cluster:
    load_kubernetes()
    from kubernetes.client import Configuration

    configuration = Configuration()
    configuration.host = api.url
    configuration.ssl_ca_cert = ca
    if api.token:
        configuration.api_key = {"authorization": f"Bearer {api.token}"}
    return Cluster(Rest(configuration, World("context", "fake")))


@pytest.fixture
def api():
    with FakeApi() as running:
        running.add_pod("webserver-1", node="worker01")
        running.add_pod("webserver-2", node="worker02")
        running.add_pod("other-1", app="other")
        yield running


@pytest.fixture
def cluster(api):
    return cluster_of(api)


def test_lines_of_all_pods_in_the_order_of_time(api, cluster):
    for number in range(6):
        api.write(f"webserver-{1 + number % 2}", ACCESS % (number, b"curl"))
    api.write("other-1", ACCESS % (99, b"curl"))
    frame = logs(cluster)
    assert frame["request"].tolist() == [0, 1, 2, 3, 4, 5]
    assert frame["pod"].tolist() == ["webserver-1", "webserver-2"] * 3
    assert frame["node"].tolist() == ["worker01", "worker02"] * 3
    assert frame["line"].tolist() == [1, 1, 2, 2, 3, 3]
    assert frame["time_logged"].astype("int64").tolist() == [START * 10**9 + n * 10**6 for n in range(1, 7)]
    assert list(frame.columns[:9]) == [
        *("time_logged", "pod", "node", "namespace", "container", "restarts", "probe", "line", "kind"),
    ]
    assert [str(kind) for kind in frame.dtypes.iloc[:7]] == ["datetime64[ns, UTC]", *["category"] * 4, "int64", "bool"]


def test_the_bytes_are_the_logs_own(api, cluster):
    lines = [b'{"a": "b"}', b"b'quoted'", "あ".encode(), b"\xff", b"", b"None"]
    for line in lines:
        api.write("webserver-1", line)
    assert logs(cluster, "pod/webserver-1")["raw"].tolist() == ['{"a": "b"}', "b'quoted'", "あ", r"\xFF", "", "None"]


def test_probes_of_the_kubelet_are_marked(api, cluster):
    api.write("webserver-1", ACCESS % (1, b"kube-probe/1.36"))
    api.write("webserver-1", ACCESS % (2, b"curl kube-probe/1.36"))
    api.write("webserver-1", b"nothing")
    assert logs(cluster)["probe"].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("pods", "options", "expected"),
    [
        ("deployment/webserver", {}, {"webserver-1", "webserver-2"}),
        ("deploy/webserver", {}, {"webserver-1", "webserver-2"}),
        ("pod/webserver-1", {}, {"webserver-1"}),
        ("webserver-[2-9]", {}, {"webserver-2"}),
        ("1$", {}, {"webserver-1", "other-1"}),
        ("", {"selector": "app=other"}, {"other-1"}),
        ("", {}, {"webserver-1", "webserver-2", "other-1"}),
        ("webserver", {"container": "sidecar"}, set()),
        ("nobody", {}, set()),
    ],
)
def test_which_pods_are_meant(api, cluster, pods, options, expected):
    for name in ("webserver-1", "webserver-2", "other-1"):
        api.write(name, b"x")
    assert set(logs(cluster, pods, **options)["pod"]) == expected


def test_how_much_is_asked_for(api, cluster):
    for number in range(5):
        api.write("webserver-1", ACCESS % (number, b"curl"), after=10**9)
    assert logs(cluster, tail=2)["request"].tolist() == [3, 4]
    assert logs(cluster, tail=0).empty
    assert logs(cluster, since_seconds=2)["request"].tolist() == [2, 3, 4]
    since = datetime.fromtimestamp(START + 4, timezone.utc)
    assert logs(cluster, since_time=since)["request"].tolist() == [3, 4]


def test_a_pod_that_has_not_started_has_no_rows_and_says_why(api, cluster):
    api.add_pod("webserver-3", waits="ImagePullBackOff")
    api.write("webserver-1", b"x")
    frame = logs(cluster)
    assert frame["pod"].tolist() == ["webserver-1"]
    assert frame.attrs["unread"] == {"webserver-3/nginx": "it has not started"}


def test_the_log_before_the_last_restart(api, cluster):
    api.write("webserver-1", b"first")
    api.restart("webserver-1")
    api.write("webserver-1", b"second")
    frame = logs(cluster, "pod/webserver-1", previous=True)
    assert frame[["restarts", "raw"]].to_numpy().tolist() == [[0, "first"], [1, "second"]]
    assert logs(cluster, "pod/webserver-1")["raw"].tolist() == ["second"]


def test_no_pods_at_all_is_an_empty_table_with_all_columns(cluster):
    empty = logs(cluster, "nobody")
    assert empty.empty
    assert {"time_logged", "pod", "remote_addr", "run", "request", "probe"} <= set(empty.columns)


@pytest.mark.parametrize(
    ("pods", "options", "cause"),
    [
        ("node/worker01", {}, "Logs are not read by 'node'"),
        ("webserver-[", {}, "not a regular expression"),
        ("", {"tail": -1}, "tail is -1"),
        ("", {"since_seconds": 0}, "since_seconds is 0"),
        ("", {"since_seconds": 1, "since_time": datetime.now(timezone.utc)}, "Only one of"),
        ("", {"since_time": datetime(2023, 10, 15)}, "no time zone"),
    ],
)
def test_wrong_use_is_said(cluster, pods, options, cause):
    with pytest.raises(UsageError, match=cause) as refused:
        logs(cluster, pods, **options)
    assert refused.value.remedy


def test_a_missing_pod_and_a_refusal_are_said(api, cluster):
    with pytest.raises(ApiAnswerError, match='pods "none" not found'):
        logs(cluster, "pod/none")
    api.refuse["/log"] = (403, "Forbidden")
    with pytest.raises(ApiAnswerError) as refused:
        logs(cluster)
    assert refused.value.code == 403
    assert "auth can-i" in refused.value.remedy


def test_an_api_that_is_gone_is_said(cluster, api):
    api.write("webserver-1", b"x")
    assert len(logs(cluster)) == 1
    api.__exit__()
    with pytest.raises(ClusterError):
        logs(cluster)
    api._thread.join()


def test_connections_are_kept_and_a_closed_one_does_no_harm(api, cluster):
    api.write("webserver-1", b"x")
    for _ in range(3):
        assert len(logs(cluster)) == 1
        api.cut()


def test_the_token_is_sent(api):
    api.token = "secret"
    api.write("webserver-1", b"x")
    assert len(logs(cluster_of(api))) == 1


def test_selectors_become_text():
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "new", "operator": "Exists"},
        {"key": "x", "operator": "NotIn", "values": ["y"]},
    ]
    text = selector_text({"matchLabels": {"app": "web"}, "matchExpressions": expressions})
    assert text == "app=web,tier in (a,b),!old,new,x notin (y)"


def test_a_pod_without_status_has_no_log_yet():
    pod = {"metadata": {"name": "a", "namespace": "n", "uid": "u"}, "spec": {"containers": [{"name": "c"}]}}
    (one,) = containers_of(pod)
    assert (one.node, one.has_log, one.is_running, one.restarts) == ("", False, False, 0)
