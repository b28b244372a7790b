"""Loads while something changes: what the API said meanwhile, and where the requests without an answer went."""

import json

import pandas as pd
import pytest

from srcip_nb import timeline
from srcip_nb.errors import NotFinishedError, UsageError
from srcip_nb.timeline import Moment, State, state_of, words_of
from srcip_nb.traffic import LINE_COLUMNS
from srcip_nb.under_load import ROUND, Observed, UnderLoad, lost, visit_during

SECOND = 1_000_000_000
OLD, NEW = State("web-1-old", "worker01", "ready"), State("web-2-new", "worker02", "ready")
GOING = OLD._replace(state="serving, terminating")
MOMENTS = (
    Moment(10 * SECOND, (OLD,), ("worker01",)),
    Moment(11 * SECOND, (GOING, NEW), ("worker01",)),
    Moment(12 * SECOND, (NEW,), ("worker02",)),
)


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ((True, True, False), "ready"),
        ((False, True, True), "serving, terminating"),
        ((False, False, True), "terminating"),
        ((False, False, False), "not ready"),
        ((False, True, False), "not ready"),
    ],
)
def test_states_in_the_words_of_the_api(conditions, words):
    assert state_of(*conditions) == words


def test_a_moment_holds_until_the_next():
    assert timeline.at(MOMENTS, 9 * SECOND) is MOMENTS[0]
    assert timeline.at(MOMENTS, 11 * SECOND) is MOMENTS[1]
    assert timeline.at(MOMENTS, 12 * SECOND - 1) is MOMENTS[1]
    assert timeline.at(MOMENTS, 99 * SECOND) is MOMENTS[2]


def test_a_timeline_as_a_table():
    table = timeline.table(MOMENTS, 11 * SECOND)
    assert list(table.columns) == ["ms", "announced_by", "worker01", "worker02"]
    assert table["ms"].tolist() == [-1000, 0, 1000]
    assert table["worker01"].tolist() == ["old ready", "old serving, terminating", "-"]
    assert table["announced_by"].tolist() == ["worker01", "worker01", "worker02"]
    assert words_of(()) == "-"


def requests(*rows) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["sent_at", "target", "status", "error"])
    frame["sent_at"] = pd.to_datetime(frame["sent_at"] * SECOND, unit="ns", utc=True)
    frame = frame.astype({"status": "Int16"})
    frame.attrs = {"policy": "Local", "nodes": {"192.168.1.46": "worker02"}}
    return frame


RUN = requests(
    (10.5, "192.168.1.56:80", 200, ""),
    (11.25, "192.168.1.56:80", None, "refused"),
    (11.5, "192.168.1.56:80", None, "refused"),
    (12.5, "192.168.1.56:80", None, "timeout"),
    (12.75, "192.168.1.46:30000", None, "timeout"),
    (12.875, "192.168.1.56:80", 502, ""),
)


def test_what_was_lost_stands_by_error_node_and_state():
    table = lost(RUN, MOMENTS, 11 * SECOND)
    assert table[["error", "requests", "from_ms", "to_ms", "node"]].values.tolist() == [
        ["refused", 2, 250, 500, "worker01"],
        ["timeout", 2, 1500, 1750, "worker02"],
        ["HTTP 502", 1, 1875, 1875, "worker02"],
    ]
    assert table["endpoints"][0] == "worker01: old serving, terminating; worker02: new ready"
    assert table["requests"].sum() == (RUN["status"] != 200).fillna(True).sum()


def test_where_several_announce_the_node_is_not_known():
    both = [moment._replace(announcers=("worker01", "worker02")) for moment in MOMENTS]
    assert set(lost(RUN, both, 11 * SECOND)["node"]) == {"", "worker02"}


def test_nothing_lost_is_an_empty_table_of_the_same_columns():
    table = lost(RUN.iloc[:1], MOMENTS, 0)
    assert table.empty and list(table.columns) == ["error", "requests", "from_ms", "to_ms", "node", "endpoints"]


