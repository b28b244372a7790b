"""The book's source: executed notebooks and the glossary as Sphinx and MyST-NB read them.

    01-environment.ipynb …   a figure stands in its place with alternative text and caption; a widget leaves its place
                             to its static twin, which the executed notebook shows beside it
    glossary.md              each word with a label, so that ``[SNAT](#snat)`` leads to it from any page
    word-index.md            each word of the glossary with one place a notebook: where the notebook links to the word,
                             else where the word first stands in its prose

All of it is text in, text out; ``book`` writes and renders it.
"""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srcip_nb.text import t

WIDGET = "application/vnd.jupyter.widget-view+json"
GLOSSARY, INDEX = "glossary", "word-index"
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)")
GLOSSARY_LINK = re.compile(r"\]\((?:[^)\s]*/)?glossary\.(?:en|ja)\.md#([\w-]+)\)")
FENCED_OR_FOLDED = re.compile(r"```.*?```|<details>.*?</details>", re.DOTALL)


@dataclass(frozen=True)
class Word:
    """A word of the glossary: its anchor, its heading, and the spellings by which prose names it."""

    anchor: str
    heading: str
    spellings: tuple[str, ...]


def words_of(glossary: str) -> list[Word]:
    """The glossary's words in its order.

    Args:
        glossary: ``docs/glossary.LANG.md``; a heading may give a second spelling in brackets, ``chain (チェーン)``.
    """
    found = re.findall(r'^<a id="([^"]+)"></a>\n+## (.+)$', glossary, re.MULTILINE)
    return [Word(anchor, heading, _spellings(heading)) for anchor, heading in found]


def _spellings(heading: str) -> tuple[str, ...]:
    outer, _, inner = heading.partition("(")
    return tuple(part.strip().strip("`") for part in (outer, inner.rstrip(") ")) if part.strip())


def glossary_source(glossary: str) -> str:
    """The glossary with MyST's labels in place of HTML anchors."""
    return re.sub(r'^<a id="([^"]+)"></a>$', r"(\1)=", glossary, flags=re.MULTILINE)


def notebook_source(book: Any, known: Sequence[str], words: Sequence[Word] = ()) -> tuple[Any, list[str]]:
    """An executed notebook as the book shows it, and the words that have a place in it.

    Args:
        book: of ``nbformat``; it is not changed.
        known: file names of the notebooks in the book; a link to another file is left as its text.
        words: of the glossary, to be given a place each.

    Returns:
        The notebook, and the anchors of the words found in it. Each has its place at ``index-ANCHOR``.
    """
    book = copy.deepcopy(book)
    book.metadata.pop("widgets", None)  # their scripts would be fetched from the network
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = in_place(cell.outputs)
        else:
            cell.source = with_links(cell.source, known)
    texts = [cell.source if cell.cell_type == "markdown" else "" for cell in book.cells]
    texts, found = with_places(texts, words)
    for cell, text in zip(book.cells, texts, strict=True):
        if cell.cell_type == "markdown":
            cell.source = text
    return book, found


def in_place(outputs: Sequence[Any]) -> list[Any]:
    """Outputs with each figure, its alternative text and its caption as one piece of HTML, and without widgets."""
    import nbformat

    shown: list[Any] = []
    rest = list(outputs)
    while rest:
        output = rest.pop(0)
        data = output.get("data", {})
        if WIDGET in data:
            data = {kind: value for kind, value in data.items() if kind in ("text/html", "text/markdown", "image/png")}
            if not data:
                continue
            output = nbformat.v4.new_output("display_data", data, metadata=output.get("metadata", {}))
        if "image/png" not in data:
            shown.append(output)
            continue
        alt = output.metadata.get("image/png", {}).get("alt", "")
        caption = ""
        if rest and _is_caption(rest[0]):
            caption = rest.pop(0)["data"]["text/markdown"].strip().strip("*")
        figure = figure_html(data["image/png"], alt, caption)
        shown.append(nbformat.v4.new_output("display_data", {"text/html": figure, "text/plain": alt}))
    return shown


def _is_caption(output: Any) -> bool:
    text = output.get("data", {}).get("text/markdown", "").strip()
    return len(text) > 2 and text[0] == text[-1] == "*"


def figure_html(png: str, alt: str, caption: str) -> str:
    """A figure as HTML that needs no other file.

    Args:
        png: in base64, as a notebook has it.
        alt: what it says.
        caption: under it; text in backticks is set as code.
    """
    under = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(caption))
    image = f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{"".join(png.split())}">'
    return f"<figure>{image}{f'<figcaption>{under}</figcaption>' if under else ''}</figure>"


