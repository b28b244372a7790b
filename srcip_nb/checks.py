"""Checks: what should be seen, held against what was seen; ``✓`` or ``✗`` in words, with a hint.

Each takes a table that the reader has on the screen too. With ``question`` a check settles the prediction of that name.
How results are recorded and shown is in ``notebook.py``.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from srcip_nb.notebook import Check, CheckFailed, Sentence, conclude, leave_open, not_asked
from srcip_nb.picture import text_of
from srcip_nb.text import t

# -- checks of the one table -------------------------------------------------------------------------------------------


def source_ip_kept(df: pd.DataFrame, question: str | None = None) -> Check | Sentence:
    """Every answered request reached the pod with the client's own address.

    Args:
        df: the one table.
        question: a prediction among client, node, pod-network … (``source_kind``).
    """
    if left_out := not_asked(df):
        return left_out
    kept, answered = int(df["preserved"].fillna(False).sum()), int(df["preserved"].notna().sum())
    holds = 0 < answered == kept
    return conclude(t("check.kept"), holds, _kept_words(df), t("hint.policy"), question, _kinds(df))


def source_ip_lost(df: pd.DataFrame, question: str | None = None) -> Check | Sentence:
    """No answered request reached the pod with the client's own address.

    Args:
        df: the one table.
        question: a prediction among client, node, pod-network … (``source_kind``).
    """
    if left_out := not_asked(df):
        return left_out
    kept, answered = int(df["preserved"].fillna(False).sum()), int(df["preserved"].notna().sum())
    holds = answered > 0 and kept == 0
    return conclude(t("check.lost"), holds, _kept_words(df), t("hint.policy"), question, _kinds(df))


def answered_by(df: pd.DataFrame, nodes: Any, question: str | None = None) -> Check:
    """Exactly these nodes answered.

    Args:
        df: the one table.
        nodes: names of nodes, or one name.
        question: a prediction of how many nodes answer, or of which one.
    """
    expected = {nodes} if isinstance(nodes, str) else {str(node) for node in nodes}
    seen = sorted(df["node"].dropna().astype(str).unique())
    words = t("seen.nodes", nodes=", ".join(seen)) if seen else t("seen.nobody")
    says = t("check.by", nodes=", ".join(sorted(expected)) or "-")
    return conclude(says, set(seen) == expected, words, t("hint.nodes"), question, [str(len(seen)), ", ".join(seen)])


def all_answered(df: pd.DataFrame, question: str | None = None) -> Check:
    """Every request was answered with status 200.

    Args:
        df: the one table.
        question: a prediction among answered, timeout, refused.
    """
    holds = bool(len(df)) and bool((df["status"] == 200).fillna(False).all())
    return conclude(t("check.all_answered"), holds, _outcome_words(df), t("hint.answered"), question, _outcomes(df))


def timed_out(df: pd.DataFrame, question: str | None = None) -> Check:
    """Every request ended in a timeout: its packets were dropped without a word.

    Args:
        df: the one table.
        question: a prediction among answered, timeout, refused.
    """
    return _error_only(df, "timeout", t("check.timed_out"), question)


def refused(df: pd.DataFrame, question: str | None = None) -> Check:
    """Every request was refused: somebody answered that nobody listens.

    Args:
        df: the one table.
        question: a prediction among answered, timeout, refused.
    """
    return _error_only(df, "refused", t("check.refused"), question)


def _error_only(df: pd.DataFrame, error: str, says: str, question: str | None) -> Check:
    holds = bool(len(df)) and bool((df["error"].astype(str) == error).all())
    return conclude(says, holds, _outcome_words(df), t("hint.answered"), question, _outcomes(df))


def _outcomes(df: pd.DataFrame) -> list[str]:
    """``answered`` and the errors, in the order they were met."""
    return list(dict.fromkeys(text_of(error) or "answered" for error in df["error"]))


def _outcome_words(df: pd.DataFrame) -> str:
    counts = df["error"].astype(object).fillna("").value_counts()
    parts = [
        t("seen.answered", count=n) if not error else t("seen.error", error=error, count=n)
        for error, n in counts.items()
    ]
    return ", ".join(parts) or t("seen.none")


def _kinds(df: pd.DataFrame) -> list[str]:
    return sorted(df["source_kind"].dropna().astype(str).unique())


def _kept_words(df: pd.DataFrame) -> str:
    answered = int(df["preserved"].notna().sum())
    if not answered:
        return t("seen.none")
    addresses = ", ".join(sorted(df["source_ip"].dropna().astype(str).unique()))
    return t("seen.kept", kept=int(df["preserved"].fillna(False).sum()), answered=answered, addresses=addresses)


def logged_as(df: pd.DataFrame, address: str, question: str | None = None) -> Check | Sentence:
    """Every answered request was logged with one certain address, whoever sent it.

    Args:
        df: the one table.
        address: which.
        question: a prediction among client, node, pod, unknown … (``source_kind``).
    """
    if left_out := not_asked(df):
        return left_out
    seen = sorted(df["source_ip"].dropna().astype(str).unique())
    says = t("check.logged_as", address=address)
    return conclude(says, seen == [address], ", ".join(seen) or t("seen.none"), t("hint.trust"), question, _kinds(df))


def logged_as_node(df: pd.DataFrame, node: str, question: str | None = None) -> Check:
    """Every answered request was logged with an address of one certain node.

    Args:
        df: the one table.
        node: its name.
        question: a prediction among client, node, pod-network … (``source_kind``).
    """
    seen = df.loc[df["source_ip"].notna(), ["source_ip", "source_node"]].astype("string")
    holds = bool(len(seen)) and set(seen["source_node"].fillna("")) == {node}
    words = ", ".join(sorted(seen["source_ip"].unique())) or t("seen.none")
    return conclude(t("check.node", node=node), holds, words, t("hint.book"), question, _kinds(df))


def by_way_of(df: pd.DataFrame, address: str, passes: bool, question: str | None = None) -> Check | Sentence:
    """Every answered request reached the backend by way of the proxy, or none did.

    Args:
        df: of ``proxied.visit_proxy``.
        address: of the proxy's pod.
        passes: whether they should have passed it.
        question: a prediction of ``proxy`` or ``backend``: who answers the connection.
    """
    if left_out := not_asked(df):
        return left_out
    seen = df["connection_from"].dropna().astype(str)
    holds = bool(len(seen)) and bool(((seen == address) == passes).all())
    says = t("check.by_proxy") if passes else t("check.past_proxy")
    answers = sorted({"proxy" if one == address else "backend" for one in seen})
    words = ", ".join(sorted(seen.unique())) or t("seen.none")
    return conclude(says, holds, t("seen.connected", addresses=words), t("hint.ip_mode"), question, answers)


# -- checks of tables by visitor ---------------------------------------------------------------------------------------


def stayed_near(table: pd.DataFrame, places: Any, question: str | None = None) -> Check:
    """Whoever has a pod of the Service nearby was answered there and nowhere else.

    Args:
        table: of ``inside.by_visitor``.
        places: node -> what counts as near: the node itself, or its zone (NA: in none, which is not looked at).
        question: a prediction of ``near`` or ``anywhere``.
    """
    place = {str(node): str(where) for node, where in places.items() if not pd.isna(where)}
    answered = {client: [place.get(node, "") for node in row.split(", ") if node] for client, row in
                table["answered_on"].items()}  # fmt: skip
    served = {where for some in answered.values() for where in some if where}
    own = {client: place.get(str(node), "") for client, node in table["from_node"].items()}
    looked_at = {client: where for client, where in own.items() if where in served}
    strays = [client for client, where in looked_at.items() if set(answered[client]) != {where}]
    seen = t("seen.near", near=len(looked_at) - len(strays), all=len(looked_at))
    return conclude(t("check.near"), not strays, seen, t("hint.hints"), question, ["anywhere" if strays else "near"])


def one_pod_each(df: pd.DataFrame, addresses: Any, question: str | None = None) -> Check:
    """All requests that come from one address were answered by one pod.

    Args:
        df: the one table, of several clients.
        addresses: client -> the address by which it is remembered.
        question: a prediction of the number of different pods for one address.
    """
    known = df[df["pod"].notna()]
    keys = known["client"].astype(str).map({str(client): str(address) for client, address in addresses.items()})
    pods = known["pod"].astype(str).groupby(keys).nunique()
    holds = bool(len(pods)) and bool((pods == 1).all())
    words = ", ".join(f"{address} → {count}" for address, count in pods.items()) or t("seen.none")
    answers = [str(count) for count in sorted(pods.unique())]
    return conclude(t("check.one_pod"), holds, t("seen.pods_each", counts=words), t("hint.affinity"), question, answers)


# -- checks of kubectl's tables, and of answers ------------------------------------------------------------------------


def pods_ready(pods: pd.DataFrame, count: int = 2, nodes: int = 2, question: str | None = None) -> Check:
    """So many pods are ready, spread over so many nodes.

    Args:
        pods: ``cluster.pods()``.
        count: how many pods.
        nodes: on how many nodes.
        question: a prediction of the number of nodes.
    """
    is_ready = pods["READY"].astype(str).map(lambda text: len(set(text.split("/"))) == 1)
    seen_pods, seen_nodes = int(is_ready.sum()), int(pods.loc[is_ready, "NODE"].nunique())
    says, seen = t("check.ready", count=count, nodes=nodes), t("seen.ready", ready=seen_pods, nodes=seen_nodes)
    return conclude(says, (seen_pods, seen_nodes) == (count, nodes), seen, t("hint.ready"), question, [str(seen_nodes)])


def has_address(service: pd.DataFrame) -> Check:
    """The Service can be asked from outside: at an external address or, which the check then says, at a node port.

    Args:
        service: ``cluster.service()``.
    """
    (name, address), *_ = service["EXTERNAL-IP"].astype(str).items()
    has_one = address not in ("<none>", "<pending>", "")
    seen = t("seen.address", address=address) if has_one else t("seen.no_address")
    node_port = re.search(r":(\d+)/", str(service["PORT(S)"].iloc[0]))
    goes_on_by_port = address == "<pending>" and node_port is not None
    says = t("check.address", service=name)
    if goes_on_by_port and node_port:
        says = t("check.port_instead", service=name, port=node_port[1])
    return conclude(says, has_one or goes_on_by_port, seen, t("hint.address"))


def health_ports(answers: pd.DataFrame, pods: pd.DataFrame, question: str | None = None) -> Check:
    """The health check node port answers 200 on nodes with a ready pod, and 503 on the others.

    Args:
        answers: one row for each node, index its name, column ``status``.
        pods: ``cluster.pods()``.
        question: a prediction of the status on a node without a pod.
    """
    expected = {str(node): 200 if node in set(pods["NODE"]) else 503 for node in answers.index}
    statuses = {str(node): status for node, status in answers["status"].items()}
    seen = {node: None if pd.isna(status) else int(status) for node, status in statuses.items()}
    words = ", ".join(f"{node} {status or t('seen.none')}" for node, status in seen.items())
    without = sorted({str(seen[node]) for node in seen if expected[node] == 503})
    return conclude(t("check.health"), seen == expected, words, t("hint.nodes"), question, without)


def shares_hold(table: pd.DataFrame, question: str | None = None) -> Check:
    """Each pod got the share of the requests that it should, within the tolerance.

    Args:
        table: of ``shares.shares_table``.
        question: a prediction of the pods' shares, such as ``25/25/50``.
    """
    seen = ", ".join(f"{percent:g} %" for percent in sorted(table["percent"]))
    expected = "/".join(f"{percent:.0f}" for percent in sorted(table["expected_percent"]))
    holds = bool(len(table)) and bool(table["holds"].all())
    return conclude(t("check.shares", shares=expected), holds, seen, t("hint.shares"), question, [expected])


def answered_at_least(summary: pd.DataFrame, percent: float = 95.0, question: str | None = None) -> Check:
    """So many of a hundred requests were answered, in each of the runs.

    Args:
        summary: one row a run, with ``share`` (percent answered), ``sent`` and ``lost``.
        percent: how many.
        question: a prediction among none, few, many: of the requests that were lost (few: up to the rest).
    """
    worst = float(summary["share"].min()) if len(summary) else 0.0
    lost = int(summary["lost"].sum())
    seen = t("seen.lost", lost=lost, sent=int(summary["sent"].sum()), worst=f"{worst:g}")
    answer = "none" if not lost else "few" if worst >= percent else "many"
    says = t("check.at_least", percent=f"{percent:g}")
    return conclude(says, worst >= percent, seen, t("hint.lost"), question, [answer])


def announcer_moved(changes: pd.DataFrame, question: str | None = None) -> Check:
    """Another node announces the address at the end than at the beginning.

    Args:
        changes: of a run under load, with ``announced_by``.
        question: a prediction of the node that announces at the end: ``the same`` as before or ``another``.
    """
    said = [str(name) for name in changes["announced_by"]]
    before, after = (said[0], said[-1]) if said else ("-", "-")
    holds = "-" not in (before, after) and before != after
    seen = t("seen.moved", before=before, after=after)
    answer = "another" if before != after else "the same"
    return conclude(t("check.moved"), holds, seen, t("hint.moved"), question, [answer])


def as_expected(table: pd.DataFrame, question: str | None = None) -> Check:
    """Every row was observed as expected.

    Args:
        table: of ``roads.roads``.
        question: a prediction of how many rows differ.
    """
    differing = table[~table["holds"].astype(bool)]
    seen = t("seen.rows", rows=len(table), differ=len(differing))
    if len(differing):
        seen += ": " + "; ".join(f"{row.client} -> {row.asks}: {row.observed}" for row in differing.itertuples())
    holds = bool(len(table)) and differing.empty
    return conclude(t("check.rows"), holds, seen, t("hint.rows"), question, [str(len(differing))])


def equal(answer: Any, expected: Any, what: str, question: str | None = None) -> Check:
    """An answer is the expected one; for exercises, so ``...`` as an answer leaves the check open.

    Args:
        answer: the reader's.
        expected: what is right.
        what: what is asked, in a few words.
        question: a prediction of the value.
    """
    if answer is ...:
        return leave_open(what)
    return conclude(what, _same(answer, expected), str(answer), t("hint.equal"), question, [str(expected)])


def _same(answer: Any, expected: Any) -> bool:
    if isinstance(expected, (set, frozenset, list, tuple)) and not isinstance(answer, str):
        return {str(one) for one in answer} == {str(one) for one in expected}
    return bool(answer == expected)


__all__ = [
    "Check",
    "CheckFailed",
    "all_answered",
    "announcer_moved",
    "answered_at_least",
    "answered_by",
    "as_expected",
    "by_way_of",
    "equal",
    "has_address",
    "health_ports",
    "logged_as",
    "logged_as_node",
    "one_pod_each",
    "pods_ready",
    "refused",
    "shares_hold",
    "source_ip_kept",
    "source_ip_lost",
    "stayed_near",
    "timed_out",
]
