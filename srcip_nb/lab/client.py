"""What a lab offers beside Kubernetes: its hosts, commands in them, and requests that start there.

The Kubernetes side of a lab is spoken to by any Kubernetes client; a ``LabClient`` is for the rest, over the same
address, certificate and token (``/lab/v1/…``, see ``console.py``).
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from srcip_nb.errors import LabError
from srcip_nb.lab.kubeconfig import EXTENSION
from srcip_nb.lab.trace import Trace, read_trace

_LABS = "See which labs run: srcip-nb lab list; run connect() again for another"


@dataclass(frozen=True)
class Completed:
    """A command that ran in a host: exit code (127: no such program) and what it wrote."""

    code: int
    stdout: str
    stderr: str


class LabClient:
    """A running lab as a program sees it."""

    def __init__(self, name: str, kubeconfig: Path, url: str, ca_pem: str, token: str) -> None:
        self.name = name
        self.kubeconfig = kubeconfig
        self.url = url
        self.token = token
        self.ssl_context = ssl.create_default_context(cadata=ca_pem)

    @classmethod
    def from_kubeconfig(cls, path: Path | str) -> LabClient | None:
        """The lab behind a kubeconfig, or None where its current context is no lab."""
        path = Path(path)
        try:
            config = json.loads(path.read_text())
            context = next(c for c in config["contexts"] if c["name"] == config["current-context"])["context"]
            extensions = context["extensions"]
        except (OSError, ValueError, KeyError, StopIteration, TypeError):
            return None
        name = next((e["extension"]["lab"] for e in extensions if e["name"] == EXTENSION), None)
        if name is None:
            return None
        cluster = next(c for c in config["clusters"] if c["name"] == context["cluster"])["cluster"]
        user = next(u for u in config["users"] if u["name"] == context["user"])["user"]
        ca_pem = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cls(name, path, cluster["server"], ca_pem, user["token"])

    def info(self) -> dict[str, Any]:
        """Settings and state: name, workers, cni, proxy_mode, runs_on ("uml" …), kernel's own words, agent process."""
        return self._json("GET", "/lab/v1")

    def stats(self) -> dict[str, Any]:
        """Memory and processes now: ``rss_kb`` (all processes of the lab), ``processes``, ``namespaces``."""
        return self._json("GET", "/lab/v1/stats")

    def hosts(self) -> list[dict[str, Any]]:
        """The hosts by name, role (router, control-plane, worker, client) and address."""
        return self._json("GET", "/lab/v1/hosts")["hosts"]

    def proxy_mode(self, mode: str | None = None) -> str:
        """Tell kube-proxy's mode, or change it on the running lab.

        Every node gets the new rules before the old ones go, so requests go on meanwhile.

        Args:
            mode: "iptables", "nftables" or "ipvs"; None only asks.

        Returns:
            The mode that is in force on every node.

        Raises:
            LabError: there is no such mode, or a node's kernel did not take the rules; then the mode is as it was.
        """
        if mode is None:
            return self._json("GET", "/lab/v1/proxy-mode")["mode"]
        return self._json("POST", "/lab/v1/proxy-mode", {"mode": mode}, timeout=90)["mode"]

    def exec(self, host: str, argv: Sequence[str], stdin: str | None = None, timeout: float = 60) -> Completed:
        """Run a command of the machine in a host or pod and wait for its end.

        Args:
            host: a host's name, a pod's name, or NAMESPACE/POD.
            argv: program and arguments, no shell.
            stdin: text for its standard input.
            timeout: seconds until it is killed.

        Raises:
            LabError: no such host, or the lab does not answer.
        """
        body = {"host": host, "argv": list(argv), "stdin": stdin, "timeout": timeout}
        return Completed(**self._json("POST", "/lab/v1/exec", body, timeout=timeout + 10))

    def visit(
        self,
        host: str,
        requests: Sequence[dict[str, Any]],
        concurrency: int = 8,
        timeout: float = 2.0,
        rate: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Send HTTP requests from a host, a new connection each; yields a result as each ends.

        Args:
            host: where the requests start: a client, a node or a pod.
            requests: ``{"id": int, "url": str, "headers": {}}`` each.
            concurrency: how many are under way at once.
            timeout: seconds a request may take.
            rate: requests a second at most.

        Yields:
            ``id, sent_at`` (ns since the epoch), ``client_ip, client_port, status`` (or None), ``error`` ("" if
            answered), ``latency_ms, body``.
        """
        body = {
            "host": host,
            "requests": list(requests),
            "concurrency": concurrency,
            "timeout": timeout,
            "rate": rate,
        }
        connection = self._connect(timeout=timeout + 30)
        try:
            answer = self._send(connection, "POST", "/lab/v1/visit", body)
            done = 0
            for line in answer:
                message = json.loads(line)
                if "error" in message:
                    raise LabError(f"{message['error']}; {done} of {len(requests)} requests were done", _LABS)
                done += len(message["done"])
                yield from message["done"]
            if done < len(requests):
                raise LabError(f"lab {self.name!r} ended when {done} of {len(requests)} requests were done", _LABS)
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from error
        finally:
            connection.close()

    def trace(self, host: str, target: str) -> Trace:
        """Send one request and follow its first packet through the rules of every node, as their kernels tell it.

        For the time of the request the nodes mark new TCP connections for tracing; afterwards they are as they were.
        The machine needs the programs nft, iptables-legacy-save and conntrack.

        Args:
            host: where the request starts: a client, a node or a pod.
            target: ``address:port``, asked for over HTTP; it has 0.9 s to answer.

        Returns:
            The request's result, the rules that its packet met, and its conntrack entries. A packet that no node saw
            has no steps.

        Raises:
            LabError: a node's kernel or programs cannot do it, the rules changed meanwhile, or so much else was sent
                that messages were lost.
        """
        return read_trace(self._json("POST", "/lab/v1/trace", {"host": host, "url": f"http://{target}/"}, timeout=60))

    def open_url(self, host: str, argv: Sequence[str], tty: bool) -> str:
        """The websocket address at which a command runs with its streams attached."""
        query = urlencode({"host": host, "argv": json.dumps(list(argv)), "tty": "1" if tty else ""})
        return f"wss{self.url.removeprefix('https')}/lab/v1/open?{query}"

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        address = urlsplit(self.url)
        return http.client.HTTPSConnection(
            address.hostname or "127.0.0.1", address.port, timeout=timeout, context=self.ssl_context
        )

    def _send(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: Any = None
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status >= 400:
            text = answer.read().decode(errors="replace")
            try:
                message = json.loads(text)["message"]
            except (ValueError, KeyError, TypeError):
                message = text[:200] or f"HTTP {answer.status}"
            raise LabError(
                message, "The lab has another token now: run connect() again" if answer.status == 401 else ""
            )
        return answer

    def _json(self, method: str, path: str, body: Any = None, timeout: float = 30) -> Any:
        connection = self._connect(timeout)
        try:
            return json.loads(self._send(connection, method, path, body).read())
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from error
        finally:
            connection.close()

    def _gone(self, error: Exception) -> LabError:
        return LabError(f"lab {self.name!r} does not answer ({error})", _LABS)
