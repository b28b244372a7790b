"""A packet's way read out of what kernels said, captured in a lab with policy Cluster and Local in both proxy modes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from srcip_nb.errors import UsageError
from srcip_nb.explain import COLUMNS, explain, table_of
from srcip_nb.lab.trace import IptablesRules, NftablesRules, Trace, read_flows, read_trace
from srcip_nb.lab.trace_messages import Event, read_event
from tests.cluster_fakes import serving

DATA = Path(__file__).parent / "data" / "trace"
CAPTURED = ("iptables-cluster", "iptables-local", "nftables-cluster")


def captured(name: str) -> dict:
    return json.loads((DATA / f"{name}.json").read_text())


def lines_of(trace: Trace) -> str:
    """A trace as text, one line a row."""
    rows = table_of(trace).fillna("?").itertuples(index=False)
    return "".join("\t".join(row).rstrip() + "\n" for row in rows)


@pytest.mark.parametrize("name", CAPTURED)
def test_what_the_kernel_said_is_read_as_this_table(name):
    assert lines_of(read_trace(captured(name))) == (DATA / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", CAPTURED)
def test_every_message_about_the_packet_is_a_row_but_those_of_the_marking_itself(name):
    answer = captured(name)
    events = [read_event(base64.b64decode(m)) for said in answer["nodes"].values() for m in said["messages"]]
    assert len(read_trace(answer).steps) == sum(event.table != "ip srcip-nb-trace" for event in events)


@pytest.mark.parametrize("name", CAPTURED)
def test_another_packet_is_not_shown(name):
    answer = captured(name)
    answer["request"]["client_port"] += 1
    assert read_trace(answer) == Trace(answer["request"])


def test_without_a_conntrack_entry_nothing_is_said_about_what_masquerading_made_of_the_source():
    answer = captured("iptables-cluster")
    answer["nodes"]["worker01"]["conntrack"] = ""
    trace = read_trace(answer)
    (masquerade,) = [step for step in trace.steps if step.verdict.startswith("MASQUERADE")]
    assert (masquerade.source_after, masquerade.destination_after, masquerade.evidence) == (None, None, "nflog")
    assert {flow.node for flow in trace.flows} == {"worker02"}


def test_nodes_are_in_the_order_of_the_packets_way_whatever_their_names():
    answer = captured("iptables-cluster")
    answer["nodes"] = {f"{9 - i}-{name}": said for i, (name, said) in enumerate(answer["nodes"].items())}
    reverse = {**answer, "nodes": dict(reversed(answer["nodes"].items()))}
    for given in (answer, reverse):
        nodes = list(dict.fromkeys(step.node for step in read_trace(given).steps))
        assert [node[2:] for node in nodes] == ["worker01", "worker02"]


def test_rules_of_iptables_are_found_by_their_place():
    rules = IptablesRules(
        "*filter\n:FORWARD DROP\n:OURS -\n-A FORWARD -p tcp -j OURS\n-A FORWARD -p udp -g OURS\n"
        '-A OURS -m comment --comment "a -j b"\n-A OURS -j RETURN\nCOMMIT\n'
    )

    def verdict(chain: str, kind: str, number: int) -> tuple[str, str]:
        return rules.describe(Event("nflog", "filter", chain, kind, number, hook="forward"), "")[1:]

    assert verdict("FORWARD", "rule", 1) == ("-A FORWARD -p tcp -j OURS", "jump OURS")
    assert verdict("FORWARD", "rule", 2) == ("-A FORWARD -p udp -g OURS", "goto OURS")
    assert verdict("FORWARD", "policy", 3) == ("", "policy DROP")
    assert verdict("OURS", "return", 2) == ("-A OURS -j RETURN", "RETURN")
    assert verdict("OURS", "return", 3) == ("", "end of chain")
    assert verdict("OURS", "rule", 1)[1] == "continue"


def test_rules_of_nftables_are_found_by_table_and_handle():
    rules = NftablesRules(
        "table ip a { # handle 1\n\tset s { # handle 9\n\t\ttype ipv4_addr\n\t}\n\n"
        "\tchain c { # handle 2\n\t\ttype nat hook output priority -100; policy accept;\n"
        '\t\tjump d comment "x # handle 7" # handle 3\n\t}\n}\n'
        "table ip b { # handle 2\n\tchain c { # handle 1\n\t\tdrop # handle 3\n\t}\n}\n"
    )
    assert rules.describe(Event("nftrace", "ip a", "c", "rule", 3), "") == (
        "output",
        'jump d comment "x # handle 7"',
        "",
    )
    assert rules.describe(Event("nftrace", "ip b", "c", "rule", 3), "input") == ("input", "drop", "")
    assert rules.describe(Event("nftrace", "ip a", "c", "rule", 4), "")[1] == ""


def test_flows_without_both_directions_are_left_out():
    ends = "src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2"
    text = f"tcp      6 9 SYN_SENT {ends} [UNREPLIED] {ends} mark=0\ntcp 6 9 CLOSE {ends}\nudp 17 9 {ends} {ends}\n"
    (flow,) = read_flows("n", text)
    assert (flow.state, flow.source, flow.reply_destination) == ("SYN_SENT", "10.0.0.1:1", "10.0.0.2:2")


def test_a_foreign_message_is_an_error():
    with pytest.raises(ValueError, match="no trace message"):
        read_event(b"\x02\x00\x02\x00\x00\x00")


def test_a_request_that_met_no_rule_is_an_empty_table_with_the_columns():
    frame = table_of(Trace({"client_ip": "", "client_port": 0}))
    assert list(frame.columns) == list(COLUMNS)
    assert frame.empty


def test_a_real_cluster_is_told_that_its_kernels_cannot_be_asked():
    with serving({}) as (_, cluster), pytest.raises(UsageError, match="no lab"):
        explain(cluster)
