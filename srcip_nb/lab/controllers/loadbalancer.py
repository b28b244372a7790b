"""MetalLB's part: addresses for LoadBalancer Services, each announced by one node.

    controller   status.loadBalancer.ingress and Event IPAllocated, or AllocationFailed
    speaker      the leader's real ARP answers, and Event nodeAssigned; a new leader tells the LAN by a gratuitous ARP

What is decided is in proxy/vips.py; here it is carried out, and again whenever a Service, an EndpointSlice or a Node
changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from srcip_nb.errors import LabError
from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.objects import Object, copied
from srcip_nb.lab.proxy.model import ServiceKey
from srcip_nb.lab.proxy.node import CallsAgent
from srcip_nb.lab.proxy.vips import Assignment, allocate, is_load_balancer, leader, pool_addresses, present_addresses
from srcip_nb.lab.topology import VIP_POOL

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store
    from srcip_nb.lab.topology import Topology

CONTROLLER, SPEAKER = "metallb-controller", "metallb-speaker"

RETRY_AFTER = 1.0
"""Seconds after which an announcement that failed is tried again."""


class LoadBalancer:
    """Gives and announces the addresses of a lab's LoadBalancer Services.

    Args:
        store: the API's objects.
        agent: announces an address on a host.
        topology: which hosts are nodes.
        pool: the addresses to give.
    """

    def __init__(
        self, store: Store, agent: CallsAgent, topology: Topology, pool: tuple[str, ...] = pool_addresses(*VIP_POOL)
    ) -> None:
        self._store = store
        self._agent = agent
        self._hosts = {host.name for host in topology.nodes}
        self._pool = pool
        self._announced: dict[str, str] = {}
        self._told: dict[ServiceKey, str] = {}
        self._failed = False

    @property
    def announced(self) -> dict[str, str]:
        """Address -> the node that answers ARP for it now."""
        return dict(self._announced)

    async def run(self) -> None:
        """Give and announce addresses until cancelled."""
        changes = self._store.changes("services", "endpointslices", "nodes")
        try:
            while True:
                await self.sync()
                await changes.wait(RETRY_AFTER if self._failed else None)
        finally:
            changes.close()

    async def sync(self) -> None:
        """Do once what the state of the API asks for."""
        self._failed = False
        self._assign()
        wanted = self._leaders()
        for address, node in list(self._announced.items()):
            if wanted.get(address, ("", {}))[0] != node:
                await self._withdraw(address, node)
        for address, (node, service) in wanted.items():
            if address not in self._announced:
                await self._announce(address, node, service)

    # -- controller ----------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        services = self._store.list("services")
        decided = allocate(services, self._pool)
        for service in services:
            key = (service["metadata"]["namespace"], service["metadata"]["name"])
            if key in decided:
                self._carry_out(service, key, decided[key])
            elif service["spec"].get("type") != "LoadBalancer" and present_addresses(service):
                self._write(service, ())
        for gone in self._told.keys() - decided.keys():
            del self._told[gone]

    def _carry_out(self, service: Object, key: ServiceKey, assignment: Assignment) -> None:
        differs = set(assignment.addresses) != set(present_addresses(service))
        if differs and not self._write(service, assignment.addresses):
            return
        if assignment.is_new:
            shown = " ".join(f'"{address}"' for address in assignment.addresses)
            record(self._store, service, "IPAllocated", f"Assigned IP [{shown}]", component=CONTROLLER)
        if assignment.error and self._told.get(key) != assignment.error:
            if assignment.addresses:
                reason, message = "LoadBalancerFailed", assignment.error
            else:
                reason, message = (
                    "AllocationFailed",
                    f'Failed to allocate IP for "{key[0]}/{key[1]}": {assignment.error}',
                )
            record(self._store, service, reason, message, "Warning", component=CONTROLLER)
        self._told[key] = assignment.error

    def _write(self, service: Object, addresses: tuple[str, ...]) -> bool:
        """Write the addresses into the Service's status; False if it was changed or deleted meanwhile."""
        changed = copied(service)
        ingress = [{"ip": address, "ipMode": "VIP"} for address in addresses]
        changed.setdefault("status", {})["loadBalancer"] = {"ingress": ingress} if ingress else {}
        try:
            self._store.update("services", changed, subresource="status", manager=CONTROLLER)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return False  # that change brings the next sync
        return True

    # -- speaker -------------------------------------------------------------------------------------------------------

    def _leaders(self) -> dict[str, tuple[str, Object]]:
        """Address -> the node that is to announce it, and the Service."""
        nodes = [node for node in self._store.list("nodes") if node["metadata"]["name"] in self._hosts]
        slices = self._store.list("endpointslices")
        wanted: dict[str, tuple[str, Object]] = {}
        for service in self._store.list("services"):
            for address in present_addresses(service) if is_load_balancer(service) else ():
                # Services that share an address are announced by one node: the first one's leader.
                node = leader(address, nodes, service, slices) if address in self._pool else None
                if node is not None:
                    wanted.setdefault(address, (node, service))
        return wanted

    async def _withdraw(self, address: str, node: str) -> None:
        try:
            await self._agent.call("withdraw", host=node, address=address)
        except LabError:
            self._failed = True  # tried again; until then two nodes might answer, so no other node announces it
            return
        del self._announced[address]

    async def _announce(self, address: str, node: str, service: Object) -> None:
        try:
            await self._agent.call("announce", host=node, address=address)
        except LabError as error:
            self._failed = True
            message = f'announcing {address} from node "{node}" failed: {error.cause}'
            record(self._store, service, "announceFailed", message, "Warning", component=SPEAKER, host=node)
            return
        self._announced[address] = node
        message = f'announcing from node "{node}" with protocol "layer2"'
        record(self._store, service, "nodeAssigned", message, component=SPEAKER, host=node)


async def run_loadbalancer(store: Store, agent: CallsAgent, topology: Topology) -> None:
    """Give and announce addresses until cancelled."""
    await LoadBalancer(store, agent, topology).run()
