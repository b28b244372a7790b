"""``srcip-nb matrix``: every case of the oracle, asked of a cluster."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS
from srcip_nb.errors import UsageError


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
    matrix.add_argument("--ipvs-scheduler", metavar="S", help="of mode ipvs, in a lab of its own: rr, lc or sh")
    matrix.add_argument("--json", type=Path, metavar="F")
    matrix.add_argument("--junit", type=Path, metavar="F")
    matrix.add_argument("--html", type=Path, metavar="F")
    matrix.set_defaults(function=_matrix)


def _matrix(arguments: argparse.Namespace) -> int:
    from srcip_nb import connect, report
    from srcip_nb.judge import AS_EXPECTED, DIFFERS
    from srcip_nb.lab import Lab
    from srcip_nb.matrix import matrix

    own = {"cni": arguments.cni, "ipvs_scheduler": arguments.ipvs_scheduler}
    own = {name: value for name, value in own.items() if value}
    if own and (arguments.context or arguments.lab is not None):
        option = "--cni" if arguments.cni else "--ipvs-scheduler"
        raise UsageError(f"{option} starts a lab of its own", "Leave --lab and --context out.")
    files = [(path, path and path.parent) for path in (arguments.json, arguments.junit, arguments.html)]
    for path, folder in files:
        if path and not folder.is_dir():
            raise UsageError(f"there is no folder {folder} for {path.name}", f"Make it: mkdir -p {folder}")
    settings = {"namespace": arguments.namespace, "image": arguments.image}
    with contextlib.ExitStack() as stack:
        if own:
            # On a kernel that can do the mode: for ipvs that may be another one than a lab has otherwise.
            lab = stack.enter_context(Lab(**own, proxy_mode=arguments.mode or "iptables"))
            cluster = connect(lab=lab, quiet=True, **settings)
        elif arguments.lab is not None:
            cluster = connect(lab=arguments.lab or {}, quiet=True, **settings)
        else:
            cluster = connect(arguments.context, quiet=True, **settings)
        with contextlib.redirect_stdout(sys.stderr):  # progress is no result
            frame = matrix(cluster, mode=arguments.mode)
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
