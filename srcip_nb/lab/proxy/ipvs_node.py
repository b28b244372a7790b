"""Proxy mode ipvs at work on one node: what ipvs.py writes, brought into the kernel and taken away again.

    sync        virtual servers and kube-ipvs0's addresses, then sets, then rules; last, what is no longer wanted
    is_whole    all four read back and held against what was loaded
    remove      the same backwards

An endpoint that goes keeps its connections: its weight becomes 0, and it is deleted when none is left, at once if there
was none (kubernetes v1.36.2 pkg/proxy/ipvs/graceful_termination.go).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping

from srcip_nb.errors import LabError
from srcip_nb.lab.agent import ipvs_sockopt
from srcip_nb.lab.proxy.calls import CallsAgent, run
from srcip_nb.lab.proxy.iptables import CLUSTER_CIDR
from srcip_nb.lab.proxy.ipvs import DEVICE, SYSCTLS, State, VirtualServer, ipvs_state
from srcip_nb.lab.proxy.ipvs_sets import PORTS, SETS
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.ruleset import Ruleset, changes, from_text, ours
from srcip_nb.lab.proxy.state import ServiceMap

IPVSADM = ("ipvsadm",)
SOCKOPT = (sys.executable, "-I", "-S", ipvs_sockopt.__file__)
"""Takes and prints ipvsadm's texts, without ipvsadm."""

Servers = dict[str, tuple[str, dict[str, int]]]
"""Virtual server -> its settings, and the weight of each endpoint."""

_CONNECTIONS = re.compile(r"-> (\S+)\s+Masq\s+\d+\s+(\d+)\s+(\d+)")


def servers_from_text(text: str) -> Servers:
    """Read what `ipvsadm -Sn` printed."""
    found: Servers = {}
    for line in text.splitlines():
        words = line.split()
        name = " ".join(words[1:3])
        if words[:1] == ["-A"]:
            found[name] = (" ".join(words[3:]), {})
        elif words[:1] == ["-a"]:
            found[name][1][words[words.index("-r") + 1]] = int(words[words.index("-w") + 1])
    return found


def sets_from_text(text: str) -> dict[str, set[str]]:
    """Read what `ipset save` printed: the entries of each of the proxy's sets that is there."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        verb, name, rest = line.split(" ", 2)
        if name in SETS:
            entries = found.setdefault(name, set())
            if verb == "add":
                entries.add(rest)
    return found


def busy_endpoints(text: str) -> set[tuple[str, str]]:
    """Read from `ipvsadm -Ln` which endpoints of which virtual servers still have connections."""
    busy, name = set(), ""
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in ("TCP", "UDP", "SCTP"):
            option = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}[words[0]]
            name = f"{option} {words[1]}"
        elif (match := _CONNECTIONS.search(line)) and int(match[2]) + int(match[3]):
            busy.add((name, match[1]))
    return busy


def server_changes(old: Servers, new: Mapping[str, VirtualServer]) -> str:
    """Write what makes virtual servers right, for `ipvsadm --restore`; endpoints that go get weight 0."""
    lines = []
    for name, server in sorted(new.items()):
        settings, weights = old.get(name, ("", {}))
        if name not in old:
            lines.append(f"-A {name} {server.settings}")
        elif settings != server.settings:
            lines.append(f"-E {name} {server.settings}")
        for endpoint in server.endpoints:
            if endpoint not in weights:
                lines.append(f"-a {name} -r {endpoint} -m -w 1")
            elif weights[endpoint] != 1:
                lines.append(f"-e {name} -r {endpoint} -m -w 1")
        gone = [endpoint for endpoint, weight in weights.items() if endpoint not in server.endpoints and weight]
        lines += [f"-e {name} -r {endpoint} -m -w 0" for endpoint in sorted(gone)]
    lines += [f"-D {name}" for name in sorted(old.keys() - new.keys())]
    return "\n".join([*lines, ""]) if lines else ""


def departures(now: Servers, wanted: Mapping[str, VirtualServer], busy: set[tuple[str, str]]) -> str:
    """Write the end of endpoints that are no longer wanted and have no connection left, or need not wait for any."""
    lines = []
    for name, (_, weights) in sorted(now.items()):
        server = wanted.get(name)
        for endpoint in sorted(weights):
            is_wanted = server is None or endpoint in server.endpoints
            waits = name.startswith("-t ") and (name, endpoint) in busy
            if not is_wanted and not waits:
                lines.append(f"-d {name} -r {endpoint}")
    return "\n".join([*lines, ""]) if lines else ""


def set_changes(old: Mapping[str, Iterable[str]], new: Mapping[str, set[str]]) -> str:
    """Write what makes sets right, for `ipset restore`."""
    lines = []
    for name, entries in sorted(new.items()):
        had = set(old.get(name, ()))
        if name not in old:
            kind = SETS[name][0]
            lines.append(f"create {name} {kind} {'range 0-65535' if kind == PORTS else 'family inet'}")
        lines += [f"del {name} {entry}" for entry in sorted(had - entries)]
        lines += [f"add {name} {entry}" for entry in sorted(entries - had)]
    return "\n".join([*lines, ""]) if lines else ""


def address_changes(old: set[str], new: set[str]) -> str:
    """Write what makes kube-ipvs0's addresses right, for `ip -batch`."""
    lines = [f"addr add {address}/32 dev {DEVICE}" for address in sorted(new - old)]
    lines += [f"addr del {address}/32 dev {DEVICE}" for address in sorted(old - new)]
    return "\n".join([*lines, ""]) if lines else ""


