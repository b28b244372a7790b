"""Six situations, answered before the course and after it.

    quiz.first({1: "client", 2: "?", …})     in 00: kept on this machine
    quiz.again({1: "node", 2: "client", …})  in 09: then and now, beside what is right

What is right is not written down here: each situation is a ``Case``, and the oracle (``expect``) is asked. An answer is
``client`` (the pod sees the address of whoever asked), ``node`` (an address of a node), ``timeout``, ``refused``, or
``?`` for "I do not know yet". The first answers are in one small file of the labs' directory, and go with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from srcip_nb.errors import LabError, UsageError
from srcip_nb.expect import (
    ANSWERED,
    CLUSTER_IP,
    DROPPED,
    EXTERNAL,
    LOAD_BALANCER,
    NODE_PORT,
    POD,
    REFUSED,
    Case,
    Endpoint,
    World,
    expect,
)
from srcip_nb.lab.state import state_dir
from srcip_nb.recordings import LIVE
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

OPEN = "?"
ANSWERS = ("client", "node", "timeout", "refused", OPEN)
FILE = "first-answers.json"
_WORLD = World("iptables", "calico")
_BOTH = (Endpoint("web1", "worker01"), Endpoint("web2", "worker02"))
_ONE = _BOTH[:1]


class Situation(NamedTuple):
    """What the oracle is told, and the notebook that shows it."""

    case: Case
    notebook: str


SITUATIONS = {
    1: Situation(Case(EXTERNAL, LOAD_BALANCER, _BOTH, at="worker01"), "02"),
    2: Situation(Case(EXTERNAL, LOAD_BALANCER, _BOTH, "Local", at="worker01"), "03"),
    3: Situation(Case(EXTERNAL, NODE_PORT, _ONE, "Local", at="worker02"), "04"),
    4: Situation(Case(EXTERNAL, NODE_PORT, (), "Local", at="worker02"), "04"),
    5: Situation(Case(POD, LOAD_BALANCER, _ONE, "Local", node="worker02", pod="visitor"), "05"),
    6: Situation(Case(POD, CLUSTER_IP, _BOTH, node="worker01", pod="visitor"), "08"),
}


def right(number: int) -> str:
    """The answer that the oracle gives to a situation."""
    found = expect(SITUATIONS[number].case, _WORLD)
    if found.outcome == ANSWERED:
        return "client" if found.kept else "node"
    return {DROPPED: "timeout", REFUSED: "refused"}[found.outcome]


def first(answers: Mapping[int, str]) -> pd.DataFrame:
    """Keep the answers given before the course, and show them beside their situations.

    Args:
        answers: situation -> one of ``ANSWERS``.

    Returns:
        One row a situation: what is asked, and your answer. What is right is not told yet.

    Raises:
        UsageError: there is no such situation or answer.
    """
    _check(answers)
    try:
        _path().write_text(json.dumps({str(number): answer for number, answer in answers.items()}), encoding="utf-8")
    except (OSError, LabError) as error:
        print(t("quiz.not_kept", why=error))
    return _table({t("quiz.now"): answers})


def again(answers: Mapping[int, str]) -> pd.DataFrame:
    """The answers given before the course and those given now, beside what is right.

    Args:
        answers: situation -> one of ``ANSWERS``.

    Returns:
        One row a situation: what is asked, the first answer ("" if none was kept on this machine), the one given now,
        what is right (told only where something else than "?" was answered now), and which notebook shows it.

    Raises:
        UsageError: there is no such situation or answer.
    """
    _check(answers)
    then = kept()
    if not then:
        print(t("quiz.nothing_kept"))
    told = {number: right(number) for number, answer in answers.items() if answer != OPEN}
    counted = [sum(some.get(number) == right(number) for number in SITUATIONS) for some in (then, answers)]
    print(t("quiz.counted", then=counted[0], now=counted[1], all=len(SITUATIONS)))
    shown = {number: situation.notebook for number, situation in SITUATIONS.items()}
    return _table(
        {t("quiz.then"): then, t("quiz.now"): answers, t("quiz.right"): told, t("quiz.notebook"): shown},
    )


def kept() -> dict[int, str]:
    """The first answers, as far as they are on this machine and can be read."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
        answers = {int(number): str(answer) for number, answer in found.items()}
        _check(answers)
    except (OSError, LabError, ValueError, AttributeError, UsageError):
        return {}
    return answers


def _path() -> Path:
    """Where the first answers are: with the labs; of an executed course, with its other results."""
    folder = os.environ.get("SRCIP_MARKER_DIR")
    return (Path(folder) if folder else state_dir()) / FILE


def _check(answers: Mapping[int, str]) -> None:
    for number, answer in answers.items():
        if number not in SITUATIONS:
            raise UsageError(f"there is no situation {number!r}", f"There are: {', '.join(map(str, SITUATIONS))}.")
        if answer not in ANSWERS:
            raise UsageError(f"{answer!r} is none of the answers to {number}", f"Choose one of: {', '.join(ANSWERS)}.")


def _table(columns: Mapping[str, Mapping[int, str]]) -> pd.DataFrame:
    import pandas as pd

    asked = {t("quiz.situation"): {number: t(f"quiz.{number}") for number in SITUATIONS}}
    rows = {name: {number: some.get(number, "") for number in SITUATIONS} for name, some in columns.items()}
    table = pd.DataFrame({**asked, **rows}, dtype="string")
    table.attrs[LIVE] = True
    return table
