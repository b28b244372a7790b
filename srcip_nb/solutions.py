"""The notebooks with their solutions filled in: a variant for the instructor, made from the notebooks themselves.

Each exercise is a cell that begins with ``answer = ...``, and in the text after it, folded, stands the solution. In the
variant the dots are replaced by it, so whoever runs it sees every check hold. Nothing is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srcip_nb.errors import UsageError

BLANK = "answer = ..."
SOLUTION = re.compile(r"```python\n(answer = .*?)\n```", re.DOTALL)


def write_solutions(notebooks: Sequence[Path], out: Path | str = "out") -> list[Path]:
    """Write the variant of each notebook to ``OUT/LANG/NAME-solutions.ipynb``.

    Args:
        notebooks: in folders named by their language.
        out: where the variants go.

    Returns:
        The files written.

    Raises:
        UsageError: an exercise has no solution, or a solution no exercise.
    """
    import nbformat

    written = []
    for path in notebooks:
        target = Path(out) / path.parent.name / f"{path.stem}-solutions.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(solved(nbformat.read(path, as_version=4), path.name), target)
        written.append(target)
    return written


def solved(book: Any, name: str = "the notebook") -> Any:
    """A notebook with each exercise's dots replaced by the solution that comes next in its text.

    Args:
        book: of ``nbformat``; it is changed.
        name: for the error.

    Raises:
        UsageError: exercises and solutions do not take turns.
    """
    waiting = None
    for cell in book.cells:
        if cell.cell_type == "markdown":
            for solution in SOLUTION.findall(cell.source):
                if waiting is None:
                    raise UsageError(f"{name} has a solution without an exercise before it", solution)
                waiting.source = waiting.source.replace(BLANK, solution, 1)
                waiting = None
        elif cell.source.startswith(BLANK):
            if waiting is not None:
                raise UsageError(f"{name} has an exercise without a solution after it", waiting.source)
            waiting = cell
    if waiting is not None:
        raise UsageError(f"{name} has an exercise without a solution after it", waiting.source)
    return book
