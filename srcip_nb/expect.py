"""What should happen: for a client, a destination and a Service, who may answer and whose address it sees.

    expect(case, world) -> Expectation

The rules of one node decide, and they know four kinds of clients: a *pod* (its source is in the cluster CIDR), the
*node* itself, *localhost* (127.0.0.1 on the node) and *external* (everything else). ``TABLE`` says for each of them
what kube-proxy does; ``OVERRIDES`` names what differs from the table, and ``expect`` carries them out by these names::

    client --> [the node whose rules decide] --> endpoint
                own node: ClusterIP, LoadBalancer       table: who, and kept or SNAT
                or the node that is asked: NodePort     way to the endpoint: which of the node's addresses SNAT takes

TABLE is that of kubernetes v1.36.2 pkg/proxy/iptables/proxier_test.go, TestInternalExternalMasquerade (30 cells; the
nftables proxier has the same test). It holds in modes iptables and nftables; what mode ipvs does instead is told by
``expect_ipvs``. ``expect_model`` has the words of questions and answers. Nothing here looks at a cluster.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from srcip_nb import expect_ipvs
from srcip_nb.errors import UsageError
from srcip_nb.expect_ipvs import IPVS
from srcip_nb.expect_model import (
    ANSWERED,
    CLUSTER_IP,
    DROPPED,
    EXTERNAL,
    LOAD_BALANCER,
    LOCALHOST,
    MODES,
    NOBODY,
    NODE,
    NODE_PORT,
    POD,
    READY,
    REFUSED,
    TERMINATING,
    UNIT_TEST,
    UNREACHABLE,
    UNUSABLE,
    Case,
    Endpoint,
    Expectation,
    Override,
    Source,
    World,
)

__all__ = [
    "ANSWERED",
    "CLUSTER_IP",
    "DROPPED",
    "EXTERNAL",
    "LOAD_BALANCER",
    "LOCALHOST",
    "MODES",
    "NOBODY",
    "NODE",
    "NODE_PORT",
    "OVERRIDES",
    "POD",
    "READY",
    "REFUSED",
    "TABLE",
    "TERMINATING",
    "UNIT_TEST",
    "UNREACHABLE",
    "UNUSABLE",
    "Case",
    "Endpoint",
    "Expectation",
    "Override",
    "Row",
    "Source",
    "World",
    "expect",
]


class Row(NamedTuple):
    """One line of the table; each cell says which endpoints may be chosen, and what becomes of the source.

    "all" are the Service's endpoints on every node, "local" those on the node whose rules decide.
    """

    client: str
    destination: str
    default: str
    external_local: str
    internal_local: str


#   client     destination    both policies Cluster  externalTrafficPolicy Local  internalTrafficPolicy Local
TABLE = (
    Row(POD, CLUSTER_IP, "all, kept", "all, kept", "local, kept"),
    Row(POD, NODE_PORT, "all, SNAT", "all, kept", "all, SNAT"),
    Row(POD, LOAD_BALANCER, "all, SNAT", "all, kept", "all, SNAT"),
    Row(NODE, CLUSTER_IP, "all, SNAT", "all, SNAT", "local, SNAT"),
    Row(NODE, NODE_PORT, "all, SNAT", "all, SNAT", "all, SNAT"),
    Row(LOCALHOST, NODE_PORT, "all, SNAT", "all, SNAT", "all, SNAT"),
    Row(NODE, LOAD_BALANCER, "all, SNAT", "all, SNAT", "all, SNAT"),
    Row(EXTERNAL, CLUSTER_IP, "all, SNAT", "all, SNAT", "local, SNAT"),
    Row(EXTERNAL, NODE_PORT, "all, SNAT", "local, kept", "all, SNAT"),
    Row(EXTERNAL, LOAD_BALANCER, "all, SNAT", "local, kept", "all, SNAT"),
)
_ROWS = {(row.client, row.destination): row for row in TABLE}


_LIVE = "observed on Kubernetes v1.36.2"
OVERRIDES = {
    "no endpoint": Override(
        "no endpoint of the Service can be used, on any node", "refused (REJECT)", "TestNoEndpointsReject"
    ),
    "no local endpoint": Override(
        "the cell says local, and only other nodes have endpoints", "dropped (DROP)", "TestExternalTrafficPolicyLocal"
    ),
    "terminating": Override(
        "no endpoint that may be chosen is ready, some still serve while they terminate",
        "these are chosen",
        "TestTerminatingEndpointsTrafficPolicyLocal, …Cluster",
    ),
    "hairpin": Override(
        "a pod is sent to itself", "SNAT, under Local too", "TestClusterIPGeneral; kubernetes/kubernetes#98069"
    ),
    "hairpin elsewhere": Override(
        "mode nftables or ipvs, a pod is sent to itself by another node's rules, where the source is kept",
        "not masqueraded, for a node's set hairpin-connections (KUBE-LOOP-BACK) holds its own pods alone: the request "
        "times out",
        "kubernetes v1.36.2 pkg/proxy/nftables and ipvs, their rules on three nodes; tried on a real kernel",
    ),
    "masquerade all": Override("--masquerade-all, pod -> ClusterIP", "SNAT", UNIT_TEST),
    "no detector": Override(
        "kube-proxy cannot tell pods by their addresses (no --cluster-cidr)",
        "node and external -> ClusterIP kept; pod -> NodePort and LoadBalancer under Local: local",
        UNIT_TEST,
    ),
    "no localhost": Override("127.0.0.1 -> NodePort in mode nftables or ipvs", "refused: nothing listens there", _LIVE),
    "no rule on the way out": Override(
        "mode iptables, node -> LoadBalancer, no endpoint: KUBE-EXTERNAL-SERVICES is not asked in OUTPUT",
        "the packet leaves for the LAN, where nobody has the address: unreachable",
        _LIVE,
    ),
    "not announced": Override(
        "external -> LoadBalancer, and no node announces the address", "unreachable", "MetalLB, speaker"
    ),
    "another node's port": Override(
        "node -> NodePort of another node", "that node decides, and sees an external client", _LIVE
    ),
    "masked on the way": Override(
        "pod -> NodePort of another node, the pod network masquerades (calico natOutgoing, flannel ip-masq)",
        "that node decides, and sees an external client with the address of the pod's node",
        _LIVE,
    ),
    "seen as a pod": Override(
        "pod -> NodePort of another node, the pod network masquerades nothing (ptp)",
        "that node decides, and sees a pod; where the source is kept, the answer of an endpoint on a third node (or on "
        "the pod's own) does not come back by that node, so it is not translated back, and the request times out",
        "tried on a real kernel",
    ),
    **expect_ipvs.OVERRIDES,
}

MASQUERADES = {"calico": True, "flannel": True, "ptp": False}
"""Whether a pod network masquerades what a pod sends to an address that no pod has."""

# Which address MASQUERADE takes: one of the device by which the packet leaves, else the node's own.
SNAT_TO_OWN_POD = {"calico": "node", "flannel": "gateway", "ptp": "gateway"}
SNAT_TO_OTHER_NODE = dict.fromkeys(MASQUERADES, "tunnel")


def expect(case: Case, world: World) -> Expectation:
    """Say what should happen.

    Raises:
        UsageError: the table has no such row or mode, or the pod network is not known where it decides.
    """
    if world.mode not in MODES:
        raise UsageError(f"nothing is known of proxy mode {world.mode!r}", f"Known are {', '.join(MODES)}")
    if (case.client, case.destination) not in _ROWS:
        raise UsageError(f"the table has no row {case.client} -> {case.destination}")
    usable = _usable(case.endpoints)
    if case.client == LOCALHOST and world.mode != "iptables":
        return _by("no localhost", REFUSED)
    if case.client == EXTERNAL and case.at == NOBODY:
        return _by("not announced", UNREACHABLE)
    if not usable:
        is_by_own_rules = case.client == NODE and case.destination == LOAD_BALANCER
        if is_by_own_rules and world.mode == "iptables":
            return _by("no rule on the way out", UNREACHABLE)
        # In mode ipvs the address is the node's own, on kube-ipvs0.
        is_led = case.client == EXTERNAL and case.destination != NODE_PORT and world.mode != IPVS
        return _by("no endpoint", REFUSED, may_be_silent=is_led)
    return _through(_Decider.of(case, world), case, world)


def _by(override: str, outcome: str, may_be_silent: bool = False) -> Expectation:
    known = OVERRIDES[override]
    return Expectation(outcome, reason=f"{known.when}: {known.then}", source=known.source, may_be_silent=may_be_silent)


def _usable(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """The endpoints to choose from: the ready ones; if there is none, those that still serve."""
    ready = tuple(endpoint for endpoint in endpoints if endpoint.state == READY)
    return ready or tuple(endpoint for endpoint in endpoints if endpoint.state == TERMINATING)


class _Decider(NamedTuple):
    """The node whose rules decide ("" if not known), what the client is to them, and the address it comes with."""

    node: str
    client: str
    comes_with: Source
    override: str = ""

    @classmethod
    def of(cls, case: Case, world: World) -> _Decider:
        own = Source("client")
        if case.client == EXTERNAL:
            return cls(case.at, EXTERNAL, own)
        is_elsewhere = case.destination == NODE_PORT and case.at not in ("", case.node)
        if not is_elsewhere:
            return cls(case.node, case.client, own)
        if case.client == NODE:
            return cls(case.at, EXTERNAL, own, "another node's port")
        if world.cni not in MASQUERADES:
            raise UsageError("what a pod looks like to another node depends on the pod network, which is not known")
        if MASQUERADES[world.cni]:
            return cls(case.at, EXTERNAL, Source(case.node, "node"), "masked on the way")
        return cls(case.at, POD, own, "seen as a pod")


def cell_of(client: str, destination: str, external: str, internal: str, world: World) -> tuple[bool, bool]:
    """Look a cell up, with what the flags of kube-proxy change in it.

    Returns:
        whether only local endpoints may be chosen, and whether the source is kept.
    """
    if world.mode == IPVS:
        return expect_ipvs.cell_of(client, destination, external, internal, world)
    row = _ROWS[client, destination]
    column = row.default
    if destination == CLUSTER_IP:
        column = row.internal_local if internal == "Local" else row.external_local
    elif external == "Local":
        column = row.external_local
    reach, source = column.split(", ")
    is_local, is_kept = reach == "local", source == "kept"
    if client == POD and destination == CLUSTER_IP and world.masquerade_all:
        is_kept = False
    if not world.has_detector:
        if client != POD and destination == CLUSTER_IP:
            is_kept = not world.masquerade_all
        if client == POD and destination != CLUSTER_IP and external == "Local":
            is_local = True
    return is_local, is_kept


def _through(decider: _Decider, case: Case, world: World) -> Expectation:
    is_local, is_kept = cell_of(decider.client, case.destination, case.external, case.internal, world)
    chosen, falls_back = _chosen(decider, case, world) if is_local else (_usable(case.endpoints), False)
    if not chosen:
        return _by("internal only", REFUSED) if world.mode == IPVS else _by("no local endpoint", DROPPED)
    sources: dict[str, Source] = {}
    lost: list[str] = []
    for endpoint in chosen:
        source = _source(decider, case, endpoint, world, is_kept)
        if source is None:
            lost.append(endpoint.pod)
        else:
            sources[endpoint.pod] = source
    said = Expectation(ANSWERED if sources else DROPPED, sources, tuple(lost), is_some=is_local and not decider.node)
    known = _known(decider, case, world, falls_back, said)
    return replace(
        said,
        reason=_reason(decider, case, world, is_local and not falls_back, is_kept, chosen, known),
        source=OVERRIDES[known[-1]].source if known else UNIT_TEST,
    )


def _chosen(decider: _Decider, case: Case, world: World) -> tuple[tuple[Endpoint, ...], bool]:
    """The endpoints where the cell says local, and whether they are all nodes' for want of local ones (mode ipvs)."""
    if world.mode == IPVS and not decider.node:
        raise UsageError(
            "under policy Local mode ipvs answers otherwise on each node, and which one it is is not known"
        )
    # Each node chooses of its own: one may have a ready endpoint, another only one that terminates.
    nodes = [decider.node] if decider.node else sorted({endpoint.node for endpoint in case.endpoints})
    within = [tuple(endpoint for endpoint in case.endpoints if endpoint.node == node) for node in nodes]
    chosen = tuple(endpoint for endpoints in within for endpoint in _usable(endpoints))
    if not chosen and world.mode == IPVS and expect_ipvs.may_fall_back(case):
        return _usable(case.endpoints), True
    return chosen, False


