"""Requests without a break while the cluster is changed, and where those went that were not answered.

    run = visit_during(cluster, lambda: restart(cluster))
    run.requests        the one table
    run.changes         what the API said meanwhile: endpoints and their states, who announces
    run.lost            the requests without an answer, by error, node and endpoint state

Requests go out at an even rate from before the change until after it, in rounds of half a second; a round begins when
its time comes, whether the one before has had all its answers or not. The pods' logs are followed meanwhile, since a
pod that goes takes its log along.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from srcip_nb import timeline
from srcip_nb.addresses import addresses
from srcip_nb.clients import Client, find_client
from srcip_nb.cluster import SERVICE
from srcip_nb.errors import NotFinishedError, UsageError
from srcip_nb.logs_follow import Follower, follow
from srcip_nb.progress import Progress
from srcip_nb.rollout import service_address
from srcip_nb.tape import ReplayTape, told
from srcip_nb.taped import off_tape
from srcip_nb.targets import entry_targets, internal_ip
from srcip_nb.text import t
from srcip_nb.timeline import Moment, State, Timeline
from srcip_nb.traffic import LINE_COLUMNS, LOG_WITHIN, lines_of_run, table_of

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

ROUND = 0.5  # seconds
LEAD = 20  # answers before the change begins
LEAD_WITHIN = 10.0  # seconds
AFTER = 2  # whole rounds after the change
WORKERS = 64  # rounds under way at once, at most; two more begin each second
CONCURRENCY = 64
RESULT = ("id", "sent_at", "client_ip", "status", "error", "latency_ms")

LOST_COLUMNS = {
    "error": "string",
    "requests": "int64",
    "from_ms": "Int64",
    "to_ms": "Int64",
    "node": "string",
    "endpoints": "string",
}


@dataclass(frozen=True)
class UnderLoad:
    """Requests that were sent while something was changed.

    Attributes:
        requests: the one table, all rounds.
        moments: what the API said meanwhile.
        began: when the change began, ns since the epoch.
        ended: when it was done.
    """

    requests: pd.DataFrame
    moments: tuple[Moment, ...]
    began: int
    ended: int

    @property
    def answered(self) -> float:
        """The share of requests that were answered with status 200, from 0 to 1."""
        return float((self.requests["status"] == 200).fillna(False).mean())

    @property
    def changes(self) -> pd.DataFrame:
        """What the API said, in ms since the change began: see ``timeline.table``."""
        return timeline.table(self.moments, self.began)

    @property
    def lost(self) -> pd.DataFrame:
        """Where the requests without an answer went: see ``lost``."""
        return lost(self.requests, self.moments, self.began)

    @property
    def summary(self) -> pd.DataFrame:
        """One row: policy, sent, answered, lost, share (percent answered), seconds (that the change took)."""
        import pandas as pd

        is_answered = (self.requests["status"] == 200).fillna(False)
        row = {
            "policy": self.requests.attrs["policy"],
            "sent": len(is_answered),
            "answered": int(is_answered.sum()),
            "lost": int((~is_answered).sum()),
            "share": round(100 * self.answered, 2),
            "seconds": round((self.ended - self.began) / 1e9, 2),
        }
        return pd.DataFrame([row])


def visit_during(
    cluster: Cluster,
    action: Callable[[], object],
    *,
    rate: float = 200.0,
    client: str | None = None,
    target: str | None = None,
    seconds: float = 2.0,
    timeout: float = 1.0,
    progress: bool = True,
    service: str = SERVICE,
) -> UnderLoad:
    """Send requests while something is done: from a moment before it begins until a second after it is done.

    Args:
        cluster: where.
        action: what is done, for example ``lambda: cluster.restart()``; it runs once some requests were answered.
        rate: requests a second.
        client: as for ``visit``.
        target: as for ``visit``; where it stands for an external address it stays what it is when its pods move.
        seconds: for so long requests are sent at least; more where what is done takes longer.
        timeout: seconds a request may take.
        progress: show how far it is.
        service: name of the Service.

    Raises:
        UsageError: no such client or target, or a rate below one.
        NotFinishedError: nobody answers before the change begins.
        SrcipError: what the action raised.
    """
    if not rate >= 1:
        raise UsageError(f"rate is {rate!r}", "Give at least one request a second.")
    sender = find_client(cluster, client)
    body = cluster.get("services", service)
    targets, instead = entry_targets(cluster, body, target, sender)
    selector = ",".join(f"{key}={value}" for key, value in body["spec"]["selector"].items())
    tape = cluster.rest.tape

    def live() -> dict[str, Any]:
        aside = off_tape(cluster)
        load = _Load(replace(sender, cluster=aside), targets, rate, timeout)
        with Timeline(aside, service) as seen, follow(aside, selector=selector, tail=0) as lines:
            began, ended = load.run(action, seconds)
            results = load.results()
            return Observed(load.id, results, _lines(lines, load.id, results), seen.moments, began, ended).as_json()

    shown = f"{targets[0]} ({instead})" if instead else targets[0]
    with Progress(t("load.step", rate=f"{rate:g}", client=sender.name, target=shown), progress) as step:
        if isinstance(tape, ReplayTape):
            action()  # what it changes, it changes on the tape too
        asked = {"service": service, "targets": targets, "rate": rate, "seconds": seconds, "timeout": timeout}
        observed = Observed.of_json(told(tape, f"load {sender.name} {json.dumps(asked)}", live))
        answered = sum(result["status"] == 200 for result in observed.results)
        count = len(observed.results)
        step.result = t("load.done", count=count, answered=answered, lost=count - answered)
    policy = body["spec"].get("externalTrafficPolicy")
    book = addresses(cluster)
    run, results, found, moments, began, ended = observed
    requests = table_of(run, results, found, book, client=sender.name, targets=targets, policy=policy)
    requests.attrs = {
        "run": run,
        "client": sender.name,
        "target": targets[0] if len(targets) == 1 else t("visit.node_ports", count=len(targets)),
        "service": f"{cluster.namespace}/{service}",
        "policy": policy or "",
        "world": str(cluster.world),
        "vip": service_address(body),
        "nodes": {internal_ip(node): node["metadata"]["name"] for node in cluster.list("nodes")},
    }
    return UnderLoad(requests, tuple(moments), began, ended)


class Observed(NamedTuple):
    """What was seen while something was changed, before it is made a table; as JSON it can be recorded.

    Attributes:
        run: the run's id.
        results: of the requests, as ``Client.send`` gives them.
        lines: of the pods' logs, with ``traffic.LINE_COLUMNS``.
        moments: what the API said meanwhile.
        began: when the change began, ns since the epoch.
        ended: when it was done.
    """

    run: str
    results: list[dict[str, Any]]
    lines: pd.DataFrame
    moments: list[Moment]
    began: int
    ended: int

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; of the results what a table is made of."""
        results = [[result[name] for name in RESULT] for result in self.results]
        lines = self.lines.astype(object).where(self.lines.notna(), None).to_dict("list")
        return {**self._asdict(), "results": results, "lines": lines}

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Observed:
        """The same again."""
        import pandas as pd

        moments = [
            Moment(at, tuple(State(*one) for one in states), tuple(announced))
            for at, states, announced in said["moments"]
        ]
        results = [dict(zip(RESULT, values, strict=True)) for values in said["results"]]
        lines = pd.DataFrame(said["lines"], columns=list(LINE_COLUMNS)).astype(LINE_COLUMNS)
        return cls(**{**said, "results": results, "lines": lines, "moments": moments})


