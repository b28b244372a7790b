"""The handout: the executed notebooks of one language as one HTML page that needs no network.

Figures are in the page with their alternative texts, solutions stay folded until they are clicked, and links from one
notebook to another lead to its place in the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

TITLES = {"en": "Whose address does the pod see?", "ja": "Podから見える送信元IPアドレス"}

# What nbconvert's classic template lacks: a triangle to unfold a solution by, log lines that break between words,
# Japanese column titles in one piece, and one background behind code.
STYLE = """<style>
.text_cell .highlight, .text_cell .highlight pre { background: none; }
summary { display: list-item; cursor: pointer; margin: .5em 0; }
.rendered_html pre, .output_markdown pre { word-break: normal; overflow-wrap: anywhere; }
.rendered_html th { word-break: keep-all; }
.rendered_html td { word-break: normal; overflow-wrap: break-word; }
</style>
</head>"""


def handout(executed: Sequence[Path], out: Path | str = "out") -> list[Path]:
    """Write one HTML page for each language among executed notebooks, which lie in folders named ``en`` and ``ja``.

    Args:
        executed: paths of executed notebooks, in the order of the page; what is executed twice is shown once, the last.
        out: where the pages go.

    Returns:
        The pages written, ``OUT/handout-LANG.html``.
    """
    pages = []
    for lang in TITLES:
        paths = [path for path in dict.fromkeys(executed) if path.parent.name == lang and path.exists()]
        if paths:
            page = Path(out) / f"handout-{lang}.html"
            page.write_text(_page(paths, lang), encoding="utf-8")
            pages.append(page)
    return pages


def joined(paths: Sequence[Path], title: str) -> Any:
    """Several notebooks as one: cell ids unique, links between them leading to the place in the whole.

    Args:
        paths: of the notebooks, in order.
        title: of the whole.
    """
    names = {path.name: path.stem for path in paths}
    cells = []
    for path in paths:
        book: Any = nbformat.read(path, as_version=4)
        for at, cell in enumerate(book.cells):
            cell.id = f"{path.stem}-{at}"
            if cell.cell_type == "markdown":
                cell.source = re.sub(r"\]\(([^)#]+)\)", lambda link: _inside(link, names), cell.source)
        book.cells[0].source = f'<a id="{path.stem}"></a>\n\n{book.cells[0].source}'
        cells += book.cells
    whole: Any = nbformat.v4.new_notebook(cells=cells, metadata=book.metadata)
    whole.metadata.pop("widgets", None)  # their scripts would be fetched from the network
    whole.metadata["title"] = title
    return whole


def _inside(link: re.Match[str], names: dict[str, str]) -> str:
    return f"](#{names[link[1]]})" if link[1] in names else link[0]


def _page(paths: Sequence[Path], lang: str) -> str:
    from nbconvert import HTMLExporter

    # nbconvert's default template drops the alternative text of figures; classic keeps it (nbconvert 7.17). With
    # embed_images it closes <details> at the first blank line, and there is nothing to embed: outputs are in already.
    exporter = HTMLExporter(template_name="classic")
    body, _ = exporter.from_notebook_node(joined(paths, TITLES[lang]))
    body = re.sub(r"<script\b.*?</script>\s*", "", body, flags=re.DOTALL)  # formulas and widgets; there are none
    return body.replace('<html lang="en"', f'<html lang="{lang}"', 1).replace("</head>", STYLE, 1)
