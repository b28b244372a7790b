"""``srcip-nb matrix``: every case of the oracle, asked of a cluster."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS
from srcip_nb.errors import SrcipError, UsageError

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster


def add_to(commands: Any) -> None:
    """Make ``srcip-nb matrix`` known."""
    matrix = commands.add_parser("matrix", help="ask a cluster every case of the oracle's table, and compare")
    where = matrix.add_mutually_exclusive_group()
    where.add_argument("--lab", nargs="?", const="", metavar="N", help="a lab, by name or any (started if none runs)")
    where.add_argument("--context", metavar="C", help="a kubeconfig context")
    matrix.add_argument("--namespace", metavar="N", help="it is built in N-matrix; SRCIP_NAMESPACE, else seminar")
    matrix.add_argument(
        "--image", metavar="I", help="an image of nginx, where Docker Hub cannot be reached; SRCIP_IMAGE"
    )
    matrix.add_argument("--mode", metavar="M", help="kube-proxy's mode; a lab is switched to it meanwhile")
    matrix.add_argument("--cni", metavar="P", help="start a lab of its own with this pod network")
    matrix.add_argument("--json", type=Path, metavar="F")
    matrix.add_argument("--junit", type=Path, metavar="F")
    matrix.add_argument("--html", type=Path, metavar="F")
    matrix.set_defaults(function=_matrix)


def _matrix(arguments: argparse.Namespace) -> int:
    from srcip_nb import report
    from srcip_nb.judge import AS_EXPECTED, DIFFERS

    if arguments.cni and (arguments.context or arguments.lab is not None):
        raise UsageError("--cni starts a lab of its own", "Leave --lab and --context out.")
    files = [(path, path and path.parent) for path in (arguments.json, arguments.junit, arguments.html)]
    for path, folder in files:
        if path and not folder.is_dir():
            raise UsageError(f"there is no folder {folder} for {path.name}", f"Make it: mkdir -p {folder}")
    world: dict[str, Any] = {"name": "", "kubernetes": "", "mode": arguments.mode or "", "cni": "", "owners": {}}
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_ended_as_interrupted())
            frame = _asked(arguments, stack, world)
    except UsageError:
        raise
    except SrcipError as error:
        _write_unfinished(arguments, world, error.cause)
        raise SrcipError(f"not finished: {error.cause}", error.remedy) from error
    for path, write in (
        (arguments.json, report.json_text),
        (arguments.junit, report.junit),
        (arguments.html, report.html),
    ):
        if path:
            path.write_text(write(frame), encoding="utf-8")
    print(report.text(frame), end="")
    verdicts = set(frame["verdict"])
    return HOLDS if AS_EXPECTED in verdicts and DIFFERS not in verdicts else DOES_NOT_HOLD


def _asked(arguments: argparse.Namespace, stack: contextlib.ExitStack, world: dict[str, Any]) -> Any:
    from srcip_nb.matrix import matrix

    cluster = _cluster(arguments, stack)
    world.update(name=str(cluster.world), kubernetes=cluster.version)
    with contextlib.redirect_stdout(sys.stderr):  # progress is no result
        return matrix(cluster, mode=arguments.mode)


def _cluster(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> Cluster:
    from srcip_nb import connect
    from srcip_nb.lab import Lab

    settings = {"namespace": arguments.namespace, "image": arguments.image}
    if arguments.cni:
        return connect(lab=stack.enter_context(Lab(cni=arguments.cni)), quiet=True, **settings)
    if arguments.lab is not None:
        return connect(lab=arguments.lab or {}, quiet=True, **settings)
    return connect(arguments.context, quiet=True, **settings)


@contextlib.contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what was made is taken away."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_unfinished(arguments: argparse.Namespace, world: dict[str, Any], cause: str) -> None:
    from srcip_nb import report
    from srcip_nb.results import unfinished_junit, unfinished_matrix

    texts = {
        arguments.json: json.dumps(unfinished_matrix(world, cause), indent=1, ensure_ascii=False) + "\n",
        arguments.junit: unfinished_junit("srcip_nb matrix", cause),
        arguments.html: report.unfinished_html("The matrix did not finish", cause),
    }
    for path, text in texts.items():
        if path:
            path.write_text(text, encoding="utf-8")
