"""The address book and the data plane of clusters of every kind, from objects as their networks write them."""

from pathlib import Path

import pytest
import yaml

from srcip_nb.addresses import book_of, name_address, pod_entries, service_entries
from srcip_nb.dataplane import DataPlane, left_out
from srcip_nb.dataplane_balancer import announcing
from srcip_nb.dataplane_find import find
from srcip_nb.dataplane_seen import Seen
from srcip_nb.expect import CLUSTER_IP, EXTERNAL, LOAD_BALANCER, NODE_PORT, POD, Case, Endpoint
from srcip_nb.node_addresses import cilium_entries, node_entries, range_entries

CLUSTERS = Path(__file__).parent / "data" / "clusters"
MASTER, WORKER = ("worker01", "worker02")

# address -> (kind, node); "" for the node of an address that is no node's.
BOOKS = {
    "kubeadm-calico-vxlan": {
        "10.244.5.0": ("pod-network", "worker01"),  # the tunnel, in Calico's block and not in the podCIDR
        "10.244.1.0": ("unknown", ""),
        "10.244.1.1": ("unknown", ""),
        "192.168.1.45": ("node", "worker01"),
        "10.244.30.67": ("pod", "worker02"),
        "192.168.1.56": ("load-balancer", ""),
    },
    "kubeadm-calico-ipip": {"10.244.30.64": ("pod-network", "worker02"), "10.244.2.1": ("unknown", "")},
    "kubeadm-calico-bgp": {"10.244.5.0": ("unknown", ""), "192.168.1.46": ("node", "worker02")},
    "kubeadm-calico-ebpf": {"10.244.5.0": ("pod-network", "worker01"), "192.168.1.45": ("node", "worker01")},
    "kubeadm-flannel-vxlan": {
        "10.244.1.0": ("pod-network", "worker01"),
        "10.244.2.1": ("pod-network", "worker02"),
        "10.244.1.3": ("pod", "worker01"),
        "10.244.1.4": ("unknown", ""),
    },
    "kubeadm-flannel-hostgw": {"10.244.1.0": ("unknown", ""), "10.244.1.1": ("pod-network", "worker01")},
    "kubeadm-flannel-wireguard": {"10.244.1.0": ("pod-network", "worker01"), "10.244.1.1": ("pod-network", "worker01")},
    "kind": {
        "10.244.1.0": ("unknown", ""),
        "10.244.1.1": ("pod-network", "kind-worker"),
        "172.18.0.3": ("node", "kind-worker"),
        "172.18.0.1": ("unknown", ""),  # the container network's gateway: outside the cluster
        "172.18.0.5": ("load-balancer", ""),
    },
    "cilium-tunnel": {
        "10.0.1.148": ("pod-network", "worker01"),
        "10.0.1.20": ("pod-network", "worker01"),
        "10.0.2.200": ("pod-network", "worker02"),
        "10.0.1.33": ("pod", "worker01"),
        "10.244.1.0": ("unknown", ""),  # Cilium's cluster pool leaves the Nodes' podCIDR unused
        "10.244.1.1": ("unknown", ""),
    },
    "cilium-native": {"10.0.2.63": ("pod-network", "worker02"), "192.168.1.46": ("node", "worker02")},
    "k3s": {
        "10.42.1.0": ("pod-network", "agent1"),
        "10.42.2.1": ("pod-network", "agent2"),
        "10.42.1.9": ("pod", "agent1"),  # ServiceLB's own pod
        "192.168.1.46": ("node", "agent2"),  # an external address as well: the node comes first
    },
    "eks": {
        "10.0.11.21": ("node", "ip-10-0-11-21.ec2.internal"),
        "10.0.11.140": ("node", "ip-10-0-11-21.ec2.internal"),  # a further network card that the API tells of
        "10.0.11.77": ("pod", "ip-10-0-11-21.ec2.internal"),
        "10.0.11.78": ("unknown", ""),  # one that no pod has: in no object
    },
    "gke": {
        "10.132.0.12": ("node", "gke-c-pool-1-c3d4"),
        "34.0.0.12": ("node", "gke-c-pool-1-c3d4"),
        "10.8.1.1": ("pod-network", "gke-c-pool-1-c3d4"),
        "10.8.1.0": ("unknown", ""),
        "10.8.0.6": ("pod", "gke-c-pool-1-a1b2"),
    },
    "aks": {"10.224.0.17": ("pod", "aks-nodepool1-vmss000000"), "10.224.0.18": ("unknown", "")},
    "aks-overlay": {"10.244.0.17": ("pod", "aks-nodepool1-vmss000000"), "10.244.0.1": ("unknown", "")},
}

