"""Recordings made from real runs: papermill executes the notebooks, their ``connect()`` writes down what passes.

    record("DIR")   ->   DIR/00.jsonl.xz, DIR/01.jsonl.xz … DIR/09.jsonl.xz

Kept is what passed, without what is of the machine: its name, its folders, tokens, certificates, numbers that identify
it. The address that requests came from is kept: the lesson is about it. ``connect(replay="DIR")`` opens a recording.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from srcip_nb.errors import UsageError
from srcip_nb.recordings import FILE, SUFFIX
from srcip_nb.run import PASSED, Verdict, course, run, set_environment
from srcip_nb.tape import FORMAT, scrub, write

EVERYWHERE = ("/tmp", "/var/tmp")  # what these are called says nothing of a machine
LARGEST = 500_000  # bytes of one file


@dataclass(frozen=True)
class Recorded:
    """What became of one notebook: its verdict, and the file and its size in bytes, where it passed."""

    verdict: Verdict
    file: Path | None
    size: int


def record(
    folder: Path | str,
    notebooks: Sequence[Path | str] = (),
    context: str | None = None,
    *,
    lab: dict[str, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    progress: bool = False,
) -> list[Recorded]:
    """Execute notebooks and write down what they asked and were answered.

    Args:
        folder: where the recordings go; its name is what they are called by.
        notebooks: which ones; none: the whole course.
        context: a kubeconfig context; None: a lab is started and stopped.
        lab: settings for the lab, such as ``{"cni": "flannel"}``.
        parameters: as ``run.run`` takes them.
        progress: say on standard error what is being done.

    Returns:
        One for each notebook; one that did not pass, or whose recording is too large, has no file.

    Raises:
        UsageError: no such notebook, or the folder cannot be made.
        LabError, ClusterError: as ``run.run``.
    """
    paths = [Path(path) for path in notebooks] or course("en")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be made: {error.strerror}", "Name another.") from error
    done = []
    with contextlib.ExitStack() as stack:
        raw = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        name = _start(stack, context, lab or {})
        for path in paths:
            tape = raw / f"{path.stem}.jsonl"
            with set_environment(**{FILE: str(tape), "SRCIP_RUN": secrets.token_hex(4)}):
                (verdict,) = run([path], context, None, parameters, raw / "out", lab=name, progress=progress)
            done.append(_keep(verdict, tape, folder / f"{path.stem[:2]}{SUFFIX}", "context" if context else "lab"))
    return done


def _start(stack: contextlib.ExitStack, context: str | None, settings: dict[str, Any]) -> str | None:
    """The name of a lab for all the notebooks; None with a context."""
    if context:
        return None
    from srcip_nb.lab import Lab

    return stack.enter_context(Lab(**settings)).name


def _keep(verdict: Verdict, tape: Path, file: Path, kind: str) -> Recorded:
    if verdict.verdict != PASSED or not tape.exists():
        return Recorded(verdict, None, 0)
    first, *events = tape.read_text(encoding="utf-8").splitlines()
    private = private_words()
    header = header_of(json.loads(first), events, kind)
    lines = [json.dumps(header, ensure_ascii=False), *(scrub(line, private) for line in events)]
    size = write(file, lines)
    if size > LARGEST:
        file.unlink()
        return Recorded(verdict, None, size)
    return Recorded(verdict, file, size)


def header_of(begun: dict[str, Any], events: Sequence[str], kind: str) -> dict[str, Any]:
    """The first line of a recording.

    Args:
        begun: what the tape's first line says: namespace, image, whether it was adopted, and the run's id.
        events: the exchanges, a line each.
        kind: "lab" or "context".
    """
    return {
        "format": FORMAT,
        "kind": kind,
        "recorded": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "namespace": begun["namespace"],
        "image": begun["image"],
        "adopt": begun["adopt"],
        "run": begun["run"],
        "exchanges": len(events),
    }


def private_words() -> list[str]:
    """Words of this machine that a recording has no business with."""
    folders = [str(Path.home()), str(Path.cwd()), os.environ.get("SRCIP_STATE_DIR", "")]
    folders += [folder for folder in [tempfile.gettempdir()] if folder not in EVERYWHERE]
    return [socket.gethostname(), _user(), *folders]


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in many containers
        return ""
    return "" if name == "root" else name  # a word of Kubernetes and nginx too
