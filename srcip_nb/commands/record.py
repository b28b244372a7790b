"""``srcip-nb record``: real runs of the course, kept to be opened where no lab can run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS
from srcip_nb.errors import UsageError


def add_to(commands: Any) -> None:
    """Make ``srcip-nb record`` known."""
    record = commands.add_parser("record", help="execute notebooks and keep what passed, for connect(replay=DIR)")
    record.add_argument("folder", metavar="DIR", type=Path)
    record.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", type=Path, help="the whole course if left out")
    record.add_argument("--context", help="a kubeconfig context; a lab is started if left out")
    record.add_argument("--cni", help="the lab's pod network: calico, flannel or ptp")
    record.add_argument("--proxy-mode", help="the lab's kube-proxy mode")
    record.add_argument("--image", metavar="I", help="an image of nginx, where Docker Hub cannot be reached")
    record.add_argument("--namespace", metavar="N")
    record.set_defaults(function=_record)


def _record(arguments: argparse.Namespace) -> int:
    from srcip_nb.record import LARGEST, record

    lab = {name: value for name in ("cni", "proxy_mode") if (value := getattr(arguments, name))}
    if lab and arguments.context:
        raise UsageError("--cni and --proxy-mode are a lab's", "Leave them out, or leave out --context.")
    parameters = {name: value for name in ("image", "namespace") if (value := getattr(arguments, name))}
    kept = record(
        arguments.folder, arguments.notebooks, arguments.context, lab=lab, parameters=parameters, progress=True
    )
    for one in kept:
        if one.file:
            print(f"{one.file}: {one.size / 1000:.0f} kB")
        elif one.size:
            print(f"{one.verdict.notebook}: {one.size / 1000:.0f} kB, more than {LARGEST / 1000:.0f}: not kept")
        else:
            print(f"{one.verdict.notebook}: {one.verdict.verdict}, not kept: {one.verdict.reason}")
    return HOLDS if all(one.file for one in kept) else DOES_NOT_HOLD
