"""The address book: whose address is it that a pod logged?

A node is many addresses. Beside the one that ``kubectl get nodes`` shows, it owns its ends of the pod network: the
bridge or gateway its own pods see, and the tunnel through which it sends to other nodes' pods.

                     worker01
      192.168.1.45 ──┤ InternalIP                 node
      10.0.5.0     ──┤ tunnel (an annotation)     pod-network
      10.0.5.1     ──┤ gateway of its pods        pod-network
                     └── 10.0.5.8 a pod           pod

The book is read from the API and from the hosts that can be clients; every entry says where it was read, and
``node_addresses`` knows how each pod network tells of its own. The book names owners and predicts nothing: which of
these addresses a pod will see is for the kernel to decide. An address that nobody in it owns is "unknown", and stays
so.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from srcip_nb.node_addresses import Entry, cilium_entries, node_entries, range_entries
from srcip_nb.rest import ApiAnswerError
from srcip_nb.rollout import service_address
from srcip_nb.tape import told
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

KINDS = ("client", "node", "pod-network", "pod", "load-balancer", "service", "probe", "unknown")
COLUMNS = ["address", "kind", "owner", "node", "reason"]
THIS_MACHINE = "this machine"
CILIUM_NODES = "/apis/cilium.io/v2/ciliumnodes"
PROBE_AGENT = "kube-probe/"  # user agent of the kubelet's probes, kubernetes v1.36.2 pkg/probe/http/request.go


def addresses(cluster: Cluster) -> pd.DataFrame:
    """The address book of a cluster and of the hosts that can be its clients.

    Returns:
        address (unique), kind (one of ``KINDS``), owner, node ("" if none), reason (a sentence).

    Raises:
        ClusterError: the API does not answer, or does not allow nodes to be listed.
    """
    nodes = cluster.list("nodes")
    pods = _everywhere(cluster, "pods")
    entries = [
        *node_entries(nodes),
        *cilium_entries(_cilium_nodes(cluster)),
        *pod_entries(pods),
        *service_entries(_everywhere(cluster, "services")),
        *client_entries(_hosts(cluster, nodes)),
        *range_entries(nodes, pods),
    ]
    return book_of(entries)


def _everywhere(cluster: Cluster, resource: str) -> list[dict[str, Any]]:
    """Objects of all namespaces (an ingress's pods are clients too), or of the one where the API allows no more."""
    try:
        return cluster.list(resource, everywhere=True)
    except ApiAnswerError as error:
        if error.code != 403:
            raise
        return cluster.list(resource)


def _cilium_nodes(cluster: Cluster) -> list[dict[str, Any]]:
    """Cilium's own word on nodes; none where there is no Cilium, or where it may not be read."""
    try:
        return cluster.request("GET", CILIUM_NODES)[1].get("items") or []
    except ApiAnswerError as error:
        if error.code not in (403, 404):
            raise
        return []


def book_of(entries: Iterable[Entry]) -> pd.DataFrame:
    """Entries as a table with one line for each address; of several claims the first stands, so order is precedence."""
    import pandas as pd

    book: dict[str, Entry] = {}
    for entry in entries:
        address = canonical(entry.address)
        if address:
            book.setdefault(address, entry._replace(address=address))
    frame = pd.DataFrame(list(book.values()), columns=COLUMNS)
    types = dict.fromkeys(COLUMNS, "string")
    return frame.astype({**types, "kind": pd.CategoricalDtype(list(KINDS))})


def name_address(book: pd.DataFrame, address: str, user_agent: str = "") -> tuple[str, str, str]:
    """Kind, node and reason of one address: ``name_address(book, "10.0.5.0")``.

    Args:
        book: of ``addresses``.
        address: an IP address as text.
        user_agent: of the request; the kubelet's probes say so there, and come from the node's own address.

    Returns:
        ("unknown", "", reason) for an address that is not in the book.
    """
    found = book[book["address"] == canonical(address)]
    if found.empty:
        return "unknown", "", t("book.unknown", address=address)
    line = found.iloc[0]
    if user_agent.startswith(PROBE_AGENT):
        return "probe", str(line["node"]), t("book.probe", node=line["node"] or t("some_node"))
    return str(line["kind"]), str(line["node"]), str(line["reason"])


def name_sources(book: pd.DataFrame, sources: pd.Series, user_agents: pd.Series | None = None) -> pd.DataFrame:
    """Kind and node of many addresses at once.

    Args:
        book: of ``addresses``.
        sources: IP addresses as text; NA where none was seen.
        user_agents: of the same rows, to set the kubelet's probes apart.

    Returns:
        Columns ``source_kind`` and ``source_node`` with the index of ``sources``, NA where it is NA; ``source_node``
        is NA as well for an address that is no node's.
    """
    import pandas as pd

    seen = sources.map(canonical, na_action="ignore")
    kinds = dict(zip(book["address"], book["kind"], strict=True))
    nodes = dict(zip(book["address"], book["node"], strict=True))
    kind = seen.map(lambda address: kinds.get(address, "unknown"), na_action="ignore").astype("object")
    node = seen.map(lambda address: nodes.get(address) or None, na_action="ignore")
    if user_agents is not None:
        probes = user_agents.fillna("").str.startswith(PROBE_AGENT) & sources.notna()
        kind = kind.mask(probes.astype(bool), "probe")
    return pd.DataFrame(
        {
            "source_kind": pd.Categorical(kind, categories=KINDS),
            "source_node": node.astype("string").astype("category"),
        },
        index=sources.index,
    )


def canonical(address: str) -> str:
    """One spelling for an address, "" for what is none: "2001:DB8::0:1" is "2001:db8::1"."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    mapped = getattr(parsed, "ipv4_mapped", None)  # a server that listens on :: logs ::ffff:192.0.2.1
    return str(mapped or parsed)


def pod_entries(pods: list[dict[str, Any]]) -> list[Entry]:
    """Pods' own addresses; a pod on the host network has its node's, and a pod that has ended has none."""
    entries = []
    for pod in pods:
        status, spec = pod.get("status") or {}, pod.get("spec") or {}
        ended = status.get("phase") in {"Succeeded", "Failed"}
        if spec.get("hostNetwork") or ended:
            continue
        name, node = pod["metadata"]["name"], spec.get("nodeName") or ""
        found = [entry["ip"] for entry in status.get("podIPs") or []] or [status.get("podIP")]
        entries += [Entry(ip, "pod", name, node, t("book.pod", pod=name, node=node)) for ip in found if ip]
    return entries


def service_entries(services: list[dict[str, Any]]) -> list[Entry]:
    """Addresses of Services: what a load balancer gave, external IPs, cluster IPs."""
    entries = []
    for service in services:
        name = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        spec = service["spec"]
        vips = [i["ip"] for i in service.get("status", {}).get("loadBalancer", {}).get("ingress") or [] if i.get("ip")]
        entries += [Entry(ip, "load-balancer", name, "", t("book.vip", service=name)) for ip in vips]
        external = spec.get("externalIPs") or []
        entries += [Entry(ip, "load-balancer", name, "", t("book.external", service=name)) for ip in external]
        inside = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]
        entries += [Entry(ip, "service", name, "", t("book.cluster_ip", service=name)) for ip in inside]
    return entries


def client_entries(hosts: list[dict[str, Any]]) -> list[Entry]:
    """Hosts outside the cluster: ``{"name", "address"}`` each."""
    return [
        Entry(host["address"], "client", host["name"], "", t("book.client", host=host["name"]))
        for host in hosts
        if host.get("address")
    ]


def _hosts(cluster: Cluster, nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hosts that are no nodes: a lab's, or this machine by the address it would have towards the cluster."""
    if cluster.lab is not None:
        node_names = {node["metadata"]["name"] for node in nodes}
        return [host for host in cluster.lab.hosts() if host["name"] not in node_names]
    towards = [a["address"] for n in nodes for a in n["status"].get("addresses") or [] if a["type"] == "InternalIP"]
    vips = [service_address(service) for service in cluster.list("services")]
    found = dict.fromkeys(address_towards(cluster, one) for one in [*vips, *towards[:1]] if canonical(one))
    return [{"name": THIS_MACHINE, "address": address} for address in found if address]


def address_towards(cluster: Cluster, towards: str) -> str:
    """The address that requests from this machine have; in a recording, those from the machine of then."""
    return told(cluster.rest.tape, f"own address towards {towards}", lambda: own_address(towards))


def own_address(towards: str) -> str:
    """The address this machine's packets to another have when they leave it; "" without a route. Sends nothing."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])
