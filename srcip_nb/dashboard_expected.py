"""Expected beside observed, for what is set and seen in the dashboard: a case for the oracle, and its verdict.

The rules are ``expect.TABLE``'s, the verdict is ``judge.judge``'s; here is only which case the dashboard's setting is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from srcip_nb.dashboard_state import Period, Setting
from srcip_nb.dashboard_world import View
from srcip_nb.errors import UsageError
from srcip_nb.expect import EXTERNAL, NOBODY, NODE, NODE_PORT, POD, Case, Endpoint, Expectation, Source, World, expect
from srcip_nb.judge import is_incomplete, judge
from srcip_nb.matrix import lab_addresses

AS_EXPECTED, DIFFERS, NOT_ALL_SEEN, NOT_KNOWN, NOTHING_SEEN = "as expected", "differs", "not all", "unknown", "nothing"


@dataclass(frozen=True)
class Comparison:
    """Expected beside observed.

    Attributes:
        verdict: one of the five above.
        rows: pod (or "" for no answer), whose address it should see, the addresses it saw.
        words: what differs, or why nothing is known.
        expected: of the oracle, None where it knows nothing.
    """

    verdict: str
    rows: tuple[tuple[str, str, str], ...]
    words: str
    expected: Expectation | None


def case_of(setting: Setting, view: View) -> Case:
    """The oracle's case for what is set.

    Raises:
        UsageError: requests start in a pod, and there is none.
    """
    is_outside = setting.start == "client"
    name, node = ("", "") if is_outside else start_of(setting, view)
    led_to = _announcer(view) if is_outside else ""
    return Case(
        client={"client": EXTERNAL, "node": NODE, "pod": POD}[setting.start],
        destination=setting.target,
        endpoints=tuple(Endpoint(pod.name, pod.node, pod.state) for pod in view.pods),
        external=setting.external,
        internal=setting.internal,
        node=node,
        pod=name if setting.start == "pod" else "",
        at=view.node_port_at if setting.target == NODE_PORT else led_to,
    )


def start_of(setting: Setting, view: View) -> tuple[str, str]:
    """The node or pod where requests start, and its node: the first that has or is a pod of the Service.

    Raises:
        UsageError: there is no pod.
    """
    first = next((pod for pod in view.pods if pod.state == "ready"), None)
    if setting.start == "node":
        node = first.node if first else view.nodes[-1].name
        return node, node
    if first is None:
        raise UsageError("no pod is ready to send requests", "Choose 1 replica or more, or let the client ask.")
    return first.name, first.node


def _announcer(view: View) -> str:
    if not view.announcers:
        return NOBODY if view.info else ""
    return view.announcers[0] if len(view.announcers) == 1 else ""


def compare(period: Period, view: View) -> Comparison:
    """Hold what was seen in a period against the oracle."""
    setting = period.setting
    try:
        expected = expect(case_of(setting, view), World(setting.mode or "iptables", setting.cni))
    except UsageError as error:
        return Comparison(NOT_KNOWN, (), error.cause, None)

    is_sticky = setting.affinity != "None"  # a client stays with one endpoint: some of them answer, not all
    expected = replace(expected, is_some=expected.is_some or is_sticky)

    def addresses_of(source: Source) -> Collection[str]:
        return _addresses(source, view)

    rows = _rows(expected, period, addresses_of)
    if not period.sent:
        return Comparison(NOTHING_SEEN, rows, "", expected)
    if is_incomplete(expected, period.seen):
        foreign = period.seen.pods - set(expected.sources)
        if not foreign and not period.seen.unlogged:
            return Comparison(NOT_ALL_SEEN, rows, "", expected)
    words = judge(expected, period.seen, addresses_of)
    return Comparison(DIFFERS if words else AS_EXPECTED, rows, words, expected)


def _addresses(source: Source, view: View) -> Collection[str]:
    if view.info:
        known = lab_addresses(view.info)
        if source in known:
            return [known[source]]
    book = view.book[view.book["kind"].isin(["node", "pod-network"])]
    if source.owner:
        book = book[book["node"] == source.owner]
    return sorted(set(book["address"].astype(str)))


def _rows(
    expected: Expectation, period: Period, addresses_of: Callable[[Source], Collection[str]]
) -> tuple[tuple[str, str, str], ...]:
    seen: dict[str, set[str]] = {}
    for answer in period.seen.answers:
        seen.setdefault(answer.pod, set()).add(answer.source)
    rows = []
    for pod in sorted(set(expected.sources) | set(seen)):
        source = expected.sources.get(pod)
        wanted = "" if source is None else "client" if source.owner == "client" else " | ".join(addresses_of(source))
        rows.append((pod, wanted, ", ".join(sorted(seen.get(pod, ())))))
    return tuple(rows)
