"""Pages of the book on paper: their texts joined into one HTML document with contents, page references and index.

Paper cannot unfold, so a folded solution leaves a line with a page number behind and stands at the end of its
chapter. Every reference is a link too. Page numbers are written by the style sheet (``target-counter``), so this is
text in, text out; ``write_pdf`` alone makes a file.

    id "look" of chapter "02-cluster"     ->  02-cluster--look
    link to "02-cluster.html#look"        ->  #02-cluster--look, or no link where the chapter is not in the document
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from srcip_nb.errors import SrcipError
from srcip_nb.text import t

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

CODE_STYLE = "a11y-high-contrast-light"  # as the book's theme has it
SHORT = 14  # a table of at most so many rows stays on one page
SHORT_TEXT = 20  # output and listings of at most so many lines stay on one page
ONE_WORD = 7  # a table's cell of at most so many characters stays on one line: Japanese breaks anywhere
WIDE = 7  # a table of at least so many columns is set smaller
LONG_NAME = re.compile(r"[^\s<>&;]{25,}")  # of so many characters in one piece, in a table
NEEDED = "Install what renders it: make handout does so; by hand: pip install 'srcip_nb[handout]'"


class BookError(SrcipError):
    """The book cannot be made, or what it was made of does not hold together."""


@dataclass(frozen=True)
class Chapter:
    """A page of the book.

    Attributes:
        name: of its file, without an ending.
        title: in words.
        body: its text as HTML.
    """

    name: str
    title: str
    body: str


def printed(chapter: Chapter, within: Collection[str], lang: str, *, unfold: bool) -> str:
    """A chapter as a part of one document.

    Args:
        chapter: as Sphinx rendered it.
        within: names of the chapters in the document.
        lang: ``en`` or ``ja``.
        unfold: move what is folded to the chapter's end, for paper.
    """
    soup = parsed(chapter.body)
    for link in soup.select("a.headerlink"):
        link.decompose()
    _anchors_into_headings(soup)
    tidy_tables(soup)
    _keep_whole(soup)
    if unfold:
        _unfold(soup, lang)
    for tag in soup.select("[id]"):
        tag["id"] = f"{chapter.name}--{tag['id']}"
    for link in soup.select("a[href]"):
        to = _target(unquote(str(link["href"])), chapter.name, within)
        if to is None:
            link.unwrap()
        else:
            link["href"] = to
    for place in soup.select("a.place"):
        place.string = ""  # the page's number, from the style sheet
    return f'<section class="chapter" id="{chapter.name}">{soup}</section>'


def parsed(body: str) -> BeautifulSoup:
    """HTML to look into and change."""
    from bs4 import BeautifulSoup

    return BeautifulSoup(body, "html.parser")


def tidy_tables(soup: BeautifulSoup) -> None:
    """Mark short and wide tables and cells of one word, let long names break, put an index's name beside others."""
    for style in soup.select(".output style"):
        style.decompose()  # pandas' own
    for table in soup.select("table"):
        heads = table.select("thead tr")
        if len(heads) == 2 and not any(_words(heads[0])[:1]) and not any(_words(heads[1])[1:]):
            heads[0].select("th")[0].string = _words(heads[1])[0]
            heads[1].decompose()
        marks = ["short"] if len(table.select("tbody tr")) <= SHORT else []
        marks += ["wide"] if heads and len(_words(heads[0])) >= WIDE else []
        table["class"] = " ".join([*filter(None, map(str, table.get_attribute_list("class"))), *marks])
        for text in table.find_all(string=LONG_NAME):
            text.replace_with(parsed(LONG_NAME.sub(_breakable, html.escape(str(text)))))
    for cell in soup.select("th, td"):
        if 0 < len(cell.get_text(strip=True)) <= ONE_WORD:
            cell["class"] = " ".join([*filter(None, map(str, cell.get_attribute_list("class"))), "word"])


def _anchors_into_headings(soup: BeautifulSoup) -> None:
    """Put an anchor that stands before a heading into it: by itself it is a line that a page could end with."""
    for anchor in soup.select("section > span[id]"):
        heading = anchor.find_next_sibling()
        if heading is not None and heading.name in ("h1", "h2", "h3") and not anchor.get_text(strip=True):
            heading.insert(0, anchor.extract())


def _keep_whole(soup: BeautifulSoup) -> None:
    """Mark what is shown in few lines, so that it stays on one page."""
    for shown in soup.select(".cell_output pre, section > div[class*=highlight-] pre"):
        if len(shown.get_text().strip().splitlines()) <= SHORT_TEXT:
            shown["class"] = "short"


def _words(row: Tag) -> list[str]:
    return [cell.get_text(strip=True) for cell in row.find_all("th")]


def _breakable(name: re.Match[str]) -> str:
    return re.sub(r"(?<=[/:._=])(?=[^/])", "<wbr>", name[0])


def _target(href: str, here: str, within: Collection[str]) -> str | None:
    if "://" in href:
        return href
    page, _, anchor = href.partition("#")
    name = page.removesuffix(".html") or here
    if name not in within:
        return None
    return f"#{name}--{anchor}" if anchor else f"#{name}"


