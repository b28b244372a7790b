"""Every road into a Service: who asks what, what the oracle expects, and what a real request met.

    client             outside, a node, a pod, a pod on its node's network
    x road             the cluster IP, the node port of each node, the external address
    = a row            expected beside observed, in the same words

The expectation comes from ``expect`` (kube-proxy's own table), the observation from nginx's logs; a row holds when
they agree. What is asked here is the reader's own Service; ``matrix`` asks everything there is, of Services of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from srcip_nb.clients import find_client, list_clients
from srcip_nb.dataplane import mode_or_default
from srcip_nb.dataplane_read import detect
from srcip_nb.expect import (
    ANSWERED,
    CLUSTER_IP,
    DROPPED,
    EXTERNAL,
    LOAD_BALANCER,
    NOBODY,
    NODE,
    NODE_PORT,
    POD,
    READY,
    REFUSED,
    TERMINATING,
    UNREACHABLE,
    UNUSABLE,
    Case,
    Endpoint,
    Expectation,
    Source,
    World,
    expect,
)
from srcip_nb.judge import Observation, judge
from srcip_nb.matrix import SourceAddresses
from srcip_nb.matrix_ask import Row, Run
from srcip_nb.matrix_cases import Place, Question
from srcip_nb.observe import endpoints
from srcip_nb.progress import Progress
from srcip_nb.rollout import service_address
from srcip_nb.targets import find_targets, internal_ip
from srcip_nb.text import t
from srcip_nb.traffic import announcers

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

# What a client meets, in the words of the one table's column error.
OUTCOMES = {DROPPED: "timeout", REFUSED: "refused", UNREACHABLE: "unreachable"}

COLUMNS = {
    "client": "string",
    "asks": "string",
    "expected": "string",
    "observed": "string",
    "kept": "boolean",
    "holds": "boolean",
    "why": "string",
}


def roads(
    cluster: Cluster, service: str, clients: Iterable[str] | None = None, *, progress: bool = True
) -> pd.DataFrame:
    """Ask one Service by every road it has, from each client, and hold what came against what should.

    Args:
        cluster: where.
        service: name of the Service; its pods' logs are read.
        clients: names as ``visit`` takes them; None: the default client alone.
        progress: show how far it is.

    Returns:
        One row for each client and road: client, asks (the road: ``ClusterIP``, ``NodePort worker01``,
        ``LoadBalancer``), expected and observed in the same words, kept (every answer saw the client's own address; NA
        without an answer), holds, why (the oracle's reason). A cluster IP is not asked from outside, where no road
        leads to it.

    Raises:
        UsageError: no such client.
        ClusterError: no such Service.
    """
    import pandas as pd

    body, nodes = cluster.get("services", service), cluster.list("nodes")
    world = _world(cluster)
    place = Place(("", ""), {node["metadata"]["name"]: internal_ip(node) for node in nodes})
    found = _endpoints(cluster, service)
    said = announcers(cluster, service)
    announced = said[0] if len(said) == 1 else "" if said or cluster.lab is None else NOBODY
    rows = []
    hosts: dict[str, str] = {}
    for name in clients or [list_clients(cluster)[0].name]:
        for road, target, at in _roads(body, nodes):
            case = _case(cluster, name, place, body, found, road, at or announced)
            if case is None:
                continue
            host = f"{cluster.namespace}/{case.pod}" if case.client == POD else name
            if case.client == NODE:
                host = hosts.setdefault(name, _host(cluster, name, place))
            question = Question(service, name, f"{road} {at}".strip(), host, target, case)
            rows.append(Row(question, expect(case, world), Observation()))
    with Progress(t("road.step", count=len(rows), service=service), progress) as step:
        Run(cluster, place, world.mode, False, body["spec"]["selector"]).ask_all(rows)
        step.result = t("road.done", count=sum(row.seen.sent for row in rows))
    addresses = SourceAddresses(cluster)
    records = [_record(row, row.expected, addresses) for row in rows if row.expected is not None]
    return pd.DataFrame(records, columns=list(COLUMNS)).astype(COLUMNS)


def _world(cluster: Cluster) -> World:
    """A lab says what it is; a real cluster is looked at, and where it does not tell, the default mode is supposed."""
    if cluster.lab is not None:
        info = cluster.lab.info()
        return World(str(info["proxy_mode"]), str(info["cni"]))
    plane = detect(cluster)
    return World(mode_or_default(plane), plane.world.cni)


def _host(cluster: Cluster, name: str, place: Place) -> str:
    """From where a node's requests start: a lab's host itself, else a pod on the node's network."""
    if name not in place.nodes:
        return f"{cluster.namespace}/{name}"
    return name if cluster.lab is not None else find_client(cluster, f"node/{name}").pod


def _endpoints(cluster: Cluster, service: str) -> tuple[Endpoint, ...]:
    rows = endpoints(cluster, service)
    return tuple(
        Endpoint(str(row.Index), str(row.NODE), READY if row.READY else TERMINATING if row.SERVING else UNUSABLE)
        for row in rows.itertuples()
    )


def _roads(service: dict[str, Any], nodes: list[dict[str, Any]]) -> Iterable[tuple[str, str, str]]:
    """Each road: its kind, host:port, and the node whose port it is."""
    (target,) = find_targets(service, nodes, "clusterip")
    yield CLUSTER_IP, target, ""
    if service["spec"]["ports"][0].get("nodePort"):
        for node in nodes:
            name = node["metadata"]["name"]
            yield NODE_PORT, find_targets(service, nodes, name)[0], name
    if service_address(service):
        yield LOAD_BALANCER, find_targets(service, nodes, None)[0], ""


def _case(
    cluster: Cluster,
    client: str,
    place: Place,
    service: dict[str, Any],
    found: tuple[Endpoint, ...],
    road: str,
    at: str,
) -> Case | None:
    """What the oracle is told; None where no road leads: to a cluster IP from outside."""
    pod = cluster.find("pods", client) if client not in place.nodes else None
    is_pod = pod is not None and not pod["spec"].get("hostNetwork")
    kind = POD if is_pod else NODE if pod is not None or client in place.nodes else EXTERNAL
    if kind == EXTERNAL and road == CLUSTER_IP:
        return None
    node = client if client in place.nodes else str(pod["spec"]["nodeName"]) if pod else ""
    spec = service["spec"]
    return Case(
        kind,
        road,
        found,
        spec.get("externalTrafficPolicy") or "Cluster",
        spec.get("internalTrafficPolicy") or "Cluster",
        node=node,
        pod=client if is_pod else "",
        at=at if road == NODE_PORT or kind == EXTERNAL else "",
        is_public=spec["type"] != "ClusterIP" or bool(spec.get("externalIPs")),
    )


def _record(row: Row, expected: Expectation, addresses: Callable[[Source], Collection[str]]) -> dict[str, Any]:
    own = {answer.client_ip for answer in row.seen.answers}
    return {
        "client": row.question.client,
        "asks": row.question.destination,
        "expected": expected_words(expected, addresses, own),
        "observed": observed_words(row.seen),
        "kept": all(one.source == one.client_ip for one in row.seen.answers) if row.seen.answers else None,
        "holds": not judge(expected, row.seen, addresses),
        "why": expected.reason,
    }


def expected_words(
    expected: Expectation, addresses: Callable[[Source], Collection[str]], own: Collection[str] = ()
) -> str:
    """An expectation in a few words: "2 pods answer, source 10.0.5.0, 192.168.1.45", "timeout".

    Args:
        expected: of the oracle.
        addresses: the addresses that a node's source may be.
        own: the client's own addresses, as its sockets had them; without, a source that is kept is "kept".
    """
    if expected.outcome != ANSWERED:
        return OUTCOMES[expected.outcome]
    sources: set[str] = set()
    for source in expected.sources.values():
        sources |= set(addresses(source)) if source.owner != "client" else set(own) or {t("road.kept")}
    return _words(len(expected.sources), sources)


def observed_words(seen: Observation) -> str:
    """An observation in the same words; errors beside it where there were any."""
    words = [_words(len(seen.pods), {answer.source for answer in seen.answers})] if seen.answers else []
    return ", ".join(words + sorted(seen.errors))


def _words(pods: int, sources: Collection[str]) -> str:
    key = "road.answered" if pods > 1 else "road.answered_by_one"
    return t(key, pods=pods, sources=", ".join(sorted(sources)))
