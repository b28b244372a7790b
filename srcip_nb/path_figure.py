"""The path of one request: client, the node it came in by, the pod; and where its source address was changed.

What is drawn comes from one row of the one table and from the address book: the client's own address on its socket, the
address it asked for, what the pod's nginx logged, and whose addresses these are. No row holds by which node a request
to a load balancer's address came in: the load balancer may have said so (``df.attrs["announcer"]``), or it is concluded
and drawn as that; where it cannot be known, the figure says "not known".

    client ----------------> [ node: kube-proxy's rules ] ----------------> [ node: pod ]
             first leg           DNAT, and SNAT or not        second leg
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from srcip_nb.errors import UsageError
from srcip_nb.picture import INK, Picture, node_style, picture, text_of
from srcip_nb.text import t

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANGED = "#B33A00"  # darker than the nodes' vermilion: 5.9:1 on white


@dataclass(frozen=True)
class Path:
    """What is known of one request's way; "" where something is not known.

    Attributes:
        request: its number.
        policy: externalTrafficPolicy in force.
        client: the host that sent it, and ``client_ip`` its own address on that socket.
        target: the host:port it asked for.
        error: why it was not answered, "" if it was.
        entry: the node it came in by, and ``entry_reason`` a key of ``text`` for how that is known.
        pod: who answered, ``pod_ip`` its address, ``node`` where it runs.
        source_ip: what the pod's nginx logged.
        by: a key of ``text``: how it came from the entry node to the pod.
    """

    request: int
    policy: str
    client: str
    client_ip: str
    target: str
    error: str
    entry: str
    entry_reason: str
    pod: str
    pod_ip: str
    node: str
    source_ip: str
    by: str

    @property
    def is_changed(self) -> bool:
        """Whether the pod saw another address than the client's."""
        return bool(self.source_ip) and self.source_ip != self.client_ip

    @property
    def is_concluded(self) -> bool:
        """Whether the entry node was neither asked for nor named by the address book."""
        return self.entry_reason in ("path.why.source", "path.why.local", "")


def path_of_request(df: pd.DataFrame, request: int = 0, addresses: pd.DataFrame | None = None) -> Path:
    """Read one request's way from the one table.

    Args:
        df: the one table of one run.
        request: which request.
        addresses: the address book (``cluster.addresses()``): names the pod's address and the owner of the target.

    Raises:
        UsageError: the table has no such request.
    """
    rows = df[df["request"] == request]
    if rows.empty:
        raise UsageError(f"there is no request {request} in this table", f"It has {len(df)}: choose 0 to {len(df) - 1}")
    row = {name: text_of(value) for name, value in rows.iloc[0].items()}
    announcer = str(df.attrs.get("announcer") or "") if row["target"] == df.attrs.get("target") else ""
    asked_vip = bool(announcer) and row["target"].rpartition(":")[0] == df.attrs.get("vip")
    entry, reason = (announcer, "path.why.announced") if asked_vip else _entry_node(row, addresses)
    return Path(
        request=request,
        policy=row["policy"],
        client=row["client"],
        client_ip=row["client_ip"],
        target=row["target"],
        error=row["error"],
        entry=entry,
        entry_reason=reason,
        pod=row["pod"],
        pod_ip=_pod_address(row["pod"], addresses),
        node=row["node"],
        source_ip=row["source_ip"],
        by=_way(entry, row),
    )


def _entry_node(row: dict[str, str], addresses: pd.DataFrame | None) -> tuple[str, str]:
    host = row["target"].rpartition(":")[0]
    owner = _owner(host, addresses)
    source_is_a_nodes = row["source_kind"] in ("node", "pod-network")
    if owner.get("node") and owner.get("kind") == "node":
        return owner["node"], "path.why.target"
    if source_is_a_nodes and row["source_node"]:
        return row["source_node"], "path.why.source"
    if row["preserved"] == "True" and row["policy"] == "Local":
        return row["node"], "path.why.local"
    return "", ""


def _owner(address: str, addresses: pd.DataFrame | None) -> dict[str, str]:
    if addresses is None:
        return {}
    found = addresses[addresses["address"].astype(str) == address]
    return {} if found.empty else {name: text_of(value) for name, value in found.iloc[0].items()}


