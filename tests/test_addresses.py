import pandas as pd
import pytest

from srcip_nb.addresses import (
    KINDS,
    addresses,
    book_of,
    client_entries,
    name_address,
    name_sources,
    node_entries,
    pod_entries,
    range_entries,
    service_entries,
)
from tests.cluster_fakes import FakeLab, items, recorded, serving


def node(name: str, address: str, cidr: str | None = None, **annotations: str) -> dict:
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]} if cidr else {},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }


VXLAN = "projectcalico.org/IPv4VXLANTunnelAddr"


def test_a_calico_tunnel_address_outside_the_pod_range():
    book = book_of(node_entries([node("worker01", "192.168.1.45", "10.0.5.0/24", **{VXLAN: "10.0.77.64"})]))
    kind, owner, reason = name_address(book, "10.0.77.64")
    assert (kind, owner) == ("pod-network", "worker01")
    assert "VXLAN tunnel address (Calico)" in reason


def test_a_network_that_speaks_for_itself_is_not_second_guessed():
    nodes = [node("worker01", "192.168.1.45", "10.0.5.0/24", **{VXLAN: "10.0.5.0"})]
    book = book_of([*node_entries(nodes), *range_entries(nodes)])
    assert "VXLAN tunnel address (Calico)" in name_address(book, "10.0.5.0")[2]
    assert name_address(book, "10.0.5.1")[0] == "unknown"


def test_the_ends_of_flannels_pod_range():
    nodes = [node("worker01", "192.168.1.45", "10.0.5.0/24", **{"flannel.alpha.coreos.com/public-ip": "192.168.1.45"})]
    book = book_of([*node_entries(nodes), *range_entries(nodes)])
    assert name_address(book, "10.0.5.0")[:2] == name_address(book, "10.0.5.1")[:2] == ("pod-network", "worker01")
    assert book["address"].is_unique


def test_own_addresses_written_with_a_prefix_length():
    annotations = {"projectcalico.org/IPv4Address": "192.168.9.45/24", "network.cilium.io/ipv4-cilium-host": "10.0.1.7"}
    book = book_of(node_entries([node("worker01", "192.168.1.45", **annotations)]))
    assert name_address(book, "192.168.9.45")[:2] == ("node", "worker01")
    assert name_address(book, "10.0.1.7")[:2] == ("pod-network", "worker01")


def test_a_fact_comes_before_a_custom():
    nodes = [node("a", "192.168.1.45", "10.0.5.0/24")]
    pod = {"metadata": {"name": "web"}, "spec": {"nodeName": "a"}, "status": {"podIP": "10.0.5.1"}}
    book = book_of([*node_entries(nodes), *pod_entries([pod]), *range_entries(nodes)])
    assert name_address(book, "10.0.5.1")[0] == "pod"


def test_pods_but_not_those_of_the_host_network_or_ended_ones():
    pods = items("pods")
    host = {"metadata": {"name": "proxy"}, "spec": {"hostNetwork": True}, "status": {"podIP": "192.168.1.45"}}
    ended = {"metadata": {"name": "job"}, "spec": {}, "status": {"phase": "Succeeded", "podIP": "10.0.5.9"}}
    book = book_of(pod_entries([*pods, host, ended]))
    assert set(book["address"]) == {"10.0.30.66", "10.0.5.2"}
    assert name_address(book, "10.0.30.66")[:2] == ("pod", "worker02")


def test_addresses_of_services():
    service = {
        "metadata": {"namespace": "seminar", "name": "webserver"},
        "spec": {"clusterIP": "10.1.246.94", "clusterIPs": ["10.1.246.94"], "externalIPs": ["192.168.1.200"]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.168.1.56"}]}},
    }
    headless = {"metadata": {"namespace": "x", "name": "y"}, "spec": {"clusterIP": "None"}, "status": {}}
    book = book_of(service_entries([service, headless]))
    assert dict(zip(book["address"], book["kind"], strict=True)) == {
        "192.168.1.56": "load-balancer",
        "192.168.1.200": "load-balancer",
        "10.1.246.94": "service",
    }


def test_nobodys_address_stays_unknown():
    book = book_of(range_entries([node("worker01", "192.168.1.45", "10.0.5.0/24")]))
    assert name_address(book, "10.0.5.77")[:2] == ("unknown", "")
    assert name_address(book, "not an address")[0] == "unknown"
    assert name_address(book_of([]), "10.0.5.0")[0] == "unknown"


def test_probes_are_set_apart_by_their_user_agent():
    book = book_of(node_entries([node("worker01", "192.168.1.45")]))
    assert name_address(book, "192.168.1.45", "kube-probe/1.36")[0] == "probe"
    agents = pd.Series(["kube-probe/1.36", "curl/8", None])
    named = name_sources(book, pd.Series(["192.168.1.45"] * 3, dtype="string"), agents)
    assert list(named["source_kind"]) == ["probe", "node", "node"]


def test_many_at_once_keep_what_is_missing():
    book = book_of([*node_entries([node("worker01", "192.168.1.45")]), *client_entries(FakeLab().hosts())])
    sources = pd.Series(
        ["192.168.1.45", None, "8.8.8.8", "192.168.1.122", "::ffff:192.168.1.45"], index=[9, 8, 7, 6, 5]
    )
    named = name_sources(book, sources.astype("string"))
    assert list(named["source_kind"].astype("string").fillna("-")) == ["node", "-", "unknown", "client", "node"]
    assert list(named["source_node"].astype("string").fillna("-")) == ["worker01", "-", "-", "-", "worker01"]
    assert list(named["source_kind"].cat.categories) == list(KINDS)
    assert list(named.index) == [9, 8, 7, 6, 5]


def test_without_any_source():
    named = name_sources(book_of([]), pd.Series([None, None], dtype="string"), pd.Series([None, None]))
    assert named.isna().all(axis=None)


@pytest.fixture
def answers():
    return {
        ("GET", "/api/v1/nodes"): recorded("list-nodes"),
        ("GET", "/api/v1/pods"): recorded("list-pods"),
        ("GET", "/api/v1/namespaces/seminar/pods"): recorded("list-pods"),
        ("GET", "/api/v1/services"): recorded("list-services"),
        ("GET", "/api/v1/namespaces/seminar/services"): recorded("list-services"),
    }


def test_the_book_of_a_lab(answers):
    with serving(answers, lab=FakeLab()) as (_, cluster):
        book = addresses(cluster)
    assert list(book.columns) == ["address", "kind", "owner", "node", "reason"]
    named = book.set_index("address")["owner"].to_dict()
    assert named["192.168.1.45"] == "worker01"
    assert named["192.168.1.122"] == "client"
    assert named["10.1.52.86"] == "seminar/webserver"


def test_this_machine_is_the_client_of_a_real_cluster(answers):
    nodes = recorded("list-nodes")[1]
    for one in nodes["items"]:
        one["status"]["addresses"][0]["address"] = "127.0.0.1"
    with serving({**answers, ("GET", "/api/v1/nodes"): (200, nodes)}) as (_, cluster):
        book = addresses(cluster)
    assert set(book.loc[book["address"] == "127.0.0.1", "kind"]) == {"node"}  # on a node, this machine is the node


def test_without_the_right_to_see_other_namespaces(answers):
    refused = (403, {"message": "services is forbidden", "reason": "Forbidden"})
    answers |= {("GET", "/api/v1/services"): refused, ("GET", "/api/v1/pods"): refused}
    with serving(answers, lab=FakeLab()) as (_, cluster):
        assert {"10.0.5.2", "10.1.52.86"} <= set(addresses(cluster)["address"])
