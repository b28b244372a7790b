"""The lesson on a real cluster: what the lab stands in for must hold where it does not."""

import pytest

from srcip_nb import connect
from srcip_nb.dataplane_read import NODES_ASKED
from srcip_nb.doctor import OK
from srcip_nb.doctor_cluster import examine
from srcip_nb.host_probe import ask_nodes
from srcip_nb.traffic import is_ready

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
