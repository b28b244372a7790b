"""Who has this VIP? The announcing host answers, as MetalLB's layer 2 mode does: with its own MAC, in real ARP packets.

The address is on none of the host's devices; kube-proxy's rules take the packets before the kernel asks whose they are.
When a host begins to announce it also tells everybody unasked, twice and again every 1.1 s for 5 s: a neighbour ignores
a change within a second of the last one (MetalLB internal/layer2/arp.go and announcer.go).
"""

from __future__ import annotations

import socket
import struct

from .reactor import Reactor
from .spaces import Space, in_thread

_ETH_P_ARP = 0x0806
_REQUEST, _REPLY = 1, 2
_BROADCAST = b"\xff" * 6
REPEATS, PAUSE = 5, 1.1


class Responder:
    """The announced addresses of one host."""

    def __init__(self, space: Space, device: str, reactor: Reactor) -> None:
        self.addresses: set[bytes] = set()
        self._socket = in_thread(self._open, space, device)
        self._mac: bytes = self._socket.getsockname()[4]
        self._reactor = reactor
        reactor.watch(self._socket.fileno(), self._answer)

    @staticmethod
    def _open(space: Space, device: str) -> socket.socket:
        space.enter_net()
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        packets.bind((device, _ETH_P_ARP))
        return packets

    def close(self) -> None:
        """Stop answering; called by the reactor's thread."""
        self._reactor.forget(self._socket.fileno())
        self._socket.close()

    def tell(self, address: bytes, left: int = REPEATS) -> None:
        """Send gratuitous ARP in both forms, now and a few times more while the address is announced."""
        if address not in self.addresses:
            return
        for operation in (_REQUEST, _REPLY):
            self._send(_BROADCAST, operation, address, _BROADCAST, address)
        if left > 1:
            self._reactor.call_later(PAUSE, lambda: self.tell(address, left - 1))

    def _answer(self) -> None:
        try:
            frame = self._socket.recv(2048)
        except OSError:
            # Nothing there any more, or the device is down for the moment.
            return
        if len(frame) < 42 or frame[14:22] != struct.pack(">HHBBH", 1, 0x0800, 6, 4, _REQUEST):
            return
        asker_mac, asker, wanted = frame[22:28], frame[28:32], frame[38:42]
        is_gratuitous = asker == wanted
        if wanted in self.addresses and not is_gratuitous:
            self._send(asker_mac, _REPLY, wanted, asker_mac, asker)

    def _send(self, to: bytes, operation: int, address: bytes, target_mac: bytes, target: bytes) -> None:
        body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + self._mac + address + target_mac + target
        try:
            self._socket.send(to + self._mac + struct.pack(">H", _ETH_P_ARP) + body)
        except OSError:
            # A device that is down sends nothing; who asks asks again.
            return


class Announcements:
    """All hosts' announcements; kept by the reactor's thread."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._responders: dict[str, Responder] = {}

    def announce(self, space: Space, address: str, device: str = "eth0") -> None:
        """Answer for an address from now on, and say so."""
        raw = socket.inet_aton(address)
        responder = self._responders.get(space.name)
        if responder is None:
            responder = self._responders[space.name] = Responder(space, device, self._reactor)

        def begin() -> None:
            responder.addresses.add(raw)
            responder.tell(raw)

        self._reactor.run(begin)

    def withdraw(self, host: str, address: str) -> None:
        """Answer for an address no more; what was not announced is no error."""
        raw = socket.inet_aton(address)
        responder = self._responders.get(host)
        if responder:
            self._reactor.run(lambda: responder.addresses.discard(raw))

    def forget(self, host: str) -> None:
        """Let go of a host that is removed."""
        responder = self._responders.pop(host, None)
        if responder:
            self._reactor.run(responder.close)
