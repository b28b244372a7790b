"""A program in a pod, over the API: what ``kubectl exec`` speaks, in the few lines that are needed here.

One websocket, whose binary messages begin with the number of a channel: 0 input, 1 output, 2 errors, 3 how it ended (a
Status object). Source: kubernetes v1.36.2 apimachinery pkg/util/remotecommand/constants.go. A connection that ends
without a Status is an error, never an end.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from srcip_nb.errors import ClusterError
from srcip_nb.rest import CONNECT_TIMEOUT, READ_TIMEOUT, ApiAnswerError, path_of

if TYPE_CHECKING:
    from websocket import WebSocket

    from srcip_nb.cluster import Cluster

PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
NO_SUCH_PROGRAM = 127
_BROKEN_OFF = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What a server that accepts a connection and ends it without an answer looks like, the last two within TLS."""

_KEPT_ERRORS = 400  # bytes of its error output that an error quotes
_TURN = 0.05  # seconds that a reader may keep the connection from a writer while half a message is there


class BrokeOffError(ClusterError):
    """The connection ended before the program told how it ended: nobody knows how far it came."""


def exec_lines(
    cluster: Cluster, pod: str, argv: Sequence[str], stdin: Iterable[str] = (), *, timeout: float
) -> Iterator[str]:
    """Run a program in a pod's first container and yield the lines of its output as they come.

    Args:
        cluster: where.
        pod: NAMESPACE/NAME.
        argv: program and arguments, no shell.
        stdin: pieces of text for its input, sent as the iterator gives them. The input is not closed (only v5 of the
            protocol could): the program has to know by itself where it ends.
        timeout: seconds until its end.

    Raises:
        ApiAnswerError: the API refused: no such pod, it does not run, no permission.
        BrokeOffError: the connection ended without a word, before the program began or later.
        ClusterError: it broke, time ran out, or the program failed; the message quotes its errors.
    """
    channel = _connect(cluster, pod, argv)
    sending = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
    sending.start()
    output, errors, status = b"", b"", None
    deadline = time.monotonic() + timeout
    try:
        for number, data in _messages(cluster, channel, pod, deadline):
            if number == STDOUT:
                *lines, output = (output + data).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            elif number == STDERR:
                errors = (errors + data)[:_KEPT_ERRORS]
            elif number == STATUS:
                status = json.loads(data)
    finally:
        channel.close()
    if status is None:
        raise BrokeOffError(f"the connection to pod {pod} broke off before its program had ended", "Run it again")
    if output:
        yield output.decode(errors="replace")
    if status.get("status") != "Success":
        said = errors.decode(errors="replace").strip()
        raise ClusterError(f"pod {pod}: {status.get('message', 'the program failed')}{f' ({said})' if said else ''}")


class _Channel:
    """A websocket that one thread reads while another writes, but never both at once.

    TLS keeps one state for both (OpenSSL, openssl-threads(7): an SSL object is not for two threads at a time). If it
    breaks, the connection seems to have ended; and what is being written while the socket is closed goes into the next
    connection that gets its number.
    """

    def __init__(self, connection: WebSocket) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self._readable = selectors.DefaultSelector()
        self._readable.register(connection, selectors.EVENT_READ)

    def send(self, data: bytes) -> None:
        with self._turn:
            self._connection.settimeout(READ_TIMEOUT)
            self._connection.send_binary(data)

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        """A message's kind and data; None if no whole one came in time."""
        from websocket import WebSocketTimeoutException

        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if not self._has_read_ahead() and not self._readable.select(left):
                continue
            with self._turn, contextlib.suppress(WebSocketTimeoutException):
                self._connection.settimeout(min(left, _TURN))
                kind, data = self._connection.recv_data()
                return kind, data
        return None

    def _has_read_ahead(self) -> bool:
        """Whether there is more than the socket knows of: TLS takes whole records from it."""
        with self._turn:
            channel = self._connection.sock
            return channel is None or (isinstance(channel, ssl.SSLSocket) and channel.pending() > 0)

    def close(self) -> None:
        with self._turn:
            self._readable.close()
            self._connection.shutdown()


