"""Recorded runs of the course: those that come with the package, and those of ``srcip-nb record DIR``.

    recordings/lab-calico/01.jsonl.xz      one file a notebook; ``connect(replay="lab-calico")`` opens the folder

Each is what a real run asked and was answered (``tape.py``); none is written by hand. Whatever is shown from one says
so: the first line of ``connect``, every figure, every table (``mark``).
"""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import UsageError
from srcip_nb.tape import RecordingTape, ReplayTape, read
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.rest import Rest

SHIPPED = Path(__file__).resolve().parent / "recordings"
SUFFIX = ".jsonl.xz"
FILE = "SRCIP_RECORD"  # names the file to which a notebook's connect() records

LIVE = "live"
"""A table's ``attrs`` have it where nothing in it is from a cluster: what this machine is, what was answered or counted
now. It is not marked, whatever recording is open."""

_shown: dict[str, str] = {}  # the recording from which this process shows things now: none, or one


def shipped() -> list[str]:
    """The names of the recordings that come with the package."""
    return sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()) if SHIPPED.is_dir() else []


def folder_of(replay: str) -> Path:
    """The folder of a recording.

    Args:
        replay: the name of one that comes with the package, or a path.

    Raises:
        UsageError: there is none.
    """
    for folder in (SHIPPED / replay, Path(replay).expanduser()):
        if replay and folder.is_dir():
            return folder
    raise UsageError(
        f"there is no recording {replay!r}",
        f"Take one of: {', '.join(shipped())}; or the folder of one that srcip-nb record made",
    )


def notebooks_of(folder: Path) -> list[str]:
    """The numbers of the notebooks that a recording has."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))


def open_recording(replay: str, notebook: str) -> ReplayTape:
    """One notebook's part of a recording, from its beginning.

    Args:
        replay: a shipped one's name, or a path.
        notebook: its number, as ``begin`` takes it.

    Raises:
        UsageError: no such recording, none of this notebook, or a file that cannot be read.
    """
    folder = folder_of(replay)
    there = notebooks_of(folder)
    if notebook not in there:
        asked = f"notebook {notebook}" if notebook else "no notebook, for none was begun here"
        first = there[0] if there else "01"
        raise UsageError(
            f"recording {replay!r} has {', '.join(there) or 'nothing'}, and asked for is {asked}",
            f'In a program, name the notebook before connect(): begin("{first}")',
        )
    tape = read(folder / f"{notebook}{SUFFIX}")
    tape.header["name"] = folder.name
    return tape


def recording_tape(settings: dict[str, Any]) -> RecordingTape | None:
    """The tape that ``SRCIP_RECORD`` asks for, None where it does not.

    Args:
        settings: of the Cluster.
    """
    path = os.environ.get(FILE)
    if not path:
        return None
    return RecordingTape(Path(path), {**settings, "run": os.environ.get("SRCIP_RUN", "")})


def replay_rest(tape: ReplayTape) -> Rest:
    """An API connection that leads nowhere but to the tape."""
    from srcip_nb.rest import Rest, World, load_kubernetes

    load_kubernetes()
    from kubernetes.client import Configuration

    configuration = Configuration()
    configuration.host = "https://recorded.invalid"  # RFC 2606: no such host, ever
    return Rest(configuration, World("recording", tape.header["name"]), tape)


def mark() -> str:
    """What everything shown from a recording says of itself, in the reader's language; "" where none is open."""
    if not _shown:
        return ""
    world = t("recorded.lab" if _shown["kind"] == "lab" else "recorded.cluster")
    return t("recorded.mark", name=_shown["name"], date=_shown["date"], world=world)


def show_as_recorded(header: dict[str, Any] | None) -> None:
    """From now on have figures and tables marked, or no longer.

    A process shows the world of its last ``connect()``, so that is what counts.

    Args:
        header: of the recording; None: what is shown is live.
    """
    _shown.clear()
    if header:
        _shown.update(name=str(header["name"]), date=str(header["recorded"]), kind=str(header["kind"]))
    _mark_tables()


def _mark_tables() -> None:
    """Have Jupyter show pandas' tables with the mark under them."""
    import sys

    if "IPython" not in sys.modules:
        return
    import pandas as pd
    from IPython import get_ipython

    shell: Any = get_ipython()
    if shell is None:
        return
    as_html, as_text = (shell.display_formatter.formatters[kind] for kind in ("text/html", "text/plain"))
    as_html.pop(pd.DataFrame, None)
    for kind in (pd.DataFrame, pd.Series):
        as_text.pop(kind, None)
    if _shown:
        as_html.for_type(pd.DataFrame, lambda frame: frame._repr_html_() + ("" if LIVE in frame.attrs else mark_html()))
        for kind in (pd.DataFrame, pd.Series):
            as_text.for_type(kind, lambda table, printer, _: printer.text(f"{table!r}{_below(table)}"))


def _below(table: pd.DataFrame | pd.Series) -> str:
    return "" if LIVE in table.attrs else f"\n{mark()}"


def mark_html() -> str:
    """The mark as a line under a table, "" where nothing is recorded."""
    return f"<p><small>{html.escape(mark())}</small></p>" if _shown else ""
