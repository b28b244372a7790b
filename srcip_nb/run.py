"""The course as a regression test: papermill executes the notebooks, and what they said is kept.

A notebook has passed when it came to its last cell (``done``) and every check in it held. papermill's own "completed"
is no proof: it writes that after a dead kernel too.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from srcip_nb.errors import SrcipError, UsageError

LANGUAGES = ("en", "ja")
CELL_WITHIN = 180  # seconds; the slowest cell waits for a rollout
KERNEL_WITHIN = 60  # seconds

PASSED, FAILED, NOT_FINISHED = "passed", "failed", "not finished"


@dataclass(frozen=True)
class Verdict:
    """What became of one notebook.

    Attributes:
        notebook: its path below ``notebooks/``, for example ``en/02-cluster.ipynb``.
        seconds: how long it ran.
        verdict: ``passed``, ``failed`` (a check did not hold) or ``not finished`` (it did not reach its end).
        reason: why, where it did not pass.
        output: the executed notebook.
    """

    notebook: str
    seconds: float
    verdict: str
    reason: str
    output: Path


def notebooks_dir() -> Path:
    """The course's folder: ``notebooks/`` of the checkout, or of the current directory.

    Raises:
        UsageError: neither has one.
    """
    for base in (Path(__file__).resolve().parent.parent, Path.cwd()):
        if (base / "notebooks").is_dir():
            return base / "notebooks"
    raise UsageError("there is no notebooks/ folder here", "Run this in a checkout of srcip_nb, or name the notebooks.")


def course(lang: str | None = None) -> list[Path]:
    """The course's notebooks in order, of one language or of all."""
    return [path for one in ([lang] if lang else LANGUAGES) for path in sorted((notebooks_dir() / one).glob("*.ipynb"))]


def run(
    notebooks: Sequence[Path | str] = (),
    context: str | None = None,
    lang: str | None = None,
    parameters: dict[str, Any] | None = None,
    out: Path | str = "out",
) -> list[Verdict]:
    """Execute notebooks one after the other, in a lab of their own or against a cluster.

    Args:
        notebooks: which ones; the whole course if empty.
        context: a kubeconfig context; None: a lab is started and stopped.
        lang: ``en`` or ``ja``; None: both.
        parameters: values for the notebooks' ``parameters`` cell.
        out: where executed notebooks go.

    Returns:
        One verdict a notebook, in the order they ran.

    Raises:
        UsageError: a notebook does not exist, or has no such parameter.
        LabError: the lab cannot be started.
    """
    paths = [Path(path) for path in notebooks] or course(lang)
    values = {**({"context": context} if context else {}), **(parameters or {})}
    for path in paths:
        _check_runnable(path, values)
    world = contextlib.nullcontext() if context else _lab()
    with world, tempfile.TemporaryDirectory() as markers, _environment(SRCIP_STRICT="0", SRCIP_MARKER_DIR=markers):
        return [_execute(path, values, Path(out), Path(markers)) for path in paths]


def _check_runnable(path: Path, values: dict[str, Any]) -> None:
    if not path.is_file():
        raise UsageError(f"there is no notebook {path}", "Leave the name out to run the whole course.")
    known = papermill.inspect_notebook(str(path))
    for name in values:
        if name not in known:
            raise UsageError(f"{path.name} has no parameter {name!r}", f"It has: {', '.join(known) or 'none'}.")


