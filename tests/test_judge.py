"""Expected beside observed, and the reports made of it."""

import json
from collections import Counter
from xml.etree import ElementTree

import pytest
from jsonschema import validate

from srcip_nb import report
from srcip_nb.expect import ANSWERED, DROPPED, REFUSED, UNREACHABLE, Case, Endpoint, Expectation, Source, World, expect
from srcip_nb.judge import AS_EXPECTED, DIFFERS, NOT_RUN, Answer, Observation, is_incomplete, judge
from srcip_nb.matrix import COLUMNS, table
from srcip_nb.matrix_ask import Row
from srcip_nb.matrix_cases import Question
from srcip_nb.results import schema_of

ADDRESSES = {Source("worker01", "gateway"): ["10.0.5.1"], Source("worker01", "tunnel"): ["10.0.5.0"]}
CLUSTER = Expectation(ANSWERED, {"s1": Source("worker01", "gateway"), "s2": Source("worker01", "tunnel")})
LOCAL = Expectation(ANSWERED, {"s1": Source("client")})


def seen(*answers, errors=(), unlogged=0):
    counted = Counter(Answer(*answer) for answer in answers)
    return Observation(len(answers) + len(errors) + unlogged, counted, Counter(errors), unlogged)


def words(expected, observation):
    return judge(expected, observation, lambda source: ADDRESSES[source])


CLIENT = "192.168.1.122"
FROM_S1, FROM_S2 = ("s1", "10.0.5.1", CLIENT), ("s2", "10.0.5.0", CLIENT)
KEPT = ("s1", CLIENT, CLIENT)


@pytest.mark.parametrize(
    ("expected", "observation"),
    [
        (CLUSTER, seen(FROM_S1, FROM_S2)),
        (LOCAL, seen(KEPT, KEPT)),
        (Expectation(ANSWERED, {"s1": Source("client"), "s2": Source("client")}, is_some=True), seen(KEPT)),
        (Expectation(REFUSED), seen(errors=["refused", "timeout"])),
        (Expectation(REFUSED, may_be_silent=True), seen(errors=["timeout"])),
        (Expectation(DROPPED), seen(errors=["timeout"])),
        (Expectation(UNREACHABLE), seen(errors=["unreachable", "timeout"])),
        (Expectation(ANSWERED, {"s1": Source("client")}, ("s2",)), seen(KEPT, errors=["timeout"])),
    ],
)
def test_what_agrees(expected, observation):
    assert words(expected, observation) == ""


@pytest.mark.parametrize(
    ("expected", "observation", "says"),
    [
        (CLUSTER, seen(FROM_S1), "no answer of s2"),
        (LOCAL, seen(KEPT, ("s2", CLIENT, CLIENT)), "answered by s2"),
        (LOCAL, seen(FROM_S1), "s1 saw 10.0.5.1, not the client's own (192.168.1.122)"),
        (CLUSTER, seen(KEPT, FROM_S2), "s1 saw 192.168.1.122, not worker01's gateway (10.0.5.1)"),
        (CLUSTER, seen(FROM_S1, FROM_S2, errors=["timeout"]), "1 of 3 requests: timeout"),
        (LOCAL, seen(KEPT, unlogged=1), "1 answered requests are in no log"),
        (Expectation(REFUSED), seen(errors=["timeout"]), "never refused"),
        (Expectation(REFUSED, may_be_silent=True), seen(KEPT), "1 of 1 requests were answered, by s1"),
        (Expectation(DROPPED), seen(errors=["refused"]), "1 of 1 requests: refused"),
        (Expectation(DROPPED), seen(KEPT), "1 of 1 requests were answered, by s1"),
        (Expectation(UNREACHABLE), seen(errors=["refused"]), "1 of 1 requests: refused"),
        (Expectation(ANSWERED, {"s1": Source("client")}, ("s2",)), seen(KEPT), "no request was lost, though the"),
    ],
)
def test_what_differs_is_said(expected, observation, says):
    assert says in words(expected, observation)


