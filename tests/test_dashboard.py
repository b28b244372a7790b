"""The dashboard's plain functions, from a hand-made cluster to texts; its controls and threads, without a browser."""

import re
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from srcip_nb import dashboard_traffic, dashboard_world
from srcip_nb.addresses import Entry, book_of
from srcip_nb.dashboard import Dashboard, Trouble
from srcip_nb.dashboard_expected import (
    AS_EXPECTED,
    DIFFERS,
    NOT_ALL_SEEN,
    NOT_KNOWN,
    NOTHING_SEEN,
    compare,
    start_of,
)
from srcip_nb.dashboard_picture import picture
from srcip_nb.dashboard_state import Line, Sent, Setting, State
from srcip_nb.dashboard_tables import LINES, before_and_after, expected_and_observed, log, reason
from srcip_nb.dashboard_traffic import Traffic, lines_of, shown_lines
from srcip_nb.dashboard_way import last_way
from srcip_nb.dashboard_world import Node, Pod, View
from srcip_nb.errors import LabError, UsageError
from srcip_nb.logs_query import Container
from srcip_nb.text import t, words

VIP, CLIENT = "192.168.1.56", "192.168.1.122"
NODES = {"master01": "192.168.1.41", "worker01": "192.168.1.45", "worker02": "192.168.1.46"}
PODS = (Pod("web-abc-one", "10.0.5.8", "worker01", "ready"), Pod("web-abc-two", "10.0.30.88", "worker02", "ready"))
BOOK = book_of(
    [
        *(Entry(address, "node", name, name, "InternalIP") for name, address in NODES.items()),
        Entry("10.0.5.0", "pod-network", "worker01", "worker01", "tunnel"),
        *(Entry(pod.address, "pod", pod.name, pod.node, "pod") for pod in PODS),
        Entry(VIP, "load-balancer", "seminar/webserver", "", "vip"),
        Entry(CLIENT, "client", "client", "", "client"),
    ]
)
VIEW = View(
    world="lab 'test'",
    nodes=tuple(Node(name, address, True) for name, address in NODES.items()),
    pods=PODS,
    clients=(("client", CLIENT),),
    vip=VIP,
    announcers=("worker01",),
    targets={"LoadBalancer": f"{VIP}:80", "NodePort": "192.168.1.45:30080", "ClusterIP": "10.1.0.9:80"},
    node_port_at="worker01",
    book=BOOK,
    owners={row.address: (str(row.kind), row.node) for row in BOOK.itertuples()},
    info={"workers": 2, "clients": 1, "cni": "calico", "proxy_mode": "iptables", "announce": "l2", "name": "test"},
)
CLUSTER = {0: (PODS[0], "192.168.1.45"), 1: (PODS[1], "10.0.5.0")}


@pytest.fixture(autouse=True)
def _english(monkeypatch):
    monkeypatch.setenv("SRCIP_LANG", "en")
    for name in ("SRCIP_STATIC", "SRCIP_MARKER_DIR"):
        monkeypatch.delenv(name, raising=False)


def seen(state: State, answers: dict[int, tuple[Pod, str]], at: int = 10, *, client: str = "client") -> State:
    target, number = VIEW.targets[state.now.setting.target], state.now.number
    for request, (pod, source) in answers.items():
        state.sent([Sent(number, request, at + request, at + request + 1, client, CLIENT, target, 200, "")])
        state.logged([Line(request, pod.name, pod.node, source, *VIEW.owner(source))])
    return state


def flipped() -> State:
    state = seen(State(Setting()), CLUSTER)
    state.in_force(replace(state.now.setting, external="Local"), 1000)
    return seen(state, {2: (PODS[0], CLIENT)}, 2000)


# -- pictures and tables -----------------------------------------------------------------------------------------------


def texts_of(svg: str) -> list[str]:
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("text")]


def test_the_picture_shows_where_snat_happened():
    svg = picture(VIEW, seen(State(Setting()), CLUSTER).now)
    shown = texts_of(svg)
    for words_shown in ("▶ client", CLIENT, f"announces VIP {VIP}", "SNAT → 10.0.5.0", "DNAT → 10.0.30.88"):
        assert words_shown in shown
    assert "sees 10.0.5.0" in shown and "no SNAT" not in shown
    root = ElementTree.fromstring(svg)
    said = root.find("desc").text
    assert said == root.get("aria-label")
    assert f"client {CLIENT} → worker01 → web-abc-two" in said and "SNAT: 192.168.1.122 becomes 10.0.5.0" in said


