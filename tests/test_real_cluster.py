"""The lesson on a real cluster: what the lab stands in for must hold where it does not."""

import pytest

from srcip_nb import connect
from srcip_nb.addresses import addresses
from srcip_nb.client_pods import client_pods
from srcip_nb.clients import find_client
from srcip_nb.cluster import OURS, is_ready
from srcip_nb.dataplane_read import NODES_ASKED
from srcip_nb.doctor import OK
from srcip_nb.doctor_cluster import examine
from srcip_nb.errors import UsageError
from srcip_nb.host_probe import ask_nodes
from srcip_nb.matrix import matrix

pytestmark = pytest.mark.cluster


def test_a_namespace_of_our_own_is_made_filled_and_taken_away(real_cluster):
    real_cluster.apply()
    assert set(real_cluster.list("services")[0]["metadata"]["labels"].items()) >= {
        ("app.kubernetes.io/managed-by", "srcip-nb")
    }
    real_cluster.delete()
    assert real_cluster.find("namespaces", real_cluster.namespace) is None


def test_a_real_cluster_is_no_lab(real_context):
    cluster = connect(real_context, quiet=True)
    assert cluster.lab is None
    assert cluster.world.kind == "context"
    assert cluster.world.name == real_context


@pytest.fixture
def webserver(real_cluster):
    real_cluster.apply()
    real_cluster.wait_ready()
    return real_cluster


def ready_node(cluster) -> str:
    return next(node["metadata"]["name"] for node in cluster.list("nodes") if is_ready(node))


def test_a_pod_is_a_client_and_keeps_its_address_towards_a_cluster_ip(webserver):
    pods = webserver.pods()
    asker = pods.index[0]
    frame = webserver.visit(20, f"pod/{asker}", target="clusterip")
    assert (frame["status"] == 200).all()
    assert set(frame["client_ip"]) == {pods.loc[asker, "IP"]}
    elsewhere = frame[frame["pod"].astype(str) != asker]
    assert elsewhere["preserved"].all()


def test_a_node_is_a_client_by_a_pod_on_its_network(webserver):
    node = ready_node(webserver)
    frame = webserver.visit(10, f"node/{node}", target="clusterip")
    assert (frame["status"] == 200).all()
    client = find_client(webserver, f"node/{node}")
    assert set(frame["client_ip"]) <= set(addresses(webserver).query("node == @node")["address"])
    (refused,) = client.send([{"id": 0, "url": "http://127.0.0.1:9/", "headers": {}}], concurrency=1, timeout=2)
    assert refused["error"] == "refused"


@pytest.mark.timeout(300)
def test_every_road_is_as_the_oracle_says_from_pods_and_nodes(webserver):
    node = webserver.pods()["NODE"].iloc[0]
    client_pods(webserver, node)
    webserver.expose("inner")
    table = webserver.roads("inner", [node, "visitor", "host-visitor"])
    assert len(table) == 3 and table["holds"].all(), table.to_string()


def test_a_step_apart_stays_in_the_namespace_that_was_given(real_cluster):
    name = real_cluster.world.name
    assert (
        connect(name, namespace=real_cluster.namespace, apart="proxy", quiet=True).namespace == real_cluster.namespace
    )


def test_a_node_that_does_not_exist_is_named(real_cluster):
    with pytest.raises(UsageError, match="no node 'nowhere'"):
        find_client(real_cluster, "node/nowhere")


@pytest.mark.timeout(300)
def test_a_part_of_the_matrix_holds_and_leaves_nothing(real_context):
    cluster = connect(real_context, quiet=True)
    frame = matrix(cluster, mode="iptables", only=lambda question: question.service == "local", progress=False)
    told = frame[frame["verdict"] == "differs"][["client", "destination", "difference"]].to_string()
    assert "differs" not in set(frame["verdict"]), told
    assert "as expected" in set(frame["verdict"])
    assert (frame.loc[frame["verdict"] == "not run", "difference"] != "").all()
    left = [space["metadata"]["name"] for space in cluster.list("namespaces", labels=OURS)]
    assert not [name for name in left if name == frame.attrs["namespace"]]


def test_doctor_looks_and_leaves_nothing_behind(real_cluster):
    before = {ns["metadata"]["name"] for ns in real_cluster.list("namespaces")}
    found = {finding.what: finding for finding in examine(real_cluster)}
    assert {ns["metadata"]["name"] for ns in real_cluster.list("namespaces")} == before, "looking makes nothing"
    assert found["reachable"].state == OK
    assert found["permissions: lessons"].evidence
    assert all(finding.evidence for finding in found.values())


def test_a_real_kube_proxy_tells_its_mode(real_cluster):
    told = ask_nodes(real_cluster)
    ready = [node["metadata"]["name"] for node in real_cluster.list("nodes") if is_ready(node)]
    assert set(told.modes) == set(ready[:NODES_ASKED])
    assert {mode for mode in told.modes.values() if not mode.startswith("!")} <= {"iptables", "nftables", "ipvs"}
    assert not [ns for ns in real_cluster.list("namespaces") if ns["metadata"]["name"].startswith("srcip-doctor-")]
