"""How far each seat is: what runs for it, and what the checks of its notebooks found; read from files alone.

So the page, ``srcip-nb seminar list`` and whoever comes after a crash see the same.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass

from srcip_nb.lab.state import running_labs
from srcip_nb.notebook import FAILED, HELD, OPEN
from srcip_nb.seats import Seat, Seminar, jupyter_process, notebooks_of
from srcip_nb.tally import read

CHECKING = ("checks", "chain_checks")  # modules whose functions are checks


@dataclass(frozen=True)
class SeatRow:
    """One seat at one moment.

    Attributes:
        lab_runs: whether its lab runs; None on a real cluster, where it has none.
        notebook: the one that was worked on last, such as ``02``; "" before the first.
        held, failed, open: how many of its checks hold, do not, and wait for an answer.
        all: how many checks the notebook has.
        failing: what the checks say that do not hold.
        finished: the notebooks whose last cell was reached.
        last: when a check was made last, ISO 8601 in UTC; "" before the first.
    """

    seat: Seat
    lab_runs: bool | None
    jupyter_runs: bool
    notebook: str = ""
    held: int = 0
    failed: int = 0
    open: int = 0
    all: int = 0
    failing: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()
    last: str = ""


def rows(seminar: Seminar, totals: dict[str, int]) -> list[SeatRow]:
    """A row for each seat.

    Args:
        seminar: which seats.
        totals: how many checks each notebook has, see ``count_checks``.
    """
    return [_row(seminar, seat, totals) for seat in seminar.seats]


def _row(seminar: Seminar, seat: Seat, totals: dict[str, int]) -> SeatRow:
    labs = seminar.labs(seat)
    lab_runs = None if seminar.context else labs.is_dir() and bool(running_labs(labs))
    jupyter_runs = jupyter_process(seminar, seat) is not None
    known = read(seminar.progress(seat))
    if not known:
        return SeatRow(seat, lab_runs, jupyter_runs)
    current = known[-1]
    return SeatRow(
        seat=seat,
        lab_runs=lab_runs,
        jupyter_runs=jupyter_runs,
        notebook=current.notebook,
        held=current.count(HELD),
        failed=current.count(FAILED),
        open=current.count(OPEN),
        all=max(totals.get(current.notebook, 0), len(current.checks)),
        failing=tuple(current.sentences(FAILED)),
        finished=tuple(sorted(tally.notebook for tally in known if tally.is_done)),
        last=current.last,
    )


def count_checks(lang: str) -> dict[str, int]:
    """How many checks, exercises included, each notebook of the course has, by its number."""
    counts = dict(checks_in(path.read_text(encoding="utf-8")) for path in notebooks_of(lang))
    return {number: count for number, count in counts.items() if number}


def checks_in(notebook: str) -> tuple[str, int]:
    """The number that a notebook's ``begin`` names ("" without one), and how many calls of checks its cells hold.

    Args:
        notebook: the text of an .ipynb file.
    """
    cells = [cell for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]
    number, count = "", 0
    for cell in cells:
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                count += called.value.id in CHECKING
            elif isinstance(called, ast.Name):
                count += called.id == "exercise"
                if called.id == "begin" and node.args and isinstance(node.args[0], ast.Constant):
                    number = str(node.args[0].value)
    return number, count


def rows_text(found: Sequence[SeatRow]) -> str:
    """The rows as a table for a terminal, in kubectl's manner."""
    head = ("SEAT", "LAB", "JUPYTERLAB", "NOTEBOOK", "HELD", "FAILED", "OPEN", "FINISHED", "LAST ACTIVITY")
    lines = [head, *(_cells(row) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cells(row: SeatRow) -> tuple[str, ...]:
    lab = {None: "<none>", True: "running", False: "ended"}[row.lab_runs]
    counts = (f"{row.held}/{row.all}", str(row.failed), str(row.open)) if row.notebook else ("-", "-", "-")
    return (
        row.seat.name,
        lab,
        "running" if row.jupyter_runs else "not opened",
        row.notebook or "-",
        *counts,
        ",".join(row.finished) or "-",
        row.last or "-",
    )
