from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from srcip_nb.lab.controllers import rollout
from srcip_nb.lab.controllers.rollout import plan_rollout, template_hash
from srcip_nb.lab.controllers.rollout_status import deployment_status, seconds_to_deadline

from .controller_objects import STAMP, deployment

Object = dict[str, Any]
DATA = Path(__file__).parent.parent / "data" / "controllers"
LATER = "2026-11-22T15:00:00Z"


class World:
    """Carries out what is planned, and pods become ready when told."""

    def __init__(self, wanted: Object) -> None:
        self.deployment = wanted
        self.sets: list[Object] = []
        self.events: list[str] = []

    def step(self) -> bool:
        actions = plan_rollout(self.deployment, self.sets)
        for action in actions:
            made = copy.deepcopy(action.replicaset)
            made["metadata"].setdefault("uid", made["metadata"]["name"])
            others = [rs for rs in self.sets if rs["metadata"]["name"] != made["metadata"]["name"]]
            if action.verb == "create":
                made["metadata"].setdefault("creationTimestamp", f"2026-11-22T14:27:{len(self.sets):02d}Z")
                made["status"] = {"replicas": 0}
            self.sets = others if action.verb == "delete" else [*others, made]
            if action.event:
                self.events.append(action.event)
        self.deployment["status"] = deployment_status(self.deployment, self.sets, STAMP)
        return bool(actions)

    def settle(self) -> None:
        while self.step():
            pass

    def pods_ready(self) -> None:
        for rs in self.sets:
            size = rs["spec"]["replicas"]
            rs["status"] = {"replicas": size, "readyReplicas": size, "availableReplicas": size}
        self.deployment["status"] = deployment_status(self.deployment, self.sets, STAMP)

    def run(self) -> None:
        for _ in range(40):
            self.settle()
            before = copy.deepcopy(self.sets)
            self.pods_ready()
            if before == self.sets and not plan_rollout(self.deployment, self.sets):
                return
        raise AssertionError(f"does not come to rest: {self.events}")

    def sizes(self) -> dict[str, int]:
        return {rs["metadata"]["name"]: rs["spec"]["replicas"] for rs in self.sets if rs["spec"]["replicas"]}

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(c for c in self.deployment["status"]["conditions"] if c["type"] == kind)
        return found["status"], found["reason"]


def image(world: World, name: str) -> None:
    world.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = name


def test_first_replicaset_is_named_by_the_template_and_annotated() -> None:
    world = World(deployment())
    world.settle()
    (made,) = world.sets
    digest = template_hash(world.deployment["spec"]["template"])
    assert made["metadata"]["name"] == f"web-{digest}"
    assert made["metadata"]["labels"] == {"app": "web", "pod-template-hash": digest}
    assert made["spec"]["selector"] == {"matchLabels": {"app": "web", "pod-template-hash": digest}}
    assert made["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": digest}
    assert made["metadata"]["annotations"] == {
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
        "deployment.kubernetes.io/revision": "1",
    }
    assert world.events == [f"Scaled up replica set web-{digest} from 0 to 2"]


def test_hash_has_the_real_ones_shape_and_ignores_itself() -> None:
    template = deployment()["spec"]["template"]
    digest = template_hash(template)
    assert 8 <= len(digest) <= 10
    assert set(digest) <= set("bcdfghjklmnpqrstvwxz2456789")
    labelled = copy.deepcopy(template)
    labelled["metadata"]["labels"]["pod-template-hash"] = digest
    assert template_hash(labelled) == digest
    assert template_hash(template, collisions=1) != digest


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [(2, "25%", "25%", (1, 0)), (10, "25%", "25%", (3, 2)), (4, 0, 0, (0, 1)), (2, 1, 5, (1, 2)), (0, 1, 1, (0, 0))],
)
def test_surge_and_unavailable(replicas: int, surge: Any, unavailable: Any, expected: tuple[int, int]) -> None:
    wanted = deployment(replicas)
    wanted["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": surge, "maxUnavailable": unavailable}
    assert rollout.surge_and_unavailable(wanted) == expected


def test_status_of_a_complete_deployment_is_what_the_real_server_says() -> None:
    recorded = json.loads((DATA / "deployment.json").read_text())
    sets = json.loads((DATA / "replicasets.json").read_text())
    wanted = copy.deepcopy(recorded)
    wanted["status"] = {}
    status = deployment_status(wanted, sets, "2026-11-22T14:26:59Z")
    real = recorded["status"]
    assert {k: v for k, v in status.items() if k != "conditions"} == {
        k: v for k, v in real.items() if k != "conditions"
    }
    said = {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}
    assert said == {c["type"]: (c["status"], c["reason"], c["message"]) for c in real["conditions"]}


