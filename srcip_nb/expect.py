"""What should happen: for a client, a destination and a Service, who may answer and whose address it sees.

    expect(case, world) -> Expectation

The rules of one node decide, and they know four kinds of clients: a *pod* (its source is in the cluster CIDR), the
*node* itself, *localhost* (127.0.0.1 on the node) and *external* (everything else). ``TABLE`` says for each of them
what kube-proxy does; ``OVERRIDES`` names what differs from the table, and ``expect`` carries them out by these names::

    client --> [the node whose rules decide] --> endpoint
                own node: ClusterIP, LoadBalancer       table: who, and kept or SNAT
                or the node that is asked: NodePort     way to the endpoint: which of the node's addresses SNAT takes

TABLE is that of kubernetes v1.36.2 pkg/proxy/iptables/proxier_test.go, TestInternalExternalMasquerade (30 cells; the
nftables proxier has the same test). It holds in modes iptables and nftables. Nothing here looks at a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from srcip_nb.errors import UsageError

POD, NODE, LOCALHOST, EXTERNAL = "pod", "node", "localhost", "external"
CLUSTER_IP, NODE_PORT, LOAD_BALANCER = "ClusterIP", "NodePort", "LoadBalancer"
READY, TERMINATING, UNUSABLE = "ready", "terminating", "unusable"
ANSWERED, REFUSED, DROPPED, UNREACHABLE = "answered", "refused", "dropped", "unreachable"
MODES = ("iptables", "nftables")
NOBODY = "nobody"
UNIT_TEST = "kubernetes v1.36.2 TestInternalExternalMasquerade"


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


class Override(NamedTuple):
    """What differs from the table: when, what then, and where that is known from."""

    when: str
    then: str
    source: str


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
        "mode nftables, a pod is sent to itself by another node's rules, where the source is kept",
        "not masqueraded, for a node's set hairpin-connections holds its own pods alone: the request times out",
        "kubernetes v1.36.2 pkg/proxy/nftables, its rules on three nodes; tried on a real kernel",
    ),
    "masquerade all": Override("--masquerade-all, pod -> ClusterIP", "SNAT", UNIT_TEST),
    "no detector": Override(
        "kube-proxy cannot tell pods by their addresses (no --cluster-cidr)",
        "node and external -> ClusterIP kept; pod -> NodePort and LoadBalancer under Local: local",
        UNIT_TEST,
    ),
    "no localhost": Override("127.0.0.1 -> NodePort in mode nftables", "refused: nothing listens there", _LIVE),
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
}

MASQUERADES = {"calico": True, "flannel": True, "ptp": False}
"""Whether a pod network masquerades what a pod sends to an address that no pod has."""

# Which address MASQUERADE takes: one of the device by which the packet leaves, else the node's own.
SNAT_TO_OWN_POD = {"calico": "node", "flannel": "gateway", "ptp": "gateway"}
SNAT_TO_OTHER_NODE = dict.fromkeys(MASQUERADES, "tunnel")


class Endpoint(NamedTuple):
    """A pod behind a Service; its state is ready, terminating (and still serving) or unusable."""

    pod: str
    node: str
    state: str = READY


@dataclass(frozen=True)
class Case:
    """One question: this client asks this destination.

    Attributes:
        client: pod, node (a host-network pod is one), localhost or external.
        destination: ClusterIP, NodePort or LoadBalancer (an externalIP is one).
        endpoints: of the Service.
        external: its externalTrafficPolicy.
        internal: its internalTrafficPolicy.
        node: where the client is; "" for external.
        pod: the client's own name if it is a pod, for hairpins.
        at: the node whose port is asked, or to which the network leads an external client's packets; "" for the
            client's own node, and for an external client where that is not known; ``NOBODY``: to no node.
    """

    client: str
    destination: str
    endpoints: tuple[Endpoint, ...]
    external: str = "Cluster"
    internal: str = "Cluster"
    node: str = ""
    pod: str = ""
    at: str = ""


@dataclass(frozen=True)
class World:
    """What the answer depends on beside the Service.

    Attributes:
        mode: kube-proxy's mode.
        cni: the pod network, "" if not known.
        has_detector: kube-proxy knows the pods' addresses (--cluster-cidr).
        masquerade_all: --masquerade-all.
    """

    mode: str = "iptables"
    cni: str = ""
    has_detector: bool = True
    masquerade_all: bool = False


class Source(NamedTuple):
    """Whose address an endpoint sees.

    Attributes:
        owner: "client", or the name of a node; "" for some node.
        kind: for a node: "node" (its own address), "gateway" or "tunnel" (of its pod network), "any" of these.
    """

    owner: str
    kind: str = ""

    def __str__(self) -> str:
        if self.owner == "client":
            return "the client's own"
        kind = {"node": "own address", "any": "addresses"}.get(self.kind, self.kind)
        return f"{self.owner or 'a node'}'s {kind}"


@dataclass(frozen=True)
class Expectation:
    """What should happen.

    Attributes:
        outcome: answered, refused, dropped or unreachable.
        sources: endpoint -> whose address it sees; exactly these answer.
        lost: endpoints whose answers do not find back, so that some requests time out.
        reason: a sentence.
        source: where the rule is known from.
        is_some: not all of ``sources`` answer but some: to which node the packets come is not known.
        may_be_silent: a refusal may look like a timeout every time: towards an address that is not the node's own the
            kernel first sends a redirect, which counts against its limit of ICMP messages.
    """

    outcome: str
    sources: Mapping[str, Source] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    reason: str = ""
    source: str = UNIT_TEST
    is_some: bool = False
    may_be_silent: bool = False

    @property
    def kept(self) -> bool | None:
        """Whether every endpoint sees the client's own address; None where nobody answers, or only some do."""
        kinds = {source.owner == "client" for source in self.sources.values()}
        return kinds.pop() if len(kinds) == 1 else None


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
    if case.client == LOCALHOST and world.mode == "nftables":
        return _by("no localhost", REFUSED)
    if case.client == EXTERNAL and case.at == NOBODY:
        return _by("not announced", UNREACHABLE)
    if not usable:
        is_by_own_rules = case.client == NODE and case.destination == LOAD_BALANCER
        if is_by_own_rules and world.mode == "iptables":
            return _by("no rule on the way out", UNREACHABLE)
        is_led = case.client == EXTERNAL and case.destination != NODE_PORT
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
    chosen = _usable(case.endpoints)
    if is_local:  # each node chooses of its own: one may have a ready endpoint, another only one that terminates
        nodes = [decider.node] if decider.node else sorted({endpoint.node for endpoint in case.endpoints})
        within = [tuple(endpoint for endpoint in case.endpoints if endpoint.node == node) for node in nodes]
        chosen = tuple(endpoint for endpoints in within for endpoint in _usable(endpoints))
    if not chosen:
        return _by("no local endpoint", DROPPED)
    sources: dict[str, Source] = {}
    lost: list[str] = []
    for endpoint in chosen:
        if not is_kept or _is_hairpin(decider, case, endpoint, world):
            sources[endpoint.pod] = _masqueraded(decider.node, endpoint, world)
        elif decider.override == "seen as a pod" and endpoint.node != decider.node:
            lost.append(endpoint.pod)
        else:
            sources[endpoint.pod] = decider.comes_with
    return Expectation(
        ANSWERED if sources else DROPPED,
        sources,
        tuple(lost),
        _reason(decider, case, world, is_local, is_kept, chosen),
        OVERRIDES[decider.override].source if decider.override else UNIT_TEST,
        is_some=is_local and not decider.node,
    )


