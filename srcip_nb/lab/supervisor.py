r"""The process that is a lab: API, store and controllers here, the kernel's part in an agent below it.

    owner ··watched··> supervisor --pipe--> agent (hosts, pods, rules)
                            \--pipe--> janitor (removes the lab's directory when the pipe closes)

Nothing outlives its owner: the owner's end is a readable file descriptor (pidfd_open(2)), the supervisor's end closes
two pipes, and the agent's end takes its process namespace with it. So any one of them may be killed with SIGKILL and
the others leave by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from srcip_nb.errors import LabError, SrcipError
from srcip_nb.lab.kubeconfig import kubeconfig, kubeconfig_text
from srcip_nb.lab.spec import LabSpec
from srcip_nb.lab.state import LabRecord, Process, cannot_write, is_disk_full, trim_log, write_record

NODES_READY_WITHIN = 30.0  # seconds; a lab that needs longer is broken
LOOK_EVERY = 5.0  # seconds, after the log and the record


def main() -> None:
    """Run one lab; ``lifecycle.start`` gives the order as JSON."""
    carry_out(json.loads(sys.argv[1]))


def carry_out(order: dict[str, Any]) -> None:
    """Run one lab until its owner ends, its agent ends, or SIGTERM."""
    ready = os.fdopen(order["ready_fd"], "w")
    directory = Path(order["directory"])
    janitor = _start_janitor(directory)
    try:
        spec = LabSpec(**order["spec"])
        owner = Process(**order["owner"]) if order["owner"] else None
        asyncio.run(_Supervisor(spec, owner, directory).run(ready))
    except SrcipError as error:
        _tell(ready, {"error": {"cause": error.cause, "remedy": error.remedy}})
    except Exception as error:  # whatever it was, the caller learns it and the log has the traceback
        told = LabError(f"the lab broke: {error!r}", "This is a fault of srcip-nb.")
        if is_disk_full(error):
            told = cannot_write(directory, error)
        _tell(ready, {"error": {"cause": told.cause, "remedy": told.remedy}})
        with contextlib.suppress(OSError):  # the log may be on that same full disk
            traceback.print_exc()
    finally:
        if janitor.stdin:
            janitor.stdin.close()
        janitor.wait()


def _tell(ready: Any, message: dict[str, Any]) -> None:
    """Say the outcome of the start once; after that the caller is gone and nobody listens."""
    if not ready.closed:
        try:
            ready.write(json.dumps(message))
            ready.close()
        except BrokenPipeError:
            return


def _start_janitor(directory: Path) -> subprocess.Popen[bytes]:
    """A shell that waits for this process to end and then removes the lab's directory."""
    script = 'read -r _; rm -rf -- "$0"'
    return subprocess.Popen(["/bin/sh", "-c", script, str(directory)], stdin=subprocess.PIPE, start_new_session=True)


