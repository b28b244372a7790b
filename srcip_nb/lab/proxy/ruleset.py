"""Rules as data: table -> chain -> rules, each a line of iptables-save without its "-A CHAIN".

The kernel's own chains (INPUT, PREROUTING ...) are shared with others: a pod network's masquerading lives there too. So
of those only the rules that lead into a KUBE- chain are ours, and a whole table is never replaced: changes() writes the
text that turns what a node has into what it should have, for `iptables-legacy-restore --noflush`. Chains that did not
change are not mentioned, connections live on, and a load is all or nothing for each table.
"""

from __future__ import annotations

from collections.abc import Mapping

Chains = dict[str, tuple[str, ...]]

Ruleset = dict[str, Chains]
"""Table -> chain -> rules."""

BUILT_IN_CHAINS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
"""The kernel's own chains, in the order in which a packet meets them."""


def _in_order(chains: Mapping[str, object]) -> list[str]:
    return [chain for chain in BUILT_IN_CHAINS if chain in chains] + sorted(chains.keys() - set(BUILT_IN_CHAINS))


def as_text(ruleset: Ruleset) -> str:
    """Write a ruleset as iptables-save does: the kernel's chains first, then the others by name."""
    lines: list[str] = []
    for table, chains in ruleset.items():
        order = _in_order(chains)
        lines.append(f"*{table}")
        lines += [f":{chain} {'ACCEPT' if chain in BUILT_IN_CHAINS else '-'} [0:0]" for chain in order]
        lines += [f"-A {chain} {rule}" for chain in order for rule in chains[chain]]
        lines.append("COMMIT")
    return "\n".join([*lines, ""])


def from_text(text: str) -> Ruleset:
    """Read what iptables-save printed; counters and policies are left out."""
    found: dict[str, dict[str, list[str]]] = {}
    table: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = found.setdefault(line[1:].strip(), {})
        elif line.startswith(":"):
            table.setdefault(line[1:].split(" ", 1)[0], [])
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            table.setdefault(chain, []).append(rule)
    return {name: {chain: tuple(rules) for chain, rules in chains.items()} for name, chains in found.items()}


def ours(ruleset: Ruleset) -> Ruleset:
    """Keep what a proxy wrote: KUBE- chains, and of the kernel's chains the rules that lead into them."""
    kept: Ruleset = {}
    for table, chains in ruleset.items():
        mine = kept.setdefault(table, {})
        for chain, rules in chains.items():
            if chain.startswith("KUBE-"):
                mine[chain] = rules
            elif chain in BUILT_IN_CHAINS:
                mine[chain] = tuple(rule for rule in rules if "-j KUBE-" in rule)
    return kept


def changes(old: Ruleset, new: Ruleset) -> str:
    """Write what turns old into new, for `iptables-legacy-restore --noflush`; "" when nothing is to be done.

    In the kernel's own chains, rules that are missing go in front of all others, as kube-proxy puts them. To remove
    everything, let new be {}.
    """
    lines: list[str] = []
    for table in [*new, *(table for table in old if table not in new)]:
        before, after = old.get(table, {}), new.get(table, {})
        flushed, written, removed = [], [], []
        changed = {name for name, rules in after.items() if (had := before.get(name)) is not rules and had != rules}
        for chain in sorted(changed.difference(BUILT_IN_CHAINS)):
            flushed.append(f":{chain} - [0:0]")
            written += [f"-A {chain} {rule}" for rule in after[chain]]
        for chain in sorted(before.keys() - after.keys() - set(BUILT_IN_CHAINS)):
            flushed.append(f":{chain} - [0:0]")
            removed.append(f"-X {chain}")
        for chain in BUILT_IN_CHAINS:
            present, wanted = before.get(chain, ()), after.get(chain, ())
            if present != wanted:
                written += [f"-D {chain} {rule}" for rule in present]
                written += [f"-I {chain} {place} {rule}" for place, rule in enumerate(wanted, 1)]
        if flushed or written:
            lines += [f"*{table}", *flushed, *written, *removed, "COMMIT"]
    return "\n".join([*lines, ""]) if lines else ""
