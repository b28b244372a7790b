"""What the lessons really ask of the API, recorded on a lab: all of it is granted, and nothing more is."""

from __future__ import annotations

import re

import pytest

from srcip_nb import connect
from srcip_nb.clean import clean
from srcip_nb.errors import NotFinishedError
from srcip_nb.logs_api import Wire
from srcip_nb.notebook import log_lines
from srcip_nb.permissions import Permission, permissions_of
from srcip_nb.rest import Rest

pytestmark = pytest.mark.lab

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# What every user may read and ask: kubernetes v1.36.2, ClusterRoles system:discovery and system:basic-user.
_FOR_ANYBODY = re.compile(r"/(version|api|apis)(/[^/]+)?(/v\d+)?|.*reviews")


def asked(method: str, path: str) -> Permission | None:
    """What an authorizer is asked for a request; None for what anybody may."""
    if _FOR_ANYBODY.fullmatch(path):
        return None
    group, rest = re.fullmatch(r"/(?:api|apis/([^/]+))/v[^/]+/(.*)", path).groups()
    parts = rest.split("/")
    namespace = parts[1] if parts[0] == "namespaces" and len(parts) > 1 else ""
    if parts[0] == "namespaces" and len(parts) > 2:
        parts = parts[2:]
    verb = _VERBS.get(method) or ("get" if len(parts) > 1 else "list")
    name = parts[1] if parts[0] == "namespaces" and len(parts) > 1 else ""
    return Permission(verb, "/".join([parts[0], *parts[2:]]), group or "", namespace, name)


@pytest.fixture
def recorded(monkeypatch):
    """Every request of this process to an API, as an authorizer sees it."""
    found: set[Permission] = set()
    send, open_wire = Rest._send, Wire._send

    def note(method: str, path: str) -> None:
        one = asked(method, path.partition("?")[0])
        if one:
            found.add(one)

    def sending(self, method, url, *args):
        path = url[len(self.configuration.host.rstrip("/")) :]
        note(method, path)
        answer = send(self, method, url, *args)
        if method == "PATCH" and answer.status == 201:
            note("POST", path)  # server-side apply of what is new: to create is asked for as well
        return answer

    def opening(self, path, query, timeout):
        note("GET", path)
        return open_wire(self, path, query, timeout)

    monkeypatch.setattr(Rest, "_send", sending)
    monkeypatch.setattr(Wire, "_send", opening)
    return found


def test_the_lessons_ask_for_what_is_granted_and_for_nothing_less(lab, recorded):
    seat = connect(lab=lab.name, namespace="seat", quiet=True)
    seat.apply("ns.yaml")  # made by whoever grants it
    recorded.clear()
    seat.apply("configmap_html.yaml", "deployment.yaml", "service.yaml")
    seat.wait_ready()
    seat.policy("Local")
    seen = seat.visit(4, progress=False)
    assert log_lines(seat, seen, [0])
    seat.scale(1)
    for table in (seat.nodes, seat.pods, seat.service, seat.endpoints, seat.events):
        assert table() is not None
    seat.request("PATCH", "/apis/apps/v1/namespaces/seat/deployments/webserver", BROKEN, content_type=MERGE)
    with pytest.raises(NotFinishedError):  # says why, for which it looks at ReplicaSets and events
        seat.wait_ready(timeout=2)
    seat.delete()
    needed = recorded - {Permission("delete", "namespaces", "", "seat", "seat")}  # a granted one stays
    granted = set(permissions_of(["lessons", "addresses"], "seat"))
    assert needed <= granted, sorted(needed - granted)
    # these go with what they belong to, and may be gone before they are deleted by name
    slices = Permission("delete", "endpointslices", "discovery.k8s.io", "seat")
    for_later = Permission("patch", "services/status", "", "seat")  # asked by 07, which plays a cloud's load balancer
    assert granted - needed <= {Permission("delete", "pods", "", "seat"), slices, for_later}


def test_clean_leaves_a_lab_without_anything_of_ours(lab):
    seat = connect(lab=lab.name, namespace="seat", quiet=True)
    seat.apply()
    frame = clean(seat, ["seat"])
    assert set(frame["result"]) == {"removed"}
    assert frame.attrs["left"] == []
    assert seat.find("namespaces", "seat") is None
    assert clean(seat, ["seat"]).empty


BROKEN = {"spec": {"template": {"spec": {"containers": [{"name": "nginx", "image": "nothing-of-the-kind"}]}}}}
MERGE = "application/merge-patch+json"
