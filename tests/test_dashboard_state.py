"""What the dashboard knows: requests fall into periods, and no hour of them makes the state grow."""

from dataclasses import replace

import pytest

from srcip_nb.dashboard_state import LOG_LINES, MOST_KEYS, MOST_WAITING, OTHER, WAIT, Line, Sent, Setting, State, count

CLIENT, NODE = "192.168.1.122", "192.168.1.45"
SECOND = 1_000_000_000


def sent(request, at, *, period=1, status=200, error=""):
    return Sent(period, request, at, at + 1000, "client", CLIENT, "192.168.1.56:80", status, error)


def line(request, source=NODE, pod="web-1"):
    return Line(request, pod, "worker01", source, "client" if source == CLIENT else "node", "worker01")


@pytest.fixture
def state():
    return State(Setting(), 0)


def test_an_answer_and_its_line_meet_whichever_comes_first(state):
    state.sent([sent(0, 10)])
    state.logged([line(0), line(1, CLIENT)])
    state.sent([sent(1, 20)])
    assert state.now.sent == state.now.answered == 2
    assert state.now.kept == 1
    assert state.now.nodes == {("worker01", "web-1"): 2}
    assert state.now.sources == {(NODE, "node", "worker01"): 1, (CLIENT, "client", "worker01"): 1}
    assert state.now.last.sent.request == 1
    assert state.waiting == 0


def test_a_flip_puts_the_before_beside_the_after(state):
    state.sent([sent(0, 10)])
    state.change_begins(100)
    assert state.is_changing
    state.sent([sent(1, 110)])  # while it changes
    state.in_force(replace(state.now.setting, external="Local"), 200)
    state.sent([sent(2, 150), sent(3, 250, period=2), sent(4, 260, period=1)])  # the last one was planned before
    state.logged([line(0), line(1), line(2), line(3, CLIENT), line(4)])
    assert (state.before.setting.external, state.now.setting.external) == ("Cluster", "Local")
    assert (state.before.sent, state.now.sent, state.between) == (1, 1, 3)
    assert state.before.setting.differences(state.now.setting) == {"external": ("Cluster", "Local")}
    assert (state.before.kept, state.now.kept) == (0, 1)


def test_a_late_line_is_counted_where_its_request_was_sent(state):
    state.sent([sent(0, 10)])
    state.in_force(replace(state.now.setting, external="Local"), 200_000)
    state.logged([line(0)])
    assert state.before.answered == 1 and state.now.answered == 0


def test_a_period_without_requests_is_not_kept_for_comparison(state):
    state.sent([sent(0, 10)])
    state.in_force(replace(state.now.setting, external="Local"), 2000)
    state.in_force(replace(state.now.setting, mode="nftables"), 3000)
    assert state.before.setting.external == "Cluster"
    assert state.now.number == 3


def test_a_change_that_fails_changes_nothing(state):
    state.change_begins(10)
    state.change_fails()
    state.sent([sent(0, 20)])
    assert state.now.number == 1 and state.now.sent == 1 and not state.is_changing


def test_errors_are_counted_and_remembered(state):
    state.sent([sent(0, 10, status=None, error="timeout")])
    assert state.now.errors == {"timeout": 1}
    assert state.now.lost.request == 0
    assert state.now.answered == 0 and state.waiting == 0


def test_a_line_that_does_not_come_is_said_to_be_in_no_log(state):
    state.sent([sent(0, 10)])
    state.tick(WAIT - 1)
    assert state.waiting == 1
    state.tick(WAIT + 2000)
    assert state.waiting == 0 and state.now.seen.unlogged == 1 and state.now.answered == 1


def test_an_hour_of_requests_keeps_its_bounds(state):
    """180 000 requests of which half never find their line, ever new pods and addresses, and a flip now and then."""
    for second in range(3600):
        at = second * SECOND
        ids = range(second * 50, second * 50 + 50)
        state.sent(sent(i, at, period=state.now.number) for i in ids)
        state.logged(line(i if i % 2 else -i - 1, f"10.0.{i % 250}.{second % 250}", f"web-{second}") for i in ids)
        state.lines.extend(("web", "worker01", "nginx", "x" * 50) for _ in ids)
        if second % 60 == 59:
            state.in_force(replace(state.now.setting, external="Local" if second % 120 == 59 else "Cluster"), at + 5000)
        state.tick(at + SECOND)
    assert state.total == 180_000
    assert len(state.lines) == LOG_LINES
    assert state.waiting <= 50 * WAIT // SECOND // 2 + 50
    assert len(state._early) <= MOST_WAITING
    for period in (state.before, state.now):
        for counter in (period.nodes, period.sources, period.errors, period.seen.answers, period.seen.errors):
            assert len(counter) <= MOST_KEYS + 1
    assert state.before.answered == sum(state.before.nodes.values()) + state.before.seen.unlogged


def test_many_kinds_are_counted_together():
    from collections import Counter

    counter = Counter()
    for number in range(MOST_KEYS + 10):
        count(counter, number)
    assert len(counter) == MOST_KEYS + 1 and counter[OTHER] == 10
