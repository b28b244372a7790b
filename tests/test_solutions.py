"""The variant with solutions: made from the notebooks' own text."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from srcip_nb.errors import UsageError
from srcip_nb.run import course
from srcip_nb.solutions import solved, write_solutions

EXERCISE = 'answer = ...\nexercise("01.1", answer, cluster)'
SOLUTION = "<details>\n\n```python\nanswer = 1 + 1\n```\n\n</details>"


def test_the_dots_are_replaced_and_nothing_else():
    book = solved(new_notebook(cells=[new_code_cell(EXERCISE), new_markdown_cell(SOLUTION)]))
    assert book.cells[0].source == 'answer = 1 + 1\nexercise("01.1", answer, cluster)'
    assert book.cells[1].source == SOLUTION


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([new_code_cell(EXERCISE)], "an exercise without a solution"),
        ([new_markdown_cell(SOLUTION)], "a solution without an exercise"),
        ([new_code_cell(EXERCISE), new_code_cell(EXERCISE), new_markdown_cell(SOLUTION)], "an exercise without"),
    ],
)
def test_exercises_and_solutions_take_turns(cells, said):
    with pytest.raises(UsageError, match=said):
        solved(new_notebook(cells=cells))


def test_the_whole_course_of_both_languages(tmp_path, cli):
    done = cli("solutions", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = sorted(tmp_path.glob("*/*-solutions.ipynb"))
    assert len(written) == len(course()) and len(done.stdout.splitlines()) == len(written)
    for path in written:
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        assert "answer = " in text and "answer = ..." not in text


def test_a_notebook_that_is_not_there(cli, tmp_path):
    done = cli("solutions", "nowhere.ipynb", "--out", str(tmp_path))
    assert done.returncode == 2 and "nowhere.ipynb" in done.stderr
    assert write_solutions([], tmp_path) == []
