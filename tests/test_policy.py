import copy
import sys

import pandas as pd
import pytest

from srcip_nb.errors import NotFinishedError, UsageError
from srcip_nb.policy import PolicyChange, follows, policy, verdict
from srcip_nb.rest import ApiAnswerError
from tests.cluster_fakes import FakeLab, recorded, result, serving

SERVICE = "/api/v1/namespaces/seminar/services/webserver"
HEALTH = '{\n\t"service": {\n\t\t"namespace": "seminar",\n\t\t"name": "webserver"\n\t},\n\t"localEndpoints": 1'


def service(policy: str, version: str = "1", **spec) -> dict:
    body = copy.deepcopy(recorded("get-service")[1])
    body["metadata"]["resourceVersion"] = version
    body["spec"] |= {"externalTrafficPolicy": policy, **spec}
    return body


def answers(old: dict, new: dict) -> dict:
    slices = "/apis/discovery.k8s.io/v1/namespaces/seminar/endpointslices"
    return {
        ("GET", SERVICE): (200, old),
        ("PATCH", SERVICE): (200, new),
        ("GET", "/api/v1/nodes"): recorded("list-nodes"),
        ("GET", "/api/v1/namespaces/seminar/events"): (200, {"items": []}),
        ("GET", slices): recorded("list-endpointslices"),
    }


@pytest.mark.parametrize(
    ("value", "answer", "said"),
    [
        ("Local", {"status": 200, "body": HEALTH}, "yes"),
        ("Local", {"status": 503, "body": HEALTH}, "yes"),
        ("Local", {"status": 200, "body": HEALTH.replace("webserver", "other")}, "no"),
        ("Local", {"status": 404, "body": HEALTH}, "no"),
        ("Local", {"status": 200, "body": "<html>"}, "no"),
        ("Local", {"status": None, "error": "refused"}, "no"),
        ("Local", {"status": None, "error": "timeout"}, "silent"),
        ("Cluster", {"status": None, "error": "refused"}, "yes"),
        ("Cluster", {"status": None, "error": "unreachable"}, "silent"),
        ("Cluster", {"status": None, "error": "reset"}, "no"),
        ("Cluster", {"status": 200, "body": HEALTH}, "no"),
    ],
)
def test_follows(value, answer, said):
    assert follows(value, service(value), {**result(0), **answer}) == said


def seen(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["asked", "node", "preserved"]).astype({"preserved": bool})


BOTH = ["worker01", "worker02"]


@pytest.mark.parametrize(
    ("value", "rows", "local", "in_force"),
    [
        ("Local", [("worker01", "worker01", True), ("worker02", "worker02", True)], set(BOTH), True),
        ("Local", [("worker01", "worker01", True)], {"worker01"}, True),
        ("Local", [("worker01", "worker01", True)], set(BOTH), False),  # worker02 has a pod and did not answer
        ("Local", [("worker01", "worker02", True)], set(BOTH), False),
        ("Local", [("worker01", "worker01", False), ("worker02", "worker02", True)], set(BOTH), False),
        ("Local", [], {"worker01"}, False),
        ("Cluster", [("worker02", "worker01", True)], {"worker01"}, True),
        ("Cluster", [("worker01", "worker01", False)], {"worker01"}, True),
        ("Cluster", [("worker01", "worker01", True)], {"worker01"}, False),
        ("Cluster", [], set(BOTH), False),
    ],
)
def test_verdict(value, rows, local, in_force):
    assert verdict(value, BOTH, seen(*rows), local) is in_force


def test_verdict_through_the_external_address():
    assert verdict("Local", [""], seen(("", "worker01", True)), {"worker01"})
    assert not verdict("Local", [""], seen(), {"worker01"})
    assert verdict("Cluster", [""], seen(("", "worker01", False)), {"worker01"})


def test_local_is_in_force_once_every_nodes_health_port_answers():
    asked = {"192.168.1.45": 0, "192.168.1.46": 0}

    def answer(request):
        host = request["url"].split("/")[2].split(":")[0]
        asked[host] += 1
        opened = asked[host] > (1 if host == "192.168.1.45" else 3)
        return {"status": 503, "body": HEALTH} if opened else {"status": None, "error": "refused"}

    old, new = service("Cluster"), service("Local", "2", healthCheckNodePort=31563)
    lab = FakeLab(answer)
    with serving(answers(old, new), lab=lab) as (api, cluster):
        change = policy(cluster, "Local")
        sent = next(body for method, _, _, body in api.asked if method == "PATCH")
    assert sent == {"spec": {"externalTrafficPolicy": "Local"}}
    assert asked == {"192.168.1.45": 2, "192.168.1.46": 4}
    assert (change.before, change.after) == ("Cluster", "Local")
    assert change.evidence == "healthCheckNodePort 31563 answers on worker01, worker02"
    assert change.nodes["worker02"] > change.nodes["worker01"]
    assert change.milliseconds >= change.nodes["worker02"]
    assert {request["url"].rsplit(":", 1)[1] for request in lab.sent} == {"31563/healthz"}


