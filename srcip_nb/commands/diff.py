"""``srcip-nb diff``: what changed between two results, the question after an upgrade."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS


def add_to(commands: Any) -> None:
    """Make ``srcip-nb diff`` known."""
    diff = commands.add_parser(
        "diff",
        help="what changed between two results of run or matrix; exit status 0: nothing, 1: something",
    )
    diff.add_argument("old", type=Path, metavar="OLD.json")
    diff.add_argument("new", type=Path, metavar="NEW.json")
    diff.set_defaults(function=_diff)


def _diff(arguments: argparse.Namespace) -> int:
    from srcip_nb.results import diff, diff_text, read_result

    changes = diff(read_result(arguments.old), read_result(arguments.new))
    print(diff_text(changes), end="")
    return DOES_NOT_HOLD if changes else HOLDS
