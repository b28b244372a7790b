"""``srcip-nb handout`` and ``srcip-nb slides``: the executed course on paper and on the wall."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from srcip_nb.commands.status import HOLDS


def add_to(commands: Any) -> None:
    """Make ``srcip-nb handout`` and ``srcip-nb slides`` known."""
    for name, function, says in (
        ("handout", _handout, "the executed course as a book (site and PDF), and each notebook as HTML and PDF"),
        ("slides", _slides, "the executed course as slides: a PDF and a page for the browser each"),
    ):
        command = commands.add_parser(name, help=says)
        command.add_argument("--executed", type=Path, default=Path("out"), metavar="DIR", help="what run --out wrote")
        command.add_argument("--lang", choices=("en", "ja"), help="both if left out")
        command.add_argument("--out", type=Path, default=Path("out") / name, metavar="DIR")
        command.set_defaults(function=function)


def _languages(arguments: argparse.Namespace) -> tuple[str, ...]:
    from srcip_nb.text import LANGUAGES

    return (arguments.lang,) if arguments.lang else LANGUAGES


def _handout(arguments: argparse.Namespace) -> int:
    from srcip_nb.book import executed_course, write_book
    from srcip_nb.progress import Progress

    for lang in _languages(arguments):
        executed = executed_course(arguments.executed, lang)
        with Progress(f"the book, {lang}", True, sys.stderr):
            written = write_book(executed, arguments.out, lang)
        print("\n".join(map(str, written)))
    return HOLDS


def _slides(arguments: argparse.Namespace) -> int:
    import tempfile

    from srcip_nb.book import executed_course, rendered
    from srcip_nb.progress import Progress
    from srcip_nb.slides import write_deck

    for lang in _languages(arguments):
        executed = executed_course(arguments.executed, lang)
        folder = arguments.out / lang
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as site:
            chapters = rendered(executed, lang, Path(site))[: len(executed)]
        for chapter in chapters:
            with Progress(f"slides {lang}/{chapter.name}", True, sys.stderr):
                written = write_deck(chapter, folder, lang)
            print("\n".join(map(str, written)))
    return HOLDS
