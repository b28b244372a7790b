"""Hosts and pods: each a network, a mount and a UTS namespace, held by file descriptors and by nothing else.

A pod on its host's network is a space that shares the host's network namespace.

A space has a name. To do something in it, a thread that is about to end enters it (`Space.enter`) and never comes back;
what that thread forks, or the sockets it opens, belong to the space. The machine's files are a host's files, but /sys
shows the host's own devices, /run is empty and its own, the host's name is its own, names resolve by the lab's
/etc/hosts and no other way.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from . import syscalls
from .netlink import Netlink
from .protocol import RequestError

T = TypeVar("T")

STATE = "/run/srcip-nb"
HOSTS_FILE = f"{STATE}/hosts"
_KINDS = (("mnt", syscalls.CLONE_NEWNS), ("net", syscalls.CLONE_NEWNET), ("uts", syscalls.CLONE_NEWUTS))


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a thread of its own, which may enter namespaces, and hand on its result or its error."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((True, function(*arguments)))
        except BaseException as error:
            outcome.extend((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if outcome[0]:
        return outcome[1]
    raise outcome[1]


class Space:
    """One host or pod, made by the calling thread, which stays inside.

    Attributes:
        name: the namespace's name in the texts of topology.py.
        hostname: what hostname(1) says inside.
        netlink: its rtnetlink socket.
        addresses: what `ip addr add` gave it, in order.
        default_route: gateway and device that `ip route add default` gave it.
    """

    def __init__(self, name: str, hostname: str, make_root: Callable[[], None], host: Space | None = None) -> None:
        self.name = name
        self.hostname = hostname
        self.addresses: list[str] = []
        self.default_route: tuple[str, str] | None = None
        self._has_own_net = host is None
        syscalls.unshare(syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWNS)
        if host is None:
            syscalls.unshare(syscalls.CLONE_NEWNET)
        else:
            host.enter_net()
        syscalls.sethostname(hostname)
        make_root()
        self._fds = {kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind, _ in _KINDS}
        self.netlink = Netlink()

    @property
    def net(self) -> int:
        """File descriptor of the network namespace."""
        return self._fds["net"]

    def enter(self) -> None:
        """Take the calling thread in, for good."""
        # A mount namespace cannot be entered while root and working directory are shared with other threads.
        syscalls.unshare(syscalls.CLONE_FS)
        for kind, flag in _KINDS:
            syscalls.setns(self._fds[kind], flag)

    def enter_net(self) -> None:
        """Take the calling thread into the network namespace alone; enough to open a socket or write a sysctl."""
        syscalls.setns(self.net, syscalls.CLONE_NEWNET)

    def close(self) -> None:
        """Remove its devices at once (their other ends too) and let go; the kernel does the rest."""
        for device in self.netlink.devices() if self._has_own_net else ():
            if device != "lo":
                # tunl0 and its like come with the namespace and can only go with it.
                with contextlib.suppress(OSError):
                    self.netlink.delete_link(device)
        self.netlink.close()
        for fd in self._fds.values():
            os.close(fd)


def mount_host_root(hostname: str) -> None:
    """Give the calling thread's mount namespace what makes a host a machine of its own."""
    mount_sys()
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=16m")
    write_run_links()
    if os.path.exists("/etc/hostname"):
        with open("/run/hostname", "w") as file:
            file.write(hostname + "\n")
        syscalls.mount("/run/hostname", "/etc/hostname", flags=syscalls.MS_BIND)


def mount_sys(place: str = "/sys") -> None:
    """Show the calling thread's own network devices in /sys, where the kernel allows it."""
    try:
        syscalls.mount("sysfs", place, "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    except PermissionError:
        # Some sandboxes forbid new mounts of sysfs; ip(8) and the rest do not need it.
        return


def write_run_links() -> None:
    """Where /etc/resolv.conf leads into /run, put an empty one there: a name is found in /etc/hosts or nowhere."""
    target = os.path.realpath("/etc/resolv.conf")
    if target.startswith("/run/"):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w") as file:
            file.write("")


class Spaces:
    """All hosts and pods by name."""

    def __init__(self) -> None:
        self._spaces: dict[str, Space] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Space:
        """Find one; an unknown name is an RequestError that lists the known hosts."""
        try:
            return self._spaces[name]
        except KeyError:
            hosts = ", ".join(name for name in self._spaces if "." not in name) or "none yet"
            raise RequestError(f"there is no host or pod {name!r}; hosts: {hosts}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._spaces

    def __len__(self) -> int:
        return len(self._spaces)

    def add(self, name: str, hostname: str, make_root: Callable[[], None], host: Space | None = None) -> Space:
        """Make a space, with a network namespace of its own or with a host's.

        Raises:
            RequestError: the name is taken.
        """
        with self._lock:
            if name in self._spaces:
                raise RequestError(f"network namespace {name!r} exists already")
            space = self._spaces[name] = in_thread(Space, name, hostname, make_root, host)
        return space

    def remove(self, name: str) -> None:
        """Take a space away."""
        with self._lock:
            self._spaces.pop(self[name].name).close()

    def hosts(self) -> list[Space]:
        """All that are no pods."""
        return [space for space in self._spaces.values() if "." not in space.name]

    def write_hosts_file(self) -> None:
        """Write /etc/hosts for all hosts: each name with its first address."""
        lines = ["127.0.0.1\tlocalhost"]
        for space in self.hosts():
            if space.addresses:
                lines.append(f"{space.addresses[0]}\t{space.name}")
        with open(HOSTS_FILE, "w") as file:
            file.write("\n".join(lines) + "\n")
