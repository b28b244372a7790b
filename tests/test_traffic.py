import sys
import time

import pandas as pd
import pytest

from srcip_nb.addresses import Entry, book_of
from srcip_nb.clients import Client, clients, find_client
from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.targets import entry_targets, find_targets
from srcip_nb.traffic import COLUMNS, LINE_COLUMNS, announcer, announcers, log_lines, send, table_of, visit
from tests.cluster_fakes import FakeLab, items, recorded, result, serving

RUN = "8f1c02d4"
BOOK = book_of(
    [
        Entry("192.168.1.45", "node", "worker01", "worker01", "its own address"),
        Entry("10.0.5.0", "pod-network", "worker01", "worker01", "its tunnel address"),
        Entry("192.168.1.122", "client", "client", "", "the client"),
    ]
)


def lines(*rows: tuple) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["request", "pod", "node", "source_ip", "user_agent"])
    return frame.astype({"request": "int64"})


def table(results, found, policy="Cluster", targets=("192.168.1.56:80",)) -> pd.DataFrame:
    return table_of(RUN, results, found, BOOK, client="client", targets=targets, policy=policy)


def test_the_one_table():
    found = lines(
        (1, "web-b", "worker02", "10.0.5.0", "srcip-nb"), (0, "web-a", "worker01", "192.168.1.45", "srcip-nb")
    )
    frame = table([result(0), result(1)], found)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    assert frame.drop(columns=["sent_at", "latency_ms"]).to_dict("records")[1] == {
        "run": RUN,
        "request": 1,
        "client": "client",
        "client_ip": "192.168.1.122",
        "target": "192.168.1.56:80",
        "policy": "Cluster",
        "status": 200,
        "error": "",
        "pod": "web-b",
        "node": "worker02",
        "source_ip": "10.0.5.0",
        "source_kind": "pod-network",
        "source_node": "worker01",
        "preserved": False,
    }
    assert frame["sent_at"].is_monotonic_increasing
    assert frame["sent_at"].iloc[0] == pd.Timestamp("2023-11-14 22:13:20", tz="UTC")


def test_a_kept_source():
    (row,) = table([result(0)], lines((0, "web-a", "worker01", "192.168.1.122", "")), "Local").to_dict("records")
    assert (row["preserved"], row["source_kind"]) == (True, "client")
    assert pd.isna(row["source_node"])


def test_what_is_missing_stays_and_is_missing():
    frame = table([result(0, None, "timeout"), result(1, None, "refused", client_ip="")], lines(), "Local")
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    assert frame["error"].tolist() == ["timeout", "refused"]
    assert (
        frame[["status", "pod", "node", "source_ip", "source_kind", "source_node", "preserved"]].isna().all(axis=None)
    )
    assert frame["client_ip"].isna().tolist() == [False, True]


def test_a_request_that_was_logged_but_never_answered():
    frame = table([result(0, None, "timeout")], lines((0, "web-a", "worker01", "10.9.9.9", "")))
    assert frame["source_kind"].tolist() == ["unknown"]
    assert frame["node"].tolist() == ["worker01"]


def test_targets_in_turn_and_a_service_without_a_policy():
    frame = table([result(i) for i in range(3)], lines(), None, ("192.168.1.45:30249", "192.168.1.46:30249"))
    assert frame["target"].tolist() == ["192.168.1.45:30249", "192.168.1.46:30249", "192.168.1.45:30249"]
    assert frame["policy"].isna().all()
    assert frame["policy"].cat.categories.tolist() == ["Cluster", "Local"]


# -- where to ---------------------------------------------------------------------------------------------------------


def service(address: str | None = "192.168.1.56", **port) -> dict:
    body = recorded("get-service")[1]
    body["status"] = {"loadBalancer": {"ingress": [{"ip": address}] if address else []}}
    body["spec"]["ports"][0] = {"port": 80, "nodePort": 30249, **port}
    return body


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (None, ["192.168.1.56:80"]),
        ("nodeport", ["192.168.1.45:30249", "192.168.1.46:30249"]),
        ("worker02", ["192.168.1.46:30249"]),
        ("clusterip", ["10.1.52.86:80"]),
        ("10.0.5.2:8080", ["10.0.5.2:8080"]),
        ("[2001:db8::1]:80", ["[2001:db8::1]:80"]),
    ],
)
def test_find_targets(target, found):
    assert find_targets(service(), items("nodes"), target) == found


