"""nftables as data: a table's sets, maps and chains, in the form of `nft -s list ruleset`.

A set or map is its declaration (type, comment ...) and its elements, key -> what follows the key:

    10.1.0.13 . tcp . 80  comment "default/il" : drop
    `------- key ------'  `-------- rest --------'

A chain is its lines: `type nat hook ...` where the kernel begins, a comment, then rules. changes() writes the
transaction that turns one state of a table into another, for `nft -f -`. It leaves out what is the same, and the kernel
takes all of a transaction or nothing, so that no packet ever meets half of it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

Lines = tuple[str, ...]

_ADDRESSES_IN_A_LINE = 5
_INDENT = "\n\t\t\t     "
_RANGES = re.compile(r"ip saddr != \{ ([^}]*) \}")
_NUMBERS = re.compile(r"(\d+)")


@dataclass
class Container:
    """A set or a map.

    Attributes:
        kind: "set" or "map".
        declaration: its lines but the elements: type, comment, size, flags, timeout.
        elements: key -> the rest of the element: a comment, the verdict of a map.
    """

    kind: str
    declaration: Lines
    elements: dict[str, str] = field(default_factory=dict)


@dataclass
class Table:
    """One table: name with its family ("ip kube-proxy"), comment, sets and maps, chains."""

    name: str
    comment: str = ""
    containers: dict[str, Container] = field(default_factory=dict)
    chains: dict[str, Lines] = field(default_factory=dict)


def _natural(text: str) -> tuple[object, ...]:
    """Sort key by which 10.0.5.8 comes before 10.0.5.10."""
    parts = _NUMBERS.split(text)
    return tuple((int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts))


def _by_service(chain: str) -> tuple[str, str]:
    """Sort key of a chain or set with a Service in its name: PREFIX-HASH-NAMESPACE/SERVICE/..."""
    prefix, _, rest = chain.partition("-")
    return rest.partition("-")[2], prefix


def in_order(names: Iterable[str]) -> list[str]:
    """Put fixed names first, as they come, then those of Services by namespace and name."""
    names = list(names)
    return [name for name in names if "/" not in name] + sorted((n for n in names if "/" in n), key=_by_service)


def as_listed(rule: str) -> str:
    """Turn a rule as kube-proxy writes it into the same rule as nft 1.0.6 lists it.

    A list of source ranges comes back sorted, and what touches or overlaps as one range; a list of one as no list.
    """
    rule = rule.replace("dnat ip addr . port to", "dnat ip to")
    return _RANGES.sub(lambda found: f"ip saddr != {_merged(found[1].split(', '))}", rule)


def _merged(sources: list[str]) -> str:
    if len(sources) == 1:
        return sources[0].removesuffix("/32")
    are_merged = any("/" in source for source in sources)
    spans: list[list[int]] = []
    for first, last in sorted((int(n[0]), int(n[-1])) for n in map(ipaddress.IPv4Network, sources)):
        if spans and first <= spans[-1][1] + (1 if are_merged else 0):
            spans[-1][1] = max(spans[-1][1], last)
        else:
            spans.append([first, last])
    return f"{{ {', '.join(_span(first, last) for first, last in spans)} }}"


def _span(first: int, last: int) -> str:
    start, end = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
    networks = list(ipaddress.summarize_address_range(start, end))
    return str(networks[0]).removesuffix("/32") if len(networks) == 1 else f"{start}-{end}"


def listed(table: Table) -> Table:
    """Turn a table as kube-proxy writes it into the same table as nft lists it."""
    chains = {name: tuple(map(as_listed, lines)) for name, lines in table.chains.items()}
    return replace(table, chains=chains)


def as_text(tables: Iterable[Table], is_sorted: bool = True) -> str:
    """Write tables whole, in the form that nft lists and loads.

    Args:
        tables: in order.
        is_sorted: put elements, and what belongs to Services, in order for a reader; else they stay as they came.
    """
    lines: list[str] = []
    for table in tables:
        lines.append(f"table {table.name} {{")
        if table.comment:
            lines.append(f'\tcomment "{table.comment}"')
        blocks = []
        order: Callable[[Iterable[str]], Iterable[str]] = in_order if is_sorted else list
        for name in order(table.containers):
            container = table.containers[name]
            block = [f"\t{container.kind} {name} {{", *(f"\t\t{line}" for line in container.declaration)]
            if container.elements:
                block.append(f"\t\telements = {{ {_elements_text(container, is_sorted)} }}")
            blocks.append("\n".join([*block, "\t}"]))
        for name in order(table.chains):
            blocks.append("\n\t\t".join([f"\tchain {name} {{", *table.chains[name]]) + "\n\t}")
        lines += ["\n\n".join(blocks), "}"]
    return "\n".join([*lines, ""])


def _elements_text(container: Container, is_sorted: bool) -> str:
    if not is_sorted:
        return ", ".join(map("".join, container.elements.items()))
    texts = [key + container.elements[key] for key in sorted(container.elements, key=_natural)]
    if container.declaration[0] not in ("type ipv4_addr", "type ipv6_addr"):
        return f",{_INDENT}".join(texts)
    rows = [texts[start : start + _ADDRESSES_IN_A_LINE] for start in range(0, len(texts), _ADDRESSES_IN_A_LINE)]
    return f",{_INDENT}".join(", ".join(row) for row in rows)


def from_text(text: str) -> list[Table]:
    """Read what `nft -s list ruleset` printed."""
    tables: list[Table] = []
    container: Container | None = None
    chain: list[str] | None = None
    name = ""
    for line in filter(None, map(str.strip, re.sub(r",\s*\n\s*", ", ", text).splitlines())):
        words = line.split()
        if line.startswith("table "):
            tables.append(Table(" ".join(words[1:3])))
        elif line.startswith(("set ", "map ")) and line.endswith("{"):
            container = tables[-1].containers.setdefault(words[1], Container(words[0], ()))
        elif line.startswith("chain ") and line.endswith("{"):
            chain, name = [], words[1]
        elif line == "}":
            if chain is not None:
                tables[-1].chains[name] = tuple(chain)
            chain = container = None
        elif chain is not None:
            chain.append(line)
        elif container is not None and line.startswith("elements = "):
            for element in line.removeprefix("elements = { ").removesuffix(" }").split(", "):
                found = re.search(r" (?:comment|:) ", element)
                end = found.start() if found else len(element)
                container.elements[element[:end]] = element[end:]
        elif container is not None:
            container.declaration += (line,)
        elif line.startswith("comment "):
            tables[-1].comment = line.removeprefix('comment "').removesuffix('"')
    return tables


def sizes(table: Table) -> dict[str, int]:
    """How many lines each chain has, and how many elements each set and map, but those that the kernel itself fills."""
    chains = {f"chain {name}": len(lines) for name, lines in table.chains.items()}
    kept = {
        f"{container.kind} {name}": len(container.elements)
        for name, container in table.containers.items()
        if not any("dynamic" in line for line in container.declaration)
    }
    return {**chains, **kept}


def whole(tables: Iterable[Table]) -> str:
    """Write the transaction that puts tables in the place of what is there under their names, if anything."""
    tables = list(tables)
    clearing = "".join(f"table {table.name}\ndelete table {table.name}\n" for table in tables)
    return clearing + as_text(tables, is_sorted=False)


def remove(names: Iterable[str]) -> str:
    """Write the transaction that removes tables, whether or not they are there."""
    return "".join(f"table {name}\ndelete table {name}\n" for name in names)


def changes(old: Table, new: Table) -> str:
    """Write the transaction that turns old into new; "" when nothing is to be done.

    What refers to a thing goes before the thing, and comes after it. A set whose declaration changed is made anew, and
    so are the rules that name it; a set that stays keeps what the kernel put into it (session affinity).
    """
    before, after = old.chains, new.chains
    anew = [
        name
        for name, container in old.containers.items()
        if name not in new.containers or new.containers[name].declaration != container.declaration
    ]
    changed = {name for name, lines in after.items() if (had := before.get(name)) is not lines and had != lines}
    if anew:
        names = {f"@{name}" for name in anew}
        changed |= {n for n, lines in after.items() if any(not names.isdisjoint(line.split()) for line in lines)}
    rewritten = [name for name in after if name in changed]
    gone_chains = [name for name in before if name not in after]
    table = new.name
    lines = [f"flush chain {table} {name}" for name in (*(n for n in rewritten if n in before), *gone_chains)]
    removed, added = _element_changes(old.containers, new.containers)
    lines += [f"delete element {table} {name} {{ {', '.join(keys)} }}" for name, keys in removed]
    lines += [f"delete set {table} {name}" for name in anew]
    lines += [f"delete chain {table} {name}" for name in gone_chains]
    for name, container in new.containers.items():
        if name in anew or name not in old.containers:
            lines.append(f"add set {table} {name} {{ {'; '.join(container.declaration)}; }}")
    lines += [f"add chain {table} {name}" for name in rewritten if name not in before]
    lines += [f"add rule {table} {name} {rule}" for name in rewritten for rule in after[name]]
    lines += [f"add element {table} {name} {{ {', '.join(elements)} }}" for name, elements in added]
    return "\n".join([*lines, ""]) if lines else ""


def _element_changes(
    old: Mapping[str, Container], new: Mapping[str, Container]
) -> tuple[list[tuple[str, list[str]]], list[tuple[str, list[str]]]]:
    """Per set or map that was there before: the keys to delete, and the elements to add."""
    removed, added = [], []
    for name, container in new.items():
        had = old[name].elements if name in old else {}
        has = container.elements
        if had == has:
            continue
        gone = [key for key, rest in had.items() if has.get(key) != rest]
        come = [key + rest for key, rest in has.items() if had.get(key) != rest]
        if gone:
            removed.append((name, gone))
        if come:
            added.append((name, come))
    return removed, added
