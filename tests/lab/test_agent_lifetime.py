"""Nothing outlives the agent: not a process, not a namespace, not a file; and starting that fails says why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srcip_nb.errors import LabError, UsageError
from srcip_nb.lab.kernel import AgentError, can_run, native, start_agent
from srcip_nb.lab.topology import topology, topology_text
from tests.lab.agentlab import KernelLab, kernel_lab


def descendants(pid: int) -> set[int]:
    """A process and all that it started, by the machine's own /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def namespaces(pids: set[int]) -> set[str]:
    """Network and mount namespaces that processes are in or hold open."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found |= {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "mnt")}
            found |= {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return {name for name in found if name.startswith(("net:", "mnt:"))}


def everybody() -> set[int]:
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def born(pids: set[int]) -> set[tuple[int, str]]:
    """Processes by pid and start time, for a pid alone may be another's by and by."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add((pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]))
    return found


def holders(pids: set[int]) -> set[tuple[int, str]]:
    """A lab's processes, and whoever else is in one of its namespaces or holds it open.

    A namespace is gone once all of these are: its number cannot be looked for, the kernel gives it to the next.
    """
    own = namespaces(pids) - namespaces({os.getpid()})
    assert len({name for name in own if name.startswith("net:")}) >= 7
    return born(pids | {pid for pid in everybody() if namespaces({pid}) & own})


def fill(lab: KernelLab) -> set[int]:
    lab.add_nginx("one", "worker01", "10.0.5.8")
    lab.exec("client", "sh", "-c", "sleep 300 & setsid sleep 301 & nohup sleep 302 >/dev/null 2>&1 &")
    lab.agent.stream("open", host="worker02", argv=["sleep", "303"])
    while "sleep 303" not in lab.exec("client", "ps", "-e", "-o", "args="):
        pass
    pids = descendants(lab.agent.pid)
    assert len(pids) >= 7
    return pids


@pytest.mark.lab
@pytest.mark.parametrize("end", ["input", "front", "agent"])
def test_nothing_is_left(end):
    with kernel_lab() as lab:
        held_by = holders(fill(lab))
        if end == "input":
            lab.run(lab.agent.close())
        else:
            inner = descendants(lab.agent.pid) - {lab.agent.pid}
            os.kill(lab.agent.pid if end == "front" else min(inner), signal.SIGKILL)
        deadline = time.monotonic() + 3
        while left := held_by & born({pid for pid, _ in held_by}):
            assert time.monotonic() < deadline, left
        lab.run(asyncio.wait_for(asyncio.shield(lab.agent.closed), 3))
        with pytest.raises(AgentError, match="has ended"):
            lab.call("ping")


@pytest.mark.lab
def test_the_machine_is_left_as_it_was():
    def machine() -> tuple:
        mounts = Path("/proc/self/mountinfo").read_text()
        links = sorted(os.listdir("/sys/class/net"))
        files = {name: Path(name).read_bytes() for name in ("/etc/hosts", "/etc/resolv.conf") if Path(name).exists()}
        forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
        return mounts, links, files, forward, sorted(os.listdir("/run")), os.uname().nodename

    before = machine()
    with kernel_lab() as lab:
        lab.add_nginx("one", "worker01", "10.0.5.8")
        lab.exec("worker01", "iptables-legacy", "-w", "-t", "nat", "-S")
        assert machine() == before
    assert machine() == before


@pytest.mark.lab
def test_labs_side_by_side_do_not_meet():
    with kernel_lab() as one, kernel_lab(cni="flannel") as two:
        one.call("health", host="worker01", port=32000, status=200, body="one")
        assert two.get("client", "http://192.168.1.45:32000/")["error"] == "refused"
        assert one.get("client", "http://192.168.1.45:32000/")["body"] == "one"
        two.run(two.agent.close())
        assert one.call("ping") == "pong"


@pytest.mark.lab
def test_pending_calls_hear_of_the_end():
    with kernel_lab() as lab:

        async def kill_while_waiting() -> None:
            call = asyncio.ensure_future(lab.agent.call("exec", host="client", argv=["sleep", "60"]))
            await lab.agent.call("ping")
            os.kill(lab.agent.pid, signal.SIGKILL)
            with pytest.raises(AgentError, match="has ended"):
                await call

        lab.run(kill_while_waiting())


@pytest.mark.lab
def test_ready_tells_the_kernel_and_what_it_can():
    with kernel_lab(workers=1) as lab:
        assert lab.agent.ready["kernel"] == os.uname().release
        assert lab.agent.ready["features"]["overlay"] in (True, False)
        assert "nginx" in lab.agent.ready["features"]["programs"]


@pytest.mark.lab
def test_fifty_workers(capsys):
    t = topology(workers=50)
    started = time.monotonic()
    with kernel_lab(workers=50) as lab:
        seconds = time.monotonic() - started
        with capsys.disabled():
            lines = len(topology_text(t).splitlines())
            print(f"\n50 workers: {lines} lines done and the agent started in {seconds:.2f} s")
        lab.add_nginx("far", "worker50", t.pod_addresses(t.host("worker50"))[0])
        answer = lab.get("worker03", f"http://{t.pod_addresses(t.host('worker50'))[0]}/who")
        assert answer["body"].strip() == t.host("worker03").tunnel_address


def test_a_kernel_that_does_not_exist():
    with pytest.raises(UsageError, match="no kernel 'mach'"):
        asyncio.run(start_agent(kernel="mach"))


def test_missing_programs_are_named_with_the_packages(monkeypatch):
    monkeypatch.setattr(
        native.shutil, "which", lambda name, path: None if name in ("nginx", "ip") else f"/usr/bin/{name}"
    )
    assert can_run("root") == "programs are missing: ip, nginx; type: sudo apt-get install -y iproute2 nginx-light"


def test_a_trial_that_fails_says_the_kernels_words(monkeypatch):
    monkeypatch.setattr(native, "missing_programs", lambda: [])
    monkeypatch.setitem(
        native.UNSHARE, "root", ("sh", "-c", "echo 'unshare failed: Operation not permitted' >&2; exit 1")
    )
    monkeypatch.setattr(native.os, "geteuid", lambda: 1000)
    assert can_run("root") == (
        "an ordinary user may not make network namespaces here (unshare failed: Operation not permitted); "
        "type the command with sudo"
    )


def test_an_agent_that_does_not_start_says_why(monkeypatch):
    monkeypatch.setitem(native.UNSHARE, "root", ("sh", "-c", "echo 'no such luck' >&2; exit 1"))
    monkeypatch.setattr(native, "can_run_native", lambda kernel: "the reason")
    with pytest.raises(LabError, match=r"did not start: no such luck\. the reason"):
        asyncio.run(start_agent("root"))


def test_the_agent_does_not_run_outside_its_namespaces():
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(native.AGENT)], input="", text=True, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert "first process of a pid namespace" in done.stderr
