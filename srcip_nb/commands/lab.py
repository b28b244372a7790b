"""``srcip-nb lab up|down|list|exec``: labs and their hosts."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from srcip_nb.commands.status import HOLDS
from srcip_nb.errors import UsageError


def add_to(commands: Any) -> None:
    """Make ``srcip-nb lab`` known."""
    lab = commands.add_parser("lab", help="start, stop, list labs; run a command in a host").add_subparsers(
        required=True, metavar="up|down|list|exec"
    )
    up = lab.add_parser("up", help="start a lab that runs until 'lab down'; prints a line for the shell")
    up.add_argument("--name", default="lab")
    up.add_argument("--workers", type=int, default=2, metavar="W")
    up.add_argument("--clients", type=int, default=1)
    up.add_argument("--cni", default="calico", metavar="C")
    up.add_argument("--proxy-mode", default="iptables", metavar="M")
    up.add_argument("--ipvs-scheduler", default="rr", metavar="S", help="of mode ipvs: rr, lc or sh")
    up.add_argument("--kernel", default="auto", metavar="K")
    up.add_argument("--announce", default="l2", metavar="A", help="external addresses by l2 (ARP) or bgp (multipath)")
    up.add_argument("--port", type=int, default=0, help="port of the API on 127.0.0.1; any free one if left out")
    up.set_defaults(function=_lab_up)
    down = lab.add_parser("down", help="stop a lab")
    down.add_argument("name", nargs="?", metavar="N")
    down.add_argument("--all", action="store_true", help="stop every lab of this user")
    down.set_defaults(function=_lab_down)
    lab.add_parser("list", help="the labs that run").set_defaults(function=_lab_list)
    run = lab.add_parser(
        "exec", help="run a command in a host or pod", usage="srcip-nb lab exec [--name N] HOST -- CMD…"
    )
    run.add_argument("--name")
    run.add_argument("host", metavar="HOST")
    run.set_defaults(function=_lab_exec, takes_command=True)


def _lab_up(arguments: argparse.Namespace) -> int:
    from srcip_nb.lab.lifecycle import start
    from srcip_nb.lab.spec import LabSpec
    from srcip_nb.lab.state import find_lab

    names = ("name", "workers", "clients", "cni", "proxy_mode", "kernel", "port", "announce", "ipvs_scheduler")
    spec = LabSpec(**{name: getattr(arguments, name) for name in names})
    record = find_lab(spec.name)
    if record is None:
        started = time.monotonic()
        record = start(spec, None)
        print(f"lab {spec.name!r} is up ({time.monotonic() - started:.1f} s): {record.url}", file=sys.stderr)
        for kernel, reason in record.passed_over.items():
            print(f"  it runs on kernel {record.kernel}, for {kernel} would not do: {reason}", file=sys.stderr)
    elif record.spec != spec.to_dict():
        raise UsageError(
            f"lab {spec.name!r} is up already, with other settings",
            f"Stop it first (srcip-nb lab down {spec.name}) or choose another --name.",
        )
    else:
        print(f"lab {spec.name!r} is up already: {record.url}", file=sys.stderr)
    print(f"export KUBECONFIG={record.kubeconfig}")
    return HOLDS


def _lab_down(arguments: argparse.Namespace) -> int:
    from srcip_nb.lab.lifecycle import stop
    from srcip_nb.lab.state import choose_lab, running_labs

    if arguments.all and arguments.name:
        raise UsageError("both a name and --all were given", "Give one of them.")
    labs = running_labs() if arguments.all else [choose_lab(arguments.name)]
    for record in labs:
        stop(record)
        print(f"lab {record.name!r} is down", file=sys.stderr)
    return HOLDS


def _lab_list(arguments: argparse.Namespace) -> int:
    from srcip_nb.lab.state import running_labs

    line = "{:<16} {:<8} {:<9} {:<8} {:<7} {:<8} {:<18} {}".format
    print(line("NAME", "WORKERS", "PROXY", "CNI", "KERNEL", "AGE", "OWNER", "API"))
    for lab in running_labs():
        owner = f"process {lab.owner.pid}" if lab.owner else "nobody"
        age = f"{time.time() - lab.created:.0f}s"
        print(
            line(
                lab.name, lab.spec["workers"], lab.spec["proxy_mode"], lab.spec["cni"], lab.kernel, age, owner, lab.url
            )
        )
    return HOLDS


def _lab_exec(arguments: argparse.Namespace) -> int:
    from srcip_nb.lab.attach import attach
    from srcip_nb.lab.lifecycle import client_of
    from srcip_nb.lab.state import choose_lab

    if not arguments.command_line:
        raise UsageError(
            "no command was given", "For example: srcip-nb lab exec client -- curl -s http://192.168.1.56/"
        )
    return attach(client_of(choose_lab(arguments.name)), arguments.host, arguments.command_line)
