"""The questions of the matrix: which pods and Services there are, who asks what, and what the oracle is told of it.

    worker01  s1 (server)  c1 (client)        worker02  s2 (server)  c2 (client)        another node: no pod

The first seven Services have a selector. Those of ``STATES`` have none: their EndpointSlices are written by hand, since
no pod stays in the state between running and gone for as long as the questions take.

A client is called ``outside``, ``node-NODE`` or as its pod; a destination ``clusterip``, ``vip``, ``externalip``,
``nodeport-NODE`` or ``nodeport-127.0.0.1``. ``vip-by-NODE`` is asked by a client whose packets for the address are led
to NODE, as BGP's equal paths or a cloud's balancer do. Everything here is data and pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from srcip_nb.cluster import is_ready
from srcip_nb.expect import (
    CLUSTER_IP,
    EXTERNAL,
    LOAD_BALANCER,
    LOCALHOST,
    NODE,
    NODE_PORT,
    POD,
    READY,
    TERMINATING,
    UNUSABLE,
    Case,
    Endpoint,
)
from srcip_nb.host_pods import IMAGE, host_pod_object

Object = dict[str, Any]

SERVERS = {"app": "s"}
MARKER = "in-force"
HOST_POD = "host-network pod"
NOT_LED = "only a lab's router can be told to which node it leads an outside host's packets"
NO_ADDRESS = "the Service has no external address (EXTERNAL-IP is pending)"
NOT_OUR_LAN = "the external IP is one of a lab's LAN; elsewhere it may be somebody's"
HOST_NETWORK = {"h1": 0, "h2": 1}
"""Client pods on the host's network, and the worker of each."""

_BOTH, _ONE, _NONE = {"app": "s"}, {"only": "w1"}, {"app": "nobody"}
SELECTED: dict[str, tuple[dict[str, str], Object]] = {
    "cluster": (_BOTH, {}),
    "local": (_BOTH, {"externalTrafficPolicy": "Local"}),
    "local-w1only": (_ONE, {"externalTrafficPolicy": "Local"}),
    "internal-local-w1only": (_ONE, {"internalTrafficPolicy": "Local"}),
    "no-endpoints": (_NONE, {}),
    "local-no-endpoints": (_NONE, {"externalTrafficPolicy": "Local"}),
    "cluster-w1only": (_ONE, {}),
    "both-local": (_BOTH, {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}),
}
"""Services with a selector: name -> selector and policies. The first seven were asked of a real cluster."""

STATES: dict[str, tuple[tuple[str, str], Object]] = {
    "terminating": ((TERMINATING, TERMINATING), {}),
    "terminating-local": ((TERMINATING, TERMINATING), {"externalTrafficPolicy": "Local"}),
    "one-terminating": ((READY, TERMINATING), {}),
    "one-terminating-local": ((READY, TERMINATING), {"externalTrafficPolicy": "Local"}),
    "terminating-internal-local": ((TERMINATING, UNUSABLE), {"internalTrafficPolicy": "Local"}),
    "unusable": ((UNUSABLE, UNUSABLE), {"externalTrafficPolicy": "Local"}),
}
"""Services whose EndpointSlice is written by hand: name -> states of s1 and s2, and policies."""

EXTERNAL_IPS: dict[str, tuple[str, Object]] = {
    "external-ip": ("192.168.1.240", {}),
    "external-ip-local": ("192.168.1.241", {"externalTrafficPolicy": "Local"}),
}
"""Services with an externalIP of the lab's LAN that no machine has."""

_CONDITIONS = {
    READY: {"ready": True, "serving": True, "terminating": False},
    TERMINATING: {"ready": False, "serving": True, "terminating": True},
    UNUSABLE: {"ready": False, "serving": False, "terminating": True},
}


class Place(NamedTuple):
    """Where the pods run, and the other nodes that are asked."""

    workers: tuple[str, str]
    nodes: dict[str, str]
    image: str = IMAGE

    @property
    def names(self) -> list[str]:
        """All nodes that are asked."""
        return list(self.nodes)


@dataclass(frozen=True)
class Question:
    """One case, ready to be asked.

    Attributes:
        service: name of the Service.
        client: who asks.
        destination: what.
        host: the host or pod, as ``LabClient.visit`` takes it.
        target: host:port.
        case: what the oracle is told; None where there is nothing to ask.
        led: the node to which the client's packets are led first; "" for the network's own way.
        why_not: why it is not asked; "" if it is.
    """

    service: str
    client: str
    destination: str
    host: str = ""
    target: str = ""
    case: Case | None = None
    led: str = ""
    why_not: str = ""


