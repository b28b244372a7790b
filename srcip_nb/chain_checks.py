"""Checks of a request's way through kube-proxy's rules, as ``chains.py`` tells it.

On a real cluster there is nothing to check: then each returns the sentence that says so, and records that.
"""

from __future__ import annotations

import pandas as pd

from srcip_nb.chains import MARK, NONE
from srcip_nb.explain import CONNTRACK
from srcip_nb.notebook import Check, Sentence, conclude, not_asked
from srcip_nb.text import t

YES, NO = "yes", "no"
SAME, ANOTHER = "the same", "another"
DROPPED, KEPT, LOST = "dropped", "answered, kept", "answered, lost"


def marked(walk: pd.DataFrame, question: str | None = None) -> Check | Sentence:
    """A rule marked the packet for masquerading.

    Args:
        walk: from ``chains.follow``.
        question: a prediction among yes, no.
    """
    return _marked(walk, True, question)


def not_marked(walk: pd.DataFrame, question: str | None = None) -> Check | Sentence:
    """No rule marked the packet for masquerading.

    Args:
        walk: from ``chains.follow``.
        question: a prediction among yes, no.
    """
    return _marked(walk, False, question)


def _marked(walk: pd.DataFrame, is_expected: bool, question: str | None) -> Check | Sentence:
    if left_out := not_asked(walk):
        return left_out
    seen = list(dict.fromkeys(walk["mark_after"].dropna()))
    is_marked = any(int(mark, 16) & MARK for mark in seen)
    says = t("check.marked" if is_expected else "check.not_marked")
    holds = bool(seen) and is_marked is is_expected
    return conclude(says, holds, ", ".join(seen), t("hint.chains"), question, [YES if is_marked else NO])


def lost_without_a_word(seen: pd.DataFrame, question: str | None = None) -> Check | Sentence:
    """Under Local in mode ipvs a node with a pod keeps the client's address, and one without a pod answers without it.

    Args:
        seen: from ``ipvs.local_in_mode_ipvs``.
        question: a prediction among dropped, "answered, kept", "answered, lost".
    """
    if left_out := not_asked(seen):
        return left_out
    without, having = seen[seen["pods"] == 0], seen[seen["pods"] > 0]
    is_answered = bool((without["answered"] > 0).all())
    is_lost = is_answered and not without["kept"].any()
    holds = is_lost and not without.empty and bool(having["kept"].all())
    outcome = DROPPED if not is_answered else LOST if is_lost else KEPT
    pairs = zip(seen["node"].astype(str), seen["source_ip"].astype(str), strict=True)
    logged = ", ".join(f"{node}: {source or '-'}" for node, source in pairs)
    return conclude(t("check.lost_without_a_word"), holds, logged, t("hint.lost_without_a_word"), question, [outcome])


def mark_stays_on_its_node(walk: pd.DataFrame, question: str | None = None) -> Check | Sentence:
    """The packet was marked on the node it came in by, and reached the next node without a mark.

    Args:
        walk: from ``chains.follow``, of a request that was answered on another node.
        question: a prediction of the mark on the next node, such as 0x0.
    """
    if left_out := not_asked(walk):
        return left_out
    rules = walk[walk["table"] != CONNTRACK]
    nodes = list(dict.fromkeys(rules["node"]))
    first, last = rules[rules["node"] == nodes[0]], rules[rules["node"] == nodes[-1]]
    marks = [int(mark, 16) for mark in first["mark_after"].dropna()]
    arrived = next(iter([*last["mark"].dropna(), *last["mark_after"].dropna()]), "")
    holds = len(nodes) > 1 and any(mark & MARK for mark in marks) and arrived == "0x0"
    seen = t("seen.mark", node=nodes[-1], mark=arrived)
    return conclude(t("check.mark_stays"), holds, seen, t("hint.chains"), question, [arrived])


def source_is_the_interfaces(ways: pd.DataFrame | Sentence, question: str | None = None) -> Check | Sentence:
    """Each request left with the address of the interface by which it left, where that has one.

    Args:
        ways: from ``chains.ways_out``.
        question: a prediction of the first one's kind of interface: LAN, tunnel, pod.
    """
    if isinstance(ways, Sentence):
        return ways
    has_one = ways["its address"] != NONE
    fits = [source in own.split(", ") for source, own in zip(ways["source"], ways["its address"], strict=True)]
    holds = bool(has_one.any()) and all(fit for fit, has in zip(fits, has_one, strict=True) if has)
    seen = "; ".join(f"{row.interface}: {row.source}" for row in ways.itertuples())
    return conclude(t("check.interface"), holds, seen, t("hint.ways"), question, [str(ways["kind"].iloc[0])])


def same_source(one: pd.DataFrame, other: pd.DataFrame, question: str | None = None) -> Check | Sentence:
    """Two requests left their entry nodes with the same address, whatever rules were in force.

    Args:
        one: from ``chains.follow``.
        other: another.
        question: a prediction among "the same", "another".
    """
    if left_out := not_asked(one):
        return left_out
    sources = [_source(walk) for walk in (one, other)]
    is_same = sources[0] == sources[1] != ""
    return conclude(
        t("check.same_source"), is_same, ", ".join(sources), t("hint.chains"), question, [SAME if is_same else ANOTHER]
    )


def _source(walk: pd.DataFrame) -> str:
    flows = walk[walk["table"] == CONNTRACK]
    return "" if flows.empty else str(flows["source_after"].iloc[0]).rpartition(":")[0]


def look_up_does_not_grow(table: pd.DataFrame, question: str | None = None) -> Check:
    """In mode nftables the chain in which a Service is looked up has as many rules for many Services as for one.

    Args:
        table: from ``chains.rules_to_try``.
        question: a prediction of that number.
    """
    iptables, nftables = table.iloc[:, 0], table.iloc[:, 1]
    holds = nftables.nunique() == 1 and bool(iptables.is_monotonic_increasing) and iptables.iloc[-1] > iptables.iloc[0]
    seen = t("seen.rules", iptables=iptables.iloc[-1], nftables=nftables.iloc[-1])
    return conclude(t("check.look_up"), bool(holds), seen, t("hint.equal"), question, [str(nftables.iloc[-1])])