@pytest.mark.parametrize(
    ("body", "target", "words"),
    [
        (service(None), None, "no external address.*target='nodeport'"),
        (service(nodePort=None), "worker02", "no node port.*target='clusterip'"),
        (service(), "worker03", "no target 'worker03'.*worker01, worker02"),
        (service(), "host:99999", "no target"),
        (service(), ":80", "no target"),
    ],
)
def test_targets_there_are_not(body, target, words):
    with pytest.raises(UsageError, match=words):
        find_targets(body, items("nodes"), target)


def test_an_ipv6_address_in_brackets():
    assert find_targets(service("2001:db8::56"), [], None) == ["[2001:db8::56]:80"]


# -- who sends --------------------------------------------------------------------------------------------------------


def test_clients_of_a_lab_and_of_a_real_cluster():
    no_pods = {("GET", "/api/v1/namespaces/seminar/pods"): (200, {"items": []})}
    with serving(no_pods, lab=FakeLab()) as (_, cluster):
        assert clients(cluster).index.tolist() == ["client", "router", "worker01"]
        assert find_client(cluster, None).name == "client"
        assert find_client(cluster, "worker01").address == "192.168.1.45"
        with pytest.raises(UsageError, match=r"no client 'client9' .*'client', 'router', 'worker01'"):
            find_client(cluster, "client9")
    pod = items("pods")[0]["metadata"]["name"]
    one_pod = {("GET", "/api/v1/namespaces/seminar/pods"): (200, {"items": items("pods")[:1]})}
    with serving(one_pod, lab=FakeLab()) as (_, cluster):
        assert find_client(cluster, pod).address == "10.0.30.66"
        assert find_client(cluster, f"pod/{pod}").pod == f"seminar/{pod}"
    no_node = {("GET", "/api/v1/nodes"): (200, {"items": []})}
    with serving({**no_pods, **no_node}) as (_, cluster):
        assert clients(cluster).index.tolist() == ["this machine"]
        with pytest.raises(UsageError, match=r"no client 'client' in context 'kind-kind'.*'this machine'"):
            find_client(cluster, "client")


def test_every_request_carries_its_id():
    lab = FakeLab(lambda request: {})
    with serving({}, lab=lab) as (_, cluster):
        results = send(find_client(cluster, None), RUN, ["a:1", "b:2"], 3)
    assert [sent["url"] for sent in lab.sent] == [
        f"http://a:1/?run={RUN}&request=0",
        f"http://b:2/?run={RUN}&request=1",
        f"http://a:1/?run={RUN}&request=2",
    ]
    assert [one["id"] for one in results] == [0, 1, 2]


def test_a_client_that_ends_early():
    lab = FakeLab(lambda request: {"id": 0})
    lab.visit = lambda *args, **options: iter([result(0)])
    with serving({}, lab=lab) as (_, cluster), pytest.raises(ClusterError, match="client sent 1 of 3 requests"):
        send(find_client(cluster, None), RUN, ["a:1"], 3)


def test_this_machine_sends_for_real():
    with serving({}) as (api, cluster):
        port = cluster.rest.configuration.host.rsplit(":", 1)[1]
        (one,) = send(find_client(cluster, None), RUN, [f"127.0.0.1:{port}"], 1)
        assert api.asked[-1][1:3] == ("/", {"run": RUN, "request": "0"})
    assert (one["status"], one["client_ip"], one["error"]) == (404, "127.0.0.1", "")


# -- visit ------------------------------------------------------------------------------------------------------------

EVENT = {
    "metadata": {"resourceVersion": "160"},
    "message": 'announcing from node "worker01" with protocol "layer2"',
    "lastTimestamp": "2026-11-22T14:26:58Z",
}


@pytest.fixture
def answers():
    # The events' clock counts whole seconds: of two in the same second the later has the higher version.
    older = {**EVENT, "metadata": {"resourceVersion": "99"}, "message": EVENT["message"].replace("01", "02")}
    return {
        ("GET", "/api/v1/nodes"): recorded("list-nodes"),
        ("GET", "/api/v1/pods"): recorded("list-pods"),
        ("GET", "/api/v1/services"): recorded("list-services"),
        ("GET", "/api/v1/namespaces/seminar/services/webserver"): (200, service()),
        ("GET", "/api/v1/namespaces/seminar/events"): (200, {"items": [EVENT, older]}),
    }