def test_the_picture_shows_that_there_was_none():
    shown = texts_of(picture(VIEW, flipped().now))
    assert "no SNAT" in shown and f"sees {CLIENT}" in shown


def test_the_picture_shows_a_request_that_was_lost():
    state = State(Setting(external="Local"))
    state.sent([Sent(1, 0, 10, 20, "client", "", f"{VIP}:80", None, "timeout")])
    shown = texts_of(picture(VIEW, state.now))
    assert "✗ timeout" in shown and not any(one.startswith("sees") for one in shown)


def test_a_request_that_starts_in_a_pod_meets_its_own_nodes_rules():
    state = State(Setting(start="pod", target="ClusterIP"))
    target = VIEW.targets["ClusterIP"]
    state.sent([Sent(1, 0, 10, 20, PODS[0].name, "10.0.5.8", target, 200, "")])
    state.logged([Line(0, PODS[1].name, "worker02", "10.0.5.8", "pod", "worker01")])
    path = last_way(state.now, VIEW)
    assert (path.entry, path.node, path.is_changed) == ("worker01", "worker02", False)
    assert "no SNAT" in texts_of(picture(VIEW, state.now))


def test_many_nodes_and_pods_keep_the_picture_in_its_frame():
    nodes = tuple(Node(f"worker{n:02}", f"192.168.1.{n + 60}", True) for n in range(1, 21))
    pods = tuple(Pod(f"web-abc-{n:05}", f"10.0.5.{n}", f"worker{n % 3 + 1:02}", "ready") for n in range(40))
    view = replace(VIEW, nodes=nodes, pods=pods, clients=(("client", CLIENT),) * 9)
    svg = picture(view, flipped().now)
    assert len(svg) < 40_000
    assert "16 more nodes are not drawn" in texts_of(svg)
    for rect in ElementTree.fromstring(svg).iter("rect"):
        x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + width <= 720 and y + height <= 331


def test_the_before_stands_beside_the_after():
    text = before_and_after(flipped(), VIEW)
    assert "externalTrafficPolicy: Cluster → Local" in text
    assert "before (Cluster)" in text and "now (Local)" in text
    rows = [[cell for cell in re.split("<[^>]+>", row) if cell] for row in re.findall("<tr>(.*?)</tr>", text)]
    numbers = {row[0]: row[-2:] for row in rows}
    assert numbers[CLIENT] == ["0", "1"] and numbers["10.0.5.0"] == ["1", "0"]
    assert numbers["worker01"] == ["1", "1"] and numbers["worker02"] == ["1", "0"]
    assert "1 with the client&#x27;s own address" in text


def test_the_log_is_capped_and_escaped():
    state = State(Setting())
    state.lines.extend(("web-1", "worker01", "nginx", f"10.0.5.0 - <b>{n}</b> " + "x" * 500) for n in range(50))
    text = log(state)
    shown = text[text.index("<pre") :].split("\n")
    assert len(shown) == LINES and len(text) < 6000
    assert "web-1</span> nginx <b>10.0.5.0</b>" in shown[-1] and "&lt;b&gt;49" in shown[-1] and "…" in shown[-1]


# -- expected and observed ---------------------------------------------------------------------------------------------


def test_what_is_expected_stands_beside_what_was_seen():
    assert compare(State(Setting()).now, VIEW).verdict == NOTHING_SEEN
    state = seen(State(Setting()), {0: CLUSTER[0]})
    assert compare(state.now, VIEW).verdict == NOT_ALL_SEEN
    found = compare(seen(state, {1: CLUSTER[1]}).now, VIEW)
    assert found.verdict == AS_EXPECTED
    assert found.rows == (("web-abc-one", "192.168.1.45", "192.168.1.45"), ("web-abc-two", "10.0.5.0", "10.0.5.0"))
    assert "✓ as expected" in expected_and_observed(found, VIEW)
    assert "the source is masqueraded" in reason(found)


def test_what_differs_is_said():
    state = seen(State(Setting(external="Local")), {0: (PODS[0], "192.168.1.45")})
    found = compare(state.now, VIEW)
    assert found.verdict == DIFFERS and "saw 192.168.1.45, not the client's own" in found.words
    assert "✗ differs" in expected_and_observed(found, VIEW)


