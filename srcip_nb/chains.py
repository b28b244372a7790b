"""Inside kube-proxy: what a traced request tells, cut down to what a reader looks at.

    far = follow(cluster, ANOTHER_NODE)      a request that a pod on another node answered, as ``explain`` tells it
    rules_met(far)                           the rules alone, and what each changed
    ways_out(cluster, far)                   by which interface it left, and with whose address
    conntrack(far)                           what the nodes keep of it for the answer

    with in_mode(cluster, "nftables"): ...   the same under other rules; afterwards the lab is as it was

Nodes of a real cluster cannot be asked from here: ``follow`` then returns an empty table, and whatever is made of that
is one sentence which says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from srcip_nb.errors import LabError, NotFinishedError
from srcip_nb.explain import COLUMNS, CONNTRACK, explain
from srcip_nb.notebook import NOT_HERE, Sentence
from srcip_nb.recordings import LIVE
from srcip_nb.text import t

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

SAME_NODE, ANOTHER_NODE = "same node", "another node"
MARK = 0x4000  # kubernetes v1.36 pkg/proxy/apis/config: iptablesMasqueradeBit 14
NONE = "none"
TUNNEL, LAN, POD = "tunnel", "LAN", "pod"
TRIES = 40  # pods are drawn by lot: of two, the one that is looked for is missed 40 times once in 10^12

_COMMENT = re.compile(r'-m comment --comment ("(?:\\.|[^"\\])*"|\S+) ?')
_TARGET = re.compile(r" ?-[jg] \S+(?: --\S+(?: [^-\s]\S*)?)*$")


@contextmanager
def in_mode(cluster: Cluster, mode: str) -> Iterator[None]:
    """Have a lab's kube-proxy in this mode while the block runs, and then in the one it was in, whatever happens.

    On a real cluster nothing is changed.

    Args:
        cluster: where.
        mode: "iptables" or "nftables".

    Raises:
        LabError: there is no such mode, or a node's kernel did not take the rules.
    """
    if cluster.lab is None:
        yield
        return
    before = cluster.lab.proxy_mode()
    cluster.lab.proxy_mode(mode)
    try:
        yield
    finally:
        cluster.lab.proxy_mode(before)


def follow(
    cluster: Cluster, answered_on: str = "", client: str | None = None, target: str | None = None
) -> pd.DataFrame:
    """Send requests until one is answered on such a node, and return what its first packet met.

    Args:
        cluster: where; only a lab can tell.
        answered_on: ``SAME_NODE``: by a pod on the node that it came in by; ``ANOTHER_NODE``; "": by anybody or nobody.
        client: the host or pod that sends it; None: the first client.
        target: as ``visit`` takes it; None: the Service's external address.

    Returns:
        As ``explain``; on a real cluster an empty table of that form, ``attrs["not_here"]`` being the reason.

    Raises:
        NotFinishedError: no request was answered on such a node.
        UsageError: no such client or target.
        LabError: a node's kernel or programs cannot tell.
    """
    if cluster.lab is None:
        nothing = pd.DataFrame(columns=list(COLUMNS), dtype="string")
        nothing.attrs[NOT_HERE] = t("chains.not_here")
        return nothing
    for _ in range(TRIES):
        walk = explain(cluster, client, target)
        if answered_on in ("", _answered_on(cluster, walk)):
            return walk
    raise NotFinishedError(
        f"of {TRIES} requests none was answered on the {answered_on}" if answered_on == SAME_NODE
        else f"of {TRIES} requests none was answered on {answered_on}",
        "Are there pods on two nodes? cluster.scale(2), then cluster.pods()",
    )  # fmt: skip


def _answered_on(cluster: Cluster, walk: pd.DataFrame) -> str:
    flows = walk[walk["table"] == CONNTRACK]
    if flows.empty:
        return ""
    pod = _address(flows["destination_after"].iloc[0])
    nodes = {p["status"].get("podIP"): p["spec"].get("nodeName") for p in cluster.list("pods")}
    return SAME_NODE if nodes.get(pod) == walk["node"].iloc[0] else ANOTHER_NODE


def _address(end: Any) -> str:
    return str(end).rpartition(":")[0]


# -- a walk as tables --------------------------------------------------------------------------------------------------


def rules_met(walk: pd.DataFrame) -> pd.DataFrame | Sentence:
    """The rules that a packet met, in order; ends of chains and policies are left out.

    Args:
        walk: from ``follow`` or ``explain``.

    Returns:
        One row each: node, hook, chain, rule (its conditions and comment), verdict (what it did), changed (the mark
        or address before and after; "" where nothing changed).
    """
    if NOT_HERE in walk.attrs:
        return Sentence(walk.attrs[NOT_HERE])
    rules = walk[(walk["rule"].fillna("") != "") & (walk["table"] != CONNTRACK)]
    rows = [(r.node, r.hook, r.chain, _short(str(r.rule)), r.verdict, _changed(r)) for r in rules.itertuples()]
    return pd.DataFrame(rows, columns=["node", "hook", "chain", "rule", "verdict", "changed"])


def _short(rule: str) -> str:
    """A rule of iptables without its chain and target, which are columns of their own; nftables' as it is."""
    if not rule.startswith("-A "):
        return rule
    conditions = rule.split(" ", 2)[2]
    comment = _COMMENT.search(conditions)
    rest = _TARGET.sub("", _COMMENT.sub("", conditions)).strip()
    return " ".join(part for part in (rest, comment[1] if comment else "") if part)


