"""Programs in hosts: run to the end, streamed, on a terminal; and that they see their host and nothing else."""

from __future__ import annotations

import asyncio
import base64
import socket

import pytest

from srcip_nb.lab.agent.protocol import pack, unpack
from srcip_nb.lab.kernel import AgentError
from tests.lab.agentlab import KernelLab, kernel_lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab():
    with kernel_lab() as lab:
        yield lab


def test_exit_code_output_and_input(lab: KernelLab):
    done = lab.call("exec", host="client", argv=["sh", "-c", "cat; echo to stderr >&2; exit 3"], stdin="hällo\n")
    assert done == {"code": 3, "stdout": "hällo\n", "stderr": "to stderr\n"}
    assert lab.call("exec", host="client", argv=["sh", "-c", "kill -9 $$"])["code"] == -9
    assert lab.exec("client", "sh", "-c", "echo $COLOUR", env={"COLOUR": "blue"}) == "blue\n"


def test_a_host_is_a_machine_of_its_own(lab: KernelLab):
    assert lab.exec("worker01", "hostname") == lab.exec("worker01", "cat", "/etc/hostname") == "worker01\n"
    assert lab.exec("worker01", "ls", "/sys/class/net").split() == ["eth0", "lo", "vxlan.calico"]
    assert lab.exec("client", "ls", "/sys/class/net").split() == ["eth0", "lo"]
    assert lab.exec("client", "ls", "-A", "/run").split() == ["hostname"]
    processes = lab.exec("client", "ps", "-e", "-o", "comm=").split()
    assert sorted(processes) == sorted([processes[0], "ps"])


def test_names_resolve_by_the_labs_hosts_alone(lab: KernelLab):
    assert lab.exec("client", "getent", "hosts", "worker02").split() == ["192.168.1.46", "worker02"]
    assert lab.call("exec", host="client", argv=["getent", "hosts", "example.com"], timeout=10)["code"] == 2
    assert lab.exec("client", "cat", "/etc/resolv.conf") == ""


def test_a_program_that_is_not_there(lab: KernelLab):
    with pytest.raises(AgentError, match="frobnicate: no such program in /usr/local/sbin:"):
        lab.exec("client", "frobnicate")
    with pytest.raises(AgentError, match="/no/such: no such program"):
        lab.exec("client", "/no/such")
    with pytest.raises(AgentError, match="there is no host or pod 'worker9'; hosts: router, master01, worker01"):
        lab.exec("worker9", "true")
    with pytest.raises(AgentError, match="there is no pod seminar/none"):
        lab.exec("seminar/none", "true")


def test_a_time_limit_kills_what_was_started_too(lab: KernelLab):
    with pytest.raises(AgentError, match=r"sh was killed: it had not ended after 0\.2 s"):
        lab.call("exec", host="client", argv=["sh", "-c", "sleep 77 & sleep 77"], timeout=0.2)
    lab.wait_for(lambda: True)
    assert "77" not in lab.exec("client", "ps", "-e", "-o", "args=")


def test_what_goes_on_in_the_background_does_not_hold_up_exec(lab: KernelLab):
    assert lab.exec("client", "sh", "-c", "sleep 78 & echo started") == "started\n"
    assert lab.exec("client", "pkill", "-f", "sleep 78") == ""


def test_long_messages_cross_the_window(lab: KernelLab):
    text = "".join(f"line {number} ü\n" for number in range(60_000))
    assert lab.exec("client", "cat", stdin=text) == text
    assert lab.exec("client", "wc", "-c", stdin="x" * 2999) == "2999\n"


def test_many_requests_at_once(lab: KernelLab):
    async def all_at_once() -> list[str]:
        calls = [lab.agent.call("exec", host="client", argv=["echo", str(n)], stdin="x" * 5000) for n in range(40)]
        return [done["stdout"].strip() for done in await asyncio.gather(*calls)]

    assert lab.run(all_at_once()) == [str(number) for number in range(40)]


def test_requests_that_make_no_sense(lab: KernelLab):
    for arguments, reason in (
        ({"op": "frobnicate"}, "no operation 'frobnicate'"),
        ({"op": "exec", "host": "client"}, "operation exec wants argv"),
        ({"op": "exec", "host": "client", "argv": ["true"], "colour": 1}, "does not know colour"),
        ({"op": "exec", "host": "client", "argv": "true"}, "argv has to be a list"),
        ({"op": "announce", "host": "client", "address": "192.168.1.256"}, "not an IPv4 address"),
        ({"op": "signal", "to": 99999, "signal": "INT"}, "not under way"),
    ):
        with pytest.raises(AgentError, match=reason):
            lab.call(**arguments)


