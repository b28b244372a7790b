"""What is known of the labs of this user: one directory a lab, and nothing else on disk.

    STATE/NAME/lab.json     settings, the supervisor's process, the owner's process, the API's address
    STATE/NAME/kubeconfig   how to reach the API, token included (mode 0600)
    STATE/NAME/log          what the supervisor had to say

STATE is ``$SRCIP_STATE_DIR``, else ``$XDG_RUNTIME_DIR/srcip-nb``, else ``/tmp/srcip-nb-UID``. A process is recorded
with its start time, so that a number used again by a stranger is never taken for ours.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from srcip_nb.errors import LabError

LOG_LIMIT = 1 << 20
"""Bytes that a supervisor's log may take."""


@dataclass(frozen=True)
class Process:
    """A process by number and start time (clock ticks since boot, field 22 of /proc/PID/stat, proc(5))."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this number now, or None."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        state, *rest = stat.rpartition(")")[2].split()
        return None if state == "Z" else cls(pid, int(rest[18]))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self


@dataclass(frozen=True)
class LabRecord:
    """One lab as its ``lab.json`` tells it.

    Attributes:
        kernel: the kernel it runs on.
        passed_over: kernels that were tried before, and why they would not do.
    """

    name: str
    directory: Path
    spec: dict[str, Any]
    supervisor: Process
    owner: Process | None
    created: float
    url: str = ""
    kernel: str = ""
    passed_over: dict[str, str] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        """Path of the kubeconfig."""
        return self.directory / "kubeconfig"


def state_dir() -> Path:
    """The directory that holds this user's labs; made with mode 0700 when it is missing.

    Raises:
        LabError: the directory cannot be made, or belongs to somebody else.
    """
    chosen = os.environ.get("SRCIP_STATE_DIR")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if chosen:
        path = Path(chosen)
    elif runtime and os.access(runtime, os.W_OK):
        path = Path(runtime) / "srcip-nb"
    else:
        path = Path(tempfile.gettempdir()) / f"srcip-nb-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(
            f"the directory for labs, {path}, cannot be made: {error.strerror}",
            "Set SRCIP_STATE_DIR to a directory of your own.",
        ) from error
    if path.stat().st_uid != os.getuid():
        raise LabError(f"{path} belongs to another user", "Set SRCIP_STATE_DIR to a directory of your own.")
    return path


def is_disk_full(error: BaseException) -> TypeGuard[OSError]:
    """Whether something failed because a disk, or a user's share of it, has no room left (errno(3))."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def cannot_write(directory: Path, error: OSError) -> LabError:
    """What is said of a lab's directory that does not take its few files."""
    return LabError(
        f"the lab's files cannot be written in {directory}: {error.strerror}",
        "Make room there, or set SRCIP_STATE_DIR to a directory on another disk.",
    )


def write_record(record: LabRecord) -> None:
    """Write ``lab.json`` so that a reader sees the old text or the new one, never half."""
    owner = {"pid": record.owner.pid, "started": record.owner.started} if record.owner else None
    text = json.dumps(
        {
            "name": record.name,
            "spec": record.spec,
            "supervisor": {"pid": record.supervisor.pid, "started": record.supervisor.started},
            "owner": owner,
            "created": record.created,
            "url": record.url,
            "kernel": record.kernel,
            "passed_over": record.passed_over,
        },
        indent=1,
    )
    draft = record.directory / ".lab.json"
    draft.write_text(text)
    draft.replace(record.directory / "lab.json")


def read_record(directory: Path) -> LabRecord | None:
    """The lab of a directory, or None where no lab has been written yet."""
    try:
        data = json.loads((directory / "lab.json").read_text())
    except (OSError, ValueError):
        return None
    return LabRecord(
        name=data["name"],
        directory=directory,
        spec=data["spec"],
        supervisor=Process(**data["supervisor"]),
        owner=Process(**data["owner"]) if data["owner"] else None,
        created=data["created"],
        url=data["url"],
        kernel=data.get("kernel", ""),
        passed_over=data.get("passed_over", {}),
    )


def trim_log(path: Path, limit: int = LOG_LIMIT) -> None:
    """Cut a log that is longer than `limit` bytes to the whole lines of its last quarter.

    Its writers have to append (O_APPEND). What they write while this cuts may be lost.
    """
    if not path.exists() or path.stat().st_size <= limit:
        return
    with open(path, "r+b") as log:
        log.seek(-limit // 4, os.SEEK_END)
        kept = log.read().partition(b"\n")[2]
        log.truncate(0)
    with open(path, "ab") as log:
        log.write(b"(older lines are gone)\n" + kept)


def running_labs(where: Path | None = None) -> list[LabRecord]:
    """The labs of this user whose supervisor runs, oldest first; what a dead one left behind is removed.

    Args:
        where: the directory that holds them; None: ``state_dir()``.
    """
    labs = []
    for directory in (where or state_dir()).iterdir():
        if not directory.is_dir():
            continue
        record = read_record(directory)
        if record is None:
            continue
        if record.supervisor.alive:
            labs.append(record)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return sorted(labs, key=lambda lab: lab.created)


def find_lab(name: str, where: Path | None = None) -> LabRecord | None:
    """The running lab of that name, or None."""
    return next((lab for lab in running_labs(where) if lab.name == name), None)


def choose_lab(name: str | None) -> LabRecord:
    """The lab a command means: the named one, else the only one, else the one that ``lab up`` makes by default.

    Raises:
        LabError: there is none, or there are several and none was named.
    """
    labs = running_labs()
    names = ", ".join(lab.name for lab in labs)
    if name:
        for lab in labs:
            if lab.name == name:
                return lab
        known = f"Running: {names}." if labs else f"Start it: srcip-nb lab up --name {name}"
        raise LabError(f"no lab named {name!r} is running", known)
    if not labs:
        raise LabError("no lab is running", "Start one: srcip-nb lab up")
    if len(labs) == 1:
        return labs[0]
    for lab in labs:
        if lab.name == "lab":
            return lab
    raise LabError(f"{len(labs)} labs are running: {names}", "Say which: --name NAME")
