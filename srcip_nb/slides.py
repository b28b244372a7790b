"""Slides for the seminar, made by rule from the same rendered notebooks as the book.

    title        a notebook's heading, first paragraph and objectives
    a step       a cell that shows something: the text before it, its code, its output, under its section's heading;
                 and the section's last words, where there is room below
    a figure     the text before it and the figure, large, without the code that drew it; a second one has its own slide
    an exercise  its question, what is run for it and the dots to fill in; neither hint nor solution
    a table      text of a section that leads to no cell

Left out are parameters and set-up, cells that show nothing, what is folded, and all that follows the summary: what
tidies up, and the last cell (``done``). A listing that would be small has two columns. Type shrinks until a slide
fits, in height and in width, but never below what the back row can read: then its output goes on a slide of its own, a
long table or listing on several. A deck is a PDF of 16:9 pages and a page for the browser that scrolls slide by slide;
neither needs a network.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcip_nb.print_pages import Chapter, document, laid_out, parsed, tidy_tables

if TYPE_CHECKING:
    from bs4 import Tag

SMALLEST = 2  # of the sizes 0 to 2 in slides.css; text of 20 px, tables of 16 px, on a page of 720
FULL = 70  # a table is set smaller if the longest words of its columns have together more characters
FULL_OF_CELLS = 75  # a data frame too if the longest cells of its columns have
FEWEST = 3  # rows on a slide of a table that goes on on the next one
COLUMN = 56  # characters of a line in one of two columns
EDGE = 1280 - 48  # px; nothing stands farther right
KATAKANA, KANJI, HIRAGANA = "ァ-ヴー", "一-龯々", "ぁ-ん"
END = f"(?=[{KANJI}{HIRAGANA}]{{2}})[{KANJI}]{{0,3}}[{HIRAGANA}]{{0,10}}[。、)]*$"
ONE_PIECE = re.compile(f"[{KATAKANA}]{{2,14}}|[0-9]+[つ台件個秒本回行番]|{END}")


@dataclass(frozen=True)
class Slide:
    """A slide.

    Attributes:
        heading: in words.
        text: what is said, as HTML; "" without.
        code: a cell's, as HTML; "" without.
        output: what it showed, as HTML; "" without.
        after: what is said below that, as HTML; "" without.
        columns: whether its output has two columns.
        is_title: whether it opens a notebook.
    """

    heading: str
    text: str = ""
    code: str = ""
    output: str = ""
    after: str = ""
    columns: bool = False
    is_title: bool = False


def slides(chapter: Chapter) -> list[Slide]:
    """The slides of a notebook.

    Args:
        chapter: as Sphinx rendered it.
    """
    soup = parsed(chapter.body)
    for tag in soup.select("a.headerlink, details"):
        tag.decompose()
    for link in soup.select("a"):
        link.unwrap()
    tidy_tables(soup)
    _mark_full(soup)
    _keep_words(soup)
    deck: list[Slide] = []
    heading, section = chapter.title, ""
    said: list[Tag] = []
    for block in soup.select("h1, h2, h3, p, ul, ol, table, div.cell, div[class*=highlight-]"):
        if _is_inside_another(block):
            continue
        if block.name in ("h1", "h2", "h3"):
            deck = _with_text(deck, heading, said, chapter.title)
            words = block.get_text().strip()
            section = words if block.name == "h2" else section
            heading, said = (_joined(section, words) if block.name == "h3" and section else words), []
        elif "cell" in block.get_attribute_list("class"):
            if not deck:  # the opening, up to the text of this cell
                deck, said = _of_text(heading, said, chapter.title), said[-1:]
            if _is_last(block):
                return _with_text(deck, heading, said[:-1], chapter.title)
            if _leads_to_exercise(block):
                said += block.select(".cell_input")
                continue
            deck += _of_cell(heading, said, block)
            said = []
        else:
            said.append(block)
    return _with_text(deck, heading, said, chapter.title)


def _joined(section: str, words: str) -> str:
    return f"{section} {words}" if section.endswith("?") else f"{section}: {words}"


def _mark_full(soup: Tag) -> None:
    """Set a table smaller whose words would hardly stand side by side, and a data frame whose cells would not."""
    for table in soup.select("table"):
        rows = [[cell.get_text(" ", strip=True) for cell in row.select("th, td")] for row in table.select("tr")]
        columns = list(zip_longest(*rows, fillvalue=""))
        words = sum(max(_width(word) for text in column for word in [*text.split(), ""]) for column in columns)
        cells = sum(max(map(_width, column)) for column in columns)
        marks = " ".join(str(mark) for mark in table.get_attribute_list("class") if mark).split()
        is_full = words > FULL or ("dataframe" in marks and cells > FULL_OF_CELLS)
        table["class"] = " ".join([*(mark for mark in marks if mark != "wide"), *["wide"] * is_full])


def _width(text: str) -> int:
    """Of a text on one line, in characters; Japanese breaks anywhere and does not count."""
    return sum(" " <= letter <= "~" for letter in text)


def _keep_words(soup: Tag) -> None:
    """Keep a word of Japanese text on one line, and a sentence's end off a line of its own."""
    for text in soup.find_all(string=ONE_PIECE):
        if text.find_parent(["h1", "h2", "h3", "code", "pre", "style", "svg"]) is None:
            marked = ONE_PIECE.sub(r'<span class="word">\g<0></span>', html.escape(str(text), quote=False))
            text.replace_with(parsed(marked))


