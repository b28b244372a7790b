"""What ``kubectl get -o wide`` prints, as DataFrames.

Rows and cells are the API server's own: kubectl asks it for a table, and so does this module. The index is NAME, the
columns have kubectl's headings (``pods(cluster)["NODE"]``). ``endpoints`` is the one table made here: an EndpointSlice
is a list in one row for the server, and one row for each pod is what a reader wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import SERVICE

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

ENDPOINT_COLUMNS = ["ADDRESS", "NODE", "READY", "SERVING", "TERMINATING", "PORTS"]


def nodes(cluster: Cluster) -> pd.DataFrame:
    """The nodes: STATUS, ROLES, AGE, VERSION, INTERNAL-IP, EXTERNAL-IP, OS-IMAGE, KERNEL-VERSION, CONTAINER-RUNTIME."""
    return frame_of(cluster.table("nodes"))


def pods(cluster: Cluster, labels: str = "") -> pd.DataFrame:
    """The namespace's pods: READY, STATUS, RESTARTS, AGE, IP, NODE, NOMINATED NODE, READINESS GATES.

    Args:
        cluster: where.
        labels: a label selector such as ``app=webserver``.
    """
    return frame_of(cluster.table("pods", labels=labels))


def service(cluster: Cluster, name: str = SERVICE) -> pd.DataFrame:
    """One Service, or all with ``name=""``: TYPE, CLUSTER-IP, EXTERNAL-IP, PORT(S), AGE, SELECTOR."""
    return frame_of(cluster.table("services", fields=f"metadata.name={name}" if name else ""))


def endpoints(cluster: Cluster, service: str = SERVICE) -> pd.DataFrame:
    """The pods a Service sends to, from its EndpointSlices, one row each.

    Returns:
        Index NAME (the pod); ADDRESS, NODE, READY, SERVING, TERMINATING, PORTS.
    """
    import pandas as pd

    slices = cluster.list("endpointslices", labels=f"kubernetes.io/service-name={service}")
    frame = pd.DataFrame(endpoint_rows(slices), columns=["NAME", *ENDPOINT_COLUMNS])
    types = {"NAME": "string", "ADDRESS": "string", "NODE": "string", "PORTS": "string"}
    conditions = dict.fromkeys(("READY", "SERVING", "TERMINATING"), "boolean")
    return frame.astype({**types, **conditions}).set_index("NAME").sort_index()


def endpoint_rows(slices: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """EndpointSlices taken apart: name, address, node, ready, serving, terminating, ports.

    An unset ``ready`` counts as ready, an unset ``serving`` as ready is (discovery.k8s.io/v1).
    """
    rows = []
    for piece in slices:
        ports = ",".join(str(port.get("port")) for port in piece.get("ports") or [])
        for endpoint in piece.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            ready = conditions.get("ready", True) is not False
            serving = conditions.get("serving")
            serving = ready if serving is None else serving
            name = (endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0]
            node = endpoint.get("nodeName") or ""
            terminating = bool(conditions.get("terminating"))
            rows += [(name, address, node, ready, serving, terminating, ports) for address in endpoint["addresses"]]
    return rows


def events(cluster: Cluster) -> pd.DataFrame:
    """The namespace's events, the newest last: LAST SEEN, TYPE, REASON, OBJECT, MESSAGE and more; index NAME."""
    table = cluster.table("events")
    rows = table.get("rows") or []
    ordered = sorted(rows, key=lambda row: str(row["object"]["metadata"].get("creationTimestamp") or ""))
    return frame_of({**table, "rows": ordered})


def frame_of(table: dict[str, Any]) -> pd.DataFrame:
    """A Table of the API server as a DataFrame under kubectl's headings, index NAME, integers as Int64."""
    import pandas as pd

    definitions = table["columnDefinitions"]
    headings = [definition["name"].upper() for definition in definitions]
    frame = pd.DataFrame([row["cells"] for row in table.get("rows") or []], columns=headings)
    integers = {"integer": "Int64"}
    frame = frame.astype({h: integers.get(d["type"], "string") for h, d in zip(headings, definitions, strict=True)})
    return frame.set_index("NAME")
