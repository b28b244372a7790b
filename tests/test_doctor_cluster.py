"""What doctor says of a cluster, here an API server that shows recorded objects and hides others."""

import threading
from contextlib import contextmanager

import pytest

from srcip_nb import dataplane_read, doctor_cluster
from srcip_nb.cli import main
from srcip_nb.dataplane_find import find
from srcip_nb.dataplane_read import LISTS, detect, look
from srcip_nb.doctor import MISSING, OK, UNKNOWN, WITHOUT, Finding
from srcip_nb.doctor_cluster import data_plane, examine, permissions, reasons_against, report, way_to_vip
from srcip_nb.host_probe import Told
from tests.cluster_fakes import FakeLab, serving
from tests.test_clusters import PLANES, plane, seen

REVIEWS = "/apis/authorization.k8s.io/v1"
FORBIDDEN = (403, {"message": "forbidden", "reason": "Forbidden", "code": 403})


def answers_of(name: str) -> dict:
    """The paths at which an API server shows a recorded cluster."""
    objects = seen(name)
    groups = {item["apiVersion"].split("/")[0] for item in objects.objects if "/" in item["apiVersion"]}
    answers = {("GET", "/apis"): (200, {"groups": [{"name": group} for group in groups]})}
    for kind, path in LISTS.items():
        items = [{k: v for k, v in item.items() if k != "kind"} for item in objects.all(kind)]
        answers["GET", path.split("?")[0]] = (200, {"items": items})
    for item in objects.all("ConfigMap"):
        answers["GET", f"/api/v1/namespaces/kube-system/configmaps/{item['metadata']['name']}"] = (200, item)
    services = {"items": objects.all("Service")}
    answers["GET", "/api/v1/namespaces/seminar/services"] = (200, services)
    return answers


def allowing(is_allowed) -> dict:
    """Answers to reviews of one's own permissions."""

    def access(query, sent):
        return 201, {"status": {"allowed": is_allowed(sent["spec"]["resourceAttributes"])}}

    return {
        ("POST", f"{REVIEWS}/selfsubjectaccessreviews"): access,
        ("POST", f"{REVIEWS}/selfsubjectrulesreviews"): (201, {"status": {"resourceRules": []}}),
    }


@contextmanager
def cluster_like(name: str, more: dict | None = None, **options):
    with serving({**answers_of(name), **(more or {})}, **options) as (api, cluster):
        yield api, cluster


@pytest.mark.parametrize("name", ["kubeadm-calico-ebpf", "kubeadm-flannel-hostgw", "cilium-native", "k3s", "eks"])
def test_a_data_plane_read_over_the_api(name):
    with cluster_like(name) as (api, cluster):
        found = detect(cluster)
    assert [fact.value or "-" for fact in found.facts().values()] == PLANES[name].split()
    assert {method for method, *_ in api.asked} == {"GET"}
    assert len(api.asked) < 40


def test_groups_that_are_not_there_are_not_asked_for():
    with cluster_like("kubeadm-flannel-vxlan") as (api, cluster):
        silent = look(cluster).silent
    assert silent["FelixConfiguration"] == "no API group crd.projectcalico.org here"
    assert not [path for path in api.paths("GET") if "projectcalico" in path or "metallb" in path]


def test_what_may_not_be_read_becomes_the_evidence():
    hidden = {("GET", LISTS["FelixConfiguration"]): FORBIDDEN, ("GET", "/api/v1/services"): FORBIDDEN}
    with cluster_like("kubeadm-calico-bgp", hidden) as (_, cluster):
        found = look(cluster)
    assert found.silent["FelixConfiguration"] == "may not be read (403)"
    assert found.all("Service"), "the own namespace's Services may be read"
    assert find(found).proxy.value == ""


def test_an_api_that_hangs_is_waited_for_no_longer_than_told(monkeypatch):
    monkeypatch.setattr(dataplane_read, "ASK_WITHIN", 0.2)
    monkeypatch.setattr(dataplane_read, "ALL_WITHIN", 0.1)
    over = threading.Event()

    def hang(query, sent):
        over.wait(10)
        return 200, {"items": []}

    try:
        with cluster_like("kind", {("GET", "/api/v1/nodes"): hang}) as (_, cluster):
            silent = look(cluster).silent
            over.set()
    finally:
        over.set()
    assert "no answer in time" in silent["Node"]
    assert silent["ConfigMap kube-system/cilium-config"] == "not asked: 0 s were over"


def test_an_api_that_answers_no_reviews_does_not_count_as_one_that_allows_all():
    with cluster_like("kind") as (_, cluster):
        (finding,) = permissions(cluster)
    assert (finding.state, finding.what) == (UNKNOWN, "permissions")
    only_one = {key: answer for key, answer in allowing(lambda asked: True).items() if "access" in key[1]}
    with cluster_like("kind", only_one) as (_, cluster):
        (finding,) = permissions(cluster)
    assert finding.state == UNKNOWN and finding.evidence.startswith("SelfSubjectRulesReview: ")


def test_permissions_by_feature():
    with cluster_like("kind", allowing(lambda asked: asked["resource"] != "endpointslices")) as (_, cluster):
        found = {finding.what: finding for finding in permissions(cluster)}
    lessons, logs = found["permissions: lessons"], found["permissions: logs"]
    assert lessons.state == MISSING and "list, delete endpointslices.discovery.k8s.io" in lessons.words
    assert lessons.remedy.startswith("srcip-nb rbac --namespace seminar")
    assert found["permissions: matrix"].state == WITHOUT
    assert (logs.state, logs.words) == (OK, "all allowed")


