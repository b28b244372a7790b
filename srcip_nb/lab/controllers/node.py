"""Nodes: what each host of the lab that runs pods, or the control plane, is to Kubernetes.

The Node object says what a kubelet would say of this very machine (kernel, system, memory) and what the pod network
would (the annotations by which the real Calico or Flannel publishes the tunnel's address). While the lab runs its nodes
are Ready; if the agent ends, the lab ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.loop import Controller, KeysOf, all_of
from srcip_nb.lab.controllers.objects import Object, copied, is_terminating, now, seconds_of, tolerates
from srcip_nb.lab.controllers.scheduler import UNSCHEDULABLE
from srcip_nb.lab.topology import Host, Topology, node_annotations

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store

KUBELET_VERSION = "v1.36.2"
RUNTIME_VERSION = "srcip-lab://0.1"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
HEARTBEAT = 300.0
"""Seconds between two looks at the conditions' heartbeat (--node-status-report-frequency, five minutes)."""

ORPHANS_STAY = 40.0
"""Seconds that pods of a node that does not exist are left alone (kubernetes v1.36.2 pkg/controller/podgc)."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Machine:
    """What the machine under the lab is, asked once.

    Attributes:
        kernel: its release.
        os_image: the system's name, out of os-release(5).
        architecture: as Kubernetes spells it.
        cpus: processors.
        memory_kb: memory, KiB.
    """

    def __init__(self, kernel: str = "") -> None:
        self.kernel = kernel or platform.release()
        self.os_image = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux") if _has_os_release() else "Linux"
        self.architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
        self.cpus = os.cpu_count() or 1
        self.memory_kb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024


def _has_os_release() -> bool:
    return any(Path(path).exists() for path in ("/etc/os-release", "/usr/lib/os-release"))


def node_object(topology: Topology, host: Host, machine: Machine) -> Object:
    """A Node as its kubelet would register it."""
    is_control_plane = host.role == "control-plane"
    labels = {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": host.name,
        "kubernetes.io/os": "linux",
    }
    spec: Object = {"podCIDR": host.pod_block, "podCIDRs": [host.pod_block]}
    if is_control_plane:
        labels |= {CONTROL_PLANE: "", "node.kubernetes.io/exclude-from-external-load-balancers": ""}
        spec["taints"] = [{"key": CONTROL_PLANE, "effect": "NoSchedule"}]
    annotations = {
        **node_annotations(topology, host),
        "node.alpha.kubernetes.io/ttl": "0",
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": host.name, "labels": labels, "annotations": annotations},
        "spec": spec,
    }


def node_status(topology: Topology, host: Host, machine: Machine, stamp: str) -> Object:
    """The status of a node that works."""
    room = {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory_kb}Ki",
        "pods": str(min(110, len(topology.pod_addresses(host)))),
    }
    identity = hashlib.sha256(f"srcip-nb {host.name} {host.mac}".encode()).hexdigest()
    return {
        "capacity": room,
        "allocatable": room,
        "conditions": [_condition(*finding, stamp) for finding in _CONDITIONS],
        "addresses": [{"type": "InternalIP", "address": host.address}, {"type": "Hostname", "address": host.name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "machineID": identity[:32],
            "systemUUID": identity[:32],
            "bootID": _boot_id(),
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": RUNTIME_VERSION,
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
    }


_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


def _condition(kind: str, value: str, reason: str, message: str, stamp: str) -> Object:
    return {
        "type": kind,
        "status": value,
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def create_nodes(store: Store, topology: Topology, machine: Machine) -> None:
    """Register every node that is not there, Ready from the start."""
    for host in topology.nodes:
        if store.peek("nodes", "", host.name) is None:
            node = store.create("nodes", node_object(topology, host, machine), manager="kubelet")
            node["status"] = node_status(topology, host, machine, now())
            node = store.update("nodes", node, subresource="status", manager="kubelet")
            message = f"Node {host.name} status is now: NodeReady"
            record(store, node, "NodeReady", message, component="kubelet", host=host.name)


def evictions(node: Object, pods: list[Object], at: float) -> tuple[list[Object], float | None]:
    """The pods that NoExecute taints drive away now, and the seconds until the next is (None: none).

    A pod that tolerates every such taint stays; one whose toleration has tolerationSeconds goes when they are over.
    """
    taints = [taint for taint in node["spec"].get("taints") or [] if taint["effect"] == "NoExecute"]
    going: list[Object] = []
    waits: list[float] = []
    for pod in pods if taints else []:
        tolerations = pod["spec"].get("tolerations") or []
        used = [[t for t in tolerations if tolerates([t], taint)] for taint in taints]
        if not all(used):
            going.append(pod)
            continue
        limits = [t["tolerationSeconds"] for found in used for t in found if t.get("tolerationSeconds") is not None]
        if limits:
            began = max(seconds_of(t["timeAdded"]) if "timeAdded" in t else at for t in taints)
            left = began + min(limits) - at
            waits.append(left)
            if left <= 0:
                going.append(pod)
    return going, min((wait for wait in waits if wait > 0), default=None)


class NodeController(Controller[str]):
    """Nodes: heartbeat, the taint that goes with a cordon, and what a taint or a missing node means to pods.

    Args:
        store: the objects.
        topology: the nodes that have a kubelet.
    """

    name = "node controller"

    def __init__(self, store: Store, topology: Topology) -> None:
        super().__init__(store)
        self._names = {host.name for host in topology.nodes}
        self._missing_since: dict[str, float] = {}

    def watched(self) -> dict[str, KeysOf[str]]:
        """Nodes, and pods by node."""
        return {
            "nodes": lambda node: [node["metadata"]["name"]],
            "pods": lambda pod: [pod["spec"]["nodeName"]] if pod["spec"].get("nodeName") else [],
        }

    async def reconcile(self, key: str) -> float | None:
        """See to one node."""
        name = key
        pods = [pod for pod in self.store.list("pods") if pod["spec"].get("nodeName") == name]
        node = self.store.peek("nodes", "", name)
        if node is None:
            return self._collect_orphans(name, pods)
        self._missing_since.pop(name, None)
        self._sync_cordon(node)
        going, wait = evictions(node, [pod for pod in pods if not is_terminating(pod)], time.time())
        for pod in going:
            place = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            message = f"Marking for deletion Pod {place}"
            record(self.store, pod, "TaintManagerEviction", message, component="taint-eviction-controller")
            self.store.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        return wait

    def _sync_cordon(self, node: Object) -> None:
        """`kubectl cordon` sets spec.unschedulable; the taint that says the same follows."""
        taints = node["spec"].get("taints") or []
        others = [taint for taint in taints if taint["key"] != UNSCHEDULABLE["key"]]
        is_cordoned = bool(node["spec"].get("unschedulable"))
        if is_cordoned == (len(others) < len(taints)):
            return
        changed = copied(node)
        changed["spec"]["taints"] = [*others, {**UNSCHEDULABLE, "timeAdded": now()}] if is_cordoned else others
        if not changed["spec"]["taints"]:
            del changed["spec"]["taints"]
        self.store.update("nodes", changed, manager="kube-controller-manager")

    def _collect_orphans(self, name: str, pods: list[Object]) -> float | None:
        if not pods:
            self._missing_since.pop(name, None)
            return None
        left = self._missing_since.setdefault(name, time.monotonic()) + ORPHANS_STAY - time.monotonic()
        if left > 0:
            return left
        for pod in pods:
            self.store.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], grace=0)
        return None

    async def run(self) -> None:
        """Look after the nodes, with their heartbeat."""
        await all_of(super().run(), self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            for node in self.store.list("nodes"):
                if node["metadata"]["name"] in self._names:
                    alive = copied(node)
                    for condition in alive["status"].get("conditions") or []:
                        condition["lastHeartbeatTime"] = now()
                    self.store.update("nodes", alive, subresource="status", manager="kubelet")
