"""The requests that reading logs takes: JSON, and logs as raw bytes, over connections that can be cut off.

Bytes, because ``read_namespaced_pod_log`` returns other things than the log in several releases of the official client
(kubernetes-client/python #2596, #811), and by path, because no release knows ``sinceTime``. What is used of the client
is its configuration and its connections; a thread that reads for long has a client of its own, whose sockets another
thread can shut down: nothing else wakes a thread that waits for a line that does not come.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from srcip_nb.errors import ClusterError
from srcip_nb.rest import CONNECT_TIMEOUT, READ_TIMEOUT, ApiAnswerError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from srcip_nb.cluster import Cluster

CHUNK = 1 << 16  # bytes read at once at most


class BrokenOffError(ClusterError):
    """The API did not answer, or not to the end.

    Attributes:
        is_timeout: nothing came for the time allowed.
    """

    def __init__(self, cause: str, is_timeout: bool) -> None:
        super().__init__(cause, "Is the API server there? kubectl get --raw /readyz")
        self.is_timeout = is_timeout


class Wire:
    """A client with connections of its own, whose answers can be read as they come and cut off from another thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._client = cluster.api_client()
        self._sockets: list[socket.socket] = []
        self._changing = threading.Lock()
        self._is_cut = False
        self._host = self._client.configuration.host.rstrip("/")
        pool = self._client.rest_client.pool_manager.connection_from_url(self._host)
        wire = self

        class Known(pool.ConnectionCls):  # type: ignore[name-defined]  # the class that urllib3 chose for this server
            def connect(self) -> None:
                super().connect()
                with wire._changing:
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
                with self._changing:
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
        return response

    def json(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        """An answer's JSON.

        Raises:
            ApiAnswerError: the API refused.
            BrokenOffError: no answer, or not all of it.
        """
        with self.open(path, query or {}) as response:
            text = response.read()
        try:
            return json.loads(text)
        except ValueError:
            begin = text[:80].decode(errors="replace")
            raise BrokenOffError(f"{self._host} answered GET {path} with no JSON: {begin!r}", False) from None

    def cut(self) -> None:
        """End whatever is being read or waited for, now and from now on; safe to call from any thread."""
        self._is_cut = True
        with self._changing:
            sockets = list(self._sockets)
        for known in sockets:
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