def choose_place(nodes: Iterable[Object], image: str = IMAGE) -> Place | None:
    """Take two nodes that run pods and, if there is one, a third without; None where there are not two.

    A node that takes no pods is preferred as the third: no endpoint is ever there. Of a node that is not Ready nobody
    knows whether its rules are today's, so none is taken.
    """
    takes: dict[str, bool] = {}
    addresses: dict[str, str] = {}
    for node in filter(is_ready, nodes):
        name, spec = node["metadata"]["name"], node.get("spec") or {}
        is_tainted = any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in spec.get("taints") or [])
        takes[name] = not is_tainted and not spec.get("unschedulable")
        inside = [a["address"] for a in node["status"].get("addresses") or [] if a["type"] == "InternalIP"]
        addresses[name] = inside[0] if inside else ""
    able = sorted(name for name in takes if takes[name])
    if len(able) < 2:
        return None
    third = sorted((name for name in takes if name not in able[:2]), key=lambda name: (takes[name], name))[:1]
    return Place((able[0], able[1]), {name: addresses[name] for name in sorted(third + able[:2])}, image)


def pod_objects(place: Place) -> list[Object]:
    """The servers s1, s2 and the clients c1, c2, one of each a worker."""
    pods = []
    for name, at, labels in (
        ("s1", 0, {**SERVERS, "only": "w1"}),
        ("s2", 1, SERVERS),
        ("c1", 0, {"app": "c"}),
        ("c2", 1, {"app": "c"}),
    ):
        pods.append(_pod(name, place.workers[at], labels, place.image))
    return pods


def host_network_objects(place: Place) -> list[Object]:
    """The client pods on the host's network; they only wait, since port 80 of a host may be taken."""
    return [host_pod_object(name, place.workers[at], place.image, app="h") for name, at in HOST_NETWORK.items()]


def node_objects(place: Place) -> list[Object]:
    """A pod on the network of each node that is asked: where there is no lab, it is the node as a client."""
    return [host_pod_object(pod, node, place.image, app="h") for node, pod in node_pods(place).items()]


def node_pods(place: Place) -> dict[str, str]:
    """Node -> its client pod."""
    return {node: f"n{number}" for number, node in enumerate(place.names, 1)}


def _pod(name: str, node: str, labels: Mapping[str, str], image: str) -> Object:
    container = {"name": "nginx", "image": image, "imagePullPolicy": "IfNotPresent"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 1},
    }


def service_objects() -> list[Object]:
    """All Services, and no EndpointSlices yet."""
    found = [_service(name, {"selector": selector, **policies}) for name, (selector, policies) in SELECTED.items()]
    found += [_service(name, policies) for name, (_, policies) in STATES.items()]
    for name, (address, policies) in EXTERNAL_IPS.items():
        found.append(_service(name, {"type": "ClusterIP", "selector": _BOTH, "externalIPs": [address], **policies}))
    return found


def marker_object() -> Object:
    """The Service that is made last: once every node's health check counts its pods, all the others are in force."""
    return _service(MARKER, {"selector": _BOTH, "externalTrafficPolicy": "Local"})


def _service(name: str, spec: Object) -> Object:
    whole = {"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


def slice_objects(place: Place, pod_ips: Mapping[str, str]) -> list[Object]:
    """The EndpointSlices of ``STATES``."""
    found = []
    for name, (states, _) in STATES.items():
        endpoints = [
            {
                "addresses": [pod_ips[pod]],
                "nodeName": node,
                "conditions": _CONDITIONS[state],
                "targetRef": {"kind": "Pod", "name": pod},
            }
            for pod, node, state in zip(("s1", "s2"), place.workers, states, strict=True)
        ]
        labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "srcip-nb"}
        found.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-byhand", "labels": labels},
                "addressType": "IPv4",
                "ports": [{"port": 80, "protocol": "TCP"}],
                "endpoints": endpoints,
            }
        )
    return found


def endpoints_of(name: str, place: Place) -> tuple[Endpoint, ...]:
    """The endpoints that a Service of the matrix has by its definition."""
    first, second = place.workers
    if name in STATES:
        states = STATES[name][0]
        return Endpoint("s1", first, states[0]), Endpoint("s2", second, states[1])
    selector = _BOTH if name in EXTERNAL_IPS else SELECTED[name][0]
    found = {"app": (Endpoint("s1", first), Endpoint("s2", second)), "only": (Endpoint("s1", first),)}
    return () if selector == _NONE else found[next(iter(selector))]


