"""The cluster as the dashboard draws it, and the changes that its controls make.

    look(cluster) -> View                         nodes, pods, clients, the VIP and who announces it: a few API requests
    change(cluster, setting, name, value)         returns when it is in force
    why_not(cluster) -> {name: reason}            controls that this cluster does not have

A policy, the number of pods and kube-proxy's mode are known to be in force when ``change`` returns. Of
internalTrafficPolicy and sessionAffinity no node tells when it has them: there ``SETTLE`` seconds are waited.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from srcip_nb.addresses import addresses, canonical
from srcip_nb.apply import require_ours
from srcip_nb.cluster import DEPLOYMENT, SERVICE
from srcip_nb.dashboard_state import Setting
from srcip_nb.errors import SrcipError, UsageError
from srcip_nb.expect import CLUSTER_IP, LOAD_BALANCER, NODE_PORT
from srcip_nb.observe import endpoint_rows
from srcip_nb.rollout import service_address
from srcip_nb.targets import entry_node, find_targets, internal_ip
from srcip_nb.text import t
from srcip_nb.traffic import announcers, is_ready

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.worlds import LessonCluster

SETTLE = (
    1.0  # seconds; a lab's nodes follow within 0.1 s, kube-proxy by default within one (--iptables-min-sync-period)
)
LAB_ONLY = ("mode", "cni", "clients", "start")


@dataclass(frozen=True)
class Node:
    """A node; ``runs_pods`` is False for a control plane that takes none."""

    name: str
    address: str
    is_ready: bool


@dataclass(frozen=True)
class Pod:
    """A pod behind the Service, as its EndpointSlices have it; its state is ready, terminating or unusable."""

    name: str
    address: str
    node: str
    state: str


@dataclass(frozen=True)
class View:
    """The cluster at one moment.

    Attributes:
        world: which world, as ``connect`` prints it.
        nodes: all nodes, by name.
        pods: the Service's endpoints, by node and name.
        clients: name and address of the hosts outside the cluster.
        vip: the Service's external address, "" without one.
        announcers: the nodes that announce it; none where nobody says it.
        targets: LoadBalancer, NodePort, ClusterIP -> host:port; what there is none of is left out.
        node_port_at: the node whose port is asked, as ``entry_node`` chooses it; "" where no node is Ready.
        book: the address book, ``owners``: address -> (kind, node) of it.
        info: the lab's settings, none on a real cluster.
    """

    world: str
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    clients: tuple[tuple[str, str], ...]
    vip: str
    announcers: tuple[str, ...]
    targets: dict[str, str]
    node_port_at: str
    book: pd.DataFrame
    owners: dict[str, tuple[str, str]]
    info: dict[str, Any]

    def owner(self, address: str) -> tuple[str, str]:
        """Kind and node of an address, ("unknown", "") where nobody is known to have it."""
        return self.owners.get(canonical(address), ("unknown", ""))


def look(cluster: LessonCluster) -> View:
    """Read the cluster.

    Raises:
        ClusterError: the API does not answer, or there is no such Service.
    """
    service = cluster.get("services", SERVICE)
    found = cluster.list("nodes")
    nodes = tuple(sorted((_node(one) for one in found), key=lambda node: node.name))
    slices = cluster.list("endpointslices", labels=f"kubernetes.io/service-name={SERVICE}")
    pods = tuple(sorted((_pod(row) for row in endpoint_rows(slices)), key=lambda pod: (pod.node, pod.name)))
    book = addresses(cluster)
    kinds = [
        (str(kind), "" if node is None else str(node)) for kind, node in zip(book["kind"], book["node"], strict=True)
    ]
    outside = tuple(book.loc[book["kind"] == "client", ["owner", "address"]].itertuples(index=False, name=None))
    at = entry_node(found, {pod.node for pod in pods if pod.state == "ready"})
    return View(
        world=str(cluster.world),
        nodes=nodes,
        pods=pods,
        clients=tuple((str(name), str(address)) for name, address in outside if name != "router"),
        vip=service_address(service),
        announcers=announcers(cluster),
        targets=_targets(service, found, at),
        node_port_at=at,
        book=book,
        owners=dict(zip(book["address"], kinds, strict=True)),
        info=cluster.lab.info() if cluster.lab is not None else {},
    )


def _node(node: dict[str, Any]) -> Node:
    return Node(node["metadata"]["name"], internal_ip(node), is_ready(node))


def _pod(row: tuple[Any, ...]) -> Pod:
    name, address, node, ready, serving, terminating, _ports = row
    state = "ready" if ready else "terminating" if serving and terminating else "unusable"
    return Pod(name, address, node, state)


def _targets(service: dict[str, Any], nodes: list[dict[str, Any]], at: str) -> dict[str, str]:
    found = {}
    for name, target in ((LOAD_BALANCER, None), (NODE_PORT, at or "nodeport"), (CLUSTER_IP, "clusterip")):
        try:
            found[name] = find_targets(service, nodes, target)[0]
        except UsageError:  # the Service has no such address: the control says so when it is chosen
            continue
    return found


def read_setting(cluster: LessonCluster, view: View, last: Setting) -> Setting:
    """What is set in the cluster now; what only the dashboard decides (clients, target, rate) is as it was last."""
    spec = cluster.get("services", SERVICE)["spec"]
    replicas = cluster.get("deployments", DEPLOYMENT)["spec"].get("replicas", 1)
    return replace(
        last,
        external=spec.get("externalTrafficPolicy", "Cluster"),
        internal=spec.get("internalTrafficPolicy", "Cluster"),
        replicas=replicas,
        affinity=spec.get("sessionAffinity", "None"),
        mode=str(view.info.get("proxy_mode", "")),
        cni=str(view.info.get("cni", "")),
    )


def why_not(cluster: LessonCluster) -> dict[str, str]:
    """The controls that this cluster does not have, and why."""
    return {} if cluster.lab is not None else {name: t(f"dash.not.{name}") for name in LAB_ONLY}


def needs_new_lab(name: str, value: Any, view: View) -> bool:
    """Whether a lab has to be another one for this: its pod network is built once, and so are its hosts."""
    return name == "cni" or (name == "clients" and value > len(view.clients))


def change(cluster: LessonCluster, name: str, value: Any) -> str:
    """Change one thing in the cluster and return when it is in force.

    Args:
        cluster: where.
        name: a field of ``Setting`` that is the cluster's: external, internal, replicas, mode or affinity.
        value: what it becomes.

    Returns:
        How it is known to be in force, a sentence.

    Raises:
        SrcipError: refused, or not in force in time; the message says which.
    """
    if name == "external":
        return cluster.policy(value).evidence
    if name == "replicas":
        cluster.scale(value)
        return t("dash.known.replicas")
    if name == "mode":
        if cluster.lab is None:
            raise UsageError(t("dash.not.mode"))
        cluster.lab.proxy_mode(value)
        return t("dash.known.mode")
    field = {"internal": "internalTrafficPolicy", "affinity": "sessionAffinity"}[name]
    require_ours(cluster, cluster.get("services", SERVICE), "Service")
    cluster.patch("services", SERVICE, {"spec": {field: value}})
    time.sleep(SETTLE)
    return t("dash.known.settle", seconds=f"{SETTLE:g}")


def new_lab(view: View, setting: Setting, namespace: str) -> LessonCluster:
    """Start another lab with this pod network and so many clients, with the lesson's objects as they are set here.

    The lab belongs to this kernel's owner, or to this process; the one before goes on.

    Raises:
        SrcipError: it cannot be started, or the objects are not in force in time; nothing of it is left.
    """
    from srcip_nb.lab.lifecycle import notebook_owner, start, stop
    from srcip_nb.lab.spec import LabSpec
    from srcip_nb.lab.state import Process
    from srcip_nb.worlds import connect

    base = re.sub(r"-d[0-9a-f]{4}$", "", str(view.info["name"]))[:33]
    spec = LabSpec(
        name=f"{base}-d{secrets.token_hex(2)}",
        cni=setting.cni,
        clients=max(setting.clients, len(view.clients)),
        workers=view.info["workers"],
        proxy_mode=setting.mode,
        announce=view.info["announce"],
    )
    record = start(spec, notebook_owner() or Process.of(os.getpid()))
    try:
        cluster = connect(lab=spec.name, namespace=namespace, quiet=True)
        cluster.apply()
        cluster.wait_ready()
        cluster.scale(setting.replicas)
        cluster.policy(setting.external)
        for name in ("internal", "affinity"):
            if getattr(setting, name) != getattr(Setting(), name):
                change(cluster, name, getattr(setting, name))
    except SrcipError:
        stop(record)
        raise
    return cluster


def end_lab(cluster: LessonCluster) -> None:
    """End a lab that this dashboard started."""
    from srcip_nb.lab.lifecycle import stop
    from srcip_nb.lab.state import find_lab

    record = find_lab(cluster.lab.name) if cluster.lab is not None else None
    if record is not None:
        stop(record)
