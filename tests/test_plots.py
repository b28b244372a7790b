"""Figures say what the one table says: in the picture, in its alternative text, and in the table beside it."""

import subprocess
import sys

import matplotlib
import pandas as pd
import pytest

from srcip_nb import plots
from srcip_nb.errors import UsageError
from srcip_nb.path_figure import path_of_request
from srcip_nb.picture import COLOURS, node_style
from tests.lesson_frames import CK6H2, CLIENT, NLHK2, W2, cluster_run, frame, local_run, timeout_run

BOOK = pd.DataFrame(
    [
        ("192.168.1.45", "node", "worker01", "worker01", ""),
        ("192.168.1.46", "node", "worker02", "worker02", ""),
        ("10.0.5.0", "pod-network", "worker01", "worker01", ""),
        ("10.0.5.8", "pod", NLHK2, "worker01", ""),
        ("10.0.30.88", "pod", CK6H2, "worker02", ""),
        ("192.168.1.56", "load-balancer", "seminar/webserver", "", ""),
    ],
    columns=["address", "kind", "owner", "node", "reason"],
)


@pytest.fixture(autouse=True, params=["en", "ja"])
def lang(request, monkeypatch):
    """Every test in both languages; a glyph that no font has is a warning, and so an error."""
    monkeypatch.setenv("SRCIP_LANG", request.param)
    return request.param


def test_requests_per_node_counts_pods_silent_nodes_and_errors(lang):
    table = plots.requests_per_node_table(pd.concat([cluster_run(), timeout_run()]), ["master01", "worker01"])
    timeout = {"en": "no answer: timeout", "ja": "応答なし: timeout"}[lang]
    assert table.to_numpy().tolist() == [
        ["master01", "", 0],
        ["worker01", NLHK2, 8],
        ["worker02", CK6H2, 12],
        [timeout, "", 3],
    ]


def test_requests_per_node_says_its_counts_to_who_cannot_see_it():
    picture = plots.requests_per_node(pd.concat([local_run(), timeout_run()]), ["worker01", "worker02"])
    assert f"worker01: 20 ({NLHK2} 20)" in picture.alt
    assert "worker02: 0" in picture.alt
    assert "timeout: 3" in picture.alt
    labels = [text.get_text() for text in picture.figure.axes[0].texts]
    assert labels == ["20", "…nlhk2", "0", "3"]


def test_a_pod_with_a_sliver_of_the_requests_is_not_labelled():
    few = frame("Cluster", [W2] * 2 + [("webserver-68c554c9f6-zzzzz", *W2[1:])] * 98)
    labels = [text.get_text() for text in plots.requests_per_node(few).figure.axes[0].texts]
    assert "…zzzzz" in labels and "…ck6h2" not in labels


def test_no_requests_at_all_can_be_drawn():
    assert plots.requests_per_node(frame("Local", [])).png.startswith(b"\x89PNG")


def test_source_addresses_before_and_after():
    table = plots.source_addresses_table(cluster_run(), local_run())
    assert list(table.columns[2:]) == ["Cluster", "Local"]
    assert table.iloc[:, [0, 2, 3]].to_numpy().tolist() == [
        [CLIENT, 0, 20],
        ["10.0.5.0", 12, 0],
        ["192.168.1.45", 8, 0],
    ]
    picture = plots.source_addresses(cluster_run(), local_run())
    for words in ("10.0.5.0", "192.168.1.45", CLIENT):
        assert words in picture.alt
    left, right = picture.figure.axes
    assert [text.get_text() for text in left.texts] == ["0", "12", "8"]
    assert [text.get_text() for text in right.texts] == ["20", "0", "0"]


def test_two_runs_under_one_policy_are_told_apart():
    assert list(plots.source_addresses_table(local_run(3), local_run(4)).columns[2:]) == ["1: Local", "2: Local"]


def test_unanswered_requests_are_a_row_of_their_own():
    table = plots.source_addresses_table(timeout_run(), cluster_run(4))
    assert table.iloc[-1, 2:].tolist() == [3, 0]


