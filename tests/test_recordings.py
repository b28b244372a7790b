"""The recordings that come with the package: the course passes on them where no lab can run.

A recording holds what a notebook asks and was answered; a lesson's words may change as they like. Where its requests
have changed, these tests fail and say what to type.
"""

import json
import lzma
import re
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from srcip_nb import begin, connect, machine
from srcip_nb.cli import main
from srcip_nb.errors import UsageError
from srcip_nb.picture import picture
from srcip_nb.recordings import SHIPPED, SUFFIX, mark, notebooks_of, shipped, show_as_recorded
from srcip_nb.run import PASSED, course
from srcip_nb.second_lab import end_second_labs
from srcip_nb.solutions import solved
from srcip_nb.tape import NotRecordedError
from srcip_nb.widgets import controls

NUMBERS = tuple(f"{number:02}" for number in range(10))
FILES = sorted(SHIPPED.glob(f"*/*{SUFFIX}"))
MARKS = {"en": "Recorded, not live", "ja": "記録の再生"}
LABS = {"lab-calico": "", "lab-flannel": " --cni flannel"}
LANG = {"lab-flannel": "ja"}


def anew(name: str, number: str = "") -> str:
    """What to type where a recording does not hold what the lessons ask today."""
    (book,) = [f" notebooks/en/{path.name}" for path in course("en") if path.stem[:2] == number] or [""]
    return f"make it anew: srcip-nb record srcip_nb/recordings/{name}{book}{LABS.get(name, ' --context CONTEXT')}"


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch):
    """No lab can be started, and what is shown afterwards is not marked."""
    monkeypatch.setenv("SRCIP_KERNEL", "none")
    yield
    show_as_recorded(None)
    begin("")


@pytest.fixture
def alone(monkeypatch):
    """Nobody can be connected to, no kernel does, and nobody waits for what happened long ago."""

    def nobody(*_):
        raise AssertionError("a recording connects to nobody")

    nothing = machine.kernel_table(dict.fromkeys(machine.KERNELS, machine.Trial({}, "there is none here")))
    monkeypatch.setattr(socket.socket, "connect", nobody)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(machine, "kernels", lambda: nothing)


def test_two_labs_are_there_at_least():
    assert set(LABS) <= set(shipped())
    for name in LABS:
        assert set(NUMBERS) <= set(notebooks_of(SHIPPED / name)), anew(name)
    assert sum(file.stat().st_size for file in FILES) < 3_000_000


OF_A_LABS_KERNELS = {("kubernetes-1.36", "06")}
"""Recordings of a real cluster where the exercises ask what only a lab's nodes tell: there is nothing to solve."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_a_recording_is_small_and_says_nothing_of_the_machine(file):
    assert file.stat().st_size < 500_000
    text = lzma.decompress(file.read_bytes()).decode()
    for private in (
        r"/home/",
        r"/root\b",
        r"/tmp/(?!nginx\.)",
        r"/work/",
        "BEGIN ",
        "Bearer",
        r"\beyJ",
        "PRIVATE",
        "kubeconfig",
    ):
        assert not re.search(private, text), private
    assert not re.search(r'\\"(machineID|systemUUID|bootID)\\":\s*\\"(?!scrubbed)\w', text)


class Played(NamedTuple):
    """What a notebook showed: the last cell's sum, what was printed, and (source, data, metadata) of each output."""

    summary: Any
    said: str
    shown: list[tuple[str, dict[str, str], dict[str, Any]]]


def play(book: Path, is_solved: bool = True) -> Played:
    """Execute a notebook's cells, its exercises solved or not, one after the other in an IPython in this process."""
    config = Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}})
    shell = InteractiveShell.instance(config=config)
    shell.display_formatter.active_types = shell.display_formatter.format_types  # as a notebook, not a terminal
    notebook = nbformat.read(book, 4)
    notebook = solved(notebook) if is_solved else notebook
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    said, shown, value = "", [], None
    try:
        for source in sources:
            results = []
            shell.displayhook.write_format_data = lambda data, about=None, to=results: to.append((data, about or {}))
            with capture_output() as got:
                done = shell.run_cell(source)
            done.raise_error()
            said, value = said + got.stdout, done.result
            rich = [(one.data, one.metadata or {}) for one in got.outputs]
            shown += [(source, data, about) for data, about in [*rich, *results]]
        return Played(value, said, shown)
    finally:
        end_second_labs()
        InteractiveShell.clear_instance()


def book_of(number: str, lang: str = "en") -> Path:
    """A notebook of the course by its number."""
    (book,) = [path for path in course(lang) if path.stem[:2] == number]
    return book


NOT_RECORDED = ("machine.kernels()", "machine.not_ok(", "quiz.", "growth", "tomorrow.rights")
"""In the cells whose tables are of this machine, the reader's own, or made of nothing that a cluster said."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_the_course_passes_on_a_recording_and_says_that_it_is_one(file, alone, monkeypatch):
    name, number = file.parent.name, file.name.removesuffix(SUFFIX)
    lang, is_of_a_labs_kernels = LANG.get(name, "en"), (name, number) in OF_A_LABS_KERNELS
    monkeypatch.setenv("SRCIP_LANG", lang)
    monkeypatch.setenv("SRCIP_REPLAY", name)
    try:
        summary, said, shown = play(book_of(number, lang), not is_of_a_labs_kernels)
    except NotRecordedError as error:
        pytest.fail(f"{name}, {number}: {error.cause}; {anew(name, number)}")
    assert summary.held and not summary.failed and not summary.open, summary
    assert any(MARKS[lang] in line and name in line for line in said.splitlines())
    marked = 0
    for source, data, about in shown:
        is_figure, is_table = "image/png" in data, 'class="dataframe"' in data.get("text/html", "")
        is_recorded = not any(word in source for word in NOT_RECORDED)
        marked += (is_figure or is_table) and is_recorded
        if is_figure:
            assert MARKS[lang] in about["image/png"]["alt"]
        if is_table:
            assert [MARKS[lang] in data[form] for form in ("text/html", "text/plain")] == [is_recorded] * 2, source
    assert marked >= (1 if number == "00" else 3 if is_of_a_labs_kernels else 5)


def test_a_notebook_runs_twice_in_a_row_on_its_recording(alone, monkeypatch):
    monkeypatch.setenv("SRCIP_REPLAY", "lab-calico")
    first, second = play(book_of("04")).summary, play(book_of("04")).summary
    assert first == second and first.held and not first.failed


@pytest.mark.timeout(200)
def test_jupyter_executes_a_notebook_on_a_recording(tmp_path):
    assert main(["run", "--replay", "lab-calico", "--out", str(tmp_path), str(book_of("03"))]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["verdict"] == PASSED and result["world"]["name"] == "recording 'lab-calico'", anew("lab-calico", "03")
    cells = nbformat.read(next(tmp_path.rglob("03*.ipynb")), 4).cells
    outputs = [out for cell in cells for out in cell.get("outputs", []) if "data" in out]
    alts = [out.metadata["image/png"]["alt"] for out in outputs if "image/png" in out.data]
    tables = [out.data["text/html"] for out in outputs if 'class="dataframe"' in out.data.get("text/html", "")]
    assert len(alts) >= 4 and len(tables) >= 10
    assert all(MARKS["en"] in words for words in [*alts, *tables])


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
    for policy in ("Local", "Cluster", "Local"):  # as often as one likes, wherever the notebook stands
        panel.policy.value = policy
        panel.button.click()
        assert panel.last_error is None and policy in panel.message.value, anew("lab-calico", "03")
    panel.requests.value = 7
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
