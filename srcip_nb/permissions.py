"""What each feature asks of the API, and whether these credentials may do it: asked before anything is created.

``FEATURES`` is the whole list. ``srcip-nb rbac`` prints it as Roles, and ``require_feature`` holds it against the
cluster: one SelfSubjectRulesReview for each namespace, and a SelfSubjectAccessReview for each permission that the rules
do not show (an authorizer other than RBAC need not list its rules). Every user may send these two
(ClusterRole system:basic-user, kubernetes v1.36.2 plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from srcip_nb.errors import ClusterError
from srcip_nb.rest import ApiAnswerError

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

REVIEWS = "/apis/authorization.k8s.io/v1"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

OWN, MATRIX, SYSTEM, WHOLE = "own", "matrix", "kube-system", "cluster"
"""Where a feature works: the participant's namespace, that of its matrix, kube-system, the whole cluster."""


class Permission(NamedTuple):
    """One thing to do: as ``kubectl auth can-i VERB RESOURCE -n NAMESPACE`` asks it.

    Attributes:
        verb: get, list, watch, create, patch, delete.
        resource: plural, with the subresource: ``pods/log``.
        group: "" for the core group.
        namespace: "" for the whole cluster.
        name: of one object; "" for any.
    """

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Rule:
    """Some verbs on some resources, and what they are for.

    Attributes:
        scope: ``OWN``, ``MATRIX``, ``SYSTEM`` or ``WHOLE``.
        group: "" for the core group.
        resources: plural names.
        verbs: as RBAC has them.
        why: a comment in what is printed.
        names: of the only objects that are meant; () for any. A namespace is always the one of the scope.
    """

    scope: str
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()

    def names_in(self, namespace: str) -> tuple[str, ...]:
        """The names of the only objects that are meant, in this namespace."""
        return (namespace,) if self.resources == ("namespaces",) else self.names


class MissingPermissionError(ClusterError):
    """The credentials do not suffice, and nothing was changed.

    Attributes:
        missing: what they lack.
    """

    def __init__(self, cause: str, remedy: str, missing: list[Permission]) -> None:
        super().__init__(cause, remedy)
        self.missing = missing


_MAKE = ("get", "list", "create", "patch", "delete")
_SLICES = "discovery.k8s.io"

