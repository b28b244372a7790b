"""The oracle's table on a living cluster: every case built, asked with real requests, and held against ``expect``.

    build    a namespace of its own: four pods, the Services of matrix_cases, the EndpointSlices written by hand
    ask      8 requests a case (2 where no answer is expected) from all clients at once; joined with nginx's logs by id
    ask on   what is right but not complete (an endpoint not met yet, a refusal not heard yet), a few times more
    judge    expected beside observed, with the reason

On a lab every kind of client asks; on a real cluster this machine does, and the other rows say why they were not run.
Everything is deleted again.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from srcip_nb.addresses import THIS_MACHINE, addresses
from srcip_nb.apply import apply, delete
from srcip_nb.clients import Client, list_clients
from srcip_nb.cluster import Cluster, wait_until
from srcip_nb.errors import ManifestError, UsageError
from srcip_nb.expect import ANSWERED, NOBODY, REFUSED, Expectation, Source, World, expect
from srcip_nb.health import health
from srcip_nb.judge import AS_EXPECTED, DIFFERS, NOT_RUN, Answer, Observation, is_incomplete, judge
from srcip_nb.logs import logs
from srcip_nb.matrix_cases import (
    EXTERNAL_IPS,
    MARKER,
    SELECTED,
    SERVERS,
    STATES,
    Object,
    Place,
    Question,
    choose_place,
    endpoints_of,
    external_address,
    host_network_objects,
    marker_object,
    pod_objects,
    questions,
    service_objects,
    slice_objects,
)
from srcip_nb.progress import Progress
from srcip_nb.traffic import LOG_WITHIN, LOOK_BACK, announcer

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.lab.client import LabClient

REQUESTS = 8
REQUESTS_UNANSWERED = 2
ROUNDS = 4
"""How often an incomplete case is asked again: two endpoints in 8 + 4 x 8 requests leave one out in 1 run of 10**11."""

PAUSE = 1.1
"""Seconds between two rounds; the kernel allows one more ICMP message a second to each peer (icmp_ratelimit)."""

CONCURRENCY = 32
TIMEOUT = 2.0
READY_WITHIN = 60.0

COLUMNS = {
    "service": "string",
    "client": "string",
    "destination": "string",
    "client_ip": "string",
    "expected": "string",
    "expected_by": "string",
    "expected_source": "string",
    "sent": "int64",
    "answered": "int64",
    "errors": "string",
    "answered_by": "string",
    "source_seen": "string",
    "verdict": "string",
    "difference": "string",
    "reason": "string",
    "rule": "string",
}


@dataclass
class Row:
    """A question with what is expected and what was seen."""

    question: Question
    expected: Expectation | None
    seen: Observation
    why_not: str = ""

    @property
    def is_asked(self) -> bool:
        """Whether it is asked at all."""
        return self.expected is not None


def matrix(
    cluster: Cluster,
    *,
    mode: str | None = None,
    only: Callable[[Question], bool] = lambda question: True,
    progress: bool = True,
) -> pd.DataFrame:
    """Build every case, ask it, and return expected beside observed.

    Args:
        cluster: where; a namespace is made in it and deleted again.
        mode: kube-proxy's mode; in a lab it is switched to for as long as this takes, on a real cluster it says what
            the cluster runs. None: the lab's own, "iptables" on a real cluster.
        only: which questions to ask.
        progress: show how far it is.

    Returns:
        One row a case, the columns of ``COLUMNS``: ``expected`` (answered, refused, dropped, unreachable), by whom and
        with whose address; what was sent, answered and not; ``verdict`` ("as expected", "differs", "not run") and
        ``difference`` or why it was not run; ``reason`` and ``rule`` of the oracle. ``attrs``: world, mode, cni,
        kubernetes, seconds, nodes.

    Raises:
        UsageError: no such mode, or fewer than two nodes that run pods.
        NotFinishedError: the pods or the rules were not there in time.
    """
    started = time.monotonic()
    place = choose_place(cluster.list("nodes"))
    if place is None:
        raise UsageError("the matrix needs two nodes that run pods", "Start a lab with two workers: srcip-nb lab up")
    with _mode(cluster, mode) as chosen:
        world = World(chosen, str(cluster.lab.info()["cni"]) if cluster.lab else "")
        own = Cluster(cluster.rest, f"srcip-matrix-{secrets.token_hex(2)}", cluster.lab)
        try:
            rows = _build(own, place, world, only, progress)
            run = _Run(own, place, progress)
            run.ask_all(rows)
            book = _Addresses(own, place)
        finally:
            with Progress("the matrix is taken away", progress):
                delete(own)
    frame = table(rows, book)
    frame.attrs = {
        "world": str(cluster.world),
        "kubernetes": cluster.version,
        "mode": world.mode,
        "cni": world.cni or "not known",
        "nodes": place.names,
        "seconds": round(time.monotonic() - started, 1),
    }
    return frame


@contextlib.contextmanager
def _mode(cluster: Cluster, mode: str | None) -> Iterator[str]:
    """The proxy mode for as long as the block takes."""
    lab = cluster.lab
    if lab is None:
        yield mode or "iptables"
        return
    before = str(lab.info()["proxy_mode"])
    if mode in (None, before):
        yield before
        return
    lab.proxy_mode(mode)
    try:
        yield mode
    finally:
        lab.proxy_mode(before)


# -- build -------------------------------------------------------------------------------------------------------------


def _build(own: Cluster, place: Place, world: World, only: Callable[[Question], bool], progress: bool) -> list[Row]:
    with Progress("pods and Services of the matrix", progress) as step:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own.namespace}}
        apply(own, namespace)
        for pod in pod_objects(place):
            apply(own, pod)
        services = service_objects()
        if own.lab is None:
            services = [service for service in services if service["metadata"]["name"] not in EXTERNAL_IPS]
        apply(own, services)
        why_not = _cannot_ask(own, place)
        wait_until(lambda: _not_ready(own), "the pods of the matrix", READY_WITHIN, remedy="kubectl get events -A")
        ips = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in own.list("pods")}
        apply(own, slice_objects(place, ips))
        expected = {
            service["metadata"]["name"]: endpoints_of(service["metadata"]["name"], place) for service in services
        }
        wait_until(lambda: _no_slices(own, expected), "the EndpointSlices of the matrix", READY_WITHIN)
        if own.lab is not None:
            wait_until(lambda: _not_announced(own, expected), "the Services' external addresses", READY_WITHIN)
        apply(own, marker_object())
        wait_until(lambda: _not_in_force(own, place), "the nodes' rules", READY_WITHIN)
        live = {service["metadata"]["name"]: service for service in own.list("services")}
        ordered = {name: live[name] for name in [*SELECTED, *STATES, *EXTERNAL_IPS] if name in live}
        found = questions(
            ordered,
            place,
            _announcers(own, ordered),
            namespace=own.namespace,
            outside=list_clients(own)[0].name,
            why_not=why_not,
            led=own.lab is not None,
        )
        rows = [_row(question, world) for question in found if only(question)]
        step.result = f"{len(rows)} cases"
    return rows


def _row(question: Question, world: World) -> Row:
    if question.why_not or question.case is None:
        return Row(question, None, Observation(), question.why_not)
    try:
        return Row(question, expect(question.case, world), Observation())
    except UsageError as error:
        return Row(question, None, Observation(), error.cause)


def _cannot_ask(own: Cluster, place: Place) -> dict[str, str]:
    if own.lab is None:
        reason = "on a real cluster requests start on this machine only"
        return dict.fromkeys(("pod", "node", "localhost", "host-network pod"), reason)
    try:
        apply(own, host_network_objects(place))
    except ManifestError as error:
        return {"host-network pod": error.cause}
    return {}


def _not_ready(own: Cluster) -> str:
    def is_ready(pod: Object) -> bool:
        conditions = pod.get("status", {}).get("conditions") or []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    return ", ".join(f"{pod['metadata']['name']} is not ready" for pod in own.list("pods") if not is_ready(pod))


def _no_slices(own: Cluster, expected: dict[str, Any]) -> str:
    counts = dict.fromkeys(expected, 0)
    for one in own.list("endpointslices"):
        name = (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name", "")
        if name in counts:
            counts[name] += len(one.get("endpoints") or [])
    return ", ".join(f"{name} has {counts[name]}" for name in expected if counts[name] != len(expected[name]))


def _not_announced(own: Cluster, expected: dict[str, Any]) -> str:
    waiting = []
    for service in own.list("services"):
        name = service["metadata"]["name"]
        if service["spec"]["type"] != "LoadBalancer" or name not in expected:
            continue
        serves = any(endpoint.state != "unusable" for endpoint in expected[name])
        if not external_address(service) or (serves and not announcer(own, name)):
            waiting.append(name)
    return ", ".join(waiting)


def _announcers(own: Cluster, services: Iterable[str]) -> dict[str, str]:
    """Who announces, by MetalLB's own events; in a lab, silence means nobody."""
    nobody = NOBODY if own.lab is not None else ""
    return {name: announcer(own, name) or nobody for name in services}


