"""The words of the oracle: what is asked of it (``Case``, ``World``) and what it says (``Expectation``).

Clients, destinations, states of endpoints and outcomes are plain strings with a name each. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

POD, NODE, LOCALHOST, EXTERNAL = "pod", "node", "localhost", "external"
CLUSTER_IP, NODE_PORT, LOAD_BALANCER = "ClusterIP", "NodePort", "LoadBalancer"
READY, TERMINATING, UNUSABLE = "ready", "terminating", "unusable"
ANSWERED, REFUSED, DROPPED, UNREACHABLE = "answered", "refused", "dropped", "unreachable"
MODES = ("iptables", "nftables", "ipvs")
NOBODY = "nobody"
UNIT_TEST = "kubernetes v1.36.2 TestInternalExternalMasquerade"


class Override(NamedTuple):
    """What differs from the table: when, what then, and where that is known from."""

    when: str
    then: str
    source: str


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
        is_public: whether the Service has a node port, an external IP or a load balancer's beside its ClusterIP.
    """

    client: str
    destination: str
    endpoints: tuple[Endpoint, ...]
    external: str = "Cluster"
    internal: str = "Cluster"
    node: str = ""
    pod: str = ""
    at: str = ""
    is_public: bool = True


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
