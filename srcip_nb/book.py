"""The book: the executed notebooks of one language, glossary and index, rendered by Sphinx and MyST-NB.

    OUT/book-LANG/index.html    a site for the browser: contents at the side, search, no network needed
    OUT/book-LANG.pdf           the same for paper (``print_pages`` and ``pdf``)
    OUT/LANG/NAME.html, .pdf    each notebook by itself

Nothing is executed here: papermill has done so. Sphinx renders once: while it writes the site's pages, their texts are
kept, and of these the printed pages are made.
"""

from __future__ import annotations

import html
import io
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srcip_nb.book_source import GLOSSARY, INDEX, contents_source, glossary_source, index_source, notebook_source
from srcip_nb.book_source import words_of as words_of_glossary
from srcip_nb.errors import UsageError
from srcip_nb.print_pages import (
    NEEDED,
    BookError,
    Chapter,
    contents,
    cover,
    document,
    only,
    printed,
    words_linked,
    write_pdf,
)
from srcip_nb.run import course
from srcip_nb.text import t

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
DOCS = Path(__file__).resolve().parent.parent / "docs"


def write_source(executed: Sequence[Path], glossary: str, lang: str, folder: Path) -> list[str]:
    """Write what Sphinx reads.

    Args:
        executed: the executed notebooks of one language, in the book's order.
        glossary: ``docs/glossary.LANG.md``'s text.
        lang: ``en`` or ``ja``.
        folder: where to.

    Returns:
        The notebooks' names, without ``.ipynb``.
    """
    import nbformat

    words = words_of_glossary(glossary)
    known = [path.name for path in executed]
    found: dict[str, list[str]] = {}
    for path in executed:
        book, found[path.stem] = notebook_source(nbformat.read(path, as_version=4), known, words)
        nbformat.write(book, folder / path.name)
    (folder / f"{GLOSSARY}.md").write_text(glossary_source(glossary), encoding="utf-8")
    (folder / f"{INDEX}.md").write_text(index_source(words, found, lang), encoding="utf-8")
    (folder / "index.md").write_text(contents_source(list(found), lang), encoding="utf-8")
    return list(found)


def settings(lang: str) -> dict[str, Any]:
    """Sphinx's configuration: MyST-NB without execution, Jupyter Book's theme, nothing fetched from elsewhere."""
    return {
        "project": t("book.title", lang),
        "language": lang,
        "extensions": ["myst_nb"],
        "nb_execution_mode": "off",
        "nb_merge_streams": True,
        "myst_heading_anchors": 3,
        "highlight_language": "text",  # a log line is not Python
        "html_theme": "sphinx_book_theme",
        "html_title": t("book.title", lang),
        "html_theme_options": {"use_download_button": False, "use_fullscreen_button": False},
        "html_copy_source": False,
        "html_show_copyright": False,
        "html_show_sphinx": False,
        "html_use_index": False,  # the book's own index is a page
        "smartquotes": False,
    }