def test_cluster_is_in_force_once_the_old_health_port_is_closed():
    old, new = service("Local", healthCheckNodePort=31563), service("Cluster", "2")
    lab = FakeLab(lambda request: {"status": None, "error": "refused"})
    with serving(answers(old, new), lab=lab) as (_, cluster):
        change = policy(cluster, "Cluster")
    assert change.evidence == "healthCheckNodePort 31563 is closed on worker01, worker02"


def test_the_external_address_has_to_answer_too():
    tries = []

    def answer(request):
        if "healthz" in request["url"]:
            return {"status": 200, "body": HEALTH}
        tries.append(request["url"])
        return {"status": 200} if len(tries) == 3 else {"status": None, "error": "timeout"}

    new = service("Local", "2", healthCheckNodePort=31563)
    new["status"] = {"loadBalancer": {"ingress": [{"ip": "192.168.1.56"}]}}
    with serving(answers(service("Cluster"), new), lab=FakeLab(answer)) as (_, cluster):
        change = policy(cluster, "Local")
    assert change.evidence.endswith("; 192.168.1.56:80 answers")
    assert len(tries) == 3


def test_a_node_port_service_is_judged_by_requests(monkeypatch):
    rounds = []

    def log_lines(cluster, body, run, results, started):
        rounds.append(run)
        address = "192.168.1.122" if len(rounds) == 2 else "192.168.1.45"
        node = ["worker01", "worker02"]
        rows = [(one["id"], "web", node[one["id"] % 2], address, "") for one in results]
        return pd.DataFrame(rows, columns=["request", "pod", "node", "source_ip", "user_agent"])

    monkeypatch.setattr(sys.modules["srcip_nb.policy"], "log_lines", log_lines)
    old, new = service("Cluster", type="NodePort"), service("Local", "2", type="NodePort")
    with serving(answers(old, new), lab=FakeLab(lambda request: {})) as (_, cluster):
        change = policy(cluster, "Local")
    assert len(rounds) == 2
    assert change.evidence == "16 requests to 192.168.1.45:30249, 192.168.1.46:30249 were answered as Local has it"
    assert set(change.nodes) == {"worker01", "worker02"}


def test_what_the_api_had_already_is_looked_at_too(monkeypatch):
    rounds = []

    def log_lines(cluster, body, run, results, started):
        rounds.append(run)  # the nodes are late: first they still answer as Local does
        address = "10.0.5.0" if len(rounds) == 3 else "192.168.1.122"
        rows = [(one["id"], "web", ["worker01", "worker02"][one["id"] % 2], address, "") for one in results]
        return pd.DataFrame(rows, columns=["request", "pod", "node", "source_ip", "user_agent"])

    monkeypatch.setattr(sys.modules["srcip_nb.policy"], "log_lines", log_lines)
    same = service("Cluster")
    with serving(answers(same, same), lab=FakeLab(lambda request: {})) as (_, cluster):
        change = policy(cluster, "Cluster")
    assert len(rounds) == 3
    assert change.evidence.startswith("nothing had to be changed; 16 requests to ")
    assert "Cluster as before" in str(change)


def test_where_nothing_changed_and_no_pod_is_ready_nothing_is_sent():
    same = service("Cluster")
    slices = "/apis/discovery.k8s.io/v1/namespaces/seminar/endpointslices"
    nobody = answers(same, same) | {("GET", slices): (200, {"items": []})}
    lab = FakeLab(lambda request: {})
    with serving(nobody, lab=lab) as (_, cluster):
        change = policy(cluster, "Cluster")
    assert (change.evidence, lab.sent) == ("nothing had to be changed", [])


def test_time_runs_out_with_what_the_nodes_said():
    lab = FakeLab(lambda request: {"status": None, "error": "refused"})
    new = service("Local", "2", healthCheckNodePort=31563)
    with (
        serving(answers(service("Cluster"), new), lab=lab) as (_, cluster),
        pytest.raises(NotFinishedError, match=r"Local in the API.*31563: worker01 says refused, worker02 says refused"),
    ):
        policy(cluster, "Local", timeout=0)


def test_a_wrong_value_is_refused_in_the_servers_words():
    found = answers(service("Cluster"), {})
    found["PATCH", SERVICE] = recorded("error-422-policy")
    with (
        serving(found, lab=FakeLab()) as (_, cluster),
        pytest.raises(ApiAnswerError, match='Unsupported value: "local": supported values: "Cluster", "Local"'),
    ):
        policy(cluster, "local")


def test_a_service_of_somebody_else_is_not_touched_on_a_real_cluster():
    with (
        serving(answers(service("Cluster"), {})) as (api, cluster),
        pytest.raises(UsageError, match="service/webserver exists and was not created by srcip-nb"),
    ):
        policy(cluster, "Local")
    assert api.paths("PATCH") == []


def test_how_a_change_reads():
    change = PolicyChange("seminar/webserver", "Cluster", "Local", 41.4, "seen <so>", {})
    assert repr(change) == (
        "service seminar/webserver: externalTrafficPolicy Cluster → Local, in force after 41 ms (seen <so>)"
    )
    assert "&lt;so&gt;" in change._repr_html_()