class _Supervisor:
    def __init__(self, spec: LabSpec, owner: Process | None, directory: Path) -> None:
        self.spec = spec
        self.owner = owner
        self.directory = directory
        self.created = time.time()
        self.kernel = ""
        self.passed_over: dict[str, str] = {}
        self._owed: tuple[str, LabSpec] | None = None

    async def run(self, ready: Any) -> None:
        """Be the lab until its owner or its agent ends, or SIGTERM comes; at any moment, the start included."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        with _watched(self.owner, stopping):
            lab = asyncio.ensure_future(self._be_a_lab(ready))
            ending = asyncio.ensure_future(stopping.wait())
            keeping = asyncio.ensure_future(_keep_house(self.directory / "log", self._pay))
            await asyncio.wait({lab, ending}, return_when=asyncio.FIRST_COMPLETED)
            for task in (lab, ending, keeping):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await lab

    async def _be_a_lab(self, ready: Any) -> None:
        """Start the parts, say that the lab is ready, and stay until the agent ends."""
        from srcip_nb.lab.kernel import start_agent

        booting = asyncio.ensure_future(start_agent(self.spec.kernel, self.spec.proxy_mode))
        await asyncio.sleep(0)  # the agent's process starts while the server's modules are imported
        async with contextlib.AsyncExitStack() as parts:
            parts.push_async_callback(_close, booting)
            from srcip_nb.lab.serve import serve

            agent = await booting
            self.kernel, self.passed_over = agent.kernel, agent.passed_over
            served = await parts.enter_async_context(serve(self.spec, agent))
            self._write_files(served.url, served.ca_pem, served.token)
            served.proxy.on_mode = lambda mode: self._note_mode(served.url, mode)
            try:
                await asyncio.wait_for(served.nodes_ready(), NODES_READY_WITHIN)
            except asyncio.TimeoutError as error:
                words = f"the lab's nodes were not Ready within {NODES_READY_WITHIN:.0f} s"
                raise LabError(words, "See what this machine can do: srcip-nb doctor") from error
            _tell(ready, {"ready": {"url": served.url}})
            # Shielded: who cancels this wait must not make it look as if the agent had ended.
            _say(f"the lab's kernel process has ended: {await asyncio.shield(agent.closed)}")

    def _write_files(self, url: str, ca_pem: bytes, token: str) -> None:
        path = self.directory / "kubeconfig"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(kubeconfig_text(kubeconfig(self.spec.name, url, ca_pem, token)))
        self._write_record(url, self.spec)

    def _note_mode(self, url: str, mode: str) -> None:
        """Put the proxy mode that is in force into the record; on a full disk later, for the nodes have it already."""
        self._owed = (url, replace(self.spec, proxy_mode=mode))
        self._pay()

    def _pay(self) -> None:
        if self._owed is None:
            return
        try:
            self._write_record(*self._owed)
        except OSError as error:
            _say(f"the lab's record is not up to date: {error}")
        else:
            self._owed = None

    def _write_record(self, url: str, spec: LabSpec) -> None:
        """Tell other commands what this lab is; its proxy mode may change while it runs."""
        supervisor = Process.of(os.getpid())
        if supervisor is None:
            raise LabError("/proc is not readable", "Mount /proc; a lab needs it to know its own processes.")
        write_record(
            LabRecord(
                name=spec.name,
                directory=self.directory,
                spec=spec.to_dict(),
                supervisor=supervisor,
                owner=self.owner,
                created=self.created,
                url=url,
                kernel=self.kernel,
                passed_over=self.passed_over,
            )
        )


async def _keep_house(log: Path, pay: Callable[[], None]) -> None:
    """Keep the log small, and write what could not be written before."""
    while True:
        with contextlib.suppress(OSError):  # no room even for what is to be kept: next time
            trim_log(log)
        pay()
        await asyncio.sleep(LOOK_EVERY)


def _say(words: str) -> None:
    """Say it in the log; a disk without room for it is no reason to end."""
    with contextlib.suppress(OSError):
        print(words, file=sys.stderr)


async def _close(booting: asyncio.Future[Any]) -> None:
    """End an agent, whether it is up already or still on its way."""
    with contextlib.suppress(LabError):  # an agent that never came up has been told of where it was awaited
        await (await booting).close()


@contextlib.contextmanager
def _watched(owner: Process | None, stopping: asyncio.Event) -> Iterator[None]:
    """While inside, ``stopping`` is set as soon as the owner ends; an owner that is gone already stops at once."""
    if owner is None:
        yield
        return
    try:
        descriptor = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        raise LabError(f"the lab's owner, process {owner.pid}, ended before the lab was up") from None
    loop = asyncio.get_running_loop()
    try:
        if not owner.alive:
            raise LabError(f"the lab's owner, process {owner.pid}, ended before the lab was up")
        loop.add_reader(descriptor, stopping.set)
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


if __name__ == "__main__":
    main()
