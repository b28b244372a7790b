"""The texts of topology.py, done: lines of ip(8), bridge(8), sysctl(8), nfacct(8), in this process and by netlink.

Only what the lab's texts need is understood, and a word too many is an error, never ignored. Each line is what a
learner could type as root; `-n NAME` and `netns exec NAME` say in whose network namespace it acts.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Collection, Iterator

from . import netlink, nfacct, sysctl
from .protocol import RequestError
from .spaces import Space, Spaces, in_thread

RUNNING_WITHIN = 10.0
"""Seconds in which a device passes packets after its other end came up; it is a few milliseconds on an idle machine."""


class Words:
    """The words of one command, taken one after the other."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def next(self, what: str = "a word") -> str:
        """Take the next word; `what` names it in the error if none is left."""
        if not self._words:
            raise RequestError(f"{what} is missing at the end")
        return self._words.pop(0)

    def accept(self, *words: str) -> bool:
        """Take the next word if it is one of these."""
        is_next = bool(self._words) and self._words[0] in words
        if is_next:
            self._words.pop(0)
        return is_next

    def options(self, valued: tuple[str, ...], flags: tuple[str, ...] = ()) -> dict[str, str]:
        """Take all that is left as `KEY VALUE` and `FLAG` words."""
        found: dict[str, str] = {}
        while self._words:
            word = self.next()
            if word in flags:
                found[word] = "yes"
            elif word in valued:
                found[word] = self.next(f"the value of {word}")
            else:
                raise RequestError(f"{word!r} is not understood here")
        return found

    def until(self, stop: str) -> Words:
        """Take what comes before a word, and the word."""
        if stop not in self._words:
            raise RequestError(f"{stop!r} is missing")
        at = self._words.index(stop)
        before, self._words = self._words[:at], self._words[at + 1 :]
        return Words(before)

    def rest(self) -> list[str]:
        """Take all that is left."""
        rest, self._words = self._words, []
        return rest


