"""One pod on its node, from its address to its removal: the part of a kubelet that looks after a pod as a whole.

A `PodWorker` is woken when anything about the pod changes (the API's object, a ConfigMap, a container) and then looks
at all of it: is it there, is it going, has it a network, are its files as its volumes say, do its containers run.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from srcip_nb.errors import SrcipError
from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.kubelet_container import Container, Site
from srcip_nb.lab.controllers.kubelet_status import PodView, pod_status
from srcip_nb.lab.controllers.kubelet_volumes import Content, MountError, Mounts, mounts_of, unhonoured_fields
from srcip_nb.lab.controllers.objects import Object, is_finished, is_terminating, key_of, now
from srcip_nb.lab.images import find_image
from srcip_nb.lab.topology import Host, Topology, pod_text

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store
    from srcip_nb.lab.kernel import Agent

_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0


class AddressPool:
    """The addresses of a node's pods, given out in turn: one that was given back is the last to be used again.

    Args:
        addresses: what pods of the node may have, lowest first.
        block: the node's block, for the message.
    """

    def __init__(self, addresses: Sequence[str], block: str) -> None:
        gateway_like = block.split("/")[0].rpartition(".")[0] + "."
        # .1 of the block comes last: where a pod network has a gateway, it is there, and a pod with it is misread.
        first = str(int(block.split("/")[0].rpartition(".")[2]) + 1)
        usual = [address for address in addresses if address != gateway_like + first]
        self._free = usual + [address for address in addresses if address == gateway_like + first]

    def take(self) -> str:
        """The next address, "" when all are in use."""
        return self._free.pop(0) if self._free else ""

    def give_back(self, address: str) -> None:
        """Put an address at the end of the line."""
        self._free.append(address)


class PodWorker:
    """Looks after one pod until nothing of it is left.

    Args:
        store: the objects.
        agent: the kernel's part.
        podlogs: where its containers' logs go.
        topology: for the pod's network.
        host: the pod's node.
        pool: the node's addresses.
        pod: the pod, as stored.
        on_address_freed: called when its address may be used again.
    """

    def __init__(
        self,
        store: Store,
        agent: Agent,
        podlogs: PodLogs,
        topology: Topology,
        host: Host,
        pool: AddressPool,
        pod: Object,
        on_address_freed: Callable[[], None],
    ) -> None:
        self._store = store
        self._agent = agent
        self._podlogs = podlogs
        self._topology = topology
        self._host = host
        self._pool = pool
        self._on_address_freed = on_address_freed
        self.namespace, self.name = key_of(pod)
        self.uid: str = pod["metadata"]["uid"]
        self._agent_name = f"{self.namespace}/{self.name}"
        self._is_on_host_network = bool(pod["spec"].get("hostNetwork"))
        self._wake = asyncio.Event()
        site = Site(store, agent, podlogs, host.name, host.address, self.wake)
        spec = pod["spec"]
        self.init_containers = [Container(site, pod, c, is_init=True) for c in spec.get("initContainers") or []]
        self.containers = [Container(site, pod, c) for c in spec["containers"]]
        self._view = PodView(
            host.address,
            now(),
            containers=[c.view for c in self.containers],
            init_containers=[c.view for c in self.init_containers],
        )
        if self.init_containers:
            for container in self.containers:
                container.view.state = {"waiting": {"reason": "PodInitializing"}}
        self._files: dict[str, Content] = {}
        self.configmaps: set[str] = set()
        self._told: set[str] = set()
        self._retry = 0.0
        self._over = False

    def wake(self) -> None:
        """Have the pod looked at."""
        self._wake.set()

    async def run(self) -> None:
        """Look after the pod until it is gone."""
        while not self._over:
            self._wake.clear()
            try:
                await self._look()
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
                self.wake()  # it changed meanwhile: look again
            except Exception:  # one pod's fault must not end the others; it is looked at again
                print(f"srcip-nb lab: looking after pod {self._agent_name} failed", file=sys.stderr)
                traceback.print_exc()
                self._look_again_in(1.0)
            if not self._over:
                await self._wake.wait()

    def _look_again_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.wake)

    def _stored(self) -> Object | None:
        """The pod as it is now; None when it, and not another of its name, is gone."""
        pod = self._store.peek("pods", self.namespace, self.name)
        return pod if pod is not None and pod["metadata"]["uid"] == self.uid else None

    async def _look(self) -> None:
        pod = self._stored()
        if pod is None:
            await self._remove()
        elif is_terminating(pod):
            await self._terminate(pod)
        elif is_finished(pod):
            return
        else:
            is_prepared = await self._refresh_files(pod) if self._view.has_network else await self._prepare(pod)
            if is_prepared:
                await self._sync_containers(pod)
            self._write_status()

    # -- network and files -------------------------------------------------------------------------------------------

    async def _prepare(self, pod: Object) -> bool:
        """Give the pod its address, its namespaces and its files; False while that cannot be."""
        self._write_status()
        self._warn_of_unhonoured(pod)
        refusal = _refusal(pod)
        if refusal:
            self._tell(pod, "FailedCreatePodSandBox", refusal)
            return False
        mounts = self._mounts(pod)
        if mounts is None:
            return False
        address = self._host.address if self._is_on_host_network else self._view.pod_ip or self._pool.take()
        if not address:
            message = f"no IP addresses available in {self._host.pod_block} of {self._host.name}"
            self._tell(pod, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}")
            return False
        self._view.pod_ip = address
        files = _files_of(pod, mounts)
        if self._is_on_host_network:
            network = {"host": self._host.name}
        else:
            network = {"text": pod_text(self._topology, self._host, self.namespace, self.name, address)}
        try:
            await self._agent.call("pod_add", pod=self._agent_name, **network, files=files, empty=mounts.directories)
        except SrcipError as error:
            self._retry = min(self._retry * 2 or _FIRST_RETRY, _LAST_RETRY)
            self._tell(pod, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error.cause}")
            self._look_again_in(self._retry)
            return False
        self._files = files
        self._view.has_network = True
        return True

    async def _refresh_files(self, pod: Object) -> bool:
        """Bring what has changed in a ConfigMap, or with a new image, into the pod's files."""
        mounts = self._mounts(pod)
        if mounts is None:
            return True  # what is mounted stays
        files = _files_of(pod, mounts)
        written = {path: content for path, content in files.items() if self._files.get(path) != content}
        removed = [path for path in self._files if path not in files]
        if written or removed:
            await self._agent.call("pod_write", pod=self._agent_name, files=written, remove=removed)
            self._files = files
        return True

    def _configmap(self, name: str) -> Object | None:
        return self._store.peek("configmaps", self.namespace, name)

    def _mounts(self, pod: Object) -> Mounts | None:
        self.configmaps = _configmaps_named(pod)
        try:
            return mounts_of(pod, self._configmap)
        except MountError as error:
            if not self._view.has_network:
                self._tell(pod, "FailedMount", str(error))
            return None

    def _warn_of_unhonoured(self, pod: Object) -> None:
        fields = unhonoured_fields(pod)
        if fields:
            self._tell(pod, "NotHonoured", f"the lab does nothing about {', '.join(fields)}")

    # -- containers --------------------------------------------------------------------------------------------------

    async def _sync_containers(self, pod: Object) -> None:
        for container in self.init_containers:
            if not container.has_succeeded:
                if not self._is_leaving():
                    await container.sync(pod, self._view.pod_ip, self._configmap)
                return
        for container in self.containers:  # in the spec's order, as a kubelet starts them
            if self._is_leaving():
                return
            await container.sync(pod, self._view.pod_ip, self._configmap)

    def _is_leaving(self) -> bool:
        """Whether the pod was deleted while it was worked on: nothing more of it is started."""
        pod = self._stored()
        return pod is None or is_terminating(pod)

    def container(self, name: str) -> Container | None:
        """The container of that name."""
        return next((c for c in [*self.containers, *self.init_containers] if c.name == name), None)

    def _write_status(self) -> None:
        pod = self._stored()
        if pod is None:
            return
        status = pod_status(pod, self._view, now())
        if status != pod.get("status"):
            self._store.update("pods", {**pod, "status": status}, subresource="status", manager="kubelet")

    # -- its end -----------------------------------------------------------------------------------------------------

    async def _terminate(self, pod: Object) -> None:
        """Stop the containers, within the grace period, and then take the pod out of the store.

        A second deletion with a shorter period shortens what is under way.
        """
        grace = _grace_of(pod)
        running = [c for c in [*self.containers, *self.init_containers] if c.is_running]
        stopping = asyncio.ensure_future(_all(c.stop_for_good(grace) for c in running))
        while not stopping.done():
            self._wake.clear()
            waking = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait({stopping, waking}, return_when=asyncio.FIRST_COMPLETED)
            waking.cancel()
            marked = self._stored()
            if marked is None:  # deleted by force meanwhile: nobody waits for the containers any more
                stopping.cancel()
                await asyncio.gather(stopping, return_exceptions=True)
                await self._remove()
                return
            if _grace_of(marked) < grace:
                grace = _grace_of(marked)
                stopping.cancel()
                await asyncio.gather(stopping, return_exceptions=True)
                stopping = asyncio.ensure_future(_all(c.stop_within(grace) for c in running))
        await stopping
        self._view.stopped = True
        self._write_status()
        await self._take_down()
        self._store.delete("pods", self.namespace, self.name, grace=0, preconditions={"uid": self.uid})
        self._podlogs.remove(self.namespace, self.name)
        self._over = True

    async def _remove(self) -> None:
        await self._take_down()
        self._podlogs.remove(self.namespace, self.name)
        self._over = True

    async def _take_down(self) -> None:
        for container in [*self.containers, *self.init_containers]:
            container.forget()
        if self._view.has_network:
            self._view.has_network = False
            await self._agent.call("pod_del", pod=self._agent_name)
        if self._view.pod_ip and not self._is_on_host_network:
            self._pool.give_back(self._view.pod_ip)
            self._on_address_freed()
        self._view.pod_ip = ""

    def _tell(self, pod: Object, reason: str, message: str) -> None:
        """A warning, told once while the reason stays the same."""
        if message not in self._told:
            self._told.add(message)
            record(self._store, pod, reason, message, "Warning", component="kubelet", host=self._host.name)


