"""Equal to a real kube-proxy v1.36.2 for 68 Services of every kind at once, beside the ten scenarios.

tests/data/kube-proxy-zoo/MODE/ holds what a real kube-proxy wrote into an empty namespace on each node, and the objects
that a real API server v1.36.2 gave it: mixed protocols, SCTP, named target ports with several numbers, affinity, source
ranges of both families, external IPs with both policies, terminating and unready endpoints, hints for zones and nodes,
ipMode, endpoints on the host network, endpoints in two slices, no slices, other proxies' Services, very long names.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import yaml

from srcip_nb.lab.proxy.iptables import iptables_rules
from srcip_nb.lab.proxy.nftables import nftables_rules
from tests.lab.test_proxy_iptables import comparable
from tests.lab.test_proxy_nftables import tables

ZOO = Path(__file__).parents[1] / "data" / "kube-proxy-zoo"
NODES = ("master01", "worker01", "worker02")


def text_of(mode: str, name: str) -> str:
    return gzip.decompress((ZOO / mode / f"{name}.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def objects():
    """Services, EndpointSlices and Nodes by mode."""
    found = {}
    for mode in ("iptables", "nftables"):
        documents = list(yaml.load_all(text_of(mode, "objects.yaml"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        kinds = ("Service", "EndpointSlice", "Node")
        found[mode] = [[one for one in documents if one["kind"] == kind] for kind in kinds]
    return found


def test_the_zoo_is_whole(objects):
    assert [len(kind) for kind in objects["iptables"]] == [len(kind) for kind in objects["nftables"]]
    assert len(objects["iptables"][0]) > 65


@pytest.mark.parametrize("node", NODES)
def test_iptables(objects, node):
    truth = comparable(text_of("iptables", f"{node}.rules"))
    assert sum(len(rules) for chains in truth.values() for rules in chains.values()) > 500
    assert comparable(iptables_rules(*objects["iptables"], node)) == truth


@pytest.mark.parametrize("node", NODES)
def test_nftables(objects, node):
    truth = tables(text_of("nftables", f"{node}.rules"))
    assert len(truth["ip kube-proxy"].chains) > 100
    assert tables(nftables_rules(*objects["nftables"], node)) == truth
