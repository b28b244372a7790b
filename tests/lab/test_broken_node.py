"""What a learner can do to a node: the lab's controllers go on, and have nothing to say about it."""

from __future__ import annotations

import pytest

from srcip_nb.lab import Lab
from tests.conftest import kubectl

pytestmark = pytest.mark.lab

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: default, labels: {app: web}}
spec: {nodeName: worker01, containers: [{name: nginx, image: nginx}]}
---
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}
"""
BREAK = """\
iptables-legacy -t nat -F
ip link set eth0 down
for device in $(ls /sys/class/net); do [ $device = lo ] || ip link del $device; done
kill -9 -1
"""


def test_a_node_without_a_network_still_takes_and_gives_up_pods():
    with Lab() as lab:
        kubectl(lab, "apply", "-f", "-", stdin=POD.replace("NAME", "before") + SERVICE)
        kubectl(lab, "wait", "--for=condition=Ready", "pod/before", "--timeout=20s")
        lab.client.exec("before", ["ip", "link", "del", "eth0"])
        lab.client.exec("worker01", ["sh", "-c", BREAK])
        kubectl(lab, "apply", "-f", "-", stdin=POD.replace("NAME", "after"))
        kubectl(lab, "wait", "--for=condition=Ready", "pod/after", "--timeout=20s")
        policy = '{"spec": {"externalTrafficPolicy": "Local"}}'
        kubectl(lab, "patch", "service", "web", "-p", policy)
        kubectl(lab, "delete", "pod", "before", "after", "--timeout=20s")
        kubectl(lab, "apply", "-f", "-", stdin=POD.replace("NAME", "other").replace("worker01", "worker02"))
        kubectl(lab, "wait", "--for=condition=Ready", "pod/other", "--timeout=20s")
        assert (lab.kubeconfig.parent / "log").read_text() == ""
