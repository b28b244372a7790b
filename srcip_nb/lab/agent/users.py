"""Users where the kernel knows one alone: the user namespace of an ordinary user maps its own uid to 0 and no other.

There nginx could not become `nginx`, nor give it a directory: setuid(2), setgroups(2) and chown(2) end in an error. A
seccomp filter answers these calls with success and does nothing, for the agent and all that it starts; what believes
to be another user goes on as the one there is. Image builders without privileges do the same (Charliecloud's
`--force=seccomp`, https://hpc.github.io/charliecloud/faq.html).
"""

from __future__ import annotations

import ctypes
import os
import struct

from . import syscalls

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # with errno 0: success (linux/seccomp.h)
_LOAD, _IS_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ARCH_AT, _NUMBER_AT = 4, 0  # offsets in struct seccomp_data

# Machine: AUDIT_ARCH_*, and the numbers of set{,re,res}{u,g}id, setfs{u,g}id, setgroups, {,f,l}chown and fchownat
# (linux/audit.h, asm/unistd.h).
_CALLS = {
    "x86_64": (0xC000003E, (92, 93, 94, 105, 106, 113, 114, 116, 117, 119, 122, 123, 260)),
    "aarch64": (0xC00000B7, (54, 55, 143, 144, 145, 146, 147, 149, 151, 152, 159)),
}


def knows_one_user(uid_map: str) -> bool:
    """Whether /proc/self/uid_map has no more than one uid."""
    return sum(int(line.split()[2]) for line in uid_map.splitlines()) == 1


def filter_program(arch: int, calls: tuple[int, ...]) -> bytes:
    """The filter as BPF: `calls` succeed at once, everything else takes its way."""
    check = [(_LOAD, 0, 0, _ARCH_AT), (_IS_EQUAL, 0, len(calls) + 1, arch), (_LOAD, 0, 0, _NUMBER_AT)]
    compare = [(_IS_EQUAL, len(calls) - at, 0, number) for at, number in enumerate(calls)]
    end = [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO)]
    return b"".join(struct.pack("HBBI", *step) for step in (*check, *compare, *end))


def pretend_other_users() -> None:
    """Let changes of user and owner succeed without effect; to be called before any thread is started.

    Raises:
        OSError: the kernel takes no such filter, or it is not known for this machine.
    """
    machine = os.uname().machine
    if machine not in _CALLS:
        raise OSError(f"the numbers of system calls are not known on {machine}")
    program = filter_program(*_CALLS[machine])
    steps = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(steps)))
    syscalls.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header))
