"""One change of an nftables table as several transactions, for a kernel that takes none of that size at once.

nft sends a transaction as one netlink message, and the socket's buffer has to hold it. Root makes the buffer as large
as it likes (SO_SNDBUFFORCE, socket(7)); who is root in a user namespace alone has net.core.wmem_max, 212,992 bytes, and
beyond it the kernel says "Message too long". Then the change goes in parts, in an order that leaves no hole:

    what is new and nothing leads to yet     sets, chains, their rules
    what is in force and changes             a chain, a key of a map: each old or new, never absent
    what nothing leads to any more           keys, chains, sets

Between two transactions a Service has its old rules or its new ones, and one Service may be ahead of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from srcip_nb.lab.proxy.nfttable import Container, Table

TOO_LONG = "Message too long"
"""What nft says of a transaction that does not fit into its socket's buffer (EMSGSIZE)."""

KEYS_IN_A_PART = 20


def parts(old: Table, new: Table) -> list[str]:
    """Write the change from old to new as texts for `nft -f -`, to be loaded in this order.

    Any number of neighbours may be put together into one transaction, all of them included.
    """
    return list(_parts(old, new))


def halves(texts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Two parts of about the same length in characters, neither empty where there are two texts or more."""
    total, so_far = sum(map(len, texts)), 0
    for number, text in enumerate(texts[:-1], start=1):
        so_far += len(text)
        if 2 * so_far >= total:
            return texts[:number], texts[number:]
    return texts[:-1], texts[-1:]


def _parts(old: Table, new: Table) -> Iterator[str]:
    table = new.name
    before, after = old.chains, new.chains
    kept = {
        name
        for name, container in new.containers.items()
        if name in old.containers and old.containers[name].declaration == container.declaration
    }
    made_anew = [name for name in new.containers if name in old.containers and name not in kept]
    leads_there = {f"@{name}" for name in made_anew}
    bound = {name for chains in (before, after) for name in chains if _names_one(chains[name], leads_there)}

    for name in new.containers:
        if name not in old.containers:
            yield _add_set(table, name, new.containers[name])
    new_chains = [name for name in after if name not in before]
    yield from (f"add chain {table} {name}\n" for name in new_chains)
    yield from (_rules(table, name, after[name]) for name in new_chains if name not in bound)

    if made_anew:
        yield "".join(_change_sets(old, new, made_anew, bound))
    for name in after:
        if name in before and name not in bound and before[name] != after[name]:
            yield f"flush chain {table} {name}\n" + _rules(table, name, after[name])
    for name, container in new.containers.items():
        had = old.containers[name].elements if name in kept else {}
        yield from _put_keys(table, name, had, {} if name in made_anew else container.elements)

    for name in kept:
        gone = [key for key in old.containers[name].elements if key not in new.containers[name].elements]
        yield from (f"delete element {table} {name} {{ {', '.join(keys)} }}\n" for keys in _groups(gone))
    gone_chains = [name for name in before if name not in after]
    yield from (f"flush chain {table} {name}\n" for name in gone_chains)
    yield from (f"delete set {table} {name}\n" for name in old.containers if name not in new.containers)
    yield from (f"delete chain {table} {name}\n" for name in gone_chains)


def _names_one(lines: Iterable[str], names: set[str]) -> bool:
    return any(not names.isdisjoint(line.split()) for line in lines)


def _add_set(table: str, name: str, container: Container) -> str:
    return f"add set {table} {name} {{ {'; '.join(container.declaration)}; }}\n"


def _rules(table: str, chain: str, lines: Iterable[str]) -> str:
    return "".join(f"add rule {table} {chain} {line}\n" for line in lines)


def _change_sets(old: Table, new: Table, names: Sequence[str], bound: set[str]) -> Iterator[str]:
    """Sets that cannot stay as they are, and every chain that names one: all at once."""
    table = new.name
    yield from (f"flush chain {table} {chain}\n" for chain in old.chains if chain in bound)
    yield from (f"delete set {table} {name}\n" for name in names)
    for name in names:
        yield _add_set(table, name, new.containers[name])
        if new.containers[name].elements:
            elements = ", ".join(map("".join, new.containers[name].elements.items()))
            yield f"add element {table} {name} {{ {elements} }}\n"
    yield from (_rules(table, chain, new.chains[chain]) for chain in new.chains if chain in bound)


def _put_keys(table: str, name: str, had: Mapping[str, str], has: Mapping[str, str]) -> Iterator[str]:
    changed = [key for key, rest in has.items() if had.get(key) != rest]
    for keys in _groups(changed):
        there = [key for key in keys if key in had]
        taken_away = f"delete element {table} {name} {{ {', '.join(there)} }}\n" if there else ""
        yield f"{taken_away}add element {table} {name} {{ {', '.join(key + has[key] for key in keys)} }}\n"


def _groups(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + KEYS_IN_A_PART] for start in range(0, len(keys), KEYS_IN_A_PART))