class IpvsNode:
    """Proxy mode ipvs on one node, loaded by ipvsadm (or ``ipvs_sockopt``), ipset, ip and iptables-legacy.

    Args:
        agent: where commands are run.
        node: the node; its name is the host's.
        cluster_cidr: the pods' addresses.
        scheduler: how virtual servers share connections out.
    """

    uses_iptables = True

    def __init__(self, agent: CallsAgent, node: Node, cluster_cidr: str = CLUSTER_CIDR, scheduler: str = "rr") -> None:
        self.node = node
        self._scheduler = scheduler
        self._program: tuple[str, ...] = IPVSADM
        self._agent = agent
        self._cluster_cidr = cluster_cidr
        self._wanted: State | None = None
        self._servers: Servers = {}
        self._sets: dict[str, set[str]] = {}
        self._addresses: set[str] = set()
        self._node_addresses: list[str] = []
        self._rules: Ruleset = {}

    async def _run(self, *argv: str, text: str = "") -> str:
        return await run(self._agent, self.node.name, argv, text)

    async def _ipvs(self, *words: str, text: str = "") -> str:
        return await self._run(*self._program, *words, text=text)

    async def _choose_program(self) -> None:
        """ipvsadm, or what does the same where it may not: in a user namespace."""
        try:
            await self._ipvs("-Sn")
        except LabError as refused:
            try:
                await self._run(*SOCKOPT, "-Sn")
            except LabError:
                raise refused from None
            self._program = SOCKOPT

    async def _read(self) -> None:
        """What the kernel has now."""
        self._node_addresses, self._addresses = [], set()
        for line in (await self._run("ip", "-o", "-4", "addr", "show")).splitlines():
            _, device, _, address = line.split()[:4]
            if device == DEVICE:
                self._addresses.add(address.partition("/")[0])
            elif device != "lo":
                self._node_addresses.append(address.partition("/")[0])
        self._servers = servers_from_text(await self._ipvs("-Sn"))
        self._sets = sets_from_text(await self._run("ipset", "save"))
        self._rules = ours(from_text(await self._run("iptables-legacy-save")))

    async def _prepare(self) -> None:
        settings = " ".join(f"{key}={value}" for key, value in SYSCTLS.items())
        await self._agent.call("configure", text=f"ip netns exec {self.node.name} sysctl -q -w {settings}\n")
        await self._choose_program()
        links = await self._run("ip", "-o", "link", "show")
        if f" {DEVICE}:" not in links:
            await self._run("ip", "link", "add", DEVICE, "type", "dummy")

    async def sync(self, services: ServiceMap) -> bool:
        """Make the kernel hold the state for these Services; True if anything had to be loaded."""
        is_first = self._wanted is None
        self._wanted = None
        if is_first:
            await self._prepare()
            await self._read()
        wanted = ipvs_state(services, self.node, self._node_addresses, self._cluster_cidr, self._scheduler)
        servers = server_changes(self._servers, wanted.servers)
        steps = (
            (("ip", "-batch", "-"), address_changes(self._addresses, self._addresses | wanted.addresses)),
            ((*self._program, "--restore"), servers),
            (("ipset", "-!", "restore"), set_changes(self._sets, wanted.sets)),
            (("iptables-legacy-restore", "-w", "--noflush"), changes(self._rules, wanted.rules)),
            (("ip", "-batch", "-"), address_changes(self._addresses | wanted.addresses, wanted.addresses)),
        )
        for argv, text in steps:
            if text:
                await self._run(*argv, text=text)
        if servers:
            self._servers = servers_from_text(await self._ipvs("-Sn"))
        self._sets, self._addresses, self._rules = wanted.sets, wanted.addresses, wanted.rules
        self._wanted = wanted
        await self._let_go()
        return any(text for _, text in steps)

    async def _let_go(self) -> None:
        """Delete endpoints that are not wanted any more, as soon as they have no connection."""
        if self._wanted is None or not departures(self._servers, self._wanted.servers, set()):
            return
        busy = busy_endpoints(await self._ipvs("-Ln"))
        text = departures(self._servers, self._wanted.servers, busy)
        if text:
            await self._ipvs("--restore", text=text)
            self._servers = servers_from_text(await self._ipvs("-Sn"))

    async def is_whole(self) -> bool:
        """Is everything that was loaded still there? Endpoints on their way out are let go meanwhile."""
        wanted = self._wanted
        if wanted is None:
            return False
        try:
            await self._let_go()
            await self._read()
        except LabError:
            self._wanted = None  # what is wrong is for the next sync to tell
            return False
        if self._wanted is not wanted:
            return True  # loaded anew meanwhile: what was read is out of date
        is_whole = (
            not server_changes(self._servers, wanted.servers)
            and self._sets == wanted.sets
            and self._addresses == wanted.addresses
            and not changes(self._rules, wanted.rules)
        )
        if not is_whole:
            self._wanted = None
        return is_whole

    async def remove(self, keep_iptables: bool = False) -> None:
        """Take away everything that this mode loaded; the rules not, where another mode has put its own there."""
        self._wanted = None
        await self._read()
        if not keep_iptables:
            text = changes(self._rules, {})
            if text:
                await self._run("iptables-legacy-restore", "-w", "--noflush", text=text)
        await self._ipvs("--clear")
        await self._run("ip", "link", "del", DEVICE)
        if self._sets:
            await self._run("ipset", "restore", text="".join(f"destroy {name}\n" for name in sorted(self._sets)))
