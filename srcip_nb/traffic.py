"""Requests, and what the pods saw of them: the one table.

    request   GET /?run=8f1c02d4&request=7     an id of its own, a connection of its own
    answer    status, time, the client's own address on that socket
    log line  10.0.5.0 - - [...] "GET /?run=8f1c02d4&request=7 HTTP/1.1" 200 ...     in the log of the pod that answered

Answer and log line are joined by the id, never by time. What a pod saw is what its nginx logged; what that address is
comes from the address book. A request whose line is not found is kept, with NA, and counted in ``attrs["unmatched"]``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from srcip_nb import unknowns
from srcip_nb.addresses import addresses, name_sources
from srcip_nb.clients import Client, find_client
from srcip_nb.cluster import SERVICE, is_ready
from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.nat import nat_words
from srcip_nb.progress import Progress
from srcip_nb.rest import ApiAnswerError
from srcip_nb.rollout import service_address
from srcip_nb.targets import entry_targets
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

POLICIES = ("Cluster", "Local")
LOG_WITHIN = 5.0  # seconds; a container's line reaches the API's log in well under one
LOOK_BACK = 5  # seconds of log before the run began: the nodes' clocks count whole seconds

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"

COLUMNS = {
    "run": "string",
    "request": "int64",
    "sent_at": "datetime64[ns, UTC]",
    "client": "category",
    "client_ip": "string",
    "target": "string",
    "policy": "category",
    "status": "Int16",
    "error": "category",
    "latency_ms": "float64",
    "pod": "category",
    "node": "category",
    "source_ip": "string",
    "source_kind": "category",
    "source_node": "category",
    "preserved": "boolean",
}

LINE_COLUMNS = {"request": "int64", "pod": "string", "node": "string", "source_ip": "string", "user_agent": "string"}


def visit(
    cluster: Cluster,
    n: int = 20,
    client: str | None = None,
    target: str | None = None,
    *,
    concurrency: int = 8,
    timeout: float = 2.0,
    rate: float | None = None,
    progress: bool = True,
    service: str = SERVICE,
) -> pd.DataFrame:
    """Send requests to a Service and return one row for each: who answered, and whose address it saw.

    Args:
        cluster: where.
        n: how many.
        client: the host that sends them, see ``clients()``; None: the first (``client`` in a lab, else this machine).
        target: None: the Service's external address, and where no load balancer gave it one, the node port of one node
            (``targets.entry_targets``); "vip": the external address or nothing; "nodeport": the node port of every
            node in turn; a node's name: the node port there; "clusterip"; or host:port.
        concurrency: how many are under way at once.
        timeout: seconds a request may take.
        rate: requests a second at most.
        progress: show how far it is.
        service: name of the Service.

    Returns:
        The columns of ``COLUMNS``, by request. ``status``, ``pod``, ``node``, ``source_*`` and ``preserved`` are NA
        where there is none; ``error`` is "" for an answer. ``attrs``: run, client, target, service, policy, world,
        vip, announcer (the one node that announces the VIP; "" if not known, or several do), announcers (all such
        nodes), nat (in words, if one changes the client's address), unmatched (answered, but not found in a log).

    Raises:
        UsageError: no such client or target, or a number that makes no sense; nothing was sent.
        ClusterError: no such Service, or the API does not answer.
    """
    _check_numbers(n, concurrency, timeout, rate)
    sender = find_client(cluster, client)
    body = cluster.get("services", service)
    targets, instead = entry_targets(cluster, body, target, sender)
    book = addresses(cluster)
    run = secrets.token_hex(4)
    where = targets[0] if len(targets) == 1 else t("visit.node_ports", count=len(targets))
    shown = f"{where} ({instead})" if instead else where
    started = time.monotonic()
    with Progress(t("visit.step", count=n, client=sender.name, target=shown), progress) as step:
        results = send(sender, run, targets, n, concurrency=concurrency, timeout=timeout, rate=rate, step=step)
        lines = log_lines(cluster, body, run, results, started)
        answered = sum(result["status"] is not None for result in results)
        missing = n - answered
        step.result = t("visit.some", answered=answered, missing=missing) if missing else t("visit.all", count=n)
        if len(lines) < answered:
            step.result += t("visit.no_line", count=answered - len(lines))
        policy = body["spec"].get("externalTrafficPolicy")
        frame = table_of(run, results, lines, book, client=sender.name, targets=targets, policy=policy)
        nat = nat_words(frame, book, body, targets)
        if nat:
            step.result += f"; {nat}"
    found = frame["source_ip"].notna()
    announced_by = announcers(cluster, service)
    frame.attrs = {
        "run": run,
        "client": sender.name,
        "target": where,
        "service": f"{cluster.namespace}/{service}",
        "policy": policy or "",
        "world": str(cluster.world),
        "vip": service_address(body),
        "announcer": _only(announced_by),
        "announcers": list(announced_by),
        "nat": nat,
        "unmatched": int((frame["status"].notna() & ~found).sum()),
    }
    return frame


def send(
    sender: Client,
    run: str,
    targets: Sequence[str],
    n: int,
    *,
    concurrency: int = 8,
    timeout: float = 2.0,
    rate: float | None = None,
    step: Progress | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Send ``n`` requests with ids, to the targets in turn, and return their results in order.

    Raises:
        ClusterError: the client ended before all had been sent.
    """
    fields = dict(headers or {})
    urls = [f"http://{targets[i % len(targets)]}/?run={run}&request={i}" for i in range(n)]
    requests = [{"id": i, "url": url, "headers": fields} for i, url in enumerate(urls)]
    results = []
    for result in sender.send(requests, concurrency=concurrency, timeout=timeout, rate=rate):
        results.append(result)
        if step:
            step.update(f"{len(results)}/{n}")
    if len(results) != n:
        raise ClusterError(f"{sender.name} sent {len(results)} of {n} requests and ended", "Run it again")
    return sorted(results, key=lambda result: result["id"])


def log_lines(
    cluster: Cluster, service: dict[str, Any], run: str, results: list[dict[str, Any]], started: float
) -> pd.DataFrame:
    """The access lines of a run in the logs of the Service's pods.

    Looks until every answered request has its line, or ``LOG_WITHIN`` seconds have passed.

    Args:
        cluster: where.
        service: the Service, whose selector says which pods.
        run: the run's id.
        results: of ``send``.
        started: when it began (``time.monotonic()``).

    Returns:
        Columns request, pod, node, source_ip, user_agent; one row for each request found.
    """
    import pandas as pd

    from srcip_nb.logs import logs

    selector = ",".join(f"{key}={value}" for key, value in (service["spec"].get("selector") or {}).items())
    if not selector:  # somebody else keeps its endpoints, and no pod's log is known to be theirs
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in LINE_COLUMNS.items()})
    answered = {result["id"] for result in results if result["status"] is not None}
    deadline = time.monotonic() + LOG_WITHIN
    while True:
        since = int(time.monotonic() - started) + LOOK_BACK
        rows = logs(cluster, selector=selector, since_seconds=since)
        found = lines_of_run(rows, run)
        complete = answered <= set(found["request"])
        if complete or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def lines_of_run(rows: pd.DataFrame, run: str) -> pd.DataFrame:
    """Of rows of logs, the access lines of one run: the columns of ``LINE_COLUMNS``, a row for each request."""
    mine = rows[(rows["run"] == run) & rows["request"].notna() & rows["remote_addr"].notna()]
    mine = mine[mine["kind"].astype(str).str.startswith("access")]
    mine = mine.drop_duplicates("request")
    mine = mine.rename(columns={"remote_addr": "source_ip"})[list(LINE_COLUMNS)]
    return mine.astype(LINE_COLUMNS).reset_index(drop=True)


