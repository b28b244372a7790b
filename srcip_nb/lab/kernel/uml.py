"""An agent in a User Mode Linux: a kernel that is an ordinary process, for who has no privilege at all.

    linux.uml mem=128M rootfstype=hostfs ro ssl0=fd:7 init=python3 lab.seed=... -- -I -S AGENT guest

The agent is that kernel's first process. It sees the machine's files, read-only, and speaks over a serial line that is
one end of a socket pair. Debian's package user-mode-linux brings the kernel: 6.1, with ip_vs, without NAT in nftables;
`make kernel` builds one that has both.

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
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from srcip_nb.errors import LabError
from srcip_nb.lab.kernel.channel import LONGEST_ANSWER, Agent, last_line
from srcip_nb.lab.kernel.native import AGENT, PATH, install_command, missing_programs

PROGRAM = "linux.uml"
MEGABYTES = 128
START_TIMEOUT = 60.0
PANIC = "Kernel panic"
INSTALL = "sudo apt-get install -y user-mode-linux"
BUILD = "make kernel"


def find_program() -> str | None:
    """The kernel: what ``SRCIP_UML`` names, else what `make kernel` built, else Debian's; None if there is none."""
    for program in (os.environ.get("SRCIP_UML"), built_program()):
        if program and os.access(program, os.X_OK):
            return program
    return shutil.which(PROGRAM, path=PATH)


def built_program() -> str:
    """Where `make kernel` puts what it builds, in the user's cache (XDG Base Directory Specification 0.8)."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(cache if os.path.isabs(cache) else os.path.expanduser("~/.cache"), "srcip-nb/kernel", PROGRAM)


def command_line(program: str, wire: int, folder: str, seed: str) -> list[str]:
    """The kernel's command line.

    Args:
        program: path of the kernel.
        wire: file descriptor of the serial line's other end.
        folder: where it keeps its management socket.
        seed: 64 hex digits of randomness.
    """
    kernel = (
        f"mem={MEGABYTES}M root=/dev/root rootfstype=hostfs rootflags=/ ro init={sys.executable} "
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


async def start_uml(proxy_mode: str = "iptables") -> Agent:
    """Start an agent in a User Mode Linux and wait until it is ready.

    Args:
        proxy_mode: what it is wanted for; where there is none, it decides which one to get.

    Raises:
        LabError: it cannot be started here, or a program is missing.
    """
    program, missing = find_program(), missing_programs()
    if program is None:
        raise LabError("there is no User Mode Linux here", BUILD if proxy_mode == "nftables" else INSTALL)
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
    agent = Agent(process, wire, process.stdout, lambda words: _why_it_ended(words, folder))
    watcher = _start_watcher(process.pid, folder)
    agent.closed.add_done_callback(lambda _: _clear(watcher, folder))
    await agent.wait_ready(START_TIMEOUT)
    return agent


def _start_watcher(group: int, folder: str) -> subprocess.Popen[bytes]:
    """A shell that waits for this process to end, however it ends, and then ends the guest and removes its folder.

    The guest's own word is not enough: one whose host was killed has been seen to stay, idle, with its line closed.
    """
    script = 'read -r _; kill -s KILL -- "-$0"; rm -rf -- "$1"'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, str(group), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _clear(watcher: subprocess.Popen[bytes], folder: str) -> None:
    # Killed while its pipe is open, for the group's number may soon be another's.
    watcher.kill()
    watcher.wait()
    if watcher.stdin:
        watcher.stdin.close()
    shutil.rmtree(folder, ignore_errors=True)


def memory_folder() -> str:
    """Where the guest's memory goes, a file that is unlinked at once: a folder that lets programs be mapped from it.

    Raises:
        LabError: there is none; Docker mounts /dev/shm noexec, and a disk may be full.
    """
    tried = [os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp", os.path.expanduser("~/.cache"), "/dev/shm"]
    reasons = {}
    for folder in filter(None, tried):
        reasons[folder] = _unfit(folder)
        if not reasons[folder]:
            return folder
    words = ", ".join(f"{folder} {reason}" for folder, reason in reasons.items())
    raise LabError(
        f"no folder for the memory of a User Mode Linux: {words}",
        f"Set TMPDIR to a folder on a disk that is mounted without noexec and has {MEGABYTES} MB free.",
    )


def _unfit(folder: str) -> str:
    """Why a folder cannot hold the guest's memory; "" if it can."""
    if not os.access(folder, os.W_OK):
        return "is not writable"
    disk = os.statvfs(folder)
    if disk.f_flag & os.ST_NOEXEC:
        return "is mounted noexec"
    free = disk.f_bavail * disk.f_frsize
    return "" if free >= MEGABYTES << 20 else f"has only {free >> 20} MB free"


def _why_it_ended(said: str, folder: str) -> str:
    """The reason why a User Mode Linux ended: its own last words, and that its disk is full, which it does not know.

    Of a panic that is the line that names it, not the last address of the trace behind it. The guest has given back by
    now what it had, so the disk was full if even that is less than a guest may take.
    """
    panic = next((line for line in said.splitlines() if line.startswith(PANIC)), "")
    words = panic.strip() or last_line(said)
    with contextlib.suppress(OSError):
        reason = _unfit(os.path.dirname(folder))
        return (
            f"{words}; {os.path.dirname(folder)} {reason}, and its memory may take {MEGABYTES} MB" if reason else words
        )
    return words


@contextlib.contextmanager
def _on_one_cpu() -> Iterator[None]:
    """Children that are started meanwhile stay on one CPU; this process goes back to all it had."""
    had = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(sorted(had))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, had)
