"""Is the address of a client's socket the one that the cluster sees? Or does a NAT stand in between, and which?

    this machine                     NAT                                node          pod
    socket 192.168.65.3   -->   Docker Desktop, VPN, router   -->   ...   -->   logs 172.18.0.1
                                                                                (nobody's in the address book)

Under externalTrafficPolicy Local kube-proxy leaves the source alone, so whatever nginx logs arrived at the node. If all
requests of this machine arrive with one address, which is not its socket's and belongs to nobody in the cluster, then
something between the two has put it there. Under Cluster the nodes put theirs, and nothing can be said of the way.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from srcip_nb.addresses import canonical
from srcip_nb.rollout import service_address
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

# Networks by which a NAT gives itself away; the values are keys of ``text``. Docker Desktop: docs.docker.com,
# "Networking on Docker Desktop" (subnet); gvisor-tap-vsock (Podman, Rancher Desktop, Lima): its README; QEMU and
# VirtualBox: user networking's gateway (QEMU documentation, "Using the user mode network stack"); RFC 6598.
_TRAITS = (
    ("192.168.65.0/24", "nat.docker_desktop"),
    ("192.168.127.0/24", "nat.gvproxy"),
    ("10.0.2.2/32", "nat.user_mode"),
    ("100.64.0.0/10", "nat.shared"),
)
_BRIDGES = ipaddress.ip_network("172.16.0.0/12")
"""Where Docker takes its networks from (moby, libnetwork/ipamutils: 172.17.0.0/16 to 172.31.0.0/16)."""


@dataclass(frozen=True)
class Way:
    """What became of a client's address on the way to a pod.

    Attributes:
        own: the address of its sockets.
        seen: what the pods logged.
        survives: whether the two are equal.
        is_nat: whether the address seen is nobody's in the cluster.
        words: a sentence.
        evidence: how that is known.
    """

    own: str
    seen: str
    survives: bool
    is_nat: bool
    words: str
    evidence: str


def way_of(frame: pd.DataFrame, book: pd.DataFrame, *, ip_mode: str = "") -> Way | None:
    """Conclude from a run what became of the client's address; None where the run cannot tell.

    Args:
        frame: of ``visit``.
        book: of ``addresses``.
        ip_mode: the ipMode of the address that was asked; a proxy there is no NAT of this machine's network.

    Returns:
        None unless the requests started on one host outside the cluster, under externalTrafficPolicy Local, and all
        that were answered arrived with one and the same address.
    """
    if ip_mode == "Proxy" or frame.empty:
        return None
    client = str(frame["client"].iloc[0])
    is_outside = client in set(book.loc[book["kind"] == "client", "owner"])
    is_mine = (frame["client"] == client) & (frame["policy"] == "Local")
    mine = frame[is_mine & frame["source_ip"].notna()] if is_outside else frame[:0]
    sources = {canonical(str(address)) for address in mine["source_ip"]}
    owns = {canonical(str(address)) for address in mine["client_ip"].dropna()}
    if len(mine) < len(frame[frame["status"].notna()]) or len(sources) != 1 or len(owns) != 1:
        return None
    own, seen = owns.pop(), sources.pop()
    evidence = t("nat.evidence", count=len(mine), own=own, seen=seen)
    if own == seen:
        return Way(own, seen, True, False, t("nat.survives", client=client, own=own), evidence)
    line = book[book["address"] == seen]
    if not line.empty:
        words = t("nat.owned", client=client, own=own, seen=seen, reason=line.iloc[0]["reason"])
        return Way(own, seen, False, False, words, evidence)
    nodes = list(book.loc[book["kind"] == "node", "address"])
    return Way(own, seen, False, True, found_words(client, own, seen, nodes), evidence)


def found_words(client: str, own: str, seen: str, nodes: list[str]) -> str:
    """The sentence that names a NAT: ``client``'s address ``own`` arrives as ``seen``; ``nodes``: their addresses."""
    return t("nat.found", client=client, own=own, seen=seen, name=t(nat_key(seen, nodes)))


def nat_words(frame: pd.DataFrame, book: pd.DataFrame, service: dict[str, Any], targets: Sequence[str]) -> str:
    """The NAT that a run met between its client and the cluster, in words; "" where it met none or cannot tell.

    Args:
        frame: of the run.
        book: of ``addresses``.
        service: the Service that was asked.
        targets: the host:port each request went to, in turn.
    """
    vip = service_address(service)
    is_vip = bool(vip) and any(target.startswith((f"{vip}:", f"[{vip}]:")) for target in targets)
    way = way_of(frame, book, ip_mode=ip_mode_of(service) if is_vip else "")
    return way.words if way is not None and way.is_nat else ""


def nat_key(seen: str, nodes: list[str]) -> str:
    """Which kind of NAT an address points to: a key of ``text``; "nat.unnamed" where it points to none.

    Args:
        seen: the foreign address.
        nodes: the nodes' own addresses.
    """
    address = ipaddress.ip_address(seen)
    for network, key in _TRAITS:
        if address in ipaddress.ip_network(network):
            return key
    if address in _BRIDGES:
        bridge = ipaddress.ip_network(f"{seen}/16", strict=False)
        is_nodes_own = any(ipaddress.ip_address(node) in bridge for node in nodes if canonical(node))
        if address == bridge[1] and is_nodes_own:
            return "nat.bridge"
    return "nat.unnamed"


def ip_mode_of(service: dict[str, Any]) -> str:
    """The ipMode of a Service's external address, "" where it is not set."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return str(ingress[0].get("ipMode") or "") if ingress else ""
