"""A host's default route comes back with its device, as on a machine whose network a manager looks after.

The kernel removes every route through a device that is set down, and brings back only the LAN's own when it is set up.
Without a default route a node reaches no Service of its own cluster, and answers none of its pods that ask for their
gateway by ARP: it would stay broken for good. Only a device that comes up counts: a route that somebody removes stays
removed.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from . import netlink
from .reactor import Reactor
from .spaces import Space, in_thread

_RTMGRP_LINK = 1
_IFF_UP = 1


class _Uplink:
    """The device of one host's default route."""

    def __init__(self, space: Space, gateway: str, device: str) -> None:
        self._space, self._gateway, self._device = space, gateway, device
        self._index = space.netlink.index(device)
        self._is_up = True
        self.socket = in_thread(self._open)

    def _open(self) -> socket.socket:
        self._space.enter_net()
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        told = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        told.bind((0, _RTMGRP_LINK))
        return told

    def changed(self) -> None:
        """Read what the kernel tells of devices, and act when this one comes up."""
        try:
            data = self.socket.recv(1 << 17)
        except OSError:
            # More was told than there was room for: what is next tells the state as well.
            return
        offset = 0
        while offset < len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if kind == netlink.RTM_NEWLINK:
                _, _, _, index, flags, _ = struct.unpack_from("=BBHiII", data, offset + 16)
                if index == self._index:
                    self._set(bool(flags & _IFF_UP))
            offset += (length + 3) & ~3

    def _set(self, is_up: bool) -> None:
        was_up, self._is_up = self._is_up, is_up
        if is_up and not was_up:
            # It may be there already, or the device be down again.
            with contextlib.suppress(OSError):
                kind, flags = netlink.RTM_NEWROUTE, netlink.ADD
                self._space.netlink.route(kind, flags, "0.0.0.0", 0, via=self._gateway, device=self._device)


class Uplinks:
    """The default routes of all hosts."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._uplinks: dict[str, _Uplink] = {}

    def look_after(self, hosts: list[Space]) -> None:
        """Look after the default routes of these hosts, and of no others."""
        for name in self._uplinks.keys() - {host.name for host in hosts}:
            gone = self._uplinks.pop(name)
            self._reactor.forget(gone.socket.fileno())
            gone.socket.close()
        for host in hosts:
            if host.name not in self._uplinks and host.default_route:
                uplink = self._uplinks[host.name] = _Uplink(host, *host.default_route)
                self._reactor.watch(uplink.socket.fileno(), uplink.changed)
