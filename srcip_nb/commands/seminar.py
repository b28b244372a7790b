"""``srcip-nb seminar up|list|rbac|down``: a seat for each participant, on one machine."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS
from srcip_nb.errors import UsageError


def add_to(commands: Any) -> None:
    """Make ``srcip-nb seminar`` known."""
    seminar = commands.add_parser("seminar", help="seats for participants on one machine").add_subparsers(
        required=True, metavar="up|list|rbac|down"
    )
    up = seminar.add_parser("up", help="start the seats; they run until 'seminar down'")
    up.add_argument("--seats", type=int, required=True, metavar="N")
    up.add_argument("--lang", default="en", metavar="en|ja")
    up.add_argument("--port", type=int, default=8900, help="of the page; the seats' JupyterLabs take those after it")
    up.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 or an address: let the room in")
    up.add_argument("--context", default="", metavar="C", help="a namespace of this cluster for each seat, no labs")
    up.add_argument("--prefix", default="seat", metavar="P", help="seats, and namespaces, are called P-01, P-02 …")
    up.add_argument("--folder", type=Path, default=Path("srcip-seminar"), metavar="DIR", help="participants' work")
    up.set_defaults(function=_up)
    seminar.add_parser("list", help="how far each seat is").set_defaults(function=_list)
    rights = seminar.add_parser("rbac", help="the least rights of each seat's namespace, for kubectl apply -f -")
    rights.set_defaults(function=_rbac)
    down = seminar.add_parser("down", help="end every seat; the participants' work is kept")
    down.add_argument("--discard", action="store_true", help="remove the participants' work too")
    down.set_defaults(function=_down)


def _up(arguments: argparse.Namespace) -> int:
    from srcip_nb.seats import plan
    from srcip_nb.seminar import up, who_can_reach

    names = ("lang", "listen", "port", "context", "prefix")
    seminar = plan(arguments.folder, arguments.seats, **{name: getattr(arguments, name) for name in names})
    if seminar.context:
        from srcip_nb.worlds import check_context

        check_context(seminar.context)
    failed = []

    def told(message: dict[str, Any]) -> None:
        if message["cause"]:
            failed.append(message["seat"])
            print(f"  ✗ {message['seat']}: {message['cause']}. {message['remedy']}", file=sys.stderr)
        elif sys.stderr.isatty():
            print(f"  ✓ {message['seat']}", file=sys.stderr)

    started = time.monotonic()
    running = up(seminar, told)
    worlds = f"namespaces of {seminar.context}" if seminar.context else f"{len(seminar.seats) - len(failed)} labs"
    print(f"{len(seminar.seats)} seats, {worlds}, up in {time.monotonic() - started:.1f} s")
    print(f"  for you:      {running.page}")
    print(f"  to hand out:  {running.links}")
    print(f"  their work:   {seminar.folder}")
    print(f"  {who_can_reach(seminar)}")
    if seminar.context:
        print("  Each seat uses your rights unless FOLDER/.seats/SEAT/kubeconfig is there: srcip-nb seminar rbac")
    return DOES_NOT_HOLD if failed else HOLDS


def _list(_: argparse.Namespace) -> int:
    from srcip_nb.seminar import choose
    from srcip_nb.seminar_rows import count_checks, rows, rows_text

    running = choose()
    print(rows_text(rows(running.seminar, count_checks(running.seminar.lang))))
    print(f"{running.page}\n{running.links}", file=sys.stderr)
    return HOLDS


def _rbac(_: argparse.Namespace) -> int:
    from srcip_nb.rbac import DEFAULT_ACCOUNT, Subject, choose_features, rbac_text
    from srcip_nb.seminar import choose

    seminar = choose().seminar
    if not seminar.context:
        raise UsageError("each seat of this seminar has a lab of its own", "Rights are for seminars with --context C.")
    subjects = {seat.name: Subject("ServiceAccount", DEFAULT_ACCOUNT, seat.name) for seat in seminar.seats}
    print("---\n".join(rbac_text(choose_features([]), name, subject) for name, subject in subjects.items()), end="")
    return HOLDS


def _down(arguments: argparse.Namespace) -> int:
    from srcip_nb.seminar import down

    folder = down(arguments.discard)
    print(f"the seminar is down; {folder} {'is removed' if arguments.discard else 'holds what the seats did'}")
    return HOLDS