def _not_in_force(own: Cluster, place: Place) -> str:
    said = health(own, MARKER)["local_endpoints"].fillna(-1).astype(int).to_dict()
    wanted = {node: int(node in place.workers) for node in place.names}
    return ", ".join(f"{node} says {said[node]}" for node in wanted if said[node] != wanted[node])


# -- ask ---------------------------------------------------------------------------------------------------------------


class _Run:
    """The requests of one matrix; their ids count on through all rounds."""

    def __init__(self, own: Cluster, place: Place, progress: bool) -> None:
        self._own = own
        self._place = place
        self._progress = progress
        self._id = secrets.token_hex(4)
        self._sent = 0
        self._started = time.monotonic()

    def ask_all(self, rows: list[Row]) -> None:
        """Ask every row, and again what is incomplete."""
        asked = [row for row in rows if row.is_asked]
        with Progress("requests", self._progress) as step:
            self._by_way(asked, step)
            for _ in range(ROUNDS):
                left = [row for row in asked if row.expected and is_incomplete(row.expected, row.seen)]
                if not left:
                    break
                step.update(f"{len(left)} cases asked again")
                time.sleep(PAUSE)
                self._by_way(left, step)
            step.result = f"{self._sent} in {time.monotonic() - self._started:.0f} s"

    def _by_way(self, rows: list[Row], step: Progress) -> None:
        """First what goes the network's own way, then what is led to a node, node by node."""
        for way in ["", *self._place.names]:
            some = [row for row in rows if row.question.led == way]
            if not some:
                continue
            step.update(f"{len(some)} cases{f' led to {way}' if way else ''}")
            with _led(self._own.lab, way, self._place, some) if way else contextlib.nullcontext():
                self._ask(some)

    def _ask(self, rows: list[Row]) -> None:
        owner: dict[int, Row] = {}
        batches: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            expected = row.expected
            count = REQUESTS if expected is not None and expected.outcome == ANSWERED else REQUESTS_UNANSWERED
            for _ in range(count):
                url = f"http://{row.question.target}/?run={self._id}&request={self._sent}"
                batches.setdefault(row.question.host, []).append({"id": self._sent, "url": url, "headers": {}})
                owner[self._sent] = row
                self._sent += 1
        with ThreadPoolExecutor(len(batches)) as pool:
            sent = pool.map(lambda host: list(self._client(host).send(batches[host], **_SENDING)), batches)
            results = {result["id"]: result for batch in sent for result in batch}
        seen = self._logged({number for number, result in results.items() if result["status"] is not None})
        for number, row in owner.items():
            _note(row.seen, results.get(number), seen.get(number))

    def _client(self, host: str) -> Client:
        return Client(self._own, host, "client", "")

    def _logged(self, wanted: set[int]) -> dict[int, tuple[str, str]]:
        """Request -> (pod, source) of what the servers' logs hold by now, awaited for a while."""
        selector = ",".join(f"{key}={value}" for key, value in SERVERS.items())
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