def render(source: Path, site: Path, names: Sequence[str], lang: str) -> list[Chapter]:
    """Write the site, and return its pages in the order of the book.

    Args:
        source: what ``write_source`` wrote.
        site: where the site goes.
        names: of the notebooks.
        lang: ``en`` or ``ja``.

    Raises:
        BookError: Sphinx or MyST-NB is not installed, or Sphinx has something to complain about.
    """
    try:
        from sphinx.application import Sphinx
        from sphinx.util.docutils import docutils_namespace
    except ImportError as error:
        raise BookError(f"the book cannot be rendered: {error}", NEEDED) from error
    pages: dict[str, Chapter] = {}

    def keep(_app: Any, name: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
        pages[name] = Chapter(name, html.unescape(context.get("title", "")), context.get("body", ""))

    with tempfile.TemporaryDirectory() as scratch, docutils_namespace():
        log, built = io.StringIO(), Path(scratch) / "built" / "site"  # MyST-NB writes beside the site as well
        sphinx = Sphinx(source, None, built, Path(scratch) / "doctrees", "html", settings(lang), None, log)
        sphinx.connect("html-page-context", keep)
        sphinx.build()
        complaints = COLOUR.sub("", log.getvalue()).strip()
        if complaints or sphinx.statuscode:
            raise BookError(f"Sphinx complains: {complaints}", "Mend the notebook or the glossary it names.")
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(built, site, ignore=shutil.ignore_patterns("_sources", ".buildinfo"))
    return [pages[name] for name in [*names, GLOSSARY, INDEX]]


def day_of(path: Path) -> str:
    """The day papermill executed a notebook, such as ``2026-11-22``; "" if it did not."""
    import nbformat

    told = nbformat.read(path, as_version=4).metadata.get("papermill", {}).get("end_time") or ""
    return str(told)[:10]


def rendered(executed: Sequence[Path], lang: str, site: Path) -> list[Chapter]:
    """Render the executed notebooks of one language, glossary and index, and write the site.

    Args:
        executed: in order.
        lang: ``en`` or ``ja``.
        site: where the site goes.

    Raises:
        BookError: what renders it is not installed, or a notebook does not hold together.
    """
    glossary = (DOCS / f"glossary.{lang}.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as source:
        return render(Path(source), site, write_source(executed, glossary, lang, Path(source)), lang)


def executed_course(folder: Path, lang: str) -> list[Path]:
    """The course's notebooks of one language as ``srcip-nb run --out FOLDER`` left them.

    Args:
        folder: where they are, in folders named by their language.
        lang: ``en`` or ``ja``.

    Raises:
        UsageError: one is not there.
    """
    paths = [folder / lang / path.name for path in course(lang)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        remedy = f"Execute the course first: srcip-nb run --out {folder}"
        raise UsageError(f"{folder / lang} has no executed {', '.join(missing)}", remedy)
    return paths


def write_book(executed: Sequence[Path], out: Path, lang: str) -> list[Path]:
    """Write the book of one language, and each of its notebooks by itself.

    Args:
        executed: its executed notebooks, in order.
        out: where to.
        lang: ``en`` or ``ja``.

    Returns:
        The files written: the site's first page, the book, and a page and a PDF a notebook.

    Raises:
        BookError: what renders it is not installed, or a notebook does not hold together.
    """
    site, alone = out / f"book-{lang}", out / lang
    alone.mkdir(parents=True, exist_ok=True)
    chapters = rendered(executed, lang, site)
    whole = document(t("book.title", lang), book_parts(chapters, lang, day_of(executed[-1])), lang, "book")
    written = [site / "index.html", write_pdf(whole, out / f"book-{lang}.pdf")]
    words = next(chapter for chapter in chapters if chapter.name == GLOSSARY)
    for chapter in chapters[: len(executed)]:
        page = alone / f"{chapter.name}.html"
        page.write_text(notebook_page(chapter, words, lang, unfold=False), encoding="utf-8")
        paper = write_pdf(notebook_page(chapter, words, lang, unfold=True), alone / f"{chapter.name}.pdf")
        written += [page, paper]
    return written


def book_parts(chapters: Sequence[Chapter], lang: str, executed: str) -> list[str]:
    """The printed book: title, contents, chapters, glossary, index.

    Args:
        chapters: all of them, in order.
        lang: ``en`` or ``ja``.
        executed: the day the notebooks ran; "" if it is not known.
    """
    within = [chapter.name for chapter in chapters]
    inside = [printed(chapter, within, lang, unfold=True) for chapter in chapters]
    return [cover(lang, executed), contents(chapters, lang, shallow=(GLOSSARY, INDEX)), *inside]


def notebook_page(chapter: Chapter, glossary: Chapter, lang: str, *, unfold: bool) -> str:
    """A notebook by itself, with those words of the glossary that it links to.

    Args:
        chapter: the notebook.
        glossary: the whole of it.
        lang: ``en`` or ``ja``.
        unfold: for paper.
    """
    anchors = words_linked(chapter.body, glossary.name)
    shown = [chapter, only(glossary, anchors)] if anchors else [chapter]
    within = [one.name for one in shown]
    return document(chapter.title, [printed(one, within, lang, unfold=unfold) for one in shown], lang, "notebook")
