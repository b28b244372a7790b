"""Results as JSON: their form, what one that did not finish says, and what changed between two."""

import copy
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator, ValidationError, validate

from srcip_nb.errors import UsageError
from srcip_nb.report import run_html
from srcip_nb.results import (
    MATRIX,
    RUN,
    diff,
    diff_text,
    read_result,
    run_document,
    schema_of,
    unfinished_junit,
    unfinished_matrix,
)
from srcip_nb.run import FAILED, NOT_FINISHED, PASSED, Verdict

WORLD = {"name": "context 'kind'", "kubernetes": "v1.36.2", "mode": "iptables", "cni": "flannel",
         "owners": {"10.0.5.1": "pod-network worker01"}}  # fmt: skip
CHECK = {"expected": "the pod saw <the client>", "observed": "10.0.5.1", "state": "failed"}


def verdict(name="en/02.ipynb", said=PASSED, reason="", checks=()):
    return Verdict(name, 1.25, said, reason, Path("out"), tuple(checks))


def case(verdict="as expected", difference="", client="outside"):
    nothing = {"sent": 8, "answered": 8, "errors": [], "answered_by": ["s1"], "source_seen": [], "client_ip": []}
    expected = {"outcome": "answered", "answered_by": ["s1"], "source": [], "reason": "", "rule": ""}
    return {"service": "local", "client": client, "destination": "vip", "expected": expected, "observed": nothing,
            "verdict": verdict, "difference": difference}  # fmt: skip


def matrix(*cases, verdict=PASSED, **world):
    return {**unfinished_matrix({**WORLD, **world}, ""), "verdict": verdict, "cases": list(cases)}


@pytest.mark.parametrize("name", [RUN, MATRIX])
def test_the_schemas_are_schemas(name):
    Draft202012Validator.check_schema(schema_of(name))


def test_every_result_has_the_form_that_its_schema_says():
    found = run_document([verdict(), verdict("en/03.ipynb", FAILED, "no", [CHECK])], WORLD)
    validate(found, schema_of(RUN))
    validate(unfinished_matrix(WORLD, "the API server went away"), schema_of(MATRIX))
    validate(matrix(case()), schema_of(MATRIX))
    with pytest.raises(ValidationError):
        validate({**found, "verdict": "fine"}, schema_of(RUN))


@pytest.mark.parametrize(
    ("verdicts", "cause", "whole"),
    [
        ([verdict()], "", PASSED),
        ([verdict(), verdict(said=FAILED, reason="no")], "", FAILED),
        ([verdict(said=FAILED, reason="no"), verdict(said=NOT_FINISHED, reason="gone")], "", NOT_FINISHED),
        ([verdict()], "the API server went away", NOT_FINISHED),
        ([], "", NOT_FINISHED),
    ],
)
def test_a_run_has_passed_only_when_all_of_it_has(verdicts, cause, whole):
    found = run_document(verdicts, WORLD, cause)
    assert found["verdict"] == whole
    assert bool(found["cause"]) == (whole == NOT_FINISHED and bool(verdicts or cause))


def test_what_did_not_finish_is_an_error_to_junit_and_no_failure():
    suite = ElementTree.fromstring(unfinished_junit("matrix", "node <worker02> went away"))
    assert (suite.get("errors"), suite.get("failures"), suite.get("tests")) == ("1", "0", "1")
    assert suite.find("testcase/error").get("message") == "node <worker02> went away"


def test_the_page_of_a_run_shows_expected_beside_observed():
    page = run_html(run_document([verdict(said=FAILED, reason="no", checks=[CHECK])], WORLD))
    assert "<td>the pod saw &lt;the client&gt;</td><td>10.0.5.1</td><td>failed</td>" in page


def test_the_same_twice_is_no_change_whatever_it_took():
    old = run_document([verdict()], WORLD)
    new = copy.deepcopy(old)
    new["rows"][0]["seconds"] = new["seconds"] = 99.0
    assert diff(old, new) == []
    assert diff_text([]) == "nothing changed\n"


def test_what_changed_is_told_row_by_row():
    old = matrix(case(), case("differs", "s1 saw 10.0.5.1", "c1"), case(client="gone"))
    new = matrix(
        case("differs", "s1 saw 10.0.5.9"),
        case(client="c1"),
        case(client="come"),
        verdict=FAILED,
        kubernetes="v1.37.0",
        cni="calico",
        owners={"10.0.5.1": "pod-network worker02", "10.0.9.0": "pod-network worker01"},
    )
    assert diff(old, new) == [
        ("verdict", "", "passed", "failed"),
        ("now failing", "local: outside -> vip", "as expected", "differs: s1 saw 10.0.5.9"),
        ("now passing", "local: c1 -> vip", "differs: s1 saw 10.0.5.1", "as expected"),
        ("new", "local: come -> vip", "", "as expected"),
        ("absent", "local: gone -> vip", "as expected", ""),
        ("world", "cni", "flannel", "calico"),
        ("world", "kubernetes", "v1.36.2", "v1.37.0"),
        ("owner", "10.0.5.1", "pod-network worker01", "pod-network worker02"),
        ("owner", "10.0.9.0", "", "pod-network worker01"),
    ]


def test_a_row_that_is_not_asked_any_more_is_no_silent_pass():
    (change,) = diff(matrix(case()), matrix(case("not run", "ipMode Proxy")))
    assert change == ("now failing", "local: outside -> vip", "as expected", "not run: ipMode Proxy")


def test_two_forms_are_not_compared():
    with pytest.raises(UsageError, match="cannot be compared"):
        diff(matrix(), run_document([verdict()], WORLD))


def test_the_command_tells_changes_by_its_exit_status(cli, tmp_path):
    old, new, broken = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "broken.json"
    old.write_text(json.dumps(matrix(case())))
    new.write_text(json.dumps(matrix(case("differs", "s1 saw 10.0.5.9"), verdict=FAILED)))
    broken.write_text('{"schema": "other"}')
    assert cli("diff", str(old), str(old)).returncode == 0
    changed = cli("diff", str(old), str(new))
    assert changed.returncode == 1
    assert "now failing  local: outside -> vip: as expected -> differs: s1 saw 10.0.5.9\n" in changed.stdout
    assert cli("diff", str(old), str(broken)).returncode == 2
    with pytest.raises(UsageError, match="no result of a form known here"):
        read_result(broken)
