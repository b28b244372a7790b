"""The figures beside the picture: before and after, expected and observed, and the log, each as an HTML table.

A bar stands in the cell beside its number, so table and figure are one, and a screen reader reads the numbers. Before
is hatched, after is filled; the headings name them.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import islice

from srcip_nb.dashboard_expected import AS_EXPECTED, DIFFERS, NOT_ALL_SEEN, NOT_KNOWN, Comparison
from srcip_nb.dashboard_state import Period, Setting, State, label
from srcip_nb.dashboard_world import View
from srcip_nb.picture import INK, node_style, owner_words
from srcip_nb.text import t

LINES = 9  # of the log that are shown
LINE_LENGTH = 170  # characters of one
MOST_ROWS = 8
MARKS = {AS_EXPECTED: "✓", DIFFERS: "✗", NOT_ALL_SEEN: "…", NOT_KNOWN: "?"}
KEYS = {AS_EXPECTED: "as", DIFFERS: "differs", NOT_ALL_SEEN: "some", NOT_KNOWN: "unknown"}
_OTHER_COLOUR = "#6E6E6E"
_LOG = (
    "margin:2px 0;padding:4px 6px;font-family:'DejaVu Sans Mono',monospace;"
    f"font-size:11.5px;line-height:1.4;height:{LINES * 16.2 + 8:.0f}px;overflow:auto;"
    f"border:1px solid #8A8A8A;background:#fff;color:{INK}"
)
_CELL = "padding:1px 8px 1px 0;text-align:left;white-space:nowrap;vertical-align:middle"
_HEAD = f"{_CELL};font-weight:600;border-bottom:1px solid #8A8A8A"


def before_and_after(state: State, view: View) -> str:
    """Requests per source IP and per node, the period before beside the one that holds."""
    before, now = state.before, state.now
    changed = t("dash.first")
    if before is not None:
        found = before.setting.differences(now.setting)
        changed = "; ".join(f"{label(name)}: {old} → {new}" for name, (old, new) in found.items()) or t("dash.same")
    heads = [""] if before is None else ["", f"{t('dash.before')} {_short(before.setting, now.setting)}"]
    heads.append(t("dash.after") if before is None else f"{t('dash.after')} {_short(now.setting, before.setting)}")
    sources = _rows(before, now, "sources", view)
    nodes = _rows(before, now, "nodes", view)
    body = _group(t("dash.sources"), heads, sources, before, now)
    body += _group(t("dash.nodes"), heads, nodes, before, now)
    kept = t("dash.kept", kept=now.kept, answered=now.answered, sent=now.sent)
    return (
        f'<section aria-label="{escape(t("dash.compare"), quote=True)}"><div><b>{escape(t("dash.compare"))}</b> '
        f"{escape(changed)}</div>"
        f'<table class="srcip-counts" style="border-collapse:collapse;line-height:1.35">{body}</table>'
        f"<div>{escape(kept)}</div></section>"
    )


def _short(one: Setting, other: Setting) -> str:
    """What sets a period apart, short enough for a heading."""
    values = [str(mine) for name, (mine, _) in one.differences(other).items() if name != "rate"]
    return f"({', '.join(values)})" if values else ""


def _rows(before: Period | None, now: Period, what: str, view: View) -> list[tuple[str, str, int, int, str]]:
    """Label, what it is, before, now, colour; the errors after the nodes."""
    if what == "sources":
        both = (before.sources if before else Counter()) + now.sources
        keys = sorted(both, key=lambda key: (-now.sources[key], key))
        return [
            (
                key[0],
                owner_words(key[1], key[2]),
                before.sources[key] if before else 0,
                now.sources[key],
                node_style(key[2])["facecolor"] if key[2] else INK if key[1] == "client" else _OTHER_COLOUR,
            )
            for key in islice(keys, MOST_ROWS)
        ]
    names = sorted({node.name for node in view.nodes} | {key[0] for key in now.nodes})
    old, new = _by_node(before), _by_node(now)
    found = [
        (
            name,
            t("dash.pods", count=sum(pod.node == name for pod in view.pods)),
            old[name],
            new[name],
            node_style(name)["facecolor"],
        )
        for name in names[:MOST_ROWS]
    ]
    errors = (before.errors if before else Counter()) + now.errors
    return found + [
        (t("dash.no_answer"), error, before.errors[error] if before else 0, now.errors[error], _OTHER_COLOUR)
        for error in sorted(errors)
    ]


def _by_node(period: Period | None) -> Counter[str]:
    found: Counter[str] = Counter()
    for (node, _pod), number in (period.nodes if period else {}).items():
        found[node] += number
    return found


def _group(
    title: str,
    heads: list[str],
    rows: list[tuple[str, str, int, int, str]],
    before: Period | None,
    now: Period,
) -> str:
    cells = [f'<th scope="col" style="{_HEAD}">{escape(head)}</th>' for head in (title, *heads)]
    lines = [f"<tr>{''.join(cells)}</tr>"]
    for head, words, old, new, colour in rows:
        columns = [
            f'<th scope="row" style="{_CELL};font-weight:600">{escape(head)}</th>',
            f'<td style="{_CELL};white-space:normal;max-width:170px">{escape(words)}</td>',
        ]
        if before is not None:
            columns.append(f'<td style="{_CELL}">{_bar(old, before.sent, colour, is_before=True)}</td>')
        columns.append(f'<td style="{_CELL}">{_bar(new, now.sent, colour, is_before=False)}</td>')
        lines.append(f"<tr>{''.join(columns)}</tr>")
    if not rows:
        lines.append(f'<tr><td colspan="4" style="{_CELL}">{escape(t("dash.says.nothing"))}</td></tr>')
    return "".join(lines)


def _bar(number: int, total: int, colour: str, *, is_before: bool) -> str:
    width = round(60 * number / total) if total else 0
    fill = f"repeating-linear-gradient(45deg,{colour} 0 3px,#fff 3px 6px)" if is_before else colour
    bar = (
        f'<span aria-hidden="true" style="display:inline-block;width:{width}px;height:11px;background:{fill};'
        f'outline:{"1px solid " + INK if width else "none"};margin-right:6px;vertical-align:-1px"></span>'
    )
    return f"{bar}{number}"


def expected_and_observed(found: Comparison, view: View) -> str:
    """The verdict in a word and a mark, and for each pod what it should see and what it saw."""
    key = KEYS.get(found.verdict, "nothing")
    words = f"{MARKS.get(found.verdict, '–')} {t(f'dash.verdict.{key}')}"
    lines = []
    if found.rows:
        heads = (t("dash.pod"), t("dash.expected"), t("dash.observed"))
        lines.append(
            "<tr>" + "".join(f'<th scope="col" style="{_HEAD}">{escape(head)}</th>' for head in heads) + "</tr>"
        )
    nodes = {pod.name: pod.node for pod in view.pods}
    for pod, wanted, seen in found.rows[:MOST_ROWS]:
        name = f"…{pod.rsplit('-', 1)[-1]} {nodes.get(pod, '')}"
        wanted = t("dash.own") if wanted == "client" else wanted or t("dash.nobody")
        cells = "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in (wanted, seen or "–"))
        lines.append(f'<tr><th scope="row" style="{_CELL};font-weight:400">{escape(name)}</th>{cells}</tr>')
    notes = [found.words] if found.words else []
    if found.expected is not None and not found.rows:
        notes.append(t("dash.outcome", outcome=t(f"dash.outcome.{found.expected.outcome}")))
    told = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return (
        f'<section aria-label="{escape(t("dash.verdict"), quote=True)}"><b>{escape(t("dash.verdict"))}</b> '
        f'<span class="srcip-verdict">{escape(words)}</span>{told}'
        f'<table style="border-collapse:collapse;line-height:1.35">{"".join(lines)}</table></section>'
    )


def reason(found: Comparison) -> str:
    """Why that is expected, folded away; a text of its own, for it must not be redrawn while it is read."""
    if found.expected is None:
        return ""
    words = f"{found.expected.reason} [{found.expected.source}]"
    return f'<details><summary>{escape(t("dash.why"))}</summary><div lang="en">{escape(words)}</div></details>'


def log(state: State) -> str:
    """The last lines of the pods' logs in stern's manner: pod, container, line; the pod's name in its node's colour."""
    shown = list(state.lines)[-LINES:]
    lines = []
    for pod, node, container, line in shown:
        colour = node_style(node)["facecolor"]
        head = (
            f'<span style="border-left:6px solid {colour};padding-left:4px;font-weight:600">{escape(pod)}</span> '
            f"{escape(container)} "
        )
        text = line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 1] + "…"
        address, space, rest = text.partition(" ")
        lines.append(f"{head}<b>{escape(address)}</b>{space}{escape(rest)}")
    empty = escape(t("dash.says.nothing"))
    return (
        f'<section aria-label="{escape(t("dash.log"), quote=True)}"><b>{escape(t("dash.log"))}</b>'
        f'<pre tabindex="0" style="{_LOG}">{chr(10).join(lines) or empty}</pre></section>'
    )
