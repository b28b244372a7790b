from __future__ import annotations

import pytest

from srcip_nb.lab.api.resources import RESOURCES
from srcip_nb.lab.api.selectors import field_selector, field_value, label_selector, labels_match, selector_text
from srcip_nb.lab.api.status import ApiError

LABELS = {"app": "web", "tier": "front", "example.com/size": "3"}


def holds(text: str) -> bool:
    selects = label_selector(text)
    return selects is None or selects({"metadata": {"labels": LABELS}})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=web,tier=back", False),
        ("app!=web", False),
        ("none!=x", True),
        ("app in (web, db)", True),
        ("app notin (web)", False),
        ("none notin (a)", True),
        ("app", True),
        ("!app", False),
        ("!none , app", True),
        ("example.com/size>2", True),
        ("example.com/size<3", False),
        ("app>1", False),
        ("none=", False),
    ],
)
def test_label_selectors(text: str, wanted: bool) -> None:
    assert holds(text) is wanted


@pytest.mark.parametrize("text", ["a=b=c", "a in b", "a in (b", "=b", "a,,b", "a>x", "-a", "a=b c", "!a=b", "(a)"])
def test_label_selectors_that_cannot_be_read_are_bad_requests(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        label_selector(text)
    assert caught.value.code == 400
    assert caught.value.message.startswith("unable to parse requirement: ")


def test_field_selectors() -> None:
    pod = {"metadata": {"name": "a"}, "spec": {"nodeName": "worker01"}, "status": {"phase": "Running"}}
    selects = field_selector(RESOURCES["pods"], "spec.nodeName=worker01,status.phase!=Failed,status.phase!=Succeeded")
    assert selects and selects(pod)
    selects = field_selector(RESOURCES["pods"], "status.podIP=")
    assert selects and selects(pod)
    assert field_selector(RESOURCES["pods"], "") is None
    assert field_value({"spec": {}}, "spec.unschedulable") == "false"
    assert field_value({"source": {}, "reportingComponent": "kubelet"}, "source") == "kubelet"


@pytest.mark.parametrize(
    ("resource", "text", "message"),
    [
        ("pods", "spec.bogus=1", "field label not supported: spec.bogus"),
        (
            "configmaps",
            "data.a=1",
            '"data.a" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("pods", "nonsense", 'invalid selector: "nonsense"; can\'t understand "nonsense"'),
        ("nodes", "metadata.namespace=a", "field label not supported: metadata.namespace"),
    ],
)
def test_field_selectors_that_no_server_knows(resource: str, text: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        field_selector(RESOURCES[resource], text)
    assert (caught.value.code, caught.value.message) == (400, message)


def test_selectors_of_objects() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "none", "operator": "DoesNotExist"},
        ],
    }
    assert labels_match(selector, LABELS)
    assert not labels_match(selector, {"app": "web"})
    assert not labels_match(None, LABELS)
    assert labels_match({}, None)
    assert selector_text(selector) == "app=web,!none,tier in (back,front)"
    assert selector_text(None) == "<none>"
