"""The oracle in proxy mode ipvs: where it differs from the table of the other modes.

    under Local     the endpoints of the node that decides, for every client; if it has none, those of all nodes
    and then        kube-proxy keeps the source; on the way to another node the pod network may masquerade it
    if nobody does  the endpoint answers the client by itself, who knows of no such connection: the answer is lost

A virtual server is one list of endpoints, the same for whoever asks: hence no short cut for pods and the node, and no
DROP. And each node has the Services' addresses itself (kube-ipvs0): it calls them from themselves.
"""

from __future__ import annotations

from srcip_nb.errors import UsageError
from srcip_nb.expect_model import CLUSTER_IP, EXTERNAL, NODE, NODE_PORT, POD, Case, Override, Source, World

IPVS = "ipvs"

_CODE = "kubernetes v1.36.2 pkg/proxy/ipvs/proxier.go"
_LIVE = f"{_CODE}; 280 cases under its kube-proxy on Linux 6.1"
OVERRIDES = {
    "local for everyone": Override(
        "mode ipvs, externalTrafficPolicy Local, the node has an endpoint",
        "its own endpoints alone are chosen, for pods and the node too, and the source is kept",
        _LIVE,
    ),
    "local, but none here": Override(
        "mode ipvs, a policy is Local, only other nodes have endpoints",
        "those of all nodes are chosen and nothing is dropped; under externalTrafficPolicy kube-proxy keeps the source",
        f"{_CODE}, syncEndpoint",
    ),
    "masked by the pod network": Override(
        "mode ipvs, a source that is no pod's is kept towards another node, the pod network masquerades it (flannel)",
        "the endpoint sees the tunnel address of the node that decided: the client's address is lost without a word",
        _LIVE,
    ),
    "nobody masks": Override(
        "mode ipvs, a source that is no pod's is kept towards another node, the pod network leaves it (calico, ptp)",
        "the endpoint's answer goes straight to the client, who never asked it: the request times out",
        f"{_CODE}, syncEndpoint: “the reply will have the POD address and will be discarded”; tried on a real kernel",
    ),
    "from the address itself": Override(
        "mode ipvs, node -> ClusterIP or LoadBalancer",
        "the node has the address on kube-ipvs0 and calls from it; where the source is kept, the pod sees just that",
        _LIVE,
    ),
    "internal only": Override(
        "mode ipvs, internalTrafficPolicy Local, no endpoint on the node, the Service has nothing but its ClusterIP",
        "its virtual server has no endpoint: refused",
        f"{_CODE}; kubernetes v1.36.2 pkg/proxy/serviceport.go, UsesClusterEndpoints",
    ),
}

MASQUERADES_FOREIGN = {"calico": False, "flannel": True, "ptp": False}
"""Whether a pod network masquerades what comes from no pod and goes to a pod on another node (flannel's ip-masq)."""


def cell_of(client: str, destination: str, external: str, internal: str, world: World) -> tuple[bool, bool]:
    """What a virtual server of mode ipvs does, as ``expect.cell_of`` tells it for the other modes.

    Returns:
        whether the node's own endpoints are preferred, and whether kube-proxy keeps the source.
    """
    if destination != CLUSTER_IP:
        return external == "Local", external == "Local"
    comes_from_elsewhere = client == EXTERNAL and not world.has_detector
    is_kept = (client == POD or comes_from_elsewhere) and not world.masquerade_all
    return internal == "Local", is_kept


def may_fall_back(case: Case) -> bool:
    """Whether a node without an endpoint of its own takes other nodes' under Local."""
    return case.destination != CLUSTER_IP or case.is_public


def kept_towards_another_node(client: str, case: Case, node: str, comes_with: Source, world: World) -> Source | None:
    """Whose address an endpoint on another node sees where kube-proxy keeps the source; None if its answer is lost.

    Args:
        client: what the client is to the node that decides.
        case: the question.
        node: that node.
        comes_with: the source as it is there.
        world: of the pod network's masquerading.

    Raises:
        UsageError: the pod network is not known.
    """
    if client == POD:
        return comes_with
    if world.cni not in MASQUERADES_FOREIGN:
        raise UsageError("whether a source is masqueraded towards another node depends on the pod network: not known")
    if MASQUERADES_FOREIGN[world.cni]:
        return Source(node, "tunnel")
    is_own_address = client == NODE and case.destination == NODE_PORT
    return comes_with if is_own_address else None
