"""What a cluster is and allows: each finding with the object and field that said so; nothing is changed.

    ok       proxy mode               iptables
                                      ConfigMap kube-system/kube-proxy: config.conf, mode iptables
    unknown  load balancer            no Service of type LoadBalancer is there to show it; it shows after …
    missing  permissions: lessons     create services in namespace 'seminar'; type: srcip-nb rbac …

``missing`` keeps the course from running there; ``unknown`` could not be found out, and says what was looked at;
``without`` is a thing that the course does without, in the way that is told. The same code looks at a lab.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from srcip_nb.addresses import THIS_MACHINE, address_towards, addresses, canonical
from srcip_nb.cluster import SERVICE
from srcip_nb.dataplane import NONE, DataPlane, Fact
from srcip_nb.dataplane_balancer import announcing
from srcip_nb.dataplane_find import find
from srcip_nb.dataplane_read import look
from srcip_nb.dataplane_seen import Object, Seen, where
from srcip_nb.doctor import MISSING, OK, UNKNOWN, WITHOUT, Finding
from srcip_nb.errors import ClusterError, SrcipError
from srcip_nb.host_probe import Told, ask_nodes
from srcip_nb.nat import Way, found_words, ip_mode_of, way_of
from srcip_nb.rest import ApiAnswerError
from srcip_nb.rollout import service_address
from srcip_nb.targets import internal_ip
from srcip_nb.traffic import EXCLUDE_LABEL, is_ready, visit

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

_TRIES = 4  # requests to find out what becomes of this machine's address

_REVIEWS = {
    "SelfSubjectAccessReview": {"resourceAttributes": {"verb": "list", "resource": "nodes"}},
    "SelfSubjectRulesReview": {"namespace": "default"},
}

_WORDS = {
    "proxy": "who carries out Services",
    "cni": "pod network",
    "tunnel": "between nodes",
    "masquerade": "pods masqueraded to nodes",
    "load_balancer": "load balancer",
    "announce": "announced by",
    "dsr": "direct server return",
    "ip_mode": "ipMode",
}


def examine(cluster: Cluster, *, probe: bool = False) -> list[Finding]:
    """Look at a cluster, reading only; some requests go to the lesson's own Service where that can tell something.

    Args:
        cluster: which.
        probe: also run a pod on each node's network for a moment and ask the nodes themselves: see ``host_probe``.

    Returns:
        Findings in the order in which a reader asks: reachable, allowed, data plane, load balancer, nodes, this
        machine.

    Raises:
        ClusterError: the API server stops answering meanwhile.
    """
    began = time.monotonic()
    cluster.request("GET", "/version")
    took = f"{cluster.server} answers in {(time.monotonic() - began) * 1000:.0f} ms"
    seen = look(cluster)
    told = ask_nodes(cluster) if probe else None
    if told is not None:
        seen = replace(seen, modes={**seen.modes, **told.modes})
    plane = find(seen)
    return [
        Finding(OK, "reachable", took, evidence="GET /version"),
        Finding(OK, "version", f"Kubernetes {cluster.version}", evidence="GET /version: gitVersion"),
        *permissions(cluster),
        *data_plane(plane),
        *balancing(seen, plane),
        way_to_vip(cluster, seen, told),
    ]


def data_plane(plane: DataPlane) -> list[Finding]:
    """The facts as findings."""
    return [_finding(_WORDS[name], fact) for name, fact in plane.facts().items()]


def _finding(what: str, fact: Fact) -> Finding:
    if not fact:
        remedy = "srcip-nb doctor --probe, which asks the nodes" if what == _WORDS["proxy"] else ""
        return Finding(UNKNOWN, what, "not known", remedy, fact.evidence)
    if what == _WORDS["load_balancer"] and fact.value == NONE:
        words = "none: the course goes on by NodePort"
        return Finding(WITHOUT, what, words, 'visit(target="nodeport")', fact.evidence)
    return Finding(OK, what, fact.value, evidence=fact.evidence)


def balancing(seen: Seen, plane: DataPlane) -> list[Finding]:
    """Who announces which Service's address, and which nodes may."""
    found = [
        Finding(OK, "announces", f"{nodes} for Service {service}", evidence=evidence)
        for service, (nodes, evidence) in announcing(seen).items()
    ]
    nodes = seen.all("Node")
    why_not = {node["metadata"]["name"]: "; ".join(reasons_against(node)) for node in nodes}
    fit = [name for name, reasons in why_not.items() if not reasons]
    against = [f"{name}: {reasons}" for name, reasons in why_not.items() if reasons]
    limits = [
        f"{where(item)} limits them by nodeSelectors"
        for kind in ("L2Advertisement", "BGPAdvertisement")
        for item in seen.all(kind)
        if (item.get("spec") or {}).get("nodeSelectors")
    ]
    tainted = [f"{node['metadata']['name']} has no pods of the lesson: {taints_of(node)}" for node in nodes]
    tainted = [words for words, node in zip(tainted, nodes, strict=True) if taints_of(node)]
    evidence = "; ".join([*against, *limits, *tainted]) or f"{len(nodes)} Nodes: all Ready, none excluded by its label"
    what = "nodes that may serve a VIP"
    if fit:
        return [*found, Finding(OK, what, ", ".join(fit), evidence=evidence)]
    state = WITHOUT if plane.load_balancer.value == NONE else MISSING
    return [*found, Finding(state, what, "none", "kubectl get nodes --show-labels", evidence)]


