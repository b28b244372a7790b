"""``srcip-nb parse``: nginx log files as typed tables."""

from __future__ import annotations

import argparse
from typing import Any

from srcip_nb.commands.status import HOLDS


def add_to(commands: Any) -> None:
    """Make ``srcip-nb parse`` known."""
    parse = commands.add_parser("parse", help="an nginx log file as a typed table")
    parse.add_argument("files", nargs="+", metavar="FILE", help="a log file, .gz too; - is standard input")
    parse.add_argument("-o", dest="output", metavar="FILE", help=".parquet, .csv or .json; a summary if left out")
    parse.set_defaults(function=_parse)


def _parse(arguments: argparse.Namespace) -> int:
    from srcip_nb.parse import parse_file

    print(parse_file(arguments.files, arguments.output))
    return HOLDS
