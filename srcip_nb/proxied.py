"""A load balancer that is a proxy: nginx in front of nginx, as ``manifests/steps/proxy.yaml`` has them.

    client -> proxy: one connection -> backend: another connection, from the proxy's own address

What the backend's nginx takes for the client's address is ``$remote_addr``, in the one table ``source_ip``. Its module
real_ip may put another there: one that the other end told, in a header or in a PROXY protocol line, if the other end is
trusted (``set_real_ip_from``). The address that really connected is then in ``$realip_remote_addr``. The backends write
all of it into their answers, so nothing here is concluded: each value is nginx's own word.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from srcip_nb.addresses import addresses
from srcip_nb.apply import require_ours
from srcip_nb.clients import find_client
from srcip_nb.cluster import MERGE_PATCH, wait_until
from srcip_nb.errors import ClusterError, NotFinishedError, UsageError
from srcip_nb.in_force import wait_in_force
from srcip_nb.notebook import NOT_HERE, Sentence, Shown, Yaml
from srcip_nb.proxy_image import crashed_by, why_not
from srcip_nb.rest import path_of
from srcip_nb.rollout import service_address, wait_ready
from srcip_nb.targets import entry_targets, find_targets
from srcip_nb.text import t
from srcip_nb.traffic import COLUMNS, log_lines, send, table_of

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

PROXY, BACKEND = "proxy", "backend"
HTTP, STREAM = 80, 8080
"""The proxy's ports: X-Forwarded-For is told at the one, PROXY protocol spoken at the other."""

NOBODY, EVERYBODY = "255.255.255.255", "0.0.0.0/0"
"""For ``trust``: no request comes from the first address; the second is every one."""

IP_MODES = ("VIP", "Proxy")

SAID = {
    "connection_from": "realip_remote_addr",
    "forwarded_for": "http_x_forwarded_for",
    "proxy_line": "proxy_protocol_addr",
}
"""Columns beside the one table's -> nginx's variable."""


_cannot: WeakKeyDictionary[Cluster, str] = WeakKeyDictionary()  # what ``wait_proxy`` found, for the cells after it


def wait_proxy(cluster: Cluster, timeout: float = 60.0) -> pd.DataFrame:
    """Wait until proxy and backends are rolled out, and the proxy has its external address.

    An image that cannot be configured as a proxy, as one without the official image's templates or nginx's module
    stream, is said in one sentence; requests and checks of this lesson are then left out.

    Returns:
        One row for each Deployment and Service: kind, name, state, seconds; see ``rollout.wait_ready``.

    Raises:
        NotFinishedError: with the last state seen.
    """
    import pandas as pd

    _cannot.pop(cluster, None)
    found = [wait_ready(cluster, timeout, deployment=BACKEND, service=BACKEND)]
    try:
        found.append(wait_ready(cluster, timeout, deployment=PROXY, service=PROXY))
        why = why_not(cluster, _pod(cluster, PROXY)) or why_not(cluster, _pod(cluster, BACKEND))
    except NotFinishedError:
        why = crashed_by(cluster, _pod(cluster, PROXY))
        if not why:
            raise
    table = pd.concat(found, ignore_index=True)
    if why:
        image = _pod(cluster, PROXY)["spec"]["containers"][0]["image"]
        _cannot[cluster] = table.attrs[NOT_HERE] = t("proxied.cannot", image=image, why=why)
        print(_cannot[cluster])
    return table


def nginx_conf(cluster: Cluster, name: str, file: str) -> Shown:
    """The configuration that a ConfigMap holds for nginx, as text.

    Args:
        cluster: where.
        name: of the ConfigMap.
        file: its key, without the ending ``.template``.

    Raises:
        UsageError: there is no such file in it; the message names those there are.
    """
    data = cluster.get("configmaps", name).get("data") or {}
    if f"{file}.template" not in data:
        names = ", ".join(key.removesuffix(".template") for key in data)
        raise UsageError(f"ConfigMap {name!r} has no {file!r}", f"It has: {names}")
    return Shown(data[f"{file}.template"])


def visit_proxy(
    cluster: Cluster,
    n: int = 8,
    port: int = HTTP,
    *,
    headers: Mapping[str, str] | None = None,
    target: str | None = None,
    client: str | None = None,
    timeout: float = 2.0,
) -> pd.DataFrame:
    """Send requests to the proxy, and return one row for each: what the backend's nginx took for the client.

    Args:
        cluster: where.
        n: how many.
        port: of the Service proxy, 80 (X-Forwarded-For) or 8080 (PROXY protocol).
        headers: header fields that the client sends, for example an X-Forwarded-For of its own making.
        target: None: the proxy's external address, a node port where it has none; "nodeport": a node port of the node
            with the proxy's pod; or host:port.
        client: the host that sends them; None: the first of ``cluster.clients()``.
        timeout: seconds a request may take.

    Returns:
        The one table (``traffic.COLUMNS``) with ``source_ip`` out of the backends' logs, and three columns out of their
        answers, NA where nginx's variable is empty: ``connection_from`` ($realip_remote_addr, the address that
        connected to the backend), ``forwarded_for`` ($http_x_forwarded_for), ``proxy_line`` ($proxy_protocol_addr).
        Where the image cannot be a proxy: no rows, ``attrs["not_here"]`` being the reason.

    Raises:
        UsageError: no such client or target.
        ClusterError: no such Service, or the API does not answer.
    """
    if cluster in _cannot:
        return _nothing(_cannot[cluster])
    sender, backend = find_client(cluster, client), cluster.get("services", BACKEND)
    where, run, started = _target(cluster, port, target), secrets.token_hex(4), time.monotonic()
    # A pod tells answers word for word only where all requests are under way at once.
    results = send(sender, run, [where], n, concurrency=max(n, 8), timeout=timeout, headers=headers)
    lines = log_lines(cluster, backend, run, results, started)
    book = addresses(cluster)
    frame = table_of(run, results, lines, book, client=sender.name, targets=[where], policy=None)
    answers = [read_answer(result["body"] if result["status"] == 200 else "") for result in results]
    for column, variable in SAID.items():
        frame[column] = [answer.get(variable) or None for answer in answers]
    frame = frame.astype(dict.fromkeys(SAID, "string"))
    frame.attrs = {"run": run, "client": sender.name, "target": where, "service": f"{cluster.namespace}/{BACKEND}"}
    return frame


