"""An agent in a User Mode Linux: a kernel that is an ordinary process, for who has no privilege at all.

    linux.uml mem=128M rootfstype=hostfs ro ssl0=fd:7 init=python3 lab.seed=... -- -I -S AGENT guest

The agent is that kernel's first process. It sees the machine's files, read-only, and speaks over a serial line that is
one end of a socket pair. Debian's package user-mode-linux brings the kernel: 6.1, with ip_vs, without NAT in nftables.

The process is kept on one CPU: a User Mode Linux hands the CPU from its kernel to its programs all the time, and a lab
is two to four times as fast where that does not wake another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator

from srcip_nb.errors import LabError
from srcip_nb.lab.kernel.channel import LONGEST_ANSWER, Agent
from srcip_nb.lab.kernel.native import AGENT, PATH, install_command, missing_programs

PROGRAM = "linux.uml"
MEMORY = "128M"
START_TIMEOUT = 60.0
INSTALL = "sudo apt-get install -y user-mode-linux"


def find_program() -> str | None:
    """The kernel: what ``SRCIP_UML`` names, else Debian's; None if there is none."""
    named = os.environ.get("SRCIP_UML")
    return named if named and os.access(named, os.X_OK) else shutil.which(PROGRAM, path=PATH)


def command_line(program: str, wire: int, folder: str, seed: str) -> list[str]:
    """The kernel's command line.

    Args:
        program: path of the kernel.
        wire: file descriptor of the serial line's other end.
        folder: where it keeps its management socket.
        seed: 64 hex digits of randomness.
    """
    kernel = (
        f"mem={MEMORY} root=/dev/root rootfstype=hostfs rootflags=/ ro init={sys.executable} "
        f"con=null con0=null,fd:1 ssl=null ssl0=fd:{wire} umid=lab uml_dir={folder} quiet lab.seed={seed}"
    )
    return [program, *kernel.split(), "--", "-I", "-S", str(AGENT), "guest"]


def can_run_uml() -> str:
    """Start one and end it: "" or the reason why it cannot run, one sentence."""
    program = find_program()
    if program is None:
        return f"there is no User Mode Linux here; type: {INSTALL}"

    async def trial() -> None:
        await (await start_uml()).close()

    try:
        asyncio.run(trial())
    except LabError as error:
        return f"{error.cause}; type: {error.remedy}" if error.remedy else error.cause
    return ""


async def start_uml() -> Agent:
    """Start an agent in a User Mode Linux and wait until it is ready.

    Raises:
        LabError: it cannot be started here, or a program is missing.
    """
    program, missing = find_program(), missing_programs()
    if program is None:
        raise LabError("there is no User Mode Linux here", INSTALL)
    if missing:
        raise LabError(f"the lab needs programs that are missing here: {', '.join(missing)}", install_command(missing))
    ours, theirs = socket.socketpair()
    folder = tempfile.mkdtemp(prefix="srcip-uml-", dir=memory_folder())
    with ours, theirs, _on_one_cpu():
        try:
            process = await asyncio.create_subprocess_exec(
                *command_line(program, theirs.fileno(), folder, secrets.token_hex(32)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd="/",
                env={"PATH": PATH, "LANG": "C.UTF-8", "TMPDIR": folder, "HOME": folder},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise LabError(f"the lab's kernel process did not start: {error}", "type: srcip-nb doctor") from error
        wire = await asyncio.open_connection(sock=ours.dup(), limit=LONGEST_ANSWER)
    if process.stdout is None:
        raise LabError("the lab's kernel process was started without pipes")
    agent = Agent(process, wire, process.stdout)
    agent.closed.add_done_callback(lambda _: shutil.rmtree(folder, ignore_errors=True))
    await agent.wait_ready(START_TIMEOUT)
    return agent


def memory_folder() -> str:
    """Where the guest's memory goes, a file that is unlinked at once: a folder that lets programs be mapped from it.

    Raises:
        LabError: there is none; Docker mounts /dev/shm noexec.
    """
    tried = [os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp", os.path.expanduser("~/.cache"), "/dev/shm"]
    for folder in filter(None, tried):
        if os.access(folder, os.W_OK) and not os.statvfs(folder).f_flag & os.ST_NOEXEC:
            return folder
    raise LabError(
        f"no folder for the memory of a User Mode Linux: {', '.join(filter(None, tried))} are noexec or not writable",
        "Set TMPDIR to a folder on a disk that is mounted without noexec.",
    )


@contextlib.contextmanager
def _on_one_cpu() -> Iterator[None]:
    """Children that are started meanwhile stay on one CPU; this process goes back to all it had."""
    had = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(sorted(had))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, had)