def with_links(text: str, known: Sequence[str]) -> str:
    """Markdown whose links lead within the book; one that leads to a file outside it is left as its text."""
    text = GLOSSARY_LINK.sub(r"](#\1)", text)

    def kept(link: re.Match[str]) -> str:
        to = link[2]
        return link[0] if "://" in to or to.startswith("#") or to.partition("#")[0] in known else link[1]

    return LINK.sub(kept, text)


def with_places(texts: Sequence[str], words: Sequence[Word]) -> tuple[list[str], list[str]]:
    """Markdown cells with an anchor before the paragraph in which each word has its place.

    Args:
        texts: of the cells, links to the glossary being ``[SNAT](#snat)`` by now.
        words: to look for.

    Returns:
        The texts, and the anchors of the words found.
    """
    split = [re.split(r"(\n\n+)", FENCED_OR_FOLDED.sub(_hold, text)) for text in texts]
    places = [(cell, at) for cell, parts in enumerate(split) for at, part in enumerate(parts) if _is_prose(part)]
    here: dict[tuple[int, int], list[str]] = {}
    for word in words:
        linked = [(cell, at) for cell, at in places if f"](#{word.anchor})" in split[cell][at]]
        named = [(cell, at) for cell, at in places if names(split[cell][at], word)]
        if linked or named:
            here.setdefault((linked or named)[0], []).append(word.anchor)
    for (cell, at), anchors in here.items():
        split[cell][at] = _anchored(split[cell][at], [f'<a id="index-{anchor}"></a>' for anchor in anchors])
    found = {anchor for anchors in here.values() for anchor in anchors}
    return [_released("".join(parts)) for parts in split], [word.anchor for word in words if word.anchor in found]


def _hold(block: re.Match[str]) -> str:
    """A block that is no prose, as one word of hexadecimal digits, so that it is neither split nor searched."""
    return f"\x00{block[0].encode().hex()}\x00"


def _released(text: str) -> str:
    return re.sub("\x00([0-9a-f]*)\x00", lambda held: bytes.fromhex(held[1]).decode(), text)


def _is_prose(part: str) -> bool:
    leads_on = ".ipynb)" in part  # to the notebooks before and after
    return bool(part.strip()) and not leads_on and not part.lstrip().startswith(("#", "|", "<", "\x00", "    "))


def _anchored(paragraph: str, anchors: Sequence[str]) -> str:
    marker = re.match(r"\s*(?:[-*]|\d+\.)\s+", paragraph)
    at = marker.end() if marker else 0
    return paragraph[:at] + "".join(anchors) + paragraph[at:]


def names(paragraph: str, word: Word) -> bool:
    """Whether prose names a word: whole words for Latin letters, in either case; a word in backticks counts too."""
    plain = re.sub(r"\]\([^)]*\)", "]", paragraph)
    return any(
        re.search(rf"(?<![A-Za-z0-9]){re.escape(spelling)}(?![A-Za-z0-9])", plain, re.IGNORECASE) is not None
        for spelling in word.spellings
    )


def index_source(words: Sequence[Word], found: Mapping[str, Sequence[str]], lang: str) -> str:
    """The index: a line a word, with a link to its place in each notebook that has one.

    Args:
        words: of the glossary.
        found: notebook (without ``.ipynb``) to the anchors of the words with a place in it, in the book's order.
        lang: ``en`` or ``ja``.
    """
    lines = []
    for word in sorted(words, key=lambda one: one.heading.casefold()):
        places = [
            f'<a class="place" href="{name}.html#index-{word.anchor}">{name.partition("-")[0]}</a>'
            for name, anchors in found.items()
            if word.anchor in anchors
        ]
        places.append(f'<a class="place defined" href="{GLOSSARY}.html#{word.anchor}">{t("book.glossary", lang)}</a>')
        lines.append(f"<li><span>{html.escape(word.heading)}</span> {', '.join(places)}</li>")
    return f'# {t("book.index", lang)}\n\n<ul class="word-index">\n' + "\n".join(lines) + "\n</ul>\n"


def contents_source(names: Sequence[str], lang: str) -> str:
    """The front page: the title, what the book is, and Sphinx's contents.

    Args:
        names: of the notebooks in the book's order, without ``.ipynb``.
        lang: ``en`` or ``ja``.
    """
    listed = "\n".join([*names, GLOSSARY, INDEX])
    return f"# {t('book.title', lang)}\n\n{t('book.about', lang)}\n\n```{{toctree}}\n:maxdepth: 2\n\n{listed}\n```\n"
