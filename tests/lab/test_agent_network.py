"""The agent's own netlink against ip(8): the same text, typed into a shell, has to make the same network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from srcip_nb.lab.agent import commands, nfacct
from srcip_nb.lab.agent.protocol import RequestError
from srcip_nb.lab.kernel import AgentError
from srcip_nb.lab.proxy.vips import route_text
from srcip_nb.lab.topology import CNIS, pod_netns, pod_text, topology, topology_text
from tests.lab.agentlab import KernelLab, kernel_lab

pytestmark = pytest.mark.lab

POD = ("worker02", "seminar", "web", "10.0.30.88")
SETTINGS = (
    r"^net\.ipv4\.(ip_forward|fib_multipath_hash_policy"
    r"|conf\..*\.(rp_filter|proxy_arp|route_localnet|send_redirects))$"
)
AS_ROOT = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
QUESTIONS = {
    "links": ["ip", "-j", "-d", "link"],
    "addresses": ["ip", "-j", "addr"],
    "routes": ["ip", "-j", "route", "show", "table", "main"],
    "neighbours": ["ip", "-j", "neigh", "show", "nud", "permanent"],
    "fdb": ["bridge", "-j", "fdb", "show"],
    "sysctl": ["sysctl", "-a", "-r", SETTINGS],
}
DORMANT = "set eth0 mode dormant state dormant"
AWAKE = "set eth0 mode default state up"
LINK_KEYS = ("ifname", "mtu", "address", "master", "linkinfo", "flags")


def plain(question: str, answer: str) -> object:
    """What of an answer does not depend on the order of devices, on counters or on the moment."""
    if question == "sysctl":
        return sorted(answer.splitlines())
    rows = json.loads(answer or "[]")
    if question == "links":
        kept = [{key: row.get(key) for key in LINK_KEYS} for row in rows]
        for row in kept:
            if not row["address"].startswith(("02:00:", "66:00:", "ee:ee:")):
                row["address"] = "as the kernel chose"
            row["linkinfo"] = without_moments(row["linkinfo"])
            row["flags"] = sorted(row["flags"])
        return sorted(kept, key=str)
    if question == "addresses":
        return {row["ifname"]: [without_moments(info) for info in row["addr_info"]] for row in rows}
    if question == "fdb":
        rows = [row for row in rows if "dst" in row]
    return sorted(rows, key=str)


def without_moments(info: dict) -> dict:
    """Leave out of a link's details what counts time, and a bridge's own identifiers."""
    info = json.loads(json.dumps(info or {}))
    for data in (info, info.get("info_data", {}), info.get("info_slave_data", {})):
        for key in [key for key in data if "timer" in key or key.endswith("_id") or key in ("no", "cfm_ifindex")]:
            del data[key]
    return info


def asked_by_ip(text: str, names: list[str]) -> dict[str, dict[str, object]]:
    """Type a text into a shell, in a mount and network namespace of its own, and ask every namespace everything."""
    script = ["set -e", "mount -t tmpfs tmpfs /run", text]
    for name in names:
        is_late = f"ip -n {name} link show up | grep -q 'NO-CARRIER.*LOWER_UP'"
        script += [f"while {is_late}; do sleep 0.01; done"]
    for name in names:
        for question, argv in QUESTIONS.items():
            script += [f"echo '@@{name} {question}'", f"ip netns exec {name} " + " ".join(f"'{word}'" for word in argv)]
    done = subprocess.run(
        [*AS_ROOT, "unshare", "-n", "-m", "sh"],
        input="\n".join(script),
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, dict[str, object]] = {name: {} for name in names}
    for part in done.stdout.split("@@")[1:]:
        head, _, answer = part.partition("\n")
        name, question = head.split()
        answers[name][question] = plain(question, answer)
    return answers


@pytest.mark.parametrize("cni", CNIS)
def test_the_same_network_as_ip_makes(cni):
    t = topology(cni=cni)
    node, namespace, pod, address = POD
    text = topology_text(t) + pod_text(t, t.host(node), namespace, pod, address)
    names = {host.name: host.name for host in t.hosts} | {pod_netns(namespace, pod): f"{namespace}/{pod}"}
    expected = asked_by_ip(text, list(names))
    with kernel_lab(cni=cni) as lab:
        lab.add_pod(pod, node, address)
        for name, host in names.items():
            for question, argv in QUESTIONS.items():
                assert plain(question, lab.exec(host, *argv)) == expected[name][question], (name, question)


def test_the_same_multipath_routes_as_ip_makes():
    t = topology(workers=3, announce="bgp")
    vip, other = "192.168.1.56", "192.168.1.121"
    text = topology_text(t) + route_text(t, vip, ["worker01", "worker02"]) + route_text(t, other, ["worker03"])
    names = [host.name for host in t.hosts]
    expected = asked_by_ip(text, names)
    with kernel_lab(workers=3, announce="bgp") as lab:
        lab.call("configure", text=route_text(t, other, ["worker01"]))
        for wanted in (["worker02"], ["worker03", "worker01"], ["worker01", "worker02"]):
            lab.call("configure", text=route_text(t, vip, wanted))
        lab.call("configure", text=route_text(t, other, ["worker03"]))
        for name in names:
            for question, argv in QUESTIONS.items():
                assert plain(question, lab.exec(name, *argv)) == expected[name][question], (name, question)
        lab.call("configure", text=route_text(t, vip, []))
        assert f"{vip} " not in lab.exec("router", "ip", "route")


@pytest.fixture(scope="module")
def lab():
    with kernel_lab() as lab:
        yield lab


def test_a_counter_is_made_by_a_line(lab: KernelLab):
    rule = ["iptables-legacy", "-w", "-A", "INPUT", "-m", "nfacct", "--nfacct-name", "seen"]
    assert lab.call("exec", host="worker01", argv=rule)["code"] != 0
    tried = [sys.executable, "-I", "-S", nfacct.__file__, "tried"]
    if lab.call("exec", host="worker01", argv=tried)["code"] == 1:
        pytest.skip("this kernel has no nfacct: nfnetlink_acct and xt_nfacct are neither in it nor modules to load")
    for _ in range(2):  # one that is there stays
        lab.call("configure", text="ip netns exec worker01 nfacct add seen")
    lab.exec("worker01", *rule)
    assert lab.call("exec", host="worker02", argv=rule)["code"] != 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ip -n worker01 link add veth9 type veth", "'veth' is not understood"),
        ("ip -n worker01 link set eth9 up", 'no device "eth9"'),
        ("ip -n worker01 addr add 192.168.1.45/24 dev eth0", "already assigned|File exists"),
        ("ip -n worker01 addr add 192.168.1.999/24 dev eth0", "Octet 999"),
        ("ip -n worker01 route add 10.9.0.0/16 via 172.16.0.1 dev eth0", "invalid gateway|unreachable"),
        ("ip -n worker09 link set lo up", "no host or pod 'worker09'; hosts: router, master01"),
        ("ip netns add worker01", "exists already"),
        ("ip netns exec worker01 sysctl -w net.ipv4.no_such_key=1", "no such key"),
        ("ip netns exec worker01 sysctl -w kernel.hostname=x", "only keys of net"),
        ("ip netns exec worker01 reboot", "only sysctl"),
        ("ip -n worker01 route add default via 192.168.1.1 dev eth0 metric 5", "'metric' is not understood"),
        ("ip -n worker01 route add 10.9.0.0/16 nexthop dev eth0", "nexthop wants via"),
        ("ip -n worker01 route add 10.9.0.0/16 nexthop via 192.168.1.1 weight 2", "'weight' is not understood"),
        ("ip -n worker01 route add 10.9.0.0/16 nexthop via 172.16.0.1", "unreachable|invalid gateway"),
        ("tc -n worker01 qdisc add", "'tc' is not ip"),
        ("ip -n worker01 addr add", "missing at the end"),
    ],
)
def test_a_line_that_cannot_be_done_is_named(lab: KernelLab, line, reason):
    with pytest.raises(AgentError, match=reason) as caught:
        lab.call("configure", text=f"# a comment\n\n{line}\n")
    assert str(caught.value).startswith(line)


def test_a_device_that_is_up_passes_packets_once_its_line_is_done(lab: KernelLab):
    """A dormant device is as one that the kernel has not told yet that its other end is up."""
    show, dormant, awake = (f"ip link {words}" for words in ("show eth0", DORMANT, AWAKE))
    lab.exec("client", "sh", "-c", dormant)
    assert "NO-CARRIER" in lab.exec("client", "sh", "-c", show)
    lab.exec("client", "sh", "-c", f"(sleep 0.5; {awake}) >/dev/null 2>&1 &")
    lab.call("configure", text="ip -n client link set eth0 up")
    assert "NO-CARRIER" not in lab.exec("client", "sh", "-c", show)


def test_a_device_that_never_passes_packets_is_named():
    class Late:
        name = "worker01"
        netlink = SimpleNamespace(late_devices=lambda: ["cni0", "veth1"])

    with pytest.raises(RequestError, match=r"cni0, veth1 of worker01 .* 0\.01 seconds .* try again"):
        commands.wait_for_devices([Late()], 0.01)


def test_what_is_added_can_be_removed(lab: KernelLab):
    before = lab.exec("client", "ip", "-j", "route")
    lab.call("configure", text="ip -n client route add 10.0.5.0/26 via 192.168.1.45 dev eth0")
    assert "10.0.5.0/26" in lab.exec("client", "ip", "route")
    lab.call("configure", text="ip -n client route del 10.0.5.0/26 via 192.168.1.45 dev eth0")
    assert lab.exec("client", "ip", "-j", "route") == before
    lab.call("configure", text="ip -n client addr add 192.168.1.99/32 dev eth0")
    lab.call("configure", text="ip -n client addr del 192.168.1.99/32 dev eth0")
    assert "192.168.1.99" not in lab.exec("client", "ip", "addr")
    lab.call("configure", text="ip netns add extra\nip -n extra link set lo up\nip netns del extra")
    with pytest.raises(AgentError, match="no host or pod 'extra'"):
        lab.exec("extra", "true")
