"""One request to a Kubernetes API: JSON in, JSON out, and every refusal in words a reader can act on.

The official client's own models are left aside: they differ between its releases (37 refuses an answer that lacks a
field, 36 and before do not), while the JSON of the API does not. What is used of it is what it does best and alike in
all releases: it reads kubeconfigs with every way of logging in, and holds the connections.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.imports import hidden

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration

    from srcip_nb.tape import Tape

CONNECT_TIMEOUT = 5.0  # seconds until a connection stands
READ_TIMEOUT = 30.0  # seconds without a byte of the answer

_GROUPS = {
    "deployments": "apis/apps/v1",
    "replicasets": "apis/apps/v1",
    "statefulsets": "apis/apps/v1",
    "daemonsets": "apis/apps/v1",
    "jobs": "apis/batch/v1",
    "endpointslices": "apis/discovery.k8s.io/v1",
}
_CLUSTER_SCOPED = {"namespaces", "nodes"}


class ApiAnswerError(ClusterError):
    """The API answered, and refused.

    Attributes:
        code: HTTP status.
        reason: the API's one word for it: NotFound, Invalid, Conflict, Forbidden …
        details: the Status object's details (name, kind, causes).
    """

    def __init__(self, cause: str, remedy: str, code: int, reason: str, details: dict[str, Any]) -> None:
        super().__init__(cause, remedy)
        self.code = code
        self.reason = reason
        self.details = details


@dataclass(frozen=True)
class World:
    """Which API it is: ``kind`` "lab", "context", "in-cluster" or "recording", and the name of what it is.

    That is the lab's, the context's, the own namespace's, or the recording's.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


def load_kubernetes() -> None:
    """Import the official client, without the two seconds its import may take.

    Its ``dynamic`` part tries to import kubernetes_validate, which nothing here asks it for; that loads jsonschema,
    and jsonschema builds a grammar for international addresses where JupyterLab has brought one along.
    """
    with hidden("kubernetes_validate"):
        import kubernetes.client
        import kubernetes.config  # noqa: F401


