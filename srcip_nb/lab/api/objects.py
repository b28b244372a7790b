"""Small things that are true of every Kubernetes object: copies, key order, times, the key in the store."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

JsonObject = dict[str, Any]

Key = tuple[str, str]
"""Where an object is among its kind: (namespace or "", name)."""

# Alphanumeric without vowels and look-alikes, as kubernetes v1.36.2 apimachinery pkg/util/rand: no words come about.
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_GENERATED_NAME_BASE = 58  # 63 characters less the suffix: kubernetes v1.36.2 apiserver pkg/storage/names/generate.go

_TOP_ORDER = ("kind", "apiVersion", "metadata")
_META_ORDER = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)


def copied(value: Any) -> Any:
    """A deep copy of JSON data; several times faster than copy.deepcopy, which has to allow for cycles."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def in_order(obj: JsonObject) -> JsonObject:
    """The object with its first keys and its metadata in the order in which a real API server writes them."""
    metadata = obj["metadata"]
    shown = {key: metadata[key] for key in _META_ORDER if key in metadata}
    shown.update(metadata)
    top = {key: obj[key] for key in _TOP_ORDER if key in obj}
    top.update(obj)
    top["metadata"] = shown
    return top


def encoded(value: Any, *, pretty: bool = False) -> bytes:
    """JSON as UTF-8: compact, or indented by two spaces."""
    if pretty:
        return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def key_of(obj: JsonObject) -> Key:
    """The key of an object that has metadata."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def timestamp(seconds: float) -> str:
    """A time as metadata holds it: "2026-11-22T14:26:58Z", whole seconds, UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """The time that `timestamp`, or RFC 3339 with a fraction, wrote; seconds since 1970.

    Raises:
        ValueError: the text is no such time.
    """
    whole, dot, fraction = text.removesuffix("Z").partition(".")
    if not text.endswith("Z"):
        return datetime.fromisoformat(text).timestamp()
    base = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    return base + (float(f"0.{fraction}") if dot else 0.0)


def generated_name(base: str) -> str:
    """`base` and five random characters, as metadata.generateName asks for."""
    return base[:_GENERATED_NAME_BASE] + random_suffix()


def random_suffix(length: int = 5) -> str:
    """Random characters of which generated names are made."""
    return "".join(random.choices(_SUFFIX_LETTERS, k=length))


def without(mapping: JsonObject, names: Iterable[str]) -> JsonObject:
    """The mapping less some keys."""
    left_out = set(names)
    return {key: value for key, value in mapping.items() if key not in left_out}
