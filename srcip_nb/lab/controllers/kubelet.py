"""The kubelets: one loop that looks after the pods of every node of the lab, each pod in a task of its own.

What the agent tells of containers (their lines, their end) comes in here and goes to the pod it is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.controllers.kubelet_pod import AddressPool, PodWorker
from srcip_nb.lab.controllers.loop import Controller, KeysOf
from srcip_nb.lab.controllers.objects import Key, Object, key_of
from srcip_nb.lab.topology import Topology

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store
    from srcip_nb.lab.kernel import Agent


class Kubelet(Controller[Key]):
    """Pods with a node -> namespaces, programs, logs and status.

    Args:
        store: the objects.
        agent: the kernel's part.
        topology: the nodes.
        podlogs: where the containers' lines go.
    """

    name = "kubelet"

    def __init__(self, store: Store, agent: Agent, topology: Topology, podlogs: PodLogs) -> None:
        super().__init__(store)
        self._agent = agent
        self._topology = topology
        self._podlogs = podlogs
        self._hosts = {host.name: host for host in topology.nodes}
        self._pools = {host.name: AddressPool(topology.pod_addresses(host), host.pod_block) for host in topology.nodes}
        self._workers: dict[Key, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        agent.on("log", self._on_log)
        agent.on("exited", self._on_exited)

    def watched(self) -> dict[str, KeysOf[Key]]:
        """Pods on the lab's nodes, and the ConfigMaps that they read."""
        return {"pods": self._own, "configmaps": self._readers}

    def _own(self, pod: Object) -> Iterable[Key]:
        return [key_of(pod)] if pod["spec"].get("nodeName") in self._hosts else []

    def _readers(self, configmap: Object) -> Iterable[Key]:
        namespace, name = key_of(configmap)
        return [key for key, worker in self._workers.items() if key[0] == namespace and name in worker.configmaps]

    async def reconcile(self, key: Key) -> float | None:
        """Wake the pod's worker, or give it one."""
        namespace, name = key
        worker = self._workers.get(key)
        if worker is not None:
            worker.wake()
            return None
        pod = self.store.peek("pods", namespace, name)
        if pod is None or pod["spec"].get("nodeName") not in self._hosts:
            return None
        host = self._hosts[pod["spec"]["nodeName"]]
        worker = PodWorker(
            self.store,
            self._agent,
            self._podlogs,
            self._topology,
            host,
            self._pools[host.name],
            pod,
            self._wake_all,
        )
        self._workers[key] = worker
        task = asyncio.ensure_future(self._look_after(key, worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _look_after(self, place: Key, worker: PodWorker) -> None:
        try:
            await worker.run()
        finally:
            del self._workers[place]
            self.queue.add(place)  # another pod of this name may have been waiting for its turn

    def _wake_all(self) -> None:
        for worker in self._workers.values():
            worker.wake()

    async def run(self) -> None:
        """Look after all pods until cancelled; what already runs goes on when this is started again after a fault."""
        self._wake_all()
        try:
            await super().run()
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise

    def _worker_of(self, event: dict[str, Any]) -> PodWorker | None:
        namespace, _, name = event["pod"].partition("/")
        return self._workers.get((namespace, name))

    def _on_log(self, event: dict[str, Any]) -> None:
        namespace, _, name = event["pod"].partition("/")
        self._podlogs.append(namespace, name, event["container"], event["time"], event["text"])
        worker = self._worker_of(event)
        container = worker.container(event["container"]) if worker else None
        if container:
            container.logged(event["text"])

    def _on_exited(self, event: dict[str, Any]) -> None:
        worker = self._worker_of(event)
        container = worker.container(event["container"]) if worker else None
        if container:
            container.exited(int(event["code"]))