def lines_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Split a text into commands: (the line, its words); empty lines and comments are left out."""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words:
            yield line.strip(), words


def run_text(text: str, spaces: Spaces, add: Callable[[str], Space]) -> None:
    """Do all lines in order; the first that fails ends it. At the end the devices that they change pass packets.

    Args:
        text: one command a line.
        spaces: the hosts and pods there are.
        add: makes the namespace of an `ip netns add NAME` line.

    Raises:
        RequestError: a line is not understood or the kernel refuses it; the message holds the line. Or a device that
            is up passes no packets for RUNNING_WITHIN seconds.
    """
    in_thread(_run_text, text, spaces, add)
    changed = {words[2] for _, words in lines_of(text) if words[:2] == ["ip", "-n"] and words[3:4] == ["link"]}
    wait_for_devices([spaces[name] for name in sorted(changed) if name in spaces], RUNNING_WITHIN)


def wait_for_devices(spaces: Collection[Space], seconds: float) -> None:
    """Wait until no device is late (Netlink.late_devices), as the CNI plugin `bridge` waits for its ports.

    Raises:
        RequestError: one still is after so many seconds.
    """
    deadline = time.monotonic() + seconds
    for space in spaces:
        while late := space.netlink.late_devices():
            if time.monotonic() > deadline:
                raise RequestError(
                    f"{', '.join(late)} of {space.name} is up, but {seconds:g} seconds later the kernel still lets no "
                    "packet pass: the machine is very busy; try again when it is less so"
                )
            time.sleep(0.001)


def _run_text(text: str, spaces: Spaces, add: Callable[[str], Space]) -> None:
    for line, words in lines_of(text):
        try:
            _run_line(Words(words), spaces, add)
        except (RequestError, OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise RequestError(f"{line}: {reason}") from error


def _run_line(words: Words, spaces: Spaces, add: Callable[[str], Space]) -> None:
    program = words.next("the program")
    if program not in ("ip", "bridge"):
        raise RequestError(f"{program!r} is not ip, bridge or ip netns exec ... sysctl or nfacct")
    space = spaces[words.next("the namespace")] if words.accept("-n") else None
    subject = words.next("what to change")
    verb = words.next("what to do")
    if program == "ip" and subject == "netns" and space is None:
        _netns(verb, words, spaces, add)
    elif program == "ip" and subject == "link" and verb == "add" and space is None:
        _add_veth(words, spaces)
    elif space is None:
        raise RequestError("-n NAMESPACE is missing")
    elif program == "bridge" and subject == "fdb":
        _fdb(verb, words, space)
    elif program == "ip" and subject in _SUBJECTS:
        _SUBJECTS[subject](verb, words, space)
    else:
        raise RequestError(f"{subject!r} is not understood here")


def _netns(verb: str, words: Words, spaces: Spaces, add: Callable[[str], Space]) -> None:
    name = words.next("the namespace's name")
    if verb == "exec":
        program = words.next("the program")
        if program == "nfacct" and words.accept("add"):
            counters = words.rest()
            spaces[name].enter_net()
            if not nfacct.ensure_counters(counters):
                raise RequestError("this kernel has no named packet counters (nfacct)")
            return
        if program != "sysctl":
            raise RequestError("only sysctl -w and nfacct add can be run by a line; use exec for other programs")
        where_known, is_write = False, False
        settings = words.rest()
        while settings and settings[0].startswith("-"):
            option = settings.pop(0)
            if option not in ("-q", "-e", "-w"):
                raise RequestError(f"sysctl {option} is not understood here")
            where_known |= option == "-e"
            is_write |= option == "-w"
        if not is_write or not settings:
            raise RequestError("sysctl wants -w KEY=VALUE")
        spaces[name].enter_net()
        for setting in settings:
            key, _, value = setting.partition("=")
            sysctl.write(key, value, where_known)
        return
    words.options(())
    if verb == "add":
        add(name)
    elif verb in ("del", "delete"):
        spaces.remove(name)
    else:
        raise RequestError(f"ip netns {verb} is not understood here")


def _add_veth(words: Words, spaces: Spaces) -> None:
    """`ip link add A netns N [address M] [mtu B] type veth peer name P netns N2 [address M] [mtu B]`."""
    name = words.next("the device's name")
    own = words.until("type").options(("netns", "address", "mtu"))
    if not (words.accept("veth") and words.accept("peer") and words.accept("name")):
        raise RequestError("between namespaces only veths are made: type veth peer name NAME netns NAMESPACE")
    peer = words.next("the peer's name")
    others = words.options(("netns", "address", "mtu"))
    if "netns" not in own or "netns" not in others:
        raise RequestError("both ends of a veth want netns NAMESPACE")
    first = spaces[own["netns"]]
    ends = [
        (end, spaces[options["netns"]].net, options.get("address", ""), int(options.get("mtu", 0)))
        for end, options in ((name, own), (peer, others))
    ]
    first.netlink.add_veth(ends)


def _link(verb: str, words: Words, space: Space) -> None:
    if verb == "add":
        name = words.next("the device's name")
        own = words.until("type").options(("address", "mtu"))
        mac, mtu = own.get("address", ""), int(own.get("mtu", 0))
        kind = words.next("the device's type")
        if kind == "vxlan":
            o = words.options(("id", "local", "dev", "dstport"), ("nolearning",))
            for key in ("id", "local", "dev", "dstport"):
                if key not in o:
                    raise RequestError(f"vxlan wants {key}")
            is_learning = "nolearning" not in o
            space.netlink.add_vxlan(
                name, int(o["id"]), o["local"], o["dev"], int(o["dstport"]), is_learning, mac=mac, mtu=mtu
            )
        elif kind in ("bridge", "dummy"):
            words.options(())
            space.netlink.add_link(name, kind, mac=mac, mtu=mtu)
        else:
            raise RequestError(f"a device of type {kind!r} is not understood here")
        return
    words.accept("dev")
    name = words.next("the device's name")
    if verb == "set":
        found = words.options(("master", "address", "mtu"), ("up", "down"))
        up = True if "up" in found else False if "down" in found else None
        space.netlink.set_link(
            name,
            up=up,
            master=found.get("master", ""),
            mac=found.get("address", ""),
            mtu=int(found.get("mtu", 0)),
        )
    elif verb in ("del", "delete"):
        words.options(())
        space.netlink.delete_link(name)
    else:
        raise RequestError(f"ip link {verb} is not understood here")


def _kind_and_flags(verb: str, new: int, delete: int) -> tuple[int, int]:
    """The message and its flags for add, replace, append and del."""
    known = {
        "add": (new, netlink.ADD),
        "replace": (new, netlink.REPLACE),
        "append": (new, netlink.APPEND),
        "del": (delete, 0),
        "delete": (delete, 0),
    }
    if verb not in known:
        raise RequestError(f"{verb!r} is not understood here")
    return known[verb]


def _address(verb: str, words: Words, space: Space) -> None:
    kind, flags = _kind_and_flags(verb, netlink.RTM_NEWADDR, netlink.RTM_DELADDR)
    interface = ipaddress.IPv4Interface(words.next("the address"))
    device = _device(words.options(("dev",)))
    space.netlink.address(kind, flags, device, str(interface.ip), interface.network.prefixlen)
    if kind == netlink.RTM_NEWADDR:
        space.addresses.append(str(interface.ip))


def _device(options: dict[str, str]) -> str:
    if "dev" not in options:
        raise RequestError("dev DEVICE is missing")
    return options["dev"]


def _route(verb: str, words: Words, space: Space) -> None:
    kind, flags = _kind_and_flags(verb, netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE)
    type_ = next((kind for kind in netlink.ROUTE_TYPES if words.accept(kind)), "unicast")
    destination = words.next("the destination")
    network = ipaddress.IPv4Network("0.0.0.0/0" if destination == "default" else destination)
    hops = _next_hops(words)
    found = {} if hops else words.options(("via", "dev", "src", "scope"), ("onlink",))
    if found.get("scope", "link") not in netlink.SCOPES:
        raise RequestError(f"scope {found['scope']!r} is not one of {', '.join(netlink.SCOPES)}")
    space.netlink.route(
        kind,
        flags,
        str(network.network_address),
        network.prefixlen,
        via=found.get("via", ""),
        device=found.get("dev", ""),
        source=found.get("src", ""),
        scope=found.get("scope", ""),
        onlink="onlink" in found,
        type_=type_,
        hops=hops,
    )
    if destination == "default":
        is_there = kind == netlink.RTM_NEWROUTE and "via" in found and "dev" in found
        space.default_route = (found["via"], found["dev"]) if is_there else None


def _next_hops(words: Words) -> list[str]:
    """Take `nexthop via ADDRESS` as often as it comes; all weigh the same."""
    hops = []
    while words.accept("nexthop"):
        if not words.accept("via"):
            raise RequestError("nexthop wants via ADDRESS")
        hops.append(str(ipaddress.IPv4Address(words.next("the next hop's address"))))
    if hops:
        words.options(())
    return hops


def _neighbour(verb: str, words: Words, space: Space) -> None:
    kind, flags = _kind_and_flags(verb, netlink.RTM_NEWNEIGH, netlink.RTM_DELNEIGH)
    address = str(ipaddress.IPv4Address(words.next("the address")))
    found = words.options(("lladdr", "dev", "nud"))
    if found.get("nud", "permanent") != "permanent":
        raise RequestError("only nud permanent is understood here")
    space.netlink.neighbour(kind, flags, _device(found), address, found.get("lladdr", ""))


def _fdb(verb: str, words: Words, space: Space) -> None:
    kind, flags = _kind_and_flags(verb, netlink.RTM_NEWNEIGH, netlink.RTM_DELNEIGH)
    mac = words.next("the MAC address")
    found = words.options(("dev", "dst"))
    space.netlink.forwarding(kind, flags, _device(found), mac, found.get("dst", ""))


_SUBJECTS: dict[str, Callable[[str, Words, Space], None]] = {
    "link": _link,
    "addr": _address,
    "address": _address,
    "route": _route,
    "neigh": _neighbour,
}
