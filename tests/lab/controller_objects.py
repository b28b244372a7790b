"""Objects and a stand-in for the agent, for the controllers' tests."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any

from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.api.resources import RESOURCES
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.controllers.kubelet import Kubelet
from srcip_nb.lab.controllers.loop import keep_all_running
from srcip_nb.lab.controllers.objects import is_ready
from srcip_nb.lab.controllers.run import fill, object_controllers
from srcip_nb.lab.kernel import start_agent
from srcip_nb.lab.topology import topology, topology_text

Object = dict[str, Any]

_numbers = itertools.count(1)
STAMP = "2026-11-22T14:26:58Z"


def meta(name: str, **fields: Any) -> Object:
    uid = fields.pop("uid", f"uid-{next(_numbers)}")
    return {"name": name, "namespace": "seminar", "uid": uid, "creationTimestamp": STAMP, "generation": 1, **fields}


def deployment(replicas: int = 2, image: str = "nginx:latest", **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "nginx", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta("web", uid="uid-web"),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            **spec,
        },
        "status": {},
    }


def pod(name: str, ip: str = "", node: str = "", ready: bool = False, owner: str = "", **fields: Any) -> Object:
    obj: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, labels={"app": "web"}),
        "spec": {"containers": [{"name": "nginx", "image": "nginx"}], "restartPolicy": "Always"},
        "status": {"phase": "Running" if ready else "Pending"},
    }
    if ip:
        obj["status"]["podIP"] = ip
    if node:
        obj["spec"]["nodeName"] = node
    if ready:
        obj["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": STAMP}]
    if owner:
        reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": owner, "controller": True}
        obj["metadata"]["ownerReferences"] = [reference]
    obj["metadata"].update(fields.pop("metadata", {}))
    obj["spec"].update(fields.pop("spec", {}))
    return obj


def node(name: str, taints: list[Object] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"kubernetes.io/hostname": name}},
        "spec": {**({"taints": taints} if taints else {}), **spec},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"pods": "61"}},
    }


CONTROL_PLANE_TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


def three_nodes() -> list[Object]:
    return [node("master01", [CONTROL_PLANE_TAINT]), node("worker01"), node("worker02")]


def service(**spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta("web", uid="uid-service", labels={"app": "web"}),
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], **spec},
    }


class FakeStream:
    def __init__(self, events: list[Object]) -> None:
        self._events = events

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        for event in self._events:
            yield event


class FakeAgent:
    """Takes the kubelet's requests: nginx starts, logs that it listens, ends when asked."""

    def __init__(self) -> None:
        self.ready = {"kernel": "6.18.0"}
        self.calls: list[tuple[str, Object]] = []
        self.handlers: dict[str, list[Callable[[Object], None]]] = {}
        self.running: set[tuple[str, str]] = set()
        self.pods: dict[str, Object] = {}
        self.crashes_with: int | None = None
        self.logs_start = True
        self.stop_waits: asyncio.Event | None = None
        self.probe_result: Object = {"status": 200, "error": ""}

    def on(self, event: str, handler: Callable[[Object], None]) -> None:
        self.handlers.setdefault(event, []).append(handler)

    def emit(self, event: str, **fields: Any) -> None:
        for handler in self.handlers.get(event, []):
            handler({"event": event, **fields})

    def named(self, op: str) -> list[Object]:
        return [arguments for name, arguments in self.calls if name == op]

    async def call(self, op: str, **arguments: Any) -> Any:
        self.calls.append((op, arguments))
        await asyncio.sleep(0)
        return await getattr(self, f"_{op}")(**arguments)

    def stream(self, op: str, **arguments: Any) -> FakeStream:
        self.calls.append((op, arguments))
        return FakeStream([{"done": [{"id": 0, **self.probe_result}]}])

    async def _pod_add(self, pod: str, files: Object, empty: list[str], text: str = "", host: str = "") -> None:
        self.pods[pod] = dict(files)

    async def _pod_write(self, pod: str, files: Object, remove: list[str]) -> None:
        self.pods[pod].update(files)
        for path in remove:
            del self.pods[pod][path]

    async def _pod_del(self, pod: str) -> None:
        del self.pods[pod]
        self.running = {key for key in self.running if key[0] != pod}

    async def _start(self, pod: str, container: str, argv: list[str], env: Object) -> Object:
        self.running.add((pod, container))
        loop = asyncio.get_running_loop()
        line = "2026/11/22 14:26:59 [notice] 1#1: start worker processes\n"
        if self.logs_start:
            where = {"pod": pod, "container": container, "time": 1, "stream": "stderr"}
            loop.call_soon(lambda: self.emit("log", text=line, **where))
        if self.crashes_with is not None:
            loop.call_soon(self.end, pod, container, self.crashes_with)
        return {"pid": 7}

    def end(self, pod: str, container: str, code: int) -> None:
        self.running.discard((pod, container))
        self.emit("exited", pod=pod, container=container, pid=7, code=code)

    async def _stop(self, pod: str, container: str, grace: float, signal: str) -> Object:
        if self.stop_waits:
            await self.stop_waits.wait()
        if (pod, container) not in self.running:
            return {"code": None}
        self.end(pod, container, 0)
        return {"code": 0}

    async def _exec(self, **arguments: Any) -> Object:
        return {"code": 0, "stdout": "", "stderr": ""}


