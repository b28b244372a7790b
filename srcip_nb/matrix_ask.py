"""Asking the questions of the matrix: requests from all clients at once, joined with nginx's logs by their ids.

First goes what takes the network's own way, then, node by node, what an outside host's packets are led to. A case that
is right but not complete (an endpoint not met yet, a refusal not heard yet) is asked again a few times.

In mode ipvs the cases whose answers come back another way than the requests went go before all others. On the
endpoint's node IPVS would take such an answer for one of a connection that it remembers, for two minutes after its end,
if the client had the same port then: it knows whose an answer is by client and endpoint alone. The client drops what it
then gets.

In a lab two settings are other than usual while requests run, and are put back: nodes say "refused" as often as there
is reason to (the kernel would say it about once a second), and the outside host follows no redirects.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from srcip_nb.clients import Client
from srcip_nb.cluster import Cluster
from srcip_nb.errors import LabError
from srcip_nb.expect import ANSWERED, IPVS, Expectation
from srcip_nb.judge import Answer, Observation, is_incomplete
from srcip_nb.lab.client import LabClient
from srcip_nb.logs import logs
from srcip_nb.matrix_cases import SERVERS, Place, Question
from srcip_nb.progress import Progress
from srcip_nb.text import t
from srcip_nb.traffic import LOG_WITHIN, LOOK_BACK

REQUESTS = 8
REQUESTS_UNANSWERED = 2
ROUNDS = 10
"""How often an incomplete case is asked again: of two endpoints, 40 requests miss one 1 time in 10**11."""

PAUSE = 1.1
"""Seconds between two rounds; the kernel allows one more ICMP message a second to each peer (icmp_ratelimit)."""


class Patience(NamedTuple):
    """How much is asked at once, and how long an answer may take.

    Attributes:
        concurrency: requests on their way at once, for each client.
        timeout: seconds where an answer is expected.
        timeout_lost: seconds where some answers are to be lost.
        timeout_unanswered: seconds where none is expected: what is refused is refused at once, and what is answered
            after all would be.
    """

    concurrency: int
    timeout: float
    timeout_lost: float
    timeout_unanswered: float

    def for_outcome(self, expected: Expectation) -> float:
        """Seconds that a request may take."""
        if expected.outcome != ANSWERED:
            return self.timeout_unanswered
        return self.timeout_lost if expected.lost else self.timeout


USUAL = Patience(32, 5.0, 2.0, 1.0)
REAL = Patience(32, 5.0, 5.0, 1.0)
"""For a real cluster: its network may lose a packet, and the first two SYNs are sent again after 1 and 3 seconds. So do
those of a lab on a machine that has other work, which costs nothing where all is answered."""

SLOW = Patience(4, 10.0, 3.0, 2.0)
"""For User Mode Linux: one CPU, on which a dozen clients, the servers and all nodes take turns."""

FORGET_UNANSWERED = ["conntrack", "-D", "-p", "tcp", "--state", "SYN_SENT"]
FORGOTTEN = "flow entries have been deleted"

CONCURRENCY_IN_POD = 8
"""Of a real cluster: there each request is a process of its own, on a node that has other work."""


@dataclass
class Row:
    """A question with what is expected (None: it is not asked) and what was seen, or why it was not asked."""

    question: Question
    expected: Expectation | None
    seen: Observation
    why_not: str = ""


class Run:
    """The requests of one matrix; their ids count on through all rounds.

    Args:
        own: the cluster, in the namespace of the pods.
        place: the nodes.
        mode: kube-proxy's mode.
        progress: whether it is shown how far it is.
        servers: labels of the pods whose logs are read.
    """

    def __init__(
        self,
        own: Cluster,
        place: Place,
        mode: str,
        progress: bool,
        servers: Mapping[str, str] = MappingProxyType(SERVERS),
    ) -> None:
        self._servers = servers
        self._own = own
        self._patience = REAL if own.lab is None else SLOW if own.lab.info()["runs_on"] == "uml" else USUAL
        self._place = place
        self._mode = mode
        self._progress = progress
        self._id = secrets.token_hex(4)
        self._sent = 0
        self._started = time.monotonic()

    def ask_all(self, rows: list[Row]) -> None:
        """Ask every row, and again what is incomplete."""
        asked = [row for row in rows if row.expected]
        self._forget_former_owners(asked)
        with Progress(t("matrix.requests"), self._progress) as step, self._unlimited_refusals():
            self._by_way(asked, step)
            for _ in range(ROUNDS):
                left = [row for row in asked if row.expected and is_incomplete(row.expected, row.seen)]
                if not left:
                    break
                step.update(t("matrix.again", count=len(left)))
                time.sleep(PAUSE)
                self._by_way(left, step)
            step.result = t("matrix.sent", count=self._sent, seconds=f"{time.monotonic() - self._started:.0f}")

    def _by_way(self, rows: list[Row], step: Progress) -> None:
        """First what goes the network's own way, then what is led to a node, node by node."""
        for way, is_first in [("", True), *((way, False) for way in ["", *self._place.names])]:
            some = [row for row in rows if row.question.led == way and self._goes_first(row) == is_first]
            if not some:
                continue
            step.update(f"{len(some)} cases{f' led to {way}' if way else ''}")
            lab = self._own.lab
            with _led(lab, way, self._place, some) if lab and way else contextlib.nullcontext():
                self._ask(some)

    def _goes_first(self, row: Row) -> bool:
        return self._mode == IPVS and is_answered_directly(row)

    def _forget_former_owners(self, rows: list[Row]) -> None:
        """Who had an address for another Service a moment ago is forgotten: else it would still be sent there.

        So are the nodes' flows of requests that were never answered. For two minutes a request from the same port
        would belong to such a flow, and not meet the rules of now.
        """
        lab, outside = self._own.lab, {row.question.host for row in rows if row.question.client == "outside"}
        if lab is None:
            return
        for host in [*outside, *self._place.names]:
            _exec(lab, host, ["ip", "neigh", "flush", "dev", "eth0"])
        for node in self._place.names:
            done = lab.exec(node, FORGET_UNANSWERED)
            if FORGOTTEN not in done.stderr:  # its exit code is 1 where there was none
                raise LabError(f"{' '.join(FORGET_UNANSWERED)} failed on {node}: {done.stderr.strip()}")

    def _unlimited_refusals(self) -> contextlib.AbstractContextManager[None]:
        lab = self._own.lab
        limit = {"net.ipv4.icmp_ratelimit": 0}
        return _settings(lab, self._place.names, limit) if lab else contextlib.nullcontext()

    def _ask(self, rows: list[Row]) -> None:
        owner: dict[int, Row] = {}
        batches: dict[tuple[str, float], list[dict[str, Any]]] = {}
        for row in rows:
            if row.expected is None:
                continue
            count = REQUESTS if row.expected.outcome == ANSWERED else REQUESTS_UNANSWERED
            timeout = self._patience.for_outcome(row.expected)
            batch = batches.setdefault((row.question.host, timeout), [])
            for _ in range(count):
                url = f"http://{row.question.target}/?run={self._id}&request={self._sent}"
                batch.append({"id": self._sent, "url": url, "headers": {}})
                owner[self._sent] = row
                self._sent += 1
        with ThreadPoolExecutor(len(batches)) as pool:
            done = pool.map(self._send, batches, batches.values())
            results = {result["id"]: result for batch in done for result in batch}
        seen = self._logged({number for number, result in results.items() if result["status"] is not None})
        for number, row in owner.items():
            _note(row.seen, results.get(number), seen.get(number))

    def _send(self, way: tuple[str, float], batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        host, timeout = way
        is_pod = self._own.lab is None and "/" in host
        client = Client(self._own, host, "pod" if is_pod else "client", "", host if is_pod else "")
        concurrency = CONCURRENCY_IN_POD if is_pod else self._patience.concurrency
        return list(client.send(batch, concurrency=concurrency, timeout=timeout))

    def _logged(self, wanted: set[int]) -> dict[int, tuple[str, str]]:
        """Request -> (pod, source) of what the servers' logs hold by now, awaited for a while."""
        selector = ",".join(f"{key}={value}" for key, value in self._servers.items())
        deadline = time.monotonic() + LOG_WITHIN
        while True:
            since = time.monotonic() - self._started + LOOK_BACK
            rows = logs(self._own, selector=selector, since_seconds=since)
            mine = rows[(rows["run"] == self._id) & rows["request"].notna() & rows["remote_addr"].notna()]
            columns = (mine["request"].astype(int), mine["pod"].astype(str), mine["remote_addr"].astype(str))
            found = {number: (pod, source) for number, pod, source in zip(*columns, strict=True)}
            if wanted <= found.keys() or time.monotonic() > deadline:
                return found
            time.sleep(0.05)


def is_answered_directly(row: Row) -> bool:
    """Whether an endpoint sees the client's own address over another node than its own, so that its answer passes by.

    Only of a request that is led nowhere: the others have to wait for their way in any case.
    """
    case, expected = row.question.case, row.expected
    if case is None or expected is None or row.question.led:
        return False
    node_of = {endpoint.pod: endpoint.node for endpoint in case.endpoints}
    decides = case.at or case.node
    return any(source.owner == "client" and node_of[pod] != decides for pod, source in expected.sources.items())


def _note(seen: Observation, result: dict[str, Any] | None, line: tuple[str, str] | None) -> None:
    seen.sent += 1
    if result is None:
        seen.errors["not sent"] += 1
    elif result["status"] is None:
        seen.errors[result["error"]] += 1
    elif result["status"] != 200:
        seen.errors[f"HTTP {result['status']}"] += 1
    elif line is None:
        seen.unlogged += 1
    else:
        seen.answers[Answer(*line, result["client_ip"])] += 1


@contextlib.contextmanager
def _led(lab: LabClient, node: str, place: Place, rows: list[Row]) -> Iterator[None]:
    """The outside host sends what it has for these rows' addresses to one node, whoever announces them."""
    host = rows[0].question.host
    addresses = sorted({row.question.target.partition(":")[0] for row in rows})
    there = [f"route replace {address}/32 via {place.nodes[node]} dev eth0" for address in addresses]
    back = [f"route del {address}/32" for address in addresses]
    _exec(lab, host, ["ip", "-batch", "-"], "\n".join(there) + "\n")
    try:
        with _settings(lab, [host], {f"net.ipv4.conf.{name}.accept_redirects": 0 for name in ("all", "eth0")}):
            yield
    finally:
        _exec(lab, host, ["ip", "-batch", "-"], "\n".join(back) + "\n")


@contextlib.contextmanager
def _settings(lab: LabClient, hosts: list[str], values: dict[str, int]) -> Iterator[None]:
    """Kernel settings of hosts for as long as the block takes."""
    names = list(values)
    before = {host: _exec(lab, host, ["sysctl", "-n", *names]).split() for host in hosts}
    try:
        for host in hosts:
            _exec(lab, host, ["sysctl", "-q", "-w", *(f"{name}={value}" for name, value in values.items())])
        yield
    finally:
        for host, old in before.items():
            _exec(lab, host, ["sysctl", "-q", "-w", *(f"{name}={v}" for name, v in zip(names, old, strict=True))])


def _exec(lab: LabClient, host: str, argv: list[str], stdin: str | None = None) -> str:
    done = lab.exec(host, argv, stdin=stdin)
    if done.code:
        raise LabError(f"{' '.join(argv[:2])} failed on {host}: {done.stderr.strip()}")
    return done.stdout
