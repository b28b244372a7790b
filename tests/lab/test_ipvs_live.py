"""Proxy mode ipvs on a kernel that has ip_vs, mostly User Mode Linux: what differs from the other modes, seen live."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from srcip_nb import connect
from srcip_nb.cluster import wait_until
from srcip_nb.errors import LabError
from srcip_nb.lab import Lab
from srcip_nb.lab.agent import ipvs_sockopt
from srcip_nb.lab.kernel import start_agent
from srcip_nb.lab.proxy.ipvs_node import IpvsNode, servers_from_text
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.state import ServiceMap
from srcip_nb.lab.topology import topology, topology_text
from srcip_nb.targets import find_targets
from tests.conftest import kubectl, why_no_mode
from tests.lab.proxy_objects import endpoint, endpoint_slice, service
from tests.lab.test_faults import MANIFEST

# A User Mode Linux on a busy machine takes its time.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

NODES = ["master01", "worker01", "worker02"]
PATIENCE = {"timeout": 10, "concurrency": 4, "progress": False}


@pytest.fixture(scope="module")
def ipvs():
    """A lab in mode ipvs with the pod network flannel, two pods, and its lesson cluster as ``.cluster``."""
    if why_no_mode("ipvs"):
        pytest.skip(why_no_mode("ipvs"))
    with Lab(name="tests-ipvs", proxy_mode="ipvs", cni="flannel") as lab:
        lab.cluster = connect(lab=lab, quiet=True)
        lab.cluster.apply()
        lab.cluster.wait_ready()
        wait_until(lambda: not_served(lab), "the virtual servers", 90)
        yield lab


def not_served(lab) -> str:
    """On which nodes the VIP's virtual server has not its two pods yet: pods are ready before every node knows."""
    waiting = [node for node in NODES if virtual_server(lab, node).count(" -r ") != 2]
    return ", ".join(waiting)


def seen(lab, n: int = 10, target: str | None = None, **more) -> Counter:
    """(node that answered, source logged) -> how often; every request is answered."""
    frame = lab.cluster.visit(n, target=target, **PATIENCE, **more)
    assert list(frame["error"].unique()) == [""]
    return Counter(zip(frame["node"].astype(str), frame["source_ip"].astype(str), strict=True))


def run(lab, host: str, *argv: str, stdin: str | None = None) -> str:
    done = lab.client.exec(host, list(argv), stdin=stdin)
    assert done.code == 0, done
    return done.stdout


def virtual_server(lab, host: str) -> str:
    """The lines of `ipvsadm -Sn` about the VIP."""
    lines = run(lab, host, "ipvsadm", "-Sn").splitlines()
    return "\n".join(line for line in lines if " 192.168.1.56:80 " in f"{line} ")


def test_round_robin_splits_evenly(ipvs):
    ipvs.cluster.policy("Cluster")
    assert seen(ipvs, 20) == {("worker01", "10.0.5.1"): 10, ("worker02", "10.0.5.0"): 10}


# Four connections that stay open, two of them given up again; then eight short ones. Each answer names its endpoint.
HOLD = """
import http.client, sys
def connection(): return http.client.HTTPConnection(sys.argv[1], timeout=20)
def ask(it):
    it.request("GET", "/")
    return it.getresponse().read().decode().split()[0]
def once():
    it = connection()
    try:
        return ask(it)
    finally:
        it.close()
held = [connection() for _ in range(4)]
at = [ask(it) for it in held]
for it, endpoint in zip(held, at):
    if endpoint != at[0]:
        it.close()
print(*at)
print(*[once() for _ in range(8)])
print(*[ask(it) for it, endpoint in zip(held, at) if endpoint == at[0]])
"""


