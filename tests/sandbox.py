"""Run a command as an ordinary container would: no capability, no new privileges, Docker's default seccomp rules.

    python tests/sandbox.py COMMAND…

Denied is what the documentation of Docker's default profile names as blocked, "Significant syscalls blocked by the
default profile" (https://docs.docker.com/engine/security/seccomp/), with its answers: EPERM, and ENOSYS for clone3, so
that the C library falls back to clone. As there, clone is denied only with a flag that makes a namespace, personality
only with unusual values, and ptrace is allowed (kernels since 4.8). A container's /dev/shm is 64 MB and noexec.

Needs root to begin with, for the mount and to give everything up; x86_64 alone, as User Mode Linux.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys

USER = 1001
SHM = "size=64m,noexec,nosuid,nodev,mode=1777"
PREPARE = f'mount -t tmpfs -o {SHM} shm /dev/shm && exec "$@"'
GIVE_UP = ("--bounding-set", "-all", "--inh-caps", "-all", "--ambient-caps", "-all", "--no-new-privs")

# asm/unistd_64.h
DENIED = {
    "pivot_root": 155, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
    "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "init_module": 175, "delete_module": 176, "quotactl": 179, "lookup_dcookie": 212, "clock_settime": 227,
    "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "kexec_load": 246, "add_key": 248, "request_key": 249,
    "keyctl": 250, "migrate_pages": 256, "unshare": 272, "move_pages": 279, "perf_event_open": 298,
    "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "kcmp": 312, "finit_module": 313,
    "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "mount_setattr": 442,
}  # fmt: skip
CLONE, CLONE3, PERSONALITY = 56, 435, 135
NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
X32 = 0x40000000

_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _HAS_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ARCH, _X86_64 = 4, 0xC000003E
_NUMBER, _ARGUMENT = 0, 16  # offsets in struct seccomp_data, linux/seccomp.h
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


def filter_program() -> bytes:
    """The rules as BPF: each a comparison that steps over the return behind it, so no jump is long."""
    deny, steps = (_RETURN, 0, 0, _ERRNO | _EPERM), []
    steps += [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _X86_64), deny]
    steps += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, X32), deny]
    for number in DENIED.values():
        steps += [(_EQUAL, 0, 1, number), deny]
    steps += [(_EQUAL, 0, 1, CLONE3), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    steps += [(_EQUAL, 0, 4, CLONE), (_LOAD, 0, 0, _ARGUMENT), (_HAS_BIT, 0, 1, NAMESPACES), deny]
    steps += [(_RETURN, 0, 0, _ALLOW)]
    steps += [(_EQUAL, 1, 0, PERSONALITY), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, _ARGUMENT)]
    for value in PERSONALITIES:
        steps += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    steps += [deny]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def enter() -> None:
    """Put the calling process under the rules, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = filter_program()
    steps = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(steps)))
    for what in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_SECCOMP, _FILTER, ctypes.addressof(header))):
        if libc.prctl(*(ctypes.c_ulong(word) for word in (*what, 0, 0, 0)[:5])):
            raise OSError(ctypes.get_errno(), "prctl")


def sandboxed(*words: str, user: int | None = USER) -> list[str]:
    """The command that runs another one in the sandbox.

    Args:
        *words: the command.
        user: as whom; None stays who it is, without any capability all the same.
    """
    as_whom = ["--reuid", str(user), "--regid", str(user), "--clear-groups"] if user is not None else []
    inside = ["setpriv", *as_whom, *GIVE_UP, sys.executable, "-I", os.path.abspath(__file__), *words]
    return ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", PREPARE, "sh", *inside]


def user_for(python: str) -> int | None:
    """The ordinary user, if such a one can run this Python; else None."""
    as_user = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", *GIVE_UP]
    tried = subprocess.run(
        # By a shell in between: setpriv itself looks its command up with root's eyes.
        [*as_user, "sh", "-c", '"$0" -c "import srcip_nb"', python],
        capture_output=True,
        check=False,
        timeout=60,
    )
    return USER if tried.returncode == 0 else None


if __name__ == "__main__":
    enter()
    os.execvp(sys.argv[1], sys.argv[1:])
