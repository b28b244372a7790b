"""Setting externalTrafficPolicy, and knowing when it is in force.

The API takes a policy at once; the nodes' rules follow a moment later, and only then does it count. kube-proxy tells
when: under Local it answers on the Service's healthCheckNodePort on every node, under Cluster it does not, and it opens
and closes that port after it has loaded the rules of the same change (kubernetes v1.36.2
pkg/proxy/iptables/proxier.go, end of syncProxyRules). So the ports are asked, from where the requests will start. Nodes
whose port cannot be reached, and Services without one, are asked with requests instead.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from srcip_nb.apply import require_ours
from srcip_nb.clients import Client, find_client
from srcip_nb.cluster import SERVICE, is_ready
from srcip_nb.errors import NotFinishedError, UsageError
from srcip_nb.rollout import service_address
from srcip_nb.targets import find_targets, internal_ip, join
from srcip_nb.text import t
from srcip_nb.traffic import POLICIES, announcers, log_lines, send

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

ASK_TIMEOUT = 0.5  # seconds; a closed port refuses in a millisecond, a filtered one never answers
OUT_OF_REACH_AFTER = 2.0  # seconds of nothing but time-outs from a node that others do not share
VIP_WITHIN = 5.0  # seconds; the address may have moved to another node, and the client must hear of it
PROBES = 8  # requests a target and round; under Cluster with one pod in two elsewhere, 1 round in 256 misses it

# What kube-proxy answers begins so: kubernetes v1.36.2 pkg/proxy/healthcheck/service_health.go.
_HEALTH_OF = re.compile(r'"service":\s*{\s*"namespace":\s*"([^"]*)",\s*"name":\s*"([^"]*)"')


@dataclass(frozen=True)
class PolicyChange:
    """A policy that is in force.

    Attributes:
        service: NAMESPACE/NAME.
        before: the policy it had.
        after: the policy it has.
        milliseconds: from the request to the API until the last node was seen to follow.
        evidence: how that was seen, a sentence.
        nodes: milliseconds until each node was seen to follow.
    """

    service: str
    before: str
    after: str
    milliseconds: float
    evidence: str
    nodes: dict[str, float]

    def __str__(self) -> str:
        change = f"{self.before} → {self.after}" if self.before != self.after else f"{self.after} as before"
        return (
            f"service {self.service}: externalTrafficPolicy {change}, in force after {self.milliseconds:.0f} ms "
            f"({self.evidence})"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        was = f"{self.before} → " if self.before != self.after else ""
        words = t("policy.change", was=escape(was), now=escape(self.after), ms=f"{self.milliseconds:.0f}")
        first = f"Service <code>{escape(self.service)}</code>: {words}"
        return f"<p>{first}<br><small>{escape(self.evidence)}</small></p>"


def policy(
    cluster: Cluster, value: str, service: str = SERVICE, *, client: str | None = None, timeout: float = 30.0
) -> PolicyChange:
    """Set a Service's externalTrafficPolicy and return when it is in force in the data plane.

    Args:
        cluster: where.
        value: "Cluster" or "Local".
        service: name of the Service.
        client: the host from which it is looked at; None: the first of ``clients()``.
        timeout: seconds.

    Raises:
        ClusterError: the API refused, with its words (422 for another value); nothing was changed.
        UsageError: no value at all, or on a real cluster the Service is not ours; nothing was changed.
        NotFinishedError: set in the API, but not seen to be in force in time.
    """
    if not isinstance(value, str) or not value:  # to the API a null is the default, and no value the one it has
        raise UsageError(f"externalTrafficPolicy cannot be {value!r}", f"Give one of: {', '.join(POLICIES)}")
    sender = find_client(cluster, client)
    old = cluster.get("services", service)
    require_ours(cluster, old, "Service")
    started = time.monotonic()
    new = cluster.patch("services", service, {"spec": {"externalTrafficPolicy": value}})
    look = _Look(cluster, sender, value, new, started, timeout)
    port = new["spec"].get("healthCheckNodePort") or old["spec"].get("healthCheckNodePort")
    unchanged = old["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"]
    words = []
    if port:
        words.append(look.at_health_ports(port))
    elif unchanged:
        words.append(look.at_what_was_there())
    if look.pending:
        words.append(look.at_requests())
    words.append(look.at_the_address())
    milliseconds = (time.monotonic() - started) * 1000
    evidence = "; ".join(word for word in words if word)
    before = old["spec"].get("externalTrafficPolicy", "none")
    return PolicyChange(f"{cluster.namespace}/{service}", before, value, milliseconds, evidence, look.seen)


def follows(value: str, service: dict[str, Any], result: dict[str, Any]) -> str:
    """What a request to a node's healthCheckNodePort says about that node: "yes", "no", or "silent".

    Args:
        value: the policy wanted.
        service: the Service.
        result: of the request.
    """
    if result["status"] is None:
        if result["error"] == "refused":
            return "no" if value == "Local" else "yes"
        return "silent" if result["error"] in {"timeout", "unreachable"} else "no"
    if value != "Local":
        return "no"
    said = _HEALTH_OF.search(result["body"])  # the body may be cut, so it is not read as JSON
    metadata = service["metadata"]
    of_this_service = said is not None and said.groups() == (metadata["namespace"], metadata["name"])
    return "yes" if of_this_service and result["status"] in (200, 503) else "no"


def verdict(value: str, asked: list[str], seen: pd.DataFrame, local: set[str]) -> bool:
    """Whether requests to node ports show that a policy is in force.

    Under Local a node answers only with its own pods, and they see the client. Under Cluster another node's pod
    answers, or a pod does not see the client.

    Args:
        value: the policy wanted.
        asked: the nodes asked.
        seen: one row for each logged request: ``asked`` (node, "" for an external address), ``node`` (of the pod) and
            ``preserved``.
        local: nodes with a ready pod.
    """
    elsewhere = bool(((seen["asked"] != "") & (seen["asked"] != seen["node"])).any())
    hidden = bool((~seen["preserved"]).any())
    if value != "Local":
        return elsewhere or hidden
    expected = {node for node in asked if node in local or not node}
    answered = set(seen["asked"])
    return not elsewhere and not hidden and expected <= answered and bool(answered)


class _Look:
    """One change, looked at from one client until time runs out."""

    def __init__(
        self, cluster: Cluster, sender: Client, value: str, service: dict[str, Any], started: float, timeout: float
    ) -> None:
        self.cluster = cluster
        self.sender = sender
        self.value = value
        self.service = service
        self.started = started
        self.deadline = started + timeout
        self.timeout = timeout
        self.seen: dict[str, float] = {}
        nodes = [node for node in cluster.list("nodes") if is_ready(node)]
        self.nodes = nodes
        self.pending = {node["metadata"]["name"]: internal_ip(node) for node in nodes}

    def at_health_ports(self, port: int) -> str:
        """Ask every node's health check port until it says what the policy wants; leaves out of reach in pending."""
        last: dict[str, str] = {}
        heard: set[str] = set()
        began = time.monotonic()
        while self.pending:
            names = list(self.pending)
            requests = [
                {"id": i, "url": f"http://{join(self.pending[name], port)}/healthz", "headers": {}}
                for i, name in enumerate(names)
            ]
            for result in self.sender.send(requests, concurrency=len(requests), timeout=ASK_TIMEOUT):
                name = names[result["id"]]
                said = follows(self.value, self.service, result)
                last[name] = f"{name} says {result['status'] or result['error']}"
                if said != "silent":
                    heard.add(name)
                if said == "yes":
                    self.seen[name] = (time.monotonic() - self.started) * 1000
                    del self.pending[name]
            if self.pending and not heard & set(self.pending) and time.monotonic() - began > OUT_OF_REACH_AFTER:
                break  # firewalled, or no way there from this client
            self._check_time(f"healthCheckNodePort {port}: {', '.join(last[name] for name in self.pending)}")
        if not self.seen:
            return ""
        key = "policy.port_open" if self.value == "Local" else "policy.port_closed"
        return t(key, port=port, nodes=", ".join(sorted(self.seen)))

    def at_requests(self) -> str:
        """Send requests to the node ports that are left, or to the external address, until they show the policy."""
        import pandas as pd

        local = self._nodes_with_pods()
        targets = self._targets()
        names, addresses = list(targets), list(targets.values())
        if self.value == "Local" and not local:
            raise NotFinishedError(
                f"externalTrafficPolicy is {self.value}, but without a ready pod no request can show it",
                "Wait for the pods first: cluster.wait_ready()",
            )
        while True:
            run, began = secrets.token_hex(4), time.monotonic()
            results = send(self.sender, run, addresses, PROBES * len(addresses), timeout=2 * ASK_TIMEOUT)
            lines = log_lines(self.cluster, self.service, run, results, began)
            own = {result["id"]: result["client_ip"] for result in results}
            seen = pd.DataFrame(
                {
                    "asked": [names[i % len(names)] for i in lines["request"]],
                    "node": lines["node"].astype(str),
                    "preserved": [own[i] == ip for i, ip in zip(lines["request"], lines["source_ip"], strict=True)],
                }
            ).astype({"preserved": bool})
            if verdict(self.value, names, seen, local):
                break
            self._check_time(f"{len(seen)} of {len(results)} requests answered, which does not show {self.value} yet")
        elapsed = (time.monotonic() - self.started) * 1000
        self.seen.update(dict.fromkeys((name for name in names if name), elapsed))
        self.pending.clear()
        return t("policy.requests", count=len(results), targets=", ".join(addresses), policy=self.value)

    def at_what_was_there(self) -> str:
        """See a policy that the API had already: the nodes may still be at one before it. Pending is empty then.

        Where requests do not show it within ``VIP_WITHIN``, as where the data plane keeps sources under Cluster too, it
        is not said.
        """
        whole, self.deadline = self.deadline, min(self.deadline, time.monotonic() + VIP_WITHIN)
        words = [t("policy.unchanged")]
        if self._nodes_with_pods():
            with contextlib.suppress(NotFinishedError):
                words.append(self.at_requests())
        self.deadline = whole
        self.pending.clear()
        return "; ".join(words)

    def at_the_address(self) -> str:
        """See that the external address answers: another node may have taken it with the change of policy.

        Where several nodes announce it, so many requests are sent that a node which should no longer be among them is
        hardly missed, and all have to be answered.
        """
        address = service_address(self.service)
        if not address or not self._nodes_with_pods():
            return ""
        target = join(address, self.service["spec"]["ports"][0]["port"])
        name = self.service["metadata"]["name"]
        count = PROBES * len(self.nodes) if len(announcers(self.cluster, name)) > 1 else 1
        until = min(self.deadline, time.monotonic() + VIP_WITHIN)
        while True:
            results = send(self.sender, secrets.token_hex(4), [target], count, timeout=ASK_TIMEOUT)
            errors = [result["error"] for result in results if result["status"] is None]
            if not errors:
                return t("policy.answers", target=target)
            if time.monotonic() > until:
                return t("policy.silent", target=target, client=self.sender.name, error=errors[0])
            time.sleep(0.02)

    def _targets(self) -> dict[str, str]:
        port = self.service["spec"]["ports"][0].get("nodePort")
        reachable = {name: join(address, port) for name, address in self.pending.items() if address and port}
        if reachable:
            results = send(
                self.sender, secrets.token_hex(4), list(reachable.values()), len(reachable), timeout=ASK_TIMEOUT
            )
            if any(result["status"] is not None for result in results):
                return reachable
        if service_address(self.service):
            return {"": find_targets(self.service, self.nodes, None)[0]}
        if not reachable:
            raise UsageError("the Service has neither a node port nor an external address", "Give it type NodePort")
        return reachable

    def _nodes_with_pods(self) -> set[str]:
        from srcip_nb.observe import endpoints

        found = endpoints(self.cluster, self.service["metadata"]["name"])
        return set(found.loc[found["READY"].fillna(False), "NODE"])

    def _check_time(self, state: str) -> None:
        if time.monotonic() > self.deadline:
            raise NotFinishedError(
                f"externalTrafficPolicy is {self.value} in the API, but was not seen in force within "
                f"{self.timeout:g} s; last seen: {state}",
                "Look at kube-proxy on that node: kubectl -n kube-system get pods -o wide",
            )
        time.sleep(0.01)


__all__ = ["POLICIES", "PolicyChange", "follows", "policy", "verdict"]
