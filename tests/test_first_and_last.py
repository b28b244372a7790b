"""What notebooks 00 and 09 stand on: kernels as a table, six situations, a part of the matrix and what changed."""

import json

import pandas as pd
import pytest

from srcip_nb import machine, quiz, tomorrow
from srcip_nb.doctor import MISSING, OK, Finding
from srcip_nb.errors import LabError, UsageError
from srcip_nb.machine import Trial
from srcip_nb.notebook import NOT_HERE, begin, done, predict
from srcip_nb.text import LANGUAGES, t

WORKS = {"iptables": "", "nftables": "", "ipvs": "not in this kernel"}
NONE = {
    "root": Trial({}, "no right to do it", "sudo -i"),
    "userns": Trial({}, "not allowed here", ""),
    "uml": Trial({}, "there is no User Mode Linux here", "sudo apt-get install -y user-mode-linux"),
}


@pytest.fixture(autouse=True)
def clean_record(monkeypatch, tmp_path):
    for name in ("SRCIP_CONTEXT", "SRCIP_LAB", "SRCIP_KERNEL", "SRCIP_MARKER_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SRCIP_STATE_DIR", str(tmp_path))
    begin("00")


def test_a_kernel_is_told_with_its_modes_or_why_not():
    table = machine.kernel_table({**NONE, "userns": Trial(WORKS)})
    assert list(table.loc["userns"]) == ["yes", "yes", "yes", "no", "ipvs: not in this kernel", ""]
    assert list(table.loc["root"]) == ["no", "-", "-", "-", "no right to do it", "sudo -i"]
    assert machine.first_working(table) == "userns"
    predict("kernel", "root", ["root", "userns", "uml", "none"])
    check = machine.known(table, question="kernel")
    assert check and "userns" in check.prediction


def test_a_named_kernel_is_the_only_one(monkeypatch):
    table = machine.kernel_table({**NONE, "userns": Trial(WORKS)})
    monkeypatch.setenv("SRCIP_KERNEL", "uml")
    assert machine.first_working(table) == "none"


def test_which_world_is_next(monkeypatch):
    table = machine.kernel_table({**NONE, "uml": Trial(WORKS)})
    assert "uml" in machine.next_world("", table)
    assert "'mine'" in machine.next_world("mine", table)
    monkeypatch.setenv("SRCIP_LAB", "p1")
    assert "'p1'" in machine.next_world("", table)
    monkeypatch.setenv("SRCIP_CONTEXT", "theirs")
    assert "'theirs'" in machine.next_world("", table)


def test_where_no_lab_can_run_one_message_says_the_choices(monkeypatch, capsys):
    def refuse(context):
        raise LabError("no kernel works here", "See srcip-nb doctor")

    table = machine.kernel_table(NONE)
    monkeypatch.setattr(machine, "connect", refuse)
    assert machine.world("", table) is None
    said = capsys.readouterr().out
    assert "user-mode-linux" in said and "context" in said
    assert machine.known(table) and machine.first_working(table) == "none"
    assert "user-mode-linux" in machine.next_world("", table)


def test_parts_that_are_not_there_are_counted():
    table = machine.part_table([Finding(OK, "ip", "6.1"), Finding(MISSING, "nginx", "pods run it", "apt-get …")])
    assert list(machine.not_ok(table).index) == ["nginx"]


def test_the_answers_are_the_oracles_and_differ():
    answers = {number: quiz.right(number) for number in quiz.SITUATIONS}
    assert answers == {1: "node", 2: "client", 3: "timeout", 4: "refused", 5: "client", 6: "client"}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_first_answers_are_kept_and_compared(lang, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SRCIP_LANG", lang)
    quiz.first({number: "?" for number in quiz.SITUATIONS} | {2: "client"})
    assert json.loads((tmp_path / quiz.FILE).read_text())["2"] == "client"
    table = quiz.again({1: "client", 2: "client", 3: "?"})
    assert list(table[t("quiz.then")])[:3] == ["?", "client", "?"]
    assert list(table[t("quiz.right")])[:3] == ["node", "client", ""], "told only where something is answered"
    assert t("quiz.counted", then=1, now=1, all=6) in capsys.readouterr().out


def test_without_first_answers_it_says_so(capsys, tmp_path):
    quiz.again({1: "node"})
    assert t("quiz.nothing_kept") in capsys.readouterr().out
    (tmp_path / quiz.FILE).write_text('{"1": "nonsense"}')
    assert quiz.kept() == {}


@pytest.mark.parametrize("answers", [{7: "node"}, {1: "nobody"}])
def test_what_is_no_answer_is_refused(answers):
    with pytest.raises(UsageError):
        quiz.first(answers)


def rows(*verdicts: str) -> pd.DataFrame:
    return pd.DataFrame({"service": "local", "verdict": list(verdicts), "difference": ["why"] * len(verdicts)})


def test_a_part_holds_only_if_something_was_asked():
    assert tomorrow.holds(rows("as expected", "not run"))
    assert not tomorrow.holds(rows("as expected", "differs"))
    assert not tomorrow.holds(rows("not run"))
    assert tomorrow.left_out(rows("as expected")) == t("tomorrow.all_asked", rows=1)
    assert tomorrow.left_out(rows("not run", "not run"))["rows"].tolist() == [2]
    assert tomorrow.counted(rows("differs")).loc["local"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("kinds", "holds", "answer"),
    [(["now failing", "owner"], True, tomorrow.ROWS), (["owner"], False, tomorrow.ADDRESSES), ([], False, "nothing")],
)
def test_a_comparison_is_read(kinds, holds, answer):
    changed = pd.DataFrame({"kind": kinds, "name": ["x"] * len(kinds)})
    predict("after", answer, ["nothing", tomorrow.ADDRESSES, tomorrow.ROWS])
    assert bool(tomorrow.found_out(changed, question="after")) is holds
    assert done("09").right == 1


def test_without_a_second_result_nothing_is_compared(capsys):
    changed = tomorrow.changes("before", "never")
    assert changed.empty and NOT_HERE in changed.attrs
    assert tomorrow.found_out(changed) == t("tomorrow.one_result") and done("09").held == 0


def test_a_participant_works_where_the_rights_are(monkeypatch):
    monkeypatch.delenv("SRCIP_NAMESPACE", raising=False)
    assert tomorrow.namespace() == "seminar-tomorrow"
    monkeypatch.setenv("SRCIP_NAMESPACE", "alice")
    assert tomorrow.namespace() == "alice"


def test_rights_of_two_participants_stand_side_by_side():
    table = tomorrow.rights("alice", "bob")
    whole = table[table["KIND"] == "ClusterRole"]
    assert set(table["PARTICIPANT"]) == {"alice", "bob"} and whole["NAME"].is_unique
    assert not table["FOR"].str.contains("\n").any()


def test_clean_is_proved_by_what_is_left():
    frame = pd.DataFrame({"kind": ["pods"]})
    frame.attrs = {"left": []}
    assert tomorrow.nothing_left(frame)
    frame.attrs = {"left": ["pods seminar/x"]}
    assert not tomorrow.nothing_left(frame)
