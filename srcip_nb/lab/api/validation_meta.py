"""What every object has to fulfil: its metadata, and label selectors.

Source: kubernetes v1.36.2 apimachinery pkg/api/validation/objectmeta.go, pkg/apis/meta/v1/validation/validation.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from srcip_nb.lab.api.status import Cause, forbidden_value, invalid_value, not_supported, required, too_long
from srcip_nb.lab.api.validation_names import dns_label, dns_subdomain, label_key, label_value

Object = dict[str, Any]
Check = Callable[[str], list[str]]

_ANNOTATIONS_LIMIT = 256 * 1024
_CLUSTER_SCOPED = ("Namespace", "Node")
_IMMUTABLE = "field is immutable"


def invalid(field: str, value: Any, errors: Iterable[str]) -> list[Cause]:
    """One cause per complaint about a value."""
    return [invalid_value(field, value, error) for error in errors]


def supported(field: str, value: Any, words: Iterable[str]) -> list[Cause]:
    """A word of a list: complains where it is missing, or another."""
    words = tuple(words)
    if not value:
        return [required(field)]
    return [] if value in words else [not_supported(field, value, words)]


def not_negative(field: str, value: int) -> list[Cause]:
    """A number that is 0 or more."""
    return [] if value >= 0 else [invalid_value(field, value, "must be greater than or equal to 0")]


def immutable(field: str, new: Any, old: Any) -> list[Cause]:
    """A field that stays what it was."""
    return [] if new == old else [invalid_value(field, new, _IMMUTABLE)]


def metadata_causes(kind: str, obj: Object) -> list[Cause]:
    """What is wrong with a new object's metadata, the name made from generateName included."""
    metadata = obj["metadata"]
    check = name_check(kind)
    causes = []
    if metadata.get("generateName"):
        base = metadata["generateName"]
        # A dash at the end is followed by the generated part.
        whole = f"{base[:-2]}a" if len(base) > 1 and base.endswith("-") else base
        causes += invalid("metadata.generateName", base, check(whole))
    if not metadata.get("name"):
        causes.append(required("metadata.name", "name or generateName is required"))
    else:
        causes += invalid("metadata.name", metadata["name"], check(metadata["name"]))
    if kind in _CLUSTER_SCOPED:
        if metadata.get("namespace"):
            causes.append(forbidden_value("metadata.namespace", "not allowed on this type"))
    elif not metadata.get("namespace"):
        causes.append(required("metadata.namespace"))
    else:
        causes += invalid("metadata.namespace", metadata["namespace"], dns_label(metadata["namespace"]))
    return causes + _common_causes(metadata)


def metadata_update_causes(new: Object, old: Object) -> list[Cause]:
    """What is wrong with a change of an object's metadata."""
    metadata, before = new["metadata"], old["metadata"]
    causes = []
    if before.get("deletionTimestamp"):
        added = sorted(set(metadata.get("finalizers", [])) - set(before.get("finalizers", [])))
        if added:
            shown = ", ".join(f'"{name}"' for name in added)
            message = "no new finalizers can be added if the object is being deleted, found new finalizers"
            causes.append(forbidden_value("metadata.finalizers", f"{message} []string{{{shown}}}"))
    for name in ("name", "namespace", "uid", "creationTimestamp"):
        if name in metadata:
            causes += immutable(f"metadata.{name}", metadata[name], before.get(name, metadata[name]))
    return causes + _common_causes(metadata)


def name_check(kind: str) -> Check:
    """What the name of an object of this kind is checked with."""
    return dns_label if kind in ("Namespace", "Service") else dns_subdomain


def label_causes(field: str, labels: dict[str, str]) -> list[Cause]:
    """What is wrong with a map of labels."""
    causes = []
    for key, value in labels.items():
        causes += invalid(field, key, label_key(key))
        causes += invalid(field, value, label_value(value))
    return causes


def selector_causes(field: str, selector: Object) -> list[Cause]:
    """What is wrong with a label selector (matchLabels, matchExpressions)."""
    causes = label_causes(f"{field}.matchLabels", selector.get("matchLabels", {}))
    for index, expression in enumerate(selector.get("matchExpressions", [])):
        path = f"{field}.matchExpressions[{index}]"
        operator, values = expression.get("operator", ""), expression.get("values", [])
        if operator in ("In", "NotIn") and not values:
            causes.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist") and values:
            message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(forbidden_value(f"{path}.values", message))
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            causes.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
        causes += invalid(f"{path}.key", expression.get("key", ""), label_key(expression.get("key", "")))
        for place, value in enumerate(values):
            causes += invalid(f"{path}.values[{place}]", value, label_value(value))
    return causes


def _common_causes(metadata: Object) -> list[Cause]:
    causes = label_causes("metadata.labels", metadata.get("labels", {}))
    annotations = metadata.get("annotations", {})
    for key in annotations:
        causes += invalid("metadata.annotations", key, label_key(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        causes.append(too_long("metadata.annotations", _ANNOTATIONS_LIMIT))
    for finalizer in metadata.get("finalizers", []):
        causes += invalid("metadata.finalizers", finalizer, label_key(finalizer))
    return causes + _owner_causes(metadata.get("ownerReferences", []))


def _owner_causes(owners: list[Object]) -> list[Cause]:
    causes = []
    controllers = []
    for owner in owners:
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                message = "version must not be empty" if name == "apiVersion" else "must not be empty"
                causes.append(invalid_value(f"metadata.ownerReferences.{name}", owner.get(name, ""), message))
        if owner.get("controller"):
            controllers.append(f"{owner.get('kind')}/{owner.get('name')}")
    if len(controllers) > 1:
        message = 'Only one reference can have Controller set to true. Found "true" in references for'
        message = f"{message} {controllers[0]} and {controllers[1]}"
        causes.append(invalid_value("metadata.ownerReferences", owners, message))
    return causes