def reasons_against(node: Object) -> list[str]:
    """Why a node serves no external address: what MetalLB's speaker and clouds' controllers look at.

    Source: metallb speaker/layer2_controller.go and internal/k8s/nodes; k8s.io/cloud-provider controllers/service.
    """
    labels = node["metadata"].get("labels") or {}
    conditions = {c["type"]: c["status"] for c in (node.get("status") or {}).get("conditions") or []}
    found = []
    if EXCLUDE_LABEL in labels:
        found.append(f"label {EXCLUDE_LABEL}")
    if not is_ready(node):
        found.append(f"condition Ready is {conditions.get('Ready', 'not set')}")
    if conditions.get("NetworkUnavailable") == "True":
        found.append("condition NetworkUnavailable is True")
    return found


def taints_of(node: Object) -> str:
    """The taints that keep pods without tolerations away, in kubectl's words; "" where there are none."""
    taints = (node.get("spec") or {}).get("taints") or []
    return ", ".join(f"taint {t['key']}:{t['effect']}" for t in taints if t["effect"] in ("NoSchedule", "NoExecute"))


def way_to_vip(cluster: Cluster, seen: Seen, told: Told | None = None) -> Finding:
    """Whether this machine's own address is what the cluster sees of it: measured, or said to be not known."""
    what = "this machine's address"
    if told is not None and told.arrived:
        return _arrived(told, [internal_ip(node) for node in seen.all("Node")])
    if cluster.lab is not None:
        words = "requests start on the lab's hosts, each with an address of its own"
        return Finding(OK, what, words, evidence="the lab's hosts: cluster.clients()")
    nodes = seen.all("Node")
    service = cluster.find("services", SERVICE)
    address = service_address(service) if service else ""
    towards = address or next((internal_ip(node) for node in nodes if internal_ip(node)), "")
    own = address_towards(cluster, towards) if towards else ""
    if not own:
        return Finding(UNKNOWN, what, "not known", evidence=f"this machine has no route to {towards or 'any node'}")
    of_node = next((node["metadata"]["name"] for node in nodes if internal_ip(node) == own), "")
    if of_node:
        words = f"{own} is node {of_node}'s own: what starts here starts on a node, not outside"
        return Finding(OK, what, words, evidence=f"Node {of_node}: InternalIP; this machine's socket")
    evidence = f"this machine's socket towards {towards} has {own}"
    if told is not None and told.unreached:
        evidence += "; not reached: " + ", ".join(f"{node} ({why})" for node, why in told.unreached.items())
    policy = (service or {}).get("spec", {}).get("externalTrafficPolicy")
    if service is None or policy != "Local":
        remedy = 'cluster.policy("Local"), then look again' if service else "cluster.apply(), then look again"
        why = f"Service {SERVICE} has policy {policy}" if service else f"there is no Service {SERVICE} to ask"
        return Finding(UNKNOWN, what, f"{own}; whether it arrives is not known", remedy, f"{evidence}; {why}")
    try:
        way = measure_way(cluster, addresses(cluster))
    except SrcipError as error:
        return Finding(UNKNOWN, what, f"{own}; whether it arrives is not known", error.remedy, error.cause)
    return Finding(OK if way.survives else WITHOUT, what, way.words, evidence=way.evidence)


