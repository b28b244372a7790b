"""The least rights that each feature needs, as objects that ``kubectl apply`` takes.

    Namespace            the participant's own, granted: srcip-nb works in it and never deletes it
    Role, RoleBinding    what is done inside, one pair for each feature
    ClusterRole, …       what lies outside: reading nodes, and for the address book pods and Services

Somebody who may grant rights applies them once for each participant. Names carry the namespace, so those of thirty
participants stand side by side. Everything is pure: text from ``permissions.FEATURES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from srcip_nb.errors import UsageError
from srcip_nb.ownership import GRANTED
from srcip_nb.permissions import FEATURES, MATRIX, ON_REQUEST, OWN, SYSTEM, WHOLE, Rule, matrix_namespace

RBAC = "rbac.authorization.k8s.io"
DEFAULT_ACCOUNT = "srcip-nb"


class Subject(NamedTuple):
    """Who gets the rights: kind User, Group or ServiceAccount; ``namespace`` of a ServiceAccount."""

    kind: str
    name: str
    namespace: str = ""

    def as_object(self) -> dict[str, str]:
        """As a binding has it."""
        if self.kind == "ServiceAccount":
            return {"kind": self.kind, "name": self.name, "namespace": self.namespace}
        return {"apiGroup": RBAC, "kind": self.kind, "name": self.name}


def choose_features(names: Sequence[str]) -> list[str]:
    """The features asked for; if none is named, all but those of ``ON_REQUEST``.

    Raises:
        UsageError: there is no such feature.
    """
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise UsageError(f"there is no feature {unknown[0]!r}", f"There are: {', '.join(FEATURES)}")
    return [name for name in FEATURES if name in names or (not names and name not in ON_REQUEST)]


def rbac_text(features: Sequence[str], namespace: str, subject: Subject) -> str:
    """The objects as YAML, each with a comment that says what it is for.

    Args:
        features: of ``FEATURES``.
        namespace: the participant's.
        subject: who gets the rights; a ServiceAccount called ``srcip-nb`` of that namespace is printed as well.
    """
    documents = [f"# {comment}\n{_yaml(body)}".rstrip() for comment, body in rbac_objects(features, namespace, subject)]
    head = f"# What srcip-nb needs for: {', '.join(features)}. Apply it with: kubectl apply -f -\n"
    return head + "\n---\n".join(documents) + "\n"


def rbac_objects(features: Sequence[str], namespace: str, subject: Subject) -> Iterable[tuple[str, dict[str, Any]]]:
    """What each object is for, and the object, in the order in which they can be applied."""
    places = {OWN: namespace, MATRIX: matrix_namespace(namespace), SYSTEM: SYSTEM}
    used = {rule.scope for feature in features for rule in FEATURES[feature]}
    for scope, comment in ((OWN, "the participant's own namespace"), (MATRIX, "the namespace of the matrix")):
        if scope in used:
            labels = {GRANTED: "true"}
            yield comment, {"apiVersion": "v1", "kind": "Namespace", "metadata": _meta(places[scope], "", labels)}
    if subject == Subject("ServiceAccount", DEFAULT_ACCOUNT, namespace):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(DEFAULT_ACCOUNT, namespace)}
        yield f"its token: kubectl create token {DEFAULT_ACCOUNT} -n {namespace}", account
    for feature in features:
        for scope in (OWN, MATRIX, SYSTEM, WHOLE):
            rules = [rule for rule in FEATURES[feature] if rule.scope == scope]
            if rules:
                where = places.get(scope, "")
                name = f"srcip-nb-{feature}" if scope in (OWN, MATRIX) else f"srcip-nb-{feature}-{namespace}"
                comment = f"{feature}, {f'in namespace {where}' if where else 'in the whole cluster'}"
                yield from _role_and_binding(comment, name, where, rules, subject)


def _role_and_binding(
    comment: str, name: str, namespace: str, rules: list[Rule], subject: Subject
) -> Iterable[tuple[str, dict[str, Any]]]:
    kind = "Role" if namespace else "ClusterRole"
    told = "\n# ".join([comment, *(f"  {', '.join(rule.resources)}: {rule.why}" for rule in rules)])
    granted = []
    for rule in rules:
        one: dict[str, Any] = {
            "apiGroups": [rule.group],
            "resources": list(rule.resources),
            "verbs": list(rule.verbs),
        }
        if rule.names_in(namespace):
            one["resourceNames"] = list(rule.names_in(namespace))
        granted.append(one)
    version = f"{RBAC}/v1"
    yield told, {"apiVersion": version, "kind": kind, "metadata": _meta(name, namespace), "rules": granted}
    reference = {"apiGroup": RBAC, "kind": kind, "name": name}
    binding = {
        "apiVersion": version,
        "kind": f"{kind}Binding",
        "metadata": _meta(name, namespace),
        "roleRef": reference,
        "subjects": [subject.as_object()],
    }
    yield f"{comment}: for whom", binding


def _meta(name: str, namespace: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    if namespace:
        found["namespace"] = namespace
    return {**found, "labels": labels} if labels else found


def _yaml(body: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(body, sort_keys=False, default_flow_style=None, width=110))
