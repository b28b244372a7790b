"""The live picture: clients, nodes, pods, the VIP at its announcer, the last request's way, and where SNAT happened.

    view + state -> SVG

Drawn by hand as SVG, since it changes twice a second: a text of some kilobytes, where matplotlib would take 100 ms of
CPU for each. Its ``<title>`` and ``<desc>`` say the same to who cannot see it. A colour is always beside a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from srcip_nb.dashboard_state import Period
from srcip_nb.dashboard_way import last_way
from srcip_nb.dashboard_world import Node, Pod, View
from srcip_nb.path_figure import CHANGED, Path
from srcip_nb.picture import INK, node_style
from srcip_nb.text import t

WIDTH, HEIGHT = 720, 330
KEPT = "#00664B"  # Okabe and Ito's bluish green, darker: 6.6:1 on white
GREY = "#5A5A5A"
FONT = "system-ui, 'DejaVu Sans', 'Noto Sans CJK JP', 'Noto Sans JP', IPAexGothic, sans-serif"
MOST_NODES = 4
_IDLE, _HIGHEST = 36.0, 136.0
MOST_CLIENTS = 4
_CLIENT, _FRAME, _RULES, _PODS = (4, 130), (250, 716), (268, 436), (476, 706)
_GAP, _TITLE = 8, 27
_POD_HEIGHT = 32


def picture(view: View, period: Period) -> str:
    """The cluster and the last request's way as an SVG element."""
    path = last_way(period, view)
    nodes = _shown_nodes(view, path)
    places = _places(view, nodes, path)
    boxes = {
        pod.name: box
        for node in nodes
        for pod, box in _pod_boxes([pod for pod in view.pods if pod.node == node.name], *places[node.name])
    }
    parts = [_frame(view, node, *places[node.name], path) for node in nodes]
    parts += [_pod(pod, boxes[pod.name], path) for pod in view.pods if pod.name in boxes]
    parts += [_more(view, nodes)]
    starts = _clients(view, period)
    parts += [shape for shape, _name, _middle in starts]
    if path is not None:
        middles = {name: middle for _shape, name, middle in starts}
        parts.append(_way(path, period, places, boxes, middles))
    words = description(view, path)
    attributes = {
        "role": "img",
        "aria-label": words,
        "viewBox": f"0 0 {WIDTH} {HEIGHT}",
        "width": "100%",
        "style": "max-width:900px;background:#fff;display:block",
        "font-family": FONT,
        "font-size": "13",
        "fill": INK,
    }
    head = " ".join(f'{name}="{escape(value, quote=True)}"' for name, value in attributes.items())
    told = f"<title>{escape(t('dash.picture'))}</title><desc>{escape(words)}</desc>"
    return f"<svg {head}>{told}{_ARROWS}{''.join(parts)}</svg>"


def description(view: View, path: Path | None) -> str:
    """What the picture shows, in sentences."""
    words = [t("dash.says.vip", vip=view.vip or "-", nodes=", ".join(view.announcers) or t("path.unknown"))]
    for node in view.nodes:
        pods = ", ".join(f"{pod.name} {pod.address}" for pod in view.pods if pod.node == node.name)
        words.append(t("dash.says.node", node=node.name, address=node.address, pods=pods or t("dash.no_pods")))
    if path is None:
        words.append(t("dash.says.nothing"))
    elif path.pod:
        told = _told(path)
        legs = f"{path.client} {path.client_ip} → {path.entry or t('path.unknown_node')} → {path.pod}"
        words.append(t("dash.says.way", way=legs, told=told))
    else:
        words.append(t("dash.says.lost", client=path.client, target=path.target, error=path.error))
    return " ".join(words)


def _told(path: Path) -> str:
    if path.is_changed:
        return t("path.snat", old=path.client_ip, new=path.source_ip)
    return t("path.no_snat", old=path.client_ip)


_ARROWS = (
    '<defs><marker id="srcip-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    f'orient="auto">'
    f'<path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>'
)


def _shown_nodes(view: View, path: Path | None) -> list[Node]:
    """The nodes that have a part in it, and as many others as there is room."""
    busy = {pod.node for pod in view.pods} | set(view.announcers[:1]) | ({path.entry, path.node} if path else set())
    ranked = sorted(view.nodes, key=lambda node: node.name not in busy)[:MOST_NODES]
    return sorted(ranked, key=lambda node: node.name)


