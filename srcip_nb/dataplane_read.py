"""Reading from a cluster what tells of its data plane: GET requests only, few, and each bounded in time.

A kind that this cluster does not have, or that may not be read, is no error here: why it could not be read is kept
beside what could be, and becomes the evidence for "not known".
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from srcip_nb.dataplane import DataPlane
from srcip_nb.dataplane_find import find
from srcip_nb.dataplane_seen import Seen
from srcip_nb.errors import ClusterError
from srcip_nb.rest import ApiAnswerError, path_of

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

ASK_WITHIN = 5.0  # seconds for one request
ALL_WITHIN = 30.0  # seconds for all of them
NODES_ASKED = 5  # nodes whose kube-proxy is asked for its mode
METRICS_PORT = 10249  # kubernetes v1.36.2 pkg/cluster/ports: ProxyStatusPort

# kind -> path of its list. A group that discovery does not name is not asked for.
LISTS = {
    "Node": "/api/v1/nodes",
    "Service": "/api/v1/services",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "Pod": "/api/v1/namespaces/kube-system/pods",
    "Event": "/api/v1/events?fieldSelector=reason%3DnodeAssigned",
    "FelixConfiguration": "/apis/crd.projectcalico.org/v1/felixconfigurations",
    "IPPool": "/apis/crd.projectcalico.org/v1/ippools",
    "Installation": "/apis/operator.tigera.io/v1/installations",
    "CiliumNode": "/apis/cilium.io/v2/ciliumnodes",
    "L2Advertisement": "/apis/metallb.io/v1beta1/l2advertisements",
    "BGPAdvertisement": "/apis/metallb.io/v1beta1/bgpadvertisements",
    "ServiceL2Status": "/apis/metallb.io/v1beta1/servicel2statuses",
    "ServiceBGPStatus": "/apis/metallb.io/v1beta1/servicebgpstatuses",
}
OWN_NAMESPACE_ONLY = {
    "Service": "/api/v1/namespaces/{}/services",
    "Event": "/api/v1/namespaces/{}/events?fieldSelector=reason%3DnodeAssigned",
}
CONFIG_MAPS = (
    ("kube-system", "kube-proxy"),  # kubeadm, kind, and the lab
    ("kube-system", "kube-proxy-config"),  # EKS
    ("kube-system", "cilium-config"),
)


def detect(cluster: Cluster, modes: Mapping[str, str] | None = None) -> DataPlane:
    """Find out what the cluster's data plane is.

    Args:
        cluster: where.
        modes: node -> what its kube-proxy says of its mode, where the nodes were asked: ``host_probe.ask_nodes``.

    Returns:
        Facts with their evidence; what could not be found out is "" and says why.

    Raises:
        ClusterError: the API server does not answer at all.
    """
    seen = look(cluster)
    return find(replace(seen, modes={**seen.modes, **(modes or {})}))


def look(cluster: Cluster) -> Seen:
    """Read everything that may tell of the data plane, within ``ALL_WITHIN`` seconds.

    Raises:
        ClusterError: the API server does not answer at all.
    """
    deadline = time.monotonic() + ALL_WITHIN
    groups = cluster.request("GET", "/apis", timeout=ASK_WITHIN)[1].get("groups") or []
    known = {group["name"] for group in groups}
    objects: list[dict[str, Any]] = []
    silent: dict[str, str] = {}
    for kind, path in LISTS.items():
        group = path.split("/")[2] if path.startswith("/apis/") else ""
        if group and group not in known:
            silent[kind] = f"no API group {group} here"
            continue
        found, why = _get(cluster, path, deadline)
        if found is None and kind in OWN_NAMESPACE_ONLY:
            found, _ = _get(cluster, OWN_NAMESPACE_ONLY[kind].format(quote(cluster.namespace)), deadline)
        if found is None:
            silent[kind] = why
        else:
            objects += [{**item, "kind": kind} for item in found.get("items") or []]
    for namespace, name in CONFIG_MAPS:
        found, why = _get(cluster, f"/api/v1/namespaces/{namespace}/configmaps/{name}", deadline)
        if found is None:
            silent[f"ConfigMap {namespace}/{name}"] = why
        else:
            objects.append({**found, "kind": "ConfigMap"})
    names = [item["metadata"]["name"] for item in objects if item["kind"] == "Node"]
    modes = {name: _proxy_mode(cluster, name, deadline) for name in names[:NODES_ASKED]}
    return Seen(tuple(objects), silent, modes)


def _get(cluster: Cluster, path: str, deadline: float) -> tuple[dict[str, Any] | None, str]:
    """What a path answers, or None and why not."""
    left = deadline - time.monotonic()
    if left <= 0:
        return None, f"not asked: {ALL_WITHIN:.0f} s were over"
    try:
        return cluster.request("GET", path, timeout=min(ASK_WITHIN, left))[1], ""
    except ApiAnswerError as error:
        reasons = {401: "not logged in", 403: "may not be read (403)", 404: "not there (404)"}
        return None, reasons.get(error.code, f"{error.code}: {error.cause}")
    except ClusterError as error:
        return None, error.cause


def _proxy_mode(cluster: Cluster, node: str, deadline: float) -> str:
    """What a node's kube-proxy answers to /proxyMode through the API server, or "!" and why there is no answer.

    kube-proxy listens on 127.0.0.1 unless told otherwise (metricsBindAddress), so mostly there is none.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        return "!not asked: time was over"
    path = path_of("nodes", None, f"{node}:{METRICS_PORT}", "proxy/proxyMode")
    try:
        return cluster.rest.text(path, timeout=min(ASK_WITHIN, left)).strip()[:40]
    except ApiAnswerError as error:
        return "!may not be read (403)" if error.code == 403 else f"!{error.code} {error.reason}"
    except ClusterError as error:
        return f"!{error.cause}"
