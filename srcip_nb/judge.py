"""Expected beside observed: does what was seen agree with the oracle, and if not, in which words?

An ``Observation`` grows while a question is asked again and again; ``judge`` is pure. What chance can do is left to it:
of two endpoints one may not be met in eight requests (1 case in 128), and the kernel limits how often it says
"refused". So a question whose answer is right but not complete is asked again (``is_incomplete``), not failed at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from srcip_nb.expect import ANSWERED, DROPPED, REFUSED, UNREACHABLE, Expectation, Source

AS_EXPECTED, DIFFERS, NOT_RUN = "as expected", "differs", "not run"

# To ask for a neighbour that does not answer takes the kernel three seconds: some requests give up before.
ALLOWED_ERRORS = {
    ANSWERED: set[str](),
    REFUSED: {"refused", "timeout"},
    DROPPED: {"timeout"},
    UNREACHABLE: {"unreachable", "timeout"},
}


class Answer(NamedTuple):
    """An answered request: the pod that logged it, the source it logged, the client's own address on that socket."""

    pod: str
    source: str
    client_ip: str


@dataclass
class Observation:
    """What was seen of one question.

    Attributes:
        sent: how many requests.
        answers: each kind of answer, with how often.
        errors: each error, with how often.
        unlogged: answered, but in no log.
    """

    sent: int = 0
    answers: Counter[Answer] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    unlogged: int = 0

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return sum(self.answers.values()) + self.unlogged

    @property
    def pods(self) -> set[str]:
        """The pods that answered."""
        return {answer.pod for answer in self.answers}


def is_incomplete(expected: Expectation, seen: Observation) -> bool:
    """Nothing contradicts what is expected, but not all of it was seen yet."""
    if expected.outcome == ANSWERED:
        is_silent = bool(expected.lost) and not seen.errors
        return is_silent or bool(_missing(expected, seen))
    return expected.outcome == REFUSED and not seen.errors["refused"] and not expected.may_be_silent


def judge(expected: Expectation, seen: Observation, addresses: Callable[[Source], Collection[str]]) -> str:
    """Say what differs, "" if nothing does.

    Args:
        expected: of the oracle.
        seen: what was observed.
        addresses: the addresses that an expected source may be, for sources that are a node's.
    """
    faults = _faults_of_errors(expected, seen)
    if expected.outcome != ANSWERED:
        if seen.answered:
            faults.insert(0, f"{seen.answered} of {seen.sent} requests were answered, by {_list(seen.pods)}")
        if expected.outcome == REFUSED and not seen.errors["refused"] and not expected.may_be_silent:
            faults.append("never refused")
        return "; ".join(faults)
    missing, foreign = _missing(expected, seen), seen.pods - set(expected.sources)
    if missing:
        faults.append(f"no answer of {_list(missing)}")
    if foreign:
        faults.append(f"answered by {_list(foreign)}")
    for answer in sorted(seen.answers):
        if answer.pod in expected.sources:
            source = expected.sources[answer.pod]
            right = [answer.client_ip] if source.owner == "client" else addresses(source)
            if answer.source not in right:
                faults.append(f"{answer.pod} saw {answer.source}, not {source} ({_list(right)})")
    if seen.unlogged:
        faults.append(f"{seen.unlogged} answered requests are in no log")
    return "; ".join(faults)


def _missing(expected: Expectation, seen: Observation) -> set[str]:
    met = set(expected.sources) & seen.pods
    return set() if expected.is_some and met else set(expected.sources) - met


def _faults_of_errors(expected: Expectation, seen: Observation) -> list[str]:
    allowed = ALLOWED_ERRORS[expected.outcome] | ({"timeout"} if expected.lost else set())
    faults = [
        f"{count} of {seen.sent} requests: {error}" for error, count in seen.errors.items() if error not in allowed
    ]
    if expected.outcome == ANSWERED and expected.lost and not seen.errors:
        faults.append(f"no request was lost, though the answers of {_list(expected.lost)} should be")
    return faults


def _list(words: Collection[str]) -> str:
    return ", ".join(sorted(words)) or "nobody"
