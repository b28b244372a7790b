"""kube-proxy's mode on a running lab: the seminar's experiment in mode nftables, and changing over under load."""

from __future__ import annotations

import threading
from importlib import resources

import pytest
import yaml

from srcip_nb.errors import LabError
from tests.conftest import kubectl
from tests.lab.test_seed import MANIFESTS, pods_by_node, send, service, set_policy, sources

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def nft_lab():
    from srcip_nb.lab import Lab

    with Lab(name="tests-nft", proxy_mode="nftables") as lab:
        for name in MANIFESTS:
            text = (resources.files("srcip_nb") / "manifests" / name).read_text(encoding="utf-8")
            kubectl(lab, "apply", "-f", "-", stdin=text)
        kubectl(lab, "-n", "seminar", "rollout", "status", "deployment/webserver", "--timeout=20s")
        jsonpath = "jsonpath={.status.loadBalancer.ingress}"
        kubectl(lab, "-n", "seminar", "wait", f"--for={jsonpath}", "service/webserver", "--timeout=10s")
        yield lab


@pytest.fixture
def nft(nft_lab):
    """The lab in mode nftables, policy Cluster, two pods."""
    nft_lab.proxy_mode("nftables")
    set_policy(nft_lab, "Cluster")
    return nft_lab


def rules(lab, node: str = "worker01") -> dict[str, bool]:
    """Which mode's rules a node has."""
    return {
        "iptables": "KUBE" in lab.client.exec(node, ["iptables-legacy-save"]).stdout,
        "nftables": "kube-proxy" in lab.client.exec(node, ["nft", "list", "ruleset"]).stdout,
    }


def test_the_seminars_experiment_gives_the_same_addresses(nft):
    assert rules(nft) == {"iptables": False, "nftables": True}
    assert {r["status"] for r in send(nft, "http://192.168.1.56/", "nft-cluster")} == {200}
    assert sources(nft, "nft-cluster") == {"worker01": {"192.168.1.45"}, "worker02": {"10.0.5.0"}}
    set_policy(nft, "Local")
    assert {r["status"] for r in send(nft, "http://192.168.1.56/", "nft-local")} == {200}
    assert sources(nft, "nft-local") == {"worker01": {"192.168.1.122"}, "worker02": set()}


def test_local_without_a_pod_drops_and_no_pod_at_all_refuses(nft):
    port = service(nft)["spec"]["ports"][0]["nodePort"]
    set_policy(nft, "Local")
    assert {r["error"] for r in send(nft, f"http://192.168.1.41:{port}/", "nft-drop", 3)} == {"timeout"}
    kubectl(nft, "-n", "seminar", "scale", "deployment", "webserver", "--replicas=0")
    try:
        kubectl(nft, "-n", "seminar", "wait", "--for=delete", "pod", "-l", "app=webserver", "--timeout=20s")
        address = service(nft)["spec"]["clusterIP"]
        for url in (f"http://{address}/", f"http://192.168.1.45:{port}/", f"http://{address}:81/"):
            assert nft.client.exec("worker01", ["curl", "-s", "-m", "2", url]).code == 7, url
        unallocated = nft.client.exec("worker01", ["curl", "-s", "-m", "1", "http://10.1.77.77/"])
        assert unallocated.code == 28
    finally:
        kubectl(nft, "-n", "seminar", "scale", "deployment", "webserver", "--replicas=2")
        kubectl(nft, "-n", "seminar", "rollout", "status", "deployment/webserver", "--timeout=20s")


@pytest.mark.parametrize(("mode", "code"), [("nftables", 7), ("iptables", 0)])
def test_only_mode_iptables_answers_node_ports_on_localhost(nft, mode, code):
    assert nft.proxy_mode(mode) == nft.proxy_mode() == mode
    port = service(nft)["spec"]["ports"][0]["nodePort"]
    assert nft.client.exec("worker01", ["curl", "-s", "-m", "2", f"http://127.0.0.1:{port}/"]).code == code
    assert nft.client.exec("worker01", ["curl", "-s", "-m", "2", f"http://192.168.1.45:{port}/"]).code == 0


def test_the_mode_can_be_read_in_all_the_usual_places(nft):
    for mode in ("iptables", "nftables"):
        nft.client.proxy_mode(mode)
        assert nft.client.exec("worker02", ["curl", "-s", "http://localhost:10249/proxyMode"]).stdout == mode
        config = "jsonpath={.data.config\\.conf}"
        read = kubectl(nft, "-n", "kube-system", "get", "configmap", "kube-proxy", "-o", config).stdout
        assert yaml.safe_load(read)["mode"] == mode
        assert nft.client.info()["proxy_mode"] == mode
        assert rules(nft) == {"iptables": mode == "iptables", "nftables": mode == "nftables"}


def test_a_pod_is_masqueraded_by_the_pod_network_and_only_then(nft):
    pods, spec = pods_by_node(nft), service(nft)["spec"]
    port = spec["ports"][0]["nodePort"]
    set_policy(nft, "Local")
    for mode in ("nftables", "iptables"):
        nft.proxy_mode(mode)
        pod = f"seminar/{pods['worker01']}"
        own = nft.client.exec(pod, ["hostname", "-I"]).stdout.split()[0]
        assert nft.client.exec(pod, ["curl", "-s", "-m", "2", f"http://192.168.1.46:{port}/?out-{mode}"]).code == 0
        assert sources(nft, f"out-{mode}")["worker02"] == {"192.168.1.45"}
        for n in range(20):
            url = f"http://{spec['clusterIP']}/?in-{mode}-{n}"
            assert nft.client.exec(pod, ["curl", "-s", "-m", "2", url]).code == 0
        seen = sources(nft, f"in-{mode}")
        # To another pod with its own address; back to itself with its node's.
        assert seen["worker02"] == {own} and seen["worker01"] == {"192.168.1.45"}


def test_changing_over_loses_no_request(nft):
    results: list[dict] = []
    requests = [{"id": n, "url": f"http://192.168.1.56/?over-{n}"} for n in range(600)]
    load = threading.Thread(
        target=lambda: results.extend(nft.client.visit("client", requests, concurrency=8, timeout=2, rate=400))
    )
    load.start()
    switches = 0
    while load.is_alive() and switches < 20:
        nft.proxy_mode("iptables" if switches % 2 == 0 else "nftables")
        switches += 1
    load.join()
    assert switches > 4
    assert len(results) == 600 and {(r["status"], r["error"]) for r in results} == {(200, "")}


def test_a_mode_that_does_not_exist_changes_nothing(nft):
    with pytest.raises(LabError, match="there is no proxy mode 'userspace'; take one of iptables, nftables"):
        nft.proxy_mode("userspace")
    assert nft.proxy_mode() == "nftables" and rules(nft)["nftables"]


def test_lab_list_shows_the_mode_that_is_in_force(nft, cli):
    for mode in ("iptables", "nftables"):
        nft.proxy_mode(mode)
        line = next(line for line in cli("lab", "list").stdout.splitlines() if line.startswith("tests-nft "))
        assert mode in line.split()
