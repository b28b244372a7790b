"""follow() under attack: connections that break inside a line, rotation, restarts at bad moments, clocks, 100 pods."""

from __future__ import annotations

import random
import resource
import threading
from collections import Counter

import pytest

from srcip_nb import logs_follow
from srcip_nb.errors import SrcipError
from srcip_nb.logs_follow import follow
from srcip_nb.logs_had import Had
from srcip_nb.logs_reader import LostLinesError
from srcip_nb.rest import ApiAnswerError
from tests.logs_fake import START, FakeApi, stamp
from tests.test_logs import cluster_of
from tests.test_logs_follow import has, threads, until

SECOND = 10**9


@pytest.fixture
def api():
    with FakeApi() as running:
        running.add_pod("webserver-1")
        yield running


@pytest.fixture
def cluster(api):
    return cluster_of(api)


def words(frame) -> list[str]:
    return frame["raw"].tolist()


def lost(lines) -> list[str]:
    return [error.cause for error in lines.errors if isinstance(error, LostLinesError)]


def broken(api, lines) -> None:
    """No connection stands and none can be made."""
    known = len(lines.errors)
    api.refuse["/log"] = (503, "ServiceUnavailable")
    api.cut()
    until(lambda: len(lines.errors) > known + 1)


def test_connections_that_break_inside_a_line(api, cluster):
    dice = random.Random(1)
    api.breaks_after = lambda: dice.choice([1, 100, 20_000]) + dice.randrange(500)
    expected = []
    with follow(cluster) as lines:
        for number in range(200):
            expected.append(f"line {number} " + "x" * dice.randrange(60))
            api.write("webserver-1", expected[-1].encode(), after=dice.choice([0, 1, 10**7]))
        frame = lines.wait_for(lambda frame: len(frame) >= 200, 30)
    assert words(frame) == expected
    assert lost(lines) == []


def test_lines_of_one_moment_and_the_same_words_are_each_a_row(api, cluster):
    with follow(cluster) as lines:
        for count in range(1, 6):
            api.write("webserver-1", b"same", after=0)
            lines.wait_for(lambda frame, count=count: len(frame) >= count)
            api.cut()
        api.write("webserver-1", b"end", after=0)
        assert words(lines.wait_for(has("end"))) == ["same"] * 5 + ["end"]


