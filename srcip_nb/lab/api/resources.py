"""The resources of the lab's API: what they are called, where they live, what may be done with them.

One `Resource` per plural name; every other module asks here instead of knowing kinds by heart. A resource that is not
in `RESOURCES` does not exist: its path answers 404, discovery does not list it, and kubectl says so.

    /api/v1/namespaces/seminar/services/webserver/status      resource, namespace, name, subresource
    /apis/apps/v1/deployments                                 the same without a namespace: all namespaces
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

_ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_STATUS_VERBS = ("get", "patch", "update")


@dataclass(frozen=True)
class Resource:
    """One resource of the API.

    Attributes:
        name: the plural, as in a URL ("services").
        singular: as kubectl prints it ("service").
        kind: as in a manifest ("Service").
        group: "" for the core group, else "apps" and so on.
        version: "v1".
        namespaced: whether its objects live in a namespace.
        short_names: what kubectl takes instead of the plural.
        categories: ("all",) where `kubectl get all` shows it.
        subresources: served below an object, with their verbs.
        verbs: served on the collection and on an object.
        has_generation: whether metadata.generation counts the changes of its spec.
        returns_deleted: whether DELETE answers with the object instead of a Status.
        field_labels: what a field selector may name besides metadata.name and metadata.namespace.
    """

    name: str
    singular: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[tuple[str, tuple[str, ...]], ...] = ()
    verbs: tuple[str, ...] = _ALL_VERBS
    has_generation: bool = False
    returns_deleted: bool = False
    field_labels: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """As in a manifest: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """The kind of a list of them: "ServiceList"."""
        return f"{self.kind}List"

    @property
    def has_status(self) -> bool:
        """Whether status is written through /status alone."""
        return any(name == "status" for name, _ in self.subresources)

    @property
    def storage_version_hash(self) -> str:
        """What discovery says of how it is stored: the first 8 bytes of sha256("GROUP/VERSION/KIND"), in base64."""
        digest = hashlib.sha256(f"{self.group}/{self.version}/{self.kind}".encode()).digest()
        return base64.b64encode(digest[:8]).decode()

    def verbs_of(self, subresource: str) -> tuple[str, ...]:
        """The verbs of the resource itself ("") or of a subresource; () where there is no such subresource."""
        return self.verbs if not subresource else dict(self.subresources).get(subresource, ())


def _involved_object() -> tuple[str, ...]:
    parts = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    return tuple(f"involvedObject.{part}" for part in parts)


_STATUS = ("status", _STATUS_VERBS)
_SCALE = ("scale", _STATUS_VERBS)

_TABLE = (
    Resource("configmaps", "configmap", "ConfigMap", short_names=("cm",)),
    Resource("endpoints", "endpoints", "Endpoints", short_names=("ep",)),
    Resource(
        "events",
        "event",
        "Event",
        short_names=("ev",),
        field_labels=(*_involved_object(), "reason", "reportingComponent", "source", "type"),
    ),
    Resource(
        "namespaces",
        "namespace",
        "Namespace",
        namespaced=False,
        short_names=("ns",),
        subresources=(("finalize", ("update",)), _STATUS),
        verbs=tuple(verb for verb in _ALL_VERBS if verb != "deletecollection"),
        field_labels=("status.phase",),
    ),
    Resource(
        "nodes",
        "node",
        "Node",
        namespaced=False,
        short_names=("no",),
        subresources=(_STATUS,),
        field_labels=("spec.unschedulable",),
    ),
    Resource(
        "pods",
        "pod",
        "Pod",
        short_names=("po",),
        categories=("all",),
        subresources=(("exec", ("create", "get")), ("log", ("get",)), _STATUS),
        has_generation=True,
        returns_deleted=True,
        field_labels=(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
    ),
    Resource(
        "services",
        "service",
        "Service",
        short_names=("svc",),
        categories=("all",),
        subresources=(_STATUS,),
        returns_deleted=True,
        field_labels=("spec.clusterIP", "spec.type"),
    ),
    Resource(
        "deployments",
        "deployment",
        "Deployment",
        group="apps",
        short_names=("deploy",),
        categories=("all",),
        subresources=(_SCALE, _STATUS),
        has_generation=True,
    ),
    Resource(
        "replicasets",
        "replicaset",
        "ReplicaSet",
        group="apps",
        short_names=("rs",),
        categories=("all",),
        subresources=(_SCALE, _STATUS),
        has_generation=True,
        field_labels=("status.replicas",),
    ),
    Resource("endpointslices", "endpointslice", "EndpointSlice", group="discovery.k8s.io", has_generation=True),
)

REVIEWS = (
    Resource(
        "selfsubjectreviews",
        "selfsubjectreview",
        "SelfSubjectReview",
        group="authentication.k8s.io",
        namespaced=False,
        verbs=("create",),
    ),
    Resource(
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "SelfSubjectAccessReview",
        group="authorization.k8s.io",
        namespaced=False,
        verbs=("create",),
    ),
    Resource(
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "SelfSubjectRulesReview",
        group="authorization.k8s.io",
        namespaced=False,
        verbs=("create",),
    ),
)
"""Questions that are answered and not kept: who am I, and what may I do (reviews.py)."""

RESOURCES: dict[str, Resource] = {resource.name: resource for resource in _TABLE}
"""Every resource of the lab by its plural name."""

BY_KIND: dict[str, Resource] = {resource.kind: resource for resource in _TABLE}
"""The same by kind."""

GROUP_VERSIONS: tuple[tuple[str, str], ...] = tuple(dict.fromkeys((r.group, r.version) for r in _TABLE))
"""The groups and versions of objects, core first: (("", "v1"), ("apps", "v1"), ...)."""

ABSENT_SUBRESOURCES: dict[tuple[str, str], str] = {
    ("pods", "attach"): "type `kubectl logs -f POD` to see what a pod writes",
    ("pods", "portforward"): "type `srcip-nb lab exec client -- curl URL` to reach a pod from inside the lab",
    ("pods", "proxy"): "type `srcip-nb lab exec client -- curl URL` to reach a pod from inside the lab",
    ("services", "proxy"): "type `srcip-nb lab exec client -- curl URL` to reach a Service from inside the lab",
    ("nodes", "proxy"): "nodes of the lab have no kubelet port",
    ("pods", "eviction"): "delete the pod instead",
    ("pods", "binding"): "set spec.nodeName when you create the pod",
    ("pods", "ephemeralcontainers"): "type `srcip-nb lab exec NAMESPACE/POD -- COMMAND` to look inside a pod",
    ("pods", "resize"): "the lab's containers have no resource limits",
    ("serviceaccounts", "token"): "the lab has one token, in its kubeconfig",
}
"""Subresources of a real cluster that the lab does not have, each with what to do instead."""


def find(group: str, version: str, name: str) -> Resource | None:
    """The resource of that plural in that group and version, or None."""
    resource = RESOURCES.get(name)
    return resource if resource and (resource.group, resource.version) == (group, version) else None
