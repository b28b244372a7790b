"""Where requests start: the hosts of a lab, or this machine where the cluster is a real one.

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


@dataclass(frozen=True)
class Client:
    """A host that can send requests.

    Attributes:
        name: as ``visit(client=…)`` takes it.
        role: client, router, control-plane, worker; "client" for this machine.
        address: its own address, "" where it depends on the destination.
    """

    cluster: Cluster
    name: str
    role: str
    address: str

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
        if self.cluster.lab is not None:
            return self.cluster.lab.visit(self.name, requests, concurrency=concurrency, timeout=timeout, rate=rate)

        def from_here() -> Iterator[dict[str, Any]]:
            from srcip_nb.lab.agent.load import visit

            return chain.from_iterable(visit(requests, concurrency=concurrency, timeout=timeout, rate=rate))

        if self.cluster.rest.tape is None:
            return from_here()
        from srcip_nb.taped import taped_visit

        return taped_visit(self.cluster.rest.tape, self.name, requests, timeout, rate, from_here)


def list_clients(cluster: Cluster) -> list[Client]:
    """The hosts that can send requests, the one that is taken by default first."""
    if cluster.lab is None:
        return [Client(cluster, THIS_MACHINE, "client", "")]
    found = [Client(cluster, host["name"], host["role"], host["address"]) for host in cluster.lab.hosts()]
    return sorted(found, key=lambda client: client.role != "client")


def find_client(cluster: Cluster, name: str | None) -> Client:
    """The client of that name; None: the first. In a lab, a pod of the namespace can be one too.

    Raises:
        UsageError: no such client; the message names those there are.
    """
    known = list_clients(cluster)
    if name is None:
        return known[0]
    found = next((client for client in known if client.name == name), None) or _pod(cluster, name)
    if found is None:
        names = ", ".join(repr(client.name) for client in known)
        raise UsageError(f"no client {name!r} in {cluster.world}", f"Choose one of: {names}")
    return found


def _pod(cluster: Cluster, name: str) -> Client | None:
    pods = cluster.list("pods", fields=f"metadata.name={name}") if cluster.lab is not None else []
    return next((Client(cluster, name, "pod", pod["status"].get("podIP", "")) for pod in pods), None)


def clients(cluster: Cluster) -> pd.DataFrame:
    """The hosts that can send requests.

    Returns:
        Index name; role and address ("" where it depends on the destination).
    """
    import pandas as pd

    rows = [(client.name, client.role, client.address) for client in list_clients(cluster)]
    return pd.DataFrame(rows, columns=["name", "role", "address"], dtype="string").set_index("name")
