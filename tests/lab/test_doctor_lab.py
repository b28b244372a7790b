"""What doctor and the address book say of labs with each pod network, and of a NAT that a kernel really does."""

import pytest

from srcip_nb.dataplane_read import detect
from srcip_nb.doctor import OK, UNKNOWN
from srcip_nb.doctor_cluster import examine
from srcip_nb.host_probe import ask_nodes

pytestmark = pytest.mark.lab

SETTINGS = {
    "calico": {"announce": "l2", "proxy_mode": "iptables"},
    "flannel": {"announce": "bgp", "proxy_mode": "nftables"},
    "ptp": {"announce": "l2", "proxy_mode": "iptables"},
}
HOSTS = ["client", "master01", "worker01", "worker02"]


@pytest.fixture(scope="module", params=SETTINGS)
def lesson(request):
    """A lab with the lesson in it, and its pod network's name."""
    from srcip_nb import connect
    from srcip_nb.lab import Lab

    with Lab(cni=request.param, name=f"tests-doctor-{request.param}", **SETTINGS[request.param]) as lab:
        cluster = connect(lab=lab.name, quiet=True)
        cluster.apply()
        cluster.wait_ready(30)
        yield cluster, request.param


def test_the_lab_answers_the_same_questions_as_any_cluster(lesson):
    cluster, name = lesson
    found, settings = detect(cluster), SETTINGS[name]
    assert found.proxy.value == settings["proxy_mode"]
    assert f"ConfigMap kube-system/kube-proxy: config.conf, mode {settings['proxy_mode']}" in found.proxy.evidence
    assert found.cni.value == {"calico": "calico", "flannel": "flannel", "ptp": ""}[name]
    assert (found.load_balancer.value, found.announce.value) == ("metallb", settings["announce"])
    assert found.load_balancer.evidence.startswith("Event nodeAssigned on Service seminar/webserver: announcing from")
    assert (found.dsr.value, found.ip_mode.value) == ("no", "VIP")
    assert found.masquerade.value == "", "nothing in the API tells it, so it is not guessed"


def test_no_address_of_these_networks_is_unknown(lesson):
    cluster, _ = lesson
    cluster.policy("Cluster")
    for client in HOSTS:
        for target in (None, "nodeport", "clusterip") if client != "client" else (None, "nodeport"):
            frame = cluster.visit(12, client, target=target, progress=False)
            assert frame["status"].eq(200).all()
            kinds = set(frame["source_kind"].astype(str))
            assert kinds <= {"client", "node", "pod-network"}, frame[["source_ip", "source_kind"]].drop_duplicates()


def test_the_nodes_themselves_are_asked(lesson):
    cluster, name = lesson
    told = ask_nodes(cluster)
    assert told.modes == dict.fromkeys(("master01", "worker01", "worker02"), SETTINGS[name]["proxy_mode"])
    assert not [ns for ns in cluster.list("namespaces") if ns["metadata"]["name"].startswith("srcip-doctor-")]


def test_doctor_on_a_lab(lesson):
    cluster, name = lesson
    found = {finding.what: finding for finding in examine(cluster)}
    assert {finding.what for finding in found.values() if finding.state not in (OK, UNKNOWN)} == set()
    assert found["permissions: lessons"].words == "all allowed"
    assert found["nodes that may serve a VIP"].words == "worker01, worker02"
    announcer = found["announces"].words
    assert announcer.endswith("for Service seminar/webserver")
    assert announcer.startswith("worker01, worker02 " if SETTINGS[name]["announce"] == "bgp" else "worker0")


@pytest.mark.parametrize("lesson", ["calico"], indirect=True)
def test_a_nat_on_the_way_is_named(lesson):
    """Asked once: the pod network has no part in it."""
    cluster, _ = lesson
    foreign = "192.168.1.240"
    rule = ["POSTROUTING", "-p", "tcp", "--dport", "80", "-j", "SNAT", "--to-source", foreign]
    cluster.policy("Local")
    before = cluster.visit(6, progress=False)
    done = [
        cluster.lab.exec("client", ["ip", "address", "add", f"{foreign}/32", "dev", "eth0"]),
        cluster.lab.exec("client", ["iptables-legacy", "-t", "nat", "-A", *rule]),
    ]
    try:
        after = cluster.visit(6, progress=False)
    finally:
        done += [
            cluster.lab.exec("client", ["iptables-legacy", "-t", "nat", "-D", *rule]),
            cluster.lab.exec("client", ["ip", "address", "del", f"{foreign}/32", "dev", "eth0"]),
        ]
        cluster.policy("Cluster")
    assert [one.code for one in done] == [0] * 4, done
    assert before.attrs["nat"] == ""
    assert set(after["source_ip"]) == {foreign} and set(after["client_ip"]) == {"192.168.1.122"}
    assert after.attrs["nat"].startswith(
        f"a NAT stands between client and the cluster: 192.168.1.122 arrives as {foreign}"
    )
    assert set(after["source_kind"].astype(str)) == {"unknown"}
