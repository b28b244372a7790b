"""The way of one packet through the nodes' rules, read out of what their kernels said about it.

    packet --> rule --> rule --> rule --> ...      one ``Step`` each: before, what the rule did, after
                 |        |        |
    nflog       before   before   before           the legacy iptables tell of a packet as a rule finds it
    nftrace     after    after    after            nftables tell its mark as a rule left it, its addresses once a hook

What one message does not say about "after", the next message about the same packet says as its "before"; behind the
last rule of a node the conntrack entry says it. What neither says is None. One packet is known by the port that its
sender had, and from there on, on all nodes, by its TCP sequence number: no translation of addresses changes that.

Everything here is pure: texts and messages in, steps out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from srcip_nb.lab.trace_messages import NFLOG, NFTRACE, TABLE, Event, read_event, with_packets

CONNTRACK = "conntrack"
_TUPLE = re.compile(r"\b(src|dst|sport|dport)=(\S+)")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_TARGET = re.compile(r".* -(?P<how>[jg]) (?P<target>(?P<name>\S+).*)$")


@dataclass(frozen=True)
class Step:
    """One thing that happened to the packet on a node.

    Attributes:
        node: whose kernel said so.
        hook: prerouting, input, forward, output or postrouting.
        table, chain: where; nft's table with its family ("ip kube-proxy").
        rule: the rule's text; "" at the end of a chain and for a policy.
        verdict: what it did, in the words of iptables and nft.
        source, destination, mark: of the packet before.
        source_after, destination_after, mark_after: and after it. None: the kernel did not say.
        evidence: who said so, "nflog" or "nftrace"; with "conntrack" where the addresses after are from there.
    """

    node: str
    hook: str
    table: str
    chain: str
    rule: str
    verdict: str
    source: str
    destination: str
    source_after: str | None
    destination_after: str | None
    mark: int | None
    mark_after: int | None
    evidence: str


@dataclass(frozen=True)
class Flow:
    """A node's conntrack entry: what was sent from where to where, and between whom the answer goes."""

    node: str
    state: str
    source: str
    destination: str
    reply_source: str
    reply_destination: str


@dataclass(frozen=True)
class Trace:
    """A traced request.

    Attributes:
        request: its result, as ``LabClient.visit`` yields it.
        steps: in the order of nodes that the packet took, on each in the order of happening.
        flows: the conntrack entry of it on each node that has one.
    """

    request: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)


def read_trace(answer: Mapping[str, Any]) -> Trace:
    """Read the lab's answer to a trace request (see ``tracing.Tracer.trace``)."""
    request = answer["request"]
    events = {
        node: with_packets(read_event(base64.b64decode(text)) for text in said["messages"])
        for node, said in answer["nodes"].items()
    }
    sender = f"{request['client_ip']}:{request['client_port']}"
    sequences = {
        e.packet.sequence for found in events.values() for e in found if e.packet and e.packet.source == sender
    }
    mine = {n: [e for e in found if e.packet and e.packet.sequence in sequences] for n, found in events.items()}
    met = {node: found for node, found in mine.items() if found}
    ways: dict[str, tuple[list[Step], Flow | None]] = {}
    for node, found in met.items():
        said = answer["nodes"][node]
        first = found[0].packet
        flows = read_flows(node, said["conntrack"])
        flow = next(
            (f for f in flows if first and (f.source, f.destination) == (first.source, first.destination)), None
        )
        rules: dict[str, IptablesRules | NftablesRules] = {
            NFLOG: IptablesRules(said["iptables"]),
            NFTRACE: NftablesRules(said["nftables"]),
        }
        ways[node] = list(steps_of(node, found, rules, flow)), flow
    order = _in_order({node: found[0].packet.source for node, found in met.items() if found[0].packet}, sender, ways)
    steps = [step for node in order for step in ways[node][0]]
    return Trace(request, steps, [flow for node in order for flow in [ways[node][1]] if flow])


def _in_order(entered: Mapping[str, str], sender: str, ways: Mapping[str, tuple[list[Step], Flow | None]]) -> list[str]:
    """Nodes as the packet came by: first where it entered as it was sent, then where it left as the next one saw it."""
    order: list[str] = []
    source: str | None = sender
    while source is not None:
        node = next((node for node, seen in entered.items() if seen == source and node not in order), None)
        if node is None:
            break
        order.append(node)
        flow = ways[node][1]
        source = flow.reply_destination if flow else None
    return [*order, *(node for node in entered if node not in order)]


