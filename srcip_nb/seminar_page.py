"""The instructor's page, the list to hand out, and the one sentence a participant may have to read: text in, HTML out.

The page has one table; what it says it says in words. A few lines of script fetch the table anew, so the page does not
jump; without scripts it is loaded again by the browser's own button.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape

from srcip_nb.seats import Seminar, link
from srcip_nb.seminar_rows import SeatRow
from srcip_nb.text import t

REFRESH = 5
"""Seconds after which the table is fetched anew."""

_STYLE = """
body { font-family: system-ui, sans-serif; margin: 1.5rem; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: .4em 0; }
th, td { border: 1px solid #767676; padding: .35em .6em; text-align: left; vertical-align: top; }
thead th { background: #eef2f6; }
code { overflow-wrap: anywhere; }
.fails { border-left: 4px solid #b33a00; padding-left: .4em; }
@media print { .screen { display: none; } tr { break-inside: avoid; } a { color: inherit; text-decoration: none; } }
"""

_SCRIPT = """
setInterval(async () => {
  try {
    const answer = await fetch("table" + location.search);
    if (!answer.ok) throw new Error(answer.status);
    document.getElementById("seats").innerHTML = await answer.text();
    document.getElementById("lost").hidden = true;
  } catch { document.getElementById("lost").hidden = false; }
}, %d);
"""


def page(seminar: Seminar, rows: Sequence[SeatRow], host: str, time: str) -> str:
    """The instructor's page: every seat's link and token, and how far it is.

    Args:
        seminar: whose seats.
        rows: how far they are.
        host: by which name or address the machine is reached; it stands in the links.
        time: when the rows were read, to be shown.
    """
    say = partial(t, lang=seminar.lang)
    body = f"""<h1>{escape(say("seminar.title", count=len(rows)))}</h1>
<p>{escape(say("seminar.lead", seconds=REFRESH))}
<a href="links?token={escape(seminar.token)}">{escape(say("seminar.links"))}</a></p>
<p id="lost" role="alert" hidden>{escape(say("seminar.lost"))}</p>
<div id="seats">{table(seminar, rows, host, time)}</div>
<script>{_SCRIPT % (REFRESH * 1000)}</script>"""
    return _document(seminar, say("seminar.title", count=len(rows)), body)


def table(seminar: Seminar, rows: Sequence[SeatRow], host: str, time: str) -> str:
    """The table of the page, a row for each seat."""
    say = partial(t, lang=seminar.lang)
    world = "seminar.namespace" if seminar.context else "seminar.lab"
    names = ["seminar.seat", "seminar.link", "seminar.token", world, "seminar.jupyter", "seminar.notebook"]
    names += ("seminar.checks", "seminar.finished", "seminar.last")
    head = "".join(f'<th scope="col">{escape(say(name))}</th>' for name in names)
    lines = "\n".join(_line(seminar, row, host) for row in rows)
    return f"""<table><caption>{escape(say("seminar.caption"))} {escape(say("seminar.updated", time=time))}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{lines}
</tbody></table>"""


def _line(seminar: Seminar, row: SeatRow, host: str) -> str:
    say = partial(t, lang=seminar.lang)
    lab = row.seat.name if row.lab_runs is None else say(f"seminar.lab.{'runs' if row.lab_runs else 'none'}")
    opens = f'<a href="{escape(link(seminar, row.seat, host))}">{escape(say("seminar.open", seat=row.seat.name))}</a>'
    cells = (
        opens,
        f"<code>{escape(row.seat.token)}</code>",
        escape(lab),
        escape(say(f"seminar.jupyter.{'runs' if row.jupyter_runs else 'none'}")),
        escape(row.notebook or say("seminar.nothing")),
        _checks(seminar, row),
        escape(", ".join(row.finished) or say("seminar.nothing")),
        escape(row.last.partition("+")[0].replace("T", " ") or say("seminar.nothing")),
    )
    return f'<tr><th scope="row">{escape(row.seat.name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _checks(seminar: Seminar, row: SeatRow) -> str:
    say = partial(t, lang=seminar.lang)
    if not row.notebook:
        return escape(say("seminar.nothing"))
    parts = [escape(say("seminar.held", held=row.held, all=row.all))]
    if row.failed:
        words = say("seminar.failed", count=row.failed, sentences="; ".join(row.failing))
        parts.append(f'<span class="fails">{escape(words)}</span>')
    if row.open:
        parts.append(escape(say("seminar.open_ones", count=row.open)))
    return "<br>".join(parts)


def links_page(seminar: Seminar, host: str) -> str:
    """Every seat's link and token, to be printed and handed out."""
    say = partial(t, lang=seminar.lang)
    head = "".join(f'<th scope="col">{escape(say(f"seminar.{name}"))}</th>' for name in ("seat", "link", "token"))
    lines = "\n".join(
        f'<tr><th scope="row">{escape(seat.name)}</th><td><code>{escape(link(seminar, seat, host))}</code></td>'
        f"<td><code>{escape(seat.token)}</code></td></tr>"
        for seat in seminar.seats
    )
    body = f"""<h1>{escape(say("seminar.hand_out.title"))}</h1>
<p>{escape(say("seminar.hand_out.lead"))}</p>
<p class="screen"><a href="./?token={escape(seminar.token)}">{escape(say("seminar.progress"))}</a></p>
<table><thead><tr>{head}</tr></thead>
<tbody>
{lines}
</tbody></table>"""
    return _document(seminar, say("seminar.hand_out.title"), body)


def sentence_page(seminar: Seminar, sentence: str) -> str:
    """One sentence for a participant who is not where the link leads yet."""
    return _document(seminar, sentence, f"<p>{escape(sentence)}</p>")


def _document(seminar: Seminar, title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="{seminar.lang}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body>
{body}
</body></html>
"""
