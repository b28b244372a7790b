"""Starting and stopping labs, and the lab a notebook finds or starts.

Who owns a lab decides when it ends: ``Lab()`` belongs to the calling process; the lab of ``connect()`` in a notebook to
the process that started the notebook's kernel (JupyterLab or papermill), so that one lab serves several notebooks in
turn; the lab of ``srcip-nb lab up`` to nobody, until ``srcip-nb lab down``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from srcip_nb.errors import LabError, UsageError
from srcip_nb.lab.client import LabClient
from srcip_nb.lab.spec import DEFAULT_NAME, LabSpec
from srcip_nb.lab.state import LabRecord, Process, cannot_write, find_lab, read_record, state_dir
from srcip_nb.lab.trace import Trace

START_WITHIN = 60.0  # seconds
STOP_WITHIN = 10.0  # seconds

_count = itertools.count(1)
_children: dict[int, Child] = {}  # supervisors started here: a parent has to collect their ends


class Child(Protocol):
    """A supervisor's process, as whoever started it sees it."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """Return when it has ended, and collect its end."""


class Launcher(Protocol):
    """How a supervisor comes to run: as a program of its own, or as a fork of a warm process (``template.py``)."""

    def __call__(self, order: dict[str, Any], log: BinaryIO, ready_fd: int) -> Child:
        """Start it on an order; it writes to ``log`` and says once on ``ready_fd`` what came of the start."""


def start(spec: LabSpec, owner: Process | None, where: Path | None = None, launch: Launcher | None = None) -> LabRecord:
    """Start a lab and return when its nodes are Ready and its API answers.

    Args:
        spec: its settings.
        owner: the process at whose end the lab ends; None: it runs until it is stopped.
        where: the directory that holds the lab's own; None: ``state_dir()``.
        launch: how the supervisor comes to run; None: as a program of its own.

    Raises:
        LabError: a lab of that name runs already, or this machine cannot run one; nothing is left behind.
    """
    where = where or state_dir()
    with _starting_one_at_a_time(where):
        if find_lab(spec.name, where):
            raise LabError(f"a lab named {spec.name!r} is running already", f"Stop it: srcip-nb lab down {spec.name}")
        directory = where / spec.name
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir(mode=0o700)
        except OSError as error:
            raise cannot_write(directory, error) from error
        return _spawn(spec, owner, directory, launch or _program)


def _program(order: dict[str, Any], log: BinaryIO, ready_fd: int) -> Child:
    return subprocess.Popen(
        [sys.executable, "-m", "srcip_nb.lab.supervisor", json.dumps({**order, "ready_fd": ready_fd})],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[ready_fd],
        start_new_session=True,
        cwd="/",
    )


def _spawn(spec: LabSpec, owner: Process | None, directory: Path, launch: Launcher) -> LabRecord:
    reading, writing = os.pipe()
    order = {
        "spec": spec.to_dict(),
        "owner": {"pid": owner.pid, "started": owner.started} if owner else None,
        "directory": str(directory),
    }
    log = directory / "log"
    try:
        # Appending, so that whoever writes goes on at the end after `trim_log` has cut it.
        with open(log, "ab") as errors:
            process = launch(order, errors, writing)
    finally:
        os.close(writing)
    try:
        answer = _read_until_closed(reading, START_WITHIN)
        record = read_record(directory)
        if "ready" in answer and record:
            _children[process.pid] = process
            return record
        said = log.read_text(errors="replace").strip() if log.exists() else ""
        error = answer.get("error") or {
            "cause": f"the lab did not come up; it said: {said[-2000:] or 'nothing'}",
            "remedy": "See what this machine can do: srcip-nb doctor",
        }
        raise LabError(error["cause"], error["remedy"])
    except BaseException:
        _end(Process.of(process.pid))
        process.wait(STOP_WITHIN)
        shutil.rmtree(directory, ignore_errors=True)  # its janitor may be on its way still
        raise
    finally:
        os.close(reading)


def _read_until_closed(descriptor: int, seconds: float) -> dict[str, Any]:
    """The one JSON text that the other end writes before it closes; {} when time runs out or nothing came."""
    text, deadline = b"", time.monotonic() + seconds
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        text += piece
    return json.loads(text) if text else {}


def stop(record: LabRecord) -> None:
    """Stop a lab and return when its processes and files are gone.

    Raises:
        LabError: it did not end in time.
    """
    _end(record.supervisor)
    child = _children.pop(record.supervisor.pid, None)
    if child:
        child.wait(STOP_WITHIN)
    deadline = time.monotonic() + STOP_WITHIN
    while record.directory.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if record.supervisor.alive or record.directory.exists():
        raise LabError(f"lab {record.name!r} did not end within {STOP_WITHIN:.0f} s", "Try once more.")


def _end(process: Process | None) -> None:
    """Ask a process to end, then make it; returns when it is gone."""
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if process is None or not process.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        deadline = time.monotonic() + seconds
        while process.alive and time.monotonic() < deadline:
            time.sleep(0.005)