def table_of(
    run: str,
    results: list[dict[str, Any]],
    lines: pd.DataFrame,
    book: pd.DataFrame,
    *,
    client: str,
    targets: Sequence[str],
    policy: str | None,
) -> pd.DataFrame:
    """The one table, out of what a client and the pods' logs said.

    Args:
        run: the run's id.
        results: of ``send``.
        lines: of ``log_lines``.
        book: of ``addresses``.
        client: the host that sent them.
        targets: the host:port each went to, in turn.
        policy: externalTrafficPolicy in force; None where the Service has none.
    """
    import pandas as pd

    sent = pd.DataFrame(
        {
            "run": run,
            "request": [int(result["id"]) for result in results],
            "sent_at": pd.to_datetime([result["sent_at"] for result in results], unit="ns", utc=True),
            "client": client,
            "client_ip": [result["client_ip"] or None for result in results],
            "target": [targets[result["id"] % len(targets)] for result in results],
            "policy": policy,
            "status": pd.array([result["status"] for result in results], dtype="Int16"),
            "error": [result["error"] for result in results],
            "latency_ms": [result["latency_ms"] for result in results],
        }
    )
    frame = sent.merge(lines, on="request", how="left", validate="one_to_one")
    frame = frame.join(name_sources(book, frame["source_ip"], frame["user_agent"]))
    source = frame["source_ip"].astype("string")
    unknowns.note(source[(frame["source_kind"] == "unknown").fillna(False)].dropna().unique())
    frame["preserved"] = (source == frame["client_ip"].astype("string")).astype("boolean")
    for column in ("client", "policy", "error", "pod", "node"):
        frame[column] = frame[column].astype("string").astype("category")
    frame["policy"] = frame["policy"].cat.set_categories(list(POLICIES))
    frame["source_ip"] = source
    plain = {name: kind for name, kind in COLUMNS.items() if kind != "category"}
    return frame.astype(plain)[list(COLUMNS)]