def test_lines_that_are_no_request_do_no_harm(lab: KernelLab):
    no_object, no_id = b'{"id": [], "op": "ping"}', b'{"op": "ping"}'
    for line in (b"garbage", b"[]", b"&", no_object, no_id, b"\xff" * 4000, b"=garbage", b"=QUJD", pack(b"[]")):
        lab.agent._lines.put_nowait(line)
    assert lab.call("ping") == "pong"


@pytest.mark.parametrize("message", [b"{}", b'{"text": "' + 9999 * b"x" + b'"}'])
def test_what_is_packed_is_unpacked_and_what_is_not_is_left(message):
    assert unpack(pack(message)) == unpack(message) == message
    assert b"\n" not in pack(message)


def test_a_long_request_is_packed_on_its_way(lab: KernelLab):
    text = "long " * 40_000
    assert lab.call("exec", host="client", argv=["wc", "-c"], stdin=text)["stdout"].strip() == "200000"


def test_a_listener_that_fails_does_not_stop_the_others(lab: KernelLab):
    reported: list[dict] = []
    lab.loop.set_exception_handler(lambda _, context: reported.append(context))
    lab.agent.on("exited", lambda message: 1 / 0)
    pod = lab.add_pod("short", "worker01", "10.0.5.8")
    lab.call("start", pod=pod, container="app", argv=["true"])
    lab.wait_for(lambda: reported)
    lab.call("pod_del", pod=pod)
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


def decoded(events: list[dict], stream: str = "stdout") -> bytes:
    return b"".join(base64.b64decode(event[stream]) for event in events if stream in event)


def test_a_stream_is_fed_and_read_while_it_runs(lab: KernelLab):
    async def talk() -> tuple[list[dict], object]:
        stream = lab.agent.stream("open", host="client", argv=["sh", "-c", "read a; echo got $a; cat >&2; exit 5"])
        await stream.input(b"one\n")
        events = []
        async for event in stream:
            events.append(event)
            if decoded(events) == b"got one\n" and len(events) == 1:
                await stream.input(b"two")
                await stream.input(None)
        return events, stream.result

    events, result = lab.run(talk())
    assert (decoded(events), decoded(events, "stderr"), result) == (b"got one\n", b"two", {"code": 5})


def test_a_terminal_has_a_size_and_control_keys(lab: KernelLab):
    async def talk() -> tuple[bytes, object]:
        script = "stty size; trap 'stty size; exit 7' INT; echo ready; while :; do sleep 0.05; done"
        stream = lab.agent.stream("open", host="client", argv=["bash", "-c", script], tty=True, rows=30, cols=100)
        output = b""
        async for event in stream:
            output += decoded([event])
            if b"ready" in output and b"40 120" not in output and b"^C" not in output:
                await stream.resize(40, 120)
                await stream.input(b"\x03")
        return output, stream.result

    output, result = lab.run(talk())
    assert output.split() == [b"30", b"100", b"ready", b"^C40", b"120"]
    assert result == {"code": 7}


def test_signals_and_cancelling_end_programs(lab: KernelLab):
    async def interrupt() -> object:
        stream = lab.agent.stream("open", host="client", argv=["sh", "-c", "echo on; exec sleep 79"])
        async for _ in stream:
            await stream.signal("SIGTERM")
        return stream.result

    async def cancel() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(lab.agent.call("exec", host="client", argv=["sleep", "79"]), 0.1)
        stream = lab.agent.stream("open", host="client", argv=["sleep", "79"])
        await stream.cancel()

    assert lab.run(interrupt()) == {"code": -15}
    lab.run(cancel())
    while "sleep 79" in lab.exec("client", "ps", "-e", "-o", "args="):
        pass


def test_orphans_are_reaped(lab: KernelLab):
    lab.exec("client", "sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done")
    while "sleep" in lab.exec("client", "ps", "-e", "-o", "comm="):
        pass
    assert "Z" not in lab.exec("client", "ps", "-e", "-o", "stat=")


def test_no_way_out(lab: KernelLab):
    """No namespace has a device that leads out of the lab, and the machine's own ports cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in [host.name for host in lab.topology.hosts]:
            result = lab.get(host, f"http://127.0.0.1:{port}/")
            assert result["error"] == "refused", (host, result)
        socket.create_connection(server.getsockname()).close()  # the test itself is not deaf
    for host in lab.topology.hosts:
        kinds = lab.exec(host.name, "ip", "-o", "-d", "link")
        for line in kinds.splitlines():
            assert " veth " in line or " bridge " in line or " vxlan " in line or "lo:" in line, line
    for address in ("8.8.8.8", "172.17.0.1", "169.254.169.254"):
        # The router has no route; how often it says so is limited by the kernel, else the time runs out.
        assert lab.get("client", f"http://{address}/", timeout=0.2)["error"] in ("unreachable", "timeout")
        assert "unreachable" in lab.call("exec", host="router", argv=["ip", "route", "get", address])["stderr"]
