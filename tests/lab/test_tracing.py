"""A trace takes back all that it did, whatever fails on the way; with an agent that only notes what it is asked."""

from __future__ import annotations

import asyncio

import pytest

from srcip_nb.errors import LabError
from srcip_nb.lab.kernel import AgentError
from srcip_nb.lab.tracing import MARKING, READ_IPTABLES, UNMARKING, Tracer

RESULT = {"id": 0, "client_ip": "192.168.1.122", "client_port": 40000, "status": 200, "error": ""}


class FakeAgent:
    """Answers like an agent; ``fail(op, host, text)`` says where it does not."""

    def __init__(self, fail=lambda op, host, text: False, is_whole: bool = True) -> None:
        self.fail, self.is_whole = fail, is_whole
        self.asked: list[tuple[str, str, str]] = []
        self.rules = "*nat\n:OUTPUT ACCEPT [1:2]\nCOMMIT\n"

    async def call(self, op, host, argv=(), stdin=None, timeout=0):
        text = stdin or " ".join(argv)
        self.asked.append((op, host, text))
        if self.fail(op, host, text):
            raise AgentError(f"{host}: no")
        if op == "trace_end":
            return {"messages": [], "whole": self.is_whole}
        return {"code": 0, "stdout": self.rules if list(argv) == READ_IPTABLES else "", "stderr": ""}

    async def stream(self, op, host, **options):
        if self.fail(op, host, ""):
            raise AgentError(f"{host}: no")
        yield {"done": [RESULT]}

    def hosts(self, op: str, text: str = "") -> list[str]:
        return [host for asked, host, said in self.asked if asked == op and said == text]


def trace(agent):
    return asyncio.run(Tracer(agent, ["a", "b", "c"]).trace("client", "http://192.168.1.56/"))


def test_it_marks_reads_and_unmarks_every_node():
    agent = FakeAgent()
    answer = trace(agent)
    assert answer["request"] == RESULT
    assert answer["nodes"]["b"] == {
        "messages": [],
        "iptables": "*nat\n:OUTPUT ACCEPT\nCOMMIT\n",
        "nftables": "",
        "conntrack": "",
    }
    assert agent.hosts("exec", MARKING) == agent.hosts("exec", UNMARKING) == agent.hosts("trace_end") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("failing", "begun"),
    [
        (("trace_begin", "b", ""), ["a"]),
        (("exec", "b", MARKING), ["a", "b"]),
        (("exec", "c", "conntrack -L -p tcp"), ["a", "b", "c"]),
        (("visit", "client", ""), ["a", "b", "c"]),
        (("trace_end", "a", ""), ["a", "b", "c"]),
        (("exec", "a", UNMARKING), ["a", "b", "c"]),
    ],
)
def test_after_a_failure_no_node_is_left_marked(failing, begun):
    agent = FakeAgent(lambda *asked: asked == failing)
    with pytest.raises(LabError, match=f"{failing[1]}: no"):
        trace(agent)
    assert agent.hosts("exec", UNMARKING) == agent.hosts("trace_end") == begun


def test_rules_that_changed_on_the_way_make_no_table():
    agent = FakeAgent()

    def change(op, host, text):
        if op == "visit":
            agent.rules += "-A OUTPUT -j ACCEPT\n"
        return False

    agent.fail = change
    with pytest.raises(LabError, match="changed its rules"):
        trace(agent)


def test_lost_messages_make_no_table():
    with pytest.raises(LabError, match="more to tell"):
        trace(FakeAgent(is_whole=False))