@pytest.mark.parametrize("back", [2 * SECOND, 3600 * SECOND])
def test_a_node_whose_clock_is_set_back(api, cluster, back):
    with follow(cluster) as lines:
        for number in range(5):
            api.write("webserver-1", b"old %d" % number, after=SECOND)
        lines.wait_for(has("old 4"))
        for number in range(5):
            api.write("webserver-1", b"new %d" % number, after=-back if number == 0 else SECOND // 2)
            lines.wait_for(has(f"new {number}"))
            api.cut()
        broken(api, lines)
        api.write("webserver-1", b"unseen")
        api.refuse.clear()
        frame = lines.wait_for(has("unseen"))
        assert Counter(words(frame)) == Counter(
            [f"{age} {number}" for age in ("old", "new") for number in range(5)] + ["unseen"]
        )
        assert lost(lines) == []


def test_a_rotation_that_nobody_misses(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"one")
        lines.wait_for(has("one"))
        api.rotate("webserver-1")
        api.write("webserver-1", b"two")
        lines.wait_for(has("two"))
        assert lost(lines) == []


def test_a_rotation_behind_a_broken_connection_is_told(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"one")
        lines.wait_for(has("one"))
        broken(api, lines)
        api.write("webserver-1", b"gone for good")
        api.rotate("webserver-1")
        api.write("webserver-1", b"three")
        api.refuse.clear()
        assert words(lines.wait_for(has("three"))) == ["one", "three"]
        assert len(lost(lines)) == 1
        assert "rotated" in lost(lines)[0]


def test_a_restart_between_the_look_and_the_answer(api, cluster):
    """The answer is the next start's log: it must not be taken for the one before, whose last lines come first."""
    with follow(cluster) as lines:
        api.write("webserver-1", b"first")
        lines.wait_for(has("first"))

        def restart(name: str) -> None:
            api.before_log = lambda name: None
            api.write(name, b"last of the first start")
            api.restart(name)
            api.write(name, b"second", after=5 * SECOND)

        api.before_log = restart
        api.cut()
        frame = lines.wait_for(has("second"))
    rows = frame[["restarts", "raw"]].to_numpy().tolist()
    assert rows == [[0, "first"], [0, "last of the first start"], [1, "second"]]
    assert lost(lines) == []


def test_another_pod_of_the_same_name_between_the_look_and_the_answer(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"first pod")
        lines.wait_for(has("first pod"))

        def replace(name: str) -> None:
            api.before_log = lambda name: None
            api.delete(name)
            api.add_pod(name, node="worker02")
            api.write(name, b"second pod")

        api.before_log = replace
        api.cut()
        frame = lines.wait_for(has("second pod"))
        api.write("webserver-1", b"more")
        frame = lines.wait_for(has("more"))
    assert words(frame) == ["first pod", "second pod", "more"]
    assert frame["node"].tolist() == ["worker01", "worker02", "worker02"]


def test_two_restarts_behind_a_broken_connection_are_told(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"zero")
        lines.wait_for(has("zero"))
        broken(api, lines)
        api.restart("webserver-1")
        api.write("webserver-1", b"one")
        api.restart("webserver-1")
        api.write("webserver-1", b"two")
        api.refuse.clear()
        frame = lines.wait_for(has("two"))
    assert frame[["restarts", "raw"]].to_numpy().tolist() == [[0, "zero"], [1, "one"], [2, "two"]]
    assert "started 2 times" in lost(lines)[0]


def test_a_new_pod_that_crashes_at_once_is_read_from_its_first_start(api, cluster):
    with follow(cluster) as lines:
        api.refuse["webserver-2"] = (503, "ServiceUnavailable")
        api.add_pod("webserver-2")
        api.write("webserver-2", b"crash")
        api.restart("webserver-2")
        api.write("webserver-2", b"again")
        api.refuse.clear()
        frame = lines.wait_for(has("again"))
    assert frame[["restarts", "raw"]].to_numpy().tolist() == [[0, "crash"], [1, "again"]]


def test_a_pod_deleted_behind_a_broken_connection_is_told(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"one")
        lines.wait_for(has("one"))
        broken(api, lines)
        api.write("webserver-1", b"gone for good")
        api.delete("webserver-1")
        until(lambda: lost(lines))
        assert "deleted" in lost(lines)[0]


def test_nothing_is_lost_before_the_first_line_whatever_clocks_show(api, cluster):
    """The node's clock is years behind the API server's: only the node's own times may count."""
    api.write("webserver-1", b"before")
    with follow(cluster, tail=0) as lines:
        broken(api, lines)
        api.write("webserver-1", b"unseen", after=0)
        api.refuse.clear()
        assert words(lines.wait_for(has("unseen"))) == ["unseen"]


def test_lines_since_some_seconds_reach_over_a_long_break(api, cluster, monkeypatch):
    api.write("webserver-1", b"before")
    api.now += 100 * SECOND
    clock = [1000.0]
    with follow(cluster, since_seconds=1) as lines:
        monkeypatch.setattr("srcip_nb.logs_reader.time.monotonic", lambda: clock[0])
        broken(api, lines)
        api.write("webserver-1", b"unseen")
        api.now += 10 * SECOND
        clock[0] = threading.TIMEOUT_MAX  # long after
        api.refuse.clear()
        until(lambda: lines.rows()["raw"].tolist()[-1:] == ["unseen"])


@pytest.mark.parametrize(("code", "reason"), [(429, "TooManyRequests"), (500, "InternalError"), (404, "NotFound")])
def test_an_api_server_that_refuses_for_a_while(api, cluster, code, reason):
    with follow(cluster) as lines:
        api.write("webserver-1", b"one")
        lines.wait_for(has("one"))
        api.refuse["/log"] = (code, reason)
        api.cut()
        until(lambda: sum("/log" in path for path in api.requests) > 3)
        api.write("webserver-1", b"two")
        api.refuse.clear()
        assert words(lines.wait_for(has("two"))) == ["one", "two"]


def test_an_api_server_that_starts_may_refuse_whom_it_knows(api, cluster, monkeypatch):
    """kube-apiserver answers 403 until its roles are there: no reason to give up what went well before."""
    with follow(cluster) as lines:
        api.write("webserver-1", b"one")
        lines.wait_for(has("one"))
        api.refuse["/log"] = (403, "Forbidden")
        api.cut()
        until(lambda: any(isinstance(error, ApiAnswerError) for error in lines.errors))
        api.write("webserver-1", b"two")
        api.refuse.clear()
        lines.wait_for(has("two"))
        monkeypatch.setattr(logs_follow, "PATIENCE", 0.1)
        api.refuse["/log"] = (403, "Forbidden")
        api.cut()
        with pytest.raises(ApiAnswerError, match="Forbidden"):
            lines.wait_for(has("three"))


def test_a_hundred_pods_at_once_in_a_storm(api, cluster):
    """Every line of 100 pods once: connections break inside lines, the server refuses, containers start again."""
    dice = random.Random(5)
    names = [f"webserver-{number}" for number in range(2, 102)]
    for name in names:
        api.add_pod(name, node=dice.choice(["worker01", "worker02"]))
    api.breaks_after = lambda: dice.choice([None, dice.randrange(1, 3000)])
    written: Counter[tuple[str, str]] = Counter()
    with follow(cluster) as lines:
        for number in range(5000):
            name = dice.choice(names)
            text = dice.choice(["same", f"line {number}"])
            api.write(name, text.encode(), after=dice.choice([0, 10**5, 10**7]))
            written[name, text] += 1
            if number % 1000 == 500:
                api.cut()
            if number % 500 == 0:
                api.refuse["/log"] = dice.choice([(500, "InternalError"), (429, "TooManyRequests")])
            if number % 500 == 100:
                api.refuse.clear()
        frame = lines.wait_for(lambda frame: len(frame) >= 5000, 60)
        assert len(threads()) == len(names) + 2
    assert Counter(zip(frame["pod"].astype(str), frame["raw"], strict=True)) == written
    assert lost(lines) == []


def test_what_belongs_to_a_pod_goes_with_it(api, cluster):
    with follow(cluster) as lines:
        for number in range(20):
            api.add_pod(f"webserver-{number + 10}")
            api.write(f"webserver-{number + 10}", b"line %d" % number)
            lines.wait_for(has(f"line {number}"))
            api.delete(f"webserver-{number + 10}")
        until(lambda: len(threads()) == 2)
        assert (len(lines._wires), len(lines._readers)) == (3, 1)


def test_batches_are_given_once_and_forgotten(api, cluster):
    with follow(cluster) as lines:
        batches = filter(None, lines.batches())
        api.write("webserver-1", b"one")
        assert [line for batch in next(batches) for line in batch[2].splitlines()] == [stamp(api.now) + b" one"]
        api.write("webserver-1", b"two")
        assert len(next(batches)) == 1
        assert len(lines.rows()) == 0
        lines.close()
        assert list(batches) == []


def test_a_slow_taker_holds_the_reading_up_instead_of_filling_the_memory(api, cluster):
    for _ in range(3000):
        api.write("webserver-1", b"x" * 1000, after=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with follow(cluster, tail=0) as lines:
        batches = filter(None, lines.batches(most_waiting=10_000))
        api.write("webserver-1", b"go")
        next(batches)
        for _ in range(3000):
            api.write("webserver-1", b"y" * 1000, after=1)
        until(lambda: lines._waiting >= 10_000)
        total = 0
        while total < 3000:
            assert lines._waiting < 10_000 + (1 << 17)
            total += sum(batch[2].count(b"\n") for batch in next(batches))
    assert total == 3000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_errors_do_not_pile_up(api, cluster, monkeypatch):
    monkeypatch.setattr(logs_follow, "KEPT", 5)
    with follow(cluster) as lines:
        for number in range(10):
            lines.note(SrcipError(str(number)))
        assert [error.cause for error in lines.errors] == list("56789")


def test_had_tells_a_kubelets_own_words_from_a_line_of_the_past():
    had = Had()
    line = stamp(START * SECOND) + b" x"
    assert had.take(line)
    assert had.take(b"unable to retrieve container logs for containerd://0123")
    assert had.since() == START - 1
    had.begin_again()
    assert not had.take(line)


def test_only_what_comes_begins_when_follow_returns_however_slow_the_server_is(api, cluster):
    api.write("webserver-1", b"before")

    def slowly(name: str) -> None:
        api.before_log = lambda name: None
        threading.Event().wait(1.5)  # longer than following waits for first answers

    api.before_log = slowly
    with follow(cluster, tail=0) as lines:
        api.write("webserver-1", b"after")
        assert words(lines.wait_for(has("after"))) == ["after"]


def test_had_never_takes_what_was_not_wanted():
    had = Had()
    old, last, new, later = (stamp(START * SECOND + at) + b" x" for at in (1, 2, 3, 4))
    had.begin_after(last)
    for fresh in ([new], []):
        had.begin_again()
        assert [line for line in (old, last, new) if had.take(line)] == fresh
    had.begin_again()
    assert [line for line in (old, last, new, later) if had.take(line)] == [later]
    assert not had.has_gap
