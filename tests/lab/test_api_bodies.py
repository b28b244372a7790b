from __future__ import annotations

import json
from typing import Any

import pytest

from srcip_nb.lab.api import bodies
from srcip_nb.lab.api.negotiate import negotiate, wants_aggregated_discovery
from srcip_nb.lab.api.resources import RESOURCES
from srcip_nb.lab.api.status import ApiError

CONFIG_MAP = RESOURCES["configmaps"]


def read(text: str, content_type: str = "application/json") -> tuple[dict[str, Any], bodies.Findings]:
    return bodies.read_object(text.encode(), content_type, CONFIG_MAP)


def message_of(text: str, content_type: str = "application/json") -> str:
    with pytest.raises(ApiError) as caught:
        read(text, content_type)
    assert caught.value.code in (400, 415)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{not json", "invalid character 'n' looking for beginning of object key string"),
        ("{", "unexpected end of JSON input"),
        ("", "unexpected end of JSON input"),
        ('{"a', "unexpected end of JSON input"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        ('{"a":[1 2]}', "invalid character '2' after array element"),
        ('{"a":x}', "invalid character 'x' looking for beginning of value"),
        ('{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        ("{} {}", "invalid character '{' after top-level value"),
        ('{"a":"\n"}', "invalid character '\\n' in string literal"),
    ],
)
def test_broken_json_in_gos_words(text: str, words: str) -> None:
    message = message_of(text)
    assert message.startswith("the object provided is unrecognized (must be of type ConfigMap): ")
    assert f"json parse error: {words} (" in message


def test_long_bodies_are_shown_shortened() -> None:
    assert message_of("{" + "x" * 50).endswith("({" + "x" * 29 + " ...)")
    assert message_of("xyz").endswith("(78797a)")


def test_fields_given_twice_and_unknown_ones_are_found() -> None:
    obj, findings = read('{"metadata":{"name":"a","name":"b","labels":{"x":"1","x":"2"}},"data":{},"dta":1}')
    assert obj["metadata"]["name"] == "b"
    assert findings == [
        'duplicate field "metadata.name"',
        'duplicate field "metadata.labels.x"',
        'unknown field "dta"',
    ]


def test_yaml_bodies_keep_dates_as_text_and_tell_keys_given_twice() -> None:
    obj, findings = read("data:\n  day: 2023-10-08\n  on: 'x'\ndata:\n  a: b\n", "application/yaml")
    assert obj == {"data": {"a": "b"}}
    assert findings == ['line 4: key "data" already set in map']
    assert read("data: {day: 2023-10-08, yes: a}", "application/yaml")[0]["data"] == {"day": "2023-10-08", "true": "a"}
    assert "yaml: line 2: " in message_of("a: b\n- c\n", "application/yaml")


def test_a_body_of_another_kind_is_refused() -> None:
    assert message_of('{"kind":"Foo","apiVersion":"v1"}') == (
        'Foo in version "v1" cannot be handled as a ConfigMap: no kind "Foo" is registered for version "v1" '
        'in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"'
    )
    assert message_of('{"kind":"Deployment","apiVersion":"apps/v1"}') == (
        'Deployment in version "v1" cannot be handled as a ConfigMap: '
        "converting (v1.Deployment) to (core.ConfigMap): unknown conversion"
    )
    assert read('{"data":{"a":"b"}}')[0] == {"data": {"a": "b"}}


def test_values_of_a_wrong_type_are_refused() -> None:
    assert message_of('{"data":{"a":1}}') == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: '
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    )


def field(number: int, value: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return bytes([number << 3 | 2, len(value)]) + value


def envelope(kind: str, raw: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, b"v1") + field(2, kind.encode())) + field(2, raw)


def test_protobuf_is_read() -> None:
    metadata = field(1, b"a") + field(8, b"")  # name, a creationTimestamp that is not set
    data = field(2, field(1, b"key") + field(2, "あ".encode()))
    binary = field(3, field(1, b"raw") + field(2, b"\x00\xff"))
    raw = envelope("ConfigMap", field(1, metadata) + data + binary)
    obj, findings = bodies.read_object(raw, "application/vnd.kubernetes.protobuf", CONFIG_MAP)
    assert obj == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "a", "creationTimestamp": None},
        "data": {"key": "あ"},
        "binaryData": {"raw": "AP8="},
    }
    assert findings == []
    options = bytes([1 << 3, 5]) + field(4, b"Foreground") + field(2, field(1, b"uid"))
    assert bodies.read_options(envelope("DeleteOptions", options), "application/vnd.kubernetes.protobuf") == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 5,
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": "uid"},
    }


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"nonsense", "provided data does not appear to be a protobuf message"),
        (envelope("ConfigMap", field(9, b"x")), "field 9 of ConfigMap is not read as protobuf"),
        (envelope("ConfigMap", b"\x0a\x05a"), "unexpected EOF"),
        (envelope("Secret", b""), 'no kind "Secret" is read as protobuf'),
    ],
)
def test_protobuf_that_cannot_be_read_is_refused_with_a_way_out(raw: bytes, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        bodies.read_object(raw, "application/vnd.kubernetes.protobuf", CONFIG_MAP)
    assert caught.value.code == 400
    assert words in caught.value.message
    assert "--dry-run=client -o yaml | kubectl apply -f -" in caught.value.message


def test_other_media_types_are_unsupported() -> None:
    with pytest.raises(ApiError) as caught:
        bodies.read_object(b"x", "text/plain", CONFIG_MAP)
    assert caught.value.code == 415
    assert "accepted media types include: application/json, application/yaml" in caught.value.message


def test_half_characters_become_whole() -> None:
    obj, _ = read('{"data":{"a":"\\ud83d"}}')
    json.dumps(obj, ensure_ascii=False).encode()
    assert obj["data"]["a"] == "\ufffd"
    assert read('{"data":{"a":"\\ud83d\\ude00"}}')[0]["data"]["a"] == "\U0001f600"


def test_deep_nesting_is_refused() -> None:
    message_of('{"a":' * 100_000)


@pytest.mark.parametrize(
    ("accept", "kind", "media"),
    [
        ("", "", "application/json"),
        ("*/*", "", "application/json"),
        ("application/yaml", "", "application/yaml"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table", "application/json"),
        ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "", "application/json"),
        ("application/vnd.kubernetes.protobuf,application/json", "", "application/json"),
        ("application/json;q=0.5,application/yaml", "", "application/yaml"),
    ],
)
def test_the_form_that_a_client_wants(accept: str, kind: str, media: str) -> None:
    form = negotiate(accept, ("Table",))
    assert (form.kind, form.media) == (kind, media)


def test_a_form_that_nobody_writes_is_not_acceptable() -> None:
    with pytest.raises(ApiError) as caught:
        negotiate("application/vnd.kubernetes.protobuf")
    assert caught.value.code == 406


def test_aggregated_discovery_is_for_those_who_prefer_it() -> None:
    asked = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    assert wants_aggregated_discovery(asked) == "v2"
    assert wants_aggregated_discovery("application/json") == ""