def test_a_pod_that_should_not_answer_is_said():
    state = seen(State(Setting(external="Local")), {0: (PODS[1], CLIENT)})
    found = compare(state.now, VIEW)
    assert found.verdict == DIFFERS
    assert ("web-abc-two", "", CLIENT) in found.rows


def test_a_client_that_stays_with_one_pod_is_expected_under_affinity():
    state = seen(State(Setting(affinity="ClientIP")), {0: CLUSTER[0]})
    assert compare(state.now, VIEW).verdict == AS_EXPECTED


def test_without_pods_a_refusal_is_expected():
    found = compare(State(Setting(replicas=0)).now, replace(VIEW, pods=()))
    assert found.expected.outcome == "refused"
    assert "Expected: refused." in expected_and_observed(found, VIEW)


def test_a_mode_that_the_oracle_does_not_know_is_said():
    found = compare(State(Setting(mode="userspace")).now, VIEW)
    assert found.verdict == NOT_KNOWN and "userspace" in found.words


def test_requests_start_where_the_first_pod_is():
    assert start_of(Setting(start="node"), VIEW) == ("worker01", "worker01")
    assert start_of(Setting(start="pod"), VIEW) == ("web-abc-one", "worker01")
    with pytest.raises(UsageError, match="no pod is ready"):
        start_of(Setting(start="pod"), replace(VIEW, pods=()))


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_every_word_that_is_put_together_exists(lang):
    keys = {*(f"dash.{name}" for name in ("mode", "replicas", "clients", "start", "target", "rate"))}
    keys |= {f"dash.verdict.{name}" for name in ("as", "differs", "some", "unknown", "nothing")}
    keys |= {f"dash.outcome.{name}" for name in ("answered", "refused", "dropped", "unreachable")}
    keys |= {f"dash.start.{name}" for name in ("client", "node", "pod")}
    keys |= {f"dash.not.{name}" for name in dashboard_world.LAB_ONLY} | {"dash.terminating", "dash.unusable"}
    assert keys <= set(words(lang))


def test_followed_lines_become_rows_and_stern_lines():
    one = Container("web-abc-one", "worker01", "seminar", "nginx", "uid", "deployment/web", 0, True, True)
    line = '{} - - [22/Nov/2026:19:39:09 +0000] "GET /?run={}&request={} HTTP/1.1" 200 292 "-" "srcip-nb" "-"\n'
    data = "".join(
        f"2026-11-22T19:39:09.{number}Z " + line.format(CLIENT, run, number)
        for number, run in enumerate(["8f1c02d4", "00000000"])
    ).encode()
    assert lines_of([(one, 0, data)], "8f1c02d4", VIEW) == [Line(0, "web-abc-one", "worker01", CLIENT, "client", "")]
    assert [shown[:3] for shown in shown_lines([(one, 0, data)])] == [("web-abc-one", "worker01", "nginx")] * 2
    assert shown_lines([(one, 0, data)])[0][3].startswith(f"{CLIENT} - - [22/Nov")
    assert lines_of([], "8f1c02d4", VIEW) == []


# -- the panel ---------------------------------------------------------------------------------------------------------


class FakeCluster:
    lab = object()
    namespace = "seminar"
    world = "lab 'test'"


@pytest.fixture
def made(monkeypatch):
    """A dashboard whose cluster changes by word only; ``asked`` is what it was asked."""
    asked = []

    def change(cluster, name, value):
        asked.append((name, value))
        if value == "ClientIP":
            raise LabError("the API <lab> does not answer", "Start it again: srcip-nb lab up")
        return "seen by nobody"

    monkeypatch.setattr(dashboard_world, "look", lambda cluster: VIEW)
    monkeypatch.setattr(dashboard_traffic, "look", lambda cluster: VIEW)
    monkeypatch.setattr(dashboard_world, "read_setting", lambda cluster, view, last: last)
    monkeypatch.setattr(dashboard_traffic, "read_setting", lambda cluster, view, last: last)
    monkeypatch.setattr(dashboard_world, "change", change)
    shown = Dashboard(FakeCluster())
    shown.asked = asked
    yield shown
    shown.close()


