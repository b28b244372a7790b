"""A seminar on one machine: start it, find it again, end it.

    STATE/seminar.json      where it is and which process it is (STATE as for labs, ``lab/state.py``)

One seminar a user runs at a time. It goes on when the shell that started it ends, until ``down``.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srcip_nb.errors import LabError, UsageError
from srcip_nb.lab.lifecycle import stop
from srcip_nb.lab.state import LabRecord, Process, running_labs, state_dir
from srcip_nb.seats import EVERYWHERE, LOOPBACK, Seat, Seminar, furnish, host_in_url, jupyter_process, read_seminar

DOWN_WITHIN = 60.0  # seconds


@dataclass(frozen=True)
class Running:
    """A seminar and its process."""

    seminar: Seminar
    process: Process

    @property
    def page(self) -> str:
        """The address of the instructor's page."""
        return f"{_address(self.seminar)}/?token={self.seminar.token}"

    @property
    def links(self) -> str:
        """The address of the list to hand out."""
        return f"{_address(self.seminar)}/links?token={self.seminar.token}"


def _address(seminar: Seminar) -> str:
    host = socket.gethostname() if seminar.listen in EVERYWHERE else seminar.listen
    return f"http://{host_in_url(host)}:{seminar.port}"


def up(seminar: Seminar, told: Callable[[dict[str, Any]], None]) -> Running:
    """Start a seminar; returns when every seat's lab is up or has failed.

    Args:
        seminar: from ``seats.plan``.
        told: called for each seat whose lab is up or failed, with ``seat``, ``cause`` ("" if it is up) and ``remedy``.

    Raises:
        UsageError: a seminar runs already, or a port cannot be had; nothing was started.
        LabError: its process ended.
    """
    running = find()
    if running:
        raise UsageError(f"a seminar is up already: {running.page}", "Stop it first: srcip-nb seminar down")
    furnish(seminar)
    reading, writing = os.pipe()
    log = seminar.folder / ".seats" / "seminar.log"
    try:
        with open(log, "wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "srcip_nb.seminar_server",
                 json.dumps({"folder": str(seminar.folder), "ready_fd": writing})],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[writing],
                start_new_session=True,
            )  # fmt: skip
    finally:
        os.close(writing)
    found = Process.of(process.pid)
    if found:
        _record_path().write_text(json.dumps({"folder": str(seminar.folder), "process": asdict(found)}))
    try:
        with open(reading) as lines:
            for line in lines:
                message = json.loads(line)
                if "error" in message:
                    raise UsageError(message["error"]["cause"], message["error"]["remedy"])
                if "ready" in message and found:
                    return Running(seminar, found)
                told(message)
        raise LabError("the seminar's process ended before it was up", f"Its log: {log}")
    except BaseException:
        _end(found)
        process.wait()
        _record_path().unlink(missing_ok=True)
        raise


def _record_path() -> Path:
    return state_dir() / "seminar.json"


def _recorded() -> tuple[Path, Process] | None:
    try:
        data = json.loads(_record_path().read_text())
    except (OSError, ValueError):
        return None
    return Path(data["folder"]), Process(**data["process"])


def find() -> Running | None:
    """The seminar of this user, if it runs."""
    recorded = _recorded()
    if recorded is None or not recorded[1].alive:
        return None
    seminar = read_seminar(recorded[0])
    return Running(seminar, recorded[1]) if seminar else None


def choose() -> Running:
    """The seminar of this user.

    Raises:
        LabError: none runs.
    """
    running = find()
    if running is None:
        raise LabError("no seminar is up", "Start it: srcip-nb seminar up --seats 30")
    return running


def down(discard: bool = False) -> Path:
    """End the seminar with every JupyterLab, kernel and lab of it; returns the folder of the participants' work.

    A seminar whose process was killed has ended already; then this only tidies up.

    Args:
        discard: remove that folder.

    Raises:
        LabError: there is none, or something of it did not end.
    """
    recorded = _recorded()
    if recorded is None:
        raise LabError("no seminar is up", "Start it: srcip-nb seminar up --seats 30")
    folder, process = recorded
    seminar = read_seminar(folder)
    _end(process)
    if seminar:
        left = _wait_gone(seminar)
        if left:
            raise LabError(f"these seats did not end: {', '.join(left)}", "Try once more: srcip-nb seminar down")
    _record_path().unlink(missing_ok=True)
    if discard and seminar:
        shutil.rmtree(folder)
    return folder


def _wait_gone(seminar: Seminar) -> list[str]:
    """Wait until nothing of any seat runs; the names of the seats of which something does even then."""
    deadline = time.monotonic() + DOWN_WITHIN
    left = list(seminar.seats)
    while left:
        for seat in left:
            for lab in _labs(seminar, seat):
                if lab.owner is None:  # of a participant's own "lab up": the others end with their owner
                    stop(lab)
        left = [seat for seat in left if jupyter_process(seminar, seat) or _labs(seminar, seat)]
        if time.monotonic() > deadline:
            break
        time.sleep(0.05 if left else 0)
    return [seat.name for seat in left]


def _labs(seminar: Seminar, seat: Seat) -> list[LabRecord]:
    return running_labs(seminar.labs(seat)) if seminar.labs(seat).is_dir() else []


def _end(process: Process | None) -> None:
    for number, seconds in ((signal.SIGTERM, DOWN_WITHIN), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        if process is None or not process.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        while process.alive and time.monotonic() < deadline:
            time.sleep(0.02)


def who_can_reach(seminar: Seminar) -> str:
    """One sentence on who can open the seats, and what that lets them do."""
    if seminar.listen in LOOPBACK:
        return "Only this machine reaches the seats; --listen ADDRESS lets the room in."
    return (
        f"Whoever has a seat's link runs programs on this machine as {getpass.getuser()}, and the links travel "
        f"unencrypted (HTTP on {seminar.listen}): for a network you trust. The labs' APIs stay on 127.0.0.1."
    )
