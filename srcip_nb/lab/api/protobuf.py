"""Reading the protobuf form of objects, in which kubectl's own commands (create, drain) send what they make.

    "k8s" 0x00, then a message: typeMeta{apiVersion, kind} = 1, raw = 2          the envelope
    raw: the object as a message of its kind; names and numbers in protobuf_fields.py, types from the schema

The result is the same object that JSON would have given. A field that the table does not know is refused by name and
number, never dropped. Answers are always JSON, which every client takes.

Source: kubernetes v1.36.2 apimachinery pkg/runtime/serializer/protobuf; the encoding is that of protobuf.dev.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from srcip_nb.lab.api.objects import timestamp
from srcip_nb.lab.api.protobuf_fields import FIELDS
from srcip_nb.lab.api.schema import Type, schema_of

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INLINE = "*"


def read_protobuf(raw: bytes) -> dict[str, Any]:
    """The object in a body.

    Raises:
        ValueError: it is no such message, or has a field that is not known here.
    """
    if not raw.startswith(_MAGIC):
        raise ValueError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    envelope = dict(_fields(raw[len(_MAGIC) :]))
    type_meta = {number: _text(value) for number, value in _fields(_bytes(envelope.get(1, b"")))}
    kind = type_meta.get(2, "")
    try:
        shape = schema_of(kind)
    except KeyError:
        raise ValueError(f'no kind "{kind}" is read as protobuf') from None
    obj: dict[str, Any] = {"kind": kind, "apiVersion": type_meta.get(1, "")}
    return {**obj, **_message(_bytes(envelope.get(2, b"")), shape, _name_of(shape))}


def _message(raw: bytes, shape: Type, message: str) -> dict[str, Any]:
    obj: dict[str, Any] = {}
    for number, value in _fields(raw):
        name = FIELDS.get(message, {}).get(number)
        if name is None:
            raise ValueError(f"field {number} of {message} is not read as protobuf")
        if name.startswith(_INLINE):
            obj.update(_message(_bytes(value), shape, name[1:]))
            continue
        field = shape.of(name)
        if field.form == "list":
            obj.setdefault(name, []).append(_value(value, field.element or field))
        elif field.form == "map":
            pair = dict(_fields(_bytes(value)))
            element = field.element or field
            obj.setdefault(name, {})[_text(pair.get(1, b""))] = _value(pair.get(2, b""), element)
        else:
            obj[name] = _value(value, field)
    return obj


def _value(value: int | bytes, shape: Type) -> Any:
    if shape.form == "struct":
        return _message(_bytes(value), shape, _name_of(shape))
    if shape.form == "any":
        return json.loads(_bytes(dict(_fields(_bytes(value))).get(1, b"{}")))
    if shape.go == "intstr.IntOrString":
        parts = dict(_fields(_bytes(value)))
        return _text(parts.get(3, b"")) if parts.get(1) else _signed(parts.get(2, 0))
    if shape.go == "resource.Quantity":
        return _text(dict(_fields(_bytes(value))).get(1, b""))
    if shape.go in ("v1.Time", "v1.MicroTime"):
        parts = dict(_fields(_bytes(value)))
        return timestamp(_signed(parts[1])) if 1 in parts else None
    if shape.go == "bool":
        return bool(value)
    if shape.go in ("int32", "int64"):
        return _signed(value)
    if shape.go == "[]uint8":
        return base64.b64encode(_bytes(value)).decode()
    return _text(value)


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and raw value of each field of a message, in order."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, at = _varint(raw, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            length, at = _varint(raw, at)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire_type, -1)
        if length < 0 or at + length > len(raw):
            raise ValueError("unexpected EOF")
        yield number, raw[at : at + length]
        at += length


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(raw) or shift > 63:
            raise ValueError("unexpected EOF")
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a number was expected")
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a message was expected")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _name_of(shape: Type) -> str:
    return shape.go.split(".")[1]
