"""The system calls that Python has no function for (os.unshare and os.setns came with 3.12), by ctypes.

All act on the calling thread alone; that is why every operation on a host runs in a thread of its own.
"""

from __future__ import annotations

import ctypes
import os

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.unshare.argtypes = [ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_libc.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_libc.syscall.restype = ctypes.c_long

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "armv7l": 218, "riscv64": 41, "ppc64le": 203, "s390x": 217}


def _check(result: int, what: str) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by flags for new ones."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that fd refers to."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount a file system, or bind (MS_BIND) a file or directory."""
    arguments = (source.encode(), os.fsencode(target), kind.encode() or None, flags, data.encode() or None)
    _check(_libc.mount(*arguments), f"mount {kind or source} on {target}")


def unmount(target: str) -> None:
    """Detach a mount; what is still open lives on until it is closed."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str) -> None:
    """Make a mounted directory the root, and let go of the old one."""
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root: its number is not known on {os.uname().machine}")
    os.chdir(new)
    # "." twice stacks the old root on the new one, so no directory for it is needed: pivot_root(2), NOTES.
    _check(_libc.syscall(number, b".", b"."), "pivot_root")
    unmount(".")
    os.chdir("/")


def sethostname(name: str) -> None:
    """Name the machine, in the calling thread's UTS namespace."""
    raw = name.encode()[:64]
    _check(_libc.sethostname(raw, len(raw)), "sethostname")


def prctl(option: int, first: int, second: int = 0) -> None:
    """Set an attribute of the calling thread."""
    _check(_libc.prctl(option, first, second, 0, 0), "prctl")


def reboot(command: int) -> None:
    """Stop the machine, or the guest, that this is the first process of."""
    _check(_libc.reboot(command), "reboot")


def raw(number: int, *arguments: int | bytes) -> None:
    """Make a system call by its number."""
    _check(_libc.syscall(number, *arguments), f"system call {number}")
