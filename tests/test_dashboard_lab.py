"""The dashboard on a lab: real requests, a flip, its static twin, and nothing left when it is closed."""

import threading
import time

import pytest

from srcip_nb import dashboard
from srcip_nb.dashboard_expected import AS_EXPECTED, compare
from srcip_nb.lab.state import running_labs
from srcip_nb.manifest_files import lesson_objects

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def settle(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("srcip-nb")]


def test_a_flip_another_pod_network_and_the_end(cluster):
    labs = len(running_labs())
    shown = dashboard(cluster)
    shown.change("rate", 20)
    shown.send()
    state = shown.traffic.state
    settle(lambda: compare(state.now, shown.traffic.view).verdict == AS_EXPECTED)
    assert {key[0] for key in state.now.sources} == {"192.168.1.45", "10.0.5.0"}
    shown.change("external", "Local")
    settle(lambda: state.now.answered >= 10)
    assert {key[0] for key in state.now.sources} == {"192.168.1.122"}
    assert state.now.kept == state.now.seen.answers.total() and state.before.kept == 0
    assert compare(state.now, shown.traffic.view).verdict == AS_EXPECTED
    settle(lambda: "192.168.1.122" in shown.panel.texts["counts"].value)

    shown.change("cni", "flannel")
    shown.change("external", "Cluster")
    assert len(running_labs()) == labs + 1 and shown.last_error is None
    settle(lambda: compare(state.now, shown.traffic.view).verdict == AS_EXPECTED)
    assert {key[0] for key in state.now.sources} == {"10.0.5.1", "10.0.5.0"}  # flannel: the gateway for its own pod
    shown.close()
    assert shown.last_error is None and shown.traffic.error is None
    assert len(running_labs()) == labs and threads() == []


def test_without_a_reader_one_flip_is_shown_and_undone(cluster, monkeypatch, capsys):
    monkeypatch.setenv("SRCIP_STATIC", "1")
    shown = dashboard(cluster)
    pieces = "".join(shown.static())
    assert "before (Cluster)" in pieces and "now (Local)" in pieces and "192.168.1.122" in pieces
    assert "<svg" in pieces and "✓ as expected" in pieces
    assert cluster.get("services", "webserver")["spec"]["externalTrafficPolicy"] == "Cluster"
    assert threads() == []
    shown.close()


def test_without_a_load_balancer_a_node_port_is_asked_and_the_panel_says_so(cluster):
    objects = lesson_objects(cluster.namespace)
    for body in objects:
        if body["kind"] == "Service":
            body["spec"]["loadBalancerClass"] = "nobody.example/serves"
    cluster.apply(*objects)
    shown = dashboard(cluster)
    assert "no load balancer gave an address; the node port of worker01 instead" in shown.panel.message.value
    shown.change("external", "Local")
    shown.traffic.once(5)
    assert {key[0] for key in shown.traffic.state.now.sources} == {"192.168.1.122"}
    assert compare(shown.traffic.state.now, shown.traffic.view).verdict == AS_EXPECTED
    assert shown.last_error is None and shown.traffic.error is None
    shown.close()
