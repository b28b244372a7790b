"""A proxy mode at work on one node: it makes the kernel hold the rules, and takes them away again.

One class for each mode, all with the same three verbs, so that controllers/proxy.py knows none of them by name:

    await mode.sync(services)   load what changed; all of it the first time and after a failure
    await mode.is_whole()       are the rules still there, or did somebody clear the tables?
    await mode.remove()         take away everything that this mode loaded
    mode.node = node            the Node object changed: the next sync writes every rule anew, and loads what differs

Rules of two modes may be in force side by side, as they are while a node changes over: they come from the same state,
and the kernel translates a connection's addresses once, by whichever it asks first. Modes iptables and ipvs share the
tables of iptables, and chains' names with them: there the new mode's rules take the place of the old one's at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from srcip_nb.errors import LabError
from srcip_nb.lab.proxy import nftables, nftparts, nfttable
from srcip_nb.lab.proxy.calls import LOAD_TIMEOUT, CallsAgent, run
from srcip_nb.lab.proxy.iptables import CLUSTER_CIDR, NFACCT_COUNTERS, Features, Renderer
from srcip_nb.lab.proxy.ipvs_node import IpvsNode
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.ruleset import Ruleset, changes, from_text, ours
from srcip_nb.lab.proxy.state import ServiceMap


class NodeProxy(Protocol):
    """A proxy mode on one node.

    Attributes:
        node: the node.
        uses_iptables: are there rules in the tables of iptables, where two modes cannot have theirs side by side?
    """

    node: Node
    uses_iptables: bool

    async def sync(self, services: ServiceMap) -> bool:
        """Make the kernel hold the rules for these Services; True if anything had to be loaded.

        Raises:
            LabError: the kernel did not take them; the next sync begins from what the kernel then has.
        """

    async def is_whole(self) -> bool:
        """Are the rules that were loaded still there?"""

    async def remove(self, keep_iptables: bool = False) -> None:
        """Take away everything that this mode loaded.

        Args:
            keep_iptables: the mode that follows has put its own rules in place of these already.
        """


class IptablesNode:
    """Proxy mode iptables on one node, loaded by iptables-legacy.

    The first sync reads what the kernel has and loads the difference, so that it also mends what another process left
    there; later ones compare with what was loaded last.

    Args:
        agent: where commands are run.
        node: the node; its name is the host's.
        cluster_cidr: the pods' addresses.
    """

    uses_iptables = True

    def __init__(self, agent: CallsAgent, node: Node, cluster_cidr: str = CLUSTER_CIDR) -> None:
        self.node = node
        self._agent = agent
        self._cluster_cidr = cluster_cidr
        self._features: Features | None = None
        self._renderer: Renderer | None = None
        self._loaded: Ruleset | None = None

    async def _has_nfacct(self) -> bool:
        lines = [f"ip netns exec {self.node.name} nfacct add {name}\n" for name in NFACCT_COUNTERS]
        try:
            await self._agent.call("configure", text="".join(lines))
        except LabError:  # a kernel without them; of an agent that is gone the next call tells
            return False
        return True

    async def _present(self) -> Ruleset:
        return ours(from_text(await run(self._agent, self.node.name, ["iptables-legacy-save"])))

    async def _load(self, old: Ruleset, new: Ruleset) -> bool:
        text = changes(old, new)
        if text:
            self._loaded = None
            await run(self._agent, self.node.name, ["iptables-legacy-restore", "-w", "--noflush"], text)
        self._loaded = new
        return bool(text)

    async def sync(self, services: ServiceMap) -> bool:
        """Make the kernel hold the rules for these Services; True if anything had to be loaded."""
        if self._features is None:
            self._features = Features(nfacct=await self._has_nfacct())
        if self._renderer is None or self._renderer.node != self.node:
            self._renderer = Renderer(self.node, self._cluster_cidr, self._features)
        wanted = self._renderer.ruleset(services)
        old = self._loaded if self._loaded is not None else await self._present()
        return await self._load(old, wanted)

    async def is_whole(self) -> bool:
        """Is every rule still there? kube-proxy's canary chain would outlive an `iptables -F`, so all of it is read."""
        wanted = self._loaded
        try:
            differs = wanted is not None and bool(changes(await self._present(), wanted))
        except LabError:
            differs = True  # what is wrong is for the next sync to tell
        is_whole = not differs or self._loaded is not wanted  # loaded anew meanwhile: what was read is out of date
        if not is_whole:
            self._loaded = None
        return is_whole

    async def remove(self, keep_iptables: bool = False) -> None:
        """Take away every KUBE- chain and every rule that leads into one."""
        if not keep_iptables:
            await self._load(await self._present(), {})
        self._loaded = None


