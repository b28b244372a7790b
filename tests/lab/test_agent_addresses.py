"""Whose address a pod sees, decided by a real kernel: the post's figures, with a handful of rules made by hand."""

from __future__ import annotations

import re

import pytest

from tests.lab.agentlab import CLUSTER_RULES, LOCAL_RULES, KernelLab, kernel_lab

pytestmark = pytest.mark.lab

VIP = "192.168.1.56"
POD1, POD2 = "10.0.5.8", "10.0.30.88"


def seen(lab: KernelLab, pod: str, host: str = "client") -> str:
    """Ask the VIP once; the source address in the access log of the pod that answered."""
    mark = f"?request={len(lab.events)}"
    assert lab.get(host, f"http://{VIP}/{mark}")["status"] is not None

    def lines() -> list[tuple[str, str]]:
        logs = [event for event in lab.events if event.get("stream") == "stdout"]
        return [(event["pod"], line) for event in logs for line in event["text"].splitlines() if mark in line]

    lab.wait_for(lines)
    ((answered_by, line),) = lines()
    assert answered_by == pod
    return re.match(r"\S+", line).group()


@pytest.fixture(scope="module", params=["calico", "flannel", "ptp"])
def lab(request):
    with kernel_lab(cni=request.param) as lab:
        lab.add_nginx("one", "worker01", POD1)
        lab.add_nginx("two", "worker02", POD2)
        lab.call("announce", host="worker01", address=VIP)
        yield lab


def test_cluster_shows_an_address_of_the_node(lab):
    lab.restore("worker01", CLUSTER_RULES.format(endpoint=POD2))
    assert seen(lab, "seminar/two") == "10.0.5.0"
    lab.exec("worker01", "conntrack", "-F")
    lab.restore("worker01", CLUSTER_RULES.format(endpoint=POD1))
    from_own_node = {"calico": "192.168.1.45", "flannel": "10.0.5.1", "ptp": "10.0.5.1"}
    assert seen(lab, "seminar/one") == from_own_node[lab.topology.cni]


def test_local_shows_the_client(lab):
    lab.restore("worker01", LOCAL_RULES.format(endpoint=POD1))
    assert seen(lab, "seminar/one") == "192.168.1.122"


def test_pod_to_pod_keeps_the_pods_address(lab):
    assert lab.get("seminar/one", f"http://{POD2}/who")["body"] == POD1 + "\n"
    assert lab.get("seminar/two", f"http://{POD1}/who")["body"] == POD2 + "\n"


def test_node_to_pod(lab):
    shown = lab.get("worker02", f"http://{POD1}/who")["body"].strip()
    assert shown == "10.0.30.64"


def test_pod_to_the_world_outside(lab):
    """What a pod that calls another node's port looks like is the pod network's own masquerading."""
    for node in ("worker01", "worker02"):
        lab.restore(node, "*nat\nCOMMIT\n")
    forward = "*nat\n-A PREROUTING -p tcp --dport 30080 -j DNAT --to-destination {}:80\nCOMMIT\n"
    lab.restore("worker02", forward.format(POD2))
    shown = lab.get("seminar/one", "http://192.168.1.46:30080/who")["body"].strip()
    assert shown == (POD1 if lab.topology.cni == "ptp" else "192.168.1.45")
