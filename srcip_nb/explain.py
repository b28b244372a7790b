"""Why a pod sees the address it sees: the rules that one request's first packet really met, in the kernel's own words.

    client --> worker01: KUBE-SERVICES > KUBE-EXT > KUBE-MARK-MASQ (0x4000) > KUBE-SVC > KUBE-SEP (DNAT) > MASQUERADE
                                                                                                      --> worker02 ...

A table of what happened and not of what should have: what the kernels did not report is not in it. ``lab/trace.py``
tells how it is read, ``expect.py`` knows what should happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from srcip_nb.clients import find_client
from srcip_nb.cluster import SERVICE
from srcip_nb.errors import UsageError
from srcip_nb.targets import entry_targets

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster
    from srcip_nb.lab.trace import Trace

COLUMNS = (
    *("node", "hook", "table", "chain", "rule", "verdict", "source", "destination"),
    *("source_after", "destination_after", "mark", "mark_after", "evidence"),
)
CONNTRACK = "conntrack"


def explain(
    cluster: Cluster, client: str | None = None, target: str | None = None, *, service: str = SERVICE
) -> pd.DataFrame:
    """Send one request in a lab and return what every rule on every node did with its first packet.

    Args:
        cluster: a lab.
        client: the host or pod that sends it; None: the first client.
        target: as ``visit`` takes it; None: the Service's external address. Of "nodeport" the first node is taken.
        service: name of the Service.

    Returns:
        One row for each rule met, chain's end and policy, in the order in which they were met, and after a node's
        rules its conntrack entry (``table`` is "conntrack"): node, hook, table, chain, rule (text; "" where there is
        none), verdict (what it did), source, destination, source_after, destination_after (``address:port``), mark,
        mark_after (hexadecimal), evidence: "nflog" (the legacy iptables' trace), "nftrace" (nftables'), "conntrack", or
        two of them where the addresses after are from conntrack. What the kernel did not say is NA. In a conntrack row
        the addresses after are those of the answer's direction, turned round; its verdict is the state of the flow.
        ``attrs``: client, target, client_ip, client_port, status, error of the request.

    Raises:
        UsageError: not a lab, or no such client or target.
        LabError: a node's kernel or programs cannot do it, or the rules changed meanwhile.
    """
    if cluster.lab is None:
        raise UsageError(
            f"{cluster.world} is no lab: its nodes' kernels cannot be asked from here",
            "Do it in a lab (srcip-nb lab up), or let visit() tell what the pods logged",
        )
    sender = find_client(cluster, client)
    where = entry_targets(cluster, cluster.get("services", service), target, sender)[0][0]
    trace = cluster.lab.trace(sender.name, where)
    frame = table_of(trace)
    told = {key: trace.request[key] for key in ("client_ip", "client_port", "status", "error")}
    frame.attrs = {"client": sender.name, "target": where}
    frame.attrs.update(told)
    return frame


def table_of(trace: Trace) -> pd.DataFrame:
    """A trace as the table of ``explain``."""
    import pandas as pd

    flows = {flow.node: flow for flow in trace.flows}
    rows: list[dict[str, str | None]] = []
    nodes = list(dict.fromkeys(step.node for step in trace.steps))
    for node in nodes:
        for step in trace.steps:
            if step.node == node:
                marks = {"mark": _hexadecimal(step.mark), "mark_after": _hexadecimal(step.mark_after)}
                rows.append({**vars(step), **marks})
        if node in flows:
            flow = flows[node]
            rows.append(
                {
                    **dict.fromkeys(COLUMNS, ""),
                    **{"node": node, "table": CONNTRACK, "verdict": flow.state, "evidence": CONNTRACK},
                    **{"source": flow.source, "destination": flow.destination},
                    **{"source_after": flow.reply_destination, "destination_after": flow.reply_source},
                    **{"mark": None, "mark_after": None},
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype="string")


def _hexadecimal(mark: int | None) -> str | None:
    return None if mark is None else hex(mark)
