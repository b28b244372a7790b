"""A minimal rtnetlink: one socket per network namespace, one message a call, the kernel's own words in errors.

rtnetlink(7) is the language in which ip(8) speaks to the kernel. Speaking it here makes a whole lab in about 20 ms,
where one process for each command takes ten times as long. Numbers are those of linux/rtnetlink.h, if_link.h and
neighbour.h.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Sequence

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
ADD = NLM_F_CREATE | NLM_F_EXCL
REPLACE = NLM_F_CREATE | NLM_F_REPLACE
APPEND = NLM_F_CREATE | NLM_F_APPEND

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NESTED = 0x8000
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_LINKINFO, _IFLA_NET_NS_FD = 18, 28
_IFF_UP, _IFF_RUNNING, _IFF_LOWER_UP = 1, 1 << 6, 1 << 16
_RT_TABLE_MAIN, _RTPROT_BOOT = 254, 3
_RTA_MULTIPATH = 9
ROUTE_TYPES = {"unicast": 1, "blackhole": 6, "unreachable": 7}
SCOPES = {"global": 0, "link": 253, "host": 254}
_RTNH_F_ONLINK = 4
_NUD_NOARP, _NUD_PERMANENT, _NTF_SELF, _AF_BRIDGE = 0x40, 0x80, 2, 7


def attribute(kind: int, value: bytes | str | int | Sequence[bytes]) -> bytes:
    """Pack one attribute: text with its NUL, a number as 32 bits, a list of attributes as their nest."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = struct.pack("=I", value)
    elif not isinstance(value, bytes):
        value = b"".join(value)
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


class Netlink:
    """The rtnetlink socket of the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._lock = threading.Lock()
        self._number = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _call(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Send one message; the bodies of what comes back. An error is raised with the kernel's explanation."""
        with self._lock:
            return self._exchange(kind, flags, body)

    def _exchange(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._number += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST, self._number, 0)
        self._socket.send(header + body)
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 17)
            offset = 0
            while offset < len(data):
                length, kind, flags, number, _ = struct.unpack_from("=IHHII", data, offset)
                content = data[offset + 16 : offset + length]
                offset += (length + 3) & ~3
                if number != self._number:
                    continue
                if kind == _NLMSG_DONE:
                    return answers
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    if code:
                        raise OSError(code, _explanation(content, flags) or os.strerror(code))
                    return answers
                answers.append(content)

    def index(self, name: str) -> int:
        """Find a device's number by its name; asked anew each time, for a device may go with its other end."""
        try:
            answer = self._call(RTM_GETLINK, NLM_F_ACK, _link() + attribute(_IFLA_IFNAME, name))
        except OSError as error:
            raise OSError(error.errno, f'no device "{name}"') from error
        number: int = struct.unpack_from("=BBHi", answer[0])[3]
        return number

    def devices(self) -> list[str]:
        """List the names of the namespace's devices."""
        return [_text_attribute(body, 16, _IFLA_IFNAME) for body in self._call(RTM_GETLINK, NLM_F_DUMP, _link())]

    def late_devices(self) -> list[str]:
        """List the devices that are up and connected and yet pass no packets (`NO-CARRIER,UP,LOWER_UP`).

        That a veth's other end came up is told to the device, and to the bridge it is a port of, by a task of the
        kernel's own (linkwatch), which on a busy machine runs a while later.
        """
        bodies = self._call(RTM_GETLINK, NLM_F_DUMP, _link())
        return [_text_attribute(body, 16, _IFLA_IFNAME) for body in bodies if _is_late(body)]

    def add_link(
        self,
        name: str,
        kind: str,
        data: Sequence[bytes] = (),
        *,
        netns: int = -1,
        mac: str = "",
        mtu: int = 0,
    ) -> None:
        """Make a device of some kind, in another namespace if netns is its file descriptor."""
        info = [attribute(1, kind.encode())]
        if data:
            info.append(attribute(2 | _NESTED, data))
        body = (
            _link() + link_attributes(name, netns=netns, mac=mac, mtu=mtu) + attribute(_IFLA_LINKINFO | _NESTED, info)
        )
        self._call(RTM_NEWLINK, ADD | NLM_F_ACK, body)

    def add_veth(self, ends: Sequence[tuple[str, int, str, int]]) -> None:
        """Make a pair of veths; each end is (name, file descriptor of its namespace, MAC or "", MTU or 0)."""
        (name, netns, mac, mtu), (peer, peer_netns, peer_mac, peer_mtu) = ends
        peer_body = _link() + link_attributes(peer, netns=peer_netns, mac=peer_mac, mtu=peer_mtu)
        self.add_link(name, "veth", [attribute(1 | _NESTED, peer_body)], netns=netns, mac=mac, mtu=mtu)

    def add_vxlan(
        self, name: str, number: int, local: str, device: str, port: int, learning: bool, *, mac: str = "", mtu: int = 0
    ) -> None:
        """Make a VXLAN device; number is the VNI."""
        data = [
            attribute(1, number),
            attribute(3, self.index(device)),
            attribute(4, socket.inet_aton(local)),
            attribute(7, bytes([learning])),
            attribute(15, struct.pack(">H", port)),
        ]
        self.add_link(name, "vxlan", data, mac=mac, mtu=mtu)

    def set_link(self, name: str, *, up: bool | None = None, master: str = "", mac: str = "", mtu: int = 0) -> None:
        """Change a device."""
        change = 0 if up is None else _IFF_UP
        body = _link(self.index(name), _IFF_UP if up else 0, change) + link_attributes("", mac=mac, mtu=mtu)
        if master:
            body += attribute(_IFLA_MASTER, self.index(master))
        self._call(RTM_NEWLINK, NLM_F_ACK, body)

    def delete_link(self, name: str) -> None:
        """Remove a device (and a veth's other end)."""
        self._call(RTM_DELLINK, NLM_F_ACK, _link(self.index(name)))

    def address(self, kind: int, flags: int, device: str, address: str, length: int) -> None:
        """Add or remove an IPv4 address of a device."""
        raw = socket.inet_aton(address)
        scope = SCOPES["host"] if address.startswith("127.") else SCOPES["global"]
        body = struct.pack("=BBBBi", socket.AF_INET, length, 0, scope, self.index(device))
        body += attribute(2, raw) + attribute(1, raw)
        self._call(kind, flags | NLM_F_ACK, body)

    def route(
        self,
        kind: int,
        flags: int,
        destination: str,
        length: int,
        *,
        via: str = "",
        device: str = "",
        source: str = "",
        scope: str = "",
        onlink: bool = False,
        type_: str = "unicast",
        hops: Sequence[str] = (),
    ) -> None:
        """Add, replace or remove an IPv4 route of the main table; length 0 is the default route.

        With several hops (addresses), the kernel chooses one for each packet or flow, as
        net.ipv4.fib_multipath_hash_policy says.
        """
        is_onward = bool(via or hops or type_ != "unicast")
        number = SCOPES[scope] if scope else SCOPES["global" if is_onward else "link"]
        route_type = ROUTE_TYPES[type_]
        if kind == RTM_DELROUTE and not scope:
            number, route_type = 255, 0 if type_ == "unicast" else route_type
        body = struct.pack(
            "=BBBBBBBBI",
            *(socket.AF_INET, length, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, number, route_type),
            _RTNH_F_ONLINK if onlink else 0,
        )
        if length:
            body += attribute(1, socket.inet_aton(destination))
        if via:
            body += attribute(5, socket.inet_aton(via))
        if device:
            body += attribute(4, self.index(device))
        if source:
            body += attribute(7, socket.inet_aton(source))
        if hops:
            body += attribute(_RTA_MULTIPATH, [_next_hop(hop) for hop in hops])
        self._call(kind, flags | NLM_F_ACK, body)

    def neighbour(self, kind: int, flags: int, device: str, address: str, mac: str) -> None:
        """Add, replace or remove a permanent ARP entry."""
        body = struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, self.index(device), _NUD_PERMANENT, 0, 0)
        body += attribute(1, socket.inet_aton(address)) + (attribute(2, _mac(mac)) if mac else b"")
        self._call(kind, flags | NLM_F_ACK, body)

    def forwarding(self, kind: int, flags: int, device: str, mac: str, remote: str) -> None:
        """Add, replace or remove a VXLAN device's entry: frames for a MAC go to a host."""
        state = _NUD_NOARP | _NUD_PERMANENT
        body = struct.pack("=BBHiHBB", _AF_BRIDGE, 0, 0, self.index(device), state, _NTF_SELF, 0)
        body += attribute(2, _mac(mac)) + (attribute(1, socket.inet_aton(remote)) if remote else b"")
        self._call(kind, flags | NLM_F_ACK, body)


