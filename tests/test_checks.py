"""Checks hold when they should, fail when they should, and the last cell counts both."""

import json
from pathlib import Path

import pandas as pd
import pytest

from srcip_nb import checks, notebook
from srcip_nb.errors import UsageError
from srcip_nb.exercises import ANSWERS, exercise
from srcip_nb.notebook import CheckFailed, Prediction, begin, done, manifest, predict
from srcip_nb.text import words
from tests.lesson_frames import cluster_run, frame, local_run, timeout_run


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setenv("SRCIP_LANG", "en")
    for name in ("SRCIP_STRICT", "SRCIP_MARKER_DIR"):
        monkeypatch.delenv(name, raising=False)
    begin("00")


def pods(*rows):
    return pd.DataFrame(rows, columns=["NAME", "READY", "NODE"]).set_index("NAME")


TWO = pods(("a", "1/1", "worker01"), ("b", "1/1", "worker02"))


@pytest.mark.parametrize(
    ("check", "held", "failed"),
    [
        (checks.source_ip_kept, local_run(), cluster_run()),
        (checks.source_ip_lost, cluster_run(), local_run()),
        (checks.all_answered, local_run(), timeout_run()),
        (checks.timed_out, timeout_run(), local_run()),
        (checks.refused, frame("Cluster", ["refused"]), timeout_run()),
    ],
)
def test_of_the_one_table(check, held, failed):
    assert check(held)
    result = check(failed)
    assert not result
    assert "✗ does not hold" in repr(result) and "Hint:" in repr(result)


@pytest.mark.parametrize("check", [checks.source_ip_kept, checks.source_ip_lost, checks.all_answered, checks.timed_out])
def test_nothing_seen_proves_nothing(check):
    empty = cluster_run().iloc[:0]
    assert not check(empty)


def test_one_stray_row_fails_the_whole():
    mixed = pd.concat([local_run(), cluster_run(1)])
    assert not checks.source_ip_kept(mixed)
    assert not checks.source_ip_lost(mixed)


def test_answered_by_means_exactly_these_nodes():
    assert checks.answered_by(cluster_run(), ["worker02", "worker01"])
    assert not checks.answered_by(cluster_run(), "worker01")
    assert not checks.answered_by(local_run(), ["worker01", "worker02"])
    assert not checks.answered_by(timeout_run(), ["worker01"])


def test_pods_ready_and_where():
    assert checks.pods_ready(TWO)
    assert not checks.pods_ready(pods(("a", "1/1", "worker01"), ("b", "0/1", "worker02")))
    assert not checks.pods_ready(pods(("a", "1/1", "worker01"), ("b", "1/1", "worker01")))


@pytest.mark.parametrize(
    ("address", "ports", "holds", "says"),
    [
        ("192.168.1.56", "80:31234/TCP", True, "has an external address"),
        ("<pending>", "80:31234/TCP", True, "the course goes on by its node port 31234"),
        ("<pending>", "80/TCP", False, "has an external address"),
        ("<none>", "80:31234/TCP", False, "has an external address"),
    ],
)
def test_external_address(address, ports, holds, says):
    service = pd.DataFrame({"EXTERNAL-IP": [address], "PORT(S)": [ports]}, index=["webserver"])
    check = checks.has_address(service)
    assert bool(check) is holds
    assert says in check.says


def test_health_ports_follow_the_pods():
    answers = pd.DataFrame({"status": [503, 200, 200]}, index=["master01", "worker01", "worker02"]).astype("Int16")
    assert checks.health_ports(answers, TWO)
    assert not checks.health_ports(answers, TWO.iloc[:1])
    silent = answers.copy()
    silent.loc["worker01", "status"] = pd.NA
    assert "worker01 nothing was answered" in repr(checks.health_ports(silent, TWO))


def test_a_prediction_is_settled_by_its_check():
    predict("source", "client", ["client", "node", "pod-network"])
    assert "it was node, pod-network" in checks.source_ip_lost(cluster_run(), "source").prediction
    predict("source", "pod-network", ["client", "node", "pod-network"])
    assert "that is what happened" in checks.source_ip_lost(cluster_run(), "source").prediction
    summary = done("00")
    assert (summary.predicted, summary.right) == (1, 1)


