"""Where requests start: the hosts of a lab, this machine, a pod, or a pod on a node's own network.

    client, worker01 …   a lab's hosts; on a real cluster a node's name is node/NAME
    this machine         where the cluster is a real one: for its external addresses and node ports
    pod/NAME             a pod of the namespace: curl in it, told over the API, the same in both worlds
    node/NAME            a pod on that node's network, made on first use, the same in both worlds

Each result tells the address that its own socket had, so what a pod logs is compared with what really left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from srcip_nb.addresses import THIS_MACHINE
from srcip_nb.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

NODE_ROLES = ("control-plane", "worker")


@dataclass(frozen=True)
class Client:
    """A host that can send requests.

    Attributes:
        name: as ``visit(client=…)`` takes it.
        role: client, router, control-plane, worker; "client" for this machine; "pod" or "node".
        address: its own address, "" where it depends on the destination.
        pod: NAMESPACE/NAME of the pod whose shell sends; "" for a host of a lab and for this machine.
        node: the node it is, or runs on, whose rules its packets meet first; "" outside the cluster.
    """

    cluster: Cluster
    name: str
    role: str
    address: str
    pod: str = ""
    node: str = ""

    def send(
        self, requests: Sequence[dict[str, Any]], *, concurrency: int, timeout: float, rate: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Send requests, a new connection each; yields a result as each ends.

        Args:
            requests: ``{"id": int, "url": str, "headers": {}}`` each.
            concurrency: how many are under way at once.
            timeout: seconds a request may take.
            rate: requests a second at most.

        Yields:
            ``id, sent_at`` (ns since the epoch), ``client_ip, status`` (or None), ``error`` ("" if answered),
            ``latency_ms, body``.
        """
        if self.cluster.lab is not None and not self.pod:
            return self.cluster.lab.visit(self.name, requests, concurrency=concurrency, timeout=timeout, rate=rate)

        def live() -> Iterator[dict[str, Any]]:
            if self.pod:
                from srcip_nb.pod_client import send_from_pod

                return send_from_pod(
                    self.cluster, self.pod, requests, concurrency=concurrency, timeout=timeout, rate=rate
                )
            from srcip_nb.lab.agent.load import visit

            return chain.from_iterable(visit(requests, concurrency=concurrency, timeout=timeout, rate=rate))

        tape = self.cluster.rest.tape
        if tape is None:
            return live()
        from srcip_nb.taped import taped_visit

        return taped_visit(tape, self.name, requests, timeout, rate, live)


def list_clients(cluster: Cluster) -> list[Client]:
    """The hosts that can send requests, the one that is taken by default first."""
    if cluster.lab is None:
        return [Client(cluster, THIS_MACHINE, "client", "")]
    found = []
    for host in cluster.lab.hosts():
        name, role = host["name"], host["role"]
        found.append(Client(cluster, name, role, host["address"], node=name if role in NODE_ROLES else ""))
    return sorted(found, key=lambda client: client.role != "client")


def find_client(cluster: Cluster, name: str | None) -> Client:
    """The client of that name; None: the first. A pod on a node's network is made here if there is none.

    Raises:
        UsageError: no such client; the message names those there are.
        ClusterError: the pod on the node's network cannot be made.
        NotFinishedError: it did not start in time.
    """
    known = list_clients(cluster)
    if name is None:
        return known[0]
    found = next((client for client in known if client.name == name), None)
    kind, slash, rest = name.partition("/")
    if found is None and kind == "node" and slash:
        found = _node(cluster, rest)
    elif found is None:
        found = _pod(cluster, rest if kind == "pod" and slash else name)
    if found is None and cluster.lab is None and any(n["metadata"]["name"] == name for n in cluster.list("nodes")):
        found = _node(cluster, name)
    if found is None:
        names = ", ".join(repr(client.name) for client in known)
        raise UsageError(f"no client {name!r} in {cluster.world}", f"Choose one of: {names}; or pod/NAME, node/NAME")
    return found


def _pod(cluster: Cluster, name: str) -> Client | None:
    pods = cluster.list("pods", fields=f"metadata.name={name}")
    at = f"{cluster.namespace}/{name}"
    for pod in pods:
        return Client(cluster, name, "pod", pod["status"].get("podIP", ""), at, pod["spec"].get("nodeName", ""))
    return None


def _node(cluster: Cluster, node: str) -> Client:
    from srcip_nb.host_pods import host_pod

    at = host_pod(cluster, node)
    address = cluster.get("pods", at.partition("/")[2])["status"].get("hostIP", "")
    return Client(cluster, f"node/{node}", "node", address, at, node)


def clients(cluster: Cluster) -> pd.DataFrame:
    """The hosts that can send requests.

    Returns:
        Index name; role and address ("" where it depends on the destination).
    """
    import pandas as pd

    rows = [(client.name, client.role, client.address) for client in list_clients(cluster)]
    return pd.DataFrame(rows, columns=["name", "role", "address"], dtype="string").set_index("name")
