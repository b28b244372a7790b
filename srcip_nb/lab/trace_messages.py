"""What a kernel says about a packet that is traced: its messages, read.

Two formats, one ``Event``: the legacy iptables' messages through nfnetlink_log, which hold a packet as a rule finds it
(linux/netfilter/nfnetlink_log.h; the words "TRACE: nat:KUBE-SERVICES:rule:3" are from net/ipv4/netfilter/ip_tables.c),
and nftables' own, which hold the mark as a rule left it and the headers once a hook (nf_tables.h, enum
nft_trace_attributes). Bytes in, events out.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

TABLE = "srcip-nb-trace"
"""The nftables table, of family ip, that marks packets for tracing; its chains are called as their hooks."""

NFLOG, NFTRACE = "nflog", "nftrace"
_ULOG_PACKET, _NFT_TRACE = 4 << 8 | 0, 10 << 8 | 17
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_TYPE_POLICY, _TYPE_RETURN = 1, 2
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -2: "break", -5: "return"}
_JUMPS = {-3: "jump", -4: "goto"}
_TCP = 6


@dataclass(frozen=True)
class Packet:
    """What is in a TCP packet's headers: where from and where to, ``address:port``, and its sequence number."""

    source: str
    destination: str
    sequence: int


@dataclass(frozen=True)
class Event:
    """One message of the kernel: a packet met a rule, the end of a chain, or a chain's policy.

    Attributes:
        evidence: "nflog" or "nftrace".
        table, chain: as iptables and nft call them; nft's table with its family.
        kind: "rule", "return" (a chain's end) or "policy".
        number: the rule's place in its chain from 1 (nflog) or its handle (nftrace); None where there is no rule.
        hook: only nflog says it.
        verdict: only nftrace says it.
        mark: before the rule (nflog), after it (nftrace).
        packet: None where the message holds no headers.
        id: of the packet; only nftrace has one.
    """

    evidence: str
    table: str
    chain: str
    kind: str
    number: int | None
    hook: str = ""
    verdict: str = ""
    mark: int = 0
    packet: Packet | None = None
    id: int = 0


def read_event(message: bytes) -> Event:
    """Read one message, its type in the first 2 bytes (see ``agent/tracelog.py``).

    Raises:
        ValueError: it is of no known type.
    """
    (kind,) = struct.unpack_from("=H", message)
    family = message[2]
    values = dict(_attributes(message[6:]))
    if kind == _ULOG_PACKET:
        return _from_nflog(values)
    if kind == _NFT_TRACE:
        return _from_nftrace(_FAMILIES.get(family, str(family)), values)
    raise ValueError(f"netlink message type {kind:#x} is no trace message")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _from_nflog(values: Mapping[int, bytes]) -> Event:
    # "TRACE: nat:KUBE-SERVICES:rule:3 ", net/ipv4/netfilter/ip_tables.c trace_packet()
    table, chain, kind, number = values[10].rstrip(b"\0 ").decode().removeprefix("TRACE: ").split(":")
    return Event(
        NFLOG,
        table,
        chain,
        kind,
        int(number),
        hook=_HOOKS[values[1][2]],
        mark=_number(values.get(2)),
        packet=_packet(values.get(9, b"")),
    )


def _from_nftrace(family: str, values: Mapping[int, bytes]) -> Event:
    verdict = dict(_attributes(values.get(5, b"")))
    code = int.from_bytes(verdict.get(1, b"\xff\xff\xff\xff"), "big", signed=True)
    word = f"{_JUMPS[code]} {_text(verdict[2])}" if code in _JUMPS else _VERDICTS.get(code, str(code))
    kind = {_TYPE_POLICY: "policy", _TYPE_RETURN: "return"}.get(_number(values[4]), "rule")
    if kind == "policy":
        word = f"policy {_VERDICTS.get(_number(values.get(16)), '')}".strip()
    elif 3 not in values:  # a chain's end has no handle, net/netfilter/nf_tables_trace.c
        kind, word = "return", "end of chain"
    headers = values.get(8, b"") + values.get(9, b"")
    return Event(
        NFTRACE,
        f"{family} {_text(values[1])}",
        _text(values[2]),
        kind,
        _number(values[3]) if 3 in values else None,
        verdict=word,
        mark=_number(values.get(14)),
        packet=_packet(headers),
        id=_number(values[6]),
    )


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _packet(headers: bytes) -> Packet | None:
    """Read IPv4 and TCP headers; None for anything else."""
    length = (headers[0] & 15) * 4 if headers else 0
    if not headers or headers[0] >> 4 != 4 or headers[9] != _TCP or len(headers) < length + 8:
        return None
    source, destination = (socket.inet_ntoa(headers[at : at + 4]) for at in (12, 16))
    source_port, destination_port, sequence = struct.unpack_from(">HHI", headers, length)
    return Packet(f"{source}:{source_port}", f"{destination}:{destination_port}", sequence)


def with_packets(events: Iterable[Event]) -> list[Event]:
    """Give each event of nftables, which tells a packet's headers only once a hook, those headers."""
    found: list[Event] = []
    by_id: dict[int, Packet] = {}
    for event in events:
        if event.evidence == NFTRACE:
            if event.packet:
                by_id[event.id] = event.packet
            event = replace(event, packet=by_id.get(event.id))
        found.append(event)
    return found
