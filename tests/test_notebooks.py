"""The course passes in the lab: alone, twice, in reverse order, in both languages; a killed run leaves nothing."""

import os
import signal
import subprocess
import sys

import pytest

from srcip_nb.handout import handout
from srcip_nb.lab.state import running_labs
from srcip_nb.run import PASSED, course, run
from tests.lab.test_lifecycle import GONE_WITHIN, Traces, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]


def verdicts(results) -> dict[str, str]:
    return {r.notebook: f"{r.verdict} {r.reason}".strip() for r in results}


def test_twice_and_in_reverse_order_in_one_lab(tmp_path):
    books = course("en")
    assert len(books) >= 3
    results = run([*reversed(books), *books], out=tmp_path)
    assert [r.verdict for r in results] == [PASSED] * 2 * len(books), verdicts(results)
    for result in results:
        assert result.output.stat().st_size < 1_500_000


@pytest.mark.parametrize("book", course("ja"), ids=lambda path: path.stem)
def test_alone(book, tmp_path):
    results = run([book], out=tmp_path)
    assert [r.verdict for r in results] == [PASSED], verdicts(results)
    (page,) = handout([result.output for result in results], tmp_path)
    text = page.read_text(encoding="utf-8")
    assert '<html lang="ja"' in text
    assert "No description has been provided for this image" not in text


def test_a_killed_run_leaves_no_lab(tmp_path):
    """kill -9 of the papermill run: the lab that its notebooks use goes with it."""
    book = course("en")[1]
    known = {lab.name for lab in running_labs()}
    process = subprocess.Popen(
        [sys.executable, "-m", "srcip_nb", "run", str(book), "--out", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: {lab.name for lab in running_labs()} - known, 30)
        (lab,) = [lab for lab in running_labs() if lab.name not in known]
        traces = Traces(lab)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert wait_until(lambda: traces.left() == [], GONE_WITHIN), traces.left()
