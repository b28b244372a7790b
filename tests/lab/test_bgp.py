"""Addresses announced by BGP on a real kernel: who gets how much, counted.

Shares are those of chance: the kernel's hash of a connection chooses the node, a random number there the pod. So a
count out of n is allowed to be five standard deviations of its binomial distribution away from n p; that fails by
chance about once in 1.7 million counts.
"""

import math

import pytest

from srcip_nb.cluster import wait_until
from srcip_nb.judge import AS_EXPECTED, DIFFERS
from srcip_nb.lab.spec import PROXY_MODES
from srcip_nb.matrix import matrix
from tests.conftest import kubectl

pytestmark = pytest.mark.lab

N = 600
SIGMAS = 5
WORKERS = {"worker01", "worker02", "worker03"}
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


@pytest.fixture(scope="module")
def seminar():
    """Two pods on one of worker01 and worker02, one on the other, none on worker03."""
    from srcip_nb import connect
    from srcip_nb.lab import Lab

    with Lab(workers=3, announce="bgp", name="tests-bgp") as lab:
        cluster = connect(lab=lab.name, quiet=True)
        kubectl(lab, "cordon", "worker03")
        cluster.apply()
        cluster.patch("deployments", "webserver", {"spec": {"replicas": 3}})
        cluster.wait_ready(30)
        kubectl(lab, "uncordon", "worker03")
        wait_until(lambda: "" if len(cluster.endpoints()) == 3 else "fewer", "three endpoints", 30)
        assert sorted(cluster.endpoints()["NODE"].value_counts()) == [1, 2]
        next_hops(cluster, WORKERS)
        yield cluster


def next_hops(cluster, wanted: set[str]) -> None:
    """Wait until the router's route to the address has these nodes."""
    names = {host["address"]: host["name"] for host in cluster.lab.hosts()}

    def look() -> str:
        words = cluster.lab.exec("router", ["ip", "route", "show", "192.168.1.56"]).stdout.split()
        found = {names[word] for word in words if word in names}
        return "" if found == wanted else f"next hops {found}"

    wait_until(look, f"next hops {wanted}", 10)


def assert_shares(counts, shares: dict[str, float]) -> None:
    assert set(counts.index) == set(shares)
    for name, share in shares.items():
        tolerance = SIGMAS * math.sqrt(N * share * (1 - share))
        assert abs(counts[name] - N * share) <= tolerance, f"{name}: {counts[name]} of {N}, not {share:.0%}"


def test_under_cluster_every_node_is_an_entry_with_its_share(seminar):
    seminar.policy("Cluster")
    next_hops(seminar, WORKERS)
    frame = seminar.visit(N, progress=False)
    assert (frame["error"] == "").all() and not frame["preserved"].any()
    assert_shares(frame["source_node"].value_counts(), dict.fromkeys(WORKERS, 1 / 3))
    assert_shares(frame["pod"].value_counts(), dict.fromkeys(seminar.endpoints().index, 1 / 3))
    assert frame.attrs["announcers"] == sorted(WORKERS) and frame.attrs["announcer"] == ""


def test_under_local_nodes_share_alike_and_pods_do_not(seminar):
    seminar.policy("Local")
    next_hops(seminar, {"worker01", "worker02"})
    where = seminar.endpoints()["NODE"]
    frame = seminar.visit(N, progress=False)
    # worker03 would drop what came to it, so nothing did.
    assert (frame["error"] == "").all() and frame["preserved"].all()
    assert_shares(frame["node"].value_counts(), {"worker01": 1 / 2, "worker02": 1 / 2})
    pods_beside = where.map(where.value_counts())
    shares = {pod: 1 / (2 * pods_beside[pod]) for pod in where.index}
    assert sorted(shares.values()) == [1 / 4, 1 / 4, 1 / 2]
    assert_shares(frame["pod"].value_counts(), shares)
    assert frame.attrs["announcers"] == ["worker01", "worker02"]


def test_the_very_next_request_meets_the_new_policy(seminar):
    for value in ("Local", "Cluster") * 4:
        seminar.policy(value)
        frame = seminar.visit(24, progress=False, timeout=1.0)
        assert frame["error"].tolist() == [""] * 24
        assert frame["preserved"].unique().tolist() == [value == "Local"]


def test_an_excluded_node_gets_nothing(seminar):
    seminar.policy("Cluster")
    kubectl(seminar.lab, "label", "node", "worker02", f"{EXCLUDE}=")
    try:
        next_hops(seminar, WORKERS - {"worker02"})
        frame = seminar.visit(60, progress=False)
        assert set(frame["source_node"]) == {"worker01", "worker03"}
        assert frame.attrs["announcers"] == ["worker01", "worker03"]
    finally:
        kubectl(seminar.lab, "label", "node", "worker02", f"{EXCLUDE}-")
    next_hops(seminar, WORKERS)


@pytest.mark.parametrize("mode", [mode for mode in PROXY_MODES if mode != "ipvs"])  # this kernel may not have it
def test_the_oracle_knows_that_any_node_may_be_the_entry(seminar, mode):
    frame = matrix(seminar, mode=mode, only=lambda one: one.destination.startswith("vip"), progress=False)
    assert frame.query("client == 'outside'")["verdict"].eq(AS_EXPECTED).sum() > 20
    assert frame.loc[frame["verdict"] == DIFFERS, "difference"].tolist() == []


def test_the_way_to_the_pool_is_by_the_router(seminar):
    """No ARP for an address of the pool, no redirect to a shorter way, and at once "no way" where nobody announces."""
    assert seminar.visit(8, progress=False)["error"].tolist() == [""] * 8
    (error,) = seminar.visit(1, target="192.168.1.121:80", progress=False)["error"]
    assert error == "unreachable"
    neighbours = seminar.lab.exec("client", ["ip", "neigh"]).stdout
    assert "192.168.1.1 " in neighbours and "192.168.1.56 " not in neighbours and "192.168.1.121" not in neighbours
    head, values = (
        line.split()
        for line in seminar.lab.exec("client", ["cat", "/proc/net/snmp"]).stdout.splitlines()
        if line.startswith("Icmp:")
    )
    counts = dict(zip(head, values, strict=True))
    assert (counts["InRedirects"], counts["InErrors"]) == ("0", "0")


def test_without_pods_the_route_is_gone(seminar):
    seminar.patch("deployments", "webserver", {"spec": {"replicas": 0}})
    next_hops(seminar, set())
    wait_until(lambda: str(list(seminar.endpoints().index) or ""), "no endpoint", 30)
    frame = seminar.visit(1, progress=False)
    assert frame["error"].tolist() == ["unreachable"] and frame.attrs["announcers"] == []