def test_what_is_right_but_not_complete_is_asked_again():
    assert is_incomplete(CLUSTER, seen(FROM_S1))
    assert not is_incomplete(CLUSTER, seen(FROM_S1, FROM_S2))
    assert is_incomplete(Expectation(REFUSED), seen(errors=["timeout"]))
    assert not is_incomplete(Expectation(DROPPED), seen(errors=["timeout"]))


@pytest.fixture
def frame():
    """One case of each verdict."""
    case = Case("external", "LoadBalancer", (Endpoint("s1", "worker01"),), "Local", at="worker01")
    said = expect(case, World(cni="flannel"))
    rows = [
        Row(Question("local", "outside", "vip"), said, seen(KEPT)),
        Row(Question("local", "outside", "vip-by-worker01"), said, seen(("s1", "<x>&", CLIENT), errors=["timeout"])),
        Row(Question("local", "h1", "vip"), None, Observation(), "no host network here"),
    ]
    made = table(rows, lambda source: ADDRESSES[source])
    made.attrs = {
        "world": "lab 'x'",
        "kubernetes": "v1.36.2",
        "mode": "iptables",
        "cni": "flannel",
        "nodes": ["worker01"],
        "seconds": 1.5,
    }
    return made


def test_the_table(frame):
    assert list(frame.columns) == list(COLUMNS)
    assert frame["verdict"].tolist() == [AS_EXPECTED, DIFFERS, NOT_RUN]
    assert frame["expected_source"].tolist() == ["s1<-kept", "s1<-kept", ""]
    assert frame["difference"].tolist()[2] == "no host network here"


def test_the_json_has_the_form_that_is_documented(frame):
    document = json.loads(report.json_text(frame))
    validate(document, schema_of("srcip-nb/matrix/v2"))
    assert document["world"]["mode"] == "iptables"
    assert {name: document[name] for name in ("schema", "verdict", "nodes", "summary")} == {
        "schema": "srcip-nb/matrix/v2",
        "verdict": "failed",
        "nodes": ["worker01"],
        "summary": {"as expected": 1, "differs": 1, "not run": 1},
    }
    assert document["cases"][0] == {
        "service": "local",
        "client": "outside",
        "destination": "vip",
        "expected": {
            "outcome": "answered",
            "answered_by": ["s1"],
            "source": ["s1<-kept"],
            "reason": "to worker01's rules the client is external; only endpoints on this node may be chosen; "
            "the source is kept",
            "rule": "kubernetes v1.36.2 TestInternalExternalMasquerade",
        },
        "observed": {
            "sent": 1,
            "answered": 1,
            "errors": [],
            "answered_by": ["s1"],
            "source_seen": ["s1<-192.168.1.122"],
            "client_ip": ["192.168.1.122"],
        },
        "verdict": "as expected",
        "difference": "",
    }


def test_junit_counts_failures_and_what_was_not_run(frame):
    suite = ElementTree.fromstring(report.junit(frame))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    ok, failed, skipped = suite
    assert len(ok) == 0
    assert "s1 saw <x>&" in failed.find("failure").get("message")
    assert skipped.find("skipped").get("message") == "no host network here"
    assert (ok.get("classname"), ok.get("name")) == ("matrix.iptables.local", "outside -> vip")


def test_the_text_shows_expected_beside_observed(frame):
    lines = report.text(frame).splitlines()
    assert lines[:2] == ["local", "  ✓ outside        vip                    s1<-kept  s1<-192.168.1.122"]
    assert any(line.startswith("  ✗ outside        vip-by-worker01") for line in lines)
    assert lines[-2].startswith("1 as expected, 1 differs, 1 not run: lab 'x', Kubernetes v1.36.2, mode iptables")
    assert lines[-1] == "not run, h1: 1 cases: no host network here"


def test_the_page_is_whole_and_escaped(frame):
    page = report.html(frame)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "s1&lt;-&lt;x&gt;&amp;, timeout" in page
    assert "<x>" not in page
    assert "What differs" in page
    assert "local: 2 cases, 1 differ" in page
