import ipaddress
from pathlib import Path

import pytest

from srcip_nb.errors import UsageError
from srcip_nb.lab import topology as topo
from srcip_nb.lab.topology import masquerade_rules, node_annotations, pod_device, pod_text, topology, topology_text

GOLDEN = Path(__file__).parent.parent / "data" / "topology"


def addresses(t):
    return {host.name: host.address for host in t.hosts}


def test_the_posts_addresses():
    assert addresses(topology()) == {
        "router": "192.168.1.1",
        "master01": "192.168.1.41",
        "worker01": "192.168.1.45",
        "worker02": "192.168.1.46",
        "client": "192.168.1.122",
    }
    assert [(n.pod_block, n.tunnel_address) for n in topology().nodes] == [
        ("10.0.241.0/26", "10.0.241.0"),
        ("10.0.5.0/26", "10.0.5.0"),
        ("10.0.30.64/26", "10.0.30.64"),
    ]


def test_the_largest_lab_has_no_address_twice_and_leaves_the_vips_alone():
    t = topology(workers=50, clients=78)
    lan = list(addresses(t).values())
    assert len(set(lan)) == len(lan)
    assert not {ipaddress.ip_address(a) for a in lan} & set(topo_vips())
    blocks = [ipaddress.ip_network(node.pod_block) for node in t.nodes]
    assert all(not a.overlaps(b) for i, a in enumerate(blocks) for b in blocks[:i])
    assert all(block.subnet_of(ipaddress.ip_network(topo.CLUSTER_CIDR)) for block in blocks)
    macs = [mac for host in t.hosts for mac in (host.mac, host.tunnel_mac) if mac]
    assert len(set(macs)) == len(macs)


def topo_vips():
    first, last = (int(ipaddress.ip_address(address)) for address in topo.VIP_POOL)
    return [ipaddress.ip_address(number) for number in range(first, last + 1)]


@pytest.mark.parametrize(
    "arguments", [{"workers": 0}, {"workers": 51}, {"workers": "2"}, {"workers": True}, {"clients": 0}, {"clients": 79}]
)
def test_numbers_out_of_range(arguments):
    with pytest.raises(UsageError, match="a lab has 1 to"):
        topology(**arguments)


def test_by_bgp_the_pool_is_behind_the_router():
    """All that differs from layer 2: clients' routes to the pool, and what the router needs to share it out."""
    pool = ["192.168.1.56/29", "192.168.1.64/27", "192.168.1.96/28", "192.168.1.112/29", "192.168.1.120/31"]
    l2, bgp = (topology_text(topology(announce=kind)).splitlines() for kind in topo.ANNOUNCE)
    assert [line for line in bgp if line not in l2] == [
        "ip netns exec router sysctl -q -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0",
        "ip netns exec router sysctl -q -w net.ipv4.fib_multipath_hash_policy=1",
        *(f"ip -n router route add unreachable {network}" for network in pool),
        *(f"ip -n client route add {network} via 192.168.1.1 dev eth0" for network in pool),
    ]
    assert [line for line in l2 if line not in bgp] == []
    # A device takes its settings from "default" when it is made.
    assert [i for i, line in enumerate(bgp) if "redirects" in line] < [
        i for i, line in enumerate(bgp) if "add br0" in line
    ]
    held = [address for network in topo.pool_networks() for address in ipaddress.ip_network(network)]
    assert held == topo_vips()


def test_unknown_names():
    with pytest.raises(UsageError, match="l2, bgp"):
        topology(announce="ospf")
    with pytest.raises(UsageError, match="calico, flannel, ptp"):
        topology(cni="weave")
    with pytest.raises(UsageError, match="router, master01, worker01, worker02, client"):
        topology().host("worker03")


@pytest.mark.parametrize("cni", topo.CNIS)
def test_texts(cni):
    """The texts as they stand; after a wanted change, write them anew with the values shown."""
    t = topology(cni=cni)
    node = t.host("worker02")
    pod = pod_text(t, node, "seminar", "webserver-68c554c9f6-ck6h2", "10.0.30.88")
    masquerade = masquerade_rules(t, node)
    text = "".join(["# hosts\n", topology_text(t), "\n# a pod\n", pod, "\n# masquerading\n", masquerade])
    assert text == (GOLDEN / f"{cni}.txt").read_text()


@pytest.mark.parametrize(("cni", "first"), [("calico", "10.0.5.1"), ("flannel", "10.0.5.2"), ("ptp", "10.0.5.2")])
def test_pod_addresses_leave_out_the_gateway(cni, first):
    t = topology(cni=cni)
    pods = t.pod_addresses(t.host("worker01"))
    assert (pods[0], pods[-1]) == (first, "10.0.5.62")
    assert t.gateway(t.host("worker01")) not in pods


def test_the_posts_pods_are_possible():
    t = topology()
    assert "10.0.5.8" in t.pod_addresses(t.host("worker01"))
    assert "10.0.30.88" in t.pod_addresses(t.host("worker02"))


def test_device_names_fit_the_kernel():
    for cni in topo.CNIS:
        name = pod_device(topology(cni=cni), "a-namespace", "a-pod-with-a-very-long-name-indeed-68c554c9f6-ck6h2")
        assert len(name) <= 15
    # sha1("seminar.web")
    assert pod_device(topology(), "seminar", "web") == "cali" + "431bf656785"


def test_masquerading_is_for_nodes():
    for cni in topo.CNIS:
        t = topology(cni=cni)
        assert masquerade_rules(t, t.host("client")) == masquerade_rules(t, t.router) == ""
    assert masquerade_rules(topology(cni="ptp"), topology(cni="ptp").host("worker01")) == ""


def test_tunnel_addresses_are_published_as_the_real_networks_do():
    calico, flannel, ptp = (topology(cni=cni) for cni in topo.CNIS)
    assert node_annotations(calico, calico.host("worker01"))["projectcalico.org/IPv4VXLANTunnelAddr"] == "10.0.5.0"
    assert '"VtepMAC": "66:00:0a:00:05:00"' in str(node_annotations(flannel, flannel.host("worker01")))
    assert node_annotations(ptp, ptp.host("worker01")) == {}
