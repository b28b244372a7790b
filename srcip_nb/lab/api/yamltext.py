"""YAML to JSON data, as the API server's own reader gives it: dates stay text, keys given twice are told."""

from __future__ import annotations

from typing import Any

import yaml

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """A safe loader that knows only what JSON knows, and counts."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.given_twice: list[str] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        """A mapping with text keys; keys that stand twice are noted with their line."""
        self.flatten_mapping(node)
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key_text(self.construct_object(key_node, deep=True))
            if key in mapping:
                line = key_node.start_mark.line + 1
                self.given_twice.append(f'line {line}: key "{key}" already set in map')
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node, deep=True))


def load_yaml(raw: bytes) -> tuple[Any, list[str]]:
    """The one document of a YAML text, and the keys that it gives twice.

    Raises:
        ValueError: no YAML; the message says where and why.
    """
    try:
        loader = _Loader(raw)
        try:
            return loader.get_single_data(), list(loader.given_twice)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"yaml: {line}{error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise ValueError(f"yaml: {error}") from None


def dump_yaml(value: Any) -> str:
    """JSON data as YAML text, keys in their order."""
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False, default_flow_style=False)


def _key_text(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(key)
