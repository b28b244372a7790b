"""Manifests as they are read: files, folders, YAML text or dicts become plain objects.

The lesson's own four are the seminar post's, in the order in which it applies them. Later steps bring more, in a folder
of their own, so that ``kubectl apply -f manifests/`` is still the post.
"""

from __future__ import annotations

from collections.abc import Hashable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from srcip_nb.errors import ManifestError

LESSON = ("ns.yaml", "configmap_html.yaml", "deployment.yaml", "service.yaml")
STEPS = {"proxy.yaml": "steps/proxy.yaml", "inside.yaml": "steps/inside.yaml"}
"""Manifests of later steps: name -> where it is."""


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, as the API server does; PyYAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping", node.start_mark, f'key "{key.value}" already set', key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def manifest_text(name: str) -> str:
    """The text of one of the lesson's manifests, for showing: ``manifest_text("service.yaml")``."""
    if name not in (*LESSON, *STEPS):
        raise ManifestError(f"the lesson has no manifest {name!r}", f"It has: {', '.join((*LESSON, *STEPS))}")
    return (resources.files("srcip_nb") / "manifests" / STEPS.get(name, name)).read_text(encoding="utf-8")


def lesson_objects(namespace: str = "seminar", *names: str) -> list[dict[str, Any]]:
    """The objects of the lesson's manifests (the four, or those named), in a namespace of the caller's choice."""
    objects = [body for name in names or LESSON for body in parse_yaml(manifest_text(name), name)]
    for body in objects:
        place = "name" if body["kind"] == "Namespace" else "namespace"
        body["metadata"][place] = namespace
    return objects


def read_manifests(*sources: Any, namespace: str = "seminar") -> list[dict[str, Any]]:
    """The objects in manifests, in the order given.

    Args:
        *sources: a path, a folder (its .yaml, .yml and .json files by name), YAML text (it has a line break), a dict,
            or a list of these. A name of ``LESSON`` or ``STEPS`` that is no file here is the lesson's own.
        namespace: where the lesson's own objects go.

    Raises:
        ManifestError: not readable, not YAML (with line and column), or not an object of Kubernetes.
    """
    found: list[dict[str, Any]] = []
    for source in sources:
        if isinstance(source, dict):
            found += _objects(source, "the manifest")
        elif isinstance(source, (list, tuple)):
            found += read_manifests(*source, namespace=namespace)
        elif isinstance(source, str) and "\n" in source:
            found += parse_yaml(source, "the manifest")
        elif isinstance(source, (str, Path)):
            found += _read_path(source, namespace)
        else:
            raise ManifestError(f"{source!r} is no manifest", "Give a path, YAML text or a dict")
    return found


def parse_yaml(text: str, name: str) -> list[dict[str, Any]]:
    """The objects in YAML text, documents and Lists taken apart.

    Args:
        text: one or more YAML documents; empty ones are passed over.
        name: what errors call it.
    """
    try:
        documents = list(yaml.load_all(text, _StrictLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
        raise ManifestError(f"{where}: {error.problem or error.context}", "Correct the YAML there") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{name} is not YAML: {error}", "Correct the YAML") from error
    return [body for document in documents if document is not None for body in _objects(document, name)]


def _read_path(path: str | Path, namespace: str) -> list[dict[str, Any]]:
    file = Path(path).expanduser()
    if str(path) in (*LESSON, *STEPS) and not file.exists():
        return lesson_objects(namespace, str(path))
    if file.is_dir():
        names = sorted(f for f in file.iterdir() if f.suffix in {".yaml", ".yml", ".json"})
        if not names:
            raise ManifestError(f"{file} holds no manifests", "Their names end in .yaml, .yml or .json")
        return [body for name in names for body in _read_path(name, namespace)]
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} cannot be read: {error}", f"The lesson has: {', '.join(LESSON)}") from error
    return parse_yaml(text, str(file))


def _objects(document: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        raise ManifestError(
            f"{name} holds {document!r}, which is no Kubernetes object", "An object has apiVersion and kind"
        )
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str) or not document[field]:
            raise ManifestError(f"{name}: {field} not set", f"Say what it is, for example {field}: {_EXAMPLES[field]}")
    if document["kind"] == "List":
        return [body for item in document.get("items") or [] for body in _objects(item, name)]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise ManifestError(f"{name}: {document['kind']} without metadata.name", "Give it a name")
    return [document]


_EXAMPLES = {"apiVersion": "v1", "kind": "Service"}
