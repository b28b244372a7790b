"""What is to be run, as a list of words: whether it can be, and where its program is."""

from __future__ import annotations

import errno
import os

from .protocol import ProgramError, RequestError

NOT_RUNNABLE, NOT_THERE = 126, 127  # exit codes, as a shell gives them (POSIX, "Exit Status for Commands")


def check_argv(argv: object) -> None:
    """Refuse what is not a list of words with at least one.

    Raises:
        RequestError: it is not.
    """
    if (
        not isinstance(argv, (list, tuple))
        or not argv
        or not all(isinstance(word, str) for word in argv)
        or not argv[0]
    ):
        raise RequestError('argv has to be a list of words, as ["ip", "address"]')
    if any("\0" in word for word in argv):
        raise RequestError("a word of argv holds a NUL character")


def find_program(name: str, path: str) -> str:
    """Look a program up in the calling thread's file system, as a shell does.

    Raises:
        ProgramError: it is not there.
    """
    if "/" in name:
        return name
    for directory in path.split(":"):
        candidate = f"{directory}/{name}"
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise ProgramError(f"{name}: no such program in {path}", NOT_THERE)


def fault(program: str, error: OSError) -> ProgramError:
    """Say why the system would not start a program."""
    if error.errno == errno.ENOENT:
        return ProgramError(f"{program}: no such program", NOT_THERE)
    return ProgramError(f"{program}: {error.strerror}", NOT_RUNNABLE)