def test_visit(answers, monkeypatch, capsys):
    seen = lines((0, "web-a", "worker01", "192.168.1.45", ""), (1, "web-b", "worker02", "8.8.8.8", ""))
    monkeypatch.setattr(sys.modules["srcip_nb.traffic"], "log_lines", lambda *args: seen)
    with serving(answers, lab=FakeLab(lambda request: {})) as (_, cluster):
        frame = visit(cluster, 3)
    assert frame["source_kind"].astype("string").fillna("-").tolist() == ["node", "unknown", "-"]
    run = frame.attrs.pop("run")
    assert frame["run"].unique().tolist() == [run]
    assert frame.attrs == {
        "client": "client",
        "target": "192.168.1.56:80",
        "service": "seminar/webserver",
        "policy": "Cluster",
        "world": "context 'kind-kind'",
        "vip": "192.168.1.56",
        "announcer": "worker01",
        "announcers": ["worker01"],
        "nat": "",
        "unmatched": 1,
    }
    assert capsys.readouterr().out.startswith(
        " ✓ 3 requests from client to 192.168.1.56:80: 3 answered; of 1 answers the log line is gone"
    )


def logged(run: str, *requests: tuple[int, str]) -> tuple[int, bytes]:
    day, rest = "22/Nov/2026:14:27:01 +0000", 'HTTP/1.1" 200 292 "-" "srcip-nb" "-"\n'
    line = '2026-11-22T14:27:01.{0:09d}Z {1} - - [{3}] "GET /?run={2}&request={0} {4}'
    noise = f'2026-11-22T14:27:01.000000000Z 10.9.9.9 - - [{day}] "GET / {rest}'
    return 200, (noise + "".join(line.format(number, source, run, day, rest) for number, source in requests)).encode()


def test_lines_of_a_run_are_waited_for(answers):
    first, second = (pod["metadata"]["name"] for pod in items("pods"))
    looks = []

    def log_of_the_second(query, sent):
        looks.append(query)
        return logged(RUN, (1, "192.168.1.45")) if len(looks) == 3 else logged("0badcafe", (1, "10.1.1.1"))

    answers |= {
        ("GET", "/api/v1/namespaces/seminar/pods"): recorded("list-pods"),
        ("GET", f"/api/v1/namespaces/seminar/pods/{first}/log"): logged(RUN, (0, "10.0.5.0"), (0, "10.0.5.0")),
        ("GET", f"/api/v1/namespaces/seminar/pods/{second}/log"): log_of_the_second,
    }
    results = [result(0), result(1), result(2, None, "timeout")]
    with serving(answers) as (_, cluster):
        found = log_lines(cluster, service(), RUN, results, time.monotonic())
    assert len(looks) == 3
    assert found[["request", "pod", "node", "source_ip"]].sort_values("request").to_numpy().tolist() == [
        [0, first, "worker02", "10.0.5.0"],
        [1, second, "worker01", "192.168.1.45"],
    ]


def test_lines_that_never_come_are_not_waited_for_for_ever(answers, monkeypatch):
    monkeypatch.setattr(sys.modules["srcip_nb.traffic"], "LOG_WITHIN", 0.0)
    answers |= {("GET", "/api/v1/namespaces/seminar/pods"): (200, {"items": []})}
    with serving(answers) as (_, cluster):
        found = log_lines(cluster, service(), RUN, [result(0)], time.monotonic())
    assert found.dtypes.map(str).to_dict() == LINE_COLUMNS
    assert len(table([result(0)], found)) == 1


def test_a_service_without_a_selector_has_no_logs():
    body = service()
    del body["spec"]["selector"]
    with serving({}) as (api, cluster):
        assert log_lines(cluster, body, RUN, [result(0)], 0.0).empty
        assert api.paths("GET") == ["/version", "/api"]


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 1.5}, {"concurrency": 0}, {"timeout": 0}, {"rate": -1}, {"n": True}])
def test_numbers_that_make_no_sense_send_nothing(answers, wrong):
    lab = FakeLab(lambda request: {})
    with serving(answers, lab=lab) as (_, cluster), pytest.raises(UsageError):
        visit(cluster, **wrong)
    assert lab.sent == []


def test_nobody_says_who_announces():
    path = ("GET", "/api/v1/namespaces/seminar/events")
    for answer in ((200, {"items": []}), (403, {"message": "no", "reason": "Forbidden"})):
        with serving({path: answer}) as (_, cluster):
            assert announcer(cluster) == ""


def test_of_two_events_within_one_second_the_later_change_counts():
    """An event's clock counts whole seconds; a flip and back may fall into one."""

    def event(node: str, second: int, version: str) -> dict:
        return {
            "metadata": {"name": f"webserver.{version}", "resourceVersion": version},
            "message": f'announcing from node "{node}" with protocol "layer2"',
            "lastTimestamp": f"2026-11-22T14:27:{second:02d}Z",
        }

    path = ("GET", "/api/v1/namespaces/seminar/events")
    # 1002 is later than 998 as a number, not as a text; an older second loses whatever its version is
    found = [event("worker02", 1, "1002"), event("worker01", 1, "998"), event("worker03", 0, "2000")]
    for order in (found, found[::-1]):
        with serving({path: (200, {"items": order})}) as (_, cluster):
            assert announcer(cluster) == "worker02"