def test_findings_say_what_is_not_known_and_what_the_course_does_without():
    found = {finding.what: finding for finding in data_plane(plane("kubeadm-flannel-vxlan"))}
    assert found["load balancer"].state == WITHOUT and "goes on by NodePort" in found["load balancer"].words
    assert found["ipMode"] == Finding(UNKNOWN, "ipMode", "not known", "", "no Service has an external address")
    assert found["who carries out Services"].words == "iptables"


def test_nodes_that_may_serve_a_vip():
    excluded, ready, other = seen("kubeadm-calico-ipip").all("Node")
    other["status"]["conditions"] = [
        {"type": "Ready", "status": "Unknown"},
        {"type": "NetworkUnavailable", "status": "True"},
    ]
    assert reasons_against(excluded) == ["label node.kubernetes.io/exclude-from-external-load-balancers"]
    assert reasons_against(ready) == []
    assert reasons_against(other) == ["condition Ready is Unknown", "condition NetworkUnavailable is True"]
    *_, nodes = doctor_cluster.balancing(seen("kubeadm-calico-ipip"), plane("kubeadm-calico-ipip"))
    assert (nodes.state, nodes.words) == (OK, "worker01, worker02")
    assert "L2Advertisement metallb-system/lan limits them by nodeSelectors" in nodes.evidence
    assert (
        "master01 has no pods of the lesson: taint node-role.kubernetes.io/control-plane:NoSchedule" in nodes.evidence
    )


def test_this_machines_address_as_nodes_saw_it():
    with cluster_like("kind") as (_, cluster):
        kept = way_to_vip(cluster, seen("kind"), Told(arrived=(("172.18.0.1", "172.18.0.1"),)))
        changed = way_to_vip(cluster, seen("kind"), Told(arrived=(("192.168.65.3", "172.18.0.1"),)))
    assert (kept.state, kept.words) == (OK, "172.18.0.1 arrives at the nodes unchanged")
    assert changed.state == WITHOUT and "a NAT stands between this machine and the cluster" in changed.words
    assert changed.evidence == "a node saw 172.18.0.1 of a socket with 192.168.65.3"


def test_this_machines_address_without_a_measurement_is_not_known(monkeypatch):
    monkeypatch.setattr(doctor_cluster, "address_towards", lambda cluster, towards: "192.0.2.2")
    with cluster_like("kind") as (_, cluster):
        finding = way_to_vip(cluster, seen("kind"), Told(unreached={"kind-worker": "timeout"}))
    assert finding.state == UNKNOWN and "192.0.2.2; whether it arrives is not known" in finding.words
    assert "not reached: kind-worker (timeout)" in finding.evidence


def test_this_machine_may_be_a_node(monkeypatch):
    monkeypatch.setattr(doctor_cluster, "address_towards", lambda cluster, towards: "172.18.0.3")
    with cluster_like("kind") as (_, cluster):
        finding = way_to_vip(cluster, seen("kind"))
    assert finding.words == "172.18.0.3 is node kind-worker's own: what starts here starts on a node, not outside"


def test_a_whole_report():
    with cluster_like("kubeadm-calico-vxlan", allowing(lambda asked: True), lab=FakeLab()) as (api, cluster):
        findings = examine(cluster)
        lines = report(cluster, findings).splitlines()
    assert {method for method, *_ in api.asked if method != "GET"} == {"POST"}, "only questions are posted"
    assert {path for path in api.paths("POST") if not path.startswith(REVIEWS)} == set()
    assert "ok       who carries out Services     iptables" in lines
    at = lines.index("ok       load balancer                metallb")
    assert (
        lines[at + 1].strip() == "ServiceL2Status metallb-system/l2-7xk2d: node worker01 for Service seminar/webserver"
    )
    assert "ok       announces                    worker01 for Service seminar/webserver" in lines
    assert lines[-1] == "The course can run here."


def test_the_verdict_names_what_is_missing():
    with cluster_like("kind") as (_, cluster):
        lines = report(cluster, [Finding(MISSING, "permissions: lessons", "…"), Finding(UNKNOWN, "ipMode", "…")])
    assert lines.splitlines()[-2:] == [
        "Not found out: ipMode.",
        "The course cannot run here: permissions: lessons.",
    ]


def test_a_probe_needs_a_cluster(cli):
    done = cli("doctor", "--probe")
    assert done.returncode == 2 and "srcip-nb doctor --context C --probe" in done.stderr


def test_the_namespace_is_the_participants(monkeypatch, capsys):
    """The environment's, unless one is named: rights are given for one namespace."""
    asked = []
    monkeypatch.setattr("srcip_nb.connect", lambda context, **options: asked.append(options["namespace"]))
    monkeypatch.setattr(doctor_cluster, "examine", lambda cluster, probe: [])
    monkeypatch.setattr(doctor_cluster, "report", lambda cluster, findings: "")
    assert main(["doctor", "--context", "c"]) == 0
    assert main(["doctor", "--context", "c", "--namespace", "seminar-07"]) == 0
    assert asked == [None, "seminar-07"]  # None: connect() takes SRCIP_NAMESPACE