def test_how_many_nodes_or_which():
    predict("how many", "2", ["1", "2"])
    predict("which", "worker01", ["worker01", "worker02"])
    assert "that is what" in checks.answered_by(cluster_run(), ["worker01", "worker02"], "how many").prediction
    assert "that is what" in checks.answered_by(local_run(), "worker01", "which").prediction


def test_predictions_have_choices():
    with pytest.raises(UsageError, match="none of the choices"):
        predict("source", "klient", ["client", "node"])
    with pytest.raises(UsageError, match="no prediction"):
        checks.source_ip_lost(cluster_run(), "unasked")


def test_strict_raises_and_names_what_was_seen(monkeypatch):
    monkeypatch.setenv("SRCIP_STRICT", "1")
    with pytest.raises(CheckFailed, match=r"Seen: 0 of 20 kept it \(10.0.5.0, 192.168.1.45\)"):
        checks.source_ip_kept(cluster_run())
    monkeypatch.setenv("SRCIP_STRICT", "0")
    assert not checks.source_ip_kept(cluster_run())


def test_the_last_cell_leaves_what_run_judges(monkeypatch, tmp_path):
    monkeypatch.setenv("SRCIP_MARKER_DIR", str(tmp_path))
    checks.source_ip_kept(local_run())
    checks.source_ip_kept(cluster_run())
    checks.equal(..., 3, "a count")
    summary = done("02")
    marker = json.loads((tmp_path / "done.json").read_text(encoding="utf-8"))
    assert (marker["notebook"], marker["held"], marker["open"], len(marker["failed"])) == ("02", 1, 1, 1)
    assert "0 of 20 kept it" in marker["failed"][0]
    assert "1 checks hold, 1 do not, 1 exercises not answered yet" in repr(summary)


def test_begin_forgets():
    checks.source_ip_kept(cluster_run())
    begin("02")
    assert done("02").failed == ()


def test_a_cell_run_again_replaces_what_it_said(monkeypatch):
    monkeypatch.setattr(notebook, "_cell", lambda: ("cell-a", 1))
    checks.source_ip_kept(cluster_run())
    checks.source_ip_kept(local_run())
    assert len(done("00").failed) == 1
    monkeypatch.setattr(notebook, "_cell", lambda: ("cell-a", 2))
    checks.source_ip_kept(local_run())
    summary = done("00")
    assert (summary.held, summary.failed) == (1, ())


def test_front_ends_without_cell_ids_lose_no_failure(monkeypatch):
    monkeypatch.setattr(notebook, "_cell", lambda: ("", 1))
    checks.source_ip_kept(cluster_run())
    monkeypatch.setattr(notebook, "_cell", lambda: ("", 2))
    checks.source_ip_kept(local_run())
    assert len(done("00").failed) == 1


def test_html_is_escaped():
    check = checks.equal("<b>", "x & y", "<script>")
    assert "<script>" not in check._repr_html_()
    assert "<i>" not in Prediction("<i>", "a", ("a",))._repr_html_()


def test_exercises_are_open_right_or_wrong():
    assert set(ANSWERS) == {key.removeprefix("exercise.") for key in words("en") if key.startswith("exercise.")}
    seen = cluster_run()
    assert exercise("02.1", ..., seen).state == "open"
    assert exercise("02.1", 8, seen)
    assert not exercise("02.1", 9, seen)
    assert exercise("02.2", {"worker01"}, seen)
    assert exercise("02.2", ["worker01"], seen)
    assert exercise("03.2", 0, timeout_run())
    with pytest.raises(UsageError, match="no exercise"):
        exercise("99.9", 1, seen)


def test_unanswered_requests_stayed_on_no_node():
    assert exercise("02.1", 0, timeout_run())


def test_a_manifest_is_shown_as_yaml():
    assert manifest("service.yaml")._repr_markdown_().startswith("```yaml\napiVersion: v1\n")


