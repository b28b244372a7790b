"""Proxy mode ipvs without a kernel: equal to a real kube-proxy v1.36.2; the texts that change a node; what is read."""

from __future__ import annotations

import asyncio

import pytest

from srcip_nb.errors import LabError
from srcip_nb.lab.agent import ipvs_sockopt
from srcip_nb.lab.proxy.ipvs import VirtualServer, ipvs_state
from srcip_nb.lab.proxy.ipvs_node import (
    SOCKOPT,
    IpvsNode,
    address_changes,
    busy_endpoints,
    departures,
    server_changes,
    servers_from_text,
    set_changes,
    sets_from_text,
)
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.render import render_rules
from srcip_nb.lab.proxy.ruleset import from_text
from srcip_nb.lab.proxy.state import ServiceMap
from tests.lab.kube_proxy_truth import recorded
from tests.lab.proxy_objects import endpoint, endpoint_slice, service


def sections(text: str) -> dict[str, object]:
    """The four sections: lines in no order, rules of a chain in theirs."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("[") and line.endswith("]"):
            lines = found.setdefault(line, [])
        elif line.strip():
            lines.append(" ".join(line.split()))
    rules = from_text("\n".join(found.pop("[iptables-save]")) + "\n")
    return {**{name: sorted(lines) for name, lines in found.items()}, "rules": rules}


@recorded("ipvs")
def test_equal_to_what_a_real_kube_proxy_kept(truth):
    written = render_rules("ipvs", truth.stem, [truth.with_name("objects.yaml")])
    assert sections(written) == sections(truth.read_text(encoding="utf-8"))
    assert len(sections(written)) == 4


def test_the_truth_is_read_whole():
    from tests.lab.kube_proxy_truth import TRUTH

    text = (TRUTH / "loadbalancer-local" / "worker01.ipvs").read_text(encoding="utf-8")
    found = sections(text)
    assert sum(map(len, found["rules"]["nat"].values())) == text.partition("*nat")[2].count("\n-A ")
    assert found["[ipvsadm -Sn]"] and found["[ipset save]"] and found["[kube-ipvs0]"]


# -- which endpoints a virtual server has ------------------------------------------------------------------------------


def state(node: str = "worker02", scheduler: str = "rr", **spec):
    endpoints = spec.pop("endpoints", [endpoint("10.0.5.2", "worker01")])
    one = service(**spec)
    services = ServiceMap.of([one], [endpoint_slice(one, *endpoints)])
    return ipvs_state(services, Node(node, "192.168.1.46"), ["192.168.1.46", "10.0.30.64"], scheduler=scheduler)


NODE_PORT = {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}


def test_local_without_a_local_endpoint_takes_all():
    found = state(**NODE_PORT, externalTrafficPolicy="Local")
    assert found.servers["-t 192.168.1.46:30080"].endpoints == ("10.0.5.2:80",)
    both = [endpoint("10.0.5.2", "worker01"), endpoint("10.0.30.66", "worker02")]
    found = state(**NODE_PORT, externalTrafficPolicy="Local", endpoints=both)
    assert found.servers["-t 10.0.30.64:30080"].endpoints == ("10.0.30.66:80",)
    assert found.servers["-t 10.1.0.10:80"].endpoints == ("10.0.30.66:80", "10.0.5.2:80")


def test_internal_local_takes_all_only_where_there_is_more_than_a_cluster_ip():
    assert state(internalTrafficPolicy="Local").servers["-t 10.1.0.10:80"].endpoints == ()
    found = state(**NODE_PORT, internalTrafficPolicy="Local")
    assert found.servers["-t 10.1.0.10:80"].endpoints == ("10.0.5.2:80",)


def test_scheduler_and_affinity_are_the_virtual_servers():
    affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    assert state(scheduler="sh").servers["-t 10.1.0.10:80"].settings == "-s sh"
    assert state(scheduler="lc", **affinity).servers["-t 10.1.0.10:80"].settings == "-s lc -p 60"


# -- changes -----------------------------------------------------------------------------------------------------------


def server(*endpoints: str, scheduler: str = "rr") -> dict[str, VirtualServer]:
    one = VirtualServer("tcp", "10.1.0.10", 80, scheduler, None, endpoints)
    return {one.name: one}


NAME = "-t 10.1.0.10:80"


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({}, server("a:80"), [f"-A {NAME} -s rr", f"-a {NAME} -r a:80 -m -w 1"]),
        ({NAME: ("-s rr", {"a:80": 1})}, server("a:80"), []),
        ({NAME: ("-s rr", {"a:80": 1})}, server("a:80", scheduler="sh"), [f"-E {NAME} -s sh"]),
        # Who goes keeps its connections; who comes back is wanted again.
        ({NAME: ("-s rr", {"a:80": 1})}, server(), [f"-e {NAME} -r a:80 -m -w 0"]),
        ({NAME: ("-s rr", {"a:80": 0})}, server(), []),
        ({NAME: ("-s rr", {"a:80": 0})}, server("a:80"), [f"-e {NAME} -r a:80 -m -w 1"]),
        ({NAME: ("-s rr", {"a:80": 1})}, {}, [f"-D {NAME}"]),
    ],
)
def test_changes_of_virtual_servers(old, new, lines):
    assert server_changes(old, new).splitlines() == lines


def test_an_endpoint_departs_when_its_last_connection_has_ended():
    now = {NAME: ("-s rr", {"a:80": 0, "b:80": 1})}
    assert departures(now, server("b:80"), {(NAME, "a:80")}) == ""
    assert departures(now, server("b:80"), set()) == f"-d {NAME} -r a:80\n"
    # A UDP "connection" has no end to wait for.
    udp = NAME.replace("-t", "-u")
    gone = {udp: VirtualServer("udp", "10.1.0.10", 80, "rr", None, ())}
    assert departures({udp: ("-s rr", {"a:80": 0})}, gone, {(udp, "a:80")}) == f"-d {udp} -r a:80\n"


def test_changes_of_sets_and_addresses():
    old = {"KUBE-CLUSTER-IP": {"10.1.0.1,tcp:443", "10.1.0.9,tcp:80"}}
    new = {"KUBE-CLUSTER-IP": {"10.1.0.1,tcp:443", "10.1.0.10,tcp:80"}, "KUBE-NODE-PORT-TCP": {"30080"}}
    assert set_changes(old, new).splitlines() == [
        "del KUBE-CLUSTER-IP 10.1.0.9,tcp:80",
        "add KUBE-CLUSTER-IP 10.1.0.10,tcp:80",
        "create KUBE-NODE-PORT-TCP bitmap:port range 0-65535",
        "add KUBE-NODE-PORT-TCP 30080",
    ]
    assert set_changes(new, new) == ""
    assert address_changes({"1.1.1.1"}, {"2.2.2.2"}) == (
        "addr add 2.2.2.2/32 dev kube-ipvs0\naddr del 1.1.1.1/32 dev kube-ipvs0\n"
    )


# -- what programs print -----------------------------------------------------------------------------------------------


def test_what_is_printed_is_read():
    text = "-A -t 10.1.0.10:80 -s rr -p 60\n-a -t 10.1.0.10:80 -r 10.0.5.2:80 -m -w 0\n-A -u 10.1.0.10:53 -s rr\n"
    assert servers_from_text(text) == {NAME: ("-s rr -p 60", {"10.0.5.2:80": 0}), "-u 10.1.0.10:53": ("-s rr", {})}
    text = "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024\nadd KUBE-CLUSTER-IP 1.1.1.1,tcp:80\n"
    assert sets_from_text(f"create OTHERS hash:ip family inet\n{text}") == {"KUBE-CLUSTER-IP": {"1.1.1.1,tcp:80"}}


LN = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.1.0.10:80 rr persistent 60
  -> 10.0.5.2:80                  Masq    0      0          3
  -> 10.0.30.66:80                Masq    1      0          0
"""
PROC = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A01000A:0050 rr  persistent 15000 FFFFFFFF
  -> 0A000502:0050      Masq    0      0          3
  -> 0A001E42:0050      Masq    1      0          0
