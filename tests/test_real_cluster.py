"""The lesson on a real cluster: what the lab stands in for must hold where it does not."""

import pytest

from srcip_nb import connect

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
