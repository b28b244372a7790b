"""Named packet counters in the kernel (nfacct), which kube-proxy's rules mention and which have to exist before them.

Also a program of its own, on the standard library alone, so that it can be run in any network namespace:
`python3 -I -S nfacct.py NAME…` makes the counters there. It exits with 0 when all exist, with 1 when the kernel has no
such counters. The tool nfacct(8) does the same, but few machines have it.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable

NETLINK_NETFILTER = 12
NFNL_SUBSYS_ACCT = 7
NFNL_MSG_ACCT_NEW = 0
NFACCT_NAME = 1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400


def new_counter(name: str) -> bytes:
    """Write the netlink message that makes a counter."""
    value = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(value), NFACCT_NAME) + value + b"\0" * (-len(value) % 4)
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0) + attribute
    kind = NFNL_SUBSYS_ACCT << 8 | NFNL_MSG_ACCT_NEW
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def ensure_counters(names: Iterable[str]) -> bool:
    """Make counters in this process's network namespace; one that is there already stays as it is.

    Returns:
        False if the kernel, or a lack of privilege, does not allow it.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.bind((0, 0))
            for name in names:
                netlink.send(new_counter(name))
                (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
                if error not in (0, -errno.EEXIST):
                    return False
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(0 if ensure_counters(sys.argv[1:]) else 1)
