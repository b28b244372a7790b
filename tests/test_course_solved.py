"""Each notebook passes alone in a new lab, with its own solutions filled in. In a row: test_notebooks.py."""

import nbformat
import pytest

from srcip_nb.run import PASSED, course, run
from srcip_nb.solutions import write_solutions


@pytest.mark.lab
@pytest.mark.timeout(300)
@pytest.mark.parametrize("english", course("en"), ids=lambda path: path.stem)
def test_the_solutions_are_right(english, tmp_path):
    (filled,) = write_solutions([english], tmp_path)
    (result,) = run([filled], out=tmp_path / "out")
    assert (result.verdict, result.reason) == (PASSED, "")
    last = [cell for cell in nbformat.read(result.output, as_version=4).cells if cell.cell_type == "code"][-1]
    assert "0 exercises not answered yet" in last.outputs[0].data["text/plain"]