class IptablesRules:
    """The rules of `iptables-save`, found by table, chain and place."""

    def __init__(self, text: str) -> None:
        self._rules: dict[tuple[str, str], list[str]] = {}
        self._policies: dict[tuple[str, str], str] = {}
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                chain, policy = line[1:].split()[:2]
                self._policies[table, chain] = policy
                self._rules[table, chain] = []
            elif line.startswith("-A "):
                self._rules[table, line.split()[1]].append(line)

    def describe(self, event: Event, hook: str) -> tuple[str, str, str]:
        """Tell hook, rule text and verdict of an event."""
        rules = self._rules.get((event.table, event.chain), [])
        # Also a rule without conditions that only accepts, drops or returns is reported as "policy" or "return".
        if event.number is not None and event.number <= len(rules):
            rule = rules[event.number - 1]
            return event.hook, rule, self._verdict(event.table, rule)
        if event.kind == "policy":
            return event.hook, "", f"policy {self._policies.get((event.table, event.chain), '')}".strip()
        return event.hook, "", "end of chain" if event.kind == "return" else ""

    def _verdict(self, table: str, rule: str) -> str:
        # A comment may hold anything; blanked out, it keeps the places of the rest.
        found = _TARGET.match(_QUOTED.sub(lambda quoted: "_" * len(quoted[0]), rule))
        if not found:
            return "continue"
        target = rule[found.start("target") :]
        if found["how"] == "g":
            return f"goto {target}"
        return f"jump {target}" if (table, found["name"]) in self._rules else target


class NftablesRules:
    """The rules of `nft -a list ruleset`, found by table and handle, and the hooks of its base chains."""

    def __init__(self, text: str) -> None:
        self._rules: dict[tuple[str, int], str] = {}
        self._hooks: dict[tuple[str, str], str] = {}
        table = chain = ""
        for line in text.splitlines():
            words = line.split()
            if line.startswith("table "):
                table, chain = " ".join(words[1:3]), ""
            elif words[:1] and words[0] in ("chain", "set", "map"):
                chain = words[1] if words[0] == "chain" else ""
            elif chain and words[:1] == ["type"] and "hook" in words:
                self._hooks[table, chain] = words[words.index("hook") + 1]
            elif chain and " # handle " in line:
                rule, _, handle = line.rpartition(" # handle ")
                self._rules[table, int(handle)] = rule.strip()

    def describe(self, event: Event, hook: str) -> tuple[str, str, str]:
        """Tell hook (of its base chain, or the one the packet is in), rule text and verdict of an event."""
        text = self._rules.get((event.table, event.number), "") if event.number is not None else ""
        return self._hooks.get((event.table, event.chain), hook), text, event.verdict


def steps_of(
    node: str, events: Sequence[Event], rules: Mapping[str, IptablesRules | NftablesRules], flow: Flow | None
) -> Iterator[Step]:
    """Join one packet's events on one node to steps; the marking for the trace itself is left out.

    Args:
        node: whose kernel said so.
        events: of this packet, each with headers, in order.
        rules: by evidence.
        flow: the conntrack entry that the packet made; None if there is none.
    """
    hook = ""
    for at, event in enumerate(events):
        if event.table == f"ip {TABLE}":
            # Our base chains are called as their hooks.
            hook = event.chain
            continue
        hook, text, verdict = rules[event.evidence].describe(event, hook)
        before = event.packet
        following = events[at + 1] if at + 1 < len(events) else None
        after = following.packet if following else None
        source_after, destination_after = (after.source, after.destination) if after else (None, None)
        evidence = event.evidence
        has_left = after is None and hook in ("postrouting", "input")
        if has_left and flow:
            source_after, destination_after = flow.reply_destination, flow.reply_source
            evidence = f"{evidence}, {CONNTRACK}"
        if before is None:
            raise ValueError(f"{node}: a trace message without a packet")
        mark, mark_after = _marks(events, at)
        yield Step(
            node,
            hook,
            event.table,
            event.chain,
            text,
            verdict,
            before.source,
            before.destination,
            source_after,
            destination_after,
            mark,
            mark_after,
            evidence,
        )


def _marks(events: Sequence[Event], at: int) -> tuple[int | None, int | None]:
    event = events[at]
    if event.evidence == NFTRACE:
        previous = events[at - 1] if at else None
        return (previous.mark if previous and previous.evidence == NFTRACE else None), event.mark
    following = events[at + 1] if at + 1 < len(events) else None
    return event.mark, (following.mark if following and following.evidence == NFLOG else None)


def read_flows(node: str, text: str) -> list[Flow]:
    """Read what `conntrack -L -p tcp` printed."""
    flows = []
    for line in text.splitlines():
        fields = _TUPLE.findall(line)
        if line.startswith("tcp") and len(fields) == 8:
            sent, reply = dict(fields[:4]), dict(fields[4:])
            ends = [
                f"{tuple_[a]}:{tuple_[p]}" for tuple_ in (sent, reply) for a, p in (("src", "sport"), ("dst", "dport"))
            ]
            flows.append(Flow(node, line.split()[3], *ends))
    return flows
