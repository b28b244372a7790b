"""Asking the nodes themselves: a pod on each node's network, for a moment, that tells two things.

    on the node    curl 127.0.0.1:10249/proxyMode  -->  the pod's log         kube-proxy's mode, by its own word
    this machine   GET http://NODE:PORT/           -->  "192.168.1.122"       the address that arrives at the node

kube-proxy listens for the first on 127.0.0.1 alone (metricsBindAddress, kubernetes v1.36.2), so nothing less asks it.
The pods live in a namespace of their own, which is deleted again; each ends by itself after ``LIVES`` seconds.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from srcip_nb.apply import apply
from srcip_nb.clients import THIS_MACHINE, Client
from srcip_nb.cluster import Cluster, wait_until
from srcip_nb.dataplane_read import METRICS_PORT, NODES_ASKED
from srcip_nb.errors import NotFinishedError, SrcipError
from srcip_nb.logs_api import Wire
from srcip_nb.rest import ApiAnswerError, path_of
from srcip_nb.tape import told
from srcip_nb.targets import internal_ip, join
from srcip_nb.traffic import is_ready

if TYPE_CHECKING:
    from collections.abc import Sequence

LIVES = 120  # seconds
READY_WITHIN = 60.0  # seconds; an image may have to be pulled
ANSWER_WITHIN = 3.0  # seconds
GONE_WITHIN = 60.0  # seconds
IMAGE = "nginx:latest"
_PORTS = range(20000, 29000)  # below the node ports (30000-32767) and Linux' ports for clients (32768-60999)

_SCRIPT = """\
printf 'proxyMode %s\\n' "$(curl -sf -m 3 http://127.0.0.1:$1/proxyMode || echo "!no answer on 127.0.0.1:$1")"
printf 'pid /tmp/nginx.pid; error_log /dev/stderr; events {} http { access_log off; server { listen %s;
  location / { default_type text/plain; return 200 $remote_addr; } } }' "$2" > /tmp/nginx.conf
exec nginx -c /tmp/nginx.conf -g 'daemon off;'
"""


@dataclass(frozen=True)
class Told:
    """What the nodes told.

    Attributes:
        modes: node -> kube-proxy's mode, or "!" and why it was not told.
        arrived: (this machine's own address, the address that a node saw), for the nodes that were reached.
        unreached: node -> why this machine did not reach it.
    """

    modes: dict[str, str] = field(default_factory=dict)
    arrived: tuple[tuple[str, str], ...] = ()
    unreached: dict[str, str] = field(default_factory=dict)


def ask_nodes(cluster: Cluster, image: str = IMAGE) -> Told:
    """Run the pods, ask, and take them away again.

    Args:
        cluster: where; a namespace is made in it and deleted.
        image: one with nginx, curl and sh.

    Raises:
        ClusterError: the API does not allow it.
        NotFinishedError: the namespace did not go; the message names it.
    """
    nodes = [node for node in cluster.list("nodes") if is_ready(node)][:NODES_ASKED]
    name, port = told(cluster.rest.tape, "draw a namespace and a port", _drawn)
    own = Cluster(cluster.rest, name, cluster.lab, run_id=cluster.run_id)
    try:
        apply(own, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own.namespace}})
        apply(own, [probe_pod(node["metadata"]["name"], port, image) for node in nodes])
        silent = _wait(own, [node["metadata"]["name"] for node in nodes])
        asked = [node for node in nodes if node["metadata"]["name"] not in silent]
        modes = {node["metadata"]["name"]: _mode(own, node["metadata"]["name"]) for node in asked}
        arrived, unreached = _knock(cluster, asked, port)
    finally:
        _take_away(own)
    return Told({**modes, **{name: f"!{why}" for name, why in silent.items()}}, arrived, {**unreached, **silent})


def _drawn() -> list[Any]:
    return [f"srcip-doctor-{secrets.token_hex(2)}", secrets.choice(_PORTS)]


def _take_away(own: Cluster) -> None:
    """Delete the namespace that was made for this, with all that is in it, and return when it is gone."""
    try:
        own.request("DELETE", path_of("namespaces", None, own.namespace))
    except ApiAnswerError as error:
        if error.code != 404:  # it was never made
            raise
    wait_until(
        lambda: "it is there" if own.find("namespaces", own.namespace) else "",
        f"the end of namespace {own.namespace!r}",
        GONE_WITHIN,
        every=0.2,
        remedy=f"kubectl get namespace {own.namespace} -o yaml",
    )


def probe_pod(node: str, port: int, image: str = IMAGE) -> dict[str, Any]:
    """The pod for one node: it tells kube-proxy's mode in its log, then answers each client with its own address."""
    command = ["sh", "-c", _SCRIPT, "sh", str(METRICS_PORT), str(port)]
    container = {"name": "nginx", "image": image, "imagePullPolicy": "IfNotPresent", "command": command}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _pod_name(node)},
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "containers": [container],
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIVES,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
        },
    }


