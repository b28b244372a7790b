"""The notebooks as files: one lesson in two languages, fit to be read, executed and kept in git."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import papermill
import pytest

from srcip_nb.exercises import ANSWERS
from srcip_nb.run import course

BOOKS = course()
MAX_BYTES = 60_000
MAX_LINES = 10
MAX_WIDTH = 90  # more would be wrapped in the handout


def ident(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(params=BOOKS, ids=ident)
def path(request) -> Path:
    return request.param


@pytest.fixture
def book(path):
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    return found


def code(book) -> list:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def prose(book) -> list[str]:
    """Markdown without its code blocks."""
    texts = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    return [re.sub(r"```.*?```", "", text, flags=re.DOTALL) for text in texts]


def test_the_course_has_the_same_ten_notebooks_in_each_language():
    names = {lang: [path.name for path in course(lang)] for lang in ("en", "ja")}
    assert [name[:2] for name in names["en"]] == [f"{number:02}" for number in range(10)]
    assert names["en"] == names["ja"]


@pytest.mark.parametrize("english", course("en"), ids=lambda path: path.stem)
def test_both_languages_run_the_same_code_in_the_same_place(english):
    japanese = english.parent.parent / "ja" / english.name
    books = [nbformat.read(path, as_version=4) for path in (english, japanese)]
    for one, other in zip(*(book.cells for book in books), strict=True):
        assert one.cell_type == other.cell_type
        assert one.metadata == other.metadata
        assert one.id == other.id
        if one.cell_type == "code":
            assert one.source == other.source
        else:
            assert re.findall(r"^#+ ", one.source, re.MULTILINE) == re.findall(r"^#+ ", other.source, re.MULTILINE)
            assert re.findall(r"```.*?```", one.source, re.DOTALL) == re.findall(r"```.*?```", other.source, re.DOTALL)


def test_japanese_is_japanese_and_english_is_not(path, book):
    for text in prose(book):
        assert bool(re.search(r"[ぁ-んァ-ヶ一-龠]", text)) is (path.parent.name == "ja"), text[:80]


def test_without_outputs_and_machine_traces(path, book):
    for cell in code(book):
        assert cell.outputs == [] and cell.execution_count is None
    assert book.metadata.kernelspec.name == "python3"
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert path.stat().st_size < MAX_BYTES
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/home/|/work/|/root/|/tmp/|vscode", text)


def test_parameters_once_second_code_free_and_known_to_papermill(path, book):
    tagged = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code(book)[:1]
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Constant)
    assert {"context", "target", "requests"} == set(papermill.inspect_notebook(str(path)))


def test_code_cells_are_short_and_said_first(book):
    for before, cell in pairwise(book.cells):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", cell.source
            assert len(cell.source.splitlines()) <= MAX_LINES, cell.source
            assert max(map(len, cell.source.splitlines())) <= MAX_WIDTH, cell.source
            ast.parse(cell.source)
            assert not re.search(r"^[!%]|time\.sleep|input\(", cell.source, re.MULTILINE), cell.source


def test_one_title_then_levels_without_a_gap(book):
    levels = [len(hashes) for text in prose(book) for hashes in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_begins_with_its_purpose_and_ends_with_its_sum(path, book):
    number = path.name[:2]
    assert book.cells[0].cell_type == "markdown"
    assert re.search(r"You need|前提", book.cells[0].source) and re.search(r"Time|所要時間", book.cells[0].source)
    assert f'begin("{number}")' in code(book)[1].source
    assert code(book)[-1].source == f'done("{number}")'


def test_links_lead_somewhere(path, book):
    names = {text for source in prose(book) for text in re.findall(r"(!?)\[([^\]]*)\]\(([^)]+)\)", source)}
    assert names
    for image, words, target in names:
        assert words.strip(), target  # of an image: its alternative text
        assert words.lower() not in {"here", "link", "こちら", "ここ"}
        if not image and target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        assert (path.parent / file).is_file(), target
        if anchor:
            assert f'<a id="{anchor}"></a>' in (path.parent / file).read_text(encoding="utf-8"), target


def test_neighbours_are_linked(path, book):
    books = course(path.parent.name)
    at = books.index(path)
    for neighbour in books[max(at - 1, 0) : at + 2]:
        is_next_step = abs(int(neighbour.name[:2]) - int(path.name[:2])) == 1
        if is_next_step:
            assert f"({neighbour.name})" in book.cells[0].source


def test_every_prediction_is_settled(book):
    source = "\n".join(cell.source for cell in code(book))
    asked = re.findall(r'predict\("([^"]+)"', source)
    settled = re.findall(r'question="([^"]+)"', source)
    assert asked and sorted(asked) == sorted(settled)


def exercises(book) -> list:
    return [cell for cell in code(book) if "exercise" in cell.metadata.get("tags", [])]


def solutions(book) -> list[str]:
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    return re.findall(r"```python\n(answer = .*?)\n```", text, re.DOTALL)


def test_exercises_are_blank_have_a_check_and_a_solution(path, book):
    number = path.name[:2]
    cells = exercises(book)
    assert 2 <= len(cells) <= 4
    asked = [re.search(r'exercise\("([\d.]+)"', cell.source)[1] for cell in cells]
    assert asked == sorted(name for name in ANSWERS if name.startswith(number))
    assert all(cell.source.startswith("answer = ...\n") for cell in cells)
    assert len(solutions(book)) == len(cells)
