"""The ReplicaSet controller: as many pods of a template as asked for, no more and no fewer.

Which pods go when there are too many is kubernetes v1.36.2 pkg/controller/controller_utils.go (ActivePodsWithRanks).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from srcip_nb.lab.api.selectors import labels_match
from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.loop import Controller, KeysOf
from srcip_nb.lab.controllers.objects import (
    Key,
    Object,
    annotations_of,
    condition_of,
    controller_of,
    copied,
    is_active,
    is_controlled_by,
    is_finished,
    is_ready,
    is_terminating,
    key_of,
    labels_of,
    now,
    owner_reference,
    phase_of,
    seconds_of,
)
from srcip_nb.lab.controllers.rollout import replicas_of

COMPONENT = "replicaset-controller"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_MANAGER = "kube-controller-manager"


def pod_of(replicaset: Object) -> Object:
    """A new pod made of the template; the store gives it a name that begins with the ReplicaSet's."""
    template = copied(replicaset["spec"]["template"])
    namespace, name = key_of(replicaset)
    metadata = {
        **{field: value for field, value in (template.get("metadata") or {}).items() if field in _FROM_TEMPLATE},
        "generateName": f"{name}-",
        "namespace": namespace,
        "ownerReferences": [owner_reference(replicaset, "apps/v1", "ReplicaSet")],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


_FROM_TEMPLATE = ("labels", "annotations", "finalizers")


def pods_to_delete(pods: Sequence[Object], surplus: int) -> list[Object]:
    """The pods that can best be done without: first those without a node, pending, not ready, cheap, crowded, young."""
    crowds = Counter((pod["spec"].get("nodeName"), is_active(pod)) for pod in pods)
    phases = {"Pending": 0, "Unknown": 1}

    def rank(pod: Object) -> tuple[object, ...]:
        node = pod["spec"].get("nodeName")
        ready = condition_of(pod, "Ready")
        ready_since = seconds_of(ready["lastTransitionTime"]) if ready and is_ready(pod) else 0.0
        restarts = max((c["restartCount"] for c in (pod.get("status") or {}).get("containerStatuses") or []), default=0)
        cost = annotations_of(pod).get(DELETION_COST, "0")
        return (
            bool(node),
            phases.get(phase_of(pod), 2),
            is_ready(pod),
            int(cost) if cost.lstrip("+-").isdigit() else 0,
            -crowds[node, True],
            -ready_since,
            -restarts,
            -seconds_of(pod["metadata"]["creationTimestamp"]),
            pod["metadata"]["name"],
        )

    return sorted(pods, key=rank)[:surplus]


def available_in(pod: Object, min_ready: int, at: float) -> float | None:
    """Seconds until a pod has been ready for `min_ready` seconds: 0 when it has, None when it is not ready."""
    ready = condition_of(pod, "Ready")
    if ready is None or not is_ready(pod):
        return None
    return max(0.0, seconds_of(ready["lastTransitionTime"]) + min_ready - at) if min_ready else 0.0


def replicaset_status(replicaset: Object, pods: Sequence[Object], at: float, failure: str, stamp: str) -> Object:
    """The status that a ReplicaSet should have.

    Args:
        replicaset: as stored.
        pods: those that it controls, terminating ones too.
        at: seconds since the epoch.
        failure: why pods could not be created, "" where they could.
        stamp: the time now as the API prints it.
    """
    active = [pod for pod in pods if is_active(pod)]
    min_ready = replicaset["spec"].get("minReadySeconds") or 0
    wanted_labels = replicaset["spec"]["template"].get("metadata", {}).get("labels") or {}
    counts = {
        "fullyLabeledReplicas": sum(wanted_labels.items() <= labels_of(pod).items() for pod in active),
        "readyReplicas": sum(map(is_ready, active)),
        "availableReplicas": sum(available_in(pod, min_ready, at) == 0.0 for pod in active),
    }
    status: Object = {"replicas": len(active), **{field: count for field, count in counts.items() if count}}
    status["terminatingReplicas"] = sum(is_terminating(pod) and not is_finished(pod) for pod in pods)
    status["observedGeneration"] = replicaset["metadata"].get("generation", 0)
    present = condition_of(replicaset, "ReplicaFailure")
    if failure:
        is_known = present is not None and present["message"] == failure
        condition = {
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": present["lastTransitionTime"] if present and is_known else stamp,
            "reason": "FailedCreate",
            "message": failure,
        }
        status["conditions"] = [condition]
    return status


class ReplicaSetController(Controller[Key]):
    """ReplicaSet -> pods."""

    name = "ReplicaSet controller"

    def watched(self) -> dict[str, KeysOf[Key]]:
        """ReplicaSets, and pods by the ReplicaSet that controls or could adopt them."""
        return {"replicasets": lambda obj: [key_of(obj)], "pods": self._replicasets_of}

    def _replicasets_of(self, pod: Object) -> Iterable[Key]:
        namespace, _ = key_of(pod)
        reference = controller_of(pod)
        if reference is not None:
            return [(namespace, reference["name"])] if reference["kind"] == "ReplicaSet" else []
        return [
            key
            for key, replicaset in self.seen.get("replicasets", {}).items()
            if key[0] == namespace and labels_match(replicaset["spec"]["selector"], labels_of(pod))
        ]

    async def reconcile(self, key: Key) -> float | None:
        """Create or delete pods of one ReplicaSet and write its status."""
        namespace, name = key
        replicaset = self.store.peek("replicasets", namespace, name)
        if replicaset is None:
            return None
        failure = ""
        if not is_terminating(replicaset):
            active = [pod for pod in self._own_pods(replicaset) if is_active(pod)]
            missing = replicas_of(replicaset) - len(active)
            failure = self._create(replicaset, missing)
            for pod in pods_to_delete(active, -missing) if missing < 0 else []:
                self._delete(replicaset, pod)
        pods = self._own_pods(replicaset)
        at = time.time()
        status = replicaset_status(replicaset, pods, at, failure, now())
        if status != replicaset.get("status"):
            self.store.update("replicasets", {**replicaset, "status": status}, subresource="status", manager=_MANAGER)
        min_ready = replicaset["spec"].get("minReadySeconds") or 0
        waits = [wait for pod in pods if (wait := available_in(pod, min_ready, at))]
        return 1.0 if failure else min(waits, default=None)

    def _own_pods(self, replicaset: Object) -> list[Object]:
        namespace, _ = key_of(replicaset)
        own = []
        for pod in self.store.list("pods", namespace):
            if is_controlled_by(pod, replicaset):
                if labels_match(replicaset["spec"]["selector"], labels_of(pod)) or is_terminating(pod):
                    own.append(pod)
                else:
                    self._release(replicaset, pod)
            elif self._may_adopt(replicaset, pod):
                adopted = copied(pod)
                references = adopted["metadata"].setdefault("ownerReferences", [])
                references.append(owner_reference(replicaset, "apps/v1", "ReplicaSet"))
                own.append(self.store.update("pods", adopted, manager=_MANAGER))
        return own

    def _release(self, replicaset: Object, pod: Object) -> None:
        """A pod whose labels were changed is nobody's from now on; another takes its place."""
        released = copied(pod)
        references = [r for r in released["metadata"]["ownerReferences"] if r["uid"] != replicaset["metadata"]["uid"]]
        released["metadata"]["ownerReferences"] = references
        self.store.update("pods", released, manager=_MANAGER)

    def _may_adopt(self, replicaset: Object, pod: Object) -> bool:
        is_free = controller_of(pod) is None and is_active(pod) and not is_terminating(replicaset)
        return is_free and labels_match(replicaset["spec"]["selector"], labels_of(pod))

    def _create(self, replicaset: Object, count: int) -> str:
        """Create pods; the reason why not, if one is refused."""
        for _ in range(count):
            try:
                pod = self.store.create("pods", pod_of(replicaset), manager=_MANAGER)
            except ApiError as error:
                message = f"Error creating: {error.message}"
                record(self.store, replicaset, "FailedCreate", message, "Warning", component=COMPONENT)
                return error.message
            message = f"Created pod: {pod['metadata']['name']}"
            record(self.store, replicaset, "SuccessfulCreate", message, component=COMPONENT)
        return ""

    def _delete(self, replicaset: Object, pod: Object) -> None:
        namespace, name = key_of(pod)
        self.store.delete("pods", namespace, name)
        record(self.store, replicaset, "SuccessfulDelete", f"Deleted pod: {name}", component=COMPONENT)
