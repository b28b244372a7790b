"""What an API server showed of a cluster, and taking its objects apart: no conclusions here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

Object = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What an API server showed.

    Attributes:
        objects: each with its ``kind``.
        silent: kind (or "ConfigMap NAMESPACE/NAME") -> why it could not be read.
        modes: node -> what its kube-proxy answered to /proxyMode, or "!" and why it did not.
    """

    objects: tuple[Object, ...] = ()
    silent: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, str] = field(default_factory=dict)

    def all(self, kind: str) -> list[Object]:
        """The objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def named(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """One object, or None."""
        return next((item for item in self.all(kind) if _key(item) == (namespace, name)), None)

    def is_refused(self, kind: str) -> bool:
        """Whether there may be such objects that were not shown."""
        why = self.silent.get(kind, "")
        return bool(why) and "no API group" not in why and "404" not in why

    def agents(self) -> dict[str, Object]:
        """DaemonSets by name."""
        return {item["metadata"]["name"]: item for item in self.all("DaemonSet")}


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace") or "", item["metadata"]["name"]


def where(item: Object) -> str:
    """An object as evidence names it: ``ConfigMap kube-system/kube-proxy``."""
    return f"{item['kind']} {'/'.join(part for part in _key(item) if part)}"


def annotations_of(item: Object) -> dict[str, str]:
    """Its annotations, empty where there are none."""
    return item["metadata"].get("annotations") or {}


def data_of(config: Object, key: str) -> str:
    """One entry of a ConfigMap's data, "" where there is none."""
    return str((config.get("data") or {}).get(key) or "")


def yaml_of(text: str) -> Object:
    """A mapping out of YAML, empty for what is none."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def json_words(text: str) -> list[str]:
    """The words of a JSON list, none for what is no list."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [str(word) for word in found] if isinstance(found, list) else []


def is_scheduled(agent: Object) -> bool:
    """Whether a DaemonSet runs anywhere; a status that was never written does not speak against it."""
    return (agent.get("status") or {}).get("desiredNumberScheduled", 1) > 0


def containers_of(item: Object) -> list[Object]:
    """Containers of a pod, or of a DaemonSet's pods."""
    spec = item.get("spec") or {}
    return ((spec.get("template") or {}).get("spec") or spec).get("containers") or []


def environment_of(item: Object) -> dict[str, str]:
    """Environment variables of all its containers."""
    named = [entry for container in containers_of(item) for entry in container.get("env") or []]
    return {entry["name"]: str(entry.get("value", "")) for entry in named}


def command_words(container: Object) -> list[str]:
    """The words of its command line; GKE's kube-proxy is one line for a shell."""
    found = [*(container.get("command") or []), *(container.get("args") or [])]
    words: list[str] = []
    for text in found:
        try:
            words += shlex.split(text, posix=True) if " " in text else [text]
        except ValueError:  # a line of shell that is no list of words
            words += text.split()
    return words


def option_of(words: list[str], name: str) -> str:
    """The value of an option on a command line, "" where it is not there."""
    for at, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
        if word == name and at + 1 < len(words):
            return words[at + 1]
    return ""
