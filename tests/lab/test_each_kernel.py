"""What may go wrong on any kernel: a part is killed or stands still, a disk is full, the wire floods, a clock jumps.

Each test runs on every kernel that works here. Two of them go on for as long as the environment says:

    SRCIP_TEST_FLOOD=60    seconds that the wire is flooded for; else 2
    SRCIP_TEST_LABS=100    labs that come up and go down in a row; else ten and fewer
"""

from __future__ import annotations

import asyncio
import base64
import glob
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from srcip_nb.errors import LabError
from srcip_nb.lab import Lab
from srcip_nb.lab.client import LabClient
from srcip_nb.lab.kernel import AgentError, native
from srcip_nb.lab.lifecycle import client_of, stop
from srcip_nb.lab.state import LabRecord, find_lab
from tests.conftest import kubectl
from tests.lab.agentlab import kernel_lab
from tests.lab.test_lifecycle import Traces, network_namespaces, processes_below, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

FLOOD = float(os.environ.get("SRCIP_TEST_FLOOD", "2"))
LABS = int(os.environ.get("SRCIP_TEST_LABS", "0"))

# -- killed, or standing still -----------------------------------------------------------------------------------------

OWNER = """
import sys
from srcip_nb.lab import Lab
with Lab(name="victim", workers=1, kernel=sys.argv[1]):
    print("up", flush=True)
    sys.stdin.read()
"""


