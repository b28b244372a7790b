"""``srcip-nb solutions``: the notebooks with their exercises solved, for the instructor."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from srcip_nb.commands.status import HOLDS
from srcip_nb.errors import UsageError


def add_to(commands: Any) -> None:
    """Make ``srcip-nb solutions`` known."""
    solutions = commands.add_parser("solutions", help="write the notebooks with their solutions filled in")
    solutions.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", type=Path)
    solutions.add_argument("--lang", choices=("en", "ja"))
    solutions.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    solutions.set_defaults(function=_solutions)


def _solutions(arguments: argparse.Namespace) -> int:
    from srcip_nb.run import course
    from srcip_nb.solutions import write_solutions

    missing = [str(path) for path in arguments.notebooks if not path.is_file()]
    if missing:
        raise UsageError(f"there is no notebook {missing[0]}", "Leave the name out for the whole course.")
    for path in write_solutions(arguments.notebooks or course(arguments.lang), arguments.out):
        print(path)
    return HOLDS
