"""Which lines of which pods: what ``logs`` and ``follow`` are asked, and the containers that this means.

::

    Query("deployment/webserver", tail=0)   what a caller wants, checked before anything is asked
    Target                                  the same in the API's words: a path, selectors, patterns for names
    Container                               one container of one pod that the target takes, as the API has it now
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import DEPLOYMENT
from srcip_nb.errors import UsageError
from srcip_nb.logs_api import rfc3339
from srcip_nb.rest import path_of

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

DEFAULT_PODS = f"deployment/{DEPLOYMENT}"

_OWNERS = {
    **dict.fromkeys(("deployment", "deployments", "deploy"), "deployments"),
    **dict.fromkeys(("replicaset", "replicasets", "rs"), "replicasets"),
    **dict.fromkeys(("statefulset", "statefulsets", "sts"), "statefulsets"),
    **dict.fromkeys(("daemonset", "daemonsets", "ds"), "daemonsets"),
    **dict.fromkeys(("job", "jobs"), "jobs"),
    **dict.fromkeys(("service", "services", "svc"), "services"),
    **dict.fromkeys(("pod", "pods", "po"), "pods"),
}


@dataclass(frozen=True)
class Query:
    """Which lines are wanted: the arguments that ``logs`` and ``follow`` share.

    Attributes:
        pods: ``deployment/NAME``, ``service/NAME``, ``pod/NAME`` (also daemonset, statefulset, replicaset, job), or a
            regular expression that a pod's name contains.
        selector: a label selector such as ``app=webserver``, in place of ``pods``.
        container: a regular expression that a container's name contains; None: all containers.
        namespace: None: the cluster's own.
        everywhere: the pods of all namespaces; ``pods`` is a regular expression then.
        fields: a field selector for pods, such as ``spec.nodeName=worker01``.
        since_seconds: only lines of so many seconds.
        since_time: only lines since this moment; one with a time zone.
        tail: only so many lines of each container, the last ones; 0 while following: only what comes. While following,
            it and both kinds of since hold for pods that are there now; of those that come later every line is wanted.

    Raises:
        UsageError: numbers below zero, both kinds of since, a time without a zone, a broken expression, one object's
            pods in all namespaces.
    """

    pods: str = DEFAULT_PODS
    selector: str | None = None
    container: str | None = None
    namespace: str | None = None
    everywhere: bool = False
    fields: str = ""
    since_seconds: float | None = None
    since_time: datetime | None = None
    tail: int | None = None

    def __post_init__(self) -> None:
        if self.since_seconds is not None and self.since_time is not None:
            raise UsageError("Only one of since_seconds and since_time may be given", "Leave one of them out")
        if self.since_seconds is not None and self.since_seconds <= 0:
            raise UsageError(f"since_seconds is {self.since_seconds}", "Give a number above 0, as in since_seconds=60")
        if self.tail is not None and self.tail < 0:
            raise UsageError(f"tail is {self.tail}", "Give 0 or more lines, or leave it out for all")
        if self.since_time is not None and self.since_time.tzinfo is None:
            raise UsageError(f"since_time={self.since_time} has no time zone", "As in datetime.now(timezone.utc)")
        names_an_object = self.selector is None and "/" in self.pods
        if self.everywhere and names_an_object:
            raise UsageError(
                f"{self.pods} is in one namespace", "Name it, or choose pods by a label or a part of a name"
            )
        pattern_of(self.container or "", "containers")
        if not names_an_object:
            pattern_of(self.pods, "pods")

    def options(self) -> dict[str, Any]:
        """The parameters of a request for a log."""
        return {
            "sinceSeconds": None if self.since_seconds is None else max(1, round(self.since_seconds)),
            "sinceTime": None if self.since_time is None else rfc3339(self.since_time.timestamp()),
            "tailLines": self.tail,
        }

    def target(self, cluster: Cluster) -> Target:
        """The same in the API's words.

        Raises:
            UsageError: an object of a kind that has no pods.
            ApiAnswerError: code 404, no such object.
        """
        namespace = None if self.everywhere else self.namespace or cluster.namespace
        selector, name = self.selector or "", None
        if self.selector is None:
            kind, slash, of = self.pods.partition("/")
            if not slash:
                name = pattern_of(self.pods, "pods")
            elif _OWNERS.get(kind) == "pods":
                cluster.get("pods", of, namespace=namespace)
                name = re.compile(rf"\A{re.escape(of)}\Z")
            else:
                selector = _selector_of(cluster, kind, of, namespace)
        container = pattern_of(self.container or "", "containers")
        return Target(path_of("pods", namespace), selector, self.fields, name, container)


def pattern_of(expression: str, what: str) -> re.Pattern[str]:
    """A regular expression for names.

    Raises:
        UsageError: it is none.
    """
    try:
        return re.compile(expression)
    except re.error as error:
        remedy = f"Name {what} as in 'webserver-.*'"
        raise UsageError(f"{expression!r} is not a regular expression: {error}", remedy) from None


def _selector_of(cluster: Cluster, kind: str, name: str, namespace: str | None) -> str:
    if kind not in _OWNERS:
        raise UsageError(
            f"Logs are not read by {kind!r}", "Use deployment/NAME, service/NAME, pod/NAME or a part of a name"
        )
    wanted = cluster.get(_OWNERS[kind], name, namespace=namespace)["spec"].get("selector") or {}
    if _OWNERS[kind] != "services":
        return selector_text(wanted)
    if not wanted:
        raise UsageError(
            f"The Service {name} has no selector, so it has no pods of its own", "Name the pods themselves"
        )
    return selector_text({"matchLabels": wanted})


def selector_text(selector: dict[str, Any]) -> str:
    """A LabelSelector as the text that a list takes: ``app=webserver,tier in (a,b)``."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], ",".join(expression.get("values") or [])
        words = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(words[expression["operator"]])
    return ",".join(parts)