def _nothing(why: str) -> pd.DataFrame:
    import pandas as pd

    columns = {**COLUMNS, **dict.fromkeys(SAID, "string")}
    frame = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    frame.attrs = {NOT_HERE: why}
    return frame


def read_answer(body: str) -> dict[str, str]:
    """A backend's answer: nginx's variables by name, "" for one that is empty."""
    return {name: value for name, _, value in (line.partition(" ") for line in body.splitlines()) if name}


def _target(cluster: Cluster, port: int, target: str | None) -> str:
    service = cluster.get("services", PROXY)
    ports = {entry["port"]: entry for entry in service["spec"]["ports"]}
    if port not in ports:
        raise UsageError(f"the proxy has no port {port}", f"It has: {', '.join(map(str, ports))}")
    only = {**service, "spec": {**service["spec"], "ports": [ports[port]]}}
    if target == "nodeport":
        return find_targets(only, cluster.list("nodes"), _pod(cluster)["spec"]["nodeName"])[0]
    if target or service_address(service):
        return find_targets(only, [], target)[0]
    (where,), instead = entry_targets(cluster, only, None)
    print(t("visit.instead", target=where, why=instead))
    return where


def _pod(cluster: Cluster, name: str = PROXY) -> dict[str, Any]:
    found = [pod for pod in cluster.list("pods", labels=f"app={name}") if not pod["metadata"].get("deletionTimestamp")]
    if not found:
        raise ClusterError(f"{name} has no pod", "Apply it and wait: cluster.apply('proxy.yaml')")
    return found[0]


def proxy_address(cluster: Cluster) -> str:
    """The address of the proxy's pod, from which it connects to the backends.

    Raises:
        ClusterError: it has no pod.
    """
    return str(_pod(cluster)["status"]["podIP"])


def trust(cluster: Cluster, address: str, timeout: float = 60.0) -> Shown | Sentence:
    """Say whose word about the client's address counts for the backends, and return when none else answers.

    It is ``kubectl set env deployment/backend TRUSTED=…``: the pods are replaced, and the new ones have the address in
    their nginx's ``set_real_ip_from``.

    Args:
        cluster: where.
        address: an address or a range; ``NOBODY`` and ``EVERYBODY`` are two of them.
        timeout: seconds.

    Returns:
        The directive as it is now; where the image cannot be a proxy, the sentence that says so.

    Raises:
        UsageError: on a real cluster, the Deployment is not ours; nothing was changed.
        NotFinishedError: the pods were not replaced in time; the message holds the last state seen.
    """
    if cluster in _cannot:
        return Sentence(_cannot[cluster])
    live = cluster.get("deployments", BACKEND)
    require_ours(cluster, live, "Deployment")
    containers = live["spec"]["template"]["spec"]["containers"]
    containers[0]["env"] = [{"name": "TRUSTED", "value": address}]
    cluster.patch("deployments", BACKEND, {"spec": {"template": {"spec": {"containers": containers}}}})
    wait_ready(cluster, timeout, deployment=BACKEND, service=BACKEND)
    wait_until(lambda: _old_pods(cluster, address), "the end of the old backends", timeout)
    return Shown(f"set_real_ip_from  {address};")


def _old_pods(cluster: Cluster, address: str) -> str:
    """The backends that are there with another address; pods that end answer until they are gone."""
    old = [pod for pod in cluster.list("pods", labels=f"app={BACKEND}") if not _trusts(pod, address)]
    return ", ".join(pod["metadata"]["name"] for pod in old)


def _trusts(pod: dict[str, Any], address: str) -> bool:
    env = pod["spec"]["containers"][0].get("env") or []
    return any(one["name"] == "TRUSTED" and one.get("value") == address for one in env)


def set_ip_mode(cluster: Cluster, service: str, mode: str, address: str | None = None) -> Yaml | Sentence:
    """Write a load balancer's word into a Service's status, as its controller would, and wait for the nodes' rules.

    Args:
        cluster: where.
        service: a Service whose loadBalancerClass nobody serves, so that nobody else writes its status.
        mode: "VIP" or "Proxy".
        address: of the load balancer; None: the proxy's pod.

    Returns:
        status.loadBalancer.ingress as it now is; where the image cannot be a proxy, the sentence that says so.

    Raises:
        ClusterError: the API refused; nothing was changed.
        UsageError: no such mode, or on a real cluster the Service is not ours; nothing was changed.
    """
    import yaml

    if mode not in IP_MODES:
        raise UsageError(f"ipMode cannot be {mode!r}", f"Give one of: {', '.join(IP_MODES)}")
    if cluster in _cannot:
        return Sentence(_cannot[cluster])
    require_ours(cluster, cluster.get("services", service), "Service")
    ingress = [{"ip": address or proxy_address(cluster), "ipMode": mode}]
    path = path_of("services", cluster.namespace, service, "status")
    patch = {"status": {"loadBalancer": {"ingress": ingress}}}
    now = cluster.request("PATCH", path, patch, content_type=MERGE_PATCH)[1]
    wait_in_force(cluster, PROXY)
    return Yaml(yaml.safe_dump(now["status"], sort_keys=False))
