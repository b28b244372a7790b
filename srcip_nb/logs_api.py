"""The few requests that reading logs takes: which pods, and their logs as raw bytes.

Bytes, because ``read_namespaced_pod_log`` returns other things than the log in several releases of the official client
(kubernetes-client/python #2596, #811), and by path, because no release knows ``sinceTime``. What is used of the client
is its configuration and its connections; a thread that reads for long has a client of its own, whose sockets another
thread can shut down: nothing else wakes a thread that waits for a line that does not come.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from srcip_nb.cluster import DEPLOYMENT
from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.rest import CONNECT_TIMEOUT, READ_TIMEOUT, ApiAnswerError, path_of

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from srcip_nb.cluster import Cluster

DEFAULT_PODS = f"deployment/{DEPLOYMENT}"
CHUNK = 1 << 16  # bytes read at once at most

_OWNERS = {
    **dict.fromkeys(("deployment", "deployments", "deploy"), "deployments"),
    **dict.fromkeys(("service", "services", "svc"), "services"),
    **dict.fromkeys(("pod", "pods", "po"), "pods"),
}


@dataclass(frozen=True)
class Target:
    """Which pods: those that a label selector and a pattern for the name both take."""

    selector: str = ""
    name: re.Pattern[str] | None = None

    def takes(self, pod: dict[str, Any]) -> bool:
        """Whether a pod that the selector takes has such a name."""
        return self.name is None or self.name.search(pod["metadata"]["name"]) is not None


def target_of(cluster: Cluster, pods: str, selector: str | None) -> Target:
    """What is meant by ``deployment/NAME``, ``service/NAME``, ``pod/NAME``, or else a regular expression for names.

    Raises:
        UsageError: another kind of object, or a broken expression.
        ApiAnswerError: code 404, no such object.
    """
    if selector is not None:
        return Target(selector)
    kind, slash, name = pods.partition("/")
    if not slash:
        try:
            return Target(name=re.compile(pods))
        except re.error as error:
            raise UsageError(
                f"{pods!r} is not a regular expression: {error}", "Name pods as in 'webserver-.*'"
            ) from None
    if kind not in _OWNERS:
        raise UsageError(
            f"Logs are not read by {kind!r}", "Use deployment/NAME, service/NAME, pod/NAME or a part of a name"
        )
    found = cluster.get(_OWNERS[kind], name)
    if _OWNERS[kind] == "pods":
        return Target(name=re.compile(rf"\A{re.escape(name)}\Z"))
    wanted = found["spec"].get("selector") or {}
    if _OWNERS[kind] == "services" and not wanted:
        raise UsageError(
            f"The Service {name} has no selector, so it has no pods of its own", "Name the pods themselves"
        )
    return Target(selector_text(wanted if _OWNERS[kind] == "deployments" else {"matchLabels": wanted}))


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
class Container:
    """One container of one pod, as the API has it now."""

    pod: str
    node: str
    namespace: str
    name: str
    uid: str  # the pod's
    restarts: int
    has_log: bool  # it is running, or has run
    is_running: bool

    @property
    def path(self) -> str:
        """Path of the pod's log."""
        return path_of("pods", self.namespace, self.pod, "log")


def containers_of(pod: dict[str, Any], only: str | None = None) -> list[Container]:
    """A pod's containers, or the one of that name."""
    metadata, spec = pod["metadata"], pod["spec"]
    statuses = {status["name"]: status for status in (pod.get("status") or {}).get("containerStatuses") or []}
    found = []
    for name in (container["name"] for container in spec["containers"]):
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
                int(status.get("restartCount") or 0),
                is_running or has_ended,
                is_running,
            )
        )
    return [container for container in found if only in (None, container.name)]


class BrokenOffError(ClusterError):
    """The API did not answer, or not to the end.

    Attributes:
        is_timeout: nothing came for the time allowed.
    """

    def __init__(self, cause: str, is_timeout: bool) -> None:
        super().__init__(cause, "Is the API server there? kubectl get --raw /readyz")
        self.is_timeout = is_timeout


