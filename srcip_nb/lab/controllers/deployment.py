"""The Deployment controller: carries out what `rollout` decides, and writes what `rollout_status` says."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from srcip_nb.lab.api.selectors import labels_match
from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.loop import Controller, KeysOf
from srcip_nb.lab.controllers.objects import (
    Key,
    Object,
    annotations_of,
    controller_of,
    copied,
    is_controlled_by,
    is_terminating,
    key_of,
    labels_of,
    now,
    owner_reference,
)
from srcip_nb.lab.controllers.rollout import REVISION, Action, new_replicaset, plan_rollout
from srcip_nb.lab.controllers.rollout_status import deployment_status, seconds_to_deadline

COMPONENT = "deployment-controller"
_MANAGER = "kube-controller-manager"


class DeploymentController(Controller[Key]):
    """Deployment -> ReplicaSets."""

    name = "Deployment controller"

    def watched(self) -> dict[str, KeysOf[Key]]:
        """Deployments, and ReplicaSets by the Deployment that controls them."""
        return {"deployments": lambda obj: [key_of(obj)], "replicasets": self._deployments_of}

    def _deployments_of(self, replicaset: Object) -> Iterable[Key]:
        namespace, _ = key_of(replicaset)
        reference = controller_of(replicaset)
        if reference is not None:
            return [(namespace, reference["name"])] if reference["kind"] == "Deployment" else []
        return [
            key
            for key, deployment in self.seen.get("deployments", {}).items()
            if key[0] == namespace and labels_match(deployment["spec"]["selector"], labels_of(replicaset))
        ]

    async def reconcile(self, key: Key) -> float | None:
        """Take the next steps of one Deployment and write its status."""
        namespace, name = key
        deployment = self.store.peek("deployments", namespace, name)
        if deployment is None:
            return None
        replicasets = self._own_replicasets(deployment)
        if not is_terminating(deployment):
            for action in plan_rollout(deployment, replicasets):
                self._carry_out(deployment, action)
            replicasets = self._own_replicasets(deployment)
        wanted = _with_revision(deployment, replicasets)
        wanted = {**wanted, "status": deployment_status(deployment, replicasets, now())}
        if wanted != deployment:
            # The revision goes by /status too, as the real controller sends it: it is no new generation.
            deployment = self.store.update("deployments", wanted, subresource="status", manager=_MANAGER)
        return seconds_to_deadline(deployment, time.time())

    def _own_replicasets(self, deployment: Object) -> list[Object]:
        """Those it controls; one that fits and has no controller is adopted first."""
        namespace, _ = key_of(deployment)
        own = []
        for replicaset in self.store.list("replicasets", namespace):
            if is_controlled_by(replicaset, deployment):
                own.append(replicaset)
            elif self._may_adopt(deployment, replicaset):
                own.append(self._adopt(deployment, replicaset))
        return own

    def _may_adopt(self, deployment: Object, replicaset: Object) -> bool:
        is_free = controller_of(replicaset) is None and not is_terminating(replicaset)
        return (
            is_free
            and not is_terminating(deployment)
            and labels_match(deployment["spec"]["selector"], labels_of(replicaset))
        )

    def _adopt(self, deployment: Object, replicaset: Object) -> Object:
        adopted = copied(replicaset)
        references = adopted["metadata"].setdefault("ownerReferences", [])
        references.append(owner_reference(deployment, "apps/v1", "Deployment"))
        return self.store.update("replicasets", adopted, manager=_MANAGER)

    def _carry_out(self, deployment: Object, action: Action) -> None:
        namespace, name = key_of(action.replicaset)
        if action.verb == "delete":
            self.store.delete("replicasets", namespace, name)
        elif action.verb == "update":
            self.store.update("replicasets", action.replicaset, manager=_MANAGER)
        else:
            try:
                self.store.create("replicasets", action.replicaset, manager=_MANAGER)
            except ApiError as error:
                if error.code == 409:
                    self._count_collision(deployment)
                raise
        if action.event:
            record(self.store, deployment, "ScalingReplicaSet", action.event, component=COMPONENT)

    def _count_collision(self, deployment: Object) -> None:
        """Another template has the name already: the next try hashes with a count."""
        status = dict(deployment.get("status") or {})
        status["collisionCount"] = status.get("collisionCount", 0) + 1
        self.store.update("deployments", {**deployment, "status": status}, subresource="status", manager=_MANAGER)


def _with_revision(deployment: Object, replicasets: Sequence[Object]) -> Object:
    """The Deployment with the revision of its new ReplicaSet among its annotations."""
    new = new_replicaset(deployment, replicasets)
    revision = annotations_of(new).get(REVISION) if new else None
    if revision is None or annotations_of(deployment).get(REVISION) == revision:
        return deployment
    changed = copied(deployment)
    changed["metadata"].setdefault("annotations", {})[REVISION] = revision
    return changed