def where_connections_go(lab) -> list[list[str]]:
    """The endpoints of connections that are held, of new ones beside them, and of those that are held still."""
    kubectl(lab, "apply", "-f", "-", stdin=MANIFEST)
    try:
        kubectl(lab, "rollout", "status", "deployment/web", "--timeout=50s")
        words = ("get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
        wait_until(lambda: "" if kubectl(lab, *words).stdout else "no address", "an external address", 60)
        vip = kubectl(lab, *words).stdout
        nodes = [host["name"] for host in lab.client.hosts() if host["role"] in ("control-plane", "worker")]

        def not_yet() -> str:
            servers = {node: run(lab, node, "ipvsadm", "-Sn").count(f" {vip}:80 -r ") for node in nodes}
            return "" if set(servers.values()) == {2} else f"{servers}"

        wait_until(not_yet, "the virtual servers", 60)
        return [line.split() for line in run(lab, "client", "python3", "-c", HOLD, vip).splitlines()]
    finally:
        kubectl(lab, "delete", "deployment,service,configmap", "web", "conf", "--ignore-not-found")


def test_with_rr_connections_take_turns(ipvs):
    held, new, still = where_connections_go(ipvs)
    assert len({*held}) == 2
    for one, next_one in pairwise([*held, *new]):
        assert one != next_one, (held, new)
    assert still == [held[0]] * 2


def test_with_lc_new_connections_go_where_fewest_are_open():
    if why_no_mode("ipvs"):
        pytest.skip(why_no_mode("ipvs"))
    with Lab(name="tests-lc", workers=1, proxy_mode="ipvs", ipvs_scheduler="lc") as lab:
        held, new, still = where_connections_go(lab)
    (other,) = {*held} - {held[0]}
    assert Counter(held) == {held[0]: 2, other: 2}
    assert new == [other] * 8  # the two that were given up count little, the two that are open much
    assert still == [held[0]] * 2


def test_local_on_a_node_without_a_pod_answers_and_the_clients_address_is_lost(ipvs):
    ipvs.cluster.policy("Local")
    try:
        assert seen(ipvs, 6, "worker01") == {("worker01", "192.168.1.122"): 6}
        assert seen(ipvs, 6, "master01") == {("worker01", "10.0.241.0"): 3, ("worker02", "10.0.241.0"): 3}
        # The node has the address it asks: its pod sees just that.
        assert seen(ipvs, 3, client="worker01") == {("worker01", "192.168.1.56"): 3}
    finally:
        ipvs.cluster.policy("Cluster")


def test_a_client_stays_with_its_pod_under_session_affinity(ipvs):
    try:
        patch(ipvs, '{"spec": {"sessionAffinity": "ClientIP"}}', "-p 10800", True)
        assert len(seen(ipvs, 8)) == 1
    finally:
        patch(ipvs, '{"spec": {"sessionAffinity": "None", "sessionAffinityConfig": null}}', "-p 10800", False)


def patch(lab, text: str, words: str, is_there: bool) -> None:
    """Change the Service, and return when every node's virtual servers have these words, or have them no more."""
    kubectl(lab, "-n", "seminar", "patch", "service", "webserver", "--type=merge", "-p", text)

    def look() -> str:
        having = [node for node in NODES if words in virtual_server(lab, node)]
        return "" if having == (NODES if is_there else []) else f"{words!r} on {having}"

    wait_until(look, "the virtual servers", 60)


def test_a_connection_outlives_its_endpoints_departure(ipvs):
    """An endpoint that is no longer wanted gets weight 0: no new connections, but those it has go on."""
    ipvs.cluster.policy("Cluster")
    talk = threading.Thread(target=lambda: said.append(run(ipvs, "client", "python3", "-c", TALK)))
    said: list[str] = []
    talk.start()
    wait_until(lambda: "" if connections(ipvs) == 2 else "no two connections", "two connections", 60)
    try:
        ipvs.cluster.policy("Local")
        assert "-r 10.0.30.66:80 -m -w 0" in virtual_server(ipvs, "worker01")
        run(ipvs, "client", "touch", "/tmp/go-on")
        talk.join(60)
        assert said == ["200 200\n200 200\n"]
    finally:
        run(ipvs, "client", "rm", "-f", "/tmp/go-on")
        ipvs.cluster.policy("Cluster")
    assert "-w 0" not in virtual_server(ipvs, "worker01")


# Two connections, one after the other, so one to each pod; a request on each before, and one after it may go on.
TALK = """
import http.client, os, time
ends = time.monotonic() + 50
both = [http.client.HTTPConnection("192.168.1.56", timeout=20) for _ in range(2)]
def ask(connection):
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    return answer.status
first = [ask(connection) for connection in both]
while not os.path.exists("/tmp/go-on") and time.monotonic() < ends:
    both[0].sock.getpeername()
    time.sleep(0.05)
print(*first)
print(*[ask(connection) for connection in both])
"""


def connections(lab) -> int:
    """How many connections to the VIP are open on the node that announces it."""
    lines = run(lab, "worker01", "ipvsadm", "-Lnc").splitlines()
    return sum("ESTABLISHED" in line and "192.168.1.56:80" in line for line in lines)


def test_changing_over_loses_no_request(ipvs):
    results: list[dict] = []
    requests = [{"id": n, "url": f"http://192.168.1.56/?over-{n}"} for n in range(200)]
    load = threading.Thread(
        target=lambda: results.extend(ipvs.client.visit("client", requests, concurrency=4, timeout=30, rate=20))
    )
    load.start()
    modes = []
    for mode in ("iptables", "ipvs", "iptables", "ipvs"):
        modes.append(ipvs.proxy_mode(mode))
        has_device = "kube-ipvs0" in run(ipvs, "worker01", "ip", "-o", "link")
        has_chains = "KUBE-SEP" in run(ipvs, "worker01", "iptables-legacy-save")
        assert (has_device, has_chains) == (mode == "ipvs", mode == "iptables")
    load.join(180)
    assert modes == ["iptables", "ipvs", "iptables", "ipvs"]
    assert Counter((result["status"], result["error"]) for result in results) == {(200, ""): 200}
    assert sum(seen(ipvs, 4).values()) == 4


def test_a_trace_says_why_it_cannot_be(ipvs):
    can_mark = ipvs.client.exec("client", ["nft", "add table ip trial; delete table ip trial"]).code == 0
    if can_mark:
        pytest.skip("this kernel can mark packets")
    with pytest.raises(LabError, match=r"cannot mark packets for a trace.*its choice, which is no rule"):
        ipvs.trace("client", "192.168.1.56:80")
    assert sum(seen(ipvs, 2).values()) == 2


SERVERS = """\
-A -t 10.1.0.10:80 -s rr -p 60
-a -t 10.1.0.10:80 -r 10.0.5.2:80 -m -w 1
-A -t 10.1.0.11:80 -s sh
-a -t 10.1.0.11:80 -r 10.0.5.3:81 -m -w 1
-a -t 10.1.0.11:80 -r 10.0.5.3:82 -m -w 0
-A -u 10.1.0.11:53 -s lc
"""
NESTED = """\
exec 2>&1
ip link set lo up  # without any route the kernel takes every address for a broadcast's
cat >/run/ipvs.py
ipvs() { "$python" -I -S /run/ipvs.py "$@"; }
python=$2
ipvsadm -Sn >/dev/null 2>&1 && echo ipvsadm may
printf '%s' "$1" | ipvs --restore
ipvs -Sn
echo ---
printf -- '-E -t 10.1.0.11:80 -s rr\\n-d -t 10.1.0.11:80 -r 10.0.5.3:82\\n-D -t 10.1.0.10:80\\n' | ipvs --restore
ipvs -Sn
echo ---
echo '-D -t 10.1.0.99:80' | ipvs --restore || echo refused
ipvs --clear
ipvs -Sn
"""


def test_a_node_through_changes_and_what_is_cleared_is_missed_and_comes_back():
    """And in a user namespace the older interface does what ipvsadm may not."""
    if why_no_mode("ipvs"):
        pytest.skip(why_no_mode("ipvs"))
    asyncio.run(on_a_node())


async def on_a_node() -> None:
    agent = await start_agent(proxy_mode="ipvs")
    try:
        await agent.call("configure", text=topology_text(topology(workers=1)))

        async def on(host: str, *argv: str, stdin: str = "") -> str:
            result = await agent.call("exec", host=host, argv=list(argv), stdin=stdin, timeout=60)
            assert result["code"] == 0, result
            return result["stdout"]

        svc = service(type="NodePort", ports=[{"port": 80, "protocol": "TCP", "nodePort": 30080}])
        state, proxy = ServiceMap(), IpvsNode(agent, Node("worker01", "192.168.1.45"))
        first, second = endpoint("10.0.5.8", "worker01"), endpoint("10.0.5.9", "worker01")
        for endpoints in ([first], [second, first], [second]):
            state.update_from([svc], [endpoint_slice(svc, *endpoints)])
            assert await proxy.sync(state)
            servers = servers_from_text(await on("worker01", "ipvsadm", "-Sn"))
            # Nobody had a connection, so who is not wanted is gone at once.
            assert {address for _, weights in servers.values() for address in weights} == {
                f"{one['addresses'][0]}:80" for one in endpoints
            }
            assert await proxy.is_whole()
        assert not await proxy.sync(state)
        for argv in (
            ("ipvsadm", "--clear"),
            ("iptables-legacy", "-t", "nat", "-F", "KUBE-SERVICES"),
            ("ip", "addr", "del", "10.1.0.10/32", "dev", "kube-ipvs0"),
            ("ipset", "flush", "KUBE-CLUSTER-IP"),
        ):
            await on("worker01", *argv)
            assert not await proxy.is_whole(), argv
            assert await proxy.sync(state)
            assert await proxy.is_whole()
        await proxy.remove()
        left = await on("worker01", "sh", "-c", "ipvsadm -Sn; ipset save; ip -o link; iptables-legacy-save")
        assert not re.search("KUBE|kube-ipvs0|10.1.0.10", left)
        await in_a_user_namespace(on)
    finally:
        await agent.close()


async def in_a_user_namespace(on) -> None:
    text = Path(ipvs_sockopt.__file__).read_text(encoding="utf-8")
    # The machine's own Python: a guest has a /tmp of its own, and does not see a virtual environment there.
    said = await on("client", "unshare", "-Urn", "sh", "-c", NESTED, "sh", SERVERS, "python3", stdin=text)
    loaded, changed, rest = said.split("---\n")
    assert sorted(loaded.splitlines()) == sorted(SERVERS.splitlines())
    assert sorted(changed.splitlines()) == [
        "-A -t 10.1.0.11:80 -s rr",
        "-A -u 10.1.0.11:53 -s lc",
        "-a -t 10.1.0.11:80 -r 10.0.5.3:81 -m -w 1",
    ]
    assert re.fullmatch(r"ipvs: .*-D -t 10.1.0.99:80: .+\nrefused\n\n?", rest)


def test_by_source_hash_and_where_the_pod_network_masks_nothing():
    """sh: a client stays with its pod. Calico: an answer that goes straight to a client who never asked is lost."""
    if why_no_mode("ipvs"):
        pytest.skip(why_no_mode("ipvs"))
    with Lab(name="tests-sh", proxy_mode="ipvs", ipvs_scheduler="sh") as lab:
        lab.cluster = connect(lab=lab, quiet=True)
        lab.cluster.apply()
        lab.cluster.wait_ready()
        wait_until(lambda: not_served(lab), "the virtual servers", 90)
        assert "-s sh" in virtual_server(lab, "worker01")
        assert len(seen(lab, 8)) == 1
        lab.cluster.policy("Local")
        lost = lab.cluster.visit(2, target="master01", timeout=2, progress=False)
        assert list(lost["error"]) == ["timeout", "timeout"]
        assert {source for _, source in seen(lab, 2, "master01", client="master01")} == {"192.168.1.41"}
        ((served, _),) = seen(lab, 1, "master01", client="master01")
        assert from_one_port(lab, 11000, served, "master01") == ["200", "lost"]
        assert [from_one_port(lab, 11001, served), from_one_port(lab, 11002, "master01")] == [["200"], ["200"]]


def from_one_port(lab, port: int, *nodes: str) -> list[str]:
    """What comes of requests from that port of master01, one after the other, to these nodes' node ports.

    A second one to the same endpoint over another node is answered in the first one's name: IPVS on the endpoint's node
    remembers the first connection, and finds it by client and endpoint alone (Linux 6.1, net/netfilter/ipvs/
    ip_vs_conn.c, ip_vs_conn_out_get).
    """
    service, known = lab.cluster.get("services", "webserver"), lab.cluster.list("nodes")
    places = [find_targets(service, known, node)[0] for node in nodes]
    return run(lab, "master01", "python3", "-c", ASK_FROM, str(port), *places).split()


# A port whose last connection has just ended may be had again by who says so.
ASK_FROM = """
import socket, sys
for place in sys.argv[2:]:
    host, _, port = place.rpartition(":")
    with socket.socket() as channel:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        channel.settimeout(4)
        channel.bind(("", int(sys.argv[1])))
        try:
            channel.connect((host, int(port)))
            channel.sendall(b"GET / HTTP/1.1\\r\\nHost: web\\r\\nConnection: close\\r\\n\\r\\n")
            print(channel.recv(100).split()[1].decode())
        except TimeoutError:
            print("lost")
"""