class Wire:
    """A client for one thread, whose answers can be read as they come and cut off from another thread.

    Attributes:
        date: seconds since 1970 by the server's clock when it last answered.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._client = cluster.api_client()
        self._sockets: list[socket.socket] = []
        self._is_cut = False
        self.date = time.time()
        self._host = self._client.configuration.host.rstrip("/")
        pool = self._client.rest_client.pool_manager.connection_from_url(self._host)
        wire = self

        class Known(pool.ConnectionCls):  # type: ignore[name-defined]  # the class that urllib3 chose for this server
            def connect(self) -> None:
                super().connect()
                wire._sockets.append(self.sock)
                if wire._is_cut:
                    wire.cut()

        pool.ConnectionCls = Known

    @contextmanager
    def open(self, path: str, query: dict[str, Any], timeout: float = READ_TIMEOUT) -> Iterator[BaseHTTPResponse]:
        """Ask, and leave the answer to be read inside the ``with`` block.

        Args:
            path: begins with a slash.
            query: parameters; those that are None are left out.
            timeout: seconds without a byte.

        Raises:
            ApiAnswerError: the API refused.
            BrokenOffError: no answer, or not all of it.
        """
        import urllib3

        try:
            response = self._send(path, query, urllib3.Timeout(connect=CONNECT_TIMEOUT, read=timeout))
            try:
                if response.status >= 400:
                    raise refusal(response.status, response.read())
                yield response
            finally:
                response.close()  # what was not read must not be taken for the next answer
                self._sockets[:] = [known for known in self._sockets if known.fileno() != -1]
        except urllib3.exceptions.HTTPError as error:
            is_timeout = isinstance(error, urllib3.exceptions.ReadTimeoutError)
            raise BrokenOffError(f"The answer of {self._host} to GET {path} broke off: {error}", is_timeout) from error

    def _send(self, path: str, query: dict[str, Any], timeout: Any) -> BaseHTTPResponse:
        import urllib3

        headers = {"Accept": "*/*", "User-Agent": "srcip-nb"}
        login = self._client.configuration.auth_settings().get("BearerToken")  # refreshes a token that has run out
        if login and login["value"]:
            headers["Authorization"] = login["value"]
        asked = urlencode({key: value for key, value in query.items() if value is not None})
        send = partial(
            self._client.rest_client.pool_manager.request,
            "GET",
            f"{self._host}{path}?{asked}",
            headers=headers,
            timeout=timeout,
            retries=False,
            preload_content=False,
        )
        try:
            response = send()
        except urllib3.exceptions.ProtocolError:
            if self._is_cut:
                raise
            response = send()  # a kept connection that the server closed just now
        date = response.headers.get("Date")
        self.date = parsedate_to_datetime(date).timestamp() if date else time.time()
        return response

    def json(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        """An answer's JSON.

        Raises:
            ApiAnswerError: the API refused.
            BrokenOffError: no answer, or not all of it.
        """
        with self.open(path, query or {}) as response:
            return json.loads(response.read())

    def cut(self) -> None:
        """End whatever is being read or waited for, now and from now on; safe to call from any thread."""
        self._is_cut = True
        for known in list(self._sockets):
            try:
                # socket's own, not ssl's: that one takes the TLS state away under the reading thread.
                socket.socket.shutdown(known, socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed already

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()


def refusal(code: int, body: bytes) -> ApiAnswerError:
    """The error that a refusing answer of the API stands for."""
    try:
        status = json.loads(body)
    except ValueError:
        status = {}
    message = status.get("message") or body[:200].decode(errors="replace").strip() or f"HTTP status {code}"
    remedies = {401: "Run connect() again", 403: "See what you may do: kubectl auth can-i get pods/log"}
    return ApiAnswerError(
        message, remedies.get(code, ""), code, status.get("reason") or "", status.get("details") or {}
    )


def rfc3339(seconds: float) -> str:
    """A moment as the API takes it, in whole seconds: more it does not pass on to the kubelet."""
    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