def _next_hop(address: str) -> bytes:
    """Pack a struct rtnexthop: length, flags, weight less 1, device (0: where the address is found), gateway."""
    gateway = attribute(5, socket.inet_aton(address))
    return struct.pack("=HBBi", 8 + len(gateway), 0, 0, 0) + gateway


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BBHiII", 0, 0, 0, index, flags, change)


def link_attributes(name: str, *, netns: int = -1, mac: str = "", mtu: int = 0) -> bytes:
    """Pack what every kind of device may be given."""
    body = attribute(_IFLA_IFNAME, name) if name else b""
    if mac:
        body += attribute(_IFLA_ADDRESS, _mac(mac))
    if mtu:
        body += attribute(_IFLA_MTU, mtu)
    if netns >= 0:
        body += attribute(_IFLA_NET_NS_FD, netns)
    return body


def _is_late(body: bytes) -> bool:
    flags: int = struct.unpack_from("=I", body, 8)[0]
    is_connected = bool(flags & _IFF_UP) and bool(flags & _IFF_LOWER_UP)
    return is_connected and not flags & _IFF_RUNNING


def _text_attribute(body: bytes, offset: int, wanted: int) -> str:
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            break
        if kind & 0x3FFF == wanted:
            return body[offset + 4 : offset + length].rstrip(b"\0").decode()
        offset += (length + 3) & ~3
    return ""


def _explanation(content: bytes, flags: int) -> str:
    """The kernel's own sentence about an error, where it gives one: attribute 1 after the echoed header."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    echoed = 16 if flags & _NLM_F_CAPPED else struct.unpack_from("=I", content, 4)[0]
    return _text_attribute(content, 4 + echoed, 1)
