"""Which permissions are missing, found before anything is created, and the Roles that grant them."""

import pytest
import yaml

from srcip_nb.apply import apply
from srcip_nb.errors import UsageError
from srcip_nb.permissions import (
    FEATURES,
    REVIEWS,
    WHO,
    MissingPermissionError,
    Permission,
    covers,
    in_words,
    matrix_namespace,
    permissions_of,
    require_feature,
)
from srcip_nb.rbac import Subject, choose_features, rbac_objects, rbac_text
from tests.cluster_fakes import recorded, serving

LEARNER = Subject("User", "learner")


class Authorizer:
    """An API server that grants what some Roles say."""

    def __init__(self, *objects) -> None:
        self.roles = [body for body in objects if body["kind"] in ("Role", "ClusterRole")]
        self.reviews: list[str] = []

    def answers(self) -> dict:
        def rules(query, sent):
            namespace = sent["spec"]["namespace"]
            self.reviews.append(namespace)
            return 201, {"status": {"resourceRules": self.rules_in(namespace), "incomplete": False}}

        def access(query, sent):
            asked = sent["spec"]["resourceAttributes"]
            self.reviews.append(asked["resource"])
            namespace = asked.get("namespace", "")
            resource = "/".join(filter(None, [asked["resource"], asked.get("subresource", "")]))
            one = Permission(asked["verb"], resource, asked.get("group", ""), namespace, asked.get("name", ""))
            return 201, {"status": {"allowed": any(covers(rule, one) for rule in self.rules_in(namespace))}}

        who = {"status": {"userInfo": {"username": "learner"}}}
        return {
            ("POST", f"{REVIEWS}/selfsubjectrulesreviews"): rules,
            ("POST", f"{REVIEWS}/selfsubjectaccessreviews"): access,
            ("POST", WHO): (201, who),
        }

    def rules_in(self, namespace: str) -> list:
        return [
            rule
            for role in self.roles
            if role["kind"] == "ClusterRole" or role["metadata"]["namespace"] == namespace
            for rule in role["rules"]
        ]


def objects(*features: str, namespace: str = "seminar") -> list[dict]:
    return [body for _, body in rbac_objects(features, namespace, LEARNER)]


@pytest.mark.parametrize("feature", FEATURES)
def test_what_is_printed_for_a_feature_is_what_it_asks_for(feature):
    granting = Authorizer(*objects(feature))
    with serving(granting.answers()) as (_, cluster):
        require_feature(cluster, feature)
        before = len(granting.reviews)
        require_feature(cluster, feature)
        assert len(granting.reviews) == before, "what was granted is not asked twice"


@pytest.mark.parametrize("feature", FEATURES)
def test_without_any_one_rule_it_is_named(feature):
    for number in range(len(FEATURES[feature])):
        made = objects(feature)
        every = [rule for body in made if "rules" in body for rule in body["rules"]]
        every[number]["verbs"].pop()
        with serving(Authorizer(*made).answers()) as (_, cluster), pytest.raises(MissingPermissionError) as caught:
            require_feature(cluster, feature)
        assert {one.resource for one in caught.value.missing} == set(every[number]["resources"])


def test_a_missing_permission_is_named_before_anything_is_created():
    nothing = Authorizer()
    answers = {
        **nothing.answers(),
        ("GET", "/api/v1"): recorded("discovery-core_v1"),
        ("GET", "/apis/apps/v1"): recorded("discovery-apps_v1"),
    }
    with serving(answers) as (api, cluster), pytest.raises(MissingPermissionError) as caught:
        apply(cluster)
    assert caught.value.cause == (
        "context 'kind-kind' does not allow learner to: get namespaces and get, patch, create configmaps, "
        "deployments.apps, services in namespace 'seminar'; nothing was changed"
    )
    assert "srcip-nb rbac --namespace seminar --user learner | kubectl apply -f -" in caught.value.remedy
    assert api.paths("PATCH") == []


