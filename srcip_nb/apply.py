"""Manifests into the cluster, the way ``kubectl apply --server-side`` does it, and out again.

    read      files, YAML text or dicts become objects; YAML mistakes end here, with their line
    check     the server is asked to take every object without keeping it (dry run): unknown fields, wrong values
    apply     Namespaces first, then the rest in the order given
    wait      the Deployment rolled out, the Service with its address

Nothing is kept until everything has been checked, and nothing is sent at all while a permission is missing. What is
created carries the labels of ``ownership``; on a real cluster nothing without them is changed, and nothing without them
is deleted anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import FIELD_MANAGER, OURS, is_ready, wait_until
from srcip_nb.errors import ManifestError, SrcipError
from srcip_nb.manifest_files import lesson_objects, read_manifests
from srcip_nb.ownership import is_foreign, is_ours, is_used_as_it_is, marked, require_ours, require_usable, with_image
from srcip_nb.permissions import Permission, require_permissions
from srcip_nb.rest import ApiAnswerError, path_of

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
DELETED_KINDS = ("services", "deployments", "pods", "configmaps", "endpointslices")
NAMESPACE_GONE_WITHIN = 60.0  # seconds


@dataclass(frozen=True)
class Target:
    """An object and where the API keeps its like."""

    body: dict[str, Any]
    collection: str  # URL path of all objects of its kind there
    namespace: str  # "" for objects of the whole cluster
    group: str
    resource: str  # plural name

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
        UsageError: on a real cluster, the namespace or an object of that name exists and is not ours; nothing was
            changed.
        MissingPermissionError: the credentials do not suffice; nothing was changed.
        NotFinishedError: the namespace is being deleted, and that does not come to its end.
        ClusterError: the server refused or did not answer.
    """
    namespace = cluster.namespace
    objects = read_manifests(*manifests, namespace=namespace) if manifests else lesson_objects(namespace)
    located = _namespaces_first([_locate(cluster, with_image(body, cluster.image)) for body in objects])
    require_permissions(cluster, _needed(located))
    standing = _look_at_namespaces(cluster, located)
    new_or_ours = [t for t in located if t.kind == "Namespace" and not _stays_as_it_is(cluster, t, standing)]
    require_permissions(cluster, [p for t in new_or_ours for p in _to_keep(t, standing.get(t.name))])
    targets = [target for target in located if not _stays_as_it_is(cluster, target, standing)]
    targets, new_namespaces = _check(cluster, targets)
    left = [(t.kind, t.name, "", "unchanged") for t in located if _stays_as_it_is(cluster, t, standing)]
    rows = left + [_keep(cluster, target) for target in targets if target.kind == "Namespace"]
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


Standing = dict[str, "dict[str, Any] | None"]
"""The namespaces that manifests name or go into, as they are; None where there is none yet."""


def _look_at_namespaces(cluster: Cluster, targets: list[Target]) -> Standing:
    """Wait for the end of those that are going, and refuse those that may not be used."""
    names = dict.fromkeys(target.name if target.kind == "Namespace" else target.namespace for target in targets)
    standing: Standing = {}
    for name in filter(None, names):
        standing[name] = _not_terminating(cluster, name)
        found = standing[name]
        if found is not None:
            require_usable(cluster, found)
    return standing


def _stays_as_it_is(cluster: Cluster, target: Target, standing: Standing) -> bool:
    """Whether it is a namespace that was given to be used, so that it is not even labelled."""
    live = standing.get(target.name) if target.kind == "Namespace" else None
    return live is not None and is_used_as_it_is(cluster, live)


def _needed(targets: list[Target]) -> list[Permission]:
    """What applying these asks of the API, as far as it is known before the namespaces have been looked at."""
    names = dict.fromkeys(target.name if target.kind == "Namespace" else target.namespace for target in targets)
    look = [Permission("get", "namespaces", "", name, name) for name in filter(None, names)]
    return look + [p for target in targets if target.kind != "Namespace" for p in _to_keep(target, None)]


def _to_keep(target: Target, live: dict[str, Any] | None) -> list[Permission]:
    """What one object needs: for the API, server-side apply of a new one is both to patch and to create."""
    is_namespace = target.kind == "Namespace"
    where, name = (target.name, target.name) if is_namespace else (target.namespace, "")
    verbs = ("get", "patch") if is_namespace and live is not None else ("get", "patch", "create")
    return [Permission(verb, target.resource, target.group, where, name) for verb in verbs]


def _namespaces_first(targets: list[Target]) -> list[Target]:
    return sorted(targets, key=lambda target: target.kind != "Namespace")


def _locate(cluster: Cluster, body: dict[str, Any]) -> Target:
    """Ask the server where objects of this kind are kept (its discovery)."""
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
    namespace = ""
    if found["namespaced"]:
        namespace = metadata.setdefault("namespace", cluster.namespace)
        base += f"/namespaces/{namespace}"
    group = version.rpartition("/")[0]
    return Target({**body, "metadata": metadata}, f"{base}/{found['name']}", namespace, group, found["name"])


def _check(cluster: Cluster, targets: list[Target]) -> tuple[list[Target], set[str]]:
    """Have the server check every object; returns them with their labels, and the namespaces still to be created.

    What goes into such a namespace can be checked only as far as its fields: the server misses the namespace next.
    """
    new: set[str] = set()
    labelled = []
    for target in targets:
        live = _live(cluster, target)
        if live is not None:
            require_ours(cluster, live, target.kind)
        elif target.kind == "Namespace":
            new.add(target.name)
        target = replace(target, body=marked(target.body, cluster.run_id, live))
        labelled.append(target)
        try:
            _dry_run(cluster, target)
        except ApiAnswerError as error:
            namespace_to_come = error.code == 404 and target.namespace in new
            if not namespace_to_come:
                raise
    return labelled, new


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


def _not_terminating(cluster: Cluster, name: str) -> dict[str, Any] | None:
    """A namespace as it is, None where there is none; one that is going is waited for until it is gone."""
    live = cluster.find("namespaces", name)
    if live is None or not live["metadata"].get("deletionTimestamp"):
        return live

    def look() -> str:
        again = cluster.find("namespaces", name)
        return "it is Terminating" if again and again["metadata"].get("deletionTimestamp") else ""

    remedy = f"See what holds it: kubectl get namespace {name} -o yaml"
    wait_until(look, f"the end of namespace {name!r}", NAMESPACE_GONE_WITHIN, remedy=remedy)
    return cluster.find("namespaces", name)


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
    return [
        f"{resource}/{body['metadata']['name']}"
        for resource in DELETED_KINDS
        for body in cluster.list(resource)
        if is_foreign(resource, body)
    ]


def _frame(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=["kind", "name", "namespace", "result"], dtype="string")
