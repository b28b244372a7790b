"""The dashboard's notebooks: the same code in both languages, no outputs, links that lead somewhere."""

import re
from pathlib import Path

import nbformat
import pytest

from srcip_nb.run import course

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
BOOKS = {lang: nbformat.read(FOLDER / lang / "dashboard.ipynb", as_version=4) for lang in ("en", "ja")}


def test_both_languages_run_the_same_code():
    for one, other in zip(*(book.cells for book in BOOKS.values()), strict=True):
        assert (one.cell_type, one.id, one.metadata) == (other.cell_type, other.id, other.metadata)
        assert one.cell_type == "markdown" or one.source == other.source


@pytest.mark.parametrize("lang", BOOKS)
def test_without_outputs_and_with_links_that_lead_somewhere(lang):
    nbformat.validate(BOOKS[lang])
    for cell in BOOKS[lang].cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            continue
        assert bool(re.search(r"[ぁ-んァ-ヶ一-龠]", cell.source)) is (lang == "ja")
        for target in re.findall(r"\]\(([^)]+)\)", cell.source):
            assert (FOLDER / lang / target).is_file()


def test_it_is_no_step_of_the_course():
    assert not [path for path in course() if path.stem == "dashboard"]
