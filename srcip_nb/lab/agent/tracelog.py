"""What the kernel itself tells about traced packets, rule by rule, in one host's network namespace.

A packet that is marked for tracing is reported at every rule it meets: by nftables to a multicast group (what
`nft monitor trace` reads), by the legacy iptables through the logger of the namespace, here nfnetlink_log and its group
0, to which the kernel's TRACE messages go. One socket takes both, so their order is the order in which things happened.

    ip_tables  -- nf_log_trace --> nfnetlink_log, group 0 --+
                                                            +--> one netlink socket --> messages, read at the end
    nf_tables  -- nft_trace_notify -- NFNLGRP_NFTRACE ------+

Reading the messages is the business of srcip_nb/lab/trace.py. Numbers: linux/netfilter/nfnetlink*.h, nf_tables.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from . import sysctl
from .netlink import NLM_F_ACK, NLM_F_REQUEST, attribute
from .protocol import RequestError
from .spaces import Space, in_thread

NETLINK_NETFILTER = 12
ULOG_PACKET, ULOG_CONFIG = 4 << 8 | 0, 4 << 8 | 1
NFT_TRACE = 10 << 8 | 17
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTRACE = 270, 1, 9
_CFG_CMD, _CFG_MODE, _CFG_QTHRESH = 1, 2, 5
_CMD_BIND, _COPY_PACKET = 1, 2
_COPY_BYTES = 128  # an IP and a TCP header with all options
_BUFFER_BYTES = 8 << 20
_LOGGER = "net.netfilter.nf_log.2"  # 2: AF_INET


class TraceLog:
    """The kernel's trace messages in one network namespace, collected from now until `close`."""

    def __init__(self, space: Space) -> None:
        self._space = space
        in_thread(self._open)

    def _open(self) -> None:
        self._space.enter_net()
        kinds = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kinds, NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            # Only the machine's root may have so much; without it a busy lab cannot be traced, a quiet one can.
            with contextlib.suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTRACE)
            self._configure(attribute(_CFG_CMD, bytes([_CMD_BIND])))
            self._configure(attribute(_CFG_MODE, struct.pack(">IBB", _COPY_BYTES, _COPY_PACKET, 0)))
            # Each message at once, not a hundred or a second later.
            self._configure(attribute(_CFG_QTHRESH, struct.pack(">I", 1)))
            with open(sysctl.path_of(_LOGGER)) as file:
                self._logger_before = file.read().strip()
            sysctl.write(_LOGGER, "nfnetlink_log")
        except OSError as error:
            self._socket.close()
            # What the kernel says to a second reader of a group, net/netfilter/nfnetlink_log.c.
            is_taken = error.errno in (errno.EPERM, errno.EBUSY)
            reason = "another program reads them already" if is_taken else os.strerror(error.errno or 0)
            raise RequestError(
                f"{self._space.name}: the kernel does not hand out its trace messages: {reason}"
            ) from error

    def _configure(self, attributes: bytes) -> None:
        body = struct.pack(">BBH", socket.AF_UNSPEC, 0, 0) + attributes
        self._socket.send(struct.pack("=IHHII", 16 + len(body), ULOG_CONFIG, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
        (code,) = struct.unpack_from("=i", self._socket.recv(4096), 16)
        if code:
            raise OSError(-code, os.strerror(-code))

    def close(self) -> tuple[list[bytes], bool]:
        """Stop, put the namespace's logger back, and hand over what was collected.

        Returns:
            The messages without their netlink headers but with their type (2 bytes) before, in order; and whether the
            kernel had to leave some out because they were too many.
        """
        messages: list[bytes] = []
        is_whole = True
        try:
            while True:
                try:
                    messages += split(self._socket.recv(1 << 17))
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    is_whole = False
        finally:
            self._socket.close()
            in_thread(self._restore)
        return messages, is_whole

    def _restore(self) -> None:
        self._space.enter_net()
        sysctl.write(_LOGGER, self._logger_before)


def split(data: bytes) -> list[bytes]:
    """Take the trace messages out of one read: type in 2 bytes of the machine's order, then the body."""
    found, offset = [], 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < 16:
            break
        if kind in (ULOG_PACKET, NFT_TRACE):
            found.append(struct.pack("=H", kind) + data[offset + 16 : offset + length])
        offset += (length + 3) & ~3
    return found