def _is_inside_another(block: Tag) -> bool:
    return block.find_parent(["ul", "ol", "table", "figure"]) is not None or (
        block.find_parent("div", class_="cell") is not None
    )


def _is_last(cell: Tag) -> bool:
    code = cell.select_one(".cell_input")
    return code is not None and code.get_text().strip().startswith(("done(", "cluster.delete()"))


def _leads_to_exercise(cell: Tag) -> bool:
    """Whether a cell shows nothing and is run for the exercise after it."""
    following = cell.find_next("div", class_="cell")
    return (
        cell.select_one(".cell_output") is None
        and following is not None
        and not {"tag_exercise", "tag_parameters"} & set(cell.get_attribute_list("class"))
        and "tag_exercise" in following.get_attribute_list("class")
        and following.find_previous(["h2", "h3"]) is cell.find_previous(["h2", "h3"])
    )


def _with_text(deck: Sequence[Slide], heading: str, said: Sequence[Tag], title: str) -> list[Slide]:
    """A deck and what a section says last: below what its last cell showed, or on a slide of its own."""
    last = deck[-1] if deck else None
    if said and last is not None and last.heading == heading and last.output and heading != title:
        return [*deck[:-1], replace(last, after="".join(map(str, said)))]
    return [*deck, *_of_text(heading, said, title)]


def _of_text(heading: str, said: Sequence[Tag], title: str) -> list[Slide]:
    """A slide of text alone; of a notebook's opening the first paragraph, and the objectives with their line."""
    if not said:
        return []
    if heading == title:
        at = next((at for at, one in enumerate(said) if one.name == "ul"), 0)
        return [Slide(heading, "".join(map(str, [said[0], *said[max(1, at - 1) : at + 1]])), is_title=True)]
    return [Slide(heading, "".join(map(str, said)))]


def _of_cell(heading: str, said: Sequence[Tag], cell: Tag) -> list[Slide]:
    classes = cell.get_attribute_list("class")
    code, output = cell.select_one(".cell_input"), cell.select_one(".cell_output")
    is_exercise = "tag_exercise" in classes
    is_set_up = "tag_parameters" in classes or (code is not None and "begin(" in code.get_text())
    if is_set_up or (output is None and not is_exercise):
        return []
    figures = [] if is_exercise or output is None else output.select("figure")[1:]
    more = [Slide(heading, output=str(figure.extract())) for figure in figures]
    shown = "" if is_exercise or output is None else str(output)
    is_drawn = output is not None and output.find("figure") is not None and output.find("table") is None
    return [Slide(heading, "".join(map(str, said)), "" if is_drawn else str(code or ""), shown), *more]


Sized = tuple[Slide, int]


def fitted(deck: Sequence[Slide], fits: Callable[[Sequence[Sized]], Sequence[bool]]) -> list[Sized]:
    """Each slide with the largest size of type at which it fits, long ones as two. Nothing shrinks for words below.

    Args:
        deck: the slides.
        fits: for slides and their sizes (0 is the largest), whether each fits on one page.
    """
    sized = [(slide, 0) for slide in deck]
    done = [False] * len(sized)
    while not all(done):
        open_ones = [at for at, is_done in enumerate(done) if not is_done]
        held = dict(zip(open_ones, fits([sized[at] for at in open_ones]), strict=True))
        next_sized, next_done = [], []
        for at, (slide, size) in enumerate(sized):
            is_whole = bool(slide.output and (slide.text or slide.code))
            if done[at] or held[at]:
                next_sized.append((slide, size))
                next_done.append(True)
            elif slide.after:
                next_sized += [(replace(slide, after=""), 0), (Slide(slide.heading, slide.after), 0)]
                next_done += [False, False]
            elif size == 1 and not slide.columns and _is_narrow_listing(slide.output):
                next_sized.append((replace(slide, columns=True), 0))
                next_done.append(False)
            elif size == SMALLEST and is_whole:
                next_sized += [(replace(slide, output=""), 0), (replace(slide, text="", code=""), 0)]
                next_done += [False, False]
            elif size == SMALLEST:
                parts = halves(slide)
                next_sized += [(part, 0) for part in parts] if len(parts) > 1 else [(slide, size)]
                next_done += [len(parts) == 1] * len(parts)
            else:
                next_sized.append((slide, size + 1))
                next_done.append(False)
        sized, done = next_sized, next_done
    return sized


