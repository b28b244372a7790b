"""What a traced request tells, cut down for a reader; with requests captured in a lab, and a cluster that is no lab."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from types import SimpleNamespace

import pytest

from srcip_nb import chain_checks, chains
from srcip_nb.chains_figure import chains_figure, visits
from srcip_nb.exercises import exercise
from srcip_nb.explain import table_of
from srcip_nb.lab.trace import read_trace
from srcip_nb.notebook import FAILED, HELD, NOT_HERE, Sentence, begin, predict
from tests.test_explain import DATA

REAL = SimpleNamespace(lab=None)


def walk(name: str):
    return table_of(read_trace(json.loads((DATA / f"{name}.json").read_text())))


@pytest.fixture
def cluster_walk():
    return walk("iptables-cluster")


@pytest.fixture
def local_walk():
    return walk("iptables-local")


@pytest.fixture(autouse=True)
def fresh():
    begin("06")


def test_every_rule_is_a_row_and_nothing_else(cluster_walk):
    rules = chains.rules_met(cluster_walk)
    assert len(rules) == ((cluster_walk["rule"] != "") & (cluster_walk["table"] != "conntrack")).sum()
    assert list(rules["changed"][rules["changed"] != ""].map(lambda changed: changed.split(" ")[0])) == [
        "mark",
        "destination",
        "mark",
        "source",
    ]


def test_a_rule_of_iptables_is_told_without_what_other_columns_say():
    told = chains._short(
        '-A KUBE-SVC-X -m comment --comment "a/b -> 10.0.0.1:80" -m statistic --mode random -j KUBE-SEP-Y'
    )
    assert told == '-m statistic --mode random "a/b -> 10.0.0.1:80"'
    assert chains._short("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000") == ""
    assert chains._short("-A POSTROUTING -s 10.0.0.0/16 -j MASQUERADE --random-fully") == "-s 10.0.0.0/16"
    assert chains._short("-A X -m mark ! --mark 0x4000/0x4000 -j RETURN") == "-m mark ! --mark 0x4000/0x4000"
    assert chains._short("meta mark set meta mark | 0x00004000") == "meta mark set meta mark | 0x00004000"


def test_conntrack_has_a_row_for_each_node(cluster_walk, local_walk):
    entries = chains.conntrack(cluster_walk)
    assert list(entries.index) == ["worker01", "worker02"]
    assert entries.loc["worker01", "answered to"].startswith("10.0.5.0:")
    assert chains.conntrack(local_walk)["answered to"].iloc[0].startswith("192.168.1.122:")


class FakeLab:
    """A node's `ip` and a kube-proxy whose mode is remembered."""

    def __init__(self) -> None:
        self.mode, self.modes = "iptables", []

    def proxy_mode(self, mode=None):
        if mode:
            self.mode = mode
            self.modes.append(mode)
        return self.mode

    def exec(self, node, argv):
        link = {"vxlan": {"linkinfo": {"info_kind": "vxlan"}, "addr_info": [{"family": "inet", "local": "10.0.5.0"}]}}
        answers = {
            "route get": [{"dev": "vxlan" if argv[-1] == "10.0.30.66" else "cali1"}],
            "-d address": [link.get(argv[-1], {"addr_info": []})],
            "route show": [{"dev": "eth0"}],
        }
        return SimpleNamespace(code=0, stdout=json.dumps(answers[" ".join(argv[2:4])]), stderr="")


def test_the_way_out_is_the_interfaces_and_its_address(cluster_walk, local_walk):
    ways = chains.ways_out(SimpleNamespace(lab=FakeLab()), cluster_walk, local_walk)
    assert ways.loc["10.0.30.66"].to_list() == ["worker01", "vxlan", "tunnel", "10.0.5.0", "10.0.5.0"]
    assert ways.loc["10.0.5.2"].to_list()[1:4] == ["cali1", "pod", "none"]
    assert chain_checks.source_is_the_interfaces(ways).state == HELD
    ways["source"] = "192.168.1.45"
    assert chain_checks.source_is_the_interfaces(ways).state == FAILED