# Feature -> what it needs, beside what every user may: /version, discovery, the reviews of one's own permissions.
FEATURES: dict[str, tuple[Rule, ...]] = {
    "lessons": (
        Rule(OWN, "", ("namespaces",), ("get",), "is the namespace there, and given to this project"),
        Rule(OWN, "", ("configmaps", "services"), _MAKE, "the page and the Service"),
        Rule(OWN, "apps", ("deployments",), _MAKE, "the web servers"),
        Rule(OWN, "apps", ("replicasets",), ("list",), "why a rollout does not come to its end"),
        Rule(OWN, "", ("pods",), ("get", "list", "delete"), "who answers"),
        Rule(OWN, "", ("pods/log",), ("get",), "nginx's own lines, from which every address is taken"),
        Rule(OWN, "", ("events",), ("list",), "what pods wait for; which node announces an address"),
        Rule(OWN, _SLICES, ("endpointslices",), ("list", "delete"), "which pods the Service sends to"),
        Rule(WHOLE, "", ("nodes",), ("list",), "the nodes' addresses: whose address was logged"),
    ),
    "addresses": (
        Rule(WHOLE, "", ("pods", "services"), ("list",), "the address book beyond the own namespace"),
        Rule(WHOLE, "cilium.io", ("ciliumnodes",), ("list",), "Cilium's addresses of the nodes"),
    ),
    "logs": (
        Rule(OWN, "", ("pods",), ("get", "list", "watch"), "which pods there are, as they come and go"),
        Rule(OWN, "", ("pods/log",), ("get",), "their logs"),
        Rule(OWN, "", ("services",), ("get",), "logs of service/NAME"),
        Rule(OWN, "apps", ("deployments",), ("get",), "logs of deployment/NAME"),
    ),
    "clients": (
        Rule(OWN, "", ("pods",), _MAKE, "pods from which requests start, on the host's network too"),
        Rule(OWN, "", ("pods/exec",), ("get", "create"), "curl in such a pod"),
    ),
    "matrix": (
        Rule(MATRIX, "", ("namespaces",), ("get",), "is the namespace there, and given to this project"),
        Rule(MATRIX, "", ("pods", "services"), _MAKE, "servers, clients and every kind of Service"),
        Rule(MATRIX, _SLICES, ("endpointslices",), _MAKE, "endpoints in states that no pod keeps for long"),
        Rule(MATRIX, "", ("configmaps",), ("list",), "is the namespace empty at the end"),
        Rule(MATRIX, "apps", ("deployments",), ("list",), "the same"),
        Rule(MATRIX, "", ("pods/log",), ("get",), "nginx's own lines"),
        Rule(MATRIX, "", ("pods/exec",), ("get", "create"), "curl in the client pods"),
        Rule(MATRIX, "", ("events",), ("list",), "which node announces an address"),
        Rule(WHOLE, "", ("nodes",), ("list",), "the nodes' addresses"),
    ),
    "doctor": (
        Rule(WHOLE, "", ("nodes", "services", "events"), ("list",), "nodes, load balancers and who announces"),
        Rule(WHOLE, "apps", ("daemonsets",), ("list",), "which pod network, proxy and load balancer run here"),
        Rule(WHOLE, "crd.projectcalico.org", ("felixconfigurations", "ippools"), ("list",), "Calico: eBPF, pools"),
        Rule(WHOLE, "operator.tigera.io", ("installations",), ("list",), "Calico by its operator"),
        Rule(WHOLE, "cilium.io", ("ciliumnodes",), ("list",), "Cilium's addresses of the nodes"),
        Rule(
            WHOLE,
            "metallb.io",
            ("l2advertisements", "bgpadvertisements", "servicel2statuses", "servicebgpstatuses"),
            ("list",),
            "MetalLB: layer 2 or BGP, and who announces",
        ),
        Rule(SYSTEM, "", ("pods",), ("list",), "what runs in kube-system"),
        Rule(
            SYSTEM,
            "",
            ("configmaps",),
            ("get",),
            "kube-proxy's and Cilium's settings",
            ("kube-proxy", "kube-proxy-config", "cilium-config"),
        ),
    ),
    "proxy-mode": (
        Rule(
            WHOLE, "", ("nodes/proxy",), ("get",), "kube-proxy's own answer to /proxyMode; opens every kubelet to GET"
        ),
    ),
}
ON_REQUEST = ("proxy-mode",)
"""Features that grant much for little: printed only when they are named."""


def matrix_namespace(namespace: str) -> str:
    """The namespace in which a participant's matrix is built: ``seminar-07-matrix``."""
    return f"{namespace[: 63 - len('-matrix')].rstrip('-')}-matrix"


def permissions_of(features: Iterable[str], namespace: str) -> list[Permission]:
    """All that these features need of a participant's namespaces and of the cluster, each once."""
    places = {OWN: namespace, MATRIX: matrix_namespace(namespace), SYSTEM: SYSTEM, WHOLE: ""}
    found = [
        Permission(verb, resource, rule.group, places[rule.scope], name)
        for feature in features
        for rule in FEATURES[feature]
        for resource in rule.resources
        for verb in rule.verbs
        for name in rule.names_in(places[rule.scope]) or ("",)
    ]
    return list(dict.fromkeys(found))


def require_feature(cluster: Cluster, *features: str) -> None:
    """See that these credentials suffice for features, before anything is created.

    Raises:
        MissingPermissionError: they do not; the message names every permission that is missing.
    """
    require_permissions(cluster, permissions_of(features, cluster.namespace))


# What was found to be allowed; a permission taken away later is the API's own word when it is used.
_allowed: WeakKeyDictionary[Any, set[Permission]] = WeakKeyDictionary()


def require_permissions(cluster: Cluster, needed: Iterable[Permission]) -> None:
    """See that these credentials suffice.

    Raises:
        MissingPermissionError: they do not; the message names every permission that is missing.
    """
    known = _allowed.setdefault(cluster.rest, set())
    asked = [permission for permission in dict.fromkeys(needed) if permission not in known]
    missing = missing_permissions(cluster, asked)
    known.update(set(asked) - set(missing))
    if missing:
        words = in_words(missing)
        subject = _subject(cluster)
        raise MissingPermissionError(
            f"{cluster.world} does not allow {subject or 'you'} to: {words}; nothing was changed",
            "Somebody who may grant it: " + grant_command(cluster.namespace, subject),
            missing,
        )


