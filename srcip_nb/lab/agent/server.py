"""The agent's start, its private state, and the loop that reads requests.

Each request runs in a thread of its own, for namespaces are entered by threads; the thread that reads never waits, so
input, signals and further requests always get through.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from . import guest, podroot, syscalls, users
from .operations import INLINE, Operations
from .processes import PATH
from .programs import Running
from .protocol import ProgramError, RequestError, Wire
from .spaces import HOSTS_FILE, STATE, in_thread, write_run_links

FILES = 65536
PROGRAMS = (
    "conntrack",
    "curl",
    "ipset",
    "iptables-legacy-restore",
    "iptables-nft-restore",
    "ipvsadm",
    "nft",
    "nginx",
    "tcpdump",
)


def main() -> int:
    """Serve standard input and output until the host closes them."""
    if os.getpid() != 1:
        sys.stderr.write(
            "the agent has to be the first process of a pid namespace: unshare --net --pid --fork --kill-child\n"
        )
        return 2
    is_guest = sys.argv[1:2] == ["guest"]  # User Mode Linux adds "console=tty0"
    try:
        wire = guest.start() if is_guest else _take_wire()
    except OSError as error:
        sys.stderr.write(f"the guest does not start: {error}\n")
        return 1
    os.umask(0o022)
    signal.signal(signal.SIGTERM, lambda *_: guest.power_off() if is_guest else os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with open("/proc/self/uid_map") as file:
            is_alone = users.knows_one_user(file.read())
        if is_alone:
            users.pretend_other_users()
        prepare_mounts()
        if is_guest:
            guest.complete_cpuinfo()
    except OSError as error:
        sys.stderr.write(f"the agent cannot make its private surroundings: {error}\n")
        return 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES if hard < 0 else min(FILES, hard)), hard))
    features = {
        "overlay": in_thread(podroot.has_overlay),
        "programs": [name for name in PROGRAMS if shutil.which(name, path=PATH)],
    }
    server = Server(wire, Operations(wire.send, has_overlay=bool(features["overlay"])))
    wire.send({"ready": {"kernel": os.uname().release, "features": features, "piece": wire.piece}})
    try:
        server.serve()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    if is_guest:
        guest.power_off()
    # Not sys.exit: threads may be waiting for processes, and the kernel ends those with this one.
    os._exit(0)


def _take_wire() -> Wire:
    """Keep the wire for itself: what is printed by mistake goes to standard error, and no child inherits it."""
    wire = Wire(os.dup(0), os.dup(1))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return wire


def prepare_mounts() -> None:
    """Make what the agent keeps private: /proc of its own processes, /run on a tmpfs, name files of the lab's own."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    # This hides the machine's own sockets there too: nscd's and systemd-resolved's would answer for names outside.
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=64m")
    os.makedirs(podroot.LAYERS)
    write_run_links()
    empty = f"{STATE}/resolv.conf"
    for path, text in ((HOSTS_FILE, "127.0.0.1\tlocalhost\n"), (empty, "")):
        with open(path, "w") as file:
            file.write(text)
    for source, target in ((HOSTS_FILE, "/etc/hosts"), (empty, "/etc/resolv.conf")):
        if os.path.exists(target):
            syscalls.mount(source, target, flags=syscalls.MS_BIND)


class Server:
    """Takes requests and answers them."""

    def __init__(self, wire: Wire, operations: Operations) -> None:
        self._wire = wire
        self._operations = operations

    def serve(self) -> None:
        """Read requests until the host closes its end."""
        for request in self._wire.requests():
            number, name = request.pop("id", None), request.pop("op", None)
            try:
                if not isinstance(number, int):
                    number = None
                    raise RequestError("a request wants a number as its id")
                function = self._find(name, request)
            except RequestError as error:
                self._wire.send({"id": number, "error": str(error)})
                continue
            running = self._operations.begin(number, name)
            if name in INLINE:
                self._run(running, function, request)
            else:
                threading.Thread(target=self._run, args=(running, function, request), daemon=True).start()

    def _find(self, name: object, arguments: dict[str, Any]) -> Callable[..., Any]:
        function = getattr(self._operations, f"op_{name}", None) if isinstance(name, str) else None
        if function is None:
            raise RequestError(f"there is no operation {name!r}")
        code, defaults = function.__code__, function.__defaults__ or ()
        known = code.co_varnames[2 : code.co_argcount]
        missing = [word for word in known[: len(known) - len(defaults)] if word not in arguments]
        unknown = [word for word in arguments if word not in known]
        if missing or unknown:
            what = f"wants {', '.join(missing)}" if missing else f"does not know {', '.join(unknown)}"
            raise RequestError(f"operation {name} {what}")
        return function

    def _run(self, running: Running, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            answer = {"result": function(running, **arguments)}
        except RequestError as error:
            answer = {"error": str(error)}
            if isinstance(error, ProgramError):
                answer["code"] = error.code
        except Exception as error:
            # The request was well formed and the kernel or this program would not: tell both ends.
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        self._operations.end(running)
        self._wire.send({"id": running.id, **answer})