@pytest.mark.parametrize("failure", [None, KeyboardInterrupt, ValueError])
def test_the_mode_is_put_back_whatever_happens(failure):
    lab = FakeLab()
    with suppress(KeyboardInterrupt, ValueError), chains.in_mode(SimpleNamespace(lab=lab), "nftables"):
        assert lab.mode == "nftables"
        if failure:
            raise failure
    assert lab.modes == ["nftables", "iptables"]


def test_marked_under_cluster_and_not_under_local(cluster_walk, local_walk):
    predict("marked", "no", ["yes", "no"])
    assert chain_checks.marked(cluster_walk).state == HELD
    check = chain_checks.not_marked(local_walk, question="marked")
    assert (check.state, check.prediction != "") == (HELD, True)
    assert chain_checks.not_marked(cluster_walk).state == FAILED
    assert chain_checks.marked(local_walk).state == FAILED
    assert chain_checks.not_marked(local_walk.iloc[:0]).state == FAILED


@pytest.mark.parametrize("name", ["iptables-cluster", "nftables-cluster"])
def test_the_mark_stays_on_its_node(name):
    assert chain_checks.mark_stays_on_its_node(walk(name)).state == HELD


def test_a_mark_that_travelled_would_be_seen(cluster_walk, local_walk):
    cluster_walk.loc[cluster_walk["node"] == "worker02", ["mark", "mark_after"]] = "0x4000"
    assert chain_checks.mark_stays_on_its_node(cluster_walk).state == FAILED
    assert chain_checks.mark_stays_on_its_node(local_walk).state == FAILED  # one node alone tells nothing


def test_the_same_source_in_both_modes(cluster_walk, local_walk):
    assert chain_checks.same_source(cluster_walk, walk("nftables-cluster")).state == HELD
    assert chain_checks.same_source(cluster_walk, local_walk).state == FAILED


def test_a_map_is_looked_up_once_for_any_number_of_services():
    table = chains.rules_to_try([1, 5, 40])
    assert table.iloc[:, 0].to_list() == [2, 6, 41]  # and the last rule, for node ports
    assert table.iloc[:, 1].nunique() == 1
    assert table.iloc[:, 2].to_list() == [1, 5, 40]
    assert chain_checks.look_up_does_not_grow(table).state == HELD
    assert chain_checks.look_up_does_not_grow(table.iloc[:, [1, 0, 2]]).state == FAILED


def test_the_figure_has_a_box_for_each_visit_and_says_all_in_words(cluster_walk):
    found = visits(cluster_walk)
    assert [visit.chain for visit in found if visit.is_marked][:2] == ["KUBE-MARK-MASQ", "KUBE-EXT-2KQWG7PQLPS3RYPC"]
    assert not any(visit.is_marked for visit in found if visit.node == "worker02")
    picture = chains_figure(cluster_walk)
    assert all(visit.chain in picture.alt for visit in found)
    assert re.search(r"source 192\.168\.1\.122:\d+ → 10\.0\.5\.0", picture.alt)
    drawn = " ".join(text.get_text() for text in picture.figure.axes[0].texts)
    assert drawn.count("POSTROUTING") == picture.alt.count("POSTROUTING")
    assert isinstance(chains_figure(cluster_walk.iloc[:0]), Sentence)


def test_on_a_real_cluster_one_sentence_stands_for_each():
    walk = chains.follow(REAL, chains.ANOTHER_NODE)
    assert walk.empty and walk.attrs[NOT_HERE]
    said = [
        chains.rules_met(walk),
        chains.conntrack(walk),
        chains.ways_out(REAL, walk, walk),
        chains_figure(walk),
        chain_checks.marked(walk),
        chain_checks.mark_stays_on_its_node(walk),
        chain_checks.source_is_the_interfaces(chains.ways_out(REAL, walk)),
        chain_checks.same_source(walk, walk),
        exercise("06.1", ..., walk),
    ]
    assert said == [walk.attrs[NOT_HERE]] * len(said)
    with chains.in_mode(REAL, "nftables"):
        pass


def test_answers_to_the_exercises_come_from_the_table(cluster_walk, local_walk):
    assert exercise("06.1", 2, cluster_walk).state == HELD
    assert exercise("06.2", "KUBE-EXTERNAL-SERVICES", cluster_walk).state == FAILED  # nothing was dropped
    assert exercise("06.3", False, local_walk).state == HELD
