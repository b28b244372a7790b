"""Mode ipvs beside the other two: policy Local on a node that has no pod, seen in a lab of its own.

    node with a pod      IPVS chooses among its own pods       the client's address is kept, as in the other modes
    node without one     IPVS chooses among all nodes' pods    answered; flannel masquerades: the address is lost

Few machines have the kernel module ip_vs, so the lab of a lesson mostly cannot change to this mode. A second lab is
started for it, where need be on a User Mode Linux, and ends again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from srcip_nb.errors import LabError, NotFinishedError
from srcip_nb.notebook import NOT_HERE
from srcip_nb.text import t

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster
    from srcip_nb.worlds import LessonCluster

CNI = "flannel"  # its ip-masq is what hides the client; with calico or ptp such a request gets no answer
COLUMNS = {
    "node": "string",
    "pods": "Int64",
    "sent": "Int64",
    "answered": "Int64",
    "source_ip": "string",
    "owner": "string",
    "kept": "boolean",
}
_TIMEOUT = 10.0  # seconds; a User Mode Linux is slow where the machine is busy


def local_in_mode_ipvs(cluster: Cluster, requests: int = 6) -> pd.DataFrame:
    """Ask the node port of every node under policy Local, in a lab in mode ipvs that lives as long as this takes.

    Args:
        cluster: the lesson's world; of a real cluster nothing is asked.
        requests: how many for each node.

    Returns:
        One row for each node: node, pods (how many of the Service run there), sent, answered, source_ip (what the pods
        logged), owner (the node whose address that is, or "client"), kept. Empty where there is no such lab, then
        ``attrs["not_here"]`` is a sentence that says why; printed, it stands for the table.
    """
    if cluster.lab is None:
        return _nothing(t("chains.not_here"))
    from srcip_nb.second_lab import lab_beside

    try:
        with lab_beside(cluster, cni=CNI, proxy_mode="ipvs") as own:
            return _ask(own, requests)
    except (LabError, NotFinishedError) as error:
        return _nothing(t("ipvs.no_lab", cause=error.cause))


def _nothing(why: str) -> pd.DataFrame:
    print(why)
    nothing = pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    nothing.attrs[NOT_HERE] = why
    return nothing


def _ask(own: LessonCluster, requests: int) -> pd.DataFrame:
    own.apply()
    own.wait_ready()
    own.policy("Local")
    pods = own.pods()["NODE"].astype(str).value_counts()
    rows = []
    for node in own.nodes().index:
        seen = own.visit(requests, target=str(node), timeout=_TIMEOUT, concurrency=2, progress=False)
        answers = seen[seen["status"].notna()]
        owners = answers["source_node"].astype("string").fillna("client").where(~answers["preserved"], "client")
        rows.append(
            {
                "node": node,
                "pods": int(pods.get(node, 0)),
                "sent": len(seen),
                "answered": len(answers),
                "source_ip": ", ".join(sorted(answers["source_ip"].unique())),
                "owner": ", ".join(sorted(owners.unique())),
                "kept": bool(answers["preserved"].all()) if len(answers) else None,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
