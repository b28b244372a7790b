"""Manifests into the cluster, the way ``kubectl apply --server-side`` does it, and out again.

    read      files, YAML text or dicts become objects; YAML mistakes end here, with their line
    check     the server is asked to take every object without keeping it (dry run): unknown fields, wrong values
    apply     Namespaces first, then the rest in the order given
    wait      the Deployment rolled out, the Service with its address

Nothing is kept until everything has been checked. What is created carries the label
``app.kubernetes.io/managed-by: srcip-nb``; on a real cluster nothing without it is changed, and nothing without it is
deleted anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import FIELD_MANAGER, MANAGED_BY, OURS, is_ready, wait_until
from srcip_nb.errors import ManifestError, SrcipError, UsageError
from srcip_nb.manifest_files import lesson_objects, read_manifests
from srcip_nb.rest import ApiAnswerError, path_of

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
PUBLISHED = {"kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert"}
"""ConfigMaps that a cluster's own controllers put into every namespace: Kubernetes', OpenShift's, Istio's."""

DELETED_KINDS = ("services", "deployments", "pods", "configmaps")
NAMESPACE_GONE_WITHIN = 60.0  # seconds


@dataclass(frozen=True)
class Target:
    """An object and where the API keeps its like."""

    body: dict[str, Any]
    collection: str  # URL path of all objects of its kind there
    namespace: str  # "" for objects of the whole cluster

    @property
    def kind(self) -> str:
        """Its kind, such as Service."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.body["metadata"]["name"])

    @property
    def path(self) -> str:
        """Its URL path."""
        return f"{self.collection}/{self.name}"


def apply(cluster: Cluster, *manifests: Any) -> pd.DataFrame:
    """Create or change objects by server-side apply, all or none.

    Args:
        cluster: where.
        *manifests: paths of files or folders, YAML text, dicts, lists of dicts; none: the lesson's four, in the
            cluster's namespace.

    Returns:
        One row for each object: kind, name, namespace, result ("created", "configured" or "unchanged").

    Raises:
        ManifestError: a manifest cannot be read, or the server does not take it; nothing was changed.
        UsageError: on a real cluster, an object of that name exists and is not ours; nothing was changed.
        ClusterError: the server refused or did not answer.
    """
    namespace = cluster.namespace
    objects = read_manifests(*manifests, namespace=namespace) if manifests else lesson_objects(namespace)
    targets = _namespaces_first([_locate(cluster, body) for body in objects])
    new_namespaces = _check(cluster, targets)
    rows = [_keep(cluster, target) for target in targets if target.kind == "Namespace"]
    rest = [target for target in targets if target.kind != "Namespace"]
    try:
        for target in rest:
            if target.namespace in new_namespaces:
                _dry_run(cluster, target)
    except SrcipError:
        for name in new_namespaces:
            _delete_namespace(cluster, name, wait=True, timeout=NAMESPACE_GONE_WITHIN)
        raise
    rows += [_keep(cluster, target) for target in rest]
    return _frame(rows)


def _namespaces_first(targets: list[Target]) -> list[Target]:
    return sorted(targets, key=lambda target: target.kind != "Namespace")


def _locate(cluster: Cluster, body: dict[str, Any]) -> Target:
    """Ask the server where objects of this kind are kept (its discovery), and label the object as ours."""
    version, kind = body["apiVersion"], body["kind"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    try:
        resources = cluster.request("GET", base)[1]["resources"]
    except ApiAnswerError as error:
        if error.code != 404:
            raise
        resources = []
    found = next((r for r in resources if r["kind"] == kind and "/" not in r["name"]), None)
    if found is None:
        raise ManifestError(
            f'no matches for kind "{kind}" in version "{version}"', "See what this cluster has: kubectl api-resources"
        )
    metadata = dict(body["metadata"])
    metadata["labels"] = {**(metadata.get("labels") or {}), MANAGED_BY: FIELD_MANAGER}
    namespace = ""
    if found["namespaced"]:
        namespace = metadata.setdefault("namespace", cluster.namespace)
        base += f"/namespaces/{namespace}"
    return Target({**body, "metadata": metadata}, f"{base}/{found['name']}", namespace)


def _check(cluster: Cluster, targets: list[Target]) -> set[str]:
    """Have the server check every object; returns the namespaces that are still to be created.

    What goes into such a namespace can be checked only as far as its fields: the server misses the namespace next.
    """
    new: set[str] = set()
    for target in targets:
        if target.kind == "Namespace":
            _wait_while_terminating(cluster, target.name)
        live = _live(cluster, target)
        _refuse_foreign(cluster, target, live)
        if target.kind == "Namespace" and live is None:
            new.add(target.name)
        try:
            _dry_run(cluster, target)
        except ApiAnswerError as error:
            namespace_to_come = error.code == 404 and target.namespace in new
            if not namespace_to_come:
                raise
    return new


def _dry_run(cluster: Cluster, target: Target) -> None:
    try:
        _patch(cluster, target, dry_run=True)
    except ApiAnswerError as error:
        manifest_at_fault = error.code in (400, 422) or (error.code == 500 and "typed" in error.cause)
        if not manifest_at_fault:
            raise
        where = f"{target.kind.lower()}/{target.name}"
        raise ManifestError(f"{where}: {error.cause}", "Correct the manifest; nothing was changed") from error


def _patch(cluster: Cluster, target: Target, *, dry_run: bool = False) -> tuple[int, dict[str, Any]]:
    query = {
        "fieldManager": FIELD_MANAGER,
        "force": "true",
        "fieldValidation": "Strict",
        "dryRun": "All" if dry_run else None,
    }
    return cluster.request("PATCH", target.path, target.body, query=query, content_type=APPLY_PATCH)


def _keep(cluster: Cluster, target: Target) -> tuple[str, str, str, str]:
    before = _live(cluster, target)
    status, after = _patch(cluster, target)
    if status == 201 or before is None:
        result = "created"
    elif before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]:
        result = "unchanged"
    else:
        result = "configured"
    return target.kind, target.name, target.namespace, result