@contextlib.contextmanager
def _starting_one_at_a_time(where: Path) -> Iterator[None]:
    """Two kernels that open at once must not start two labs of one name."""
    import fcntl  # Windows has none; there this module can be imported all the same

    with open(where / ".starting", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Lab:
    """A lab for a ``with`` block; it ends with the block, or with this process.

    Args:
        workers: number of worker nodes, 1 to 50.
        clients: number of hosts outside the cluster.
        cni: the pod network, ``calico``, ``flannel`` or ``ptp``.
        proxy_mode: kube-proxy's mode to begin with, ``iptables``, ``nftables`` or ``ipvs``.
        name: how other commands call it; made up from the process number if left out.
        kernel: where the kernel comes from.
        announce: how external addresses are announced, ``l2`` or ``bgp``.
        ipvs_scheduler: how mode ipvs shares connections out, ``rr``, ``lc`` or ``sh``.

    Attributes:
        client: hosts, commands and requests (``LabClient``), once the block is entered.
        kubeconfig: path of the kubeconfig, mode 0600.

    Example:
        >>> with Lab() as lab:
        ...     print(lab.client.exec("client", ["ip", "route"]).stdout)
    """

    def __init__(
        self,
        workers: int = 2,
        clients: int = 1,
        cni: str = "calico",
        proxy_mode: str = "iptables",
        name: str | None = None,
        kernel: str = "auto",
        announce: str = "l2",
        ipvs_scheduler: str = "rr",
    ) -> None:
        name = name or f"p{os.getpid()}-{next(_count)}"
        self.spec = LabSpec(
            name, workers, clients, cni, proxy_mode, kernel, announce=announce, ipvs_scheduler=ipvs_scheduler
        )
        self._record: LabRecord | None = None
        self._client: LabClient | None = None

    def __enter__(self) -> Lab:
        self._record = start(self.spec, Process.of(os.getpid()))
        self._client = client_of(self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._record:
            stop(self._record)
        self._record = self._client = None

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.spec.name

    @property
    def client(self) -> LabClient:
        """The running lab; LabError outside the ``with`` block."""
        if self._client is None:
            raise LabError(f"lab {self.name!r} is not running", "Use it inside its block: with Lab() as lab: …")
        return self._client

    def proxy_mode(self, mode: str | None = None) -> str:
        """Tell kube-proxy's mode, or change it: see ``LabClient.proxy_mode``."""
        return self.client.proxy_mode(mode)

    def trace(self, host: str, target: str) -> Trace:
        """Follow one request through the nodes' rules: see ``LabClient.trace``."""
        return self.client.trace(host, target)

    @property
    def record(self) -> LabRecord:
        """Processes and directory of the running lab; LabError outside the ``with`` block."""
        if self._record is None:
            raise LabError(f"lab {self.name!r} is not running", "Use it inside its block: with Lab() as lab: …")
        return self._record

    @property
    def kubeconfig(self) -> Path:
        """Path of the kubeconfig."""
        return self.client.kubeconfig


def client_of(record: LabRecord) -> LabClient:
    """The client of a running lab.

    Raises:
        LabError: its kubeconfig is gone, so the lab is too.
    """
    client = LabClient.from_kubeconfig(record.kubeconfig)
    if client is None:
        raise LabError(f"lab {record.name!r} has ended", "Start it again: srcip-nb lab up")
    return client


def ensure_lab(**settings: Any) -> LabClient:
    """The lab of this notebook or program: the one that runs for it already, else a new one.

    In this order: the lab that ``SRCIP_LAB`` names; the lab of this owner; the lab of ``srcip-nb lab up``; a new one.
    A lab whose settings differ from what was asked for is not taken.

    Args:
        **settings: fields of ``LabSpec``; what is left out does not matter.

    Raises:
        LabError: ``SRCIP_LAB`` names a lab that does not run, or this machine cannot run one.
        UsageError: a setting is unknown or out of range, or the lab that is meant runs with other ones.
    """
    unknown = set(settings) - {field.name for field in fields(LabSpec)}
    if unknown:
        raise UsageError(
            f"a lab has no setting {', '.join(map(repr, sorted(unknown)))}",
            f"It has: {', '.join(field.name for field in fields(LabSpec))}.",
        )
    LabSpec(**settings)
    named = os.environ.get("SRCIP_LAB")
    if named:
        record = find_lab(named)
        if record is None:
            raise LabError(
                f"SRCIP_LAB names {named!r}, and no such lab runs", f"Start it: srcip-nb lab up --name {named}"
            )
        if _differing(record, settings):
            raise _other_settings(record, settings)
        return client_of(record)
    owner = notebook_owner() or Process.of(os.getpid())
    own_name = f"nb-{owner.pid}" if owner else DEFAULT_NAME
    spec = replace(LabSpec(), **{**settings, "name": settings.get("name") or own_name})
    for name in (spec.name, DEFAULT_NAME):
        record = find_lab(name)
        if record is None:
            continue
        if not _differing(record, settings):
            return client_of(record)
        if name == spec.name:
            raise _other_settings(record, settings)
    try:
        return client_of(start(spec, owner))
    except LabError:
        record = find_lab(spec.name)  # another notebook of the same owner was quicker
        if record is None:
            raise
        return client_of(record)


def _differing(record: LabRecord, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings asked for that a running lab does not have, with its own values."""
    asked = {name: value for name, value in settings.items() if name != "name"}
    return {name: record.spec.get(name) for name, value in asked.items() if record.spec.get(name) != value}


def _other_settings(record: LabRecord, settings: dict[str, Any]) -> UsageError:
    has = ", ".join(f"{name}={value}" for name, value in _differing(record, settings).items())
    return UsageError(f"lab {record.name!r} runs with {has}", f"Stop it first: srcip-nb lab down {record.name}")


def notebook_owner() -> Process | None:
    """The process that started this notebook's kernel; None outside a kernel.

    jupyter_client tells a kernel its parent in ``JPY_PARENT_PID``; a kernel whose parent has gone owns itself.
    """
    # Looked up, not imported: outside a kernel its import would take the channels of all widgets over.
    kernelapp = sys.modules.get("ipykernel.kernelapp")
    if kernelapp is None or not kernelapp.IPKernelApp.initialized():
        return None
    parent = int(os.environ.get("JPY_PARENT_PID") or os.getppid())
    started_by_init = parent == 1 and os.getppid() != 1
    return Process.of(os.getpid() if started_by_init else parent) or Process.of(os.getpid())
