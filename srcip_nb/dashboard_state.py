"""What the dashboard knows: a bounded model of the requests seen, and nothing that draws or sends.

    setting    what is set: policies, replicas, proxy mode, CNI, affinity, who asks what and how often
    period     the time for which one setting held, and what was counted in it
    state      the period that holds now and the one before, requests that wait for their log line, the last log lines

A request belongs to the period in which it was planned, sent and answered. What was under way while a setting changed
belongs to none, and is counted as ``between``. However long it runs, a state keeps two periods, ``MOST_KEYS`` kinds of
each thing counted, ``MOST_WAITING`` requests without a line and ``LOG_LINES`` lines.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from srcip_nb.judge import Answer, Observation
from srcip_nb.text import t

MOST_KEYS = 64  # kinds of one thing that are counted apart; what comes after is counted together
MOST_WAITING = 2000
WAIT = 10_000_000_000  # ns; a line that has not come by then is said not to have been found
LOG_LINES = 200
OTHER = "…"

FIELDS = {
    "external": "externalTrafficPolicy",
    "internal": "internalTrafficPolicy",
    "affinity": "sessionAffinity",
    "cni": "CNI",
}


def label(name: str) -> str:
    """What a field of a setting is called: by Kubernetes' own word, or in the reader's language."""
    return FIELDS.get(name) or t(f"dash.{name}")


@dataclass(frozen=True)
class Setting:
    """What is set.

    Attributes:
        external: externalTrafficPolicy.
        internal: internalTrafficPolicy.
        replicas: pods of the Deployment.
        mode: kube-proxy's mode, "" if not known.
        cni: the pod network, "" if not known.
        affinity: sessionAffinity, None or ClientIP.
        clients: how many hosts outside the cluster ask in turn.
        start: where requests start: "client" (outside), "node" or "pod".
        target: what they ask: LoadBalancer, NodePort or ClusterIP.
        rate: requests a second.
    """

    external: str = "Cluster"
    internal: str = "Cluster"
    replicas: int = 2
    mode: str = "iptables"
    cni: str = "calico"
    affinity: str = "None"
    clients: int = 1
    start: str = "client"
    target: str = "LoadBalancer"
    rate: int = 5

    def differences(self, other: Setting) -> dict[str, tuple[Any, Any]]:
        """The fields in which another setting differs: name -> (here, there)."""
        mine, theirs = vars(self), vars(other)
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}


class Sent(NamedTuple):
    """A request's end as its client told it, and the period in which it was planned; times in ns since the epoch."""

    period: int
    request: int
    at: int
    ended: int
    client: str
    client_ip: str
    target: str
    status: int | None
    error: str


class Line(NamedTuple):
    """What a pod's log says of a request, and whose address that is by the address book."""

    request: int
    pod: str
    node: str
    source_ip: str
    kind: str
    owner: str


class Seen(NamedTuple):
    """A request and its log line."""

    sent: Sent
    line: Line

    @property
    def is_kept(self) -> bool:
        """Whether the pod saw the client's own address."""
        return self.line.source_ip == self.sent.client_ip


@dataclass
class Period:
    """The time for which one setting held; ``ended`` is None while it holds.

    Attributes:
        nodes: (node, pod) -> answers.
        sources: (source IP, kind, owner) -> answers.
        errors: error -> requests.
        kept: answers whose pod saw the client's own address.
        seen: the same for the judge.
        last: the last request whose line is known, ``lost``: the last that was not answered.
    """

    number: int
    setting: Setting
    began: int
    ended: int | None = None
    sent: int = 0
    kept: int = 0
    nodes: Counter[tuple[str, str]] = field(default_factory=Counter)
    sources: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    seen: Observation = field(default_factory=Observation)
    last: Seen | None = None
    lost: Sent | None = None

    @property
    def answered(self) -> int:
        """Answers, with and without a line in a log."""
        return self.seen.answered

    def holds(self, one: Sent) -> bool:
        """Whether a request was sent and ended in this period."""
        return one.period == self.number and self.began <= one.at and (self.ended is None or one.ended <= self.ended)


