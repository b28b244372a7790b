"""Figures of the one table, each with the words for who cannot see it and a table that says the same.

    requests_per_node(df)              who answered         requests_per_node_table(df)
    source_addresses(before, after)    what nginx logged    source_addresses_table(before, after)
    request_path(df, request=0)        one request's way    request_path_table(df, request=0)     (path_figure.py)

Counts stand beside their bars, hatches and names beside colours: nothing is said by colour alone (see ``picture.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from srcip_nb.path_figure import request_path, request_path_table
from srcip_nb.picture import INK, Picture, node_style, owner_words, picture, show, text_of
from srcip_nb.text import t

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLIENT_COLOUR, NO_ANSWER_COLOUR, OTHER_COLOUR = "#1A1A1A", "#FFFFFF", "#BBBBBB"
LONG_NAME = 16  # of one of two figures side by side, in characters
NARROW = 0.1  # of the width: a pod's name would run into its neighbour's; the table has it


# -- who answered ------------------------------------------------------------------------------------------------------


def requests_per_node_table(df: pd.DataFrame, nodes: Any = ()) -> pd.DataFrame:
    """Count who answered.

    Args:
        df: the one table, of one run or several.
        nodes: names of nodes to list even if they answered nothing (a list, or the frame of ``cluster.nodes()``).

    Returns:
        One row for each node and pod, then one for each way not to answer: node, pod, requests.
    """
    answered = df[df["node"].notna()]
    counts = answered.groupby([answered["node"].astype(str), answered["pod"].astype(str)]).size()
    rows = [(node, pod, int(count)) for (node, pod), count in counts.items()]
    silent = set(_node_names(nodes)) - {node for node, _, _ in rows}
    rows = sorted(rows + [(node, "", 0) for node in silent])
    rows += [(label, "", count) for label, count in _no_answers(df).items()]
    frame = pd.DataFrame(rows, columns=["node", "pod", "requests"])
    return _titled(frame)


def requests_per_node(df: pd.DataFrame, nodes: Any = ()) -> Picture:
    """Draw who answered: a bar for each node, stacked by pod; what was not answered has bars of its own.

    Args:
        df: the one table.
        nodes: names of nodes to draw even if they answered nothing.
    """
    table = requests_per_node_table(df, nodes).set_axis(["node", "pod", "requests"], axis="columns")
    unanswered = _no_answers(df)
    bars = list(dict.fromkeys(table["node"]))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for at, bar in enumerate(bars):
            is_answer = bar not in unanswered
            left = 0
            for row in table[table["node"] == bar].itertuples():
                style: dict[str, Any] = (
                    node_style(bar) if is_answer else {"facecolor": NO_ANSWER_COLOUR, "hatch": "xxx"}
                )
                axes.barh(at, row.requests, left=left, edgecolor=INK, linewidth=1.2, height=0.6, **style)
                has_room = row.requests / max(len(df), 1) > NARROW
                _label_segment(axes, left, row.requests, at, str(row.requests), _short(row.pod) if has_room else "")
                left += row.requests
        _finish(axes, bars, df, t("nodes.title"))

    parts = [_bar_words(table[table["node"] == bar]) for bar in bars]
    alt = t("nodes.alt", total=len(df), parts="; ".join(parts) or t("nodes.empty"))
    return picture(draw, (8.2, 1.5 + 0.75 * max(len(bars), 1)), alt, t("nodes.caption"))


def _bar_words(rows: pd.DataFrame) -> str:
    node, pods = rows["node"].iloc[0], [row for row in rows.itertuples() if row.pod]
    if not pods:
        return t("nodes.none", node=node) if not rows["requests"].sum() else f"{node}: {rows['requests'].sum()}"
    inside = ", ".join(f"{row.pod} {row.requests}" for row in pods)
    return t("nodes.part", node=node, count=rows["requests"].sum(), pods=inside)


def _label_segment(axes: Axes, left: int, width: int, at: int, count: str, pod: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    if width:
        axes.text(left + width / 2, at, count, ha="center", va="center", color=INK, bbox=box)
    else:
        axes.annotate(count, (left, at), (6, 0), textcoords="offset points", va="center", color=INK)
    if pod and width:
        axes.annotate(pod, (left + width / 2, at - 0.32), (0, 2), textcoords="offset points", ha="center", va="bottom")


def _finish(axes: Axes, bars: list[str], df: pd.DataFrame, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_yticks(range(len(bars)), bars)
    axes.set_ylim(len(bars) - 0.4 if bars else 1, -0.7)
    axes.set_xlim(0, max(len(df), 1) * 1.04)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel(t("axis.requests"))
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


# -- what nginx logged -------------------------------------------------------------------------------------------------


def source_addresses_table(
    before: pd.DataFrame, after: pd.DataFrame, *, names: tuple[str, str] | None = None
) -> pd.DataFrame:
    """Count the source IPs that nginx logged, before and after.

    Args:
        before: the one table of one run.
        after: the one table of another.
        names: of the two; None: the policies in force.

    Returns:
        One row for each source IP, the client's own first, then one for each way not to answer: source_ip, whose
        address it is, and a column of counts for each of the two.
    """
    first, second = names or _policies(before, after)
    keys = list(dict.fromkeys([*_source_rows(before), *_source_rows(after)]))
    keys.sort(key=lambda key: (key[2] != "client", key[2] == "", key[0]))
    rows = [(a, owner_words(k, n), _source_rows(before).get((a, n, k), 0), _source_rows(after).get((a, n, k), 0))
            for a, n, k in keys]  # fmt: skip
    return _titled(pd.DataFrame(rows, columns=["source_ip", "owner", first, second]))


def source_addresses(before: pd.DataFrame, after: pd.DataFrame, *, names: tuple[str, str] | None = None) -> Picture:
    """Draw the source IPs that nginx logged, before and after, with whose addresses they are.

    Args:
        before: the one table of one run, for example under ``Cluster``.
        after: the one table of another, for example under ``Local``.
        names: of the two; None: the policies in force.
    """
    titles = names or _policies(before, after)
    tables = (_source_rows(before), _source_rows(after))
    keys = list(dict.fromkeys([*tables[0], *tables[1]]))
    keys.sort(key=lambda key: (key[2] != "client", key[2] == "", key[0]))

    def draw(figure: Figure) -> None:
        both = figure.subplots(1, 2, sharey=True)
        for axes, title, frame, counts in zip(both, titles, (before, after), tables, strict=True):
            for at, key in enumerate(keys):
                count = counts.get(key, 0)
                axes.barh(at, count, edgecolor=INK, linewidth=1.2, height=0.6, **_source_style(key))
                axes.annotate(str(count), (count, at), (6, 0), textcoords="offset points", va="center")
            _finish(
                axes, [_source_label(key) for key in keys], frame, t("sources.label", policy=title, count=len(frame))
            )
            axes.set_xlim(0, max(len(before), len(after), 1) * 1.15)
            if max(map(len, titles)) > LONG_NAME:  # or the two would read as one line
                axes.title.set_fontsize("small")
        both[0].set_ylabel(t("axis.source"))
        both[1].tick_params(labelleft=False)
        figure.suptitle(t("sources.title"), x=0.01, ha="left")

    alt = t(
        "sources.alt",
        before=titles[0],
        after=titles[1],
        first=_source_words(tables[0]),
        second=_source_words(tables[1]),
    )
    caption = t("sources.caption", before=titles[0], after=titles[1])
    return picture(draw, (9.6, 2.0 + 0.8 * max(len(keys), 1)), alt, caption)


SourceKey = tuple[str, str, str]  # address or what happened instead, node that owns it, kind ("" if no answer)


def _source_rows(df: pd.DataFrame) -> dict[SourceKey, int]:
    logged = df[df["source_ip"].notna()]
    rows: dict[SourceKey, int] = {}
    for address, node, kind in zip(logged["source_ip"], logged["source_node"], logged["source_kind"], strict=True):
        key = (str(address), text_of(node), text_of(kind) or "unknown")
        rows[key] = rows.get(key, 0) + 1
    return rows | {(label, "", ""): count for label, count in _no_answers(df).items()}


def _source_style(key: SourceKey) -> dict[str, Any]:
    _, node, kind = key
    if kind == "client":
        return {"facecolor": CLIENT_COLOUR}
    if kind == "":
        return {"facecolor": NO_ANSWER_COLOUR, "hatch": "xxx"}
    return node_style(node) if node else {"facecolor": OTHER_COLOUR, "hatch": "--"}


def _source_label(key: SourceKey) -> str:
    address, node, kind = key
    return f"{address}\n{owner_words(kind, node)}"


def _source_words(rows: dict[SourceKey, int]) -> str:
    parts = [t("sources.part", count=n, address=a, owner=owner_words(k, node)) for (a, node, k), n in rows.items()]
    return ", ".join(parts) or t("nodes.empty")


def _policies(before: pd.DataFrame, after: pd.DataFrame) -> tuple[str, str]:
    """The policies in force, told apart even if they are the same."""
    first, second = (", ".join(dict.fromkeys(df["policy"].dropna().astype(str))) or "-" for df in (before, after))
    return (first, second) if first != second else (f"1: {first}", f"2: {second}")


def _no_answers(df: pd.DataFrame) -> dict[str, int]:
    """What happened to the requests that no pod is known to have logged, in words, and how many."""
    silent = df[df["node"].isna()]
    counts = silent["error"].astype(object).fillna("").value_counts()
    return {(t("no_answer", error=error) if error else t("no_log")): int(count) for error, count in counts.items()}


def _node_names(nodes: Any) -> list[str]:
    if isinstance(nodes, pd.DataFrame):
        column = next((name for name in ("name", "NAME", "node") if name in nodes), None)
        return [str(name) for name in (nodes[column] if column else nodes.index)]
    return [str(node) for node in nodes]


def _titled(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame, its columns in the reader's language."""
    words = {name: t(f"col.{name}") for name in ("node", "pod", "requests", "source_ip", "owner")}
    return frame.rename(columns=words)


def _short(pod: str) -> str:
    """The part of a pod's name that tells it from its siblings: ``…ck6h2``."""
    return f"…{pod.rsplit('-', 1)[-1]}" if "-" in pod else pod


__all__ = [
    "Picture",
    "request_path",
    "request_path_table",
    "requests_per_node",
    "requests_per_node_table",
    "show",
    "source_addresses",
    "source_addresses_table",
]
