"""What the API answers about oneself; the expected answers are a kube-apiserver v1.36.2's, asked with all rights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.apiserver import ApiServer, api_server

AUTHORIZATION = "/apis/authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


def test_who_has_the_token_may_do_everything(server: ApiServer) -> None:
    spec = {"resourceAttributes": {"verb": "list", "resource": "pods"}}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    answer = server.request("POST", f"{AUTHORIZATION}/selfsubjectaccessreviews", body)
    assert (answer.status, answer.body) == (201, {**body, "metadata": {}, "status": {"allowed": True}})


def test_the_rules_of_a_namespace(server: ApiServer) -> None:
    body = {"spec": {"namespace": "seminar"}}
    answer = server.request("POST", f"{AUTHORIZATION}/selfsubjectrulesreviews", body)
    assert answer.status == 201
    assert answer.body["spec"] == {}  # the real one leaves it out as well
    assert answer.body["status"]["resourceRules"] == [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    assert answer.body["status"]["incomplete"] is False


def test_questions_that_ask_nothing(server: ApiServer) -> None:
    answer = server.request("POST", f"{AUTHORIZATION}/selfsubjectaccessreviews", {"spec": {}})
    assert answer.status == 422
    assert answer.body["message"] == (
        '.authorization.k8s.io "" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of '
        "nonResourceAttributes or resourceAttributes must be specified"
    )
    assert answer.body["details"]["group"] == "authorization.k8s.io"
    answer = server.request("POST", f"{AUTHORIZATION}/selfsubjectrulesreviews", {"spec": {}})
    assert (answer.status, answer.body["message"]) == (400, "no namespace on request")
    assert server.request("POST", f"{AUTHORIZATION}/selfsubjectaccessreviews", {}, token=None).status == 401


def test_they_are_found_and_not_kept(server: ApiServer) -> None:
    groups = {group["name"] for group in server.request("GET", "/apis").body["groups"]}
    assert {"authentication.k8s.io", "authorization.k8s.io"} <= groups
    listed = server.request("GET", AUTHORIZATION).body["resources"]
    assert listed == [
        {"name": name, "singularName": name[:-1], "namespaced": False, "kind": kind, "verbs": ["create"]}
        for name, kind in (
            ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        )
    ]
    assert server.request("GET", f"{AUTHORIZATION}/selfsubjectaccessreviews").status == 405
