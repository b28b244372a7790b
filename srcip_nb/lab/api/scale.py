"""The /scale subresource: how many replicas a Deployment or ReplicaSet is to have, as an autoscaling/v1 Scale."""

from __future__ import annotations

from srcip_nb.lab.api import status
from srcip_nb.lab.api.objects import JsonObject, copied
from srcip_nb.lab.api.selectors import selector_text

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(obj: JsonObject) -> JsonObject:
    """The Scale of an object: replicas wanted, replicas there, and the selector of its pods as text."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    wanted, there = spec.get("replicas", 0), (obj.get("status") or {}).get("replicas", 0)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in _METADATA if key in metadata},
        "spec": {"replicas": wanted} if wanted else {},
        "status": {"replicas": there, "selector": selector_text(spec.get("selector"))},
    }


def scaled(obj: JsonObject, scale: JsonObject) -> JsonObject:
    """A copy of the object with the replicas, and the resource version if one is given, of a Scale.

    Raises:
        ApiError: 422, the replicas are no whole number of at least 0.
    """
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    name = obj["metadata"]["name"]
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise status.bad_request(
            f'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal {_go_type(replicas)} '
            "into Go struct field ScaleSpec.spec.replicas of type int32",
        )
    if replicas < 0:
        cause = status.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise status.invalid("Scale", name, [cause], group="autoscaling")
    changed: JsonObject = copied(obj)
    changed["spec"]["replicas"] = replicas
    version = (scale.get("metadata") or {}).get("resourceVersion")
    if version:
        changed["metadata"]["resourceVersion"] = version
    return changed


def _go_type(value: object) -> str:
    names = {bool: "bool", str: "string", list: "array", dict: "object", float: "number"}
    return names.get(type(value), "null")
