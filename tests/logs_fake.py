"""A Kubernetes API that knows pods and their logs, over real HTTP; it cuts connections and restarts pods on demand.

Like a kubelet it looks at whole seconds of ``sinceTime`` only, ends a followed log when the container ends, and gives
the log of the last start but one as ``previous``.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

START = 1_700_000_000  # the fake's time when it starts, in seconds
PODS = "/api/v1/namespaces/seminar/pods"


def stamp(nanoseconds: int) -> bytes:
    """RFC 3339 with trailing zeros cut, as a kubelet writes it."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z").encode()


class Start:
    """One start of a container: its lines, until it has ended."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, bytes]] = []
        self.kept_from = 0  # the newest file begins with this line
        self.has_ended = False


class FakeApi:
    """The server; a context manager."""

    def __init__(self, tls: Any = None) -> None:
        self.changed = threading.Condition()
        self.pods: dict[str, dict[str, Any]] = {}
        self.starts: dict[str, list[Start]] = {}
        self.events: list[dict[str, Any]] = []
        self.version = 0
        self.now = START * 1_000_000_000
        self.token = ""
        self.refuse: dict[str, tuple[int, str]] = {}  # part of a path -> status, reason
        self.keeps_headers_back = False
        self.before_log: Callable[[str], None] = lambda name: None  # called when a log is asked for
        self.breaks_after: Callable[[], int | None] = lambda: None  # bytes of a log that one connection carries
        self.history_begins_at = 0
        self.requests: list[str] = []
        self._streams: set[socket.socket] = set()
        self._connections: set[socket.socket] = set()
        self._is_closed = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="fake API")

    def __enter__(self) -> FakeApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self._is_closed = True
            self.changed.notify_all()
        self._server.shutdown()
        self._break(self._connections)
        self._server.server_close()
        self._thread.join()

    # -- what a test does to it

    def add_pod(self, name: str, *, app: str = "webserver", node: str = "worker01", waits: str = "") -> None:
        with self.changed:
            self.pods[name] = {
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": "seminar",
                    "uid": f"uid-{name}-{self.version}",
                    "labels": {"app": app},
                },
                "spec": {"nodeName": node, "containers": [{"name": "nginx"}]},
            }
            self.starts[name] = []
            self._status(name, {"waiting": {"reason": waits}})
            self._tell("ADDED", name)
            if not waits:
                self._begin(name)

    def begin(self, name: str) -> None:
        """The container starts, for the first time or again."""
        with self.changed:
            self._begin(name)

    def end(self, name: str) -> None:
        """The container ends."""
        with self.changed:
            self.starts[name][-1].has_ended = True
            self._status(name, {"terminated": {"exitCode": 0}})
            self._tell("MODIFIED", name)

    def restart(self, name: str) -> None:
        with self.changed:
            self.starts[name][-1].has_ended = True
            self._begin(name)

    def delete(self, name: str) -> None:
        with self.changed:
            for start in self.starts[name]:
                start.has_ended = True
            self._tell("DELETED", name)
            del self.pods[name], self.starts[name]

    def write(self, name: str, line: bytes, *, after: int = 1_000_000, at: int | None = None) -> None:
        """A line, so many nanoseconds after the one before."""
        with self.changed:
            self.now += after
            self.starts[name][-1].lines.append((self.now if at is None else at, line))
            self.changed.notify_all()

    def rotate(self, name: str) -> None:
        """The log goes on in a new file; what is in the older one is given to nobody who comes now."""
        with self.changed:
            self.starts[name][-1].kept_from = len(self.starts[name][-1].lines)

    def cut(self) -> None:
        """Break every connection that is being answered."""
        self._break(self._streams)

    def _break(self, sockets: set[socket.socket]) -> None:
        with self.changed:
            sockets = set(sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    @property
    def streams(self) -> int:
        with self.changed:
            return len(self._streams)

    # -- inside

    def _begin(self, name: str) -> None:
        self.starts[name].append(Start())
        self._status(name, {"running": {}})
        self._tell("MODIFIED", name)

    def _status(self, name: str, state: dict[str, Any]) -> None:
        ended = [start for start in self.starts[name] if start.has_ended]
        status = {"name": "nginx", "restartCount": max(0, len(self.starts[name]) - 1), "state": state}
        self.pods[name]["status"] = {
            "containerStatuses": [
                status | {"lastState": {"terminated": {}} if ended and "terminated" not in state else {}}
            ]
        }

    def _tell(self, kind: str, name: str) -> None:
        self.version += 1
        self.pods[name]["metadata"]["resourceVersion"] = str(self.version)
        self.events.append({"type": kind, "object": json.loads(json.dumps(self.pods[name]))})
        self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet, or each waits for the other's acknowledgement

    def setup(self) -> None:
        super().setup()
        with self.api.changed:
            self.api._connections.add(self.connection)

    def finish(self) -> None:
        with self.api.changed:
            self.api._connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        api, url = self.api, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        with api.changed:
            api.requests.append(self.path)
            api._streams.add(self.connection)
        try:
            refused = next((answer for part, answer in api.refuse.items() if part in self.path), None)
            if api.token and self.headers.get("Authorization") != f"Bearer {api.token}":
                refused = (401, "Unauthorized")
            if refused:
                self._status(*refused, f"refused: {refused[1]}")
            elif url.path in ("/version", "/api"):
                self._json({"gitVersion": "v1.36.2", "versions": ["v1"]})
            elif url.path == "/apis/apps/v1/namespaces/seminar/deployments/webserver":
                self._json({"spec": {"selector": {"matchLabels": {"app": "webserver"}}}})
            elif url.path == PODS and query.get("watch"):
                self._watch(query)
            elif url.path == PODS:
                with api.changed:
                    found = [pod for pod in api.pods.values() if _matches(pod, query)]
                    answer = {"metadata": {"resourceVersion": str(api.version)}, "items": json.loads(json.dumps(found))}
                self._json(answer)
            else:
                self._pod(url.path.removeprefix(PODS).strip("/").split("/"), query)
        except OSError:
            self.close_connection = True
        finally:
            with api.changed:
                api._streams.discard(self.connection)

    def _pod(self, parts: list[str], query: dict[str, str]) -> None:
        with self.api.changed:
            pod = json.loads(json.dumps(self.api.pods.get(parts[0])))
            starts = list(self.api.starts.get(parts[0], []))
        if pod is None:
            self._status(404, "NotFound", f'pods "{parts[0]}" not found')
        elif parts[1:] == []:
            self._json(pod)
        elif not starts:
            self._status(400, "BadRequest", 'container "nginx" in pod "x" is waiting to start: ContainerCreating')
        elif query.get("previous") and len(starts) < 2:
            self._status(400, "BadRequest", 'previous terminated container "nginx" in pod "x" not found')
        else:
            self.api.before_log(parts[0])
            with self.api.changed:  # it may be another's log by now
                starts = list(self.api.starts[parts[0]])
            self._log(starts[-2 if query.get("previous") and len(starts) > 1 else -1], query)

    def _log(self, start: Start, query: dict[str, str]) -> None:
        api = self.api
        since, self._may_send = 0, api.breaks_after()
        if "sinceTime" in query:
            since = int(datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00")).timestamp()) * 1_000_000_000
        if "sinceSeconds" in query:
            since = api.now - int(query["sinceSeconds"]) * 1_000_000_000
        with api.changed:
            at = len(start.lines)
            first = [line for line in start.lines[start.kept_from :] if line[0] >= since]
        if "tailLines" in query:
            first = first[len(first) - min(len(first), int(query["tailLines"])) :]
        follows = bool(query.get("follow"))
        if not (api.keeps_headers_back and follows and not first):
            self._begin_chunks("text/plain")
            self._lines(first, start)
        while follows:
            with api.changed:
                api.changed.wait_for(lambda at=at: len(start.lines) > at or start.has_ended or api._is_closed)
                new, at = start.lines[at:], len(start.lines)
                is_over = start.has_ended and not new
            if new:
                if not self._is_begun:
                    self._begin_chunks("text/plain")
                self._lines([line for line in new if line[0] >= since], start)
            if is_over or api._is_closed:
                break
        if not self._is_begun:
            self._begin_chunks("text/plain")
        self._chunk(b"")

    def _lines(self, lines: list[tuple[int, bytes]], start: Start) -> None:
        text = b"".join(stamp(time) + b" " + line + b"\n" for time, line in lines)
        if lines and start.has_ended and lines[-1] == start.lines[-1] and lines[-1][1].endswith(b"(no end)"):
            text = text[:-1]
        cut = random.Random(len(text)).randrange(len(text) + 1)
        for piece in (text[:cut], text[cut:]):  # an answer's pieces end anywhere
            if self._may_send is not None:
                piece, self._may_send = piece[: self._may_send], self._may_send - len(piece)
            if piece:
                self._chunk(piece)
            if self._may_send is not None and self._may_send < 0:
                raise ConnectionResetError

    def _watch(self, query: dict[str, str]) -> None:
        api, at = self.api, int(query["resourceVersion"])
        self._begin_chunks("application/json")
        if at < api.history_begins_at:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            self._chunk(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            self._chunk(b"")
            return
        while True:
            with api.changed:
                api.changed.wait_for(lambda at=at: len(api.events) > at or api._is_closed)
                new, at = api.events[at:], len(api.events)
            if api._is_closed:
                break
            for event in new:
                if _matches(event["object"], query):
                    self._chunk(json.dumps(event).encode() + b"\n")
        self._chunk(b"")

    _is_begun = False
    _may_send: int | None = None

    def _begin_chunks(self, kind: str) -> None:
        self._is_begun = True
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()
        if not data:
            self._is_begun = False

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(self.api.now / 1_000_000_000, usegmt=True)

    def _json(self, body: Any, code: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _status(self, code: int, reason: str, message: str) -> None:
        self._json({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}, code)


def _matches(pod: dict[str, Any], query: dict[str, str]) -> bool:
    wanted = [part.split("=") for part in query.get("labelSelector", "").split(",") if part]
    return all(pod["metadata"]["labels"].get(key) == value for key, value in wanted)
