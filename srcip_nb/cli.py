"""The command line: the package's functions for a shell.

Exit status: 0 when what was asked holds, 1 when it does not, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srcip_nb.errors import SrcipError, UsageError

HOLDS, DOES_NOT_HOLD, WRONG_USE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words, command = _split_command(list(sys.argv[1:] if argv is None else argv))
    arguments = _parser().parse_args(words)
    arguments.command_line = command
    try:
        if command and arguments.function is not _lab_exec:
            raise UsageError(f"only 'lab exec' takes a command: -- {' '.join(command)}", "Leave it out.")
        return int(arguments.function(arguments))
    except UsageError as error:
        return _complain(error, WRONG_USE)
    except SrcipError as error:
        return _complain(error, DOES_NOT_HOLD)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has gone: nothing more to say, and no traceback
        return DOES_NOT_HOLD
    except KeyboardInterrupt:
        return 130


def _complain(error: SrcipError, status: int) -> int:
    print(f"srcip-nb: {error.cause}.", *([error.remedy] if error.remedy else []), sep="\n  ", file=sys.stderr)
    return status


def _split_command(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands behind ``--`` is a command for a host, not options for us."""
    if "--" not in words:
        return words, []
    cut = words.index("--")
    return words[:cut], words[cut + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srcip-nb", description="Whose address does the pod see, and why?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_doctor(commands)
    _add_lab(commands)
    _add_run(commands)
    _add_matrix(commands)
    _add_parse(commands)
    _add_render_rules(commands)
    return parser


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser("doctor", help="what this machine can do, what is missing and how to mend it")
    doctor.set_defaults(function=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from srcip_nb.doctor import MISSING, doctor, report

    findings = doctor()
    print(report(findings))
    return DOES_NOT_HOLD if any(finding.state == MISSING for finding in findings) else HOLDS


def _add_lab(commands: Any) -> None:
    lab = commands.add_parser("lab", help="start, stop, list labs; run a command in a host").add_subparsers(
        required=True, metavar="up|down|list|exec"
    )
    up = lab.add_parser("up", help="start a lab that runs until 'lab down'; prints a line for the shell")
    up.add_argument("--name", default="lab")
    up.add_argument("--workers", type=int, default=2, metavar="W")
    up.add_argument("--clients", type=int, default=1)
    up.add_argument("--cni", default="calico", metavar="C")
    up.add_argument("--proxy-mode", default="iptables", metavar="M")
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
    run.set_defaults(function=_lab_exec)


def _lab_up(arguments: argparse.Namespace) -> int:
    from srcip_nb.lab.lifecycle import start
    from srcip_nb.lab.spec import LabSpec
    from srcip_nb.lab.state import find_lab

    names = ("name", "workers", "clients", "cni", "proxy_mode", "kernel", "port", "announce")
    spec = LabSpec(**{name: getattr(arguments, name) for name in names})
    record = find_lab(spec.name)
    if record is None:
        started = time.monotonic()
        record = start(spec, None)
        print(f"lab {spec.name!r} is up ({time.monotonic() - started:.1f} s): {record.url}", file=sys.stderr)
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

    line = "{:<16} {:<8} {:<9} {:<8} {:<8} {:<18} {}".format
    print(line("NAME", "WORKERS", "PROXY", "CNI", "AGE", "OWNER", "API"))
    for lab in running_labs():
        owner = f"process {lab.owner.pid}" if lab.owner else "nobody"
        age = f"{time.time() - lab.created:.0f}s"
        print(line(lab.name, lab.spec["workers"], lab.spec["proxy_mode"], lab.spec["cni"], age, owner, lab.url))
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


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="execute the notebooks and say which passed")
    run.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", type=Path)
    run.add_argument("--context", help="a kubeconfig context; a lab is started if left out")
    run.add_argument("--lang", choices=("en", "ja"))
    run.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    run.add_argument("--junit", type=Path, metavar="F")
    run.set_defaults(function=_run)


def _run(arguments: argparse.Namespace) -> int:
    import yaml

    from srcip_nb.run import PASSED, junit, run, verdict_table

    try:
        parameters = {name: yaml.safe_load(value) for name, value in arguments.parameters}
    except yaml.YAMLError as error:
        raise UsageError(f"a value of -p is not YAML: {error}", "Put quotes around it: -p NAME '\"VALUE\"'") from error
    if arguments.junit and not arguments.junit.parent.is_dir():
        raise UsageError(f"there is no folder {arguments.junit.parent}", "Make it, or name another for --junit.")
    context = arguments.context or os.environ.get("SRCIP_CONTEXT") or None
    verdicts = run(arguments.notebooks, context, arguments.lang, parameters, arguments.out, progress=True)
    from srcip_nb.handout import handout  # only now: the lab starts before what takes long to import

    pages = handout([verdict.output for verdict in verdicts], arguments.out)
    if arguments.junit:
        arguments.junit.write_text(junit(verdicts))
    print(verdict_table(verdicts))
    print(f"handout: {', '.join(map(str, pages)) or 'none'}", file=sys.stderr)
    return HOLDS if verdicts and all(v.verdict == PASSED for v in verdicts) else DOES_NOT_HOLD


def _add_matrix(commands: Any) -> None:
    matrix = commands.add_parser("matrix", help="ask a cluster every case of the oracle's table, and compare")
    where = matrix.add_mutually_exclusive_group()
    where.add_argument("--lab", nargs="?", const="", metavar="N", help="a lab, by name or any (started if none runs)")
    where.add_argument("--context", metavar="C", help="a kubeconfig context")
    matrix.add_argument("--mode", metavar="M", help="kube-proxy's mode; a lab is switched to it meanwhile")
    matrix.add_argument("--cni", metavar="P", help="start a lab of its own with this pod network")
    matrix.add_argument("--json", type=Path, metavar="F")
    matrix.add_argument("--junit", type=Path, metavar="F")
    matrix.add_argument("--html", type=Path, metavar="F")
    matrix.set_defaults(function=_matrix)


def _matrix(arguments: argparse.Namespace) -> int:
    from srcip_nb import connect, report
    from srcip_nb.judge import AS_EXPECTED, DIFFERS
    from srcip_nb.lab import Lab
    from srcip_nb.matrix import matrix

    if arguments.cni and (arguments.context or arguments.lab is not None):
        raise UsageError("--cni starts a lab of its own", "Leave --lab and --context out.")
    files = [(path, path and path.parent) for path in (arguments.json, arguments.junit, arguments.html)]
    for path, folder in files:
        if path and not folder.is_dir():
            raise UsageError(f"there is no folder {folder} for {path.name}", f"Make it: mkdir -p {folder}")
    with contextlib.ExitStack() as stack:
        if arguments.cni:
            cluster = connect(lab=stack.enter_context(Lab(cni=arguments.cni)), quiet=True)
        elif arguments.lab is not None:
            cluster = connect(lab=arguments.lab or {}, quiet=True)
        else:
            cluster = connect(arguments.context, quiet=True)
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


def _add_parse(commands: Any) -> None:
    parse = commands.add_parser("parse", help="an nginx log file as a typed table")
    parse.add_argument("files", nargs="+", metavar="FILE", help="a log file, .gz too; - is standard input")
    parse.add_argument("-o", dest="output", metavar="FILE", help=".parquet, .csv or .json; a summary if left out")
    parse.set_defaults(function=_parse)


def _parse(arguments: argparse.Namespace) -> int:
    from srcip_nb.parse import parse_file

    print(parse_file(arguments.files, arguments.output))
    return HOLDS


def _add_render_rules(commands: Any) -> None:
    rules = commands.add_parser("render-rules", help="what kube-proxy would load on a node")
    rules.add_argument("--mode", default="iptables", metavar="M")
    rules.add_argument("--node", required=True, metavar="N")
    rules.add_argument("--loaded", action="store_true", help="as the kernel tells it after loading")
    rules.add_argument("files", nargs="+", metavar="FILE.yaml", type=Path)
    rules.set_defaults(function=_render_rules)


def _render_rules(arguments: argparse.Namespace) -> int:
    from srcip_nb.lab.proxy.render import render_rules

    print(render_rules(arguments.mode, arguments.node, arguments.files, arguments.loaded), end="")
    return HOLDS