def test_in_a_kernel_errors_are_short_and_figures_have_their_words(tmp_path):
    """Executed as for a reader: nobody waits for a marker."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    cells = [
        "from srcip_nb import checks, plots\nfrom srcip_nb.notebook import begin, done, predict\nbegin('00')",
        "from tests.lesson_frames import *\nplots.requests_per_node(cluster_run())",
        "predict('source', 'klient', ['client'])",
        "checks.source_ip_kept(local_run())",
        "done('00')",
    ]
    book = new_notebook(cells=[new_code_cell(source) for source in cells])
    root = Path(__file__).parent.parent
    NotebookClient(book, allow_errors=True, timeout=60, resources={"metadata": {"path": str(root)}}).execute()
    image = book.cells[1].outputs[0]
    assert image.metadata["image/png"]["alt"].startswith("Bar chart, 20 requests.")
    (error,) = book.cells[2].outputs
    assert error.ename == "UsageError" and len(error.traceback) <= 2
    assert "1 checks hold, 0 do not" in book.cells[4].outputs[0].data["text/plain"]


def test_a_wrong_prediction_hears_only_what_could_have_been_chosen():
    predict("nodes", "1", ["1", "2", "3"])
    said = checks.answered_by(cluster_run(), ["worker01", "worker02"], question="nodes").prediction
    assert said.startswith("You predicted 1, and it was 2. ")


# -- the checks of 04 and 05 -------------------------------------------------------------------------------------------


def test_shares_hold_or_not():
    table = pd.DataFrame({"percent": [24.0, 26.0, 50.0], "expected_percent": [25.0, 25.0, 50.0], "holds": True})
    predict("shares", "25/25/50", ["33/33/33", "25/25/50"])
    assert "that is what happened" in checks.shares_hold(table, "shares").prediction
    assert not checks.shares_hold(table.assign(holds=[True, False, True]))
    assert not checks.shares_hold(table.iloc[:0])


@pytest.mark.parametrize(
    ("share", "lost", "holds", "answer"), [(100.0, 0, True, "none"), (96.5, 7, True, "few"), (94.9, 30, False, "many")]
)
def test_answered_at_least(share, lost, holds, answer):
    summary = pd.DataFrame({"share": [100.0, share], "sent": [600, 600], "lost": [0, lost]})
    predict("lost", answer, ["none", "few", "many"])
    check = checks.answered_at_least(summary, 95, "lost")
    assert bool(check) is holds and "that is what happened" in check.prediction
    assert f"{share:g} % answered at worst" in repr(check)


@pytest.mark.parametrize(
    ("said", "holds"),
    [(["a", "b"], True), (["a", "b", "a"], False), (["-", "b"], False), (["a", "-"], False), ([], False)],
)
def test_the_announcer_moved(said, holds):
    assert bool(checks.announcer_moved(pd.DataFrame({"announced_by": said}, dtype="string"))) is holds


def test_rows_that_differ_are_named():
    rows = pd.DataFrame({"client": ["a"], "asks": ["ClusterIP"], "observed": ["timeout"], "holds": [False]})
    assert "a -> ClusterIP: timeout" in repr(checks.as_expected(rows))
    assert checks.as_expected(rows.assign(holds=True))
    assert not checks.as_expected(rows.iloc[:0])


def test_the_answers_of_04_and_05():
    assert exercise("04.1", 10, {"worker01": 5, "worker02": 1})
    assert not exercise("04.1", 100 / 6, {"worker01": 5, "worker02": 1})
    changes = pd.DataFrame({"ms": [-9, 40, 90], "announced_by": ["a", "b", "b"]})
    assert exercise("04.3", 40, changes)
    lost = pd.DataFrame({"error": ["refused", "timeout", "refused"], "requests": [2, 5, 1]})
    assert exercise("04.2", 3, type("Run", (), {"lost": lost}))
    table = pd.DataFrame(
        {
            "client": ["visitor", "visitor", "client"],
            "asks": ["ClusterIP", "LoadBalancer", "NodePort master01"],
            "observed": ["1 pod answers", "1 pod answers", "timeout"],
            "kept": pd.array([True, False, None], dtype="boolean"),
        }
    )
    assert exercise("05.1", {"ClusterIP"}, table)
    assert exercise("05.2", 1, table)
