"""Probes: asked for real, from the node, as a kubelet does, so that nginx logs them as kube-probe/1.36.

Source of the sentences: kubernetes v1.36.2 pkg/probe/http/http.go, pkg/probe/tcp/tcp.go and pkg/kubelet/prober.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import SrcipError
from srcip_nb.lab.controllers.objects import Object

if TYPE_CHECKING:
    from srcip_nb.lab.kernel import Agent

USER_AGENT = "kube-probe/1.36"

Outcome = tuple[bool, str]
"""Whether a probe succeeded, and if not, why."""

_UNSUPPORTED = "the lab probes by httpGet, tcpSocket and exec"


def port_number(port: int | str, container: Object) -> int | None:
    """A port by number, or by the name of one of the container's ports; None if it has none of that name."""
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    named = (own for own in container.get("ports") or [] if own.get("name") == port)
    return next((int(own["containerPort"]) for own in named), None)


def http_request(get: Object, container: Object, pod_ip: str) -> Object | None:
    """The request of an httpGet probe or hook, as `visit` takes it; None for a port by an unknown name."""
    port = port_number(get["port"], container)
    if port is None:
        return None
    path = get.get("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    url = f"{get.get('scheme', 'HTTP').lower()}://{get.get('host') or pod_ip}:{port}{path}"
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    headers |= {header["name"]: header.get("value", "") for header in get.get("httpHeaders") or []}
    return {"id": 0, "url": url, "headers": headers}


def http_outcome(url: str, result: Object) -> Outcome:
    """What a kubelet makes of the answer to an HTTP probe: 200 to 399 is success."""
    status = result.get("status")
    if status is not None:
        return (True, "") if 200 <= status < 400 else (False, f"HTTP probe failed with statuscode: {status}")
    address = url.split("/")[2]
    reasons = {
        "refused": f"dial tcp {address}: connect: connection refused",
        "unreachable": f"dial tcp {address}: connect: no route to host",
        "timeout": "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        "reset": f"read tcp {address}: read: connection reset by peer",
        "closed": "EOF",
    }
    error = str(result.get("error") or "no answer")
    return False, f'Get "{url}": {reasons.get(error, error)}'


class Probing:
    """Where probes start and what they are for.

    Args:
        agent: sends them.
        node: the node's name.
        pod: as the agent calls it, NAMESPACE/POD.
        pod_ip: the pod's address.
        container: with its probes.
    """

    def __init__(self, agent: Agent, node: str, pod: str, pod_ip: str, container: Object) -> None:
        self._agent = agent
        self._node = node
        self._pod = pod
        self._pod_ip = pod_ip
        self._container = container

    async def ask(self, probe: Object) -> Outcome:
        """Ask once; what the agent cannot do counts as a failure."""
        try:
            return await self._ask(probe)
        except SrcipError as error:
            return False, error.cause

    async def _ask(self, probe: Object) -> Outcome:
        timeout = float(probe.get("timeoutSeconds") or 1)
        if "httpGet" in probe:
            return await self._get(probe["httpGet"], timeout)
        if "tcpSocket" in probe:
            return await self._connect(probe["tcpSocket"], timeout)
        if "exec" in probe:
            return await self.run(probe["exec"].get("command") or [], timeout)
        return False, _UNSUPPORTED

    async def _get(self, get: Object, timeout: float) -> Outcome:
        request = http_request(get, self._container, self._pod_ip)
        if request is None:
            return False, f"the container has no port named {get['port']}"
        events = self._agent.stream("visit", host=self._node, requests=[request], concurrency=1, timeout=timeout)
        outcome: Outcome = (False, "no answer")
        async for event in events:
            for result in event.get("done", []):
                outcome = http_outcome(request["url"], result)
        return outcome

    async def _connect(self, socket: Object, timeout: float) -> Outcome:
        port = port_number(socket["port"], self._container)
        if port is None:
            return False, f"the container has no port named {socket['port']}"
        address = socket.get("host") or self._pod_ip
        script = f"exec 3<>/dev/tcp/{shlex.quote(address)}/{port}"
        # bash's own /dev/tcp: a connection and nothing sent, so that nginx logs nothing, as with a real kubelet.
        argv = ["timeout", str(timeout), "bash", "-c", script]
        done = await self._agent.call("exec", host=self._node, argv=argv, timeout=timeout + 5)
        if done["code"] == 0:
            return True, ""
        reason = "i/o timeout" if done["code"] == 124 else "connect: connection refused"
        return False, f"dial tcp {address}:{port}: {reason}"

    async def run(self, argv: list[str], timeout: float) -> Outcome:
        """Run a command in the container; exit code 0 is success."""
        limited = ["timeout", "-s", "KILL", str(timeout), *argv]
        where = {"host": self._pod, "container": self._container["name"]}
        done: dict[str, Any] = await self._agent.call("exec", **where, argv=limited, timeout=timeout + 5)
        if done["code"] == 0:
            return True, ""
        if done["code"] in (124, 137):
            return False, f'command timed out: "{" ".join(argv)}" timed out after {timeout:g}s'
        return False, str(done["stdout"] + done["stderr"])


async def probe_until(
    probe: Object,
    ask: Callable[[Object], Awaitable[Outcome]],
    on_failure: Callable[[str], None],
    on_turn: Callable[[bool], bool],
) -> None:
    """Ask again and again, until told to stop.

    Args:
        probe: periodSeconds, thresholds and so on, with the API's defaults.
        ask: asks once.
        on_failure: told of each single failure.
        on_turn: told when the threshold of successes or failures in a row is reached (and at each one after it);
            returns whether to go on.
    """
    await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
    successes = failures = 0
    while True:
        succeeded, why = await ask(probe)
        if succeeded:
            successes, failures = successes + 1, 0
        else:
            successes, failures = 0, failures + 1
            on_failure(why)
        is_turn = successes >= (probe.get("successThreshold") or 1) or failures >= (probe.get("failureThreshold") or 3)
        if is_turn and not on_turn(succeeded):
            return
        await asyncio.sleep(float(probe.get("periodSeconds") or 10))
