"""Requests from inside the cluster: the pods that ask, the nodes they ask from, and who answers each of them.

    visitor (pod, its own address) -> Service inside (cluster IP) -> webserver (pod)

Which pod answers may depend on where the visitor runs (internalTrafficPolicy, trafficDistribution) or on who it is
(sessionAffinity). So requests are sent from every visitor, and counted by visitor: ``by_visitor``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from srcip_nb.addresses import addresses
from srcip_nb.clients import find_client
from srcip_nb.cluster import wait_until
from srcip_nb.targets import entry_targets, internal_ip
from srcip_nb.text import t
from srcip_nb.traffic import log_lines, table_of

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

INSIDE = "inside"
ZONE = "topology.kubernetes.io/zone"
READY_WITHIN = 60.0  # seconds


def visitors(cluster: Cluster, labels: str = "app=visitor") -> pd.DataFrame:
    """The pods that ask, once all of them are ready.

    Args:
        cluster: where.
        labels: a label selector.

    Returns:
        Index NAME, columns NODE and IP, by node.

    Raises:
        NotFinishedError: they are not ready in time.
    """
    import pandas as pd

    remedy = "cluster.events() says what the pods wait for."
    wait_until(lambda: _not_ready(cluster, labels), f"the pods {labels}", READY_WITHIN, remedy=remedy)
    pods = [pod for pod in cluster.list("pods", labels=labels) if not pod["metadata"].get("deletionTimestamp")]
    rows = [(pod["metadata"]["name"], pod["spec"]["nodeName"], pod["status"]["podIP"]) for pod in pods]
    frame = pd.DataFrame(rows, columns=["NAME", "NODE", "IP"], dtype="string")
    return frame.sort_values(["NODE", "NAME"]).set_index("NAME")


def _not_ready(cluster: Cluster, labels: str) -> str:
    def is_ready(pod: dict[str, Any]) -> bool:
        conditions = pod.get("status", {}).get("conditions") or []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    pods = cluster.list("pods", labels=labels)
    waiting = [pod["metadata"]["name"] for pod in pods if not is_ready(pod)]
    return ", ".join(waiting) or ("" if pods else "none is there")


def visit_from(
    cluster: Cluster,
    clients: Iterable[str],
    n: int = 8,
    *,
    target: str | None = "clusterip",
    service: str = INSIDE,
    timeout: float = 1.0,
    in_turn: bool = False,
) -> pd.DataFrame:
    """Send requests from each of several clients; a client sends its next one when the last has been answered.

    Args:
        cluster: where.
        clients: names of pods, or of hosts.
        n: how many requests each sends.
        target: see ``traffic.visit``.
        service: name of the Service.
        timeout: seconds a request may take.
        in_turn: let one client end before the next one begins. sessionAffinity remembers an address from its first
            request on, so where clients share an address, two first requests at once might go to two pods.

    Returns:
        The one table (``traffic.COLUMNS``) of all of them; ``request`` counts through.

    Raises:
        UsageError: no such client or target.
        ClusterError: no such Service, or the API does not answer.
    """
    import pandas as pd

    body = cluster.get("services", service)
    senders = [find_client(cluster, name) for name in clients]
    entries = [entry_targets(cluster, body, target, sender) for sender in senders]
    for where, why in {where[0]: why for where, why in entries if why}.items():
        print(t("visit.instead", target=where, why=why))
    run, started = secrets.token_hex(4), time.monotonic()

    def send_all(at: int) -> list[dict[str, Any]]:
        ids, targets = range(at * n, (at + 1) * n), entries[at][0]
        urls = {i: f"http://{targets[i % len(targets)]}/?run={run}&request={i}" for i in ids}
        requests = [{"id": i, "url": url, "headers": {}} for i, url in urls.items()]
        return sorted(senders[at].send(requests, concurrency=1, timeout=timeout), key=lambda result: result["id"])

    with ThreadPoolExecutor(1 if in_turn else len(senders)) as pool:
        results = list(pool.map(send_all, range(len(senders))))
    lines = log_lines(cluster, body, run, [result for some in results for result in some], started)
    book, policy = addresses(cluster), body["spec"].get("externalTrafficPolicy")
    frames = []
    for sender, (targets, _), some in zip(senders, entries, results, strict=True):
        mine = lines[lines["request"].isin([result["id"] for result in some])]
        frames.append(table_of(run, some, mine, book, client=sender.name, targets=targets, policy=policy))
    words = [name for name, kind in frames[0].dtypes.items() if str(kind) == "category"]
    whole = pd.concat([frame.astype(dict.fromkeys(words, "string")) for frame in frames], ignore_index=True)
    whole = whole.astype(dict.fromkeys(words, "category"))
    asked = dict.fromkeys(target for targets, _ in entries for target in targets)
    whole.attrs = {"run": run, "service": f"{cluster.namespace}/{service}", "target": ", ".join(asked)}
    return whole


def by_visitor(df: pd.DataFrame, nodes: pd.Series) -> pd.DataFrame:
    """Who answered each client, and as whom it was seen.

    Args:
        df: of ``visit_from``.
        nodes: the client's name -> its node, such as ``visitors(cluster)["NODE"]``.

    Returns:
        Index client; ``from_node`` (its node, "" if it has none), ``answered`` and ``not_answered`` (counts of
        requests), ``answered_on`` (nodes), ``pods`` (count of different ones), ``seen_as`` (addresses that were
        logged).
    """
    import pandas as pd

    rows = []
    for client, part in df.groupby(df["client"].astype(str), sort=False):
        answered = int(part["status"].notna().sum())
        pods = part["pod"].dropna().astype(str)
        rows.append(
            (client, str(nodes.get(client, "")), answered, len(part) - answered, _listed(part["node"]), pods.nunique(),
             _listed(part["source_ip"]))
        )  # fmt: skip
    columns = ["client", "from_node", "answered", "not_answered", "answered_on", "pods", "seen_as"]
    return pd.DataFrame(rows, columns=columns).set_index("client")


def _listed(values: pd.Series) -> str:
    return ", ".join(sorted(values.dropna().astype(str).unique()))


def arrives_as(cluster: Cluster, asking: pd.DataFrame) -> pd.Series:
    """The address with which a visitor's packet reaches another node, by what the lab's pod network does.

    Calico (natOutgoing) and flannel (ip-masq) masquerade what leaves for an address that is no pod's: it has the
    node's address then. On a real cluster that is not known from outside, and each visitor counts for itself.

    Args:
        cluster: where.
        asking: of ``visitors``.

    Returns:
        Visitor -> address.
    """
    masquerades = cluster.lab is not None and cluster.lab.info()["cni"] in ("calico", "flannel")
    of_node = {node["metadata"]["name"]: internal_ip(node) for node in cluster.list("nodes")}
    found = asking["NODE"].map(of_node) if masquerades else asking["IP"]
    return found.astype("string").rename("ARRIVES AS")


def zones(cluster: Cluster) -> pd.DataFrame:
    """The zone of each node.

    In a lab, workers that are in none are put into one each: zone-a, zone-b, and so on. On a real cluster nodes are
    somebody else's: they are read, and never labelled.

    Returns:
        Index NAME, column ZONE, NA for a node in no zone.
    """
    import pandas as pd

    nodes = cluster.list("nodes")
    if cluster.lab is not None:
        workers = [node for node in nodes if "node-role.kubernetes.io/control-plane" not in _labels(node)]
        for letter, node in zip("abcdefghijklmnopqrstuvwxyz", workers, strict=False):
            if ZONE not in _labels(node):
                patch = {"metadata": {"labels": {ZONE: f"zone-{letter}"}}}
                cluster.patch("nodes", node["metadata"]["name"], patch)
        nodes = cluster.list("nodes")
    rows = [(node["metadata"]["name"], _labels(node).get(ZONE)) for node in nodes]
    return pd.DataFrame(rows, columns=["NAME", "ZONE"], dtype="string").set_index("NAME")


def _labels(node: dict[str, Any]) -> dict[str, str]:
    return node["metadata"].get("labels") or {}


def hints(cluster: Cluster, service: str = INSIDE) -> pd.DataFrame:
    """For whom each endpoint is meant, from the Service's EndpointSlices.

    Returns:
        Index ADDRESS; NODE, ZONE, FOR ZONES, FOR NODES, NA where nothing is said.
    """
    import pandas as pd

    rows = []
    for piece in cluster.list("endpointslices", labels=f"kubernetes.io/service-name={service}"):
        for endpoint in piece.get("endpoints") or []:
            said = endpoint.get("hints") or {}
            names = [", ".join(one["name"] for one in said.get(key) or []) or None for key in ("forZones", "forNodes")]
            rows += [(ip, endpoint.get("nodeName"), endpoint.get("zone"), *names) for ip in endpoint["addresses"]]
    columns = ["ADDRESS", "NODE", "ZONE", "FOR ZONES", "FOR NODES"]
    return pd.DataFrame(rows, columns=columns, dtype="string").set_index("ADDRESS").sort_index()
