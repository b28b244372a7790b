"""Do the pods listen already? Ready says so only of pods with a readiness probe.

Without a probe a pod is Ready as soon as its process has started, and nginx's image runs shell scripts before nginx
opens its port. On a quick machine nobody notices; on a slow one the first request is refused. In a lab the question can
be asked without leaving a trace in a pod's log: a connection that is opened and closed again, with no request in it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

LISTENING_WITHIN = 20.0
"""Seconds after which a pod that still refuses connections is told of, and waited for no longer."""

_PAUSE = 0.05
# bash opens a TCP connection for a redirection to /dev/tcp/ADDRESS/PORT; only a refusal is of interest here.
_ASK = "for it do (exec 3<>/dev/tcp/$it) 2>&1 | grep -q refused && echo $it; done; true"  # a word each: ADDRESS/PORT


def wait_listening(cluster: Cluster, service: str, address: str, timeout: float = LISTENING_WITHIN) -> str:
    """Wait until no endpoint of a Service, and not its external address either, refuses a TCP connection.

    In a lab alone: on a real cluster no road leads to every pod.

    Args:
        cluster: where.
        service: name of the Service.
        address: its external address; "" where it has none.
        timeout: seconds.

    Returns:
        "" or who still refuses, as ADDRESS:PORT.
    """
    if cluster.lab is None:
        return ""
    hosts = cluster.lab.hosts()
    worker = next(host["name"] for host in hosts if host["role"] == "worker")
    client = next((host["name"] for host in hosts if host["role"] == "client"), worker)
    deadline = time.monotonic() + timeout
    while True:
        refusing = _refusing(cluster, worker, _endpoints(cluster, service))
        if not refusing and address:
            refusing = _refusing(cluster, client, _addresses(cluster, service, address))
        if not refusing or time.monotonic() > deadline:
            return ", ".join(it.replace("/", ":") for it in refusing)
        time.sleep(_PAUSE)


def _refusing(cluster: Cluster, host: str, ends: list[str]) -> list[str]:
    if cluster.lab is None or not ends:
        return []
    return cluster.lab.exec(host, ["timeout", "3", "bash", "-c", _ASK, "ask", *ends], timeout=10).stdout.split()


def _endpoints(cluster: Cluster, service: str) -> list[str]:
    ends = []
    for piece in cluster.list("endpointslices", labels=f"kubernetes.io/service-name={service}"):
        ports = [port["port"] for port in piece.get("ports") or [] if _is_tcp(port) and port.get("port")]
        for endpoint in piece.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready"):
                ends += [f"{address}/{port}" for address in endpoint["addresses"] for port in ports]
    return ends


def _addresses(cluster: Cluster, service: str, address: str) -> list[str]:
    ports: list[dict[str, Any]] = cluster.get("services", service)["spec"].get("ports") or []
    return [f"{address}/{port['port']}" for port in ports if _is_tcp(port)]


def _is_tcp(port: dict[str, Any]) -> bool:
    return port.get("protocol", "TCP") == "TCP"