def _pod_address(pod: str, addresses: pd.DataFrame | None) -> str:
    if addresses is None or not pod:
        return ""
    found = addresses[(addresses["kind"] == "pod") & (addresses["owner"].astype(str) == pod)]
    return "" if found.empty else str(found["address"].iloc[0])


def _way(entry: str, row: dict[str, str]) -> str:
    if not entry or not row["node"]:
        return ""
    if entry == row["node"]:
        return "path.inside"
    return "path.tunnel" if row["source_kind"] == "pod-network" else "path.between"


# -- the same as a table -----------------------------------------------------------------------------------------------


def request_path_table(df: pd.DataFrame, request: int = 0, addresses: pd.DataFrame | None = None) -> pd.DataFrame:
    """Write the path of one request, one leg a row: from, to, by way of, source, destination, what is known.

    Args:
        df: the one table of one run.
        request: which request.
        addresses: the address book (``cluster.addresses()``).

    Raises:
        UsageError: the table has no such request.
    """
    path = path_of_request(df, request, addresses)
    unknown = t("path.unknown")
    first = (path.client, path.entry or unknown, t("path.lan"), path.client_ip, path.target)
    rows = [(*first, t(path.entry_reason) if path.entry_reason else unknown)]
    if path.pod:
        way = t(path.by) if path.by else unknown
        second = (path.entry or unknown, f"{path.pod} ({path.node})", way, path.source_ip or unknown)
        rows.append((*second, path.pod_ip or unknown, _source_words(path)))
    else:
        rows.append((path.entry or unknown, unknown, unknown, unknown, unknown, _lost_words(path)))
    columns = [t(f"col.{name}") for name in ("from", "to", "by", "source", "destination", "note")]
    return pd.DataFrame(rows, columns=columns, index=pd.Index([1, 2], name=t("col.leg")))


def _source_words(path: Path) -> str:
    if not path.source_ip:
        return t("path.unknown")
    if path.is_changed:
        return t("path.snat", old=path.client_ip, new=path.source_ip)
    return t("path.no_snat", old=path.client_ip)


def _lost_words(path: Path) -> str:
    return t("path.lost", error=path.error) if path.error else t("no_log")


# -- the figure --------------------------------------------------------------------------------------------------------


def request_path(df: pd.DataFrame, request: int = 0, addresses: pd.DataFrame | None = None) -> Picture:
    """Draw the path of one request: each leg's source and destination, and where SNAT happened.

    Args:
        df: the one table of one run.
        request: which request.
        addresses: the address book (``cluster.addresses()``).

    Raises:
        UsageError: the table has no such request.
    """
    path = path_of_request(df, request, addresses)
    unknown = t("path.unknown")
    steps = [
        t("path.step", where=f"{path.client} → {path.entry or unknown}", source=path.client_ip, destination=path.target)
    ]
    if path.pod:
        where = f"{path.entry or unknown} → {path.pod} ({path.node})"
        steps += [t("path.step", where=where, source=path.source_ip or unknown, destination=path.pod_ip or unknown)]
        steps += [_source_words(path)]
    else:
        steps += [_lost_words(path)]
    alt = t("path.alt", request=request, policy=path.policy, steps="; ".join(steps))
    return picture(lambda figure: _draw(figure, path), (10.9, 4.4), alt, t("path.caption"))


# The picture's own coordinates: 14.6 wide, 5.6 high.
_WIDTH, _HEIGHT = 14.6, 5.6
_CLIENT, _RULES, _POD = (0.1, 2.4), (5.3, 7.9), (11.6, 14.2)
_MIDDLE, _HALF = 3.1, 0.6
_FRAME_LOW, _FRAME_HIGH = 1.75, 4.9