def announcer(cluster: Cluster, service: str = SERVICE) -> str:
    """The one node that announces the Service's external address; "" where nobody says it, or several do."""
    return _only(announcers(cluster, service))


def announcers(cluster: Cluster, service: str = SERVICE) -> tuple[str, ...]:
    """The nodes that announce the Service's external address, by MetalLB's own word; none where nobody says it.

    MetalLB writes an event on the Service (reason nodeAssigned) when a node takes the address, none when it gives it
    back. In layer 2 mode the newest event names the one node. By BGP each node has an event of its own; of these nodes
    count those that may announce still: Ready, not excluded from load balancers, and under externalTrafficPolicy Local
    with an endpoint that serves.
    """
    fields = f"involvedObject.kind=Service,involvedObject.name={service},reason=nodeAssigned"
    try:
        events = cluster.list("events", fields=fields)
    except ApiAnswerError as error:
        if error.code != 403:
            raise
        return ()
    # announcing from node "worker01" with protocol "bgp"; before MetalLB 0.13 without the protocol
    said = [event["message"].split('"')[1::2] for event in sorted(events, key=_when)]
    if not said or not said[-1]:
        return ()
    if said[-1][1:] != ["bgp"]:
        return (said[-1][0],)
    return tuple(sorted({words[0] for words in said if words[1:] == ["bgp"]} & _may_announce(cluster, service)))


def _may_announce(cluster: Cluster, service: str) -> set[str]:
    """The nodes that MetalLB's BGP mode lets announce a Service."""
    from srcip_nb.observe import endpoints

    found = endpoints(cluster, service)
    serving = set(found.loc[(found["READY"] | found["SERVING"]).fillna(False), "NODE"])
    if not serving:
        return set()
    fit = {
        node["metadata"]["name"]
        for node in cluster.list("nodes")
        if is_ready(node) and EXCLUDE_LABEL not in (node["metadata"].get("labels") or {})
    }
    is_local = cluster.get("services", service)["spec"].get("externalTrafficPolicy") == "Local"
    return fit & serving if is_local else fit


def _only(nodes: Sequence[str]) -> str:
    return nodes[0] if len(nodes) == 1 else ""


def _when(event: dict[str, Any]) -> tuple[str, int]:
    """Order of events: their clock counts whole seconds, within one the API's own count of changes decides."""
    version = str(event["metadata"].get("resourceVersion") or "")
    return str(event.get("lastTimestamp") or event.get("eventTime") or ""), int(version) if version.isdecimal() else 0


def _check_numbers(n: int, concurrency: int, timeout: float, rate: float | None) -> None:
    whole = all(isinstance(value, int) and not isinstance(value, bool) and value >= 1 for value in (n, concurrency))
    if not whole:
        raise UsageError(f"n={n!r}, concurrency={concurrency!r}", "Both are whole numbers from 1 up")
    numbers = [timeout] if rate is None else [timeout, rate]
    if not all(isinstance(value, (int, float)) and value > 0 for value in numbers):
        raise UsageError(f"timeout={timeout!r}, rate={rate!r}", "Both are numbers above 0; rate may be left out")
