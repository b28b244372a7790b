"""Reading what a client sends: JSON, YAML or protobuf to an object, with the complaints of a real API server.

The complaints come in three grades. Text that is no JSON, and values of a wrong type, are 400 always. Fields that the
kind does not have, and fields given twice, are 400, a warning or nothing: fieldValidation=Strict, Warn or Ignore.

Source: kubernetes v1.36.2 apiserver pkg/endpoints/handlers/{create,rest}.go, Go's encoding/json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from srcip_nb.lab.api import protobuf, status
from srcip_nb.lab.api.objects import JsonObject
from srcip_nb.lab.api.resources import BY_KIND, Resource
from srcip_nb.lab.api.schema import strict_errors, type_error, type_message

JSON_TYPES = ("application/json", "")
"""What a JSON body is called; some clients do not call it anything."""

YAML_TYPES = ("application/yaml", "application/apply-patch+yaml")
LIMIT = 3 * 1024 * 1024
"""Bytes of a request's body, as a real API server takes them."""

_SUMMARY = 30
_SCHEME = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
_UNREAD = (
    "the body of the request was in an unknown format - accepted media types include: "
    "application/json, application/yaml, application/vnd.kubernetes.protobuf"
)


class Findings(list[str]):
    """Complaints that are warnings or errors, as fieldValidation says."""


def read_object(raw: bytes, content_type: str, resource: Resource, kind: str = "") -> tuple[JsonObject, Findings]:
    """The object in a request's body and what a strict server would find wrong with it.

    Args:
        raw: the body.
        content_type: its media type, without parameters.
        resource: of the URL.
        kind: the kind that is wanted, if not the resource's own ("Scale").

    Raises:
        ApiError: 400 the body is no such object, 415 it is neither JSON nor YAML.
    """
    wanted = kind or resource.kind
    obj, findings = _parsed(raw, content_type, wanted)
    api_version = "autoscaling/v1" if kind == "Scale" else resource.api_version
    given_kind, given_version = obj.get("kind") or wanted, obj.get("apiVersion") or api_version
    if (given_kind, given_version) != (wanted, api_version):
        raise _other_kind(str(given_kind), str(given_version), wanted, resource)
    error = type_error(obj, wanted)
    if error:
        raise status.bad_request(type_message(wanted, api_version, error))
    findings += strict_errors(obj, wanted)
    return obj, findings


def read_patch(raw: bytes, content_type: str) -> tuple[Any, Findings]:
    """The patch in a request's body and the fields that it gives twice.

    Raises:
        ApiError: 400, the body is neither JSON nor (for server-side apply) YAML.
    """
    if content_type in YAML_TYPES:
        return _yaml(raw, "error decoding YAML: ")
    try:
        value, findings = _json(raw)
    except ValueError as error:
        raise status.bad_request(f"error decoding patch: {error}") from None
    if content_type != "application/json-patch+json" and not isinstance(value, dict):
        raise status.bad_request(
            f"error decoding patch: json: cannot unmarshal {_go_word(value)} into Go value "
            "of type map[string]interface {}"
        )
    return value, findings


def read_options(raw: bytes, content_type: str) -> JsonObject:
    """The DeleteOptions in a request's body, {} for an empty one.

    Raises:
        ApiError: 400, 415.
    """
    if not raw.strip():
        return {}
    options, _ = _parsed(raw, content_type, "DeleteOptions")
    error = type_error(options, "DeleteOptions")
    if error:
        raise status.bad_request(type_message("DeleteOptions", "v1", error))
    return options


def refuse_or_warn(findings: Findings, directive: str, prefix: str) -> list[str]:
    """Act on the complaints as fieldValidation says; the warnings to send, if that is all.

    Raises:
        ApiError: 400, when the directive is Strict; `prefix` comes before the complaints.
    """
    unique = list(dict.fromkeys(findings))
    if unique and directive == "Strict":
        raise status.bad_request(f"{prefix}strict decoding error: {', '.join(unique)}")
    return unique if directive == "Warn" else []


def strict_prefix(resource: Resource, kind: str = "") -> str:
    """How the 400 for an object with unknown fields begins."""
    return type_message(kind or resource.kind, "v1" if kind else resource.version, "")


def go_json_error(error: json.JSONDecodeError) -> str:
    """A JSON error in the words of Go's decoder."""
    text, at = error.doc, error.pos
    if error.msg.startswith(("Unterminated string", "Invalid \\escape", "Invalid \\u")) and '"' not in text[at + 1 :]:
        return "unexpected end of JSON input"
    if at >= len(text.rstrip()):
        return "unexpected end of JSON input"
    places = (
        ("Expecting property name", "looking for beginning of object key string"),
        ("Illegal trailing comma before end of object", "looking for beginning of object key string"),
        ("Illegal trailing comma", "looking for beginning of value"),
        ("Expecting value", "looking for beginning of value"),
        ("Expecting ':'", "after object key"),
        ("Expecting ','", _after(text, at)),
        ("Extra data", "after top-level value"),
        ("Invalid control character", "in string literal"),
        ("Invalid \\escape", "in string escape code"),
    )
    place = next(
        (words for message, words in places if error.msg.startswith(message)), "looking for beginning of value"
    )
    return f"invalid character {_go_character(text[at])} {place}"