class Victim:
    """A lab that belongs to a process of its own, for a ``with`` block."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel

    def __enter__(self) -> Victim:
        argv = [sys.executable, "-c", OWNER, self.kernel]
        self.owner = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.owner.stdout.readline() == "up\n"
        self.record: LabRecord = find_lab("victim")
        self.client: LabClient = client_of(self.record)
        self.traces = Traces(self.record)
        return self

    def __exit__(self, *_: object) -> None:
        self.owner.kill()
        self.owner.wait()
        self.owner.stdin.close()
        self.owner.stdout.close()

    def pid_of(self, part: str) -> int:
        """The process of a part: owner, supervisor, front (unshare, or the guest's kernel), agent."""
        if part in ("owner", "supervisor"):
            return self.owner.pid if part == "owner" else self.record.supervisor.pid
        front = self.client.info()["agentPid"]
        return front if part == "front" else agent_behind(front, self.kernel)


def agent_behind(front: int, kernel: str) -> int:
    """The agent: the child of unshare, or the first of those in which a guest runs its programs, which it traces."""
    sign = f"TracerPid:\t{front}\n" if kernel == "uml" else f"PPid:\t{front}\n"
    below = sorted(processes_below(front), key=lambda process: process.started)
    return next(p.pid for p in below if sign in Path(f"/proc/{p.pid}/status").read_text())


class Waiting:
    """A call that is under way in a thread: it has to come to its end, with words."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._said = "it ended well"
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except LabError as error:
            self._said = str(error)

    def said_within(self, seconds: float) -> str:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"it waits still, after {seconds:g} s"
        return self._said


ENDED = r"lab's kernel process has ended: .|lab 'victim' does not answer \(.+\)\. See which labs run"


@pytest.mark.parametrize("part", ["owner", "supervisor", "front", "agent"])
def test_kill_9_of_a_part_takes_its_lab_away_and_no_other(kernel, part, lab):
    with Victim(kernel) as victim:
        assert len(victim.traces.processes) >= 4
        waiting = Waiting(lambda: victim.client.exec("client", ["sleep", "50"]))
        assert wait_until(lambda: "sleep 50" in victim.client.exec("client", ["ps", "-eo", "args"]).stdout, 10)
        os.kill(victim.pid_of(part), signal.SIGKILL)
        assert victim.traces.all_gone(), victim.traces.left()
        assert re.search(ENDED, waiting.said_within(5)), waiting.said_within(0)
        with pytest.raises(LabError, match=ENDED):
            victim.client.info()
    assert lab.client.exec("client", ["true"]).code == 0


def test_an_agent_that_stands_still_is_told_of_and_its_lab_ends_all_the_same(kernel):
    with Victim(kernel) as victim:
        os.kill(victim.pid_of("front" if kernel == "uml" else "agent"), signal.SIGSTOP)
        with pytest.raises(LabError, match=r"lab 'victim' does not answer \(.*timed out\)"):
            victim.client._json("GET", "/lab/v1/stats", timeout=3)
        stop(victim.record)
        assert victim.traces.all_gone(), victim.traces.left()


def test_a_supervisor_that_stands_still_is_told_of_and_its_lab_ends_all_the_same():
    with Victim("auto") as victim:
        os.kill(victim.pid_of("supervisor"), signal.SIGSTOP)
        with pytest.raises(LabError, match=r"lab 'victim' does not answer \(.*timed out\)"):
            victim.client._json("GET", "/lab/v1/stats", timeout=3)
        stop(victim.record)
        assert victim.traces.all_gone(), victim.traces.left()


# -- a disk without room -----------------------------------------------------------------------------------------------

FULL_DISK = """
import os, sys, time
os.environ["SRCIP_STATE_DIR"] = os.environ["TMPDIR"] + "/labs"
from srcip_nb.errors import LabError
from srcip_nb.lab import Lab
from srcip_nb.lab.state import running_labs

def fill():
    with open(os.environ["TMPDIR"] + "/fill", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass

kernel = sys.argv[1]
with Lab(name="full", workers=1, kernel=kernel) as lab:
    fill()
    try:
        for _ in range(20 if kernel == "uml" else 0):  # a program that wants memory before the kernel does ends alone
            lab.client.exec("client", ["sh", "-c", "head -c 50M /dev/zero >/tmp/x"])
        print(lab.client.exec("client", ["echo", "it goes on"]).stdout, end="")
        print(lab.proxy_mode("nftables"))
        os.unlink(os.environ["TMPDIR"] + "/fill")
        ends = time.monotonic() + 20
        while running_labs()[0].spec["proxy_mode"] != "nftables" and time.monotonic() < ends:
            time.sleep(0.1)
        print(running_labs()[0].name, running_labs()[0].spec["proxy_mode"])
    except LabError as error:
        print("ended:", error)
print(*sorted(os.listdir(os.environ["SRCIP_STATE_DIR"])))
try:
    fill()
    with Lab(name="second", workers=1, kernel=kernel):
        print("up on a full disk")
except LabError as error:
    print(error)
print(*sorted(os.listdir(os.environ["SRCIP_STATE_DIR"])))
"""


def on_a_disk(directory: Path, options: str, code: str, *words: str) -> str:
    """Run Python with TMPDIR on a disk of its own, in a mount namespace of its own."""
    place = shlex.quote(str(directory))
    python = shlex.join([sys.executable, "-c", code, *words])
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = f"mount -t tmpfs -o {options} tmpfs {place} && TMPDIR={place} exec {python}"
    argv = ["unshare", *users, "--mount", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk(kernel, tmp_path):
    """A lab goes on without it, save one whose memory is there; none starts; the lock of starts is all that is left."""
    said = on_a_disk(tmp_path, "size=140m", FULL_DISK, kernel).splitlines()
    goes_on = ["it goes on", "nftables", "full nftables"]
    ended = r"ended: the lab's kernel process has ended: Kernel panic .+ has only \d+ MB free, and its memory may take"
    assert re.match(ended, said[0]) and len(said) == 4 if kernel == "uml" else said[:-3] == goes_on, said
    no_room = f"the lab's files cannot be written in {tmp_path}/labs/second: No space left on device. Make room there, "
    assert said[-3] == said[-1] == ".starting" and said[-2].startswith(no_room), said


# -- the wire ----------------------------------------------------------------------------------------------------------

WRITES = """
import os, sys, time
ends, sent = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < ends:
    sent += os.write(1, bytes(30000))
print(sent, file=sys.stderr)
"""


def resident_mb(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@pytest.mark.timeout(120 + 2 * FLOOD)
def test_the_wire_flooded_both_ways(kernel):
    """As much out as goes, and four writers in at once; then an answer comes as quickly as ever, and none was lost."""
    with kernel_lab(workers=1, kernel=kernel) as lab:
        at_first = resident_mb(os.getpid())

        async def out() -> tuple[int, int]:
            got, told = 0, ""
            argv = ["python3", "-c", WRITES, str(FLOOD)]
            async for event in lab.agent.stream("open", host="client", argv=argv):
                got += len(base64.b64decode(event.get("stdout", "")))
                told += base64.b64decode(event.get("stderr", "")).decode()
            return got, int(told)

        async def put(number: int) -> int:
            ends, done = time.monotonic() + FLOOD, 0
            while time.monotonic() < ends:
                size = 30000 + 7 * done + number
                answer = await lab.agent.call("exec", host="client", argv=["wc", "-c"], stdin="x" * size, timeout=60)
                assert int(answer["stdout"]) == size
                done += 1
            return done

        async def flood() -> list:
            return await asyncio.wait_for(asyncio.gather(out(), *map(put, range(4))), 60 + 2 * FLOOD)

        (got, told), *counted = lab.loop.run_until_complete(flood())
        begun = time.monotonic()
        assert lab.call("ping") == "pong"
        answered = time.monotonic() - begun
        grown = resident_mb(os.getpid()) - at_first
        print(
            f"{kernel}: {FLOOD:g} s, {got / 1e6:.0f} MB out, {sum(counted)} requests of 30 kB in, "
            f"a ping after it {1000 * answered:.0f} ms, memory {grown:+.0f} MB"
        )
        assert got == told > 0 and min(counted) > 0
        assert answered < 5
        assert grown < 200  # what was under way, not what was sent


# -- a clock that jumps ------------------------------------------------------------------------------------------------

FAKETIME = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
JUMPS = (3 * 3600, -9 * 3600)


class Clock:
    """A clock for processes that start with ``environment``: the machine's, and as many seconds more as one says."""

    def __init__(self, library: str, file: Path) -> None:
        self._file = file
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    def jump(self, seconds: int) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{seconds:+d}\n")
        draft.replace(self._file)


@pytest.fixture
def clock(tmp_path) -> Clock:
    """By libfaketime, for the machine's own clock is everybody's."""
    found = [path for pattern in FAKETIME for path in glob.glob(pattern)]
    if not found:
        pytest.skip("there is no libfaketime here: sudo apt-get install libfaketime")
    clock = Clock(found[0], tmp_path / "clock")
    clock.jump(JUMPS[0])
    argv = [sys.executable, "-c", "import time; print(time.time())"]
    said = subprocess.run(argv, env=clock.environment, capture_output=True, text=True, check=False).stdout
    if not said or abs(float(said) - time.time() - JUMPS[0]) > 60:
        pytest.skip("libfaketime moves no clock here")
    clock.jump(0)
    return clock


def test_the_agents_clock_jumps(kernel, clock, monkeypatch):
    words = ["env", *(f"{name}={value}" for name, value in clock.environment.items())]
    monkeypatch.setattr(native, "PYTHON", (*words, *native.PYTHON))
    with kernel_lab(workers=1, kernel=kernel) as lab:
        lab.add_nginx("one", "worker01", "10.0.5.8")
        for jump in JUMPS:
            clock.jump(jump)
            if kernel == "uml":  # a guest has a clock of its own
                lab.exec("client", "date", "-s", f"@{time.time() + jump:.0f}")
            started = time.monotonic()
            with pytest.raises(AgentError, match="had not ended after 1 s"):
                lab.call("exec", host="client", argv=["sleep", "60"], timeout=1)
            assert 1 <= time.monotonic() - started < 20
            assert lab.get("client", "http://192.168.1.45:9/", timeout=1)["error"] == "refused"
            answer = lab.get("worker01", "http://10.0.5.8/who")
            assert answer["status"] == 200 and 0 < answer["latency_ms"] < 3000
            assert abs(answer["sent_at"] / 1e9 - time.time() - jump) < 60, "its clock did not jump"


def test_the_supervisors_clock_jumps(kernel, clock, monkeypatch):
    """There and back: nobody is thrown out, nothing waits for the clock, and the end comes as ever."""
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    with Lab(workers=1, kernel=kernel) as lab:
        monkeypatch.undo()
        traces = Traces(lab.record)
        kubectl(lab, "create", "deployment", "web", "--image=nginx", "--replicas=1")
        kubectl(lab, "rollout", "status", "deployment/web", "--timeout=40s")
        before = kubectl(lab, "get", "pods", "-o", "name").stdout
        for step, jump in enumerate(JUMPS, start=1):
            clock.jump(jump)
            made = f"at{step}"
            kubectl(lab, "create", "configmap", made)
            at = kubectl(lab, "get", "configmap", made, "-o", "jsonpath={.metadata.creationTimestamp}").stdout
            ahead = (datetime.fromisoformat(at.replace("Z", "+00:00")) - datetime.now(timezone.utc)).total_seconds()
            assert abs(ahead - jump) < 60, "its clock did not jump"
            with pytest.raises(LabError, match="had not ended after 1 s"):
                lab.client.exec("client", ["sleep", "60"], timeout=1)
            kubectl(lab, "scale", "deployment/web", f"--replicas={step + 1}")
            kubectl(lab, "rollout", "status", "deployment/web", "--timeout=40s")
            now = kubectl(lab, "get", "pods", "-o", "name").stdout
            assert set(before.split()) < set(now.split()), "the pods of before are gone"
            before = now
            assert "NotReady" not in kubectl(lab, "get", "nodes").stdout
    assert traces.left() == []


# -- again and again ---------------------------------------------------------------------------------------------------

# An entry that would stay for an hour: what a table of the machine's own would still have afterwards.
FLOW = "conntrack -I -p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 --state ESTABLISHED -t 3600"


def slab_objects() -> dict[str, int]:
    """How many network namespaces and flows the machine's kernel holds (/proc/slabinfo, root's alone); {} else."""
    try:
        lines = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if line[0] in ("net_namespace", "nf_conntrack")}


def available_mb() -> int:
    return int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) >> 10


