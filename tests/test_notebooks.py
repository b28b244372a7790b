"""The course passes in the lab, in reverse order and twice; a killed run leaves nothing."""

import os
import signal
import subprocess
import sys

import pytest

from srcip_nb.handout import handout
from srcip_nb.lab.state import running_labs
from srcip_nb.run import PASSED, course, run
from tests.lab.test_lifecycle import GONE_WITHIN, Traces, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


def verdicts(results) -> dict[str, str]:
    return {r.notebook: f"{r.verdict} {r.reason}".strip() for r in results}


def test_in_reverse_order_in_one_lab_and_some_twice(tmp_path):
    """English notebooks are executed alone, each with its solutions: see test_course_solved.py."""
    books = course("ja")
    again = [book for book in books if book.name[:2] in ("01", "03", "06")]  # those after which most has changed
    results = run([*reversed(books), *again], out=tmp_path)
    assert [r.verdict for r in results] == [PASSED] * (len(books) + len(again)), verdicts(results)
    assert len(books) >= 10 and len(again) == 3
    for result in results:
        assert result.output.stat().st_size < 1_000_000
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