_SENDING: dict[str, Any] = {"concurrency": CONCURRENCY, "timeout": TIMEOUT}


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
def _led(lab: LabClient | None, node: str, place: Place, rows: list[Row]) -> Iterator[None]:
    """The outside host sends what it has for these rows' addresses to one node, whoever announces them."""
    if lab is None:
        raise UsageError("only in a lab can a host's packets be led to a node")
    host = rows[0].question.host
    links = json.loads(lab.exec(node, ["ip", "-j", "link", "show", "dev", "eth0"]).stdout)
    addresses = sorted({row.question.target.partition(":")[0] for row in rows})
    routes = json.loads(lab.exec(host, ["ip", "-j", "route"]).stdout)
    own = next(route["prefsrc"] for route in routes if route.get("dst") != "default" and "prefsrc" in route)
    near = own.rpartition(".")[0] + "."
    there, back = [], []
    for address in addresses:
        if address.startswith(near):
            there.append(f"neigh replace {address} lladdr {links[0]['address']} dev eth0 nud permanent")
            back.append(f"neigh del {address} dev eth0")
        else:
            there.append(f"route replace {address}/32 via {place.nodes[node]} dev eth0")
            back.append(f"route del {address}/32")
    # A node that forwards nothing for an address may tell a better way to it; this host is to stay on the one chosen.
    redirects = ["net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.eth0.accept_redirects"]
    before = lab.exec(host, ["sysctl", "-e", *redirects]).stdout.replace(" = ", "=").split()
    lab.exec(host, ["sysctl", "-q", "-e", "-w", *(f"{name}=0" for name in redirects)])
    _ip(lab, host, there)
    try:
        yield
    finally:
        _ip(lab, host, back)
        if before:
            lab.exec(host, ["sysctl", "-q", "-e", "-w", *before])


