import pytest

from srcip_nb.lab.api import status
from tests.lab.schema_truth import answer, code


def invalid_from(name: str) -> status.ApiError:
    details = answer(name)["details"]
    causes = [status.Cause(each["reason"], each["message"], each["field"]) for each in details["causes"]]
    return status.invalid(details["kind"], details["name"], causes)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("error-404-service", status.not_found("services", "nope")),
        ("error-404-path", status.path_not_found()),
        ("error-409-exists", status.already_exists("namespaces", "seminar")),
        ("error-415", status.unsupported_media_type()),
        ("error-422-no-ports", status.invalid("Service", "bad", [status.required("spec.ports")])),
        ("error-422-deployment-selector", invalid_from("error-422-deployment-selector")),
    ],
)
def test_refusals_are_those_of_a_real_server(name: str, error: status.ApiError) -> None:
    assert error.status == answer(name)
    assert error.code == code(name)
    assert str(error) == answer(name)["message"]


def test_deletion_answers_as_a_real_server() -> None:
    truth = answer("delete-configmap")
    assert status.success("configmaps", "applied", truth["details"]["uid"]) == truth


def test_groups_are_part_of_the_name() -> None:
    assert str(status.not_found("deployments", "web")) == 'deployments.apps "web" not found'
    assert status.conflict("replicasets", "web").status["details"]["group"] == "apps"
    assert str(status.conflict("services", "web")) == (
        'Operation cannot be fulfilled on services "web": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def test_several_causes_stand_in_brackets_each_once() -> None:
    causes = [status.required("a"), status.required("a"), status.required("b", "why")]
    error = status.invalid("Pod", "p", causes)
    assert str(error) == 'Pod "p" is invalid: [a: Required value, b: Required value: why]'
    assert [cause["field"] for cause in error.status["details"]["causes"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (status.invalid_value("f", 80, "no"), "Invalid value: 80: no"),
        (status.invalid_value("f", "x", "no"), 'Invalid value: "x": no'),
        (status.invalid_value("f", ["10.1.0.1"], "no"), 'Invalid value: ["10.1.0.1"]: no'),
        (status.invalid_value("f", {"b": 1, "a": "<"}, "no"), 'Invalid value: {"a":"\\u003c","b":1}: no'),
        (status.invalid_value("f", None, "no"), "Invalid value: null: no"),
        (status.not_supported("f", "x", ("B", "A")), 'Unsupported value: "x": supported values: "A", "B"'),
        (status.duplicate("f", "x"), 'Duplicate value: "x"'),
        (status.forbidden_value("f", "no"), "Forbidden: no"),
        (status.not_found_value("f", "x"), 'Not found: "x"'),
        (status.too_long("f", 63), "Too long: may not be more than 63 bytes"),
    ],
)
def test_causes_are_worded_as_go_words_them(cause: status.Cause, message: str) -> None:
    assert cause.message == message


def test_a_patch_is_shown_as_go_prints_a_map() -> None:
    error = status.invalid_patch({"spec": {"foo": "bar", "a": [1, True, None]}}, "strict decoding error")
    assert str(error) == (
        ' "" is invalid: patch: Invalid value: "map[spec:map[a:[1 true <nil>] foo:bar]]": strict decoding error'
    )
    assert error.code == 422
