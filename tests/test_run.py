"""The verdict on a notebook, and the reports made of it."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest

from srcip_nb import run as course
from srcip_nb.errors import UsageError
from srcip_nb.permissions import MissingPermissionError
from srcip_nb.run import FAILED, NOT_FINISHED, PASSED, Verdict, judge, junit, verdict_table


@pytest.fixture(autouse=True)
def _a_cluster_answers(monkeypatch):
    """The trial notebooks need none, but a run looks first whether there is one."""
    monkeypatch.setattr(course, "connect", lambda context, quiet: None)
    monkeypatch.setattr(course, "require_feature", lambda cluster, *features: None)


def test_only_a_notebook_at_its_end_with_all_checks_held_has_passed():
    assert judge("", {"failed": []}) == (PASSED, "")
    assert judge("", {"failed": ["the source was kept"]}) == (FAILED, "the source was kept")
    assert judge("", None) == (NOT_FINISHED, "it did not reach its last cell")
    assert judge("cell 3: boom", {"failed": []}) == (NOT_FINISHED, "cell 3: boom")


VERDICTS = [
    Verdict("en/01-environment.ipynb", 3.25, PASSED, "", Path("out/en/01-environment.ipynb")),
    Verdict("en/02-cluster.ipynb", 10.0, FAILED, "the source was lost", Path("out/en/02-cluster.ipynb")),
    Verdict("en/03-local.ipynb", 1.0, NOT_FINISHED, "DeadKernelError: Kernel died", Path("out/en/03-local.ipynb")),
]


def test_the_table_reads_as_lines():
    assert verdict_table(VERDICTS) == (
        "notebook                 seconds  verdict\n"
        "en/01-environment.ipynb      3.2  passed\n"
        "en/02-cluster.ipynb         10.0  failed: the source was lost\n"
        "en/03-local.ipynb            1.0  not finished: DeadKernelError: Kernel died"
    )


def test_junit_tells_failures_from_errors():
    suite = ElementTree.fromstring(junit(VERDICTS))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert [len(case) for case in suite] == [0, 1, 1]


def notebook(tmp_path: Path, *sources: str) -> Path:
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(s, metadata={"tags": ["parameters"]} if n == 0 else {})
            for n, s in enumerate(sources)
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    path = tmp_path / "en" / "99-trial.ipynb"
    path.parent.mkdir()
    nbformat.write(book, path)
    return path


@pytest.mark.parametrize(
    ("last", "verdict", "reason"),
    [
        ("from srcip_nb.notebook import done; done('99')", PASSED, ""),
        ("1 / 0", NOT_FINISHED, "ZeroDivisionError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", NOT_FINISHED, "DeadKernelError"),
        ("pass", NOT_FINISHED, "last cell"),
    ],
)
def test_what_a_notebook_does_is_what_is_reported(tmp_path, last, verdict, reason):
    path = notebook(tmp_path, "context: str = ''", last)
    (result,) = course.run([path], context="nowhere", out=tmp_path / "out")
    assert result.verdict == verdict
    assert reason in result.reason
    assert result.output.exists()


def test_an_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    path = notebook(tmp_path, "context: str = ''")
    with pytest.raises(UsageError, match="no parameter 'speed'"):
        course.run([path], context="nowhere", parameters={"speed": "Local"}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(UsageError, match="nine"):
        course.run([tmp_path / "nine.ipynb"], context="nowhere")


def test_progress_is_a_line_for_each_notebook_and_nothing_of_the_kernel(tmp_path, capfd):
    path = notebook(tmp_path, "context: str = ''", "from srcip_nb.notebook import done; done('99')")
    course.run([path], context="nowhere", out=tmp_path / "out", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r" ✓ en/99-trial\.ipynb \([\d.]+ s\)\n", err)


def test_namespace_and_image_reach_every_notebook_without_a_parameter(tmp_path):
    source = (
        "import os; from pathlib import Path; from srcip_nb.notebook import done; done('99')\n"
        "names = ('SRCIP_NAMESPACE', 'SRCIP_IMAGE', 'SRCIP_RUN')\n"
        "Path('seen').write_text(' '.join(os.environ.get(name, '-') for name in names))"
    )
    path = notebook(tmp_path, "context: str = ''", source)
    settings = {"namespace": "seminar-07", "image": "registry.example/nginx:1.27"}
    (result,) = course.run([path], context="nowhere", parameters=settings, out=tmp_path / "out")
    assert result.verdict == PASSED
    seen = (path.parent / "seen").read_text()
    assert re.fullmatch(r"seminar-07 registry\.example/nginx:1\.27 [0-9a-f]{8}", seen)
    assert "SRCIP_NAMESPACE" not in os.environ


def test_each_language_has_new_labs_since_its_first_notebooks_create_what_they_speak_of(tmp_path, monkeypatch):
    happened = []

    def start(stack, progress):
        name = f"lab-{sum('begins' in one for one in happened)}"
        happened.append(f"{name} begins")
        stack.callback(happened.append, f"{name} ends")
        return name

    def execute(path, values, out, world, progress):
        happened.append(f"{path.parent.name}/{path.name} in {world['SRCIP_LAB']}")
        return Verdict(path.name, 0.0, PASSED, "", out)

    monkeypatch.setattr(course, "_start_lab", start)
    monkeypatch.setattr(course, "_execute", execute)
    paths = [tmp_path / name for name in ("en/01.ipynb", "en/02.ipynb", "ja/01.ipynb")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [one.notebook for one in course.run(paths, out=tmp_path / "out")] == ["01.ipynb", "02.ipynb", "01.ipynb"]
    assert happened == [
        *("lab-0 begins", "en/01.ipynb in lab-0", "en/02.ipynb in lab-0", "lab-0 ends"),
        *("lab-1 begins", "ja/01.ipynb in lab-1", "lab-1 ends"),
    ]


def test_a_missing_permission_ends_the_run_before_the_first_notebook(tmp_path, monkeypatch):
    def refuse(cluster, *features):
        raise MissingPermissionError("you may not create services", "srcip-nb rbac", [])

    monkeypatch.setattr(course, "require_feature", refuse)
    path = notebook(tmp_path, "context: str = ''", "1 / 0")
    with pytest.raises(MissingPermissionError):
        course.run([path], context="nowhere", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