def _is_hairpin(decider: _Decider, case: Case, endpoint: Endpoint, world: World) -> bool:
    """Whether the rules see that a pod is sent to itself."""
    is_itself = case.client == decider.client == POD and endpoint.pod == case.pod
    return is_itself and (world.mode != "nftables" or endpoint.node == decider.node)


def _masqueraded(node: str, endpoint: Endpoint, world: World) -> Source:
    """Which address MASQUERADE on a node takes towards an endpoint."""
    if not node or world.cni not in MASQUERADES:
        return Source(node, "any")
    is_on_this_node = endpoint.node == node
    return Source(node, (SNAT_TO_OWN_POD if is_on_this_node else SNAT_TO_OTHER_NODE)[world.cni])


def _reason(
    decider: _Decider, case: Case, world: World, is_local: bool, is_kept: bool, chosen: tuple[Endpoint, ...]
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
        known = OVERRIDES["hairpin" if is_seen else "hairpin elsewhere"]
        words.append(f"a pod that is sent to itself: {known.then}")
    if decider.override:
        words.append(OVERRIDES[decider.override].then)
    return "; ".join(words)


_NAMES = {POD: "a pod", NODE: "the node itself", LOCALHOST: "the node itself, by 127.0.0.1", EXTERNAL: "external"}
