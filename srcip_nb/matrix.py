"""The oracle's table on a living cluster: every case built, asked with real requests, and held against ``expect``.

    build    a namespace of its own: four pods, the Services of matrix_cases, the EndpointSlices written by hand
    ask      8 requests a case (2 where no answer is expected) from all clients at once; joined with nginx's logs by id
    ask on   what is right but not complete (an endpoint not met yet, a refusal not heard yet), a few times more
    judge    expected beside observed, with the reason

The same clients ask in both worlds. A lab's nodes and pods are hosts in which requests start; on a real cluster curl in
a pod sends them, a node is a pod on its network, and the host outside is this machine. What a cluster's data plane does
not decide as kube-proxy's table says, and what only a lab can do, is not asked, and its row says why. Everything is
deleted again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from srcip_nb.addresses import addresses, canonical
from srcip_nb.apply import delete
from srcip_nb.clients import list_clients
from srcip_nb.cluster import Cluster
from srcip_nb.dataplane import DataPlane, left_out, mode_or_default
from srcip_nb.errors import NotFinishedError, SrcipError, UsageError
from srcip_nb.expect import MODES, Expectation, Source, World, expect
from srcip_nb.judge import AS_EXPECTED, DIFFERS, NOT_RUN, Observation, judge
from srcip_nb.matrix_ask import Row, Run
from srcip_nb.matrix_build import build
from srcip_nb.matrix_cases import Question, choose_place, questions
from srcip_nb.matrix_control import require_standing
from srcip_nb.matrix_control import started as started_pods
from srcip_nb.permissions import matrix_namespace, require_feature
from srcip_nb.progress import Progress
from srcip_nb.rest import ApiAnswerError
from srcip_nb.run import ready_nodes, what_went_away
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.lab.client import LabClient

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


def matrix(
    cluster: Cluster,
    *,
    mode: str | None = None,
    only: Callable[[Question], bool] = lambda question: True,
    progress: bool = True,
) -> pd.DataFrame:
    """Build every case, ask it, and return expected beside observed.

    Args:
        cluster: where; a namespace is made in it and deleted again: the cluster's own with ``-matrix`` behind it.
        mode: kube-proxy's mode; in a lab it is switched to for as long as this takes, on a real cluster it says what
            the cluster runs. None: the lab's own; on a real cluster, what is found out about it, by a pod on each
            node's network where nothing else tells and such pods are allowed. Where nothing tells at all, only what
            every data plane decides alike is asked.
        only: which questions to ask.
        progress: show how far it is.

    Returns:
        One row a case, the columns of ``COLUMNS``: ``expected`` (answered, refused, dropped, unreachable), by whom and
        with whose address; what was sent, answered and not; ``verdict`` ("as expected", "differs", "not run") and
        ``difference`` or why it was not run; ``reason`` and ``rule`` of the oracle. ``attrs``: world, mode ("" if
        not known), cni, kubernetes, seconds, nodes, namespace (gone again), owners (address -> whose it is), data_plane
        (fact -> value and evidence), unknown (sources that nobody in the address book owns).

    Raises:
        UsageError: no such mode, fewer than two nodes that run pods, or the namespace is somebody else's.
        MissingPermissionError: the credentials do not suffice; nothing was made.
        NotFinishedError: the pods or the rules were not there in time, or a node or pod went away meanwhile.
        ClusterError: the API does not answer any more, or accepts the credentials no longer.
    """
    started = time.monotonic()
    place = choose_place(cluster.list("nodes"))
    if place is None:
        raise UsageError(
            "the matrix needs two Ready nodes that run pods", "See kubectl get nodes; or take a lab: srcip-nb lab up"
        )
    before = ready_nodes(cluster)
    plane, world = _world_of(cluster, mode)
    require_feature(cluster, "matrix")
    with _switched(cluster.lab, world.mode):
        own = cluster.beside(matrix_namespace(cluster.namespace))
        try:
            with Progress(t("matrix.built"), progress) as step:
                delete(own)  # what an interrupted run has left
                built = build(own, place)
                found = questions(
                    built.services,
                    place,
                    built.announcers,
                    namespace=own.namespace,
                    outside=list_clients(own)[0].name,
                    why_not=built.why_not,
                    led=own.lab is not None,
                    node_hosts=built.node_hosts,
                )
                rows = [_row(question, world, plane) for question in found if only(question)]
                step.result = t("matrix.cases", count=len(rows))
            standing = started_pods(own)
            Run(own, place, world.mode, progress).ask_all(rows)
            require_standing(own, place, standing)
            book = SourceAddresses(own)
        except SrcipError as error:
            gone = _gone(cluster, error, before)
            with contextlib.suppress(SrcipError):  # what ended the matrix is what the caller has to know
                _take_away(own, progress)
            if gone and gone not in error.cause:
                raise NotFinishedError(f"{gone}; {error.cause}", error.remedy) from error
            raise
        except BaseException:
            _take_away(own, progress)
            raise
        _take_away(own, progress)
    frame = table(rows, book)
    frame.attrs = {
        "world": str(cluster.world),
        "kubernetes": cluster.version,
        "mode": plane.proxy.value if plane else world.mode,
        "cni": world.cni or (plane.cni.value if plane else "") or "not known",
        "nodes": place.names,
        "namespace": own.namespace,
        "owners": book.owners,
        "data_plane": {name: [fact.value, fact.evidence] for name, fact in plane.facts().items()} if plane else {},
        "seconds": round(time.monotonic() - started, 1),
        "unknown": book.unknown(rows),
    }
    return frame


def _gone(cluster: Cluster, error: SrcipError, before: set[str]) -> str:
    """The node that went away, where a request to a real cluster's API or into a pod failed without a word of why.

    That a node's kubelet does not answer comes as the API's own failure (500), with the kubelet's address.
    """
    is_told = isinstance(error, (UsageError, NotFinishedError))
    is_refusal = isinstance(error, ApiAnswerError) and error.code < 500
    return "" if cluster.lab is not None or is_told or is_refusal else what_went_away(cluster, before)


def _take_away(own: Cluster, progress: bool) -> None:
    with Progress(t("matrix.taken_away"), progress):
        delete(own)


def _told_by_nodes(cluster: Cluster, plane: DataPlane) -> DataPlane:
    """What is found out where the nodes are asked as well, as ``srcip-nb doctor --probe`` does; else what is known."""
    from srcip_nb.dataplane_read import detect
    from srcip_nb.host_probe import IMAGE, ask_nodes

    try:
        modes = ask_nodes(cluster, cluster.image or IMAGE).modes
    except SrcipError:  # not allowed: a participant has a namespace and may make none
        return plane
    return detect(cluster, modes)


def _world_of(cluster: Cluster, mode: str | None) -> tuple[DataPlane | None, World]:
    """What the oracle is told: a lab's settings, or what is found out about a real cluster's data plane."""
    if cluster.lab is not None:
        info = cluster.lab.info()
        world = World(mode or str(info["proxy_mode"]), str(info["cni"]))
        plane = None
    else:
        from srcip_nb.dataplane_read import detect

        plane = detect(cluster)
        if not mode and not plane.proxy:
            plane = _told_by_nodes(cluster, plane)
        if mode:
            plane = plane.with_mode(mode, "--mode says so")
        world = World(mode_or_default(plane), plane.world.cni)
    if world.mode not in MODES:
        raise UsageError(f"the oracle knows nothing of proxy mode {world.mode!r}", f"Give --mode {' or '.join(MODES)}.")
    return plane, world


@contextlib.contextmanager
def _switched(lab: LabClient | None, mode: str) -> Iterator[None]:
    """A lab's proxy mode for as long as the block takes; a real cluster's is its own affair."""
    before = str(lab.info()["proxy_mode"]) if lab else mode
    if lab is None or before == mode:
        yield
        return
    lab.proxy_mode(mode)
    try:
        yield
    finally:
        lab.proxy_mode(before)


def _row(question: Question, world: World, plane: DataPlane | None) -> Row:
    why_not = question.why_not
    if not why_not and plane is not None and question.case is not None:
        why_not = left_out(plane, question.case)
    if why_not or question.case is None:
        return Row(question, None, Observation(), why_not)
    try:
        return Row(question, expect(question.case, world), Observation())
    except UsageError as error:
        return Row(question, None, Observation(), error.cause)


class SourceAddresses:
    """Which addresses an expected source may be: in a lab each by name, else all that the address book gives a node."""

    def __init__(self, own: Cluster) -> None:
        self._named: dict[Source, str] = {}
        book = addresses(own)
        of_nodes = book[book["kind"].isin(["node", "pod-network"])]
        self.owners = {
            str(address): f"{kind} {owner}"
            for address, kind, owner in zip(of_nodes["address"], of_nodes["kind"], of_nodes["owner"], strict=True)
        }
        self._owned = set(book["address"])
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

    def unknown(self, rows: list[Row]) -> list[str]:
        """The sources that pods saw and that nobody in the book owns."""
        seen = {canonical(answer.source) or answer.source for row in rows for answer in row.seen.answers}
        return sorted(seen - self._owned)


def lab_addresses(info: dict[str, Any]) -> dict[Source, str]:
    """The addresses of a lab's nodes by owner and kind, from its settings (``LabClient.info``)."""
    from srcip_nb.lab.topology import topology

    plan = topology(workers=info["workers"], clients=info["clients"], cni=info["cni"])
    found = {}
    for node in plan.nodes:
        found[Source(node.name, "node")] = node.address
        found[Source(node.name, "gateway")] = plan.gateway(node)
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
                "errors": ", ".join(sorted(seen.errors)),
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
    return " ".join(words + [f"{pod}<-lost" for pod in expected.lost])