def _after(text: str, at: int) -> str:
    """Whether the innermost bracket that is open at a place is an object's or an array's."""
    depth = 0
    for character in reversed(re.sub(r'"(\\.|[^"\\])*"', lambda match: " " * len(match[0]), text[:at])):
        depth += (character in "]}") - (character in "[{")
        if depth < 0:
            return "after array element" if character == "[" else "after object key:value pair"
    return "after top-level value"


def _go_character(character: str) -> str:
    special = {"'": r"'\''", '"': "'\"'", "\n": r"'\n'", "\t": r"'\t'", "\r": r"'\r'"}
    return special.get(character, f"'{character}'")


def _parsed(raw: bytes, content_type: str, wanted: str) -> tuple[JsonObject, Findings]:
    """The JSON, YAML or protobuf object of a body."""
    if content_type in YAML_TYPES:
        value, findings = _yaml(raw, "")
    elif content_type in JSON_TYPES:
        try:
            value, findings = _json(raw)
        except ValueError as error:
            raise _unrecognized(raw, wanted, f"json parse error: {error}") from None
    elif content_type == protobuf.MEDIA_TYPE:
        value, findings = _protobuf(raw, wanted), Findings()
    else:
        raise status.unsupported_media_type(_UNREAD)
    if not isinstance(value, dict):
        struct = (
            'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        )
        raise _unrecognized(
            raw, wanted, f"json parse error: json: cannot unmarshal {_go_word(value)} into Go value of type {struct}"
        )
    return value, findings


def _protobuf(raw: bytes, wanted: str) -> JsonObject:
    try:
        return protobuf.read_protobuf(raw)
    except (ValueError, RecursionError) as error:
        raise status.bad_request(
            f"the object provided is unrecognized (must be of type {wanted}): {error}; "
            "let `kubectl create ... --dry-run=client -o yaml | kubectl apply -f -` send it as YAML"
        ) from None


def _unrecognized(raw: bytes, wanted: str, detail: str) -> status.ApiError:
    shown = raw[:_SUMMARY].decode(errors="replace") if raw[:1] == b"{" else raw[:_SUMMARY].hex()
    summary = f"{shown} ..." if len(raw) > _SUMMARY else shown or "<empty>"
    return status.bad_request(
        f"the object provided is unrecognized (must be of type {wanted}): couldn't get version/kind; "
        f"{detail} ({summary})"
    )


def _other_kind(kind: str, api_version: str, wanted: str, resource: Resource) -> status.ApiError:
    version = api_version.rsplit("/", 1)[-1]
    known = BY_KIND.get(kind)
    if known and known.api_version == api_version:
        package = {"": "core", "discovery.k8s.io": "discovery"}.get(resource.group, resource.group)
        reason = f"converting ({version}.{kind}) to ({package}.{wanted}): unknown conversion"
    else:
        reason = f'no kind "{kind}" is registered for version "{api_version}" in scheme "{_SCHEME}"'
    return status.bad_request(f'{kind} in version "{version}" cannot be handled as a {wanted}: {reason}')


def _go_word(value: Any) -> str:
    words = {bool: "bool", str: "string", list: "array", dict: "object", type(None): "null"}
    return words.get(type(value), "number")


# -- text to data ----------------------------------------------------------------------------------------------------


class _Twice(dict[str, Any]):
    """An object in whose text some keys stood twice; the last one counts, as in Go."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.keys_given_twice = [key for key in self if keys.count(key) > 1]


def _json(raw: bytes) -> tuple[Any, Findings]:
    def pairs_to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        obj = dict(pairs)
        return obj if len(obj) == len(pairs) else _Twice(pairs)

    def refuse(word: str) -> Any:
        raise ValueError(f"invalid character '{word.lstrip('-')[0]}' looking for beginning of value")

    text = raw.decode(errors="replace").lstrip("﻿")
    try:
        value = json.loads(text, object_pairs_hook=pairs_to_object, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(go_json_error(error)) from None
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    if "\\ud" in text or "\\uD" in text:
        value = _without_surrogates(value)
    return value, Findings(f'duplicate field "{path}"' for path in _given_twice(value, ""))


def _given_twice(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value, _Twice):
            yield from (f"{path}.{key}" if path else key for key in value.keys_given_twice)
        for key, item in value.items():
            yield from _given_twice(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _given_twice(item, f"{path}[{index}]")


def _without_surrogates(value: Any) -> Any:
    """Half characters (the first of a pair alone) become U+FFFD, as in Go; UTF-8 cannot hold them."""
    if isinstance(value, str):
        return "".join("�" if "\ud800" <= character <= "\udfff" else character for character in value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _yaml(raw: bytes, prefix: str) -> tuple[Any, Findings]:
    """YAML to what the same text as JSON would give; JSON is YAML, and read as JSON because that is faster."""
    if raw.lstrip()[:1] == b"{":
        try:
            return _json(raw)
        except ValueError:
            pass  # YAML allows more between braces than JSON does
    from srcip_nb.lab.api.yamltext import load_yaml

    try:
        value, findings = load_yaml(raw)
    except ValueError as error:
        raise status.bad_request(f"{prefix}{error}") from None
    return value, Findings(findings)