def path_of(resource: str, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
    """The URL path of a built-in resource: ``path_of("pods", "seminar")`` is ``/api/v1/namespaces/seminar/pods``.

    Args:
        resource: plural name.
        namespace: left out for resources of the whole cluster, and for lists over all namespaces.
        name: one object instead of the list.
        subresource: ``log``, ``status``, ``scale`` …
    """
    parts = [_GROUPS.get(resource, "api/v1")]
    if namespace and resource not in _CLUSTER_SCOPED:
        parts += ["namespaces", quote(namespace, safe="")]
    parts += [resource]
    if name:
        parts += [quote(name, safe="")]
    if subresource:
        parts += [subresource]
    return "/" + "/".join(parts)


class Rest:
    """The connections to one API.

    Args:
        configuration: server, credentials and certificates, as ``kubernetes.config`` loads them.
        world: for the remedies of its errors.
        tape: where its exchanges are recorded, or come from; None: neither.
    """

    def __init__(self, configuration: Configuration, world: World, tape: Tape | None = None) -> None:
        self.configuration = configuration
        self.world = world
        self.tape = tape
        if not configuration.verify_ssl:  # the kubeconfig says so (insecure-skip-tls-verify), once and for all
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._client = self.api_client()

    def api_client(self) -> ApiClient:
        """A new client of the official package with connections of its own: one for each thread."""
        from kubernetes.client import ApiClient

        client = ApiClient(configuration=self.configuration)
        if self.tape is not None:
            from srcip_nb.taped import TapedPool

            connections: Any = client.rest_client
            connections.pool_manager = TapedPool(connections.pool_manager, self.tape)
        return client

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        accept: str = "application/json",
        content_type: str = "application/json",
        timeout: float = READ_TIMEOUT,
    ) -> tuple[int, dict[str, Any]]:
        """Send one request and return the HTTP status and the answer's JSON.

        Args:
            method: GET, POST, PUT, PATCH or DELETE.
            path: begins with a slash.
            body: any JSON value.
            query: query parameters; those that are None or "" are left out.
            accept: the form of the answer.
            content_type: the form of the body; it says which kind of patch it is.
            timeout: seconds without a byte of the answer.

        Raises:
            ApiAnswerError: the API refused; the message is the server's own.
            ClusterError: no answer, or one that is not JSON.
        """
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        data = None if body is None else json.dumps(body).encode()
        answer = self._answer(method, path, data, query, headers, timeout)
        try:
            found = json.loads(answer.data)
        except ValueError as error:
            found = None
            if answer.status < 400:
                raise ClusterError(
                    f"{self.configuration.host} answered something that is not JSON: {_excerpt(answer.data)}",
                    "Is it a Kubernetes API? Look at the server address in the kubeconfig",
                ) from error
        if answer.status >= 400:
            raise self._refusal(answer.status, found, answer.data)
        return answer.status, found

    def text(self, path: str, query: dict[str, Any] | None = None, timeout: float = READ_TIMEOUT) -> str:
        """What a path answers that is no JSON, such as a pod's log.

        The official package reads logs too, but by a module that takes more than a second to import (kubernetes 37.0.2,
        CoreV1Api), and some releases turn a log into something else (kubernetes-client/python #2596).

        Raises:
            ApiAnswerError: the API refused; the message is the server's own.
            ClusterError: no answer.
        """
        answer = self._answer("GET", path, None, query, {"Accept": "*/*"}, timeout)
        if answer.status >= 400:
            try:
                status = json.loads(answer.data)
            except ValueError:
                status = None
            raise self._refusal(answer.status, status, answer.data)
        return str(answer.data.decode(errors="replace"))

    def _answer(
        self,
        method: str,
        path: str,
        data: bytes | None,
        query: dict[str, Any] | None,
        headers: dict[str, str],
        timeout: float,
    ) -> Any:
        headers = {"User-Agent": "srcip-nb", **headers}
        login = self.configuration.auth_settings().get("BearerToken")  # refreshes a token that has run out
        if login and login["value"]:
            headers["Authorization"] = login["value"]
        url = self.configuration.host.rstrip("/") + path
        asked = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        if asked:
            url += "?" + urlencode(asked)
        return self._send(method, url, headers, data, timeout)

    def _send(self, method: str, url: str, headers: dict[str, str], data: bytes | None, timeout: float) -> Any:
        import urllib3

        pool = self._client.rest_client.pool_manager
        limits = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=timeout)
        try:
            try:
                return pool.request(method, url, body=data, headers=headers, timeout=limits, retries=False)
            except urllib3.exceptions.ProtocolError:
                if method != "GET":
                    raise
                # A kept connection that the server closed just now; reading can be done again.
                return pool.request(method, url, headers=headers, timeout=limits, retries=False)
        except urllib3.exceptions.HTTPError as error:
            raise self._no_answer(error) from error

    def _no_answer(self, error: Exception) -> ClusterError:
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError, SSLError

        server = self.configuration.host
        is_cut_off = "EOF" in str(error) or "RECORD_LAYER" in str(error)  # a proxy before a server that is gone
        if isinstance(error, SSLError) and not is_cut_off:
            return ClusterError(
                f"{server} shows a certificate that the kubeconfig of {self.world} does not trust ({error})",
                self._again(),
            )
        words = _in_words(error)
        if isinstance(error, NewConnectionError):  # a kind of ConnectTimeoutError to urllib3
            words = words.rsplit(": ", 1)[-1]
        elif isinstance(error, (ConnectTimeoutError, ReadTimeoutError)):
            words = "no answer in time"
        return ClusterError(f"the API server of {self.world} at {server} cannot be reached: {words}", self._again())

    def _refusal(self, code: int, status: Any, raw: bytes) -> ApiAnswerError:
        if not isinstance(status, dict):
            status = {}
        message = status.get("message") or _excerpt(raw) or "no reason given"
        reason = str(status.get("reason") or "")
        details = status.get("details") or {}
        if code == 401:
            message = f"the API server of {self.world} does not accept the credentials ({message})"
        return ApiAnswerError(message, self._remedy(code, reason, details), code, reason, details)

    def _remedy(self, code: int, reason: str, details: dict[str, Any]) -> str:
        if code == 401:
            return self._again()
        if code == 403:
            if any(cause.get("reason") == "NamespaceTerminating" for cause in details.get("causes") or []):
                return "Wait until the namespace is gone, then run this again"
            return (
                f"See what you may do: kubectl{self._context()} auth can-i --list; what this needs: srcip-nb rbac "
                "--feature FEATURE"
            )
        if code == 404 and details.get("kind") == "namespaces":
            return f"Create it first: cluster.apply('ns.yaml'), or kubectl create namespace {details.get('name')}"
        if code == 404 and details.get("name"):
            return "Create it first: cluster.apply()"
        if code == 409 and reason == "Conflict":
            return "Somebody else changed it meanwhile: run this again"
        if code in (400, 422):
            return "Correct what the message names; nothing was changed"
        if code == 429 or code >= 500:
            return "The server has trouble of its own: try again in a moment"
        return ""

    def _context(self) -> str:
        return f" --context {self.world.name}" if self.world.kind == "context" else ""

    def _again(self) -> str:
        if self.world.kind == "lab":
            return "The lab has ended, or another took its place: run connect() again"
        return f"Check it with: kubectl{self._context()} get nodes"


def configuration_of(kubeconfig: str | None, context: str | None, *, proxy: bool = True) -> Configuration:
    """Server, credentials and certificates of a kubeconfig's context.

    Args:
        kubeconfig: path, or several with colons; None: ``KUBECONFIG``, else ``~/.kube/config``.
        context: None: its current one.
        proxy: whether ``HTTPS_PROXY`` counts; a lab on 127.0.0.1 is never behind a proxy.

    Raises:
        UsageError: no kubeconfig, or it cannot be used.
    """
    load_kubernetes()
    from kubernetes import config
    from kubernetes.client import Configuration

    configuration = Configuration()
    try:
        config.load_kube_config(kubeconfig, context, configuration, persist_config=False)
    except config.ConfigException as error:
        raise UsageError(f"the kubeconfig cannot be used: {error}", "See: kubectl config view") from error
    if not proxy:
        configuration.proxy = None
    return configuration


def _in_words(error: BaseException) -> str:
    """What the system or the server did, without the errors of urllib3 and http.client around it."""
    inner = [argument for argument in error.args if isinstance(argument, BaseException)]
    if inner:
        return _in_words(inner[-1])
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _excerpt(raw: bytes) -> str:
    return raw[:200].decode(errors="replace").strip()
