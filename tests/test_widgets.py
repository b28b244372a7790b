"""The panel: buttons are pressed and values set without a browser, on a cluster that answers by hand-made tables."""

import threading
from types import SimpleNamespace

import pandas as pd
import pytest

from srcip_nb.errors import ClusterError
from srcip_nb.widgets import MOST_REQUESTS, controls
from tests.lesson_frames import cluster_run, local_run


class FakeCluster:
    rest = SimpleNamespace(tape=None)

    def __init__(self):
        self.calls = []
        self.error = None

    def policy(self, value):
        self.calls.append(("policy", value))
        if self.error:
            raise self.error

    def nodes(self):
        return pd.DataFrame(index=["master01", "worker01", "worker02"])

    def visit(self, n, target=None, progress=True):
        self.calls.append(("visit", n, target, progress))
        return (cluster_run if self.calls[-2][1] == "Cluster" else local_run)(n)


@pytest.fixture(autouse=True)
def _reader_is_there(monkeypatch):
    monkeypatch.setenv("SRCIP_LANG", "en")
    for name in ("SRCIP_STATIC", "SRCIP_MARKER_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cluster():
    return FakeCluster()


def test_the_button_sets_the_policy_and_sends(cluster, capsys):
    panel = controls(cluster, 12)
    panel.policy.value = "Local"
    panel.requests.value = 6
    threads = threading.active_count()
    panel.button.click()
    assert cluster.calls == [("policy", "Local"), ("visit", 6, None, False)]
    assert panel.last_error is None
    assert panel.message.value == "Local: 6 of 6 answered, 6 with the client&#x27;s own address."
    assert "192.168.1.122" in panel.view.value
    assert 'alt="Bar chart, 6 requests.' in panel.view.value
    assert not panel.button.disabled
    assert threading.active_count() == threads
    assert capsys.readouterr().out == ""


def test_after_both_policies_they_stand_side_by_side(cluster):
    panel = controls(cluster)
    panel.button.click()
    assert panel.view.value.count("<figure ") == 1
    panel.policy.value = "Local"
    panel.button.click()
    assert panel.view.value.count("<figure ") == 2
    assert list(panel.table().columns[2:]) == ["Cluster", "Local"]


def test_the_figure_is_of_the_last_run_and_shows_idle_nodes_too(cluster):
    panel = controls(cluster)
    for policy in ("Cluster", "Local", "Cluster"):
        panel.policy.value = policy
        panel.button.click()
    assert "master01: 0; worker01: 8 (webserver-68c554c9f6-nlhk2 8); worker02: 12" in panel.pictures()[0].alt


def test_an_error_is_shown_with_its_remedy_and_kept(cluster):
    panel = controls(cluster)
    cluster.error = ClusterError("the API <server> does not answer", "Start the lab again: connect()")
    panel.button.click()
    assert panel.last_error is cluster.error
    assert "the API &lt;server&gt; does not answer" in panel.message.value
    assert "Start the lab again" in panel.message.value
    assert not panel.button.disabled
    cluster.error = None
    panel.button.click()
    assert panel.last_error is None
    assert "20 of 20 answered" in panel.message.value


def test_an_error_of_no_kind_we_know_is_shown_too(cluster):
    panel = controls(cluster)
    cluster.error = ZeroDivisionError("division by zero")
    panel.button.click()
    assert panel.last_error is cluster.error
    assert "ZeroDivisionError: division by zero" in panel.message.value


def test_every_control_has_a_label_and_bounds(cluster):
    panel = controls(cluster)
    for control in (panel.policy, panel.requests, panel.button):
        assert control.description
    panel.requests.value = 10**6
    assert panel.requests.value == MOST_REQUESTS
    assert panel.policy.options == ("Cluster", "Local")


def test_another_target_is_passed_on(cluster):
    controls(cluster, 4, "Local", "nodeport").run()
    assert cluster.calls[-1] == ("visit", 4, "nodeport", False)


@pytest.mark.parametrize("name", ["SRCIP_STATIC", "SRCIP_MARKER_DIR"])
def test_without_a_reader_the_same_run_is_shown_as_table_and_figure(cluster, monkeypatch, name, tmp_path):
    monkeypatch.setenv(name, "1" if name == "SRCIP_STATIC" else str(tmp_path))
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    panel = controls(cluster, 5, "Local")
    panel._ipython_display_()
    assert cluster.calls == [("policy", "Local"), ("visit", 5, None, False)]
    assert all(one is not panel.box for one in shown)
    kinds = [type(one).__name__ for one in shown]
    assert kinds == ["Markdown", "DataFrame", "Image", "Markdown"]


def test_with_a_reader_the_panel_is_shown_and_nothing_sent(cluster, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    panel = controls(cluster)
    panel._ipython_display_()
    assert shown == [panel.box]
    assert cluster.calls == []


def test_the_panel_speaks_japanese(cluster, monkeypatch):
    monkeypatch.setenv("SRCIP_LANG", "ja")
    panel = controls(cluster)
    assert panel.policy.description == "ポリシー"
    panel.button.click()
    assert "20件中20件に応答" in panel.message.value
