"""The scheduler: which node a pod runs on.

A node is ruled out by what the pod asks for (nodeSelector, node affinity), by what the node refuses (cordon, taints,
being not Ready) or by being full. Of those left the pod goes where the fewest pods of its own owner are, then the
fewest pods at all, then the first by name: so two replicas in an empty lab run on worker01 and worker02, every time.

Source of the sentences: kubernetes v1.36.2 pkg/scheduler/framework/plugins and pkg/scheduler/framework/types.go.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.loop import Controller, KeysOf
from srcip_nb.lab.controllers.objects import (
    Key,
    Object,
    condition_of,
    controller_of,
    has_labels,
    is_finished,
    is_terminating,
    key_of,
    labels_of,
    meets,
    now,
    tolerates,
)

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store

COMPONENT = "default-scheduler"
_MANAGER = "kube-scheduler"

UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_NOT_HELPFUL = "Preemption is not helpful for scheduling"


def choose_node(pod: Object, nodes: Sequence[Object], pods: Iterable[Object]) -> tuple[str, str]:
    """The node that a pod should run on.

    Args:
        pod: a pod without a node.
        nodes: every node.
        pods: every pod; those that have a node and have not ended count.

    Returns:
        The node's name and "", or "" and the sentence of a FailedScheduling event.
    """
    placed = [other for other in pods if other["spec"].get("nodeName") and not is_finished(other)]
    load = Counter(other["spec"]["nodeName"] for other in placed)
    owner = _owner_uid(pod)
    siblings = Counter(
        other["spec"]["nodeName"]
        for other in placed
        if owner and _owner_uid(other) == owner and not is_terminating(other)
    )
    taken: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for other in placed:
        taken[other["spec"]["nodeName"]] |= _host_ports(other)
    reasons: Counter[str] = Counter()
    fitting: list[tuple[int, int, int, str]] = []
    for node in nodes:
        name = node["metadata"]["name"]
        reason = why_not(pod, node, load[name])
        if not reason and _host_ports(pod) & taken[name]:
            reason = "node(s) didn't have free ports for the requested pod ports"
        if reason:
            reasons[reason] += 1
        else:
            fitting.append((_disliked_taints(pod, node), siblings[name], load[name], name))
    if fitting:
        return min(fitting)[-1], ""
    return "", _sentence(len(nodes), reasons)


def why_not(pod: Object, node: Object, running: int) -> str:
    """Why a pod cannot run on a node that runs `running` pods, in the scheduler's words; "" when it can."""
    tolerations = pod["spec"].get("tolerations") or []
    if node["spec"].get("unschedulable") and not tolerates(tolerations, UNSCHEDULABLE):
        return "node(s) were unschedulable"
    for taint in node["spec"].get("taints") or []:
        is_hard = taint["effect"] in ("NoSchedule", "NoExecute")
        is_cordon = taint["key"] == UNSCHEDULABLE["key"]
        if is_hard and not is_cordon and not tolerates(tolerations, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"
    ready = condition_of(node, "Ready")
    if ready is not None and ready["status"] != "True":
        return "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"
    if not _matches_affinity(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    capacity = (node.get("status") or {}).get("allocatable", {}).get("pods", "110")
    return "Too many pods" if running >= int(capacity) else ""


def _host_ports(pod: Object) -> set[tuple[str, int]]:
    """The ports that a pod takes on its node: those of a pod on the host's network, which the API writes down."""
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or [])
    return {(port.get("protocol", "TCP"), port["hostPort"]) for port in ports if port.get("hostPort")}


def _matches_affinity(pod: Object, node: Object) -> bool:
    if not has_labels(labels_of(node), pod["spec"].get("nodeSelector") or {}):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        all(meets(requirement, labels_of(node)) for requirement in term.get("matchExpressions") or [])
        and all(meets(requirement, fields) for requirement in term.get("matchFields") or [])
        for term in required.get("nodeSelectorTerms") or []
        if term.get("matchExpressions") or term.get("matchFields")
    )


def _disliked_taints(pod: Object, node: Object) -> int:
    tolerations = pod["spec"].get("tolerations") or []
    taints = node["spec"].get("taints") or []
    return sum(taint["effect"] == "PreferNoSchedule" and not tolerates(tolerations, taint) for taint in taints)


def _owner_uid(pod: Object) -> str:
    reference = controller_of(pod)
    return str(reference["uid"]) if reference else ""


def _sentence(count: int, reasons: Counter[str]) -> str:
    if count == 0:
        return "no nodes available to schedule pods"
    listed = ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))
    nodes = f"0/{count} nodes are available: "
    return f"{nodes}{listed}. no new claims to deallocate, preemption: {nodes}{count} {_NOT_HELPFUL}."


class Scheduler(Controller[Key]):
    """Pod without a node -> spec.nodeName."""

    name = "scheduler"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._waiting: set[Key] = set()

    def watched(self) -> dict[str, KeysOf[Key]]:
        """Pods; and nodes, whose changes have every waiting pod looked at again."""
        return {"nodes": lambda node: list(self._waiting), "pods": self._concerned}

    def _concerned(self, pod: Object) -> Iterable[Key]:
        if not pod["spec"].get("nodeName"):
            return [key_of(pod)]
        # A pod that ends may make room for one that waits.
        return list(self._waiting) if is_finished(pod) or is_terminating(pod) else []

    async def reconcile(self, key: Key) -> float | None:
        """Give one pod its node, or say why there is none."""
        namespace, name = key
        self._waiting.discard(key)
        pod = self.store.peek("pods", namespace, name)
        if pod is None:
            return None
        is_mine = pod["spec"].get("schedulerName", COMPONENT) == COMPONENT
        if pod["spec"].get("nodeName") or is_terminating(pod) or not is_mine or pod["spec"].get("schedulingGates"):
            return None
        node, sentence = choose_node(pod, self.store.list("nodes"), self.store.list("pods"))
        if node:
            self._bind(pod, node)
        else:
            self._waiting.add(key)
            self._tell_failure(pod, sentence)
        return None

    def _bind(self, pod: Object, node: str) -> None:
        namespace, name = key_of(pod)
        bound = self.store.bind(namespace, name, node)
        message = f"Successfully assigned {namespace}/{name} to {node}"
        record(self.store, bound, "Scheduled", message, component=COMPONENT, host=_HOST, action="Binding")

    def _tell_failure(self, pod: Object, sentence: str) -> None:
        present = condition_of(pod, "PodScheduled")
        if present is not None and present.get("message") == sentence:
            return
        finding = {"status": "False", "reason": "Unschedulable", "message": sentence}
        unscheduled = {**pod, "status": _with_scheduled(pod, finding)}
        pod = self.store.update("pods", unscheduled, subresource="status", manager=_MANAGER)
        told = {"component": COMPONENT, "host": _HOST, "action": "Scheduling"}
        record(self.store, pod, "FailedScheduling", sentence, "Warning", **told)


_HOST = "master01"


def _with_scheduled(pod: Object, finding: Object) -> Object:
    status = dict(pod.get("status") or {})
    others = [condition for condition in status.get("conditions") or [] if condition["type"] != "PodScheduled"]
    condition = {
        "type": "PodScheduled",
        "observedGeneration": pod["metadata"].get("generation", 1),
        **finding,
        "lastProbeTime": None,
        "lastTransitionTime": now(),
    }
    return {**status, "conditions": [*others, condition]}
