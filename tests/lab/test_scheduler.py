from __future__ import annotations

from typing import Any

import pytest

from srcip_nb.lab.controllers.scheduler import choose_node

from .controller_objects import CONTROL_PLANE_TAINT, node, pod, three_nodes

TAINTED = "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"


def failure(count: int, reasons: str) -> str:
    nodes = f"0/{count} nodes are available: "
    preemption = f"{count} Preemption is not helpful for scheduling."
    return f"{nodes}{reasons}. no new claims to deallocate, preemption: {nodes}{preemption}"


def test_two_replicas_go_to_worker01_and_worker02() -> None:
    first = pod("web-a", owner="rs")
    assert choose_node(first, three_nodes(), [first]) == ("worker01", "")
    first["spec"]["nodeName"] = "worker01"
    assert choose_node(pod("web-b", owner="rs"), three_nodes(), [first]) == ("worker02", "")


def test_siblings_count_more_than_strangers() -> None:
    strangers = [pod(f"s{n}", node="worker02") for n in range(3)]
    sibling = pod("web-a", node="worker01", owner="rs")
    assert choose_node(pod("web-b", owner="rs"), three_nodes(), [*strangers, sibling]) == ("worker02", "")
    assert choose_node(pod("alone"), three_nodes(), [*strangers, sibling]) == ("worker01", "")


def test_pods_that_ended_or_go_leave_their_place() -> None:
    ended = pod("ended", node="worker01", owner="rs")
    ended["status"]["phase"] = "Succeeded"
    going = pod("going", node="worker01", owner="rs", metadata={"deletionTimestamp": "2026-11-22T14:26:58Z"})
    other = pod("other", node="worker02", owner="rs")
    assert choose_node(pod("web-b", owner="rs"), three_nodes(), [ended, going, other]) == ("worker01", "")


def test_all_nodes_cordoned_says_so_in_the_real_sentence() -> None:
    nodes = [
        node("master01", [CONTROL_PLANE_TAINT]),
        *(node(f"worker0{n}", [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]) for n in (1, 2)),
    ]
    for worker in nodes[1:]:
        worker["spec"]["unschedulable"] = True
    expected = failure(3, f"{TAINTED}, 2 node(s) were unschedulable")
    assert choose_node(pod("web-a"), nodes, []) == ("", expected)


def test_a_taint_is_named_and_a_toleration_overcomes_it() -> None:
    nodes = [node("worker01", [{"key": "gpu", "value": "yes", "effect": "NoExecute"}])]
    assert choose_node(pod("web-a"), nodes, []) == ("", failure(1, "1 node(s) had untolerated taint {gpu: yes}"))
    for toleration in (
        {"key": "gpu", "operator": "Exists"},
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"},
        {"operator": "Exists"},
    ):
        assert choose_node(pod("web-a", spec={"tolerations": [toleration]}), nodes, []) == ("worker01", "")
    wrong = {"key": "gpu", "value": "no"}
    assert choose_node(pod("web-a", spec={"tolerations": [wrong]}), nodes, [])[0] == ""


def test_prefer_no_schedule_is_avoided_but_not_forbidden() -> None:
    taint = {"key": "old", "effect": "PreferNoSchedule"}
    nodes = [node("worker01", [taint]), node("worker02")]
    busy = [pod(f"p{n}", node="worker02") for n in range(5)]
    assert choose_node(pod("web-a"), nodes, busy) == ("worker02", "")
    assert choose_node(pod("web-a"), nodes[:1], []) == ("worker01", "")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"nodeSelector": {"kubernetes.io/hostname": "worker02"}}, "worker02"),
        ({"nodeSelector": {"disk": "fast"}}, ""),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["worker01"]}
                                    ]
                                }
                            ]
                        }
                    }
                }
            },
            "worker02",
        ),
    ],
)
def test_selector_and_affinity(spec: dict[str, Any], expected: str) -> None:
    chosen, why = choose_node(pod("web-a", spec=spec), three_nodes(), [])
    assert chosen == expected
    if not expected:
        assert why == failure(3, f"{TAINTED}, 2 node(s) didn't match Pod's node affinity/selector")


def test_a_full_node_takes_no_more() -> None:
    full = node("worker01")
    full["status"]["allocatable"]["pods"] = "1"
    expected = failure(1, "1 Too many pods")
    assert choose_node(pod("web-b"), [full], [pod("web-a", node="worker01")]) == ("", expected)


def test_no_nodes_at_all() -> None:
    assert choose_node(pod("web-a"), [], []) == ("", "no nodes available to schedule pods")