def in_words(permissions: Iterable[Permission]) -> str:
    """Permissions as a reader takes them in: ``get, patch services, configmaps in namespace 'seminar'; …``."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for one in permissions:
        what = f"{one.resource}.{one.group}" if one.group else one.resource
        some = verbs.setdefault((one.namespace, what), [])
        some += [one.verb] if one.verb not in some else []
    grouped: dict[tuple[str, str], list[str]] = {}
    for (namespace, what), some in verbs.items():
        grouped.setdefault((namespace, ", ".join(some)), []).append(what)
    places: dict[str, list[str]] = {}
    for (namespace, some_verbs), resources in grouped.items():
        places.setdefault(namespace, []).append(f"{some_verbs} {', '.join(resources)}")
    return "; ".join(
        f"{' and '.join(parts)} {f'in namespace {namespace!r}' if namespace else 'in the whole cluster'}"
        for namespace, parts in places.items()
    )


def missing_permissions(cluster: Cluster, asked: Iterable[Permission]) -> list[Permission]:
    """Those that the API does not allow these credentials; none where it does not answer such questions at all."""
    missing, rules = [], dict[str, list[dict[str, Any]]]()
    try:
        for permission in asked:
            namespace = permission.namespace
            if namespace and namespace not in rules:
                rules[namespace] = _rules(cluster, namespace)
            is_listed = bool(namespace) and any(covers(rule, permission) for rule in rules[namespace])
            if not is_listed and not _may(cluster, permission):
                missing.append(permission)
    except ApiAnswerError as error:
        if error.code not in (403, 404):
            raise
        return []  # not to be asked is no refusal: the API will say so when it comes to it
    return missing


def covers(rule: dict[str, Any], permission: Permission) -> bool:
    """Whether a rule of a SelfSubjectRulesReview allows something in its namespace."""

    def names(key: str, value: str) -> bool:
        listed = rule.get(key) or []
        return "*" in listed or value in listed

    subresource = permission.resource.partition("/")[2]
    has_resource = names("resources", permission.resource) or f"*/{subresource}" in (rule.get("resources") or [])
    only = rule.get("resourceNames") or []
    has_name = not only or permission.name in only
    return names("verbs", permission.verb) and names("apiGroups", permission.group) and has_resource and has_name


def _rules(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    body = {**_KIND, "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    answer = cluster.request("POST", f"{REVIEWS}/selfsubjectrulesreviews", body)[1]
    return list(answer["status"].get("resourceRules") or [])


def _may(cluster: Cluster, permission: Permission) -> bool:
    resource, _, subresource = permission.resource.partition("/")
    attributes = {
        "verb": permission.verb,
        "group": permission.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": permission.namespace,
        "name": permission.name,
    }
    spec = {"resourceAttributes": {key: value for key, value in attributes.items() if value}}
    body = {**_KIND, "kind": "SelfSubjectAccessReview", "spec": spec}
    answer = cluster.request("POST", f"{REVIEWS}/selfsubjectaccessreviews", body)[1]
    return bool(answer["status"].get("allowed"))


_KIND = {"apiVersion": "authorization.k8s.io/v1"}


def _subject(cluster: Cluster) -> str:
    """Whose credentials these are, "" where the API does not tell (SelfSubjectReview, since Kubernetes 1.28)."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        return str(cluster.request("POST", WHO, body)[1]["status"]["userInfo"].get("username") or "")
    except ApiAnswerError:
        return ""


def grant_command(namespace: str, subject: str) -> str:
    """The line that grants a subject what the features need: kubectl's own user names are understood."""
    prefix = "system:serviceaccount:"
    if subject.startswith(prefix):
        option = f" --service-account {quote(subject[len(prefix) :])}"
    else:
        option = f" --user {quote(subject)}" if subject else " --user NAME"
    return f"srcip-nb rbac --namespace {namespace}{option} | kubectl apply -f -"