def _source(decider: _Decider, case: Case, endpoint: Endpoint, world: World, is_kept: bool) -> Source | None:
    """Whose address an endpoint sees; None if its answer does not find back."""
    if not is_kept or _is_hairpin(decider, case, endpoint, world):
        return _masqueraded(decider.node, endpoint, world)
    if endpoint.node == decider.node:
        return decider.comes_with
    if decider.override == "seen as a pod":
        return None
    if world.mode == IPVS:
        return expect_ipvs.kept_towards_another_node(decider.client, case, decider.node, decider.comes_with, world)
    return decider.comes_with


def _known(decider: _Decider, case: Case, world: World, falls_back: bool, said: Expectation) -> tuple[str, ...]:
    """The overrides that make this case what it is, the weightiest last."""
    names = [decider.override] if decider.override else []
    if world.mode != IPVS:
        return tuple(names)
    is_local, is_kept = cell_of(decider.client, case.destination, case.external, case.internal, world)
    if decider.client == NODE and case.destination != NODE_PORT:
        names.append("from the address itself")
    if falls_back:
        names.append("local, but none here")
    elif is_local and case.destination != CLUSTER_IP:
        names.append("local for everyone")
    if is_kept and decider.client != POD:
        names += ["nobody masks"] if said.lost else []
        names += ["masked by the pod network"] if any(it.kind == "tunnel" for it in said.sources.values()) else []
    return tuple(names)


