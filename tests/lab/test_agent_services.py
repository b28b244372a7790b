"""Who answers for an address (ARP), health checks, and requests sent from hosts and pods."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from srcip_nb.lab.kernel import AgentError
from tests.lab.agentlab import KernelLab, kernel_lab

pytestmark = pytest.mark.lab
VIP = "192.168.1.57"


@pytest.fixture(scope="module")
def lab():
    with kernel_lab() as lab:
        yield lab


def neighbour(lab: KernelLab, host: str, address: str) -> dict:
    found = json.loads(lab.exec(host, "ip", "-j", "neigh", "show", "to", address) or "[]")
    return found[0] if found else {}


def test_an_announced_address_is_answered_for(lab: KernelLab):
    assert lab.get("client", f"http://{VIP}/", timeout=0.2)["error"] == "timeout"
    lab.exec("client", "ip", "neigh", "flush", "dev", "eth0")
    lab.call("announce", host="worker02", address=VIP)
    lab.call("announce", host="worker02", address=VIP)
    # worker02 has no rule for the address: it sends the packet on to the router, and so on until its time to live ends.
    lab.get("client", f"http://{VIP}/", timeout=0.2)
    assert neighbour(lab, "client", VIP)["lladdr"] == lab.topology.host("worker02").mac
    assert "lladdr" not in neighbour(lab, "client", "192.168.1.58")


def test_a_new_leader_tells_everybody(lab: KernelLab):
    address = "192.168.1.60"
    lab.call("announce", host="worker02", address=address)
    lab.get("client", f"http://{address}/", timeout=0.2)
    assert neighbour(lab, "client", address)["lladdr"] == lab.topology.host("worker02").mac
    lab.call("withdraw", host="worker02", address=address)
    lab.call("announce", host="worker01", address=address)
    # Nobody asks: the entry changes by gratuitous ARP, at the latest with the repetition.
    deadline = time.monotonic() + 4
    while neighbour(lab, "client", address)["lladdr"] != lab.topology.host("worker01").mac:
        assert time.monotonic() < deadline
    lab.call("withdraw", host="worker01", address=address)
    lab.exec("client", "ip", "neigh", "flush", "dev", "eth0")
    lab.get("client", f"http://{address}/", timeout=0.2)
    assert "lladdr" not in neighbour(lab, "client", address)
    lab.call("withdraw", host="worker01", address="192.168.1.99")


def test_health_answers_change_and_close(lab: KernelLab):
    headers = {"Content-Type": "application/json", "X-Load-Balancing-Endpoint-Weight": "1"}
    lab.call("health", host="worker01", port=32122, status=200, headers=headers, body='{"localEndpoints": 1}')
    shown = lab.exec("client", "curl", "-si", "http://192.168.1.45:32122/any/path")
    assert shown.startswith("HTTP/1.1 200 OK\r\n")
    assert "X-Load-Balancing-Endpoint-Weight: 1\r\n" in shown
    assert shown.endswith('Connection: close\r\n\r\n{"localEndpoints": 1}')
    lab.call("health", host="worker01", port=32122, status=503, body="no")
    result = lab.get("client", "http://192.168.1.45:32122/healthz")
    assert (result["status"], result["body"]) == (503, "no")
    assert lab.exec("client", "curl", "-sI", "http://worker01:32122/").startswith("HTTP/1.1 503 Service Unavailable")
    assert lab.get("client", "http://192.168.1.46:32122/")["error"] == "refused"
    lab.call("health", host="worker01", port=32122, status=None)
    assert lab.get("client", "http://192.168.1.45:32122/")["error"] == "refused"
    lab.call("health", host="worker01", port=32122, status=None)


def test_a_health_port_may_have_one_address_and_one_path(lab: KernelLab):
    mode = {"host": "worker01", "port": 10249, "status": 200, "body": "iptables", "path": "/proxyMode"}
    lab.call("health", **mode, address="127.0.0.1")
    assert lab.exec("worker01", "curl", "-s", "http://127.0.0.1:10249/proxyMode?verbose") == "iptables"
    elsewhere = lab.get("worker01", "http://127.0.0.1:10249/healthz")
    assert (elsewhere["status"], elsewhere["body"]) == (404, "404 page not found\n")
    assert lab.get("worker01", "http://192.168.1.45:10249/proxyMode")["error"] == "refused"
    lab.call("health", **mode)
    assert lab.get("client", "http://192.168.1.45:10249/proxyMode")["body"] == "iptables"
    with pytest.raises(AgentError, match="is not an IPv4 address"):
        lab.call("health", **mode, address="::1")


def test_a_health_port_survives_silence_and_numbers(lab: KernelLab):
    lab.call("health", host="worker02", port=32123, status=200, body="ok")
    flood = "for i in $(seq 400); do exec {fd}<>/dev/tcp/192.168.1.46/32123; done; curl -s http://192.168.1.46:32123/"
    assert lab.exec("client", "bash", "-c", flood) == "ok"
    requests = [{"id": n, "url": "http://192.168.1.46:32123/"} for n in range(2000)]
    events, _ = lab.collect("visit", host="client", requests=requests, concurrency=64, timeout=10)
    assert {(r["status"], r["error"]) for event in events for r in event["done"]} == {(200, "")}
    other = lab.agent.stream("open", host="worker02", argv=listener(32124))
    lab.run(first_event(other))
    with pytest.raises(AgentError, match=r"port 32124 of worker02: Address already in use"):
        lab.call("health", host="worker02", port=32124, status=200)
    lab.run(other.cancel())
    with pytest.raises(AgentError, match="port 70000 of worker02: not a port"):
        lab.call("health", host="worker02", port=70000, status=200)


def listener(port: int, then: str = "time.sleep(60)") -> list[str]:
    code = f"import socket,time,struct;s=socket.create_server(('',{port}));print('on',flush=True);{then}"
    return ["python3", "-I", "-S", "-c", code]


async def first_event(stream) -> None:
    async for _ in stream:
        return


def test_each_kind_of_failure_has_its_word(lab: KernelLab):
    silent = "c=s.accept();time.sleep(60)"
    resetting = "c,_=s.accept();c.recv(1);c.setsockopt(1,13,struct.pack('ii',1,0));c.close();time.sleep(60)"
    answer = "b'HTTP/1.1 200 OK\\r\\nContent-Length: 99\\r\\n\\r\\nhalf'"
    half = f"c,_=s.accept();c.recv(999);c.send({answer});c.close();time.sleep(60)"
    streams = []
    for port, then in ((8001, silent), (8002, resetting), (8003, half)):
        streams.append(lab.agent.stream("open", host="worker01", argv=listener(port, then)))
        lab.run(first_event(streams[-1]))
    lab.exec("worker01", "iptables-legacy", "-w", "-A", "INPUT", "-p", "tcp", "--dport", "8004", "-j", "DROP")
    reject = ["-p", "tcp", "--dport", "8005", "-j", "REJECT", "--reject-with", "icmp-host-unreachable"]
    lab.exec("worker01", "iptables-legacy", "-w", "-A", "INPUT", *reject)
    expected = {
        "http://192.168.1.45:8000/": "refused",
        "http://192.168.1.45:8001/": "timeout",
        "http://192.168.1.45:8002/": "reset",
        "http://192.168.1.45:8003/": "closed",
        "http://192.168.1.45:8004/": "timeout",
        "http://192.168.1.45:8005/": "unreachable",
        "http://no-such-name/": "no such host",
        "https://worker01/": "'https://worker01/' is not an http:// URL",
    }
    requests = [{"id": url, "url": url} for url in expected]
    events, result = lab.collect("visit", host="client", requests=requests, concurrency=8, timeout=0.5)
    done = {r["id"]: r for event in events for r in event["done"]}
    assert {url: r["error"] for url, r in done.items()} == expected
    assert result == {"sent": len(expected)}
    assert {r["status"] for r in done.values()} == {None}
    assert done["http://192.168.1.45:8004/"]["latency_ms"] >= 500
    assert {r["client_ip"] for url, r in done.items() if "192.168" in url} == {"192.168.1.122"}
    for stream in streams:
        lab.run(stream.cancel())


def test_visit_paces_and_stops(lab: KernelLab):
    lab.call("health", host="worker01", port=32200, status=200, body="ok")
    url = "http://worker01:32200/"
    started = time.monotonic()
    requests = [{"id": n, "url": url, "headers": {"x-run": "1"}} for n in range(20)]
    events, _ = lab.collect("visit", host="client", requests=requests, concurrency=4, rate=100)
    assert time.monotonic() - started >= 0.19
    times = [r["sent_at"] for event in events for r in event["done"]]
    assert max(times) - min(times) >= 0.18e9
    assert [r["id"] for event in events for r in event["done"]] == list(range(20))

    async def stop_early() -> int:
        many = [{"id": n, "url": url} for n in range(5000)]
        stream = lab.agent.stream("visit", host="client", requests=many, concurrency=4, rate=200)
        async for _ in stream:
            await stream.signal("INT")
        return stream.result["sent"]

    assert lab.run(stop_early()) < 5000
    for wrong in ({"concurrency": 0}, {"timeout": 0}, {"rate": -1}, {"requests": [{"id": 1}]}):
        with pytest.raises(AgentError, match=r"more than 0|wants id and url"):
            lab.call("visit", **{"host": "client", "requests": [], **wrong})


def test_many_visitors_at_once_speak_from_their_own_hosts(lab: KernelLab):
    pod1 = lab.add_nginx("v1", "worker01", "10.0.5.10")
    pod2 = lab.add_nginx("v2", "worker02", "10.0.30.90")

    async def visit(host: str) -> set[tuple[str, str]]:
        requests = [{"id": n, "url": "http://10.0.30.90/who"} for n in range(300)]
        stream = lab.agent.stream("visit", host=host, requests=requests, concurrency=8)
        return {(r["client_ip"], r["body"]) async for event in stream for r in event["done"]}

    async def all_at_once() -> list:
        return await asyncio.gather(*(visit(host) for host in (pod1, "worker01", pod2)))

    from_pod, from_node, from_itself = lab.run(all_at_once())
    assert from_pod == {("10.0.5.10", "10.0.5.10\n")}
    assert from_node == {("10.0.5.0", "10.0.5.0\n")}
    assert from_itself == {("10.0.30.90", "10.0.30.90\n")}


def test_stats_count(lab: KernelLab):
    stats = lab.call("stats")
    assert stats["namespaces"] >= len(lab.topology.hosts)
    assert 0 < stats["pss_kb"] <= stats["rss_kb"]
    assert stats["processes"] >= 1