def _pod_name(node: str) -> str:
    return f"probe-{node}"[:63].rstrip("-.")


def _wait(own: Cluster, nodes: Sequence[str]) -> dict[str, str]:
    """Wait for the pods; node -> why its pod does not run."""
    state: dict[str, str] = {}

    def look() -> str:
        pods = {pod["spec"].get("nodeName"): pod for pod in own.list("pods")}
        state.clear()
        state.update({node: _trouble(pods.get(node)) for node in nodes})
        return ", ".join(f"{node}: {why}" for node, why in state.items() if why)

    try:
        wait_until(look, "the pods on the nodes' network", READY_WITHIN, every=0.2)
    except NotFinishedError:
        return {node: why for node, why in state.items() if why}
    return {}


def _trouble(pod: dict[str, Any] | None) -> str:
    if pod is None:
        return "no pod"
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    if any("running" in (status.get("state") or {}) for status in statuses):
        return ""
    waits = [(status.get("state") or {}).get("waiting") or {} for status in statuses]
    reason = next((wait["reason"] for wait in waits if wait.get("reason")), "")
    return reason or f"its pod is {(pod.get('status') or {}).get('phase', 'Pending')}"


def _mode(own: Cluster, node: str) -> str:
    """What the pod's log says of kube-proxy; it comes within curl's own time limit."""
    found: list[str] = []
    wire = Wire(own)

    def look() -> str:
        with wire.open(path_of("pods", own.namespace, _pod_name(node), "log"), {}) as answer:
            lines = answer.read().decode(errors="replace").splitlines()
        found[:] = [line for line in lines if line.startswith("proxyMode ")]
        return "" if found else "nothing yet"

    try:
        wait_until(look, f"the answer of kube-proxy on {node}", ANSWER_WITHIN + 5, every=0.2)
    except SrcipError as error:
        return f"!{error.cause}"
    finally:
        wire.close()
    return found[0].removeprefix("proxyMode ").strip()


def _knock(
    cluster: Cluster, nodes: Sequence[dict[str, Any]], port: int
) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """Ask each node, from this machine, which address it sees."""
    names = [node["metadata"]["name"] for node in nodes]
    requests = [
        {"id": at, "url": f"http://{join(internal_ip(node), port)}/", "headers": {}} for at, node in enumerate(nodes)
    ]
    if cluster.lab is not None or not requests:
        return (), {}
    arrived, unreached = [], {}
    for result in Client(cluster, THIS_MACHINE, "client", "").send(
        requests, concurrency=len(requests), timeout=ANSWER_WITHIN
    ):
        if result["status"] == 200:
            arrived.append((str(result["client_ip"]), str(result["body"]).strip()))
        else:
            unreached[names[result["id"]]] = result["error"] or f"HTTP {result['status']}"
    return tuple(dict.fromkeys(arrived)), unreached
