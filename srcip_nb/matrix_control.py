"""Whether the matrix may be judged at all: what it stands on must still be there when the last answer is in.

Expected and observed say something about Services only while the pods run, their nodes are Ready and the pod network
carries. A node that went away in the middle looks like packets that are dropped, which some cases even expect. So after
the requests, and whatever they found, it is looked whether everything still stands; if not, there is no verdict on any
case, but one sentence about what went away.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from srcip_nb.clients import Client
from srcip_nb.cluster import Cluster, is_ready
from srcip_nb.errors import NotFinishedError
from srcip_nb.matrix_cases import Place

TIMEOUT = 2.0  # seconds
TRIES = 3


def started(own: Cluster) -> dict[str, tuple[str, int]]:
    """Each pod with what identifies it: its uid, and how often its containers were started again."""
    return {pod["metadata"]["name"]: (pod["metadata"]["uid"], _restarts(pod)) for pod in own.list("pods")}


def _restarts(pod: dict[str, Any]) -> int:
    return sum(status.get("restartCount", 0) for status in pod["status"].get("containerStatuses") or [])


def require_standing(own: Cluster, place: Place, before: dict[str, tuple[str, int]]) -> None:
    """Raise unless nodes, pods and the way between them are as they were.

    Args:
        own: the matrix's cluster and namespace.
        place: its nodes.
        before: of ``started``, when the first question was asked.

    Raises:
        NotFinishedError: something went away; the message names it.
        ClusterError: the API does not answer any more.
    """
    gone = _gone(own, place, before) or _unreached(own, place)
    if gone:
        raise NotFinishedError(
            f"{gone}: what was observed says nothing about Services", "Look at kubectl get nodes, and run it again"
        )


def _gone(own: Cluster, place: Place, before: dict[str, tuple[str, int]]) -> str:
    ready = {node["metadata"]["name"]: is_ready(node) for node in own.list("nodes")}
    for node in place.names:
        if not ready.get(node):
            return f"node {node} is {'not Ready' if node in ready else 'gone'} now"
    pods = {pod["metadata"]["name"]: pod for pod in own.list("pods")}
    for name, identity in before.items():
        is_going = name in pods and pods[name]["metadata"].get("deletionTimestamp")
        if name not in pods or is_going or not is_ready(pods[name]):
            return f"pod {name} does not run any more"
        if (pods[name]["metadata"]["uid"], _restarts(pods[name])) != identity:
            return f"pod {name} was started again meanwhile"
    return ""


def _unreached(own: Cluster, place: Place) -> str:
    """Who does not reach the servers' pods by their own addresses, past every Service; "" if all do."""
    ips = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in own.list("pods", labels="app in (s,c)")}
    ways = [(pod, server) for pod in ("c1", "c2") for server in ("s1", "s2")]
    with ThreadPoolExecutor(len(ways)) as pool:
        found = list(pool.map(lambda way: _reaches(own, way[0], ips[way[1]]), ways))
    nodes = dict(zip(("s1", "s2", "c1", "c2"), (*place.workers, *place.workers), strict=True))
    return next(
        (
            f"pod {client} on {nodes[client]} does not reach pod {server} on {nodes[server]} by its own address"
            for (client, server), is_reached in zip(ways, found, strict=True)
            if not is_reached
        ),
        "",
    )


def _reaches(own: Cluster, pod: str, address: str) -> bool:
    at = f"{own.namespace}/{pod}"
    client = Client(own, at, "pod", "") if own.lab is not None else Client(own, pod, "pod", "", at)
    request = {"id": 0, "url": f"http://{address}/", "headers": {}}
    for number in range(TRIES):
        (result,) = client.send([request], concurrency=1, timeout=TIMEOUT)
        if result["status"] is not None:
            return True
        time.sleep(0.2 if number + 1 < TRIES else 0)
    return False