# proxy, cni, tunnel, masquerade, load_balancer, announce, dsr, ip_mode; "" is what the objects do not tell.
PLANES = {
    "kubeadm-calico-vxlan": "iptables calico vxlan yes metallb l2 no VIP",
    "kubeadm-calico-ipip": "ipvs calico ipip yes metallb l2 no VIP",
    "kubeadm-calico-bgp": "nftables calico none yes metallb bgp no VIP",
    "kubeadm-calico-ebpf": "calico-ebpf calico vxlan yes metallb l2 yes VIP",
    "kubeadm-flannel-vxlan": "iptables flannel vxlan yes none - no -",
    "kubeadm-flannel-hostgw": "nftables flannel none yes kube-vip - no VIP",
    "kubeadm-flannel-wireguard": "iptables flannel wireguard yes - - no VIP",
    "kind": "iptables kindnet none yes - - no Proxy",
    "cilium-tunnel": "iptables cilium vxlan - metallb l2 no VIP",
    "cilium-native": "cilium cilium none - cilium - yes VIP",
    "k3s": "iptables flannel vxlan - servicelb - no VIP",
    "eks": "iptables aws-vpc none no aws - no hostname",
    "gke": "iptables gke none - gce - no VIP",
    "aks": "iptables azure none - azure - no VIP",
    "aks-overlay": "iptables azure none - azure - no VIP",
}


def seen(name: str, without: str = "", **silent: str) -> Seen:
    """The recorded objects, all kinds but one; ``silent``: why a kind is not there."""
    items = yaml.safe_load((CLUSTERS / name / "objects.yaml").read_text(encoding="utf-8"))["items"]
    return Seen(tuple(item for item in items if item["kind"] != without), silent)


def plane(name: str) -> DataPlane:
    return find(seen(name))


def test_every_recorded_cluster_has_its_expectations():
    assert {path.name for path in CLUSTERS.iterdir() if path.is_dir()} == set(BOOKS) == set(PLANES)


@pytest.mark.parametrize("name", BOOKS)
def test_whose_address_it_is(name):
    objects = seen(name)
    book = book_of(
        [
            *node_entries(objects.all("Node")),
            *cilium_entries(objects.all("CiliumNode")),
            *pod_entries(objects.all("Pod")),
            *service_entries(objects.all("Service")),
            *range_entries(objects.all("Node"), objects.all("Pod")),
        ]
    )
    assert {address: name_address(book, address)[:2] for address in BOOKS[name]} == BOOKS[name]
    assert book["address"].is_unique
    assert book["reason"].str.len().gt(10).all()


@pytest.mark.parametrize("name", PLANES)
def test_what_the_data_plane_is(name):
    facts = plane(name).facts()
    assert " ".join(fact.value or "-" for fact in facts.values()) == PLANES[name]
    assert all(fact.evidence and fact.evidence != "not looked for" for fact in facts.values())


def test_evidence_names_object_and_field():
    found = plane("kubeadm-calico-ebpf")
    assert found.proxy.evidence == "Installation default: spec.calicoNetwork.linuxDataplane BPF"
    assert found.dsr.evidence == "FelixConfiguration default: spec.bpfExternalServiceMode DSR"
    assert plane("cilium-native").proxy.evidence == "ConfigMap kube-system/cilium-config: kube-proxy-replacement true"
    assert plane("k3s").load_balancer.evidence.startswith("DaemonSet kube-system/svclb-webserver-1a2b3c4d: label")
    assert plane("kubeadm-flannel-vxlan").load_balancer.evidence == (
        "Service seminar/webserver: EXTERNAL-IP pending since 2026-01-01T00:00:00Z"
    )


def test_who_announces():
    assert announcing(seen("kubeadm-calico-vxlan")) == {"seminar/webserver": ("worker01", "ServiceL2Status")}
    assert announcing(seen("kubeadm-calico-bgp")) == {"seminar/webserver": ("worker01, worker02", "ServiceBGPStatus")}