class _Load:
    """Rounds of requests; their ids count on."""

    def __init__(self, sender: Client, targets: Sequence[str], rate: float, timeout: float) -> None:
        self.id = secrets.token_hex(4)
        self._sender, self._targets, self._rate, self._timeout = sender, targets, rate, timeout
        self._results: list[dict[str, Any]] = []
        self._lead = threading.Event()

    def run(self, action: Callable[[], object], seconds: float) -> tuple[int, int]:
        """Send from before the action until some rounds after it; returns when that began and ended."""
        stop = threading.Event()
        with ThreadPoolExecutor(WORKERS) as pool:
            sending = pool.submit(self._rounds, pool, stop, seconds)
            try:
                if self._lead.wait(LEAD_WITHIN):
                    began = time.time_ns()
                    action()
                    ended = time.time_ns()
            finally:
                stop.set()
            sending.result()
        if not self._lead.is_set():
            raise NotFinishedError(
                f"{self._sender.name} had no {LEAD} answers from {', '.join(self._targets)}",
                "Are there pods? Look at cluster.pods() and cluster.endpoints().",
            )
        return began, ended

    def _rounds(self, pool: ThreadPoolExecutor, stop: threading.Event, seconds: float) -> None:
        started = time.monotonic()
        rounds: list[Future[None]] = []
        after = 0
        while after < AFTER or (len(rounds) * ROUND < seconds and self._lead.is_set()):
            after += stop.is_set()
            rounds.append(pool.submit(self._round, len(rounds)))
            time.sleep(max(0.0, started + ROUND * len(rounds) - time.monotonic()))
        for one in rounds:
            one.result()

    def results(self) -> list[dict[str, Any]]:
        """What became of the requests, in order."""
        return sorted(self._results, key=lambda result: result["id"])

    def _round(self, number: int) -> None:
        count = max(1, round(self._rate * ROUND))
        requests = []
        for i in range(number * count, (number + 1) * count):
            url = f"http://{self._targets[i % len(self._targets)]}/?run={self.id}&request={i}"
            requests.append({"id": i, "url": url, "headers": {}})
        for result in self._sender.send(requests, concurrency=CONCURRENCY, timeout=self._timeout, rate=self._rate):
            self._results.append(result)
            if result["status"] == 200 and len(self._results) >= LEAD:
                self._lead.set()