class State:
    """What has been seen so far; every method takes times in ns since the epoch and none looks at a clock."""

    def __init__(self, setting: Setting, now: int = 0) -> None:
        self.now = Period(1, setting, now)
        self.before: Period | None = None
        self.between = 0
        self.total = 0
        self.lines: deque[tuple[str, str, str, str]] = deque(maxlen=LOG_LINES)
        self._waiting: dict[int, Sent] = {}
        self._early: dict[int, Line] = {}

    @property
    def is_changing(self) -> bool:
        """Whether a change has begun that is not in force yet."""
        return self.now.ended is not None

    @property
    def waiting(self) -> int:
        """How many answers wait for their log line."""
        return len(self._waiting)

    def change_begins(self, now: int) -> None:
        """The setting that holds is about to change."""
        if not self.is_changing:
            self.now.ended = now

    def change_fails(self) -> None:
        """Nothing was changed after all: the period goes on."""
        self.now.ended = None

    def in_force(self, setting: Setting, now: int) -> None:
        """Another setting holds from now on; a period in which nothing was sent is not worth a comparison."""
        self.change_begins(now)
        if self.now.sent:
            self.before = self.now
        self.now = Period(self.now.number + 1, setting, now)

    def keep_setting(self, setting: Setting) -> None:
        """Another setting whose difference counts for nothing (the rate): the period goes on."""
        self.now.setting = setting
        self.now.ended = None

    def forget(self, setting: Setting, now: int) -> None:
        """Another cluster: nothing that waits will come."""
        self._waiting.clear()
        self._early.clear()
        self.in_force(setting, now)

    def sent(self, results: Iterable[Sent]) -> None:
        """Take the ends of requests."""
        for one in results:
            self.total += 1
            period = self._period_of(one)
            if period is None:
                self.between += 1
            else:
                period.sent += 1
                period.seen.sent += 1
                if one.status is None:
                    count(period.errors, one.error)
                    count(period.seen.errors, one.error)
                    period.lost = one
            if one.status is not None:
                line = self._early.pop(one.request, None)
                if line is not None:
                    self._join(one, line)
                else:
                    _keep(self._waiting, one.request, one)

    def logged(self, lines: Iterable[Line]) -> None:
        """Take lines of the pods' logs that carry this dashboard's run."""
        for line in lines:
            one = self._waiting.pop(line.request, None)
            if one is not None:
                self._join(one, line)
            else:
                _keep(self._early, line.request, line)

    def tick(self, now: int) -> None:
        """Give up the lines that have not come: these answers are counted as being in no log."""
        for request, one in list(self._waiting.items()):
            if now - one.ended < WAIT:
                break  # in the order in which they ended
            del self._waiting[request]
            period = self._period_of(one)
            if period is not None:
                period.seen.unlogged += 1

    def _join(self, one: Sent, line: Line) -> None:
        period = self._period_of(one)
        if period is None:
            return
        seen = Seen(one, line)
        period.kept += seen.is_kept
        period.last = seen
        count(period.nodes, (line.node, line.pod), (OTHER, OTHER))
        count(period.sources, (line.source_ip, line.kind, line.owner), (OTHER, "unknown", ""))
        answer = Answer(line.pod, line.source_ip, one.client_ip)
        count(period.seen.answers, answer, Answer(OTHER, OTHER, OTHER))

    def _period_of(self, one: Sent) -> Period | None:
        periods = [self.now] + ([self.before] if self.before else [])
        return next((period for period in periods if period.holds(one)), None)


def count(counter: Counter[Any], key: Hashable, other: Hashable = OTHER) -> None:
    """Count one more; of more than ``MOST_KEYS`` kinds the late ones are counted together."""
    counter[key if key in counter or len(counter) < MOST_KEYS else other] += 1


def _keep(waiting: dict[int, Any], key: int, value: Any) -> None:
    waiting[key] = value
    if len(waiting) > MOST_WAITING:
        del waiting[next(iter(waiting))]
