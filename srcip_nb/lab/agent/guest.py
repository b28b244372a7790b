"""The agent as the first process of a User Mode Linux: what a system's start would do, in some 0.4 s.

The kernel gives it the machine's files read-only (hostfs) and a serial line for the wire, /dev/ttyS0. Words for it
stand on the kernel's command line: ``lab.seed`` is randomness from outside, for this kernel has no source of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import tty
from collections.abc import Iterable, Iterator

from . import syscalls
from .protocol import Wire

MODULES = "/usr/lib/uml/modules"
LINE = "/dev/ttyS0"

# What the lab's network and kube-proxy's three modes need of Debian's kernel (user-mode-linux 6.1), by module.
NEEDED = """\
overlay veth bridge br_netfilter vxlan ipip dummy tun iptable_nat iptable_filter iptable_mangle iptable_raw
ipt_REJECT nf_log_syslog nfnetlink_log nfnetlink_acct xt_MASQUERADE xt_nat xt_tcpudp xt_multiport xt_comment
xt_mark xt_statistic xt_addrtype xt_conntrack xt_recent xt_physdev xt_set xt_ipvs xt_nfacct xt_TRACE xt_NFLOG
xt_LOG xt_sctp nf_conntrack_netlink ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_sh ip_set_hash_ip ip_set_hash_net
ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet ip_set_bitmap_port
"""

_RNDADDENTROPY = 0x40085203  # linux/random.h
_FINIT_MODULE = 313  # x86_64; User Mode Linux runs on no other machine
_POWER_OFF = 0x4321FEDC  # linux/reboot.h
_EXISTS = 17
# Debian's default of 2,048 would stall a lab after as many connections. A long chain takes no new entry (linux v6.1
# net/netfilter/nf_conntrack_core.c, MAX_CHAINLEN), and 1,024 buckets have such chains after some thousand connections.
_CONNTRACK = {
    "nf_conntrack_buckets": "65536",
    "nf_conntrack_max": "65536",
    "nf_conntrack_tcp_timeout_time_wait": "10",
}


def start() -> Wire:
    """Make the guest ready for a lab; the wire to the host.

    Raises:
        OSError: a mount, a module or the serial line is not to be had.
    """
    for kind, place, data in (
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("tmpfs", "/run", "mode=755"),
        ("tmpfs", "/tmp", "mode=1777"),
    ):
        syscalls.mount(kind, place, kind, syscalls.MS_NOSUID | syscalls.MS_NODEV, data)
    os.makedirs("/dev/pts", exist_ok=True)
    syscalls.mount("devpts", "/dev/pts", "devpts", syscalls.MS_NOSUID, "ptmxmode=666,mode=620")
    # What udev links on a machine.
    for name, leads_to in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{leads_to}", f"/dev/{name}")
    with open("/proc/cmdline") as file:
        words = {word.partition("=")[0]: word.partition("=")[2] for word in file.read().split()}
    _add_entropy(bytes.fromhex(words["lab.seed"]))
    _load_modules(f"{MODULES}/{os.uname().release}")
    # Else each name that iptables tries in vain starts a program that looks for a module.
    _write("/proc/sys/kernel/modprobe", "\n")
    for key, value in _CONNTRACK.items():
        _write(f"/proc/sys/net/netfilter/{key}", value)
    line = os.open(LINE, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    tty.setraw(line)
    return Wire(line, line)


def complete_cpuinfo() -> None:
    """Give the one processor a core, without which ps(1) and vmstat(8) of procps 4.0 end in an error.

    They read /proc/stat only where /proc/cpuinfo names each processor's core, and this kernel does not.
    """
    copy = "/run/cpuinfo"
    with open("/proc/cpuinfo") as file, open(copy, "w") as whole:
        whole.write(f"{file.read().rstrip()}\ncore id\t\t: 0\n\n")
    syscalls.mount(copy, "/proc/cpuinfo", flags=syscalls.MS_BIND)


def power_off() -> None:
    """End the guest, and the process that it is."""
    syscalls.reboot(_POWER_OFF)


def _write(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError), open(path, "w") as file:
        file.write(text)


def _add_entropy(seed: bytes) -> None:
    """Credit bytes to the kernel's pool: until then, whoever asks for randomness waits for ever."""
    fd = os.open("/dev/urandom", os.O_WRONLY)
    try:
        fcntl.ioctl(fd, _RNDADDENTROPY, struct.pack("ii", 8 * len(seed), len(seed)) + seed)
    finally:
        os.close(fd)


def load_order(dependencies: str, names: Iterable[str]) -> Iterator[str]:
    """The files of modules, each after those it depends on.

    Args:
        dependencies: the text of modules.dep.
        names: of the modules wanted; one that this kernel has built in, or lacks, is passed over.
    """
    known = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        known[os.path.basename(path).partition(".")[0].replace("-", "_")] = (path, rest.split())
    told: set[str] = set()
    for name in names:
        if name in known:
            path, needs = known[name]
            for step in (*reversed(needs), path):
                if step not in told:
                    told.add(step)
                    yield step


def _load_modules(folder: str) -> None:
    if not os.path.exists(f"{folder}/modules.dep"):
        return  # a kernel with everything built in
    with open(f"{folder}/modules.dep") as file:
        order = list(load_order(file.read(), NEEDED.split()))
    for path in order:
        fd = os.open(f"{folder}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.raw(_FINIT_MODULE, fd, b"", 0)
        except OSError as error:
            if error.errno != _EXISTS:
                raise OSError(error.errno, f"module {path}: {os.strerror(error.errno or 0)}") from error
        finally:
            os.close(fd)
