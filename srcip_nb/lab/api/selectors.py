"""Label and field selectors: `app=web,tier notin (db)` and `status.phase!=Running` as functions of an object.

A selector is parsed once into a predicate `(object) -> bool`; an empty one is None, which selects everything.

Source of the grammar and of the words of refusal: kubernetes v1.36.2 apimachinery pkg/labels/selector.go and
pkg/fields/selector.go; of the field labels: pkg/apis/core/v1/conversion.go and the registries' ToSelectableFields.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from srcip_nb.lab.api import status
from srcip_nb.lab.api.resources import Resource

Predicate = Callable[[dict[str, Any]], bool]

_LABEL_TOKEN = re.compile(r"\s*(?:(?P<word>[^\s,()!=<>]+)|(?P<sign>!=|==|=|!|<|>|,|\(|\)))")
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def label_selector(text: str) -> Predicate | None:
    """The predicate of a label selector as a URL carries it.

    Args:
        text: requirements joined by commas: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`,
            `!a`, `a>1`, `a<1`.

    Raises:
        ApiError: 400, the text cannot be read; the message says where.
    """
    tokens = _tokens(text)
    if not tokens:
        return None
    requirements = [_requirement(part) for part in _split(tokens)]

    def selects(obj: dict[str, Any]) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(holds(labels) for holds in requirements)

    return selects


def labels_match(selector: dict[str, Any] | None, labels: dict[str, str] | None) -> bool:
    """Whether a LabelSelector object (`matchLabels`, `matchExpressions`) selects these labels; none selects nothing."""
    if selector is None:
        return False
    labels = labels or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        key, values = expression.get("key", ""), expression.get("values") or []
        held = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not held.get(expression.get("operator", ""), False):
            return False
    return True


def selector_text(selector: dict[str, Any] | None) -> str:
    """A LabelSelector object as kubectl prints it: "app=web,tier in (a,b)"; "<none>" for none, "" for an empty one."""
    if selector is None:
        return "<none>"
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], ",".join(sorted(expression.get("values") or []))
        text = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }[expression["operator"]]
        parts.append((key, text))
    return ",".join(text for _, text in sorted(parts)) or "<none>"


def field_selector(resource: Resource, text: str) -> Predicate | None:
    """The predicate of a field selector (`a.b=c,d.e!=f`) on objects of `resource`.

    Raises:
        ApiError: 400, the text cannot be read, or the resource cannot be selected by that field.
    """
    requirements: list[tuple[str, bool, str]] = []
    for part in _split_fields(text):
        match = re.match(r"(?P<field>[^=!]*)(?P<sign>!=|==|=)(?P<value>.*)$", part, re.DOTALL)
        if not match:
            raise status.bad_request(f"invalid selector: {status.quoted(text)}; can't understand {status.quoted(part)}")
        field, value = match["field"], re.sub(r"\\([\\,=])", r"\1", match["value"])
        _check_field(resource, field)
        requirements.append((field, match["sign"] != "!=", value))
    if not requirements:
        return None

    def selects(obj: dict[str, Any]) -> bool:
        return all((field_value(obj, field) == value) is wanted for field, wanted, value in requirements)

    return selects


def field_value(obj: dict[str, Any], field: str) -> str:
    """What a field selector compares: the field as text, "" where it is absent, "false" for an absent boolean."""
    if field == "source" and "source" in obj:
        return str((obj["source"] or {}).get("component") or obj.get("reportingComponent") or "")
    value: Any = obj
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if field in ("spec.unschedulable", "spec.hostNetwork"):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _check_field(resource: Resource, field: str) -> None:
    if field == "metadata.name" or (field == "metadata.namespace" and resource.namespaced):
        return
    if field in resource.field_labels:
        return
    if resource.field_labels:
        raise status.bad_request(f"field label not supported: {field}")
    raise status.bad_request(
        f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"',
    )


def _split_fields(text: str) -> list[str]:
    """Split at commas that no backslash protects."""
    return [part for part in re.split(r"(?<!\\),", text) if part]


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _LABEL_TOKEN.match(text, at)
        if not match:
            raise _unreadable(f"found '{text[at:].strip()[0]}'", "identifier")
        tokens.append(match["word"] or match["sign"])
        at = match.end()
    return tokens


def _split(tokens: list[str]) -> list[list[str]]:
    """The tokens of each requirement; commas inside brackets do not end one."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    if depth:
        raise _unreadable("found ''", "',' or ')'")
    for index, part in enumerate(parts):
        if not part:
            found = "','" if index + 1 < len(parts) else "''"
            raise _unreadable(
                f"found {found}", "identifier after ','" if index else "!, identifier, or 'end of string'"
            )
    return parts


def _requirement(tokens: list[str]) -> Callable[[dict[str, str]], bool]:
    negated = tokens[0] == "!"
    if negated:
        tokens = tokens[1:]
    if not tokens or tokens[0] in ("=", "==", "!=", "<", ">", "(", ")", "!"):
        raise _unreadable(f"found '{tokens[0] if tokens else ''}'", "identifier" if negated else "!, identifier")
    key, rest = tokens[0], tokens[1:]
    _check_key(key)
    if not rest:
        return (lambda labels: key not in labels) if negated else (lambda labels: key in labels)
    sign, values = rest[0], rest[1:]
    if negated or sign not in ("=", "==", "!=", "in", "notin", "<", ">"):
        expected = "',' or 'end of string'" if negated else "in, notin, =, ==, !=, gt, lt"
        raise _unreadable(f"found '{sign}'", expected)
    if sign in ("in", "notin"):
        wanted = _value_list(values)
        if sign == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    if len(values) > 1:
        raise _unreadable(f"found '{values[1]}'", "',' or 'end of string'")
    value = values[0] if values else ""
    if sign in ("<", ">"):
        return _compared(key, sign, value)
    _check_value(key, value)
    if sign == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value


def _value_list(tokens: list[str]) -> frozenset[str]:
    if not tokens or tokens[0] != "(":
        raise _unreadable(f"found '{tokens[0] if tokens else ''}'", "'('")
    if tokens[-1] != ")":
        raise _unreadable(f"found '{tokens[-1]}'", "',' or ')'")
    return frozenset("".join(tokens[1:-1]).split(","))


def _compared(key: str, sign: str, value: str) -> Callable[[dict[str, str]], bool]:
    if not re.fullmatch(r"[+-]?\d+", value):
        raise status.bad_request(
            f"unable to parse requirement: values[0][{key}]: Invalid value: {status.quoted(value)}: "
            "for 'Gt', 'Lt' operators, the value must be an integer",
        )
    bound = int(value)

    def holds(labels: dict[str, str]) -> bool:
        held = labels.get(key, "")
        if not re.fullmatch(r"[+-]?\d+", held):
            return False
        return int(held) > bound if sign == ">" else int(held) < bound

    return holds


def _check_key(key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if (slash and not _PREFIX.fullmatch(prefix)) or not _NAME.fullmatch(name) or len(name) > 63:
        raise status.bad_request(
            f"unable to parse requirement: <nil>: Invalid value: {status.quoted(key)}: name part must consist of "
            "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
            "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        )


def _check_value(key: str, value: str) -> None:
    if value and (not _NAME.fullmatch(value) or len(value) > 63):
        raise status.bad_request(
            f"unable to parse requirement: values[0][{key}]: Invalid value: {status.quoted(value)}: a valid label must "
            "be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
            "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        )


def _unreadable(found: str, expected: str) -> status.ApiError:
    return status.bad_request(f"unable to parse requirement: {found}, expected: {expected}")