def _places(view: View, nodes: Sequence[Node], path: Path | None) -> dict[str, tuple[float, float]]:
    """Top and height of each node: one where nothing happens has room for its name only."""
    busy = {pod.node for pod in view.pods} | set(view.announcers) | ({path.entry} if path else set())
    idle = [node.name for node in nodes if node.name not in busy] if len(nodes) > 1 else []
    room = HEIGHT - 4 - _GAP * (len(nodes) - 1) - _IDLE * len(idle)
    places, top = {}, 2.0
    for node in nodes:
        height = _IDLE if node.name in idle else min(_HIGHEST, room / max(1, len(nodes) - len(idle)))
        places[node.name] = (top, height)
        top += height + _GAP
    return places


def _more(view: View, nodes: Sequence[Node]) -> str:
    hidden = len(view.nodes) - len(nodes)
    return _text(_CLIENT[0], HEIGHT - 4, t("dash.more_nodes", count=hidden), fill=GREY) if hidden else ""


def _frame(view: View, node: Node, top: float, height: float, path: Path | None) -> str:
    left, right = _FRAME
    colour = node_style(node.name)["facecolor"]
    is_entry = path is not None and path.entry == node.name
    state = "" if node.is_ready else f" ({t('dash.not_ready')})"
    parts = [
        _rect(left, top, right - left, height, fill=colour, opacity=0.13),
        _rect(
            left,
            top,
            right - left,
            height,
            fill="none",
            stroke=INK if is_entry else "#8A8A8A",
            width=1.8 if is_entry else 1,
        ),
        f'<rect x="{left}" y="{top:.0f}" width="8" height="{height:.0f}" rx="3" fill="{colour}"/>',
        f'<text x="{left + 18}" y="{top + 17:.0f}"><tspan font-weight="700">{escape(node.name)}</tspan>'
        f'<tspan dx="8">{escape(node.address + state)}</tspan></text>',
    ]
    if node.name in view.announcers and view.vip:
        words = t("dash.vip", vip=view.vip)
        width = 14 + _width(words)
        parts.append(_rect(right - width - 6, top + 3, width, 19, fill="#FFFFFF", stroke=INK, width=1.4, radius=9))
        parts.append(_text(right - width / 2 - 6, top + 17, words, anchor="middle", weight=700, size=12))
    if not any(pod.node == node.name for pod in view.pods):
        parts.append(
            _text((_PODS[0] + _PODS[1]) / 2, top + height / 2 + 5, t("dash.no_pods"), anchor="middle", fill=GREY)
        )
    return "".join(parts)