class Running:
    """A store with the controllers that need no kernel, and the kubelet over an agent."""

    def __init__(self, agent: Any) -> None:
        self.store = Store()
        self.podlogs = PodLogs()
        self.agent = agent
        self.topology = topology()
        fill(self.store, self.topology, kernel="6.18.0")
        self._changes = self.store.changes(*RESOURCES)

    async def __aenter__(self) -> Running:
        self.kubelet = Kubelet(self.store, self.agent, self.topology, self.podlogs)
        parts = [*object_controllers(self.store, self.topology, ca_pem="PEM"), ("kubelet", self.kubelet.run)]
        self._task = asyncio.ensure_future(keep_all_running(parts))
        self.store.create("namespaces", {"metadata": {"name": "seminar"}})
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> Any:
        """Return what the condition gives as soon as it gives something true.

        Looked at after each change of an object, and now and then between them: a pod's log is none.
        """
        changed = time.monotonic()
        while not (found := condition()):
            if await self._changes.wait(0.05):
                changed = time.monotonic()
            elif time.monotonic() - changed > seconds:
                raise AssertionError(f"did not come about in {seconds} s; events: {self.events()}")
        return found

    async def rest(self) -> None:
        """Return when nothing has changed for a moment."""
        while await self._changes.wait(0.1):
            pass

    def create(self, resource: str, obj: Object) -> Object:
        obj["metadata"].setdefault("namespace", "seminar")
        return self.store.create(resource, obj)

    def create_pod(self, name: str = "web", **spec: Any) -> Object:
        container = spec.pop("container", {})
        spec.setdefault("containers", [{"name": "nginx", "image": "nginx", **container}])
        return self.create("pods", {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec})

    def create_deployment(self, replicas: int = 2, **template: Any) -> Object:
        spec = {"containers": [{"name": "nginx", "image": "nginx"}], **template}
        labels = {"app": "web"}
        wanted = {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }
        return self.create("deployments", {"metadata": {"name": "web"}, "spec": wanted})

    def get(self, resource: str, name: str, namespace: str = "seminar") -> Object | None:
        return self.store.peek(resource, namespace, name)

    def pods(self) -> list[Object]:
        return self.store.list("pods", "seminar")

    def container(self, name: str = "web") -> Object:
        """The first container's status, with reason: what its state is called."""
        found = self.get("pods", name)
        statuses = ((found or {}).get("status") or {}).get("containerStatuses") or [{"state": {"none": {}}}]
        ((state, details),) = statuses[0]["state"].items()
        return {**statuses[0], "is": details.get("reason") or state}

    async def until_ready(self, name: str = "web") -> Object:
        return await self.until(lambda: (found := self.get("pods", name)) and is_ready(found) and found)

    def events(self, name: str = "") -> list[tuple[str, str]]:
        found = [e for e in self.store.list("events", "seminar") if name in e["involvedObject"]["name"]]
        return [(e["reason"], e["message"]) for e in found]


def run(test: Callable[[Running], Coroutine[Any, Any, None]], kernel: bool = False) -> None:
    """Run a test in a running cluster of its own, over a `FakeAgent` or a real one."""

    async def main() -> None:
        agent: Any = await start_agent() if kernel else FakeAgent()
        try:
            async with Running(agent) as cluster:
                if kernel:
                    await agent.call("configure", text=topology_text(cluster.topology))
                await asyncio.wait_for(test(cluster), 60)
        finally:
            if kernel:
                await agent.close()

    asyncio.run(main())