def test_the_summary_counts():
    (row,) = UnderLoad(RUN, MOMENTS, 11 * SECOND, 13 * SECOND).summary.to_dict("records")
    assert row == {"policy": "Local", "sent": 6, "answered": 1, "lost": 5, "share": 16.67, "seconds": 2.0}


@pytest.fixture(scope="module")
def lesson(lab):
    """The lesson's objects under Local, in a namespace of this module's own."""
    from srcip_nb import connect

    cluster = connect(lab=lab, namespace="under-load", quiet=True)
    cluster.apply()
    cluster.wait_ready()
    cluster.policy("Local")
    yield cluster
    cluster.delete()


@pytest.mark.lab
@pytest.mark.parametrize("policy", ["Local", "Cluster"])
def test_a_rolling_update_under_load(lesson, policy):
    lesson.policy(policy)
    before = set(lesson.pods().index)
    run = lesson.visit_during(lesson.restart, seconds=3, progress=False)
    after = set(lesson.pods().index)
    assert len(after) == 2 and not before & after
    assert run.answered >= 0.8, run.lost  # the more, the slower the machine: how many are lost is not asked here
    lost_at = run.requests.loc[(run.requests["status"] != 200).fillna(True), "sent_at"].astype("int64")
    assert (lost_at >= run.began - ROUND * 1e9).all(), run.lost  # but before the change nothing is
    assert run.lost["requests"].sum() == (run.requests["status"] != 200).fillna(True).sum()
    assert set(run.requests["pod"].dropna()) <= before | after
    assert run.requests.loc[run.requests["status"] == 200, "source_ip"].notna().mean() > 0.99  # of pods that went, too
    first, last = run.moments[0], run.moments[-1]
    assert {one.pod for one in first.endpoints} == before and {one.pod for one in last.endpoints} == after
    assert any("terminating" in one.state for moment in run.moments for one in moment.endpoints)
    assert run.requests["sent_at"].is_monotonic_increasing or run.requests["sent_at"].notna().all()


@pytest.mark.lab
def test_the_announcer_goes_where_the_pods_go(lesson):
    lesson.policy("Local")
    (before,) = lesson.announcers()
    (other,) = set(lesson.pods()["NODE"]) - {before}
    run = lesson.visit_during(lambda: lesson.run_on(other), progress=False)
    assert set(lesson.pods()["NODE"]) == {other}
    assert run.moments[0].announcers == (before,) and run.moments[-1].announcers == (other,)
    lesson.run_on(None)
    assert len(set(lesson.pods()["NODE"])) == 2
    with pytest.raises(UsageError, match="no node 'worker99'"):
        lesson.run_on("worker99")


@pytest.mark.lab
def test_what_the_change_raises_ends_the_load(lesson):
    def fails() -> None:
        raise UsageError("no such thing")

    with pytest.raises(UsageError, match="no such thing"):
        visit_during(lesson, fails, progress=False)
    with pytest.raises(UsageError, match="rate"):
        visit_during(lesson, fails, rate=0)


@pytest.mark.lab
def test_nobody_answers_before_the_change(lesson, monkeypatch):
    monkeypatch.setattr("srcip_nb.under_load.LEAD_WITHIN", 0.3)
    touched = []
    with pytest.raises(NotFinishedError, match="no 20 answers"):
        visit_during(lesson, lambda: touched.append(1), target="192.168.1.41:9", timeout=0.2, progress=False)
    assert not touched


def test_what_was_seen_under_load_can_be_written_down():
    result = {"id": 0, "sent_at": 1, "client_ip": "", "status": None, "error": "refused", "latency_ms": 0.5}
    line = {"request": 0, "pod": "web-1-old", "node": "worker01", "source_ip": "10.0.5.0", "user_agent": None}
    lines = pd.DataFrame([line], columns=list(LINE_COLUMNS)).astype(LINE_COLUMNS)
    seen = Observed("0a1b2c3d", [result], lines, list(MOMENTS), 11 * SECOND, 13 * SECOND)
    again = Observed.of_json(json.loads(json.dumps(seen.as_json())))
    assert again._replace(lines=None) == seen._replace(lines=None)
    pd.testing.assert_frame_equal(again.lines, lines)
