"""What becomes of a client's address on its way, concluded from runs."""

import pandas as pd
import pytest

from srcip_nb.addresses import THIS_MACHINE, book_of, client_entries
from srcip_nb.nat import ip_mode_of, nat_key, nat_words, way_of
from srcip_nb.node_addresses import Entry

VIP = {"status": {"loadBalancer": {"ingress": [{"ip": "192.168.1.56", "ipMode": "VIP"}]}}}
PROXY = {"status": {"loadBalancer": {"ingress": [{"ip": "192.168.1.56", "ipMode": "Proxy"}]}}}


def book(own: str = "192.168.65.3") -> pd.DataFrame:
    nodes = [Entry("172.18.0.3", "node", "kind-worker", "kind-worker", "its own address")]
    return book_of([*nodes, *client_entries([{"name": THIS_MACHINE, "address": own}])])


def run(sources: list[str | None], own: str = "192.168.65.3", policy: str = "Local", client: str = THIS_MACHINE):
    rows = {
        "client": client,
        "client_ip": own,
        "policy": policy,
        "source_ip": pd.array(sources, dtype="string"),
        "status": pd.array([200 if source else None for source in sources], dtype="Int16"),
    }
    return pd.DataFrame(rows)


def test_a_nat_is_recognised_and_named():
    way = way_of(run(["172.18.0.1"] * 3), book())
    assert (way.own, way.seen, way.survives, way.is_nat) == ("192.168.65.3", "172.18.0.1", False, True)
    assert way.words == (
        "a NAT stands between this machine and the cluster: 192.168.65.3 arrives as 172.18.0.1, the gateway of the "
        "container network that the nodes are in (Docker, kind, minikube)"
    )
    assert way.evidence == "3 requests under externalTrafficPolicy Local: sockets 192.168.65.3, logged 172.18.0.1"


def test_without_a_nat():
    way = way_of(run(["192.168.65.3", "::ffff:192.168.65.3", None]), book())
    assert way.survives and not way.is_nat and "arrives at the pods unchanged" in way.words


def test_a_nodes_address_is_no_nat():
    way = way_of(run(["172.18.0.3"]), book())
    assert not way.survives and not way.is_nat and "its own address" in way.words


@pytest.mark.parametrize(
    "frame",
    [
        run([]),
        run([None, None]),
        run(["172.18.0.1"], policy="Cluster"),  # the nodes put their own there: nothing can be said
        run(["172.18.0.1", "172.18.0.9"]),
        run(["172.18.0.1"], client="worker01"),
    ],
    ids=["no request", "no answer", "policy Cluster", "two addresses", "not from outside"],
)
def test_what_tells_nothing(frame):
    assert way_of(frame, book()) is None


def test_a_proxys_address_is_no_nat_of_this_machines_network():
    foreign = run(["172.18.0.5"])
    assert nat_words(foreign, book(), VIP, ["192.168.1.56:80"]).startswith("a NAT stands between this machine")
    assert nat_words(foreign, book(), PROXY, ["192.168.1.56:80"]) == ""
    assert nat_words(foreign, book(), PROXY, ["172.18.0.3:31080"]) != ""  # a node port is nobody's proxy
    assert ip_mode_of({"status": {}}) == ""


@pytest.mark.parametrize(
    ("seen", "key"),
    [
        ("192.168.65.254", "nat.docker_desktop"),
        ("192.168.127.1", "nat.gvproxy"),
        ("10.0.2.2", "nat.user_mode"),
        ("100.101.7.9", "nat.shared"),
        ("172.18.0.1", "nat.bridge"),
        ("172.18.0.9", "nat.unnamed"),
        ("172.19.0.1", "nat.unnamed"),  # a gateway of a network that no node is in
        ("203.0.113.7", "nat.unnamed"),
        ("2001:db8::7", "nat.unnamed"),
    ],
)
def test_what_an_address_points_to(seen, key):
    assert nat_key(seen, ["172.18.0.3", "2001:db8::3"]) == key
