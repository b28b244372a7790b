"""Taking away all that is ours, and nothing else; and the proof, by listing.

    look     every kind of object that the API can list and delete, by its discovery, with our label
    delete   Services first, then what makes pods, pods, the rest, at last the namespaces that are ours
    prove    the same look again until it finds nothing

A namespace that is ours and holds something that is not ours is left standing and named; a granted or adopted one bears
no label of ours, so it is never even looked at as something to delete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import OURS, RUN_LABEL, wait_until
from srcip_nb.errors import NotFinishedError
from srcip_nb.ownership import is_foreign, is_ours, labels_of
from srcip_nb.rest import ApiAnswerError
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

COLUMNS = ["kind", "namespace", "name", "run", "result"]
REMOVED = "removed"
GONE_WITHIN = 120.0  # seconds
_FIRST = ("services", "daemonsets", "deployments", "statefulsets", "jobs", "replicasets", "pods")
# What tells of other objects, or goes with them.
_TELLING = {"events", "endpoints", "endpointslices", "leases"}


@dataclass(frozen=True)
class Kind:
    """One kind of object: where the API keeps it, its plural name with the group, and whether namespaces have it."""

    base: str
    name: str
    group: str
    namespaced: bool

    def __str__(self) -> str:
        return f"{self.name}.{self.group}" if self.group else self.name

    def path(self, namespace: str = "") -> str:
        """URL path of all objects, or of those in a namespace."""
        return f"{self.base}/namespaces/{namespace}/{self.name}" if namespace else f"{self.base}/{self.name}"


@dataclass(frozen=True)
class Found:
    """An object, and of which kind it is."""

    kind: Kind
    body: dict[str, Any]

    @property
    def path(self) -> str:
        """Its URL path."""
        metadata = self.body["metadata"]
        return f"{self.kind.path(metadata.get('namespace', ''))}/{metadata['name']}"

    def __str__(self) -> str:
        metadata = self.body["metadata"]
        place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
        return f"{self.kind} {place}{metadata['name']}"

    def row(self, result: str) -> tuple[str, ...]:
        """Its line in the table."""
        metadata = self.body["metadata"]
        run = labels_of(self.body).get(RUN_LABEL, "")
        return str(self.kind), metadata.get("namespace", ""), metadata["name"], run, result


def clean(
    cluster: Cluster,
    namespaces: Sequence[str] = (),
    *,
    run: str = "",
    dry_run: bool = False,
    timeout: float = GONE_WITHIN,
) -> pd.DataFrame:
    """Delete all that bears our label, and see that it is gone.

    Args:
        cluster: where.
        namespaces: only in these, and these themselves; none: in the whole cluster.
        run: only what this run created.
        dry_run: only say what would be removed.
        timeout: seconds until all of it has to be gone.

    Returns:
        One row an object: kind, namespace, name, run, result ("removed", "would be removed", "left: …" with the
        reason, "still there: …"). ``attrs``: looked_at (number of kinds), not_looked_at (kinds that these credentials
        may not list), left (what still bears our label at the end).

    Raises:
        ClusterError: the API does not answer.
    """
    import pandas as pd

    kinds = kinds_of(cluster)
    kinds = [kind for kind in kinds if kind.namespaced or kind.name == "namespaces" or not namespaces]
    found, unseen = _ours(cluster, kinds, namespaces, run)
    left: list[Found] = []
    if dry_run:
        rows = [one.row("would be removed") for one in found]
    else:
        keep: dict[str, str] = {}
        spaces = [one for one in found if one.kind.name == "namespaces"]
        for one in sorted((one for one in found if one not in spaces), key=_order):
            if not _goes_with_its_owner(one, found):
                keep |= _delete(cluster, one)
        for one in spaces:
            foreign = _foreign(cluster, kinds, one.body["metadata"]["name"])
            if foreign:
                keep[one.path] = f"left: it holds what srcip-nb did not create ({', '.join(foreign)})"
            else:
                keep |= _delete(cluster, one)
        left = _wait(cluster, kinds, namespaces, run, keep, timeout)
        there = {one.path: _why_there(one) for one in left} | keep
        rows = [one.row(there.get(one.path, REMOVED)) for one in found]
    frame = pd.DataFrame(rows, columns=COLUMNS, dtype="string")
    frame.attrs = {"looked_at": len(kinds) - len(unseen), "not_looked_at": unseen, "left": [str(one) for one in left]}
    return frame


def kinds_of(cluster: Cluster) -> list[Kind]:
    """Every kind that the API can list and delete, in the version it prefers."""
    bases = [("/api/v1", "")]
    for group in cluster.request("GET", "/apis")[1].get("groups") or []:
        bases.append((f"/apis/{group['preferredVersion']['groupVersion']}", group["name"]))
    found = []
    for base, group_name in bases:
        try:
            resources = cluster.request("GET", base)[1].get("resources") or []
        except ApiAnswerError as error:
            if error.code not in (403, 404, 503):  # 503: an aggregated API whose server is away holds nothing of ours
                raise
            continue
        found += [
            Kind(base, resource["name"], group_name, resource["namespaced"])
            for resource in resources
            if "/" not in resource["name"] and {"list", "delete"} <= set(resource["verbs"])
        ]
    return found


def _ours(
    cluster: Cluster, kinds: Iterable[Kind], namespaces: Sequence[str], run: str
) -> tuple[list[Found], list[str]]:
    """What bears our label, and the kinds that may not be listed."""
    labels = f"{OURS},{RUN_LABEL}={run}" if run else OURS
    found: dict[str, Found] = {}
    unseen = []
    for kind in kinds:
        try:
            for place in namespaces if kind.namespaced and namespaces else [""]:
                if not kind.namespaced and namespaces:
                    bodies = _by_name(cluster, kind, namespaces)
                    bodies = [body for body in bodies if not run or labels_of(body).get(RUN_LABEL) == run]
                else:
                    bodies = cluster.request("GET", kind.path(place), query={"labelSelector": labels})[1]["items"]
                for body in bodies or []:
                    one = Found(kind, body)
                    found[one.path] = one
        except ApiAnswerError as error:
            if error.code not in (403, 404, 405, 503):
                raise
            unseen.append(str(kind))
    # events.k8s.io tells the core group's events once more: one object, two addresses
    kept: dict[Any, Found] = {}
    for one in found.values():
        kept.setdefault(one.body["metadata"].get("uid") or one.path, one)
    return list(kept.values()), unseen


def _by_name(cluster: Cluster, kind: Kind, names: Iterable[str]) -> list[dict[str, Any]]:
    found = [cluster.find(kind.name, name) for name in names]
    return [body for body in found if body is not None and is_ours(body)]


def _order(one: Found) -> int:
    return _FIRST.index(one.kind.name) if one.kind.name in _FIRST else len(_FIRST)


def _goes_with_its_owner(one: Found, found: Iterable[Found]) -> bool:
    """Whether its owner is deleted too, so that Kubernetes takes it along: pods, ReplicaSets, EndpointSlices."""
    uids = {other.body["metadata"].get("uid") for other in found}
    return any(owner.get("uid") in uids for owner in one.body["metadata"].get("ownerReferences") or [])


def _delete(cluster: Cluster, one: Found) -> dict[str, str]:
    """Delete this very object; returns its path and why it stays, if it may not be deleted.

    If another of its name has taken its place meanwhile, that one is left alone.
    """
    body: dict[str, Any] = {"propagationPolicy": "Background"}
    uid = one.body["metadata"].get("uid")
    if uid:
        body["preconditions"] = {"uid": uid}
    try:
        cluster.request("DELETE", one.path, body)
    except ApiAnswerError as error:
        if error.code == 403:
            return {one.path: f"left: {error.cause}"}
        if error.code not in (404, 409):  # gone already, or another object by now
            raise
    return {}


def _foreign(cluster: Cluster, kinds: Iterable[Kind], namespace: str) -> list[str]:
    """What somebody else keeps in our namespace, of every kind that may be listed."""
    found: list[str] = []
    for kind in kinds:
        if not kind.namespaced or kind.name in _TELLING:
            continue
        try:
            bodies = cluster.request("GET", kind.path(namespace))[1].get("items") or []
        except ApiAnswerError as error:
            if error.code not in (403, 404, 405, 503):
                raise
            continue
        found += [f"{kind} {body['metadata']['name']}" for body in bodies if is_foreign(kind.name, body)]
    return found


def _wait(
    cluster: Cluster, kinds: list[Kind], namespaces: Sequence[str], run: str, keep: dict[str, str], timeout: float
) -> list[Found]:
    """Look again until nothing is left but what is kept; returns what is left."""
    left: list[Found] = []

    def look() -> str:
        left[:] = _ours(cluster, kinds, namespaces, run)[0]
        return ", ".join(str(one) for one in left if one.path not in keep)

    try:
        wait_until(look, "the end of what is ours", timeout, every=0.2)
    except NotFinishedError:
        return left  # the table says what, and why
    return left


def _why_there(one: Found) -> str:
    metadata = one.body["metadata"]
    if metadata.get("finalizers"):
        return f"still there: it waits for {', '.join(metadata['finalizers'])}"
    conditions = (one.body.get("status") or {}).get("conditions") or []
    words = [c["message"] for c in conditions if c.get("status") == "True" and c.get("message")]
    return f"still there: {'; '.join(words) or 'it is being deleted'}"


def proof(frame: pd.DataFrame, namespaces: Sequence[str]) -> str:
    """The last lines: where was looked, and what is left."""
    where = t("clean.in", namespaces=", ".join(namespaces)) if namespaces else t("clean.everywhere")
    left = ", ".join(frame.attrs["left"]) or t("clean.nothing")
    lines = [t("clean.left", label=OURS, kinds=frame.attrs["looked_at"], where=where, left=left)]
    if frame.attrs["not_looked_at"]:
        lines.append(t("clean.not_listed", kinds=", ".join(frame.attrs["not_looked_at"])))
    return "\n".join(lines)