def _is_hairpin(decider: _Decider, case: Case, endpoint: Endpoint, world: World) -> bool:
    """Whether the rules see that a pod is sent to itself."""
    is_itself = case.client == decider.client == POD and endpoint.pod == case.pod
    return is_itself and (world.mode == "iptables" or endpoint.node == decider.node)


def _masqueraded(node: str, endpoint: Endpoint, world: World) -> Source:
    """Which address MASQUERADE on a node takes towards an endpoint."""
    if not node or world.cni not in MASQUERADES:
        return Source(node, "any")
    is_on_this_node = endpoint.node == node
    return Source(node, (SNAT_TO_OWN_POD if is_on_this_node else SNAT_TO_OTHER_NODE)[world.cni])


def _reason(
    decider: _Decider,
    case: Case,
    world: World,
    is_local: bool,
    is_kept: bool,
    chosen: tuple[Endpoint, ...],
    known: tuple[str, ...],
) -> str:
    who = f"to {decider.node or 'the node it comes to'}'s rules the client is {_NAMES[decider.client]}"
    reach = "only endpoints on this node may be chosen" if is_local else "any endpoint may be chosen"
    words = [who, reach, "the source is kept" if is_kept else "the source is masqueraded"]
    if is_local and not decider.node:
        words.append("which node that is is not known, so it is enough that some of them answer")
    if any(endpoint.state == TERMINATING for endpoint in chosen):
        words.append("where none is ready, those that still serve are chosen")
    is_itself = case.client == decider.client == POD and case.pod in {endpoint.pod for endpoint in chosen}
    if is_itself and is_kept:
        is_seen = any(_is_hairpin(decider, case, endpoint, world) for endpoint in chosen)
        rule = OVERRIDES["hairpin" if is_seen else "hairpin elsewhere"]
        words.append(f"a pod that is sent to itself: {rule.then}")
    words += [OVERRIDES[name].then for name in known]
    return "; ".join(words)


_NAMES = {POD: "a pod", NODE: "the node itself", LOCALHOST: "the node itself, by 127.0.0.1", EXTERNAL: "external"}
