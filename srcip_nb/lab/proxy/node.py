"""A proxy mode at work on one node: it makes the kernel hold the rules, and takes them away again.

One class for each mode, all with the same three verbs, so that controllers/proxy.py knows none of them by name:

    await mode.sync(services)   load what changed; all of it the first time and after a failure
    await mode.is_whole()       are the rules still there, or did somebody clear the tables?
    await mode.remove()         take away everything that this mode loaded
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from srcip_nb.errors import LabError
from srcip_nb.lab.proxy.iptables import CLUSTER_CIDR, NFACCT_COUNTERS, Features, Renderer
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.ruleset import Ruleset, changes, from_text, ours
from srcip_nb.lab.proxy.state import ServiceMap

LOAD_TIMEOUT = 30.0
"""Seconds after which a command that loads rules counts as failed."""


class CallsAgent(Protocol):
    """The part of the agent that a proxy needs: see the agent's wire protocol."""

    async def call(self, op: str, **arguments: Any) -> Any:
        """Have the agent do something and return its result."""


class NodeProxy(Protocol):
    """A proxy mode on one node."""

    async def sync(self, services: ServiceMap) -> bool:
        """Make the kernel hold the rules for these Services; True if anything had to be loaded.

        Raises:
            LabError: the kernel did not take them; the next sync begins from what the kernel then has.
        """

    async def is_whole(self) -> bool:
        """Are the rules that were loaded still there?"""

    async def remove(self) -> None:
        """Take away everything that this mode loaded."""


async def run(agent: CallsAgent, host: str, argv: Sequence[str], stdin: str = "") -> str:
    """Run a command on a host and return what it printed.

    Raises:
        LabError: it failed; the cause holds the command and what it said.
    """
    result = await agent.call("exec", host=host, argv=list(argv), stdin=stdin, timeout=LOAD_TIMEOUT)
    if result["code"]:
        said = " ".join(result["stderr"].split()) or f"exit code {result['code']}"
        raise LabError(f"{argv[0]} failed on {host}: {said}")
    return str(result["stdout"])


class IptablesNode:
    """Proxy mode iptables on one node, loaded by iptables-legacy.

    The first sync reads what the kernel has and loads the difference, so that it also mends what another process left
    there; later ones compare with what was loaded last.

    Args:
        agent: where commands are run.
        node: the node; its name is the host's.
        cluster_cidr: the pods' addresses.
    """

    def __init__(self, agent: CallsAgent, node: Node, cluster_cidr: str = CLUSTER_CIDR) -> None:
        self._agent = agent
        self._node = node
        self._cluster_cidr = cluster_cidr
        self._renderer: Renderer | None = None
        self._loaded: Ruleset | None = None

    async def _has_nfacct(self) -> bool:
        lines = [f"ip netns exec {self._node.name} nfacct add {name}\n" for name in NFACCT_COUNTERS]
        try:
            await self._agent.call("configure", text="".join(lines))
        except LabError:  # a kernel without them; of an agent that is gone the next call tells
            return False
        return True

    async def _present(self) -> Ruleset:
        return ours(from_text(await run(self._agent, self._node.name, ["iptables-legacy-save"])))

    async def _load(self, old: Ruleset, new: Ruleset) -> bool:
        text = changes(old, new)
        if text:
            self._loaded = None
            await run(self._agent, self._node.name, ["iptables-legacy-restore", "-w", "--noflush"], text)
        self._loaded = new
        return bool(text)

    async def sync(self, services: ServiceMap) -> bool:
        """Make the kernel hold the rules for these Services; True if anything had to be loaded."""
        if self._renderer is None:
            features = Features(nfacct=await self._has_nfacct())
            self._renderer = Renderer(self._node, self._cluster_cidr, features)
        wanted = self._renderer.ruleset(services)
        old = self._loaded if self._loaded is not None else await self._present()
        return await self._load(old, wanted)

    async def is_whole(self) -> bool:
        """Is the canary chain still there? As kube-proxy: whoever clears the tables removes it too."""
        argv = ["iptables-legacy", "-w", "-t", "mangle", "-S", "KUBE-PROXY-CANARY"]
        result = await self._agent.call("exec", host=self._node.name, argv=argv, timeout=LOAD_TIMEOUT)
        if result["code"]:
            self._loaded = None
        return bool(result["code"] == 0)

    async def remove(self) -> None:
        """Take away every KUBE- chain and every rule that leads into one."""
        await self._load(await self._present(), {})
        self._loaded = None


MODES: dict[str, Callable[[CallsAgent, Node, str], NodeProxy]] = {"iptables": IptablesNode}
"""Proxy modes by name."""