def _ip(lab: LabClient, host: str, lines: list[str]) -> None:
    done = lab.exec(host, ["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
    if done.code:
        raise UsageError(f"{host} cannot be told where to send its packets: {done.stderr.strip()}")


# -- judge -------------------------------------------------------------------------------------------------------------


class _Addresses:
    """Which addresses an expected source may be: in a lab each by name, else all that the address book gives a node."""

    def __init__(self, own: Cluster, place: Place) -> None:
        self._named: dict[Source, str] = {}
        book = addresses(own)
        of_nodes = book[book["kind"].isin(["node", "pod-network"])]
        self._any = {node: set(of_nodes.loc[of_nodes["node"] == node, "address"]) for node in of_nodes["node"].unique()}
        if own.lab is not None:
            self._named = lab_addresses(own.lab.info())

    def __call__(self, source: Source) -> Collection[str]:
        """The addresses."""
        if source in self._named:
            return [self._named[source]]
        if source.kind == "any":
            return self._any.get(source.owner, set()) if source.owner else set().union(*self._any.values())
        return self._any.get(source.owner, set())


def lab_addresses(info: dict[str, Any]) -> dict[Source, str]:
    """The addresses of a lab's nodes by owner and kind, from its settings (``LabClient.info``)."""
    from srcip_nb.lab.topology import topology

    plan = topology(workers=info["workers"], clients=info["clients"], cni=info["cni"])
    found = {}
    for node in plan.nodes:
        found[Source(node.name, "node")] = node.address
        found[Source(node.name, "gateway")] = plan.gateway(node)
        if node.tunnel_address:
            found[Source(node.name, "tunnel")] = node.tunnel_address
    return found


def table(rows: list[Row], addresses_of: Callable[[Source], Collection[str]]) -> pd.DataFrame:
    """The rows as a table, each judged."""
    import pandas as pd

    records = []
    for row in rows:
        question, expected, seen = row.question, row.expected, row.seen
        difference = judge(expected, seen, addresses_of) if expected else row.why_not
        verdict = NOT_RUN if expected is None else DIFFERS if difference else AS_EXPECTED
        by = sorted(expected.sources) if expected else []
        records.append(
            {
                "service": question.service,
                "client": question.client,
                "destination": question.destination,
                "client_ip": " ".join(sorted({answer.client_ip for answer in seen.answers})),
                "expected": expected.outcome if expected else "",
                "expected_by": " ".join(by),
                "expected_source": _sources(expected, addresses_of) if expected else "",
                "sent": seen.sent,
                "answered": seen.answered,
                "errors": " ".join(sorted(seen.errors)),
                "answered_by": " ".join(sorted(seen.pods)),
                "source_seen": " ".join(sorted({f"{answer.pod}<-{answer.source}" for answer in seen.answers})),
                "verdict": verdict,
                "difference": difference,
                "reason": expected.reason if expected else "",
                "rule": expected.source if expected else "",
            }
        )
    return pd.DataFrame(records, columns=list(COLUMNS)).astype(COLUMNS)


def _sources(expected: Expectation, addresses_of: Callable[[Source], Collection[str]]) -> str:
    words = []
    for pod, source in sorted(expected.sources.items()):
        named = "kept" if source.owner == "client" else "|".join(sorted(addresses_of(source)))
        words.append(f"{pod}<-{named}")
    return " ".join(words + [f"{pod} lost" for pod in expected.lost])


__all__ = ["COLUMNS", "REFUSED", "THIS_MACHINE", "matrix", "table"]