def _lines(follower: Follower, run: str, results: list[dict[str, Any]]) -> pd.DataFrame:
    """The access lines of a run, as soon as every answered request has its own; without, those there are by then."""
    answered = {result["id"] for result in results if result["status"] is not None}
    with contextlib.suppress(NotFinishedError):
        follower.wait_for(lambda rows: answered <= set(lines_of_run(rows, run)["request"]), LOG_WITHIN)
    return lines_of_run(follower.rows(), run)


def lost(requests: pd.DataFrame, moments: Sequence[Moment], began: int) -> pd.DataFrame:
    """The requests without an answer, by what the client met, which node they came in by, and what was there then.

    Args:
        requests: the one table; ``attrs["nodes"]`` names the node of an address, for node ports.
        moments: what the API said meanwhile.
        began: from when milliseconds are counted, ns since the epoch.

    Returns:
        error, requests (how many), from_ms and to_ms (when the first and the last of them were sent), node (by which
        they came in; "" where several announce the address or nobody says), endpoints (their states at that time, in
        the API's words, pods by the end of their names); by time. What a request was sent to is not in it: a client
        that gets no answer cannot know.
    """
    import pandas as pd

    failed = requests[requests["status"].isna() | (requests["status"] != 200)]
    nodes = requests.attrs.get("nodes") or {}
    rows = []
    for row in failed.itertuples():
        moment = timeline.at(moments, row.sent_at.value)
        asked = nodes.get(str(row.target).rpartition(":")[0], "")
        node = asked or (moment.announcers[0] if len(moment.announcers) == 1 else "")
        error = str(row.error) or f"HTTP {row.status}"
        ms = (row.sent_at.value - began) // 1_000_000
        rows.append((error, ms, node, timeline.words_of(moment.endpoints)))
    frame = pd.DataFrame(rows, columns=["error", "ms", "node", "endpoints"])
    by = frame.groupby(["error", "node", "endpoints"], as_index=False)["ms"].agg(["count", "min", "max"])
    by = by.rename(columns={"count": "requests", "min": "from_ms", "max": "to_ms"})
    return by.sort_values(["from_ms", "error"], ignore_index=True)[list(LOST_COLUMNS)].astype(LOST_COLUMNS)