def _arrived(told: Told, nodes: list[str]) -> Finding:
    """What the nodes saw of this machine, as a finding."""
    what = "this machine's address"
    evidence = "; ".join(f"a node saw {there} of a socket with {own}" for own, there in told.arrived)
    changed = [(own, there) for own, there in told.arrived if canonical(own) != canonical(there)]
    if not changed:
        owns = ", ".join(dict.fromkeys(own for own, _ in told.arrived))
        return Finding(OK, what, f"{owns} arrives at the nodes unchanged", evidence=evidence)
    own, there = changed[0]
    return Finding(WITHOUT, what, found_words(THIS_MACHINE, own, there, nodes), evidence=evidence)


def permissions(cluster: Cluster) -> list[Finding]:
    """What these credentials may do, feature by feature, by the API server's own word (SelfSubjectAccessReview)."""
    from srcip_nb.permissions import FEATURES, REVIEWS, grant_command, in_words, missing_permissions, permissions_of

    for kind, spec in _REVIEWS.items():  # an API that answers none must not look like one that allows everything
        try:
            body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
            cluster.request("POST", f"{REVIEWS}/{kind.lower()}s", body)
        except ApiAnswerError as error:
            return [Finding(UNKNOWN, "permissions", "not known", evidence=f"{kind}: {error.cause}")]
    found = []
    for feature in FEATURES:
        needed = permissions_of([feature], cluster.namespace)
        try:
            missing = missing_permissions(cluster, needed)
        except ClusterError as error:
            found.append(Finding(UNKNOWN, f"permissions: {feature}", "not known", evidence=error.cause))
            continue
        evidence = f"{', '.join(_REVIEWS)}: {len(needed)} permissions"
        if missing:
            words = in_words(missing)
            state = MISSING if feature == "lessons" else WITHOUT
            remedy = grant_command(cluster.namespace, "")
            found.append(Finding(state, f"permissions: {feature}", f"not allowed: {words}", remedy, evidence))
        else:
            found.append(Finding(OK, f"permissions: {feature}", "all allowed", evidence=evidence))
    return found


def report(cluster: Cluster, findings: list[Finding]) -> str:
    """The findings as a text: a line each, its evidence below it, and at the end the verdict."""
    lines = [f"{cluster.world}: {cluster.server}, Kubernetes {cluster.version}, namespace {cluster.namespace!r}"]
    for finding in findings:
        line = f"{finding.state:<8} {finding.what:<28} {finding.words}"
        lines.append(f"{line}; type: {finding.remedy}" if finding.remedy else line)
        if finding.evidence:
            lines.append(f"{'':<8} {'':<28}   {finding.evidence}")
    bad = [finding.what for finding in findings if finding.state == MISSING]
    unknown = [finding.what for finding in findings if finding.state == UNKNOWN]
    if unknown:
        lines.append(f"Not found out: {', '.join(unknown)}.")
    lines.append(f"The course cannot run here: {', '.join(bad)}." if bad else "The course can run here.")
    return "\n".join(lines)


def measure_way(cluster: Cluster, book: pd.DataFrame) -> Way:
    """Send a few requests from this machine to the lesson's Service, which must be under Local, and conclude.

    Raises:
        ClusterError: none was answered, or they do not tell.
    """
    service = cluster.get("services", SERVICE)
    target = None if service_address(service) else "nodeport"
    frame = visit(cluster, _TRIES, target=target, progress=False)
    way = way_of(frame, book, ip_mode=ip_mode_of(service) if target is None else "")
    if way is None:
        answered = int(frame["status"].notna().sum())
        raise ClusterError(
            f"{answered} of {_TRIES} requests to {frame.attrs['target']} were answered; they do not tell what became "
            "of this machine's address",
            "cluster.visit() shows each",
        )
    return way
