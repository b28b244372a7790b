"""Exercises: the right answer to each, found from what the reader has on the screen.

An exercise cell reads ``answer = ...``; the reader replaces the dots. The right answer is nowhere written down: it is
counted from the reader's own run, so it is right on any cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from srcip_nb.checks import equal
from srcip_nb.errors import UsageError
from srcip_nb.notebook import Check
from srcip_nb.text import t


def _node_port(cluster: Any) -> int:
    return int(cluster.get("services", "webserver")["spec"]["ports"][0]["nodePort"])


def _nodes_without_pods(cluster: Any) -> set[str]:
    return set(cluster.nodes().index) - set(cluster.pods()["NODE"])


def _stayed_on_their_node(seen: Any) -> int:
    return int((seen["node"].astype(object) == seen["source_node"].astype(object)).sum())


def _nodes_whose_addresses(asked: Any) -> set[str]:
    return set(asked["source_node"].dropna().astype(str))


def _nodes_for_the_load_balancer(answers: Any) -> set[str]:
    return set(answers.index[answers["status"] == 200])


def _answered(turn: Any) -> int:
    return int(turn["status"].notna().sum())


def _connected(seen: Any) -> set[str]:
    return set(seen["connection_from"].dropna().astype(str))


def _taken(seen: Any) -> set[str]:
    return set(seen["source_ip"].dropna().astype(str))


def _kept(seen: Any) -> int:
    return int(seen["preserved"].fillna(False).sum())


def _met_itself(seen: Any) -> int:
    return int((seen["pod"].astype(object) == seen["client"].astype(object)).sum())


def _without_answer(table: Any) -> set[str]:
    return set(table.index[table["answered"] == 0])


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "01.1": _node_port,
    "01.2": _nodes_without_pods,
    "02.1": _stayed_on_their_node,
    "02.2": _nodes_whose_addresses,
    "03.1": _nodes_for_the_load_balancer,
    "03.2": _answered,
    "07.1": _connected,
    "07.2": _taken,
    "07.3": _kept,
    "08.1": _met_itself,
    "08.2": _without_answer,
    "08.3": _answered,
}


def exercise(number: str, answer: Any, material: Any) -> Check:
    """Hold an answer against the right one; ``...`` leaves the exercise open.

    Args:
        number: notebook and exercise, such as ``02.1``.
        answer: the reader's.
        material: what the answer is found from: the cluster, or a table on the screen.

    Raises:
        UsageError: there is no such exercise.
    """
    if number not in ANSWERS:
        raise UsageError(f"there is no exercise {number!r}", f"There are: {', '.join(ANSWERS)}.")
    return equal(answer, ANSWERS[number](material), t(f"exercise.{number}"))