def settle(made, condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_control_changes_the_cluster_without_blocking(made):
    made.panel.controls["external"].value = "Local"
    settle(made, lambda: made._worker is None and made.setting.external == "Local")
    assert made.asked == [("external", "Local")]
    assert "externalTrafficPolicy: Cluster → Local. seen by nobody" in made.panel.message.value
    assert "externalTrafficPolicy Local" in made.panel.texts["status"].value
    assert made.last_error is None


def test_an_error_is_shown_with_its_remedy_and_the_control_goes_back(made):
    made.panel.controls["affinity"].value = "ClientIP"
    settle(made, lambda: made._worker is None and made.last_error is not None)
    assert 'role="alert"' in made.panel.message.value
    assert "the API &lt;lab&gt; does not answer" in made.panel.message.value
    assert "Start it again: srcip-nb lab up" in made.panel.message.value
    assert made.panel.controls["affinity"].value == made.setting.affinity == "None"
    assert made.asked == [("affinity", "ClientIP")]
    assert not made.traffic.state.is_changing


def test_the_rate_begins_no_new_period(made):
    made.change("rate", 50)
    assert made.setting.rate == 50 and made.traffic.state.now.number == 1 and made.asked == []


def test_another_pod_network_means_another_lab_and_its_end(made, monkeypatch):
    ended = []
    new = FakeCluster()
    new.world = "lab 'other'"
    monkeypatch.setattr(dashboard_world, "new_lab", lambda view, setting, namespace: new)
    monkeypatch.setattr(dashboard_world, "end_lab", ended.append)
    made.change("cni", "flannel")
    assert made.cluster is new and made.setting.cni == "flannel" and ended == []
    assert "goes on, for other notebooks may use it" in made.panel.message.value
    made.close()
    assert ended == [new]


def test_every_control_has_a_label_and_none_grows_the_page(made):
    import ipywidgets

    before = len(ipywidgets.widgets.widget._instances)
    for control in made.panel.controls.values():
        assert control.description.strip(": ") and control.tooltip
    for _ in range(50):
        made.render()
        made.change("external", "Local" if made.setting.external == "Cluster" else "Cluster")
    assert len(ipywidgets.widgets.widget._instances) == before
    assert sum(len(one.value) for one in made.panel.texts.values()) < 40_000


def test_controls_that_a_cluster_does_not_have_are_off_and_say_why(made):
    from srcip_nb.dashboard_controls import Panel

    reasons = {name: t(f"dash.not.{name}") for name in dashboard_world.LAB_ONLY}
    panel = Panel(Setting(mode="", cni=""), reasons, lambda *_: None, lambda: None, lambda: None)
    off = {name for name, control in panel.controls.items() if control.disabled}
    assert off == set(dashboard_world.LAB_ONLY)
    assert panel.controls["mode"].value is None
    assert any("Proxy mode: a running cluster" in getattr(one, "value", "") for one in panel.box.children)
    panel.show(Setting(mode="", cni="", external="Local"))
    assert panel.controls["external"].value == "Local"
    panel.close()
    panel.close()


def test_a_real_clusters_controls():
    class Real:
        lab = None

    assert set(dashboard_world.why_not(Real())) == {"mode", "cni", "clients", "start"}
    assert dashboard_world.why_not(FakeCluster()) == {}


def test_what_ends_the_sending_is_shown(made, monkeypatch):
    def fail(*_args, **_options):
        raise UsageError("the cluster is gone", "connect()")

    made.cluster.follow = fail
    monkeypatch.setattr(dashboard_traffic, "list_clients", fail)
    made.panel.send.click()
    settle(made, lambda: made.last_error is not None)
    assert "the cluster is gone" in made.panel.message.value
    assert not made.traffic.is_sending
    made.panel.stop.click()
    assert not [one for one in threading.enumerate() if one.name.startswith("srcip-nb dashboard")]


def test_closing_twice_and_after_errors(made):
    made.close()
    made.close()
    assert made.panel.box.comm is None


def test_no_cluster_at_all_is_told_in_the_panel():
    text = Trouble(LabError("no lab can run here", "sudo modprobe veth"))._repr_html_()
    assert "no lab can run here" in text and "sudo modprobe veth" in text and 'role="alert"' in text


def test_traffic_that_never_started_can_be_stopped():
    traffic = Traffic(FakeCluster(), State(Setting()), VIEW, lambda: None)
    traffic.stop()
    assert not traffic.is_sending
