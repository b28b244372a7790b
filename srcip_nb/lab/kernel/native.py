"""An agent on the machine's own kernel, as root or as an ordinary user in a user namespace.

    root      uid 0, or the capabilities to make network and mount namespaces
    userns    an ordinary user: root inside a user namespace, in which only one uid is known

Whether one works is found by trying it: make the namespaces, a veth, and the nat table of iptables-legacy.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from srcip_nb.errors import LabError
from srcip_nb.lab.kernel.channel import LONGEST_ANSWER, Agent

AGENT = Path(__file__).resolve().parent.parent / "agent"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START_TIMEOUT = 15.0

# The new namespaces end with the process in front of them, however that one ends.
_UNSHARE = ("unshare", "--net", "--pid", "--fork", "--kill-child")
UNSHARE = {"root": _UNSHARE, "userns": (*_UNSHARE, "--user", "--map-root-user")}

PYTHON = (sys.executable, "-I", "-S", str(AGENT))

NEEDED = {
    "unshare": "util-linux",
    "ip": "iproute2",
    "iptables-legacy-restore": "iptables",
    "conntrack": "conntrack",
    "nginx": "nginx-light",
}
_TRIAL = (
    "mount -t tmpfs tmpfs /run; ip link add trial0 type veth peer name trial1; iptables-legacy -t nat -S >/dev/null"
)


def missing_programs() -> list[str]:
    """List the programs the lab needs that this machine has not."""
    return [name for name in NEEDED if shutil.which(name, path=PATH) is None]


def install_command(programs: Iterable[str]) -> str:
    """What to type to get programs of ``NEEDED``."""
    return f"sudo apt-get install -y {' '.join(sorted({NEEDED[name] for name in programs}))}"


def can_run_native(kernel: str) -> str:
    """Try, in a child, whether a lab can run on this machine's kernel: "" or the reason why not, one sentence.

    Args:
        kernel: "root" or "userns".
    """
    missing = missing_programs()
    if missing:
        return f"programs are missing: {', '.join(missing)}; type: {install_command(missing)}"
    trial = [*UNSHARE[kernel], "--mount", "sh", "-ec", _TRIAL]
    try:
        done = subprocess.run(
            trial, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False, env={"PATH": PATH}
        )
    except subprocess.TimeoutExpired:
        return "a trial of network namespaces did not come to an end within 20 s"
    if done.returncode == 0:
        return ""
    words = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    if kernel == "userns":
        return f"an ordinary user may not make what the lab needs in a user namespace here ({words}){_userns_remedy()}"
    if os.geteuid() != 0:
        return f"an ordinary user may not make network namespaces here ({words}); type the command with sudo"
    return f"this machine's kernel, or the container around, does not allow what the lab needs ({words})"


def _userns_remedy() -> str:
    """What an administrator would type, once, where a setting is what stands in the way."""
    settings = (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        # Ubuntu 23.10 and later.
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    )
    for path, forbids, setting in settings:
        try:
            value = Path(path).read_text().strip()
        except OSError:
            continue
        if value == forbids:
            return f"; type: sudo sysctl -w {setting}"
    return ""


async def start_native(kernel: str) -> Agent:
    """Start an agent and wait until it is ready.

    Args:
        kernel: "root" or "userns".

    Raises:
        LabError: it cannot be started here, or a program is missing without which pods or rules could not be made.
    """
    missing = missing_programs()
    if missing:
        raise LabError(f"the lab needs programs that are missing here: {', '.join(missing)}", install_command(missing))
    try:
        process = await asyncio.create_subprocess_exec(
            *UNSHARE[kernel],
            *PYTHON,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_ANSWER,
            cwd="/",
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            # Ctrl-C in a terminal is for the owner; the lab ends when its input does.
            start_new_session=True,
        )
    except OSError as error:
        raise LabError(f"the lab's kernel process did not start: {error}", "type: srcip-nb doctor") from error
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise LabError("the lab's kernel process was started without pipes")
    agent = Agent(process, (process.stdout, process.stdin), process.stderr)
    try:
        await agent.wait_ready(START_TIMEOUT)
    except LabError as error:
        raise LabError(error.cause, can_run_native(kernel) or error.remedy) from error
    return agent
