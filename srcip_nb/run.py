"""The course as a regression test: papermill executes the notebooks, and what they said is kept.

A notebook has passed when it came to its last cell (``done``) and every check in it held. papermill's own "completed"
is no proof: it writes that after a dead kernel too.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from srcip_nb.cluster import is_ready
from srcip_nb.errors import SrcipError, UsageError
from srcip_nb.execute import execute, papermill
from srcip_nb.permissions import require_feature
from srcip_nb.progress import Progress
from srcip_nb.worlds import connect

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

LANGUAGES = ("en", "ja")
SIDE_BY_SIDE = 2  # labs and notebooks at a time, for a whole course on a machine with two CPUs or more
NODE_GRACE = 55  # seconds

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
    """Execute notebooks, in a lab of their own or against a cluster.

    They go one after the other, in the order given. A whole course in labs of its own goes two notebooks at a time,
    each in its own lab, where there are CPUs for that; each language has new labs.

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
        began: called with the cluster, or the lab that was started, before the first notebook; not for a recording,
            which has nothing that could be asked.

    Returns:
        One verdict a notebook, in the order they were given.

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
    side_by_side = SIDE_BY_SIDE if not notebooks and (os.cpu_count() or 1) >= SIDE_BY_SIDE else 1
    before = ready_nodes(cluster) if cluster else set()
    own_labs = not (context or lab or replay)
    verdicts: list[Verdict] = []

    def one(path: Path, world: dict[str, str]) -> Verdict:
        verdict = _execute(path, values, Path(out), world, progress)
        if cluster and verdict.verdict == FAILED:
            gone = what_went_away(cluster, before)
            if gone:
                verdict = replace(verdict, verdict=NOT_FINISHED, reason=f"{gone}; {verdict.reason}")
        return verdict

    for part in _by_language(paths) if own_labs else [paths]:
        with set_environment(SRCIP_STRICT="0", **settings), contextlib.ExitStack() as stack:
            worlds = [{}] if context else _worlds(stack, lab, replay, side_by_side, progress)
            stack.enter_context(set_environment(**worlds[0]))
            if began and not replay and not verdicts:
                began(cluster or connect(lab=os.environ["SRCIP_LAB"], quiet=True))
            verdicts += _each_in_a_free_one(part, worlds, one)
    return verdicts


def _by_language(paths: Sequence[Path]) -> list[list[Path]]:
    """A course begins in a new lab in each language: "created" is what its first notebooks are about."""
    return [list(part) for _, part in groupby(paths, key=lambda path: path.parent.name)]


def _each_in_a_free_one(
    paths: Sequence[Path], worlds: Sequence[dict[str, str]], one: Callable[[Path, dict[str, str]], Verdict]
) -> list[Verdict]:
    """Every notebook executed, as many at a time as there are worlds; the verdicts in the notebooks' order."""
    if len(worlds) == 1:
        return [one(path, worlds[0]) for path in paths]
    free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for world in worlds:
        free.put(world)

    def in_a_free_one(path: Path) -> Verdict:
        world = free.get()
        try:
            return one(path, world)
        finally:
            free.put(world)

    pool = ThreadPoolExecutor(len(worlds))
    try:
        return list(pool.map(in_a_free_one, paths))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # interrupted: the labs end, and with them what runs in them


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
    known = papermill().inspect_notebook(str(path)) if values else {}
    for name in values:
        if name not in known:
            raise UsageError(f"{path.name} has no parameter {name!r}", f"It has: {', '.join(known) or 'none'}.")


def _worlds(
    stack: contextlib.ExitStack, lab: str | None, replay: str | None, count: int, progress: bool
) -> list[dict[str, str]]:
    """What ``connect()`` finds in the environment of a kernel: a recording, a lab that runs, or labs started here."""
    if replay:
        return [{"SRCIP_REPLAY": replay, "SRCIP_CONTEXT": ""}]
    names = [lab] if lab else [_start_lab(stack, progress) for _ in range(count)]
    return [{"SRCIP_LAB": name, "SRCIP_CONTEXT": ""} for name in names]


def _start_lab(stack: contextlib.ExitStack, progress: bool) -> str:
    """The name of a lab that ends with the block."""
    from srcip_nb.lab import Lab

    with Progress("the lab", progress, sys.stderr) as step:
        lab = stack.enter_context(Lab())
        step.result = f"{len(lab.client.hosts())} hosts"
    return lab.name


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


def _execute(path: Path, values: dict[str, Any], out: Path, world: dict[str, str], progress: bool) -> Verdict:
    """Execute one notebook, a line of progress about it."""
    with Progress(_name(path), progress, sys.stderr) as step, tempfile.TemporaryDirectory() as markers:
        output = out / path.parent.name / path.name
        output.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        stopped = execute(path, output, values, {**world, "SRCIP_MARKER_DIR": markers})
        seconds = time.monotonic() - started
        marker = Path(markers) / "done.json"
        said = json.loads(marker.read_text()) if marker.exists() else None
        verdict, reason = judge(stopped, said)
        step.result = "" if verdict == PASSED else verdict
        step.failed = verdict != PASSED
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
