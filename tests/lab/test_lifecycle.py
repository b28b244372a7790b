"""Labs start, stand side by side, and leave nothing behind whoever is killed."""

import contextlib
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from srcip_nb.errors import LabError, UsageError
from srcip_nb.lab import Lab
from srcip_nb.lab.state import Process, find_lab, running_labs

pytestmark = pytest.mark.lab

GONE_WITHIN = 3.0
GUEST_GONE_WITHIN = 10.0  # a guest powers off by itself, on one CPU that others may keep busy


def processes_below(pid: int) -> set[Process]:
    """A process and all its descendants, by the parent numbers in /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, queue = {pid}, [pid]
    while queue:
        parent = queue.pop()
        children = {child for child, its_parent in parents.items() if its_parent == parent} - found
        found |= children
        queue += children
    return {process for process in map(Process.of, found) if process}


def network_namespaces(processes: set[Process]) -> set[str]:
    """The network namespaces that processes live in or hold open, other than this test's own."""
    own, found = os.readlink("/proc/self/ns/net"), set()
    for pid in (process.pid for process in processes):
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                target = os.readlink(descriptor)
                if target.startswith("net:["):
                    found.add(target)
        except OSError:
            continue
    return found - {own}


def wait_until(condition, within: float) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Traces:
    """Everything of a running lab that must be gone afterwards, a guest's folder among it.

    A namespace is gone once all are gone that are in it or hold it: its number the kernel gives to the next.
    """

    def __init__(self, record) -> None:
        self.processes = processes_below(record.supervisor.pid)
        self.namespaces = network_namespaces(self.processes)
        everybody = {Process.of(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()} - {None}
        self.holders = {p for p in everybody - self.processes if network_namespaces({p}) & self.namespaces}
        folders = (re.search(rb"\0uml_dir=([^\0]+)", command_line(p.pid)) for p in self.processes)
        self.directories = {record.directory, *(Path(os.fsdecode(found[1])) for found in folders if found)}
        self.gone_within = GUEST_GONE_WITHIN if len(self.directories) > 1 else GONE_WITHIN

    def left(self) -> list[str]:
        left = [f"process {p.pid}" for p in self.processes if p.alive]
        left += [
            f"a namespace, held by {p.pid}"
            for p in self.holders
            if p.alive and network_namespaces({p}) & self.namespaces
        ]
        return left + [f"directory {directory}" for directory in self.directories if directory.exists()]

    def all_gone(self) -> bool:
        """Whether nothing is left, or soon is not."""
        return wait_until(lambda: self.left() == [], self.gone_within)


def command_line(pid: int) -> bytes:
    """A process's words, each ended by a zero byte; none of one that has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_lab_comes_and_goes():
    with Lab() as lab:
        traces = Traces(lab.record)
        assert len(traces.processes) >= 3
        assert len(traces.namespaces) >= 5
        assert lab.kubeconfig.stat().st_mode & 0o777 == 0o600
        assert {h["name"] for h in lab.client.hosts()} >= {"router", "master01", "worker01", "worker02", "client"}
    assert traces.left() == []


def test_all_of_a_labs_processes_are_counted_and_small():
    with Lab() as lab:
        # A command that is just ending may be seen by one and not by the other.
        assert wait_until(
            lambda: lab.client.stats()["processes"] == len(processes_below(lab.record.supervisor.pid)), within=10
        )
        assert lab.client.stats()["rss_kb"] < 150 * 1024


def test_labs_stand_side_by_side():
    with Lab(name="one") as one, Lab(name="two", workers=1) as two:
        assert {"one", "two"} <= {lab.name for lab in running_labs()}
        one.client.exec("worker01", ["ip", "link", "set", "eth0", "down"])
        assert "state UP" in two.client.exec("worker01", ["ip", "link", "show", "eth0"]).stdout
        with pytest.raises(LabError, match="running already"):
            Lab(name="one").__enter__()
        assert find_lab("one")


def test_a_lab_of_nobody_outlives_who_started_it(cli):
    up = cli("lab", "up", "--name", "nobodys", "--workers", "1", "--announce", "bgp")
    assert up.returncode == 0, up.stderr
    line = up.stdout.splitlines()
    assert len(line) == 1 and line[0].startswith("export KUBECONFIG=")
    record = find_lab("nobodys")
    assert record and record.owner is None
    traces = Traces(record)
    again = cli("lab", "up", "--name", "nobodys", "--workers", "1", "--announce", "bgp")
    assert again.returncode == 0 and again.stdout == up.stdout
    assert record.spec["announce"] == "bgp"
    other = cli("lab", "up", "--name", "nobodys", "--workers", "1")
    assert other.returncode == 2 and "other settings" in other.stderr
    assert "nobodys" in cli("lab", "list").stdout
    down = cli("lab", "down", "nobodys")
    assert down.returncode == 0, down.stderr
    assert traces.left() == []


def test_what_a_killed_start_left_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCIP_STATE_DIR", str(tmp_path))
    stale = tmp_path / "stale"
    stale.mkdir()
    (stale / "lab.json").write_text(
        '{"name": "stale", "spec": {}, "supervisor": {"pid": 1, "started": 1}, "owner": null, "created": 0, "url": ""}'
    )
    assert running_labs() == []
    assert not stale.exists()


def test_a_taken_port_is_named_and_nothing_stays(cli):
    with Lab(name="first") as first:
        port = first.client.url.rsplit(":", 1)[1]
        up = cli("lab", "up", "--name", "second", "--port", port)
    assert up.returncode == 1
    assert f"port {port}" in up.stderr
    assert find_lab("second") is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 0}, "workers"),
        ({"workers": 51}, "1 to 50"),
        ({"cni": "weave"}, "calico"),
        ({"proxy_mode": "userspace"}, "iptables"),
        ({"name": "../x"}, "name"),
        ({"kernel": "hurd"}, "root"),
        ({"announce": "ospf"}, "l2, bgp"),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(settings, said):
    with pytest.raises(UsageError, match=said):
        Lab(**settings)


def test_no_host_and_no_pod_has_a_way_out(lab, cluster):
    cluster.apply()
    cluster.wait_ready()
    hosts = [host["name"] for host in lab.client.hosts()]
    pods = [f"seminar/{pod['metadata']['name']}" for pod in cluster.list("pods")]
    assert len(pods) == 2
    machine = {line.split()[3].split("/")[0] for line in _run("ip", "-o", "-4", "addr").splitlines()}
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server((address, 0))) for address in machine]
        doors = [server.getsockname() for server in servers] + [("127.0.0.1", int(lab.client.url.rpartition(":")[2]))]
        for door in doors:
            socket.create_connection(door, timeout=5).close()  # from the machine itself they can be reached
        for place in [*hosts, *pods]:
            for address, port in doors:
                done = lab.client.exec(place, ["curl", "-s", "--connect-timeout", "1", f"http://{address}:{port}/"])
                assert done.code in (7, 28), f"{place} reached {address}:{port}: curl's exit code {done.code}"
            for line in lab.client.exec(place, ["ip", "-o", "-d", "link"]).stdout.splitlines():
                assert re.search(r" (veth|bridge|vxlan) |: lo:", line), line
    own = {line.split(":")[1].strip().split("@")[0] for line in _run("ip", "-o", "link").splitlines()}
    assert not any(name.startswith(("veth", "cali", "worker", "vxlan")) for name in own), own


def _run(*argv: str) -> str:
    return subprocess.run(argv, text=True, capture_output=True, check=True).stdout