def own_flows() -> str:
    """The entries of the machine's own table with the address above; "" where it is not to be read."""
    done = subprocess.run(["conntrack", "-L", "-s", "192.0.2.1"], capture_output=True, text=True, check=False)
    return done.stdout


@pytest.mark.timeout(300 + 20 * LABS)
def test_labs_in_a_row_leave_nothing(kernel, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    places = (Path(os.environ["SRCIP_STATE_DIR"]), tmp_path)

    def here() -> dict[str, object]:
        own = processes_below(os.getpid())
        return {
            "processes": len(own),
            "open files": len(os.listdir("/proc/self/fd")),
            "namespaces": len(network_namespaces(own)),
            "files": sorted(path.name for place in places for path in place.iterdir()),
        }

    with Lab(workers=1, kernel=kernel):
        pass
    before, memory, kernels, available = here(), resident_mb(os.getpid()), slab_objects(), available_mb()
    begun = time.monotonic()
    count = LABS or {"root": 10, "userns": 5, "uml": 3}[kernel]
    for _ in range(count):
        with Lab(workers=1, kernel=kernel) as lab:
            traces = Traces(lab.record)
            assert lab.client.exec("worker01", FLOW.split()).code == 0
            assert int(lab.client.exec("worker01", ["conntrack", "-C"]).stdout) > 0
        assert traces.left() == []
    took, grown = time.monotonic() - begun, resident_mb(os.getpid()) - memory
    print(f"{kernel}: {count} labs in {took:.0f} s; here {before} then {here()}; memory {grown:+.1f} MB")
    print(f"the machine: {kernels} then {slab_objects()}, {available} MB available then {available_mb()} MB")
    assert here() == before
    assert own_flows() == ""
    assert grown < 10  # MB, which is no more than the tests' own caches; a lab's client alone would soon be more
