"""follow(): no line lost and none twice, whatever happens to connections, containers and pods."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections import Counter

import pytest
import trustme

from srcip_nb.errors import NotFinishedError
from srcip_nb.logs_follow import follow
from srcip_nb.logs_had import Had
from srcip_nb.rest import ApiAnswerError
from tests.logs_fake import START, FakeApi, stamp
from tests.test_logs import ACCESS, cluster_of

CLOSED_WITHIN = 10.0  # seconds; who waits for a line that does not come waits for good


@pytest.fixture
def api():
    with FakeApi() as running:
        running.add_pod("webserver-1", node="worker01")
        running.add_pod("webserver-2", node="worker02")
        yield running


@pytest.fixture
def cluster(api):
    return cluster_of(api)


def has(*lines: str):
    return lambda frame: set(lines) <= set(frame["raw"].dropna())


def until(is_so, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come about"
        threading.Event().wait(0.005)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("srcip-nb logs")]


def test_lines_of_all_pods_as_they_come(api, cluster):
    api.write("webserver-1", b"before")
    with follow(cluster) as lines:
        lines.wait_for(has("before"))
        for number in range(20):
            api.write(f"webserver-{1 + number % 2}", ACCESS % (number, b"curl"))
        frame = lines.wait_for(20)
    assert frame["request"].dropna().tolist() == list(range(20))
    assert frame["node"].tolist()[1:] == ["worker01", "worker02"] * 10
    assert frame["line"].tolist()[-2:] == [11, 10]
    assert lines.errors == []
    assert threads() == []
    assert lines.rows().equals(frame)


def test_only_what_comes(api, cluster):
    api.write("webserver-1", b"before")
    with follow(cluster, tail=0) as lines:
        api.write("webserver-1", b"after")
        assert lines.wait_for(has("after"))["raw"].tolist() == ["after"]


def test_rows_of_one_run_and_probes_apart(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", ACCESS % (1, b"kube-probe/1.36"))
        api.write("webserver-1", (ACCESS % (2, b"curl")).replace(b"0123abcd", b"ffffffff"))
        api.write("webserver-1", ACCESS % (3, b"curl"))
        assert lines.wait_for(1, run="0123abcd")["request"].tolist() == [1, 3]
        assert lines.rows("ffffffff")["request"].tolist() == [2]
        assert lines.wait_for(2)["probe"].tolist() == [True, False, False]


def test_a_pod_that_comes_later_is_followed_from_its_first_line(api, cluster):
    with follow(cluster, tail=0) as lines:
        api.add_pod("webserver-3", waits="ContainerCreating")
        api.add_pod("other-1", app="other")
        api.write("other-1", b"not ours")
        until(lambda: any("webserver-3" in path for path in api.requests))
        api.begin("webserver-3")
        api.write("webserver-3", b"first")
        frame = lines.wait_for(has("first"))
    assert frame["pod"].tolist() == ["webserver-3"]


def test_a_pod_that_goes_is_no_error_and_its_rows_stay(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"last words")
        lines.wait_for(has("last words"))
        api.delete("webserver-1")
        until(lambda: not any("webserver-1" in name for name in threads()))
        api.write("webserver-2", b"still here")
        lines.wait_for(has("last words", "still here"))
        assert lines.errors == []


def test_a_restart_goes_on_with_the_next_start(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"first")
        lines.wait_for(has("first"))
        api.end("webserver-1")
        api.begin("webserver-1")
        api.write("webserver-1", b"second")
        frame = lines.wait_for(has("second"))
    assert frame[["restarts", "raw"]].to_numpy().tolist() == [[0, "first"], [1, "second"]]


def test_what_was_written_before_a_restart_while_the_connection_was_broken(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"first")
        lines.wait_for(has("first"))
        api.refuse["/log"] = (503, "ServiceUnavailable")
        api.cut()
        until(lambda: lines.errors)
        api.write("webserver-1", b"unseen")
        api.restart("webserver-1")
        api.write("webserver-1", b"second")
        api.refuse.clear()
        frame = lines.wait_for(has("unseen", "second"))
    assert frame[["restarts", "raw"]].to_numpy().tolist() == [[0, "first"], [0, "unseen"], [1, "second"]]


def test_a_last_line_without_an_end_is_kept_when_the_container_has_ended(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", b"whole")
        lines.wait_for(has("whole"))
        api.write("webserver-1", b"(no end)")
        api.end("webserver-1")
        assert lines.wait_for(has("(no end)"))["raw"].tolist() == ["whole", "(no end)"]


def test_broken_connections_are_taken_up_and_told(api, cluster):
    with follow(cluster) as lines:
        for number in range(5):
            api.write("webserver-1", b"line %d" % number)
            lines.wait_for(has(f"line {number}"))
            api.cut()
        api.write("webserver-1", b"end")
        frame = lines.wait_for(has("end"))
        assert frame["raw"].tolist() == [*(f"line {number}" for number in range(5)), "end"]
        assert lines.errors
        assert "broke off" in lines.errors[0].cause


def test_a_cut_before_the_first_line_loses_nothing(api, cluster):
    api.write("webserver-1", b"old", after=-10 * 10**9)
    api.now = START * 10**9 + 5 * 10**9
    with follow(cluster, tail=0) as lines:
        api.refuse["/log"] = (503, "ServiceUnavailable")
        api.cut()
        until(lambda: lines.errors)
        api.write("webserver-1", b"meanwhile")
        api.refuse.clear()
        assert lines.wait_for(has("meanwhile"))["raw"].tolist() == ["meanwhile"]


def test_a_log_that_is_silent_for_long_is_asked_for_again_without_a_word(api, cluster, monkeypatch):
    monkeypatch.setattr("srcip_nb.logs_reader.IDLE", 0.05)
    with follow(cluster) as lines:
        api.write("webserver-1", b"first")
        until(lambda: sum("webserver-1/log" in path for path in api.requests) > 2)
        api.write("webserver-1", b"second")
        assert lines.wait_for(has("second"))["raw"].tolist() == ["first", "second"]
        assert lines.errors == []


def test_a_history_that_is_too_short_is_listed_anew(api, cluster):
    with follow(cluster) as lines:
        until(lambda: any("watch=true" in path for path in api.requests))
        api.refuse["watch=true"] = (503, "ServiceUnavailable")
        api.cut()
        api.history_begins_at = 10**6
        api.add_pod("webserver-3")
        api.write("webserver-3", b"found again")
        del api.refuse["watch=true"]
        lines.wait_for(has("found again"))
        api.history_begins_at = 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_line_once_in_a_storm(api, cluster, seed):
    """Connections break, containers restart, pods come and go, lines of two hands have times out of order."""
    dice = random.Random(seed)
    written: Counter[tuple[str, str]] = Counter()
    alive = ["webserver-1", "webserver-2"]
    with follow(cluster) as lines:
        for number in range(400):
            pod = dice.choice(alive)
            text = dice.choice(["same", f"line {number}"])
            api.write(
                pod, text.encode(), after=dice.choice([0, 0, 10**6, 10**8]), at=api.now - dice.choice([0, 0, 10**8])
            )
            written[pod, text] += 1
            what = dice.random()
            if what < 0.03:
                api.cut()
            elif what < 0.035:
                name = f"webserver-{number + 100}"
                api.add_pod(name)
                alive.append(name)
            elif what < 0.04:
                # A container whose reader has kept up; what is written behind a broken connection is another test's.
                until(lambda pod=pod: _count(lines, pod) == sum(n for (name, _), n in written.items() if name == pod))
                api.now += 10**9
                api.restart(pod)
        frame = lines.wait_for(lambda frame: len(frame) >= sum(written.values()), 30)
    assert Counter(zip(frame["pod"].astype(str), frame["raw"], strict=True)) == written


def _count(lines, pod: str) -> int:
    return int((lines.rows()["pod"] == pod).sum())


def test_closing_is_prompt_whatever_is_waited_for(api, cluster):
    api.keeps_headers_back = True  # a kubelet sends nothing, not even headers, before the first line
    lines = follow(cluster, tail=0)
    assert len(threads()) == 3
    begin = time.monotonic()
    lines.close()
    assert time.monotonic() - begin < CLOSED_WITHIN
    assert threads() == []
    lines.close()


def test_closing_is_prompt_over_tls():
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with FakeApi(tls) as api, authority.cert_pem.tempfile() as ca:
        api.add_pod("webserver-1")
        with follow(cluster_of(api, ca)) as lines:
            api.write("webserver-1", b"x")
            lines.wait_for(has("x"))
            begin = time.monotonic()
        assert time.monotonic() - begin < CLOSED_WITHIN
        assert threads() == []
        assert lines.errors == []


def test_closing_by_an_error_in_the_block(cluster):
    with pytest.raises(ZeroDivisionError), follow(cluster):
        1 / 0  # noqa: B018
    assert threads() == []


def test_waiting_in_vain_says_what_was_there(api, cluster):
    with follow(cluster) as lines:
        api.write("webserver-1", ACCESS % (1, b"curl"))
        lines.wait_for(1)
        with pytest.raises(NotFinishedError, match=r"1 of 2 requests were in the logs after 0\.05 s \(1 lines\)"):
            lines.wait_for(2, timeout=0.05)
    with pytest.raises(NotFinishedError):
        lines.wait_for(2, timeout=60)  # closed: nothing more will come, so it does not wait


def test_a_refusal_for_good_is_raised(api, cluster):
    with follow(cluster) as lines:
        api.refuse["/log"] = (403, "Forbidden")
        api.cut()
        with pytest.raises(ApiAnswerError) as refused:
            lines.wait_for(1, timeout=10)
        assert refused.value.code == 403
    assert threads() == []


def test_a_fault_of_a_thread_is_raised(api, cluster, monkeypatch):
    monkeypatch.setattr(Had, "take", lambda *_: 1 // 0)
    with follow(cluster) as lines:
        api.write("webserver-1", b"x")
        with pytest.raises(ZeroDivisionError):
            lines.wait_for(1)


def test_a_missing_deployment_is_said_at_once(api, cluster):
    with pytest.raises(ApiAnswerError, match="not found"):
        follow(cluster, "pod/none")
    assert threads() == []


def test_had_leaves_out_what_came_twice_and_no_more():
    had = Had()
    second = START * 10**9
    one, same, late = (stamp(second + n) + b" x" for n in (5, 7, 6))
    assert had.since() is None
    assert [had.take(line) for line in (one, same, same, late)] == [True] * 4
    assert had.since() == START - 1
    had.begin_again()
    new = stamp(second + 4) + b" x"
    again = [new, one, same, same, same, late]
    assert [had.take(line) for line in again] == [True, False, False, False, True, False]
    had.begin_again()
    assert not any(had.take(line) for line in again)


def test_had_forgets_what_cannot_come_again():
    had = Had()
    for number in range(100):
        had.take(stamp((START + number) * 10**9) + b" x")
    assert had.since() == START + 98
    assert len(had._recent) == 2
