"""Building the matrix on a cluster: pods, Services, EndpointSlices, and knowing when all of it is in force.

The Service ``in-force`` is made last. kube-proxy counts its pods on the healthCheckNodePort of every node after it has
loaded the rules of the same state, so once the counts are right, every Service before it has its rules.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from srcip_nb.apply import apply
from srcip_nb.cluster import Cluster, is_ready, wait_until
from srcip_nb.errors import ManifestError
from srcip_nb.expect import NOBODY, UNUSABLE
from srcip_nb.health import health
from srcip_nb.matrix_cases import (
    EXTERNAL_IPS,
    HOST_POD,
    MARKER,
    SELECTED,
    STATES,
    Object,
    Place,
    endpoints_of,
    external_address,
    host_network_objects,
    marker_object,
    node_objects,
    node_pods,
    pod_objects,
    service_objects,
    slice_objects,
)
from srcip_nb.traffic import announcers

READY_WITHIN = 60.0  # seconds for each step
ADDRESS_WITHIN = 10.0  # seconds after the last one came

_IN_FORCE = "Does kube-proxy run on each node, and do the nodes reach each other's health check node ports?"


@dataclass(frozen=True)
class Built:
    """What stands in the cluster.

    Attributes:
        services: as the API has them, by name, in the order of the questions.
        announcers: Service -> the node that announces its external address, ``NOBODY``, or "" if not known.
        why_not: kind of client -> why it cannot ask here.
        node_hosts: node -> NAMESPACE/POD that is its client; empty in a lab, where nodes are hosts.
    """

    services: dict[str, Object]
    announcers: dict[str, str]
    why_not: dict[str, str]
    node_hosts: dict[str, str]


def build(own: Cluster, place: Place) -> Built:
    """Make everything, and return when requests meet just this.

    Args:
        own: the cluster, with the namespace that is to be made.
        place: on which nodes.

    Raises:
        NotFinishedError: not there in time; the message holds the last state seen.
    """
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own.namespace}}
    apply(own, namespace)
    apply(own, pod_objects(place))
    nodes = {} if own.lab is not None else node_pods(place)
    if nodes:
        apply(own, node_objects(place))
    services = service_objects()
    if own.lab is None:
        services = [service for service in services if service["metadata"]["name"] not in EXTERNAL_IPS]
    apply(own, services)
    remedy = f"kubectl get events -n {own.namespace}"
    clients = "app in (s,c,h)" if nodes else "app in (s,c)"
    wait_until(lambda: _not_ready(own, clients), "the pods of the matrix", READY_WITHIN, remedy=remedy)
    ips = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in own.list("pods", labels="app in (s,c)")}
    why_not = _cannot_ask(own, place)
    apply(own, slice_objects(place, ips))
    names = [service["metadata"]["name"] for service in services]
    expected = {name: endpoints_of(name, place) for name in names}
    wait_until(lambda: _no_slices(own, expected), "the EndpointSlices of the matrix", READY_WITHIN)
    if own.lab is not None:
        wait_until(lambda: _not_announced(own, expected), "the Services' external addresses", READY_WITHIN)
    else:
        _give_addresses_time(own, expected)
    apply(own, marker_object())
    asker = f"pod/{nodes[place.workers[0]]}" if nodes else None
    wait_until(lambda: _not_in_force(own, place, asker), "the nodes' rules", READY_WITHIN, remedy=_IN_FORCE)
    live = {service["metadata"]["name"]: service for service in own.list("services")}
    ordered = {name: live[name] for name in [*SELECTED, *STATES, *EXTERNAL_IPS] if name in live}
    hosts = {node: f"{own.namespace}/{pod}" for node, pod in nodes.items()}
    return Built(ordered, _announcers(own, ordered), why_not, hosts)


def _cannot_ask(own: Cluster, place: Place) -> dict[str, str]:
    if own.lab is None:
        return {HOST_POD: "on a real cluster the node itself asks by a pod on its network: see node-NODE"}
    try:
        apply(own, host_network_objects(place))
    except ManifestError as error:
        return {HOST_POD: error.cause}
    said: list[str] = []

    def look() -> str:
        said[:] = [event["message"] for event in own.list("events", fields="type=Warning")]
        return "" if said else _not_ready(own, "app=h")

    wait_until(look, "the pods on the host's network", READY_WITHIN)
    return {HOST_POD: said[0]} if said else {}


def _give_addresses_time(own: Cluster, expected: dict[str, Any]) -> None:
    """Wait for external addresses as long as one comes now and then: there may be no load balancer at all."""

    def missing() -> int:
        services = [service for service in own.list("services") if service["metadata"]["name"] in expected]
        return sum(s["spec"]["type"] == "LoadBalancer" and not external_address(s) for s in services)

    left, changed = missing(), time.monotonic()
    while left and time.monotonic() - changed < ADDRESS_WITHIN:
        time.sleep(0.2)
        now = missing()
        if now != left:
            left, changed = now, time.monotonic()


def _not_ready(own: Cluster, labels: str) -> str:
    return ", ".join(
        f"{pod['metadata']['name']} is not ready" for pod in own.list("pods", labels=labels) if not is_ready(pod)
    )


def _no_slices(own: Cluster, expected: dict[str, Any]) -> str:
    counts = dict.fromkeys(expected, 0)
    for one in own.list("endpointslices"):
        name = (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name", "")
        if name in counts:
            counts[name] += len(one.get("endpoints") or [])
    return ", ".join(f"{name} has {counts[name]}" for name in expected if counts[name] != len(expected[name]))


def _not_announced(own: Cluster, expected: dict[str, Any]) -> str:
    waiting = []
    for service in own.list("services"):
        name = service["metadata"]["name"]
        if service["spec"]["type"] != "LoadBalancer" or name not in expected:
            continue
        serves = any(endpoint.state != UNUSABLE for endpoint in expected[name])
        if not external_address(service) or (serves and not announcers(own, name)):
            waiting.append(name)
    return ", ".join(waiting)


def _announcers(own: Cluster, services: Iterable[str]) -> dict[str, str]:
    """Who announces, by MetalLB's own events; in a lab, silence means nobody. Of several it may be any."""
    nobody = NOBODY if own.lab is not None else ""
    said = {name: announcers(own, name) for name in services}
    return {name: (nodes[0] if len(nodes) == 1 else "") if nodes else nobody for name, nodes in said.items()}


def _not_in_force(own: Cluster, place: Place, asker: str | None) -> str:
    said = health(own, MARKER, asker)
    counts = said["local_endpoints"].fillna(-1).astype(int).to_dict()
    errors = said["error"].to_dict()
    wanted = {node: int(node in place.workers) for node in place.names}
    return ", ".join(f"{node} says {errors[node] or counts[node]}" for node in wanted if counts[node] != wanted[node])
