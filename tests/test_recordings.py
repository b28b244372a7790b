"""The recordings that come with the package: the course's first notebooks pass on them where no lab can run."""

import gzip
import re

import nbformat
import pytest

from srcip_nb import begin, connect
from srcip_nb.errors import UsageError
from srcip_nb.picture import picture
from srcip_nb.recordings import SHIPPED, mark, notebooks_of, shipped, show_as_recorded
from srcip_nb.run import PASSED, course, run
from srcip_nb.tape import NotRecordedError
from srcip_nb.widgets import controls

NUMBERS = ("01", "02", "03")
FILES = sorted(SHIPPED.glob("*/*.jsonl.gz"))
MARKS = {"en": "Recorded, not live", "ja": "記録の再生"}


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch):
    """No lab can be started, and what is shown afterwards is not marked."""
    monkeypatch.setenv("SRCIP_KERNEL", "none")
    yield
    show_as_recorded(None)
    begin("")


def test_two_labs_are_there_at_least():
    assert {"lab-calico", "lab-flannel"} <= set(shipped())
    for name in ("lab-calico", "lab-flannel"):
        assert set(NUMBERS) <= set(notebooks_of(SHIPPED / name)), name


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_a_recording_is_small_and_says_nothing_of_the_machine(file):
    assert file.stat().st_size < 500_000
    text = gzip.decompress(file.read_bytes()).decode()
    for private in (r"/home/", r"/root\b", r"/tmp/", r"/work/", "BEGIN ", "Bearer", r"\beyJ", "PRIVATE", "kubeconfig"):
        assert not re.search(private, text), private
    assert not re.search(r'\\"(machineID|systemUUID|bootID)\\":\s*\\"(?!scrubbed)\w', text)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("lang, replay", [("en", "lab-calico"), ("ja", "lab-flannel")])
def test_the_course_passes_on_a_recording_and_says_that_it_is_one(lang, replay, tmp_path):
    books = [path for path in course(lang) if path.stem[:2] in NUMBERS]
    results = run(books, out=tmp_path, replay=replay)
    assert [one.verdict for one in results] == [PASSED] * 3, [one.reason for one in results]
    figures = tables = 0
    for result in results:
        outputs = [out for cell in nbformat.read(result.output, 4).cells for out in cell.get("outputs", [])]
        first = next(out.text for out in outputs if out.output_type == "stream")
        assert first.startswith(MARKS[lang]) and replay in first
        for out in outputs:
            data = out.get("data", {})
            if "image/png" in data:
                figures += 1
                assert MARKS[lang] in out.metadata["image/png"]["alt"]
            if 'class="dataframe"' in data.get("text/html", ""):
                tables += 1
                assert MARKS[lang] in data["text/html"] and MARKS[lang] in data["text/plain"]
    assert figures >= 7 and tables >= 20


def test_every_road_of_one_run_is_told_again():
    begin("01")
    cluster = connect(replay="lab-calico", quiet=True)
    assert list(cluster.nodes().index) == ["master01", "worker01", "worker02"]
    with pytest.raises(NotRecordedError, match="only what was recorded"):
        cluster.scale(5)
    with pytest.raises(NotRecordedError):
        cluster.visit(7, progress=False)


def test_the_panel_says_so_and_refuses_what_is_not_there():
    begin("03")
    panel = controls(connect(replay="lab-calico", quiet=True))
    assert "recording" in panel.message.value
    panel.button.click()
    assert isinstance(panel.last_error, NotRecordedError)


def test_figures_are_marked_while_a_recording_is_open_and_no_longer():
    def nothing(figure):
        figure.add_subplot()

    begin("02")
    connect(replay="lab-flannel", quiet=True)
    shown = picture(nothing, (4, 2), "alt", "caption")
    assert mark() in shown.alt and mark() in shown.caption
    assert [text.get_text() for text in shown.figure.texts] == [mark()]
    show_as_recorded(None)
    live = picture(nothing, (4, 2), "alt", "caption")
    assert (live.alt, live.caption, live.figure.texts) == ("alt", "caption", [])


def test_wrong_names_are_told_with_the_right_ones():
    begin("99")
    with pytest.raises(UsageError, match="lab-calico, lab-flannel"):
        connect(replay="lab-nowhere")
    with pytest.raises(UsageError, match=r"01, 02, 03.*notebook 99"):
        connect(replay="lab-calico")
    with pytest.raises(UsageError, match="several"):
        connect("a-context", replay="lab-calico")


def test_the_environment_names_one_for_all_notebooks(monkeypatch, capsys):
    monkeypatch.setenv("SRCIP_REPLAY", "lab-flannel")
    begin("01")
    cluster = connect()
    assert capsys.readouterr().out.startswith(MARKS["en"])
    assert str(cluster.world) == "recording 'lab-flannel'" and cluster.lab is not None