def _pod_boxes(pods: list[Pod], top: float, height: float) -> list[tuple[Pod, tuple[float, float, float, float]]]:
    """Where a node's pods stand: one column, two where there are more than fit."""
    room = max(1, int((height - _TITLE) // (_POD_HEIGHT + 3)))
    columns = 1 if len(pods) <= room else 2
    rows = -(-min(len(pods), room * columns) // columns)
    first = top + _TITLE + max(0.0, (height - _TITLE - rows * (_POD_HEIGHT + 3)) / 2 - 2)
    width = (_PODS[1] - _PODS[0] - 6 * (columns - 1)) / columns
    found = []
    for at, pod in enumerate(pods[: room * columns]):
        x = _PODS[0] + (at % columns) * (width + 6)
        y = first + (at // columns) * (_POD_HEIGHT + 3)
        found.append((pod, (x, y, width, float(_POD_HEIGHT))))
    return found


def _pod(pod: Pod, box: tuple[float, float, float, float], path: Path | None) -> str:
    x, y, width, height = box
    has_answered = path is not None and path.pod == pod.name
    name = f"…{pod.name.rsplit('-', 1)[-1]}"
    first = name if width < 150 else f"{t('dash.pod')} {name}  {pod.address}"
    if pod.state != "ready":
        first += f" ({t(f'dash.{pod.state}')})"
    second = t("dash.sees", source=path.source_ip) if path is not None and has_answered else ""
    line = y + (height / 2 + 5 if not second else 13)
    parts = [
        _rect(x, y, width, height, fill="#FFFFFF", stroke=INK, width=2 if has_answered else 1, radius=5),
        _text(x + 7, line, first, size=12),
    ]
    if second and path is not None:
        colour = CHANGED if path.is_changed else KEPT
        parts.append(_text(x + 7, y + 27, second, size=12, weight=700, fill=colour))
    return "".join(parts)


def _clients(view: View, period: Period) -> list[tuple[str, str, float]]:
    """The hosts outside the cluster: shape, name, and the height at which their requests leave."""
    found = view.clients[:MOST_CLIENTS]
    height = 46
    top = (HEIGHT - len(found) * (height + 10) + 10) / 2
    shapes = []
    for at, (name, address) in enumerate(found):
        y = top + at * (height + 10)
        sends = period.setting.start == "client" and at < period.setting.clients
        shape = _rect(
            _CLIENT[0], y, _CLIENT[1] - _CLIENT[0], height, fill="#FFFFFF", stroke=INK, width=2 if sends else 1
        )
        mark = f"▶ {name}" if sends else name
        shape += _text(_CLIENT[0] + 9, y + 19, mark, weight=700) + _text(_CLIENT[0] + 9, y + 37, address)
        shapes.append((shape, name, y + height / 2))
    return shapes


def _way(
    path: Path,
    period: Period,
    places: dict[str, tuple[float, float]],
    boxes: dict[str, tuple[float, float, float, float]],
    clients: dict[str, float],
) -> str:
    top, height = places.get(path.entry, (None, 0.0))
    if top is None:  # by which node it came is not known: nothing is drawn that is not known
        words = t("path.unknown_node") if path.pod else f"✗ {path.error}"
        start = clients.get(path.client, HEIGHT / 2)
        return _arrow(_CLIENT[1], start, _FRAME[0] - 6, start) + _text(_CLIENT[1] + 6, start - 8, words, size=12)
    middle = top + _TITLE + (height - _TITLE) / 2
    parts = []
    if path.client in clients:
        start = clients[path.client]
        parts.append(_curve(_CLIENT[1], start, _RULES[0], middle))
        below_the_line = 18 if middle < start else -22
        parts.append(_label(_CLIENT[1] + 5, start + below_the_line, path.target))
    elif path.client in boxes:  # a pod asks: by its own node's rules
        x, y, _w, pod_height = boxes[path.client]
        parts.append(_arrow(x, y + pod_height - 6, _RULES[1], middle + 14))
    parts.append(_rules(path, period, middle, height - _TITLE))
    if path.pod in boxes:
        x, y, _w, pod_height = boxes[path.pod]
        parts.append(_curve(_RULES[1], middle, x, y + pod_height / 2))
    elif not path.pod:
        parts.append(_text(_RULES[1] + 8, middle + 5, f"✗ {path.error}", weight=700, fill=CHANGED))
    return "".join(parts)


def _rules(path: Path, period: Period, middle: float, room: float) -> str:
    """What kube-proxy's rules on the entry node did to the addresses."""
    left, right = _RULES
    half = min(32.0, room / 2 - 3)
    mode = period.setting.mode
    lines = [(f"kube-proxy{f' ({mode})' if mode else ''}", INK, 400)]
    if path.pod:
        lines.append((f"DNAT → {path.pod_ip or t('path.unknown')}", INK, 400))
        told = f"SNAT → {path.source_ip}" if path.is_changed else t("dash.no_snat")
        lines.append((told, CHANGED if path.is_changed else KEPT, 700))
    else:
        lines.append((t("dash.no_answer"), CHANGED, 700))
    colour = CHANGED if not path.pod or path.is_changed else KEPT
    shape = _rect(left, middle - half, right - left, 2 * half, fill="#FFFFFF", stroke=colour, width=2)
    step = 2 * half / (len(lines) + 0.35)
    words = "".join(
        _text(left + 9, middle - half + step * (at + 0.85), line, size=12, weight=weight, fill=fill)
        for at, (line, fill, weight) in enumerate(lines)
    )
    return shape + words


# -- shapes ------------------------------------------------------------------------------------------------------------


def _rect(
    x: float,
    y: float,
    w: float,
    h: float,
    *,
    fill: str,
    stroke: str = "none",
    width: float = 1,
    opacity: float = 1,
    radius: int = 6,
) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{w:.0f}" height="{h:.0f}" rx="{radius}" fill="{fill}" '
        f'fill-opacity="{opacity}" stroke="{stroke}" stroke-width="{width}"/>'
    )


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 13, weight: int = 400, fill: str = INK
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}">{escape(words)}</text>'
    )


def _label(x: float, y: float, words: str) -> str:
    return _text(x, y, t("dash.asks"), size=12, fill=GREY) + _text(x, y + 15, words, size=12)


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<path d="M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}" fill="none" stroke="{INK}" stroke-width="2" '
        'marker-end="url(#srcip-arrow)"/>'
    )


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x1 + x2) / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f}C{bend:.0f} {y1:.0f} {bend:.0f} {y2:.0f} {x2 - 1:.0f} {y2:.0f}" fill="none" '
        f'stroke="{INK}" stroke-width="2" marker-end="url(#srcip-arrow)"/>'
    )


def _width(words: str) -> float:
    """About how wide a text of 12 px is: a letter 7 px, a Japanese character 12."""
    return sum(12.5 if ord(letter) > 0x2E7F else 7.3 for letter in words)