@dataclass(frozen=True)
class Target:
    """Which pods and containers, in the API's words: those that every one of these takes."""

    path: str
    labels: str = ""
    fields: str = ""
    name: re.Pattern[str] | None = None
    container: re.Pattern[str] | None = None

    @property
    def listing(self) -> dict[str, Any]:
        """Parameters of a list of the pods."""
        return {"labelSelector": self.labels or None, "fieldSelector": self.fields or None}

    def containers(self, pod: dict[str, Any]) -> list[Container]:
        """Those of a pod that the list gave; none if its name is another."""
        if self.name is not None and not self.name.search(pod["metadata"]["name"]):
            return []
        return [one for one in containers_of(pod) if self.container is None or self.container.search(one.name)]


@dataclass(frozen=True)
class Container:
    """One container of one pod, as the API has it now."""

    pod: str
    node: str
    namespace: str
    name: str
    uid: str  # the pod's
    workload: str  # what made the pod: "deployment/webserver", or "" for a pod by itself
    restarts: int
    has_log: bool  # it is running, or has run
    is_running: bool

    @property
    def path(self) -> str:
        """Path of the pod's log."""
        return path_of("pods", self.namespace, self.pod, "log")


def containers_of(pod: dict[str, Any], only: str | None = None) -> list[Container]:
    """A pod's containers (those that stay: init containers only where they are sidecars), or the one of that name."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    known = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    statuses = {status["name"]: status for status in known}
    sidecars = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    found = []
    for name in (container["name"] for container in [*spec["containers"], *sidecars]):
        status = statuses.get(name) or {}
        state, last = status.get("state") or {}, status.get("lastState") or {}
        is_running, has_ended = "running" in state, "terminated" in state or "terminated" in last
        found.append(
            Container(
                metadata["name"],
                spec.get("nodeName") or "",
                metadata["namespace"],
                name,
                metadata["uid"],
                workload_of(metadata),
                int(status.get("restartCount") or 0),
                is_running or has_ended,
                is_running,
            )
        )
    return [container for container in found if only in (None, container.name)]


def workload_of(metadata: dict[str, Any]) -> str:
    """What made a pod, as kubectl names it: ``deployment/webserver``; "" for a pod by itself.

    A Deployment's ReplicaSets are named after it and their pod-template-hash (kubernetes v1.36.2
    pkg/controller/deployment/sync.go), so that one's name says the other's.
    """
    owner = next((one for one in metadata.get("ownerReferences") or [] if one.get("controller")), None)
    if owner is None:
        return ""
    ending = f"-{(metadata.get('labels') or {}).get('pod-template-hash')}"
    if owner["kind"] == "ReplicaSet" and owner["name"].endswith(ending):
        return f"deployment/{owner['name'].removesuffix(ending)}"
    return f"{owner['kind'].lower()}/{owner['name']}"
