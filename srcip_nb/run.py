"""The course as a regression test: papermill executes the notebooks, and what they said is kept.

A notebook has passed when it came to its last cell (``done``) and every check in it held. papermill's own "completed"
is no proof: it writes that after a dead kernel too.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from srcip_nb.cluster import is_ready
from srcip_nb.errors import SrcipError, UsageError
from srcip_nb.imports import hidden
from srcip_nb.permissions import require_feature
from srcip_nb.progress import Progress
from srcip_nb.recordings import folder_of
from srcip_nb.worlds import connect

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

LANGUAGES = ("en", "ja")
CELL_WITHIN = 180  # seconds; the slowest cell waits for a rollout
KERNEL_WITHIN = 60  # seconds
NODE_GRACE = 55  # seconds

# ipykernel 7.4 warns at every start that it runs over TCP on 127.0.0.1, and logs an error when it is interrupted while
# it is shut down. What goes wrong in a cell is an output, never a matter of this log.
QUIET_KERNEL = ["--IPKernelApp.log_level=CRITICAL"]

SETTINGS = {"namespace": "SRCIP_NAMESPACE", "image": "SRCIP_IMAGE", "adopt": "SRCIP_ADOPT"}
"""What ``connect()`` is told in every notebook, by the environment: no notebook needs a parameter for it."""

PASSED, FAILED, NOT_FINISHED = "passed", "failed", "not finished"


@dataclass(frozen=True)
class Verdict:
    """What became of one notebook.

    Attributes:
        notebook: its path below ``notebooks/``, for example ``en/02-cluster.ipynb``.
        seconds: how long it ran.
        verdict: ``passed``, ``failed`` (a check did not hold) or ``not finished`` (it did not reach its end).
        reason: why, where it did not pass; where it passed, what this world could not show.
        output: the executed notebook.
        checks: what each check expected and observed: ``expected``, ``observed``, ``state`` (held, failed, open).
        unknown: sources that pods logged and that nobody in the address book owns.
    """

    notebook: str
    seconds: float
    verdict: str
    reason: str
    output: Path
    checks: tuple[dict[str, str], ...] = ()
    unknown: tuple[str, ...] = ()


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
    return [
        path for one in ([lang] if lang else LANGUAGES) for path in sorted((notebooks_dir() / one).glob("[0-9]*.ipynb"))
    ]


def run(
    notebooks: Sequence[Path | str] = (),
    context: str | None = None,
    lang: str | None = None,
    parameters: dict[str, Any] | None = None,
    out: Path | str = "out",
    *,
    lab: str | None = None,
    replay: str | None = None,
    progress: bool = False,
    began: Callable[[Cluster], None] | None = None,
) -> list[Verdict]:
    """Execute notebooks one after the other, in a lab of their own or against a cluster.

    Args:
        notebooks: which ones; the whole course if empty.
        context: a kubeconfig context; None: a lab is started and stopped.
        lang: ``en`` or ``ja``; None: both.
        parameters: values for the notebooks' ``parameters`` cell; ``namespace``, ``image`` and ``adopt`` (1 for yes)
            go to ``connect()`` in every notebook.
        out: where executed notebooks go.
        lab: the name of a lab that runs, in place of one that is started.
        replay: a recording in place of both, as ``connect`` takes it.
        progress: say on standard error what is being done, a line for the lab and one for each notebook.
        began: called with the cluster, or the lab that was started, before the first notebook.

    Returns:
        One verdict a notebook, in the order they ran.

    Raises:
        UsageError: a notebook does not exist or has no such parameter, or there can be no such folder.
        LabError: the lab cannot be started.
        ClusterError: the cluster does not answer, does not accept the credentials, or they do not suffice.
    """
    paths = [Path(path) for path in notebooks] or course(lang)
    parameters = dict(parameters or {})
    settings = {name: str(parameters.pop(key)) for key, name in SETTINGS.items() if key in parameters}
    values = {**({"context": context} if context else {}), **parameters}
    for path in paths:
        _check_runnable(path, values)
    # one id for all that the notebooks create
    settings["SRCIP_RUN"] = os.environ.get("SRCIP_RUN") or secrets.token_hex(4)
    cluster = None
    if context:
        with set_environment(**settings, SRCIP_RECORD=""):  # what is wrong is said once, before the first notebook
            cluster = connect(context, quiet=True)
            require_feature(cluster, "lessons", "clients")
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {out} cannot be made: {error.strerror}", "Name another with --out.") from error
    world = contextlib.nullcontext() if context else _world(lab, replay, progress)
    before = ready_nodes(cluster) if cluster else set()
    with (
        world,
        tempfile.TemporaryDirectory() as markers,
        set_environment(SRCIP_STRICT="0", SRCIP_MARKER_DIR=markers, **settings),
    ):
        if began:
            began(cluster or connect(lab=os.environ["SRCIP_LAB"], quiet=True))
        verdicts = []
        for path in paths:
            verdict = _execute(path, values, Path(out), Path(markers), progress)
            if cluster and verdict.verdict == FAILED:
                gone = what_went_away(cluster, before)
                if gone:
                    verdict = replace(verdict, verdict=NOT_FINISHED, reason=f"{gone}; {verdict.reason}")
            verdicts.append(verdict)
        return verdicts


def ready_nodes(cluster: Cluster) -> set[str]:
    """The names of the nodes that are Ready now."""
    return {node["metadata"]["name"] for node in cluster.list("nodes") if is_ready(node)}


def what_went_away(cluster: Cluster, before: set[str]) -> str:
    """Why checks may have failed that say nothing about addresses: a node or the API server that is gone; "" if none.

    A node is called not Ready 40 s after its kubelet was last heard of (node-monitor-grace-period; 50 s from
    Kubernetes 1.32), so this waits that long where none is missing yet.

    Args:
        cluster: where the notebook ran.
        before: of ``ready_nodes``, when the run began.
    """
    deadline = time.monotonic() + NODE_GRACE
    while True:
        try:
            lost = before - ready_nodes(cluster)
        except SrcipError as error:
            return error.cause
        if lost:
            return f"node {', '.join(sorted(lost))} went away: not Ready"
        if time.monotonic() > deadline:
            return ""
        time.sleep(2)


def _check_runnable(path: Path, values: dict[str, Any]) -> None:
    if not path.is_file():
        raise UsageError(f"there is no notebook {path}", "Leave the name out to run the whole course.")
    known = _papermill().inspect_notebook(str(path)) if values else {}
    for name in values:
        if name not in known:
            raise UsageError(f"{path.name} has no parameter {name!r}", f"It has: {', '.join(known) or 'none'}.")


def _world(lab: str | None, replay: str | None, progress: bool) -> contextlib.AbstractContextManager[None]:
    if replay:
        return set_environment(SRCIP_REPLAY=str(folder_of(replay).resolve()), SRCIP_CONTEXT="")
    return set_environment(SRCIP_LAB=lab, SRCIP_CONTEXT="") if lab else _lab(progress)


@contextlib.contextmanager
def _lab(progress: bool) -> Iterator[None]:
    """A lab that the notebooks' ``connect()`` finds by its name."""
    from srcip_nb.lab import Lab

    with contextlib.ExitStack() as stack:
        with Progress("the lab", progress, sys.stderr) as step:
            lab = stack.enter_context(Lab())
            step.result = f"{len(lab.client.hosts())} hosts"
        stack.enter_context(set_environment(SRCIP_LAB=lab.name, SRCIP_CONTEXT=""))
        yield


