"""What a write may not do, whatever the object says: the wrong namespace, a stale version, another object's name."""

from __future__ import annotations

from srcip_nb.lab.api import status
from srcip_nb.lab.api.history import Version
from srcip_nb.lab.api.objects import JsonObject, without
from srcip_nb.lab.api.resources import Resource


def check_namespace(found: JsonObject | None, namespace: str, resource: Resource, name: str) -> None:
    """Refuse to create in a namespace that is not there (`found` is None) or is being deleted.

    Raises:
        ApiError: 404, 403.
    """
    if found is None:
        raise status.not_found("namespaces", namespace)
    if found["metadata"].get("deletionTimestamp"):
        detail = f"unable to create new content in namespace {namespace} because it is being terminated"
        error = status.forbidden(resource.name, name, detail)
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        error.status["details"]["causes"] = [cause]
        raise error


def check_identity(resource: Resource, obj: JsonObject, namespace: str, name: str) -> None:
    """Refuse an object that names another place than the one it is written to.

    Raises:
        ApiError: 400.
    """
    metadata = obj.get("metadata") or {}
    if (metadata.get("name") or name) != name:
        raise status.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        )
    if resource.namespaced and (metadata.get("namespace") or namespace) != namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def check_current(resource: Resource, metadata: JsonObject, old: Version) -> None:
    """Refuse an update of something else than what is stored: another uid, or an older resourceVersion.

    Raises:
        ApiError: 409.
    """
    present = old.obj["metadata"]
    given = metadata.get("uid")
    if given and given != present["uid"]:
        key = "/".join(part for part in ("/registry", resource.name, *old.key) if part)
        raise status.conflict(
            resource.name,
            present["name"],
            f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
            f"Precondition failed: UID in precondition: {given}, UID in object meta: {present['uid']}",
        )
    if metadata.get("resourceVersion") not in (None, "", "0", present["resourceVersion"]):
        raise status.conflict(resource.name, present["name"])


def check_preconditions(resource: Resource, version: Version, preconditions: JsonObject) -> None:
    """Refuse a deletion whose preconditions (uid, resourceVersion) the object does not meet.

    Raises:
        ApiError: 409.
    """
    metadata = version.obj["metadata"]
    for field, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        wanted = preconditions.get(field)
        if wanted and wanted != metadata[field]:
            raise status.conflict(
                resource.name,
                metadata["name"],
                f"Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {metadata[field]}",
            )


def is_same(new: JsonObject, old: JsonObject) -> bool:
    """Whether nothing but the times of managedFields differs: such an update is no change."""
    return _comparable(new) == _comparable(old)


def _comparable(obj: JsonObject) -> JsonObject:
    metadata = obj["metadata"]
    entries = [without(entry, ("time",)) for entry in metadata.get("managedFields") or []]
    return {**obj, "metadata": {**metadata, "managedFields": entries}}
