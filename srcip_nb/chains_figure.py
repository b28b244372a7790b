"""A request's way from chain to chain, drawn: a column for each node, a box for each visit of a chain, top to bottom.

    prerouting   | PREROUTING
                 | KUBE-SERVICES
                 | KUBE-MARK-MASQ      mark 0x0 → 0x4000
                 # KUBE-SVC-…                                   the hatched bar: the packet is marked
    postrouting  # KUBE-POSTROUTING    mark 0x4000 → 0x0

Drawn is what ``rules_met`` lists: what the kernels said, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from srcip_nb.chains import MARK, rules_met
from srcip_nb.explain import CONNTRACK
from srcip_nb.notebook import Sentence
from srcip_nb.path_figure import CHANGED
from srcip_nb.picture import INK, Picture, node_style, picture
from srcip_nb.text import t

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_LENGTH = 24
_NARROWEST, _LINE = 10.9, 0.31  # inches
_HOOK, _BOX, _CHANGES = 1.25, 2.45, 3.2  # widths of a column's parts


@dataclass(frozen=True)
class Visit:
    """One stay of the packet in a chain.

    Attributes:
        node: where.
        hook: the kernel's hook that led there.
        chain: its name.
        changes: what was changed there, a line each.
        is_marked: whether the packet left it marked for masquerading.
    """

    node: str
    hook: str
    chain: str
    changes: tuple[str, ...]
    is_marked: bool


def visits(walk: pd.DataFrame) -> list[Visit]:
    """The chains in which a packet met a rule, in order; rules met one after another in the same chain are one visit.

    Args:
        walk: from ``chains.follow`` or ``explain``, not empty.
    """
    found: list[Visit] = []
    rules = walk[(walk["rule"].fillna("") != "") & (walk["table"] != CONNTRACK)]
    told = rules_met(walk)
    if isinstance(told, Sentence):
        return []
    for row, mark in zip(told.itertuples(), rules["mark_after"], strict=True):
        before = found[-1] if found else None
        is_same = before is not None and (before.node, before.hook, before.chain) == (row.node, row.hook, row.chain)
        # Where the kernel does not say the mark, the packet is drawn as it was.
        was_marked = before is not None and before.node == row.node and before.is_marked
        is_marked = was_marked if pd.isna(mark) else bool(int(mark, 16) & MARK)
        changes = tuple(str(row.changed).split(", ")) if row.changed else ()
        if is_same and before is not None:
            changes = (*before.changes, *changes)
            found.pop()
        found.append(Visit(str(row.node), str(row.hook), str(row.chain), changes, is_marked))
    return found


def chains_figure(walk: pd.DataFrame) -> Picture | Sentence:
    """Draw the chains that a packet went through on each node, where it was marked, and what was changed.

    Args:
        walk: from ``chains.follow`` or ``explain``.

    Returns:
        The figure; on a real cluster the sentence that says why there is none.
    """
    told = rules_met(walk)
    if isinstance(told, Sentence):
        return told
    if told.empty:
        return Sentence(t("chains.nothing"))
    found = visits(walk)
    nodes = list(dict.fromkeys(visit.node for visit in found))
    most = max(sum(_height(visit) for visit in found if visit.node == node) for node in nodes)
    alt = t("chains.alt", steps="; ".join(_words(visit) for visit in found))
    height = _LINE * (most + 2.2)
    lefts = {node: sum(_width(found, before) for before in nodes[:at]) for at, node in enumerate(nodes)}
    size = (max(_NARROWEST, sum(_width(found, node) for node in nodes)), height)
    return picture(lambda figure: _draw(figure, found, lefts, size), size, alt, t("chains.caption"))


def _width(found: Iterable[Visit], node: str) -> float:
    has_changes = any(visit.changes for visit in found if visit.node == node)
    return _HOOK + _BOX + (_CHANGES if has_changes else 0.2)


def _height(visit: Visit) -> int:
    return max(1, len(visit.changes))


def _words(visit: Visit) -> str:
    changes = f" ({', '.join(visit.changes)})" if visit.changes else ""
    return f"{visit.node} {visit.hook} {visit.chain}{changes}"


def _short(chain: str) -> str:
    return chain if len(chain) <= NAME_LENGTH else f"{chain[: NAME_LENGTH - 1]}…"


def _draw(figure: Figure, found: Iterable[Visit], lefts: dict[str, float], size: tuple[float, float]) -> None:
    axes = figure.add_subplot()
    axes.set_xlim(0, size[0])
    axes.set_ylim(-size[1], 0)
    axes.axis("off")
    for node, left in lefts.items():
        top, hook = -0.1, ""
        style = {"facecolor": node_style(node)["facecolor"], "alpha": 0.35, "edgecolor": INK, "pad": 4}
        axes.text(left + 0.1, top, t("path.node", node=node), va="top", bbox=style)
        top -= 1.3 * _LINE
        for visit in found:
            if visit.node == node:
                _draw_visit(axes, left, top, visit, visit.hook if visit.hook != hook else "")
                hook = visit.hook
                top -= _height(visit) * _LINE


def _draw_visit(axes: Axes, left: float, top: float, visit: Visit, hook: str) -> None:
    from matplotlib.patches import Rectangle

    height, gap = _height(visit) * _LINE, 0.05
    middle = top - height / 2
    axes.text(left + 0.05, middle, hook, va="center", style="italic")
    corner = (left + _HOOK, top - height + gap)
    axes.add_patch(Rectangle(corner, _BOX, height - 2 * gap, facecolor="white", edgecolor=INK, linewidth=1.0))
    if visit.is_marked:
        bar = (left + _HOOK - 0.14, top - height)
        axes.add_patch(Rectangle(bar, 0.14, height, facecolor="white", edgecolor=CHANGED, hatch="////", linewidth=1.0))
    axes.text(left + _HOOK + 0.08, middle, _short(visit.chain), va="center", fontsize="small")
    lines = "\n".join(visit.changes)
    axes.text(left + _HOOK + _BOX + 0.12, middle, lines, va="center", fontsize="small", color=CHANGED)
