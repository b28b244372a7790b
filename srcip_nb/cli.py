"""The command line: the package's functions for a shell.

Exit status: 0 when what was asked holds, 1 when it does not, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from srcip_nb.commands import (
    clean,
    diff,
    doctor,
    handout,
    lab,
    logs,
    matrix,
    parse,
    rbac,
    record,
    rules,
    run,
    seminar,
    solutions,
)
from srcip_nb.commands.status import DOES_NOT_HOLD, WRONG_USE
from srcip_nb.errors import SrcipError, UsageError

COMMANDS = (doctor, lab, run, matrix, diff, logs, parse, rules, solutions, handout, clean, rbac, seminar, record)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words, command = _split_command(list(sys.argv[1:] if argv is None else argv))
    arguments = _parser().parse_args(words)
    arguments.command_line = command
    try:
        if command and not getattr(arguments, "takes_command", False):
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
    for command in COMMANDS:
        command.add_to(commands)
    return parser