def _is_listing(output: str) -> bool:
    return "<pre" in output and "<table" not in output and "<figure" not in output


def _is_narrow_listing(output: str) -> bool:
    lines = parsed(output).get_text().splitlines() if _is_listing(output) else []
    return len(lines) > 2 * FEWEST and max(map(len, lines)) <= COLUMN


def halves(slide: Slide) -> list[Slide]:
    """A slide as two with half of its table's rows or its listing's lines each, or alone if it has none to part."""
    both = [parsed(slide.output), parsed(slide.output)]
    if _is_listing(slide.output):
        return _halves_of_listing(slide)
    if len(both[0].select("tbody tr")) < 2 * FEWEST or len(both[0].select("table")) != 1:
        return [slide]
    for soup, is_first in zip(both, (True, False), strict=True):
        rows = soup.select("tbody tr")
        middle = (len(rows) + 1) // 2
        for row in rows[middle:] if is_first else rows[:middle]:
            row.decompose()
    for block in both[1].select(".output"):
        if not block.find("table"):
            block.decompose()
    return [replace(slide, output=str(both[0])), replace(slide, text="", code="", output=str(both[1]))]


def _halves_of_listing(slide: Slide) -> list[Slide]:
    """Parted at an empty line, best before one that stands far left, then near the middle."""
    both = [parsed(slide.output), parsed(slide.output)]
    listings = [soup.select("pre") for soup in both]
    lines = listings[0][0].decode_contents().rstrip().split("\n")  # no tag goes over a line's end
    texts = [parsed(line).get_text() for line in lines]
    empty = [at for at, text in enumerate(texts) if not text.strip() and FEWEST <= at < len(texts) - FEWEST]
    if len(listings[0]) != 1 or not empty:
        return [slide]

    def indent(at: int) -> int:
        return len(texts[at + 1]) - len(texts[at + 1].lstrip())

    at = min(empty, key=lambda at: (indent(at), abs(2 * at + 1 - len(texts))))
    for (listing,), part in zip(listings, (lines[:at], lines[at + 1 :]), strict=True):
        listing.clear()
        listing.append(parsed("\n".join(part)))
    first, second = (str(soup) for soup in both)
    return [replace(slide, output=first), replace(slide, text="", code="", output=second)]


def deck_html(sized: Sequence[Sized], title: str, lang: str) -> str:
    """A deck as one HTML document, for the browser and for ``write_pdf``.

    Args:
        sized: slides and their sizes.
        title: of the deck.
        lang: ``en`` or ``ja``.
    """
    parts = []
    for number, (slide, size) in enumerate(sized, 1):
        kind = "title" if slide.is_title else "listing" if slide.columns else "step"
        level = "h1" if slide.is_title else "h2"
        inner = f"<{level}>{html.escape(slide.heading)}</{level}>{slide.text}{slide.code}{slide.output}{slide.after}"
        parts.append(f'<section class="slide {kind} size-{size}" id="slide-{number}">{inner}</section>')
    return document(title, parts, lang, "slides")


def pages_taken(pages: Any, count: int) -> list[int]:
    """How many pages each of ``count`` slides takes in a document that WeasyPrint has laid out."""
    starts: dict[str, int] = {}
    for at, page in enumerate(pages.pages):
        for name in page.anchors:
            starts.setdefault(name, at)  # what goes on on the next page has its anchor there too
    firsts = [starts[f"slide-{number}"] for number in range(1, count + 1)] + [len(pages.pages)]
    return [after - first for first, after in pairwise(firsts)]


def within_edge(page: Any) -> bool:
    """Whether every table of a page that WeasyPrint has laid out ends where the text does."""
    boxes = page._page_box.descendants()  # it tells no widths otherwise
    return all(box.position_x + box.width <= EDGE + 1 for box in boxes if box.element_tag == "table" and box.width)


def write_deck(chapter: Chapter, folder: Path, lang: str) -> list[Path]:
    """Write the deck of a notebook, ``NAME.html`` and ``NAME.pdf``.

    Args:
        chapter: as Sphinx rendered it.
        folder: where to.
        lang: ``en`` or ``ja``.

    Returns:
        The files.

    Raises:
        BookError: it cannot be laid out here.
    """

    def fits(sized: Sequence[Sized]) -> list[bool]:
        pages = laid_out(deck_html(sized, "", lang))
        taken = pages_taken(pages, len(sized))
        firsts = accumulate(taken, initial=0)
        return [count == 1 and within_edge(pages.pages[at]) for count, at in zip(taken, firsts, strict=False)]

    text = deck_html(fitted(slides(chapter), fits), chapter.title, lang)
    page, paper = folder / f"{chapter.name}.html", folder / f"{chapter.name}.pdf"
    page.write_text(text, encoding="utf-8")
    laid_out(text).write_pdf(paper, pdf_variant="pdf/ua-1", pdf_tags=True)
    return [page, paper]
