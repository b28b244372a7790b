"""An API server that says what a real one said, for tests without a cluster."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from srcip_nb.cluster import Cluster
from srcip_nb.rest import Rest, World, load_kubernetes

RECORDED = Path(__file__).parent / "data" / "cluster"
VERSION = {"gitVersion": "v1.36.2"}


def recorded(name: str):
    """(status, body) of a request that a real API server answered."""
    response = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))["response"]
    return response["status"], response["body"]


def items(name: str) -> list[dict]:
    return recorded(f"list-{name}")[1]["items"]


class FakeApi:
    """Answers by (method, path); a callable is asked anew each time. Keeps what it was asked."""

    def __init__(self, answers: dict) -> None:
        self.answers = {("GET", "/version"): (200, VERSION), ("GET", "/api"): (200, {"versions": ["v1"]}), **answers}
        self.asked: list[tuple[str, str, dict, object]] = []

    def answer(self, method: str, url: str, headers, body: bytes):
        parts = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        sent = json.loads(body) if body else None
        self.asked.append((method, parts.path, query, sent))
        found = self.answers.get((method, parts.path))
        if callable(found):
            found = found(query, sent)
        missing = {"kind": "Status", "message": f"{method} {parts.path} not found", "reason": "NotFound", "code": 404}
        return found or (404, missing)

    def paths(self, method: str) -> list[str]:
        return [path for asked, path, _, _ in self.asked if asked == method]


@contextmanager
def serving(answers: dict, **options):
    """A running FakeApi and a Cluster that speaks to it."""
    api = FakeApi(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet, or each waits for the other's acknowledgement

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = api.answer(self.command, self.path, self.headers, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = do  # noqa: N815

        def log_message(self, *words) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    cluster = None
    try:
        cluster = Cluster(rest_to(server.server_port), **options)
        yield api, cluster
    finally:
        if cluster:
            cluster.rest.close()
        server.shutdown()
        server.server_close()


def rest_to(port: int, world: World | None = None) -> Rest:
    load_kubernetes()
    from kubernetes.client import Configuration

    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{port}"
    configuration.proxy = None
    return Rest(configuration, world or World("context", "kind-kind"))


class FakeLab:
    """Hosts, and answers to requests made by a function of the URL."""

    def __init__(self, answer=None) -> None:
        self.answer = answer
        self.sent: list[dict] = []

    def hosts(self):
        return [
            {"name": "router", "role": "router", "address": "192.168.1.1"},
            {"name": "worker01", "role": "worker", "address": "192.168.1.45"},
            {"name": "client", "role": "client", "address": "192.168.1.122"},
        ]

    def visit(self, host, requests, concurrency=8, timeout=2.0, rate=None):
        address = next(h["address"] for h in self.hosts() if h["name"] == host)
        for request in requests:
            self.sent.append(request)
            yield {**result(request["id"], client_ip=address), **self.answer(request)}


def result(number: int, status: int | None = 200, error: str = "", client_ip: str = "192.168.1.122") -> dict:
    return {
        "id": number,
        "sent_at": 1_700_000_000_000_000_000 + number * 1000,
        "client_ip": client_ip,
        "status": status,
        "error": error,
        "latency_ms": 1.5,
        "body": "",
    }
