"""A lab's kernel side alone, for tests: an agent, the hosts, pods with a small nginx, rules made by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from srcip_nb.lab.kernel import Agent, start_agent
from srcip_nb.lab.topology import Topology, masquerade_rules, pod_text, topology, topology_text

T = TypeVar("T")

NGINX_CONF = """\
user root;
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
  access_log /dev/stdout;
  server {
    listen 80;
    root /usr/share/nginx/html;
    location = /who { default_type text/plain; return 200 "$remote_addr\\n"; }
  }
}
"""
NGINX = ["nginx", "-g", "daemon off;"]

# What kube-proxy does for one Service of type LoadBalancer under Cluster, in as few rules as show it.
CLUSTER_RULES = """\
*nat
-A PREROUTING -d 192.168.1.56/32 -p tcp --dport 80 -j MARK --set-mark 0x4000
-A PREROUTING -d 192.168.1.56/32 -p tcp --dport 80 -j DNAT --to-destination {endpoint}:80
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
COMMIT
"""
LOCAL_RULES = """\
*nat
-A PREROUTING -d 192.168.1.56/32 -p tcp --dport 80 -j DNAT --to-destination {endpoint}:80
COMMIT
"""


class KernelLab:
    """An agent with a topology, and an event loop to speak to it."""

    def __init__(self, t: Topology, kernel: str = "auto") -> None:
        self.loop = asyncio.new_event_loop()
        self.topology = t
        self.events: list[dict[str, Any]] = []
        self.agent: Agent = self.run(start_agent(kernel))
        for name in ("log", "exited"):
            self.agent.on(name, self.events.append)
        self.call("configure", text=topology_text(t))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def call(self, op: str, **arguments: Any) -> Any:
        return self.run(self.agent.call(op, **arguments))

    def exec(self, host: str, *argv: str, stdin: str | None = None, **more: Any) -> str:
        done = self.call("exec", host=host, argv=list(argv), stdin=stdin, timeout=20, **more)
        assert done["code"] == 0, done
        return done["stdout"]

    def collect(self, op: str, **arguments: Any) -> tuple[list[dict[str, Any]], Any]:
        async def collect() -> tuple[list[dict[str, Any]], Any]:
            stream = self.agent.stream(op, **arguments)
            return [event async for event in stream], stream.result

        return self.run(collect())

    def wait_for(self, condition: Any) -> None:
        """Let events in until a condition holds (run's time limit ends it)."""

        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.002)

        self.run(wait())

    def add_pod(self, name: str, node: str, address: str, files: dict[str, Any] | None = None, **more: Any) -> str:
        t = self.topology
        pod = f"seminar/{name}"
        text = pod_text(t, t.host(node), "seminar", name, address)
        self.call("pod_add", pod=pod, text=text, files=files or {}, **more)
        return pod

    def add_nginx(self, name: str, node: str, address: str) -> str:
        files = {"/etc/nginx/nginx.conf": NGINX_CONF, "/usr/share/nginx/html/index.html": ""}
        pod = self.add_pod(name, node, address, files)
        self.call("start", pod=pod, container="nginx", argv=NGINX)
        while self.get(node, f"http://{address}/who")["error"] == "refused":
            pass
        return pod

    def get(self, host: str, url: str, timeout: float = 3.0) -> dict[str, Any]:
        requests = [{"id": 0, "url": url}]
        events, _ = self.collect("visit", host=host, requests=requests, concurrency=1, timeout=timeout)
        return events[0]["done"][0]

    def restore(self, host: str, rules: str) -> None:
        self.exec(host, "iptables-legacy-restore", "-w", stdin=rules)
        own = masquerade_rules(self.topology, self.topology.host(host))
        if own:
            self.exec(host, "iptables-legacy-restore", "-w", "--noflush", stdin=own)

    def close(self) -> None:
        self.run(self.agent.close())
        self.loop.close()


@contextlib.contextmanager
def kernel_lab(
    workers: int = 2, clients: int = 1, cni: str = "calico", announce: str = "l2", kernel: str = "auto"
) -> Iterator[KernelLab]:
    lab = KernelLab(topology(workers, clients, cni, announce), kernel)
    try:
        yield lab
    finally:
        lab.close()