@contextlib.contextmanager
def _lab() -> Iterator[None]:
    """A lab that the notebooks' ``connect()`` finds by its name."""
    from srcip_nb.lab import Lab

    with Lab() as lab, _environment(SRCIP_LAB=lab.name, SRCIP_CONTEXT=""):
        yield


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for the kernels that are started inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _execute(path: Path, values: dict[str, Any], out: Path, markers: Path) -> Verdict:
    name = f"{path.parent.name}/{path.name}"
    output = out / path.parent.name / path.name
    output.parent.mkdir(parents=True, exist_ok=True)
    marker = markers / "done.json"
    marker.unlink(missing_ok=True)
    started = time.monotonic()
    reason = ""
    try:
        papermill.execute_notebook(
            str(path),
            str(output),
            parameters=values,
            cwd=str(path.parent),
            kernel_name="python3",
            execution_timeout=CELL_WITHIN,
            start_timeout=KERNEL_WITHIN,
            progress_bar=False,
        )
    except PapermillExecutionError as error:
        reason = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    seconds = time.monotonic() - started
    verdict, reason = judge(reason, json.loads(marker.read_text()) if marker.exists() else None)
    return Verdict(name, seconds, verdict, reason, output)


def judge(stopped: str, marker: dict[str, Any] | None) -> tuple[str, str]:
    """Verdict and reason, from why a notebook stopped ("" if it did not) and what its last cell wrote.

    Args:
        stopped: the error that ended it early.
        marker: ``{"notebook", "held", "failed": [sentences]}`` of ``checks.done``; None: it never got there.
    """
    if stopped:
        return NOT_FINISHED, stopped
    if marker is None:
        return NOT_FINISHED, "it did not reach its last cell"
    if marker["failed"]:
        return FAILED, "; ".join(marker["failed"])
    return PASSED, ""


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a text table: notebook, seconds, verdict, and a reason where there is one."""
    width = max([len(v.notebook) for v in verdicts] + [8])
    lines = [f"{'notebook':<{width}}  seconds  verdict"]
    for v in verdicts:
        lines.append(f"{v.notebook:<{width}}  {v.seconds:7.1f}  {v.verdict}{f': {v.reason}' if v.reason else ''}")
    return "\n".join(lines)


def junit(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as JUnit XML: a test case a notebook; ``not finished`` is an error, ``failed`` a failure."""
    suite = ElementTree.Element(
        "testsuite",
        name="srcip_nb",
        tests=str(len(verdicts)),
        failures=str(sum(v.verdict == FAILED for v in verdicts)),
        errors=str(sum(v.verdict == NOT_FINISHED for v in verdicts)),
        time=f"{sum(v.seconds for v in verdicts):.3f}",
    )
    for v in verdicts:
        case = ElementTree.SubElement(
            suite, "testcase", classname="notebooks", name=v.notebook, time=f"{v.seconds:.3f}"
        )
        if v.verdict != PASSED:
            ElementTree.SubElement(case, "failure" if v.verdict == FAILED else "error", message=v.reason)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def handout(verdicts: Sequence[Verdict], out: Path | str = "out") -> list[Path]:
    """One HTML page a language from the executed notebooks, tables, figures and their alternative texts in it.

    Returns:
        The pages written, ``OUT/handout-LANG.html``.
    """
    from nbconvert import HTMLExporter

    # nbconvert's default template drops the alternative text of figures; classic keeps it (nbconvert 7.17).
    exporter = HTMLExporter(template_name="classic", embed_images=True)
    pages = []
    for lang in LANGUAGES:
        books = [
            nbformat.read(v.output, as_version=4)  # type: ignore[no-untyped-call]
            for v in verdicts
            if v.output.parent.name == lang and v.output.exists()
        ]
        if not books:
            continue
        whole = books[0]
        whole.cells = [cell for book in books for cell in book.cells]
        whole.metadata.pop("widgets", None)
        whole.metadata["title"] = {"en": "Whose address does the pod see?", "ja": "Podから見える送信元IPアドレス"}[lang]
        body, _ = exporter.from_notebook_node(whole)
        page = Path(out) / f"handout-{lang}.html"
        page.write_text(body.replace('<html lang="en"', f'<html lang="{lang}"'), encoding="utf-8")
        pages.append(page)
    return pages


def report(error: SrcipError) -> str:
    """An error as a person reads it: what happened, then what to type."""
    return f"{error.cause}." + (f"\n{error.remedy}" if error.remedy else "")
