"""What a notebook's checks leave for whoever teaches, and what is read from it."""

import json

import pytest

from srcip_nb import notebook, tally
from srcip_nb.tally import compact, lines_of, note, read, tallies


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "progress.jsonl"
    monkeypatch.setenv("SRCIP_PROGRESS", str(path))
    return path


def check(says: str, state: str = "held", cell: str = "", execution: str = "", number: str = "02") -> dict[str, str]:
    line = {"time": "t", "notebook": number, "event": "check", "says": says, "state": state}
    return {**line, "cell": cell, "execution": execution}


def test_a_notebooks_checks_are_kept_as_they_are_made(file):
    notebook.begin("02")
    notebook.conclude("the address was lost", True, "20 of 20", "look")
    notebook.conclude("every request was answered", False, "3 lost", "look")
    notebook.leave_open("how many requests")
    notebook.done("02")
    (found,) = read(file)
    assert (found.notebook, found.is_done) == ("02", True)
    assert [found.count(state) for state in ("held", "failed", "open")] == [1, 1, 1]
    assert found.sentences("failed") == ["every request was answered"]
    assert "3 lost" not in file.read_text(), "what was seen is the participant's"


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("SRCIP_PROGRESS", raising=False)
    note(tally.BEGUN, "02")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCIP_PROGRESS", str(tmp_path / "no" / "such" / "folder"))
    note(tally.BEGUN, "02")


def test_a_cell_that_is_run_again_replaces_what_it_said():
    lines = [check("10 of 20", "failed", "a", "1"), check("other", cell="a", execution="1"), check("third", cell="b")]
    (before,) = tallies(lines)
    assert len(before.checks) == 3
    (after,) = tallies([*lines, check("20 of 20", "held", "a", "2")])
    assert after.checks == {("b", "third"): "held", ("a", "20 of 20"): "held"}


def test_to_begin_again_forgets_the_checks_and_not_that_it_was_done():
    lines = [check("x"), {"notebook": "02", "event": "done"}, {"notebook": "02", "event": "begin"}]
    (found,) = tallies(lines)
    assert found.checks == {} and found.is_done


def test_the_notebook_of_the_newest_line_stands_last():
    found = tallies([check("x", number="01"), check("x", number="02"), check("y", number="01")])
    assert [one.notebook for one in found] == ["02", "01"]


def test_the_file_stays_small_and_says_the_same(file, monkeypatch):
    monkeypatch.setattr(tally, "LIMIT", 4000)
    notebook.begin("03")
    for number in range(200):
        note(tally.CHECKED, "03", "cell", number + 1, "the same check", "failed" if number % 2 else "held")
        assert file.stat().st_size <= 4200
    (found,) = read(file)
    assert list(found.checks.values()) == ["failed"]


def test_compact_keeps_what_counts():
    lines = [check("x", "failed"), {"notebook": "02", "event": "begin"}, check("x"), check("y"), check("x", "failed")]
    assert tallies(compact(lines))[0].checks == tallies(lines)[0].checks
    assert len(compact(lines)) == 3
    assert compact(lines, limit=120) == lines[-1:]


def test_anything_may_be_in_a_participants_file(file):
    odd = ["{", "[1]", "null", '{"notebook": {"a": 1}}', '{"event": 3}', json.dumps(check("x"))]
    assert len(lines_of("\n".join(odd))) == 1
    file.write_bytes(b"\xff\xfe" + "\n".join(odd).encode())
    assert [one.notebook for one in read(file)] == ["02"]