def test_a_node_has_one_colour_and_hatch_in_all_figures():
    assert node_style("worker01") == node_style("worker01")
    styles = [tuple(node_style(f"worker{n:02d}").values()) for n in range(1, 43)]
    assert len(set(styles)) == 42
    assert node_style("worker01")["facecolor"] == COLOURS[0]


def test_nothing_of_matplotlib_is_changed_and_pyplot_stays_out():
    code = (
        "import sys; from matplotlib import rcParams\n"
        "names = [name for name in rcParams if name != 'backend']; before = [rcParams[name] for name in names]\n"
        "from tests.lesson_frames import *; from srcip_nb import plots\n"
        "plots.requests_per_node(cluster_run()); plots.request_path(cluster_run())\n"
        "assert [rcParams[name] for name in names] == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'matplotlib_fontja' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_small_enough_and_large_enough_to_read():
    figure = plots.source_addresses(cluster_run(), local_run()).figure
    assert figure.dpi <= 110
    texts = [text for axes in figure.axes for text in axes.texts + axes.get_xticklabels() + axes.get_yticklabels()]
    assert min(text.get_fontsize() for text in texts) >= 11
    assert matplotlib.rcParams["font.size"] != 11


# -- the path of one request -------------------------------------------------------------------------------------------


def test_path_through_the_tunnel():
    path = path_of_request(cluster_run(), 3, BOOK)
    assert (path.entry, path.entry_reason, path.by) == ("worker01", "path.why.source", "path.tunnel")
    assert (path.client_ip, path.target, path.source_ip, path.pod_ip) == (
        CLIENT,
        "192.168.1.56:80",
        "10.0.5.0",
        "10.0.30.88",
    )
    assert path.is_changed and path.is_concluded


def test_path_inside_the_entry_node():
    path = path_of_request(cluster_run(), 0, BOOK)
    assert (path.entry, path.node, path.by) == ("worker01", "worker01", "path.inside")


def test_path_under_local_keeps_the_source():
    path = path_of_request(local_run(), 0, BOOK)
    assert (path.entry, path.entry_reason, path.is_changed) == ("worker01", "path.why.local", False)
    assert "SNAT" in plots.request_path(local_run(), 0, BOOK).alt


def test_what_the_load_balancer_says_goes_before_what_is_concluded():
    run = local_run()
    run.attrs = {"announcer": "worker01", "vip": "192.168.1.56", "target": "192.168.1.56:80"}
    path = path_of_request(run, 0, BOOK)
    assert (path.entry_reason, path.is_concluded) == ("path.why.announced", False)


def test_path_of_a_lost_request_claims_nothing():
    path = path_of_request(timeout_run(), 0, BOOK)
    assert (path.entry, path.entry_reason, path.pod, path.by) == ("worker02", "path.why.target", "", "")
    assert "timeout" in plots.request_path(timeout_run(), 0, BOOK).alt
    without_book = path_of_request(timeout_run(), 0)
    assert (without_book.entry, without_book.entry_reason) == ("", "")


def test_a_kept_source_under_cluster_does_not_name_an_entry_node():
    """As eBPF data planes have it: nobody can tell from the log which node it came in by."""
    kept = frame("Cluster", [(CK6H2, "worker02", CLIENT, "client", None)])
    assert path_of_request(kept, 0, BOOK).entry == ""
    assert plots.request_path(kept, 0, BOOK).png.startswith(b"\x89PNG")


def test_path_table_has_a_row_a_leg():
    table = plots.request_path_table(cluster_run(), 3, BOOK)
    assert table.shape == (2, 6)
    assert "10.0.5.0" in table.iloc[1].tolist()


def test_a_request_that_is_not_there():
    with pytest.raises(UsageError, match="no request 99"):
        plots.request_path(cluster_run(), 99)


def test_a_picture_is_displayed_with_alt_text_and_caption(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    picture = plots.requests_per_node(cluster_run())
    picture._ipython_display_()
    image, caption = shown
    _, metadata = image._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == picture.alt
    assert picture.caption in caption.data