def test_who_cannot_be_asked_is_not_said_to_refuse():
    """An API server without these reviews: what is forbidden is heard of when it is tried."""
    with serving({}) as (_, cluster):
        require_feature(cluster, "lessons")


def test_a_role_in_a_namespace_is_no_right_in_the_whole_cluster():
    """A rules review of a namespace lists what its Roles grant there; nodes are not in any namespace."""
    made = objects("lessons")
    everything = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    only_here = {"kind": "Role", "metadata": {"name": "r", "namespace": "seminar"}, "rules": everything}
    made = [body for body in made if body["kind"] != "ClusterRole"] + [only_here]
    with serving(Authorizer(*made).answers()) as (_, cluster), pytest.raises(MissingPermissionError) as caught:
        require_feature(cluster, "lessons")
    assert caught.value.missing == [Permission("list", "nodes")]


@pytest.mark.parametrize(
    ("rule", "permission", "holds"),
    [
        ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, Permission("get", "pods/log", "", "a"), True),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, Permission("get", "pods/log", "", "a"), False),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}, Permission("get", "pods/log", "", "a"), True),
        ({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["pods"]}, Permission("get", "pods", "", "a"), False),
        (
            {"verbs": ["get"], "apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["b"]},
            Permission("get", "namespaces", "", "a", "a"),
            False,
        ),
    ],
)
def test_covers(rule, permission, holds):
    assert covers(rule, permission) is holds


def test_permissions_in_words():
    some = [Permission("get", "pods", "", "a"), Permission("list", "pods", "", "a"), Permission("list", "nodes")]
    assert in_words(some) == "get, list pods in namespace 'a'; list nodes in the whole cluster"
    named = [Permission("get", "configmaps", "", "a", name) for name in ("b", "c")]
    assert in_words(named) == "get configmaps in namespace 'a'"


def test_participants_do_not_meet():
    first, second = (
        {(body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]) for body in made}
        for made in (objects(*FEATURES, namespace="seminar-07"), objects(*FEATURES, namespace="seminar-08"))
    )
    assert first
    assert not first & second
    everything = permissions_of(FEATURES, "seminar-07")
    own = {"seminar-07", "seminar-07-matrix"}
    assert {one.namespace for one in everything} == {*own, "kube-system", ""}
    # outside the own namespaces nothing can be changed
    assert {one.verb for one in everything if one.namespace not in own} == {"get", "list"}
    assert len(matrix_namespace("a" * 63)) == 63


LOGS = """\
# What srcip-nb needs for: addresses. Apply it with: kubectl apply -f -
# addresses, in the whole cluster
#   pods, services: the address book beyond the own namespace
#   ciliumnodes: Cilium's addresses of the nodes
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: srcip-nb-addresses-seat}
rules:
- apiGroups: ['']
  resources: [pods, services]
  verbs: [list]
- apiGroups: [cilium.io]
  resources: [ciliumnodes]
  verbs: [list]
---
# addresses, in the whole cluster: for whom
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: srcip-nb-addresses-seat}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: srcip-nb-addresses-seat}
subjects:
- {kind: ServiceAccount, name: hub, namespace: jupyter}
"""


def test_the_text():
    assert rbac_text(["addresses"], "seat", Subject("ServiceAccount", "hub", "jupyter")) == LOGS


def test_the_command(cli):
    done = cli("rbac", "--namespace", "seminar-07", "--feature", "lessons")
    kinds = [body["kind"] for body in yaml.safe_load_all(done.stdout)]
    assert kinds == [
        *["Namespace", "ServiceAccount", "Role", "RoleBinding"],
        *["ClusterRole", "ClusterRoleBinding"],
    ]
    assert cli("rbac", "--feature", "flying").returncode == 2
    assert cli("rbac", "--service-account", "nobody").returncode == 2


def test_features():
    assert choose_features([]) == [name for name in FEATURES if name != "proxy-mode"]
    assert choose_features(["proxy-mode"]) == ["proxy-mode"]
    with pytest.raises(UsageError, match="no feature 'x'"):
        choose_features(["x"])