class NftablesNode:
    """Proxy mode nftables on one node.

    The first sync puts whole tables in the place of what is there; later ones are transactions of what changed. What
    is too long for the kernel to take at once goes in parts.

    Args:
        agent: where commands are run.
        node: the node; its name is the host's.
        cluster_cidr: the pods' addresses.
    """

    uses_iptables = False

    def __init__(self, agent: CallsAgent, node: Node, cluster_cidr: str = CLUSTER_CIDR) -> None:
        self.node = node
        self._agent = agent
        self._cluster_cidr = cluster_cidr
        self._renderer = nftables.Renderer(node, cluster_cidr)
        self._loaded: nfttable.Table | None = None
        self._has_ipv6 = True

    async def _run(self, transaction: str) -> None:
        await run(self._agent, self.node.name, ["nft", "-f", "-"], transaction)

    async def _replace(self, wanted: nfttable.Table) -> None:
        try:
            await self._replace_at_once(wanted)
        except LabError as error:
            if nftparts.TOO_LONG not in error.cause:
                raise
            empty = nftables.Renderer(self.node, self._cluster_cidr).table(ServiceMap())
            await self._replace_at_once(empty)
            await self._run_parts(nftparts.parts(empty, wanted))

    async def _replace_at_once(self, wanted: nfttable.Table) -> None:
        if self._has_ipv6:
            try:
                await self._run(nfttable.whole([wanted, nftables.ipv6_table()]))
                return
            except LabError as error:
                if nftparts.TOO_LONG in error.cause:
                    raise
                # A kernel may know no IPv6; whatever else was wrong is still so without it.
                self._has_ipv6 = False
        await self._run(nfttable.whole([wanted]))

    async def _run_parts(self, parts: Sequence[str]) -> None:
        """Load parts in order, in as few transactions as the kernel takes."""
        try:
            await self._run("".join(parts))
        except LabError as error:
            if nftparts.TOO_LONG not in error.cause or len(parts) < 2:
                raise
            for half in nftparts.halves(parts):
                await self._run_parts(half)

    async def _change(self, had: nfttable.Table, wanted: nfttable.Table, transaction: str) -> bool:
        """Turn one table into another; False if the kernel refused."""
        try:
            await self._run(transaction)
        except LabError as error:
            if nftparts.TOO_LONG not in error.cause:
                # Before Linux 6.2 a chain counts as used for a moment after the map element that led to it is deleted.
                return False
            await self._run_parts(nftparts.parts(had, wanted))
        return True

    async def sync(self, services: ServiceMap) -> bool:
        """Make the kernel hold the rules for these Services; True if anything had to be loaded."""
        if self._renderer.node != self.node:
            self._renderer = nftables.Renderer(self.node, self._cluster_cidr)
        wanted = self._renderer.table(services)
        had, self._loaded = self._loaded, None
        transaction = "" if had is None else nfttable.changes(had, wanted)
        if had is not None and transaction and not await self._change(had, wanted, transaction):
            had = None
        if had is None:
            await self._replace(wanted)
        self._loaded = wanted
        return had is None or bool(transaction)

    async def is_whole(self) -> bool:
        """Has every chain as many rules as were loaded, every set and map as many elements?

        They are counted and not compared, for each release of nft lists some of them in words of its own.
        """
        wanted = self._loaded
        if wanted is None:
            return True  # the next sync begins with all of it anyway
        argv = ["nft", "-s", "list", "table", *nftables.TABLE.split()]
        result = await self._agent.call("exec", host=self.node.name, argv=argv, timeout=LOAD_TIMEOUT)
        present = nfttable.from_text(result["stdout"]) if result["code"] == 0 else []
        is_there = [nfttable.sizes(table) for table in present] == [nfttable.sizes(wanted)]
        is_whole = is_there or self._loaded is not wanted  # loaded anew meanwhile: what was read is out of date
        if not is_whole:
            self._loaded = None
        return is_whole

    async def remove(self, keep_iptables: bool = False) -> None:
        """Take away the tables."""
        names = (nftables.TABLE, nftables.TABLE_IPV6) if self._has_ipv6 else (nftables.TABLE,)
        self._loaded = None
        await self._run(nfttable.remove(names))


MODES = ("iptables", "nftables", "ipvs")
"""Proxy modes by name."""


def proxy_of(
    mode: str, agent: CallsAgent, node: Node, cluster_cidr: str = CLUSTER_CIDR, ipvs_scheduler: str = "rr"
) -> NodeProxy:
    """A proxy mode for one node, nothing loaded yet.

    Args:
        mode: one of ``MODES``.
        agent: where commands are run.
        node: the node.
        cluster_cidr: the pods' addresses.
        ipvs_scheduler: how mode ipvs shares connections out.
    """
    if mode == "ipvs":
        return IpvsNode(agent, node, cluster_cidr, ipvs_scheduler)
    return (NftablesNode if mode == "nftables" else IptablesNode)(agent, node, cluster_cidr)
