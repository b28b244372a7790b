"""IPVS without ipvsadm(8): the same texts in and out, by the kernel's older interface, setsockopt.

    python3 -I -S ipvs_sockopt.py --restore     lines as `ipvsadm --restore` takes them, from standard input
    python3 -I -S ipvs_sockopt.py -Sn | -Ln     virtual servers as `ipvsadm` prints them, read from /proc/net/ip_vs
    python3 -I -S ipvs_sockopt.py --clear       all virtual servers are deleted

ipvsadm speaks generic netlink, which wants the capability CAP_NET_ADMIN of the whole machine. setsockopt is content
with that of the network namespace's own user namespace (Linux net/netfilter/ipvs/ip_vs_ctl.c, do_ip_vs_set_ctl), so it
works for an ordinary user too; the module ip_vs has to be loaded already. On the standard library alone, IPv4,
masquerade forwarding.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator

TABLE = "/proc/net/ip_vs"
_TRIAL = "-t 127.255.255.254:1"

# linux/ip_vs.h: IP_VS_BASE_CTL and the commands after it.
_BASE = 64 + 1024 + 64
_COMMANDS = {"-A": _BASE + 2, "-E": _BASE + 3, "-D": _BASE + 4, "-a": _BASE + 7, "-d": _BASE + 8, "-e": _BASE + 9}
_FLUSH = _BASE + 5
_PERSISTENT = 1
_WHOLE_ADDRESS = 0xFFFFFFFF
_PROTOCOLS = {"-t": socket.IPPROTO_TCP, "-u": socket.IPPROTO_UDP, "--sctp-service": 132}
_OPTIONS = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}

_SERVER = re.compile(r"(TCP|UDP|SCTP)\s+([0-9A-F]{8}):([0-9A-F]{4}) (\S+)(?: +ops)?(?: +persistent (\d+) [0-9A-F]{8})?")
_ENDPOINT = re.compile(r"->\s+([0-9A-F]{8}):([0-9A-F]{4})\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+)")


def _address(text: str) -> tuple[bytes, int]:
    host, _, port = text.partition(":")
    return socket.inet_aton(host), socket.htons(int(port))


def request(line: str) -> tuple[int, bytes]:
    """One line of `ipvsadm --restore` as a socket option: its number, and ip_vs_service_user and ip_vs_dest_user.

    Raises:
        ValueError: the line is none that a proxy writes.
    """
    words = line.split()
    try:
        command, option, name = words[:3]
        rest = dict(zip(words[3::2], words[4::2], strict=False)) if command in ("-A", "-E") else {}
        persistent = rest.get("-p")
        host, port = _address(name)
        server = struct.pack(
            "=H2x4sHxxI16sIII",
            _PROTOCOLS[option],
            host,
            port,
            0,
            rest.get("-s", "").encode(),
            _PERSISTENT if persistent else 0,
            int(persistent or 0),
            _WHOLE_ADDRESS,
        )
        if command in ("-A", "-E", "-D"):
            return _COMMANDS[command], server
        host, port = _address(words[words.index("-r") + 1])
        weight = int(words[words.index("-w") + 1]) if "-w" in words else 0
        return _COMMANDS[command], server + struct.pack("=4sHxxIiII", host, port, 0, weight, 0, 0)
    except (KeyError, ValueError, IndexError, OSError) as error:
        raise ValueError(f"not a line of ipvsadm --restore: {line!r}") from error


def _plain(host: str, port: str) -> str:
    return f"{socket.inet_ntoa(bytes.fromhex(host))}:{int(port, 16)}"


def saved(table: str, ticks: int) -> Iterator[str]:
    """The lines of `ipvsadm -Sn`, from the text of /proc/net/ip_vs, in which a second is so many ticks."""
    name = ""
    for line in table.splitlines():
        if match := _SERVER.match(line):
            protocol, host, port, scheduler, persistent = match.groups()
            name = f"{_OPTIONS[protocol]} {_plain(host, port)}"
            yield f"-A {name} -s {scheduler}" + (f" -p {int(persistent) // ticks}" if persistent else "")
        elif match := _ENDPOINT.search(line):
            yield f"-a {name} -r {_plain(match[1], match[2])} -m -w {match[4]}"


def listed(table: str, ticks: int) -> Iterator[str]:
    """The lines of `ipvsadm -Ln` under its heading, from the same."""
    for line in table.splitlines():
        if match := _SERVER.match(line):
            protocol, host, port, scheduler, persistent = match.groups()
            lasts = f" persistent {int(persistent) // ticks}" if persistent else ""
            yield f"{protocol}  {_plain(host, port)} {scheduler}{lasts}"
        elif match := _ENDPOINT.search(line):
            host, port, forward, weight, active, inactive = match.groups()
            yield f"  -> {_plain(host, port):<26} {forward:<7} {weight:<6} {active:<10} {inactive}"


def ticks_of(table: str) -> int:
    """How many ticks of the kernel a second has; 1 where the table has nothing that lasts.

    The kernel writes its own ticks there and tells nobody how long one is: so a virtual server that lasts a second is
    made, read and deleted.
    """
    schedulers = [match[4] for line in table.splitlines() if (match := _SERVER.match(line)) and match[5]]
    if not schedulers:
        return 1
    restore([f"-A {_TRIAL} -s {schedulers[0]} -p 1"])
    try:
        name, ticks = "", 1
        for line in _read().splitlines():
            if match := _SERVER.match(line):
                name = f"{_OPTIONS[match[1]]} {_plain(match[2], match[3])}"
                ticks = int(match[5] or 1) if name == _TRIAL else ticks
        return ticks
    finally:
        restore([f"-D {_TRIAL}"])


def _read() -> str:
    with open(TABLE) as file:
        return file.read()


def restore(lines: Iterable[str]) -> None:
    """Carry out lines of `ipvsadm --restore`, one after the other.

    Raises:
        ValueError: a line is none.
        OSError: the kernel refused one; its text begins with the line.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as kernel:
        for line in filter(str.strip, lines):
            number, value = request(line)
            try:
                kernel.setsockopt(socket.IPPROTO_IP, number, value)
            except OSError as error:
                raise OSError(error.errno, f"{line.strip()}: {os.strerror(error.errno or 0)}") from error


def clear() -> None:
    """Delete all virtual servers of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as kernel:
        kernel.setsockopt(socket.IPPROTO_IP, _FLUSH, b"")


def main(words: list[str]) -> int:
    """Do what ipvsadm would, called with the same words; its exit status."""
    try:
        if words == ["--restore"]:
            restore(sys.stdin)
        elif words == ["--clear"]:
            clear()
        elif words in (["-Sn"], ["-Ln"]):
            table = _read()
            write = saved if words == ["-Sn"] else listed
            print(*write(table, ticks_of(table)), sep="\n")
        else:
            raise ValueError(f"not a call that is known: {' '.join(words)}")
    except (OSError, ValueError) as error:
        print(f"ipvs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