def _draw(figure: Figure, path: Path) -> None:
    axes = figure.add_subplot()
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(0, _HEIGHT)
    axes.axis("off")
    axes.set_title(t("path.title", request=path.request, policy=path.policy or "-"), loc="left")
    is_one_node = bool(path.pod) and path.entry == path.node
    _frame(axes, _RULES[0], _POD[1] if is_one_node else _RULES[1], path.entry)
    _box(axes, *_CLIENT, f"{path.client}\n{path.client_ip}", is_known=True)
    _box(axes, *_RULES, t("path.rules"), is_known=not path.is_concluded)
    _leg(axes, _CLIENT[1], _RULES[0] - 0.25, path.client_ip, path.target, t("path.lan"))
    reason = t(path.entry_reason) if path.entry_reason else ""
    axes.text((_RULES[0] + _RULES[1]) / 2, _FRAME_LOW - 0.32, reason, ha="center", va="top")
    if path.pod:
        if not is_one_node:
            _frame(axes, *_POD, path.node)
        _box(axes, *_POD, f"{t('path.pod')}\n…{path.pod.rsplit('-', 1)[-1]}", is_known=True)
        way = t(path.by) if path.by else t("path.unknown")
        gap = 0 if is_one_node else 0.25
        _leg(axes, _RULES[1] + gap, _POD[0] - gap, path.source_ip, path.pod_ip, way, is_changed=path.is_changed)
        dnat = t("path.dnat", old=path.target, new=path.pod_ip or t("path.unknown"))
        _note(axes, f"{_source_words(path)}\n{dnat}", is_marked=path.is_changed)
    else:
        axes.text(_RULES[1] + 0.9, _MIDDLE, "✗", fontsize=26, ha="center", va="center", color=CHANGED)
        _note(axes, _lost_words(path), is_marked=True)


def _frame(axes: Axes, left: float, right: float, node: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    styles: tuple[dict[str, Any], ...] = (
        {"facecolor": node_style(node)["facecolor"] if node else "none", "alpha": 0.35, "edgecolor": "none"},
        {"facecolor": "none", "edgecolor": INK, "linewidth": 1.6, "linestyle": "-" if node else "--"},
    )
    for style in styles:
        corner, width, height = (left, _FRAME_LOW), right - left, _FRAME_HIGH - _FRAME_LOW
        axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0.2", **style))
    name = t("path.node", node=node) if node else t("path.unknown_node")
    axes.text(left, _FRAME_HIGH, name, ha="left", va="top")


def _box(axes: Axes, left: float, right: float, words: str, *, is_known: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = FancyBboxPatch(
        (left, _MIDDLE - _HALF),
        right - left,
        2 * _HALF,
        boxstyle="round,pad=0,rounding_size=0.15",
        facecolor="white",
        edgecolor=INK,
        linewidth=1.2,
        linestyle="-" if is_known else "--",
    )
    axes.add_patch(shape)
    axes.text((left + right) / 2, _MIDDLE, words, ha="center", va="center")


def _leg(
    axes: Axes, left: float, right: float, source: str, destination: str, way: str, is_changed: bool = False
) -> None:
    """An arrow with the packet's source over it and its destination under it."""
    unknown, middle = t("path.unknown"), (left + right) / 2
    line = {"arrowstyle": "-|>", "linewidth": 1.6, "color": INK, "linestyle": "-" if source else "--"}
    axes.annotate("", (right - 0.05, _MIDDLE), (left + 0.05, _MIDDLE), arrowprops=line)
    box = {"facecolor": "white", "edgecolor": CHANGED, "linewidth": 1.6, "pad": 3} if is_changed else None
    axes.text(middle, _MIDDLE + 0.22, source or unknown, ha="center", va="bottom", bbox=box)
    axes.text(middle, _MIDDLE + 0.7, t("path.src"), ha="center", va="bottom")
    axes.text(middle, _MIDDLE + 1.18, f"({way})", ha="center", va="bottom")
    axes.text(middle, _MIDDLE - 0.2, t("path.dst"), ha="center", va="top")
    axes.text(middle, _MIDDLE - 0.62, destination or unknown, ha="center", va="top")


def _note(axes: Axes, words: str, *, is_marked: bool) -> None:
    """What happened to the addresses at the entry node."""
    box = {"facecolor": "white", "edgecolor": CHANGED if is_marked else INK, "linewidth": 1.6, "pad": 5}
    axes.text((_RULES[0] + _RULES[1]) / 2, 0.15, words, ha="center", va="bottom", bbox=box)
