"""The pod network's agent on every node: its own masquerading, loaded at first and again if somebody clears it.

    iptables-legacy -t nat -F   takes kube-proxy's rules and the pod network's; each puts its own back

flannel looks every 5 seconds whether its rules are there (its ``--iptables-resync``, by default); Calico's Felix looks
too (its ``iptablesRefreshInterval``).
"""

from __future__ import annotations

import asyncio

from srcip_nb.errors import LabError
from srcip_nb.lab.proxy.calls import CallsAgent, run
from srcip_nb.lab.proxy.ruleset import BUILT_IN_CHAINS, Ruleset, changes, from_text
from srcip_nb.lab.topology import Topology, masquerade_rules

LOOK_AFTER = 5.0
"""Seconds between two looks."""


class PodNetwork:
    """What the pod network has in the tables of iptables, on all nodes of a lab.

    Args:
        agent: runs commands on hosts.
        topology: the hosts, and which pod network it is.
    """

    def __init__(self, agent: CallsAgent, topology: Topology) -> None:
        self._agent = agent
        rules = {host.name: from_text(masquerade_rules(topology, host)) for host in topology.nodes}
        self._wanted = {name: ruleset for name, ruleset in rules.items() if ruleset}

    async def load(self) -> None:
        """Load the rules on nodes that have none yet.

        Raises:
            LabError: a node's kernel does not take them.
        """
        await asyncio.gather(*(self._change(name, {}, wanted) for name, wanted in self._wanted.items()))

    async def run(self) -> None:
        """Keep the rules there until cancelled."""
        while self._wanted:
            await asyncio.sleep(LOOK_AFTER)
            await asyncio.gather(*(self._mend(name, wanted) for name, wanted in self._wanted.items()))

    async def _mend(self, name: str, wanted: Ruleset) -> None:
        try:
            text = await run(self._agent, name, ["iptables-legacy-save", "-t", "nat"])
            await self._change(name, _known(from_text(text), wanted), wanted)
        except LabError:  # a node that is busy, or on its way out: the next look is soon
            return

    async def _change(self, name: str, old: Ruleset, new: Ruleset) -> None:
        text = changes(old, new)
        if text:
            await run(self._agent, name, ["iptables-legacy-restore", "-w", "--noflush"], text)


def _known(present: Ruleset, wanted: Ruleset) -> Ruleset:
    """Of what a node has, the chains that are wanted; of the kernel's chains the rules that are."""
    return {
        table: {
            chain: tuple(rule for rule in rules if chain not in BUILT_IN_CHAINS or rule in wanted[table][chain])
            for chain, rules in present.get(table, {}).items()
            if chain in chains
        }
        for table, chains in wanted.items()
    }