"""


def test_busy_endpoints_are_those_with_connections_of_either_kind():
    assert busy_endpoints(LN) == {(NAME, "10.0.5.2:80")}


def test_the_kernels_own_table_gives_the_same_texts_as_ipvsadm():
    assert list(ipvs_sockopt.saved(PROC, 250)) == [
        f"-A {NAME} -s rr -p 60",
        f"-a {NAME} -r 10.0.5.2:80 -m -w 0",
        f"-a {NAME} -r 10.0.30.66:80 -m -w 1",
    ]
    words = [line.split() for line in LN.splitlines()[3:]]
    assert [line.split() for line in ipvs_sockopt.listed(PROC, 250)] == words


def test_lines_become_the_kernels_structures():
    number, value = ipvs_sockopt.request(f"-A {NAME} -s rr -p 60")
    assert (number, len(value), value[4:8], value[8:10]) == (1154, 44, bytes([10, 1, 0, 10]), b"\x00\x50")
    number, value = ipvs_sockopt.request(f"-a {NAME} -r 10.0.5.2:80 -m -w 1")
    assert (number, len(value), value[44:48]) == (1159, 68, bytes([10, 0, 5, 2]))
    for wrong in ("-A -x 10.1.0.10:80 -s rr", "-A", "-a -t 10.1.0.10:80", "-Z -t 10.1.0.10:80", "-A -t 10.1.0.10:http"):
        with pytest.raises(ValueError, match="not a line of ipvsadm --restore"):
            ipvs_sockopt.request(wrong)


class Refusing:
    """An agent of a node on which ipvsadm is refused, and perhaps the other interface too."""

    def __init__(self, refused: tuple[str, ...]) -> None:
        self.refused = refused
        self.ran: list[list[str]] = []

    async def call(self, op: str, **arguments: object) -> object:
        argv = list(arguments.get("argv", []))
        self.ran.append(argv)
        is_refused = argv and argv[0] in self.refused
        said = "Can't initialize ipvs: Permission denied" if is_refused else ""
        return {"code": 2 if is_refused else 0, "stdout": "", "stderr": said}


def test_where_ipvsadm_is_refused_the_older_interface_is_used():
    agent = Refusing(("ipvsadm",))
    asyncio.run(IpvsNode(agent, Node("worker01", "192.168.1.45")).sync(ServiceMap()))
    called = [argv for argv in agent.ran if "-Sn" in argv or "--restore" in argv]
    assert called[0] == ["ipvsadm", "-Sn"] and all(tuple(argv[:4]) == SOCKOPT for argv in called[1:])
    agent = Refusing(("ipvsadm", SOCKOPT[0]))
    with pytest.raises(LabError, match=r"ipvsadm failed on worker01: Can't initialize ipvs"):
        asyncio.run(IpvsNode(agent, Node("worker01", "192.168.1.45")).sync(ServiceMap()))
