"""What goes away in the middle of a run ends it with "not finished" and the cause, never with a pass."""

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from srcip_nb import connect
from srcip_nb.cluster import Cluster
from srcip_nb.errors import ClusterError, NotFinishedError
from srcip_nb.lab.state import find_lab
from srcip_nb.matrix import _gone, matrix
from srcip_nb.matrix_ask import Run
from srcip_nb.rest import ApiAnswerError
from srcip_nb.run import what_went_away

pytestmark = pytest.mark.lab


@pytest.fixture
def own_lab():
    from srcip_nb.lab import Lab

    with Lab() as running:
        yield running


@contextmanager
def expiring(lab) -> Iterator[tuple[str, threading.Event]]:
    """A lab's API behind a server that answers 401 from the moment on when the event is set."""
    expired = threading.Event()
    target = urlsplit(lab.client.url)
    context: ssl.SSLContext = lab.client.ssl_context

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if expired.is_set():
                status, data = 401, b'{"kind":"Status","status":"Failure","message":"Unauthorized","code":401}'
            else:
                server = http.client.HTTPSConnection(target.hostname, target.port, context=context, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
                server.request(self.command, self.path, body or None, headers)
                answer = server.getresponse()
                status, data = answer.status, answer.read()
                server.close()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = do  # noqa: N815

        def log_message(self, *words) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", expired
    finally:
        server.shutdown()
        server.server_close()


def kubeconfig_for(url: str, token: str, path) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "staging", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "staging",
    }
    path.write_text(json.dumps(config))
    return str(path)


def lines_until(process: subprocess.Popen, pattern: str) -> list[str]:
    seen = []
    for line in process.stderr:
        seen.append(line)
        if re.search(pattern, line):
            return seen
    raise AssertionError(f"{pattern} never came: {''.join(seen)}")


def test_a_token_that_expires_in_the_middle_of_a_matrix(own_lab, tmp_path, monkeypatch):
    out = {name: tmp_path / f"m.{name}" for name in ("json", "junit", "html")}
    with expiring(own_lab) as (url, expired):
        env = {**os.environ, "KUBECONFIG": kubeconfig_for(url, own_lab.client.token, tmp_path / "config")}
        options = [word for name, path in out.items() for word in (f"--{name}", str(path))]
        command = [sys.executable, "-m", "srcip_nb", "matrix", "--context", "staging", "--mode", "iptables", *options]
        cluster = connect(lab=own_lab, quiet=True)
        with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 60
            while not any(n["metadata"]["name"].endswith("-matrix") for n in cluster.list("namespaces")):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            expired.set()
            _, said = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "not finished: the API server of context 'staging' does not accept the credentials" in said
    result = json.loads(out["json"].read_text())
    assert result["verdict"] == "not finished"
    assert result["cases"] == []
    assert "does not accept the credentials" in result["cause"]
    suite = ElementTree.fromstring(out["junit"].read_text())
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    assert "not finished" in out["html"].read_text()


def test_an_api_server_that_is_killed_in_the_middle_of_a_matrix(own_lab, tmp_path):
    result = tmp_path / "m.json"
    command = [sys.executable, "-m", "srcip_nb", "matrix", "--lab", own_lab.name, "--json", str(result)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        lines_until(process, "pods and Services of the matrix: ")
        os.kill(find_lab(own_lab.name).supervisor.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=90)
    assert process.returncode == 1
    assert json.loads(result.read_text())["verdict"] == "not finished"
    assert "not finished: " in said


def test_a_node_that_is_cut_off_in_the_middle_of_a_matrix(own_lab, monkeypatch):
    cluster = connect(lab=own_lab, quiet=True)
    ask = Run.ask_all

    def cut_off(run, rows):
        ask(run, rows)
        own_lab.client.exec("worker02", ["ip", "link", "set", "eth0", "down"])

    monkeypatch.setattr(Run, "ask_all", cut_off)
    with pytest.raises(NotFinishedError, match="worker02"):
        matrix(cluster, progress=False, only=lambda question: question.service == "cluster")
    assert not [n for n in cluster.list("namespaces") if n["metadata"]["name"].endswith("-matrix")]


def test_a_pod_that_was_started_again_in_the_middle_of_a_matrix(lab, monkeypatch):
    cluster = connect(lab=lab, quiet=True)
    ask = Run.ask_all

    def killed(run, rows):
        ask(run, rows)
        run._own.request("DELETE", f"/api/v1/namespaces/{run._own.namespace}/pods/s1")

    monkeypatch.setattr(Run, "ask_all", killed)
    with pytest.raises(NotFinishedError, match="pod s1 does not run any more"):
        matrix(cluster, progress=False, only=lambda question: question.service == "cluster")


def test_why_checks_failed_is_looked_for_in_nodes_and_api(cluster, monkeypatch):
    monkeypatch.setattr("srcip_nb.run.NODE_GRACE", 0)
    names = {node["metadata"]["name"] for node in cluster.list("nodes")}
    assert what_went_away(cluster, names) == ""
    assert what_went_away(cluster, {*names, "worker09"}) == "node worker09 went away: not Ready"


def test_a_node_that_went_away_is_named_where_a_matrix_met_only_silence(cluster, monkeypatch):
    monkeypatch.setattr("srcip_nb.run.NODE_GRACE", 0)
    real = connect_like(cluster)
    before = {node["metadata"]["name"] for node in cluster.list("nodes")} | {"worker09"}
    assert _gone(real, ClusterError("no connection to pod n3", ""), before) == "node worker09 went away: not Ready"
    dialing = ApiAnswerError("error dialing backend: connect: no route to host", "", 500, "InternalError", {})
    assert _gone(real, dialing, before) == "node worker09 went away: not Ready"
    assert _gone(real, ApiAnswerError("Unauthorized", "", 401, "", {}), before) == ""
    assert _gone(cluster, ClusterError("no connection to pod n3", ""), before) == ""


def connect_like(cluster):
    """The lab's API as a cluster that is no lab."""
    return Cluster(cluster.rest, cluster.namespace)
