"""What is ours, and what only may be used: the labels by which objects are told apart.

    app.kubernetes.io/managed-by: srcip-nb   created by this project: it may change and delete the object
    srcip-nb/run: 1f0c9a2b                   the run that created it; later runs change the object and leave the label
    srcip-nb/granted: "true"                 a namespace that somebody made for this project (``srcip-nb rbac``): it is
                                             worked in and never deleted

A namespace without the first or the third is used only with ``connect(..., adopt=True)``, and not deleted even then. A
lab is the learner's own: there anything may be changed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import FIELD_MANAGER, MANAGED_BY, OURS, RUN_LABEL
from srcip_nb.errors import UsageError

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

GRANTED = "srcip-nb/granted"
# What a cluster itself puts into every namespace, as (plural name, name): Kubernetes' root-ca-cert-publisher and
# service account controllers, OpenShift's of the same kind, Istio's istiod.
IN_EVERY_NAMESPACE = {
    ("configmaps", "kube-root-ca.crt"),
    ("configmaps", "openshift-service-ca.crt"),
    ("configmaps", "istio-ca-root-cert"),
    ("configmaps", "openshift-service-ca.crt"),
    ("configmaps", "istio-ca-root-cert"),
    ("serviceaccounts", "default"),
    ("serviceaccounts", "builder"),
    ("serviceaccounts", "deployer"),
    ("rolebindings", "system:image-pullers"),
    ("rolebindings", "system:image-builders"),
    ("rolebindings", "system:deployers"),
}
COURSE_IMAGES = {"nginx", "nginx:latest"}  # what the course's manifests say


def labels_of(body: dict[str, Any]) -> dict[str, str]:
    """An object's labels."""
    return body["metadata"].get("labels") or {}


def is_ours(body: dict[str, Any]) -> bool:
    """Whether this project created the object: its label says so."""
    return labels_of(body).get(MANAGED_BY) == FIELD_MANAGER


def is_foreign(resource: str, body: dict[str, Any]) -> bool:
    """Whether somebody else keeps this in a namespace: not us, not the cluster itself, and no owner or end of its own.

    Args:
        resource: plural name.
        body: the object.
    """
    metadata = body["metadata"]
    is_known = is_ours(body) or (resource, metadata["name"]) in IN_EVERY_NAMESPACE
    return not (is_known or metadata.get("ownerReferences") or metadata.get("deletionTimestamp"))


def is_granted(namespace: dict[str, Any]) -> bool:
    """Whether somebody made this namespace for this project to work in."""
    return labels_of(namespace).get(GRANTED) == "true"


def require_ours(cluster: Cluster, body: dict[str, Any], kind: str) -> None:
    """Refuse to change what this project did not create; a lab is the learner's own, so there anything goes.

    Raises:
        UsageError: a real cluster's object without our label.
    """
    if cluster.lab is None and not is_ours(body):
        name = body["metadata"]["name"]
        raise UsageError(
            f"{kind.lower()}/{name} exists and was not created by srcip-nb; it is left as it is",
            f"Work in another namespace: connect(…, namespace='{cluster.namespace}-srcip'); or hand it over: "
            f"kubectl label {kind.lower()} {name} {OURS}",
        )


def require_usable(cluster: Cluster, namespace: dict[str, Any]) -> None:
    """Refuse a namespace that is neither ours nor granted, unless it may be adopted.

    Raises:
        UsageError: a real cluster's namespace that somebody else made.
    """
    if cluster.lab is None and not (cluster.adopt or is_ours(namespace) or is_granted(namespace)):
        name = namespace["metadata"]["name"]
        raise UsageError(
            f"namespace/{name} exists and was not created by srcip-nb; nothing is put into it",
            f"Work in another: connect(…, namespace='{name}-srcip'); or in this one all the same: "
            "connect(…, adopt=True), srcip-nb run --adopt",
        )


def is_used_as_it_is(cluster: Cluster, namespace: dict[str, Any]) -> bool:
    """Whether a namespace is worked in and not itself changed: it is granted or adopted."""
    return cluster.lab is None and not is_ours(namespace) and (cluster.adopt or is_granted(namespace))


def marked(body: dict[str, Any], run: str, live: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with our labels, and its pods' template with the same.

    Args:
        body: the object.
        run: of this run.
        live: the object as it is in the cluster. The run that created it keeps its label, and a template that was
            made without labels stays without: another label there would restart every pod.
    """
    found = copy.deepcopy(body)
    _mark(found["metadata"], run, (live or {}).get("metadata"))
    template = _template(found)
    if template is not None:
        before = (_template(live or {}) or {}).get("metadata") or {}
        is_new = live is None or MANAGED_BY in (before.get("labels") or {})
        if is_new:
            _mark(template.setdefault("metadata", {}), run, before)
    return found


def with_image(body: dict[str, Any], image: str) -> dict[str, Any]:
    """An object whose containers of the course's image run another one; "" changes nothing.

    The pull policy is said as well: of ``nginx:latest`` the API server made it Always when a Deployment was created,
    and that stays when the image alone is changed.
    """
    if not image:
        return body
    found = copy.deepcopy(body)
    for container in _containers(found):
        if container.get("image") in COURSE_IMAGES:
            container["image"] = image
            container.setdefault("imagePullPolicy", "IfNotPresent")
    return found


def _mark(metadata: dict[str, Any], run: str, live: dict[str, Any] | None) -> None:
    before = ((live or {}).get("labels") or {}).get(RUN_LABEL)
    metadata["labels"] = {**(metadata.get("labels") or {}), MANAGED_BY: FIELD_MANAGER, RUN_LABEL: before or run}


def _template(body: dict[str, Any]) -> dict[str, Any] | None:
    spec = body.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    return template if isinstance(template, dict) else None


def _containers(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    holder = body if body.get("kind") == "Pod" else _template(body)
    spec = (holder or {}).get("spec")
    for group in ("initContainers", "containers"):
        for container in (spec.get(group) if isinstance(spec, dict) else None) or []:
            if isinstance(container, dict):
                yield container