def test_rollout_of_two_never_has_fewer_than_two_available() -> None:
    world = World(deployment())
    world.run()
    old = world.sets[0]["metadata"]["name"]
    image(world, "nginx:1.27")
    world.settle()
    new = next(name for name in world.sizes() if name != old)
    assert world.sizes() == {old: 2, new: 1}
    assert world.condition("Progressing") == ("True", "NewReplicaSetCreated")
    assert world.condition("Available") == ("True", "MinimumReplicasAvailable")
    world.run()
    assert world.sizes() == {new: 2}
    assert world.events[1:] == [
        f"Scaled up replica set {new} from 0 to 1",
        f"Scaled down replica set {old} from 2 to 1",
        f"Scaled up replica set {new} from 1 to 2",
        f"Scaled down replica set {old} from 1 to 0",
    ]
    assert world.condition("Progressing") == ("True", "NewReplicaSetAvailable")


def test_new_pods_that_never_get_ready_leave_the_old_ones_alone() -> None:
    world = World(deployment())
    world.run()
    old = world.sets[0]["metadata"]["name"]
    image(world, "httpd")
    for _ in range(5):
        world.settle()
    assert world.sizes()[old] == 2
    assert sum(world.sizes().values()) == 3


def test_deadline_is_told_when_nothing_moves() -> None:
    world = World(deployment())
    world.settle()
    status = world.deployment["status"]
    assert seconds_to_deadline(world.deployment, 0) is not None
    late = deployment_status(world.deployment, world.sets, LATER)
    progressing = next(c for c in late["conditions"] if c["type"] == "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert status["unavailableReplicas"] == 2


def test_rollback_takes_the_old_replicaset_with_a_new_revision() -> None:
    world = World(deployment())
    world.run()
    old = world.sets[0]["metadata"]["name"]
    image(world, "nginx:1.27")
    world.run()
    image(world, "nginx:latest")
    world.run()
    assert world.sizes() == {old: 2}
    annotations = next(rs for rs in world.sets if rs["metadata"]["name"] == old)["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"


def test_recreate_waits_until_the_last_old_pod_has_gone() -> None:
    world = World(deployment(strategy={"type": "Recreate"}))
    world.run()
    old = world.sets[0]
    image(world, "nginx:1.27")
    world.settle()
    assert world.sizes() == {}
    old = world.sets[0]
    old["status"] = {"replicas": 0, "terminatingReplicas": 1, "observedGeneration": 1}
    assert plan_rollout(world.deployment, world.sets) == []
    old["status"] = {"replicas": 0, "observedGeneration": 1}
    world.settle()
    assert list(world.sizes().values()) == [2]


def test_scaling_marks_the_replicaset_and_says_so() -> None:
    world = World(deployment())
    world.run()
    world.deployment["spec"]["replicas"] = 5
    world.run()
    assert list(world.sizes().values()) == [5]
    assert world.sets[0]["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"] == "5"
    assert world.events[-1].endswith("from 2 to 5")
    world.deployment["spec"]["replicas"] = 0
    world.run()
    assert world.sizes() == {}


def test_scaling_in_the_middle_of_a_rollout_keeps_the_shares() -> None:
    world = World(deployment(10))
    world.run()
    old = world.sets[0]["metadata"]["name"]
    image(world, "nginx:1.27")
    world.settle()
    before = world.sizes()
    world.deployment["spec"]["replicas"] = 20
    world.step()
    after = world.sizes()
    assert sum(after.values()) == 25
    assert after[old] > before[old]
    assert all(after[name] >= before[name] for name in before)
    world.run()
    assert list(world.sizes().values()) == [20]


def test_paused_scales_but_does_not_roll() -> None:
    world = World(deployment())
    world.run()
    world.deployment["spec"]["paused"] = True
    image(world, "nginx:1.27")
    world.deployment["spec"]["replicas"] = 3
    world.settle()
    assert len(world.sets) == 1
    assert list(world.sizes().values()) == [3]
    assert world.condition("Progressing") == ("Unknown", "DeploymentPaused")
    del world.deployment["spec"]["paused"]
    world.run()
    assert len(world.sets) == 2
    assert world.condition("Progressing") == ("True", "NewReplicaSetAvailable")


def test_revision_history_limit_forgets_the_oldest() -> None:
    world = World(deployment(revisionHistoryLimit=1))
    for tag in ("1", "2", "3", "4"):
        image(world, f"nginx:{tag}")
        world.run()
    images = sorted(rs["spec"]["template"]["spec"]["containers"][0]["image"] for rs in world.sets)
    assert images == ["nginx:3", "nginx:4"]


def test_change_cause_goes_to_the_replicaset_and_last_applied_does_not() -> None:
    wanted = deployment()
    wanted["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "first",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    world = World(wanted)
    world.run()
    annotations = world.sets[0]["metadata"]["annotations"]
    assert annotations["kubernetes.io/change-cause"] == "first"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in annotations


def test_nothing_is_planned_for_a_deployment_that_goes() -> None:
    wanted = deployment()
    wanted["metadata"]["deletionTimestamp"] = STAMP
    assert plan_rollout(wanted, []) == []