def questions(
    services: Mapping[str, Object],
    place: Place,
    announcers: Mapping[str, str],
    *,
    namespace: str,
    outside: str,
    why_not: Mapping[str, str],
    led: bool,
    node_hosts: Mapping[str, str] | None = None,
) -> Iterator[Question]:
    """Everything there is to ask.

    Args:
        services: the Services as the API has them, by name.
        place: where the pods are.
        announcers: Service -> the node that announces its external address, ``NOBODY``, or "" if not known.
        namespace: of the pods.
        outside: the host outside, as ``Client.name``.
        why_not: kind of client (pod, node, localhost, "host-network pod") -> why it cannot be asked.
        led: whether an outside host's packets can be led to a node by hand.
        node_hosts: node -> the host or pod that is its client; None: a host of the node's name.
    """
    for name, service in services.items():
        for asker in _askers(place, namespace, outside, node_hosts or {}):
            for destination, target, at in _destinations(service, place):
                question = _question(name, service, asker, destination, target, at, place, announcers)
                if question is None:
                    continue
                missing = why_not.get(asker.kind) or ("" if target else NO_ADDRESS)
                yield Question(name, asker.name, destination, why_not=missing) if missing else question
        for one in _led(name, service, place, outside):
            yield one if led else Question(one.service, one.client, one.destination, why_not=NOT_LED)
    for name in EXTERNAL_IPS:
        if name not in services:
            yield Question(name, "all clients", "externalip", why_not=NOT_OUR_LAN)


class _Asker(NamedTuple):
    name: str
    kind: str
    host: str
    node: str = ""
    pod: str = ""


def _askers(place: Place, namespace: str, outside: str, hosts: Mapping[str, str]) -> Iterator[_Asker]:
    first, second = place.workers
    yield _Asker("outside", EXTERNAL, outside)
    for node in place.names:
        yield _Asker(f"node-{node}", NODE, hosts.get(node, node), node)
    for node in place.workers:
        yield _Asker(f"node-{node}", LOCALHOST, hosts.get(node, node), node)
    for pod, node in (("c1", first), ("c2", second), ("s1", first), ("s2", second)):
        yield _Asker(pod, POD, f"{namespace}/{pod}", node, pod)
    for pod, at in HOST_NETWORK.items():
        yield _Asker(pod, HOST_POD, f"{namespace}/{pod}", place.workers[at], pod)


def _destinations(service: Object, place: Place) -> Iterator[tuple[str, str, str]]:
    """Name, host:port and the node asked of everything a Service can be asked at."""
    spec = service["spec"]
    port = spec["ports"][0]
    yield "clusterip", f"{spec['clusterIP']}:{port['port']}", ""
    for address in spec.get("externalIPs") or []:
        yield "externalip", f"{address}:{port['port']}", ""
    address = external_address(service)
    if spec.get("type") == "LoadBalancer":
        yield "vip", f"{address}:{port['port']}" if address else "", ""
    if port.get("nodePort"):
        for node, address in place.nodes.items():
            yield f"nodeport-{node}", f"{address}:{port['nodePort']}", node
        yield "nodeport-127.0.0.1", f"127.0.0.1:{port['nodePort']}", ""


def external_address(service: Object) -> str:
    """The address that a load balancer gave, "" without one."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return str(ingress[0].get("ip") or "") if ingress else ""


KINDS = {"clusterip": CLUSTER_IP, "vip": LOAD_BALANCER, "externalip": LOAD_BALANCER}


def _question(
    name: str,
    service: Object,
    asker: _Asker,
    destination: str,
    target: str,
    at: str,
    place: Place,
    announcers: Mapping[str, str],
) -> Question | None:
    """The question, or None where it is none: 127.0.0.1 is a node's own, and nothing leads to an external IP."""
    is_localhost = destination == "nodeport-127.0.0.1"
    if is_localhost != (asker.kind == LOCALHOST):
        return None
    if asker.kind == EXTERNAL and destination in ("clusterip", "externalip"):
        return None
    if asker.kind == EXTERNAL and destination == "vip":
        at = announcers.get(name, "")
    kind = KINDS.get(destination, NODE_PORT)
    case = case_of(name, service, place, NODE if asker.kind == HOST_POD else asker.kind, kind, at)
    case = Case(**{**vars(case), "node": asker.node, "pod": asker.pod if asker.kind == POD else ""})
    return Question(name, asker.name, destination, asker.host, target, case)


def case_of(name: str, service: Object, place: Place, client: str, destination: str, at: str) -> Case:
    """What the oracle is told, of a client outside."""
    spec = service["spec"]
    external = spec.get("externalTrafficPolicy") or "Cluster"
    internal = spec.get("internalTrafficPolicy") or "Cluster"
    return Case(client, destination, endpoints_of(name, place), external, internal, at=at)


def _led(name: str, service: Object, place: Place, outside: str) -> Iterator[Question]:
    for destination, target, _ in _destinations(service, place):
        for node in place.names if destination in KINDS and target else ():
            case = case_of(name, service, place, EXTERNAL, KINDS[destination], node)
            yield Question(name, "outside", f"{destination}-by-{node}", outside, target, case, led=node)