def _unfold(soup: BeautifulSoup, lang: str) -> None:
    """Move each folded piece to the end, under its exercise's heading, and leave the page it is on in its place."""
    folded = soup.select("details")
    if not folded:
        return
    end = soup.new_tag("section", attrs={"class": "folded", "id": "folded"})
    end.append(parsed(f"<h2>{html.escape(t('book.folded', lang))}</h2>"))
    for number, piece in enumerate(folded, 1):
        summary = piece.summary.extract() if piece.summary else None
        words = summary.get_text() if summary else ""
        heading = piece.find_previous(["h3", "h2"])
        page = f'<a class="page" href="#folded-{number}"></a>'
        on = t("book.folded_on", lang, summary=html.escape(words), page=page)
        left = f'<p class="unfolds" id="unfolds-{number}">{on}</p>'
        piece.insert_before(parsed(left))
        back = f'<a class="page" href="#unfolds-{number}"></a>'
        title = html.escape(f"{heading.get_text().strip()}: {words}" if heading else words)
        head = f'<h3 id="folded-{number}">{title}<small>{t("book.folded_back", lang, page=back)}</small></h3>'
        end.append(parsed(head))
        piece.extract()
        piece.name = "div"
        end.append(piece)
    soup.append(end)


def headings(chapter: Chapter) -> list[tuple[str, str]]:
    """The sections of a chapter: the id and the words of each second-level heading, solutions' too."""
    found = []
    for heading in parsed(chapter.body).select("h2"):
        for link in heading.select("a.headerlink"):
            link.decompose()
        found.append((str(heading.parent["id"]) if heading.parent else "", heading.get_text().strip()))
    return found


def contents(chapters: Sequence[Chapter], lang: str, shallow: Collection[str] = ()) -> str:
    """The contents: chapters and their sections, each with its page's number.

    Args:
        chapters: in order.
        lang: ``en`` or ``ja``.
        shallow: names of the chapters whose sections are not listed.
    """
    lines = []
    for chapter in chapters:
        sections = [] if chapter.name in shallow else headings(chapter)
        if chapter.name not in shallow and "<details" in chapter.body:
            sections.append(("folded", t("book.folded", lang)))
        inner = "".join(f'<li><a href="#{chapter.name}--{at}">{html.escape(words)}</a></li>' for at, words in sections)
        title = f'<a href="#{chapter.name}">{html.escape(chapter.title)}</a>'
        lines.append(f"<li>{title}{f'<ol>{inner}</ol>' if inner else ''}</li>")
    return f'<nav class="contents"><h1>{t("book.contents", lang)}</h1><ol>{"".join(lines)}</ol></nav>'


def cover(lang: str, executed: str) -> str:
    """The title page.

    Args:
        lang: ``en`` or ``ja``.
        executed: the day the notebooks ran, such as ``2026-11-22``; "" if it is not known.
    """
    day = f"<p>{t('book.executed', lang, date=executed)}</p>" if executed else ""
    return f'<section class="cover"><h1>{t("book.title", lang)}</h1><p>{t("book.about", lang)}</p>{day}</section>'


def document(title: str, parts: Sequence[str], lang: str, kind: str) -> str:
    """A whole HTML document that needs no other file.

    Args:
        title: of the document.
        parts: of its body.
        lang: ``en`` or ``ja``.
        kind: ``book``, ``notebook`` or ``slides``: the body's class, which the style sheets tell apart.
    """
    sheets = "slides.css" if kind == "slides" else "print.css"
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width">\n'
        f'<meta name="author" content="srcip_nb">\n'
        f"<style>\n{_style('common.css')}\n{_style(sheets)}\n{_code_style()}\n</style>\n</head>\n"
        f'<body class="{kind}">\n{"".join(parts)}\n</body>\n</html>\n'
    )


def _style(name: str) -> str:
    return files("srcip_nb").joinpath(f"styles/{name}").read_text(encoding="utf-8")


def _code_style() -> str:
    from pygments.formatters import HtmlFormatter

    formatter: Any = HtmlFormatter(style=CODE_STYLE)
    return str(formatter.get_style_defs(".highlight"))


def laid_out(text: str) -> Any:
    """A document laid out on pages, by WeasyPrint.

    Args:
        text: of a whole HTML document.

    Raises:
        BookError: WeasyPrint, or a library of the system that it needs, is not there.
    """
    for name in ("weasyprint", "weasyprint.progress"):  # each step, from its import on, and what is meant for a screen
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        from weasyprint import HTML
    except (ImportError, OSError) as error:
        raise BookError(f"pages cannot be laid out: {error}", NEEDED) from error
    return HTML(string=text, base_url=None).render(pdf_variant="pdf/ua-1", pdf_tags=True)


def write_pdf(text: str, path: Path) -> Path:
    """Write a document as a tagged PDF with its fonts embedded: PDF/UA-1, so alternative texts are in it.

    Args:
        text: of a whole HTML document.
        path: of the file.

    Returns:
        The path.

    Raises:
        BookError: it cannot be laid out here.
    """
    laid_out(text).write_pdf(path, pdf_variant="pdf/ua-1", pdf_tags=True)
    return path


def words_linked(body: str, glossary: str) -> list[str]:
    """Anchors of the words of the glossary that a page links to, in the order of its links, each once."""
    links = [unquote(str(link["href"])) for link in parsed(body).select("a[href]")]
    return list(dict.fromkeys(link.partition("#")[2] for link in links if link.startswith(f"{glossary}.html#")))


def only(chapter: Chapter, anchors: Collection[str]) -> Chapter:
    """The glossary with these words alone."""
    soup = parsed(chapter.body)
    sections: list[Tag] = soup.select("section > section")
    for section in sections:
        if not {str(tag["id"]) for tag in [section, *section.select("[id]")] if tag.has_attr("id")} & set(anchors):
            section.decompose()
    here = {str(tag["id"]) for tag in soup.select("[id]")}
    for link in soup.select('a[href^="#"]'):
        if unquote(str(link["href"]))[1:] not in here:  # a word that is left out
            link.unwrap()
    return Chapter(chapter.name, chapter.title, str(soup))
