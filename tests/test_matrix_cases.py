"""The questions of the matrix, made of objects alone."""

import pytest

from srcip_nb.expect import NOBODY, TABLE, World, expect
from srcip_nb.judge import Observation
from srcip_nb.matrix_ask import Row, is_answered_directly
from srcip_nb.matrix_cases import (
    EXTERNAL_IPS,
    NO_ADDRESS,
    NOT_LED,
    SELECTED,
    STATES,
    choose_place,
    endpoints_of,
    node_pods,
    questions,
    service_objects,
    slice_objects,
)


def node(name, address, tainted=False, cordoned=False, is_ready=True):
    taints = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}] if tainted else []
    spec = {"taints": taints, "unschedulable": cordoned}
    ready = {"type": "Ready", "status": "True" if is_ready else "Unknown"}
    status = {"addresses": [{"type": "InternalIP", "address": address}], "conditions": [ready]}
    return {"metadata": {"name": name}, "spec": spec, "status": status}


NODES = [
    node("master01", "192.168.1.41", tainted=True),
    node("worker01", "192.168.1.45"),
    node("worker02", "192.168.1.46"),
    node("worker03", "192.168.1.47"),
]


@pytest.fixture
def place():
    return choose_place(NODES)


@pytest.fixture
def asked(place):
    live = {}
    for at, body in enumerate(service_objects()):
        body["spec"]["clusterIP"] = f"10.1.0.{at}"
        if body["spec"]["type"] == "LoadBalancer":
            body["spec"]["ports"][0]["nodePort"] = 30000 + at
            body["status"] = {"loadBalancer": {"ingress": [{"ip": f"192.168.1.{56 + at}"}]}}
        live[body["metadata"]["name"]] = body
    announcers = dict.fromkeys(live, "worker01") | {"no-endpoints": NOBODY}
    return list(questions(live, place, announcers, namespace="ns", outside="client", why_not={}, led=True))


def test_two_workers_and_a_node_without_pods(place):
    assert place.workers == ("worker01", "worker02")
    assert place.nodes == {"master01": "192.168.1.41", "worker01": "192.168.1.45", "worker02": "192.168.1.46"}


def test_one_worker_is_not_enough():
    assert choose_place(NODES[:2]) is None
    assert choose_place([*NODES[:2], node("worker02", "192.168.1.46", cordoned=True)]) is None


def test_nodes_that_are_not_ready_are_not_taken():
    lost = node("worker02", "192.168.1.46", is_ready=False)
    assert choose_place([*NODES[:2], lost, NODES[3]]).workers == ("worker01", "worker03")
    assert choose_place([*NODES[:2], lost]) is None


def test_where_there_is_no_lab_nodes_ask_by_their_pods_and_nobody_is_led(place):
    body = service_objects()[0]
    body["spec"].update(clusterIP="10.1.0.1", ports=[{"port": 80, "nodePort": 30001}])
    hosts = {name: f"ns/{pod}" for name, pod in node_pods(place).items()}
    found = list(questions({"cluster": body}, place, {}, namespace="ns", outside="this machine", why_not={},
                           led=False, node_hosts=hosts))  # fmt: skip
    asked = {(q.client, q.destination): q for q in found}
    assert asked["node-master01", "clusterip"].host == "ns/n1"
    assert asked["node-worker02", "nodeport-127.0.0.1"].host == "ns/n3"
    assert asked["outside", "vip"].why_not == NO_ADDRESS
    assert {q.why_not for q in found if q.client == "outside" and q.destination.startswith("vip-by")} <= {NOT_LED}


def test_every_row_of_the_table_is_asked_under_every_policy(asked):
    found = {(q.case.client, q.case.destination, q.case.external, q.case.internal) for q in asked}
    for row in TABLE:
        for policies in (("Cluster", "Cluster"), ("Local", "Cluster"), ("Cluster", "Local"), ("Local", "Local")):
            assert (row.client, row.destination, *policies) in found


def test_the_oracle_has_an_answer_to_each_and_all_outcomes_occur(asked):
    outcomes = {expect(q.case, World(cni="ptp")).outcome for q in asked}
    assert outcomes == {"answered", "refused", "dropped", "unreachable"}
    assert len({(q.service, q.client, q.destination) for q in asked}) == len(asked)


def test_who_cannot_ask_is_left_out_with_the_reason(place):
    services = {"cluster": {**service_objects()[0]}}
    services["cluster"]["spec"]["clusterIP"] = "10.1.0.1"
    why = {"pod": "no way into a pod"}
    found = list(questions(services, place, {}, namespace="ns", outside="client", why_not=why, led=False))
    assert {q.why_not for q in found if q.client in ("c1", "c2", "s1", "s2")} == {"no way into a pod"}
    assert {q.why_not for q in found if q.client.startswith("node-")} == {"", NO_ADDRESS}


def test_slices_by_hand_agree_with_what_the_oracle_is_told(place):
    slices = {
        s["metadata"]["labels"]["kubernetes.io/service-name"]: s for s in slice_objects(place, {"s1": "a", "s2": "b"})
    }
    assert set(slices) == set(STATES)
    for name, body in slices.items():
        for written, told in zip(body["endpoints"], endpoints_of(name, place), strict=True):
            conditions = written["conditions"]
            assert (conditions["ready"], conditions["serving"]) == (told.state == "ready", told.state != "unusable")
            assert (written["nodeName"], written["targetRef"]["name"]) == (told.node, told.pod)


def test_every_service_has_endpoints_by_its_definition(place):
    counts = {name: len(endpoints_of(name, place)) for name in [*SELECTED, *EXTERNAL_IPS]}
    assert counts["cluster"] == counts["external-ip"] == 2
    assert counts["local-w1only"] == 1
    assert counts["no-endpoints"] == 0


def test_answers_that_come_back_another_way_are_told_apart(asked):
    rows = [Row(question, expect(question.case, World("ipvs", "calico")), Observation()) for question in asked]
    direct = {
        (row.question.service, row.question.client, row.question.destination): is_answered_directly(row) for row in rows
    }
    assert direct["local", "node-master01", "nodeport-master01"]  # no endpoint there: another node's, the source kept
    assert not direct["local", "node-worker01", "nodeport-worker01"]  # an endpoint of its own
    assert not direct["cluster", "node-master01", "nodeport-master01"]  # masqueraded: its answer comes back
    assert direct["cluster", "c1", "clusterip"]  # pods keep their source, and one endpoint is on the other node
    assert not direct["local-w1only", "c1", "clusterip"]
    assert not any(is_answered_directly(row) for row in rows if row.question.led)
    masked = [Row(question, expect(question.case, World("ipvs", "flannel")), Observation()) for question in asked]
    assert not any(is_answered_directly(row) for row in masked if row.question.client.startswith("node-"))