@contextlib.contextmanager
def set_environment(**values: str) -> Iterator[None]:
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


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _execute(path: Path, values: dict[str, Any], out: Path, markers: Path, progress: bool) -> Verdict:
    """Execute one notebook, a line of progress about it."""
    with Progress(_name(path), progress, sys.stderr) as step:
        verdict = _executed(path, values, out, markers)
        step.result = "" if verdict.verdict == PASSED else verdict.verdict
        step.failed = verdict.verdict != PASSED
    return verdict


def _papermill() -> ModuleType:
    """papermill, imported when the lab is up already, without jsonschema's grammar of international addresses (3 s)."""
    with hidden("rfc3987_syntax"):
        import papermill
    return papermill


def _executed(path: Path, values: dict[str, Any], out: Path, markers: Path) -> Verdict:
    papermill = _papermill()
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

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
            extra_arguments=QUIET_KERNEL,
        )
    except PapermillExecutionError as error:
        reason = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    seconds = time.monotonic() - started
    said = json.loads(marker.read_text()) if marker.exists() else None
    verdict, reason = judge(reason, said)
    checks, unknown = (tuple((said or {}).get(key) or ()) for key in ("checks", "unknown_sources"))
    return Verdict(_name(path), seconds, verdict, reason, output, checks, unknown)


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
    return PASSED, "; ".join(marker.get("left_out", []))


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
        if v.verdict == PASSED and v.reason:
            ElementTree.SubElement(case, "system-out").text = v.reason
        elif v.verdict != PASSED:
            ElementTree.SubElement(case, "failure" if v.verdict == FAILED else "error", message=v.reason)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def report(error: SrcipError) -> str:
    """An error as a person reads it: what happened, then what to type."""
    return f"{error.cause}." + (f"\n{error.remedy}" if error.remedy else "")