@pytest.mark.parametrize(
    ("policy", "unfit", "expected"),
    [
        ("Cluster", {}, ("worker01", "worker02")),
        ("Local", {}, ("worker02",)),
        ("Cluster", {"worker02": "NotReady"}, ("worker01",)),
        ("Cluster", {"worker01": "excluded"}, ("worker02",)),
    ],
)
def test_by_bgp_those_announce_who_said_so_and_still_may(policy, unfit, expected):
    def event(node: str, protocol: str, second: int) -> dict:
        return {
            "metadata": {"name": f"webserver.{second}"},
            "message": f'announcing from node "{node}" with protocol "{protocol}"',
            "lastTimestamp": f"2026-11-22T14:27:{second:02d}Z",
        }

    def node(name: str) -> dict:
        excluded = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
        ready = "Unknown" if unfit.get(name) == "NotReady" else "True"
        labels = excluded if unfit.get(name) == "excluded" else {}
        return {
            "metadata": {"name": name, "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }

    said = [event("worker03", "layer2", 1), event("worker01", "bgp", 2), event("worker02", "bgp", 3)]
    on_worker02 = {"addresses": ["10.0.30.88"], "nodeName": "worker02", "conditions": {"ready": True}}
    found = {
        ("GET", "/api/v1/namespaces/seminar/events"): (200, {"items": said}),
        ("GET", "/api/v1/nodes"): (200, {"items": [node(f"worker0{i}") for i in (1, 2, 3)]}),
        ("GET", "/api/v1/namespaces/seminar/services/webserver"): (200, {"spec": {"externalTrafficPolicy": policy}}),
        ("GET", "/apis/discovery.k8s.io/v1/namespaces/seminar/endpointslices"): (
            200,
            {"items": [{"metadata": {"name": "webserver-x"}, "endpoints": [on_worker02]}]},
        ),
    }
    with serving(found) as (_, cluster):
        assert announcers(cluster) == expected
        assert announcer(cluster) == (expected[0] if len(expected) == 1 else "")


def node_with(name: str, address: str, ready: str = "True") -> dict:
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "conditions": [{"type": "Ready", "status": ready}],
    }
    return {"metadata": {"name": name}, "status": status}


@pytest.mark.parametrize(
    ("with_pod", "not_ready", "expected"),
    [
        (["worker02", "worker01"], [], "192.168.1.45:31975"),
        (["worker02"], [], "192.168.1.46:31975"),
        (["worker01", "worker02"], ["worker01"], "192.168.1.46:31975"),
        ([], [], "192.168.1.41:31975"),
    ],
)
def test_without_a_load_balancer_the_node_port_of_one_node_with_a_pod(with_pod, not_ready, expected):
    addresses = {"master01": "192.168.1.41", "worker01": "192.168.1.45", "worker02": "192.168.1.46"}
    nodes = [node_with(name, ip, "False" if name in not_ready else "True") for name, ip in addresses.items()]
    endpoints = [{"addresses": ["10.0.0.1"], "nodeName": name, "conditions": {"ready": True}} for name in with_pod]
    slices = {"items": [{"metadata": {"name": "webserver-x"}, "endpoints": endpoints}]}
    answers = {
        ("GET", "/api/v1/nodes"): (200, {"items": nodes}),
        ("GET", "/apis/discovery.k8s.io/v1/namespaces/seminar/endpointslices"): (200, slices),
    }
    body = service()
    body["status"] = {"loadBalancer": {}}
    body["spec"]["ports"][0]["nodePort"] = 31975
    with serving(answers) as (_, cluster):
        targets, instead = entry_targets(cluster, body, None)
        assert targets == [expected]
        assert "no load balancer gave an address; the node port of" in instead
        inside = Client(cluster, "pod/visitor", "pod", "10.0.30.69", "seminar/visitor", "worker02")
        assert entry_targets(cluster, body, None, inside)[0] == ["192.168.1.46:31975"], "its own node's rules decide"
        with pytest.raises(UsageError, match="has no external address"):
            entry_targets(cluster, body, "vip")
        assert entry_targets(cluster, body, "worker02") == (["192.168.1.46:31975"], "")
        body["status"] = {"loadBalancer": {"ingress": [{"ip": "192.168.1.56"}]}}
        assert entry_targets(cluster, body, None) == (["192.168.1.56:80"], "")
        assert entry_targets(cluster, body, "vip") == (["192.168.1.56:80"], "")