def _refusal(pod: Object) -> str:
    """Why the lab cannot run a pod of this kind at all; "" when it can."""
    if any(c.get("restartPolicy") == "Always" for c in pod["spec"].get("initContainers") or []):
        return "the lab runs no sidecars (init containers with restartPolicy Always); make them containers of the pod"
    return ""


def _grace_of(pod: Object) -> float:
    return float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)


async def _all(coroutines: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*coroutines)


def _files_of(pod: Object, mounts: Mounts) -> dict[str, Content]:
    """The files of the pod's images, save where a volume lies over them, and the volumes'."""
    files: dict[str, Content] = {}
    for container in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]:
        image = find_image(container["image"])
        if image:
            files.update(image.files)
    covered = tuple(f"{directory}/" for directory in mounts.directories)
    return {path: text for path, text in files.items() if not path.startswith(covered)} | mounts.files


def _configmaps_named(pod: Object) -> set[str]:
    """Names of the ConfigMaps that a pod's volumes and variables refer to."""
    names = set()
    for volume in pod["spec"].get("volumes") or []:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        names |= {source["configMap"].get("name", "") for source in sources if "configMap" in source}
    for container in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]:
        for source in container.get("envFrom") or []:
            names.add((source.get("configMapRef") or {}).get("name", ""))
        for variable in container.get("env") or []:
            names.add(((variable.get("valueFrom") or {}).get("configMapKeyRef") or {}).get("name", ""))
    return names - {""}
