"""Exercises: the right answer to each, found from what the reader has on the screen.

An exercise cell reads ``answer = ...``; the reader replaces the dots. The right answer is nowhere written down: it is
counted from the reader's own run, so it is right on any cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from srcip_nb.chains import MARK
from srcip_nb.checks import equal
from srcip_nb.errors import UsageError
from srcip_nb.machine import MODES, NO_KERNEL, YES, first_working
from srcip_nb.notebook import Check, Sentence, not_asked
from srcip_nb.text import t
from srcip_nb.tomorrow import NOW_FAILING, OWNER


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


def _percent_of_each(spread: Any) -> float:
    return 100 / (len(spread) * max(spread.values()))


def _refused(run: Any) -> int:
    lost = run.lost
    return int(lost.loc[lost["error"] == "refused", "requests"].sum())


def _when_taken_over(changes: Any) -> int:
    last = changes["announced_by"].iloc[-1]
    return int(changes.loc[changes["announced_by"] == last, "ms"].min())


def _timeouts(table: Any) -> int:
    return int((table["observed"] == "timeout").sum())


def _roads_that_keep_the_visitor(table: Any) -> set[str]:
    return set(table.loc[(table["client"] == "visitor") & table["kept"].fillna(False), "asks"])


def _rules_that_changed_the_mark(walk: Any) -> int:
    return int((walk["mark"] != walk["mark_after"]).fillna(False).sum())


def _chain_that_dropped(walk: Any) -> str:
    dropped = walk.loc[walk["verdict"].str.lower().isin(["drop"]), "chain"]
    return "" if dropped.empty else str(dropped.iloc[-1])


def _is_marked(walk: Any) -> bool:
    return any(int(mark, 16) & MARK for mark in walk["mark_after"].dropna())


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


def _modes_that_work(kernels: Any) -> int:
    kernel = first_working(kernels)
    return 0 if kernel == NO_KERNEL else int((kernels.loc[kernel, list(MODES)] == YES).sum())


def _expected_to_be_dropped(table: Any) -> int:
    return int((table["expected"] == "dropped").sum())


def _now_failing(changed: Any) -> set[str]:
    return set(changed.loc[changed["kind"] == NOW_FAILING, "name"])


def _owners_changed(changed: Any) -> int:
    return int((changed["kind"] == OWNER).sum())


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "00.1": first_working,
    "00.2": _modes_that_work,
    "01.1": _node_port,
    "01.2": _nodes_without_pods,
    "02.1": _stayed_on_their_node,
    "02.2": _nodes_whose_addresses,
    "03.1": _nodes_for_the_load_balancer,
    "03.2": _answered,
    "04.1": _percent_of_each,
    "04.2": _refused,
    "04.3": _when_taken_over,
    "05.1": _roads_that_keep_the_visitor,
    "05.2": _timeouts,
    "06.1": _rules_that_changed_the_mark,
    "06.2": _chain_that_dropped,
    "06.3": _is_marked,
    "07.1": _connected,
    "07.2": _taken,
    "07.3": _kept,
    "08.1": _met_itself,
    "08.2": _without_answer,
    "08.3": _answered,
    "09.1": _expected_to_be_dropped,
    "09.2": _now_failing,
    "09.3": _owners_changed,
}


def exercise(number: str, answer: Any, material: Any) -> Check | Sentence:
    """Hold an answer against the right one; ``...`` leaves the exercise open.

    Args:
        number: notebook and exercise, such as ``02.1``.
        answer: the reader's.
        material: what the answer is found from: the cluster, or a table on the screen.

    Returns:
        The check; for what only a lab can show, on a real cluster the sentence that says so.

    Raises:
        UsageError: there is no such exercise.
    """
    if number not in ANSWERS:
        raise UsageError(f"there is no exercise {number!r}", f"There are: {', '.join(ANSWERS)}.")
    if left_out := not_asked(material):
        return left_out
    return equal(answer, ANSWERS[number](material), t(f"exercise.{number}"))