def _live(cluster: Cluster, target: Target) -> dict[str, Any] | None:
    try:
        return cluster.request("GET", target.path)[1]
    except ApiAnswerError as error:
        if error.code != 404:
            raise
        return None


def _refuse_foreign(cluster: Cluster, target: Target, live: dict[str, Any] | None) -> None:
    if live is not None:
        require_ours(cluster, live, target.kind)


def is_ours(body: dict[str, Any]) -> bool:
    """Whether this project created the object: its label says so."""
    return (body["metadata"].get("labels") or {}).get(MANAGED_BY) == FIELD_MANAGER


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


def _wait_while_terminating(cluster: Cluster, name: str) -> None:
    def look() -> str:
        live = cluster.find("namespaces", name)
        return "it is Terminating" if live and live["metadata"].get("deletionTimestamp") else ""

    wait_until(
        look,
        f"the end of namespace {name!r}",
        NAMESPACE_GONE_WITHIN,
        remedy=f"See what holds it: kubectl get namespace {name} -o yaml",
    )


def delete(cluster: Cluster, *, wait: bool = True, timeout: float = 60.0) -> pd.DataFrame:
    """Delete what this project created in the cluster's namespace, by its label, and the namespace if it is ours.

    A namespace that holds something else is left standing.

    Args:
        cluster: where.
        wait: return when all of it is gone.
        timeout: seconds to wait.

    Returns:
        One row for each object: kind, name, namespace, result ("deleted", or "left: …" with the reason).

    Raises:
        NotFinishedError: not gone in time; the message says what is left.
    """
    rows = []
    for resource in DELETED_KINDS:
        for body in cluster.list(resource, labels=OURS):
            name = body["metadata"]["name"]
            _delete_one(cluster, resource, name)
            rows.append((resource, name, cluster.namespace, "deleted"))
    namespace = cluster.find("namespaces", cluster.namespace)
    if namespace is not None and is_ours(namespace):
        foreign = _foreign_objects(cluster)
        if foreign:
            result = f"left: it holds what srcip-nb did not create ({', '.join(foreign)})"
        else:
            _delete_one(cluster, "namespaces", cluster.namespace)
            _give_up_lost_pods(cluster)
            _delete_namespace(cluster, cluster.namespace, wait=wait, timeout=timeout)
            result = "deleted"
        rows.append(("namespaces", cluster.namespace, "", result))
    if wait:
        wait_until(lambda: _still_there(cluster), "the end of the lesson's objects", timeout)
    return _frame(rows)


def _delete_one(cluster: Cluster, resource: str, name: str, grace_seconds: int | None = None) -> None:
    try:
        path = path_of(resource, cluster.namespace, name)
        cluster.request("DELETE", path, query={"propagationPolicy": "Background", "gracePeriodSeconds": grace_seconds})
    except ApiAnswerError as error:
        if error.code != 404:  # gone already is what was wanted
            raise


def _give_up_lost_pods(cluster: Cluster) -> None:
    """Pods of our namespace on nodes that are not Ready: no kubelet tells of their end, so nobody waits for it."""
    try:
        nodes = cluster.list("nodes")
    except ApiAnswerError:
        return  # who may not see nodes waits for all pods alike
    lost = {node["metadata"]["name"] for node in nodes if not is_ready(node)}
    for pod in cluster.list("pods") if lost else []:
        if pod["spec"].get("nodeName") in lost:
            _delete_one(cluster, "pods", pod["metadata"]["name"], grace_seconds=0)


def _delete_namespace(cluster: Cluster, name: str, *, wait: bool, timeout: float) -> None:
    _delete_one(cluster, "namespaces", name)
    if not wait:
        return

    def look() -> str:
        live = cluster.find("namespaces", name)
        conditions = (live or {}).get("status", {}).get("conditions") or []
        words = "; ".join(c["message"] for c in conditions if c.get("status") == "True")
        return (words or "it is Terminating") if live else ""

    wait_until(look, f"the end of namespace {name!r}", timeout, remedy=f"kubectl get namespace {name} -o yaml")


def _still_there(cluster: Cluster) -> str:
    left = [f"{kind}/{b['metadata']['name']}" for kind in DELETED_KINDS for b in cluster.list(kind, labels=OURS)]
    return ", ".join(left)


def _foreign_objects(cluster: Cluster) -> list[str]:
    """What somebody else put into our namespace; what Kubernetes itself keeps there, or owns, does not count."""
    found = []
    for resource in DELETED_KINDS:
        for body in cluster.list(resource):
            metadata = body["metadata"]
            own = is_ours(body) or metadata["name"] in PUBLISHED or metadata.get("ownerReferences")
            if not own and not metadata.get("deletionTimestamp"):
                found.append(f"{resource}/{metadata['name']}")
    return found


def _frame(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=["kind", "name", "namespace", "result"], dtype="string")