def test_what_may_not_be_read_is_not_guessed():
    hidden = find(seen("kubeadm-calico-vxlan", "FelixConfiguration", FelixConfiguration="may not be read (403)"))
    assert hidden.proxy.value == ""
    assert hidden.proxy.evidence == "Calico may run eBPF, and FelixConfiguration default: may not be read (403)"
    refused = {"ConfigMap kube-system/cilium-config": "may not be read (403)"}
    hidden = find(seen("cilium-native", "ConfigMap", **refused))
    assert hidden.proxy.value == hidden.tunnel.value == "" and "403" in hidden.proxy.evidence
    hidden = find(seen("gke", "Service", Service="may not be read (403)"))
    assert (hidden.load_balancer.value, hidden.load_balancer.evidence) == ("", "Services: may not be read (403)")


def test_a_configmap_that_nobody_reads_tells_no_mode():
    objects = seen("kubeadm-calico-vxlan")
    gone = tuple(item for item in objects.objects if item["metadata"]["name"] != "kube-proxy" or "spec" not in item)
    found = find(Seen(gone)).proxy
    assert (
        found.value == ""
        and "says mode iptables, but no DaemonSet kube-proxy runs that would read it" in found.evidence
    )


def test_kube_proxys_own_word():
    nobody = Seen((), {"DaemonSet": "not there"}, {"a": "nftables", "b": "nftables", "c": "!503 Service Unavailable"})
    assert find(nobody).proxy.value == "nftables"
    assert find(nobody).proxy.evidence == "kube-proxy on a, b answers /proxyMode: nftables"
    mixed = find(Seen((), {}, {"a": "nftables", "b": "iptables"})).proxy
    assert mixed.value == "" and mixed.evidence.startswith("they disagree: kube-proxy on a")
    html = find(Seen((), {}, {"a": "<html>"})).proxy  # something else listens there
    assert html.value == ""


def case(client: str, destination: str, external: str = "Cluster", **more) -> Case:
    return Case(client, destination, (Endpoint("s1", MASTER), Endpoint("s2", WORKER)), external, at=MASTER, **more)


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("kubeadm-calico-vxlan", case(EXTERNAL, LOAD_BALANCER), ""),
        ("kubeadm-calico-bgp", case(POD, NODE_PORT, node=WORKER), ""),
        ("kubeadm-calico-ipip", case(EXTERNAL, NODE_PORT), ""),
        ("kubeadm-calico-ebpf", case(EXTERNAL, NODE_PORT), "calico-ebpf carries out Services"),
        ("kubeadm-calico-ebpf", case(EXTERNAL, NODE_PORT, "Local"), ""),
        ("cilium-native", case(EXTERNAL, LOAD_BALANCER, "Local"), ""),
        ("cilium-native", case(POD, CLUSTER_IP, node=WORKER, pod="c1"), ""),
        ("cilium-native", case(POD, CLUSTER_IP, node=WORKER, pod="s1"), "cilium carries out Services"),
        ("kubeadm-flannel-vxlan", case(EXTERNAL, LOAD_BALANCER), "no external address is given here"),
        ("kubeadm-flannel-vxlan", case(EXTERNAL, NODE_PORT), ""),
        ("kind", case(EXTERNAL, LOAD_BALANCER, "Local"), "ipMode Proxy"),
        ("k3s", case(EXTERNAL, LOAD_BALANCER), "ServiceLB gives nodes' own addresses"),
        ("eks", case(EXTERNAL, LOAD_BALANCER), "a name instead of an address"),
    ],
)
def test_which_rows_a_data_plane_leaves_out(name, asked, words):
    found = plane(name)
    reason = left_out(found, asked)
    assert (words in reason) if words else reason == ""
    if words:
        facts = found.facts().values()
        assert any(f"({fact.evidence})" in reason for fact in facts), "the reason names its evidence"


def test_what_nobody_knows_is_left_out_and_a_mode_vouched_for_is_not():
    unknown = DataPlane()
    assert "could not be found out (not looked for); say it: --mode" in left_out(unknown, case(EXTERNAL, NODE_PORT))
    assert left_out(unknown, case(EXTERNAL, NODE_PORT, "Local")) == "", "kept, whoever carries out Services"
    assert left_out(unknown.with_mode("nftables", "--mode"), case(EXTERNAL, NODE_PORT)) == ""


def test_what_the_oracle_is_told():
    assert (plane("kubeadm-calico-bgp").world.mode, plane("kubeadm-calico-bgp").world.cni) == ("nftables", "calico")
    assert plane("k3s").world.cni == ""  # whether k3s' flannel masquerades is in no object
    assert plane("cilium-native").world.mode == ""
