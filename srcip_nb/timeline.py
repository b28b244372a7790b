"""What changed while something else went on: the states of a Service's endpoints, and who announces its address.

A thread looks at the API again and again and keeps what is new, with the time at which the answer was there. So a
change is known to within one look (``EVERY``, and what the answer takes), and what comes and goes between two looks
is not seen. A node's rules follow the API a little later still: this is what the API said, not what the rules did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from srcip_nb.cluster import SERVICE
from srcip_nb.errors import SrcipError
from srcip_nb.observe import endpoint_rows
from srcip_nb.traffic import announcers

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

EVERY = 0.005  # seconds between two looks
STOP_WITHIN = 5.0  # seconds; a look takes a few milliseconds

READY, SERVING, TERMINATING, NOT_READY = "ready", "serving", "terminating", "not ready"


class State(NamedTuple):
    """One endpoint at one time: its pod, its node, and its state in the API's words."""

    pod: str
    node: str
    state: str


class Moment(NamedTuple):
    """What the API said at a time (ns since the epoch), until the next moment."""

    at: int
    endpoints: tuple[State, ...]
    announcers: tuple[str, ...]


def state_of(ready: bool, serving: bool, terminating: bool) -> str:
    """An endpoint's three conditions in one phrase: "ready", "serving, terminating", "terminating", "not ready".

    A pod on its way out is never ready; while it still answers its readiness probe it is serving
    (discovery.k8s.io/v1 EndpointConditions).
    """
    if ready:
        return READY
    words = [word for word, holds in ((SERVING, serving), (TERMINATING, terminating)) if holds]
    return ", ".join(words) if terminating else NOT_READY


def look(cluster: Cluster, service: str = SERVICE) -> Moment:
    """What the API says now."""
    slices = cluster.list("endpointslices", labels=f"kubernetes.io/service-name={service}")
    now = time.time_ns()
    rows = endpoint_rows(slices)
    states = tuple(sorted(State(pod, node, state_of(*conditions)) for pod, _, node, *conditions, _ in rows))
    return Moment(now, states, announcers(cluster, service))


class Timeline:
    """Looks at a Service for as long as its block takes.

    Attributes:
        moments: what was seen, the oldest first; each differs from the one before.
        error: what ended the looking early, None if nothing did; raised at the end of the block.
    """

    def __init__(self, cluster: Cluster, service: str = SERVICE) -> None:
        self.moments: list[Moment] = []
        self.error: SrcipError | None = None
        self._cluster = cluster
        self._service = service
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timeline", daemon=True)

    def __enter__(self) -> Timeline:
        self.moments.append(look(self._cluster, self._service))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(STOP_WITHIN)
        if error is None and self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._end.wait(EVERY):
                self._take(look(self._cluster, self._service))
            self._take(look(self._cluster, self._service))  # what the last change led to
        except SrcipError as error:
            self.error = error

    def _take(self, moment: Moment) -> None:
        if moment[1:] != self.moments[-1][1:]:
            self.moments.append(moment)


def at(moments: Sequence[Moment], when: int) -> Moment:
    """The moment that held at a time (ns since the epoch); the first, for any time before it."""
    return next((moment for moment in reversed(moments) if moment.at <= when), moments[0])


def words_of(states: Sequence[State], node: str | None = None) -> str:
    """Endpoints in words, each pod by the end of its name: "worker01: x7k2p ready; worker02: 9d4qz terminating".

    Args:
        states: of a moment.
        node: only those on this node, and without its name.
    """
    if node is not None:
        return ", ".join(f"{short(one.pod)} {one.state}" for one in states if one.node == node) or "-"
    nodes = dict.fromkeys(sorted(one.node for one in states))
    return "; ".join(f"{name}: {words_of(states, name)}" for name in nodes) or "-"


def short(pod: str) -> str:
    """The part of a Deployment's pod's name that tells it from the others: "x7k2p" of "webserver-5d8f-x7k2p"."""
    return pod.rsplit("-", 1)[-1]


def table(moments: Sequence[Moment], began: int) -> pd.DataFrame:
    """A timeline as a table.

    Args:
        moments: of a ``Timeline``.
        began: the time from which milliseconds are counted, ns since the epoch.

    Returns:
        ms (Int64, negative before that time), announced_by, then a column for each node with an endpoint, named after
        it: its endpoints and their states, "-" without.
    """
    import pandas as pd

    nodes = sorted({one.node for moment in moments for one in moment.endpoints})
    rows = [
        (
            (moment.at - began) // 1_000_000,
            ", ".join(moment.announcers) or "-",
            *(words_of(moment.endpoints, node) for node in nodes),
        )
        for moment in moments
    ]
    frame = pd.DataFrame(rows, columns=["ms", "announced_by", *nodes])
    return frame.astype({"ms": "Int64", **dict.fromkeys(["announced_by", *nodes], "string")})