def _connect(cluster: Cluster, pod: str, argv: Sequence[str]) -> _Channel:
    import websocket

    configuration = cluster.rest.configuration
    login = configuration.auth_settings().get("BearerToken")
    headers = {"Authorization": login["value"]} if login and login["value"] else {}
    namespace, _, name = pod.partition("/")
    query = [("stdin", "true"), ("stdout", "true"), ("stderr", "true"), *(("command", word) for word in argv)]
    base = configuration.host.rstrip("/")
    url = f"ws{base.removeprefix('http')}{path_of('pods', namespace, name, 'exec')}?{urlencode(query)}"
    try:
        connection = websocket.create_connection(
            url,
            timeout=READ_TIMEOUT,
            header=headers,
            subprotocols=PROTOCOLS,
            sslopt=_tls(configuration),
            suppress_origin=True,
            **_proxy(configuration),
        )
    except websocket.WebSocketBadStatusException as error:
        raise _refusal(error) from error
    except (websocket.WebSocketConnectionClosedException, *_BROKEN_OFF) as error:
        raise BrokeOffError(
            f"the connection to pod {pod} broke off before its program began", "Run it again"
        ) from error
    except (OSError, websocket.WebSocketException) as error:
        raise ClusterError(
            f"no connection for a program in pod {pod} by {base}: {error}", "Is the API server there?"
        ) from error
    return _Channel(connection)


def _tls(configuration: Any) -> dict[str, Any]:
    if not configuration.verify_ssl:
        options: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    else:
        options = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": configuration.ssl_ca_cert}
        if configuration.assert_hostname is not None:
            options["check_hostname"] = configuration.assert_hostname
    given = {
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        "server_hostname": configuration.tls_server_name,
    }
    return {**options, **{name: value for name, value in given.items() if value}}


def _proxy(configuration: Any) -> dict[str, Any]:
    if not configuration.proxy:
        return {"http_no_proxy": ["*"]}  # or websocket-client would look for one in the environment
    proxy = urlsplit(configuration.proxy)
    return {
        "http_proxy_host": proxy.hostname,
        "http_proxy_port": proxy.port,
        "proxy_type": "http",
        "http_no_proxy": (configuration.no_proxy or "").split(","),
        "http_proxy_timeout": CONNECT_TIMEOUT,
    }


def _refusal(error: Any) -> ApiAnswerError:
    try:
        status = json.loads(error.resp_body or b"{}")
    except ValueError:
        status = {}
    message = status.get("message") or f"the API refused to run a program in a pod (HTTP {error.status_code})"
    remedy = "See what you may do: kubectl auth can-i create pods/exec" if error.status_code == 403 else ""
    return ApiAnswerError(
        message, remedy, error.status_code, str(status.get("reason") or ""), status.get("details") or {}
    )


def _feed(channel: _Channel, pieces: Iterable[str]) -> None:
    import websocket

    try:
        for piece in pieces:
            channel.send(bytes([STDIN]) + piece.encode())
    except (OSError, websocket.WebSocketException):
        return  # the reader learns of it too, and tells


def _messages(cluster: Cluster, channel: _Channel, pod: str, deadline: float) -> Iterator[tuple[int, bytes]]:
    """Channel and data of each message until the other side closes.

    Raises:
        ClusterError: nothing came in time, or the connection broke.
    """
    import websocket

    while True:
        try:
            message = channel.receive(deadline - time.monotonic())
        except websocket.WebSocketConnectionClosedException:
            return
        except (OSError, websocket.WebSocketException) as error:
            raise ClusterError(
                f"the connection to pod {pod} by {cluster.server} broke off: {error}", "Run it again"
            ) from error
        if message is None:
            raise ClusterError(f"a program in pod {pod} did not end in time", "Is its node Ready? kubectl get nodes")
        kind, data = message
        if kind == websocket.ABNF.OPCODE_CLOSE:
            return
        if data:
            yield data[0], bytes(data[1:])
