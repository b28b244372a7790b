"""MetalLB's part: addresses for LoadBalancer Services, each announced by one node (layer 2) or by several (BGP).

    controller   status.loadBalancer.ingress and Event IPAllocated, or AllocationFailed
    speaker      layer2: the leader's real ARP answers; a new leader tells the LAN by a gratuitous ARP
                 bgp:    the router's route to the address, with a next hop for each node that announces it
                 either: Event nodeAssigned for each node that begins to announce

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
from srcip_nb.lab.proxy.vips import (
    Assignment,
    allocate,
    bgp_nodes,
    is_load_balancer,
    leader,
    pool_addresses,
    present_addresses,
    route_text,
)
from srcip_nb.lab.topology import VIP_POOL

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store
    from srcip_nb.lab.topology import Topology

CONTROLLER, SPEAKER = "metallb-controller", "metallb-speaker"

PROTOCOLS = {"l2": "layer2", "bgp": "bgp"}  # MetalLB's words

Wanted = dict[str, dict[str, list[Object]]]
"""Address -> node that is to announce it -> for which Services."""

RETRY_AFTER = 1.0
"""Seconds after which an announcement that failed is tried again."""


class LoadBalancer:
    """Gives and announces the addresses of a lab's LoadBalancer Services.

    Args:
        store: the API's objects.
        agent: announces an address on a host, changes the router's routes.
        topology: which hosts are nodes, and how addresses are announced.
        pool: the addresses to give.
    """

    def __init__(
        self, store: Store, agent: CallsAgent, topology: Topology, pool: tuple[str, ...] = pool_addresses(*VIP_POOL)
    ) -> None:
        self._store = store
        self._agent = agent
        self._topology = topology
        self._hosts = {host.name for host in topology.nodes}
        self._pool = pool
        self._announced: dict[str, tuple[str, ...]] = {}
        self._told: dict[ServiceKey, str] = {}
        self._failed = False

    @property
    def announced(self) -> dict[str, tuple[str, ...]]:
        """Address -> the nodes that announce it now: the one that answers ARP, or the next hops of its route."""
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
        wanted = self._wanted()
        for address in [address for address in self._announced if address not in wanted]:
            await self._change(address, {})
        for address, nodes in wanted.items():
            await self._change(address, nodes)

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

    def _wanted(self) -> Wanted:
        """What the state of the API asks for."""
        nodes = [node for node in self._store.list("nodes") if node["metadata"]["name"] in self._hosts]
        slices = self._store.list("endpointslices")
        wanted: Wanted = {}
        for service in self._store.list("services"):
            for address in present_addresses(service) if is_load_balancer(service) else ():
                if address not in self._pool:
                    continue
                if self._topology.announce == "bgp":
                    # Of Services that share an address, each is announced by its own nodes.
                    for node in bgp_nodes(nodes, service, slices):
                        wanted.setdefault(address, {}).setdefault(node, []).append(service)
                elif address not in wanted and (led_by := leader(address, nodes, service, slices)):
                    # Services that share an address are announced by one node: the first one's leader.
                    wanted[address] = {led_by: [service]}
        return wanted

    async def _change(self, address: str, wanted: dict[str, list[Object]]) -> None:
        """Bring an address from the nodes that announce it to those that are to."""
        before, after = self._announced.get(address, ()), tuple(sorted(wanted))
        if before == after:
            return
        if self._topology.announce == "bgp":
            steps = [("configure", {"text": route_text(self._topology, address, after)}, after)]
        else:
            steps = [("withdraw", {"host": node, "address": address}, ()) for node in before]
            steps += [("announce", {"host": node, "address": address}, (node,)) for node in after]
        for op, arguments, announced in steps:
            try:
                await self._agent.call(op, **arguments)
            except LabError as error:
                self._failed = True
                # It is tried again; what could not be withdrawn is announced by no other, for two might answer.
                if op != "withdraw":
                    message = f'announcing {address} from node "{{node}}" failed: {error.cause}'
                    self._tell("announceFailed", message, wanted, before, "Warning")
                return
            self._announced[address] = announced
            if not announced:
                del self._announced[address]
        protocol = PROTOCOLS[self._topology.announce]
        self._tell("nodeAssigned", f'announcing from node "{{node}}" with protocol "{protocol}"', wanted, before)

    def _tell(
        self, reason: str, message: str, wanted: dict[str, list[Object]], before: tuple[str, ...], kind: str = "Normal"
    ) -> None:
        """Write an Event for each Service from each node that had not announced its address before."""
        for node in sorted(wanted.keys() - set(before)):
            for service in wanted[node]:
                words = message.replace("{node}", node)
                record(self._store, service, reason, words, kind, component=SPEAKER, host=node)


async def run_loadbalancer(store: Store, agent: CallsAgent, topology: Topology) -> None:
    """Give and announce addresses until cancelled."""
    await LoadBalancer(store, agent, topology).run()
