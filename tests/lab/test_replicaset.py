from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srcip_nb.lab.controllers.replicaset import pod_of, pods_to_delete, replicaset_status

from .controller_objects import STAMP, pod

DATA = Path(__file__).parent.parent / "data" / "controllers"
NOW = 1_795_357_700.0


def recorded(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


def names(pods: list[dict[str, Any]]) -> list[str]:
    return [p["metadata"]["name"] for p in pods]


def test_status_is_what_the_real_server_says() -> None:
    (replicaset,) = recorded("replicasets")
    assert replicaset_status(replicaset, recorded("pods"), NOW, "", STAMP) == replicaset["status"]


def test_a_pod_of_the_template_is_named_and_owned_as_the_real_one() -> None:
    (replicaset,) = recorded("replicasets")
    made, real = pod_of(replicaset), recorded("pods")[0]
    for field in ("generateName", "namespace", "labels", "ownerReferences"):
        assert made["metadata"][field] == real["metadata"][field]
    assert made["spec"] == replicaset["spec"]["template"]["spec"]


def test_terminating_and_finished_pods_do_not_count() -> None:
    (replicaset,) = recorded("replicasets")
    going = pod("going", ready=True, metadata={"deletionTimestamp": STAMP})
    ended = pod("ended")
    ended["status"]["phase"] = "Failed"
    status = replicaset_status(replicaset, [going, ended, pod("there", ready=True)], NOW, "", STAMP)
    assert (status["replicas"], status["readyReplicas"], status["terminatingReplicas"]) == (1, 1, 1)


def test_min_ready_seconds_makes_available_later_than_ready() -> None:
    (replicaset,) = recorded("replicasets")
    replicaset["spec"]["minReadySeconds"] = 30
    young = pod("young", ready=True)
    since = 1_795_357_618.0  # STAMP
    early = replicaset_status(replicaset, [young], since + 10, "", STAMP)
    assert early["readyReplicas"] == 1
    assert "availableReplicas" not in early
    assert replicaset_status(replicaset, [young], since + 30, "", STAMP)["availableReplicas"] == 1


def test_a_refused_pod_is_told_in_the_status() -> None:
    (replicaset,) = recorded("replicasets")
    status = replicaset_status(replicaset, [], NOW, "no", STAMP)
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("ReplicaFailure", "True", "FailedCreate")


def test_pods_that_do_least_go_first() -> None:
    unassigned, pending = pod("e-unassigned"), pod("d-pending", node="worker01")
    unready = pod("c-unready", node="worker01")
    unready["status"]["phase"] = "Running"
    cheap = pod("b-cheap", node="worker01", ready=True)
    cheap["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": "-1"}
    good = pod("a-good", node="worker01", ready=True)
    assert names(pods_to_delete([good, cheap, unready, pending, unassigned], 4)) == [
        "e-unassigned",
        "d-pending",
        "c-unready",
        "b-cheap",
    ]


def test_of_equal_pods_the_one_on_the_crowded_node_goes_and_then_the_younger() -> None:
    alone = pod("alone", node="worker01", ready=True)
    first = pod("first", node="worker02", ready=True)
    second = pod("second", node="worker02", ready=True, metadata={"creationTimestamp": "2026-11-22T14:30:00Z"})
    assert names(pods_to_delete([alone, first, second], 1)) == ["second"]
    assert names(pods_to_delete([alone, first], 1)) == ["alone"]