def _changed(row: Any) -> str:
    pairs = [(row.mark, row.mark_after), (row.source, row.source_after), (row.destination, row.destination_after)]
    names = ("mark", "source", "destination")
    return ", ".join(
        f"{name} {before} → {after}"
        for name, (before, after) in zip(names, pairs, strict=True)
        if pd.notna(before) and pd.notna(after) and before != after
    )


def conntrack(walk: pd.DataFrame) -> pd.DataFrame | Sentence:
    """What each node's connection tracking keeps of a request.

    Args:
        walk: from ``follow`` or ``explain``.

    Returns:
        One row each: node, state, sent from, sent to, answered from, answered to (``address:port``).
    """
    if NOT_HERE in walk.attrs:
        return Sentence(walk.attrs[NOT_HERE])
    flows = walk[walk["table"] == CONNTRACK]
    columns = {
        "verdict": "state",
        "source": "sent from",
        "destination": "sent to",
        "destination_after": "answered from",
        "source_after": "answered to",
    }
    return flows.set_index("node")[list(columns)].rename(columns=columns)


def ways_out(cluster: Cluster, *walks: pd.DataFrame) -> pd.DataFrame | Sentence:
    """By which interface requests left the node that chose the pod, whose address that has, and what was taken.

    Args:
        cluster: the lab.
        walks: from ``follow`` or ``explain``, of answered requests.

    Returns:
        One row each, index the pod's address: node, interface, kind (tunnel, LAN, or pod: the pod's own link), its
        address ("none" without one), source (the address that the request left with, by the node's conntrack).

    Raises:
        LabError: the node's ip does not tell.
    """
    if cluster.lab is None:
        return Sentence(t("chains.not_here"))
    rows = []
    for walk in walks:
        flow = walk[walk["table"] == CONNTRACK].iloc[0]
        node, pod = str(flow["node"]), _address(flow["destination_after"])
        name = _ip(cluster, node, "route", "get", pod)[0]["dev"]
        link = _ip(cluster, node, "-d", "address", "show", "dev", name)[0]
        addresses = [a["local"] for a in link.get("addr_info", []) if a["family"] == "inet"]
        outside = {route["dev"] for route in _ip(cluster, node, "route", "show", "default")}
        is_tunnel = link.get("linkinfo", {}).get("info_kind") in ("vxlan", "ipip", "wireguard", "geneve")
        kind = TUNNEL if is_tunnel else LAN if name in outside else POD
        rows.append((pod, node, name, kind, ", ".join(addresses) or NONE, _address(flow["source_after"])))
    frame = pd.DataFrame(rows, columns=["pod", "node", "interface", "kind", "its address", "source"])
    return frame.set_index("pod")


def _ip(cluster: Cluster, node: str, *arguments: str) -> Any:
    if cluster.lab is None:
        raise LabError("only a lab's nodes can be asked", "connect() without a context starts one")
    done = cluster.lab.exec(node, ["ip", "-j", *arguments])
    if done.code:
        raise LabError(f"{node}: ip {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


# -- what does not need a request --------------------------------------------------------------------------------------


def rules_to_try(counts: Sequence[int] = (1, 10, 100)) -> pd.DataFrame:
    """How many rules stand where a packet's Service is looked up, by the number of Services in a cluster.

    Nothing is loaded: the rules are written for Services made up for this, one port each and no endpoints' addresses
    but one.

    Args:
        counts: numbers of Services, up to 60,000.

    Returns:
        Index the number of Services: rules of chain KUBE-SERVICES (iptables), rules of chain services and elements of
        map service-ips (nftables).
    """
    from srcip_nb.lab.proxy.iptables import iptables_rules
    from srcip_nb.lab.proxy.nftables import nftables_rules

    rows = []
    for count in counts:
        made = [_made_up(at) for at in range(count)]
        services, slices = [service for service, _ in made], [piece for _, piece in made]
        iptables = iptables_rules(services, slices, [_NODE], "node")
        nftables = nftables_rules(services, slices, [_NODE], "node")
        elements = re.search(r"map service-ips \{.*?elements = \{(.*?)\}", nftables, re.DOTALL)
        chain = re.search(r"chain services \{\n(.*?)\}", nftables, re.DOTALL)
        rows.append(
            (
                sum(line.startswith("-A KUBE-SERVICES ") for line in _nat(iptables)),
                len(chain[1].strip().splitlines()) if chain else 0,
                elements[1].count(" : ") if elements else 0,
            )
        )
    columns = ["iptables: KUBE-SERVICES", "nftables: services", "nftables: map service-ips"]
    table = pd.DataFrame(rows, columns=columns, index=pd.Index(list(counts), name="Services"))
    table.attrs[LIVE] = True
    return table


def _nat(iptables: str) -> list[str]:
    return iptables.partition("*nat\n")[2].splitlines()


_NODE = {
    "kind": "Node",
    "metadata": {"name": "node"},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.168.1.45"}]},
}


def _made_up(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    name, address = f"made-up-{number}", f"10.1.{number // 250}.{number % 250 + 1}"
    ports = [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    service = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": ports},
    }
    piece = {
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.5.2"], "conditions": {"ready": True}, "nodeName": "node"}],
    }
    return service, piece
