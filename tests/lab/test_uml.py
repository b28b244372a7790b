"""The lab in a User Mode Linux: the lesson's table, what is left when a part is killed, what happens at its limits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from srcip_nb import connect
from srcip_nb.errors import LabError
from srcip_nb.lab import Lab
from srcip_nb.lab.kernel import AgentError, can_run, uml
from srcip_nb.lab.state import find_lab
from tests.lab.agentlab import KernelLab, kernel_lab
from tests.lab.test_lifecycle import Traces, processes_below, wait_until

pytestmark = pytest.mark.lab

GONE_WITHIN = 10.0  # a guest powers off by itself, on one CPU that others may keep busy


@functools.cache
def why_no_uml() -> str:
    return can_run("uml")


@pytest.fixture(autouse=True, scope="module")
def _needs_uml() -> None:
    if why_no_uml():
        pytest.skip(f"no User Mode Linux can run here: {why_no_uml()}")


@pytest.fixture(scope="module")
def guest() -> Iterator[KernelLab]:
    with kernel_lab(workers=1, kernel="uml") as lab:
        yield lab


# -- the lesson ------------------------------------------------------------------------------------------------------


def test_the_lessons_table_is_the_one_of_any_kernel():
    with Lab(name="tests-uml", kernel="uml") as lab:
        assert lab.record.kernel == "uml"
        cpus = {frozenset(os.sched_getaffinity(p.pid)) for p in processes_below(lab.client.info()["agentPid"])}
        assert len(cpus) == 1 and len(*cpus) == 1, "pinned to one CPU, all of it"
        cluster = connect(lab=lab.name, quiet=True)
        cluster.apply()
        assert "refused" not in " ".join(cluster.wait_ready()["state"])
        seen = {}
        for value in ("Cluster", "Local"):
            cluster.policy(value)
            frame = cluster.visit(24, progress=False)
            assert frame["status"].eq(200).all(), "from the very first visit"
            seen[value] = set(
                frame[["node", "source_ip", "source_kind"]].astype(str).itertuples(index=False, name=None)
            )
        assert seen == {
            "Cluster": {("worker01", "192.168.1.45", "node"), ("worker02", "10.0.5.0", "pod-network")},
            "Local": {("worker01", "192.168.1.122", "client")},
        }
        listed = lab.client.exec("worker01", ["ps", "aux"])
        assert listed.code == 0 and "ps aux" in listed.stdout


# -- killed ----------------------------------------------------------------------------------------------------------

OWNER = """
import sys
from srcip_nb.lab import Lab
with Lab(name="uml-victim", kernel="uml"):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("victim", ["owner", "supervisor", "kernel"])
def test_nothing_is_left_of_it(victim):
    folders = set(Path(uml.memory_folder()).glob("srcip-uml-*"))
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout.readline() == "up\n"
        record = find_lab("uml-victim")
        traces = Traces(record)
        (kernel,) = {p.pid for p in traces.processes if "linux" in os.readlink(f"/proc/{p.pid}/exe")} & {
            int(line) for line in child_pids(record.supervisor.pid)
        }
        assert len(traces.processes) >= 5
        os.kill({"owner": owner.pid, "supervisor": record.supervisor.pid, "kernel": kernel}[victim], signal.SIGKILL)
        assert wait_until(lambda: traces.left() == [], GONE_WITHIN), traces.left()
        owner.kill()
    assert wait_until(lambda: set(Path(uml.memory_folder()).glob("srcip-uml-*")) <= folders, GONE_WITHIN)


def child_pids(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# -- at its limits ---------------------------------------------------------------------------------------------------


def test_a_guest_without_memory_ends_the_program_and_goes_on(guest):
    guest.add_nginx("one", "worker01", "10.0.5.8")
    greedy = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
    with contextlib.suppress(AgentError):
        done = guest.call("exec", host="client", argv=["python3", "-c", greedy], timeout=30)
        assert done["code"] != 0, done
    assert guest.call("ping") == "pong"
    full = guest.call("exec", host="client", argv=["sh", "-c", "head -c 200M /dev/zero >/tmp/x; rm /tmp/x"], timeout=30)
    assert "No space left" in full["stderr"]
    assert guest.get("worker01", "http://10.0.5.8/who")["status"] == 200


def test_the_wire_flooded_both_ways(guest):
    """Three megabytes out and one in at once, in pieces of 3,000 bytes; then an answer comes as quickly as ever."""

    async def flood() -> tuple[int, list[str]]:
        async def out() -> int:
            stream = guest.agent.stream("open", host="client", argv=["head", "-c", "3000000", "/dev/zero"])
            return sum([len(event.get("stdout", "")) async for event in stream]) * 3 // 4

        async def put(number: int) -> str:
            done = await guest.agent.call("exec", host="client", argv=["wc", "-c"], stdin="x" * (30000 + number))
            return done["stdout"].strip()

        sent, *counted = await asyncio.gather(out(), *map(put, range(30)))
        return sent, counted

    sent, counted = guest.run(flood())
    assert abs(sent - 3_000_000) < 3000  # base64's padding at the end of each piece
    assert counted == [str(30000 + number) for number in range(30)]
    assert guest.call("ping") == "pong"


@pytest.mark.parametrize("jump", ["+3 hours", "-9 hours"])
def test_a_clock_that_jumps_moves_no_deadline(guest, jump):
    guest.exec("client", "date", "-s", jump)
    started = time.monotonic()
    with pytest.raises(AgentError, match="had not ended after 1 s"):
        guest.call("exec", host="client", argv=["sleep", "60"], timeout=1)
    assert time.monotonic() - started < 20
    assert guest.get("client", "http://192.168.1.45:9/", timeout=1)["error"] == "refused"


# -- a disk for its memory -------------------------------------------------------------------------------------------

ON_A_DISK = """
import asyncio, os, sys
from srcip_nb.errors import LabError
from srcip_nb.lab.kernel import start_agent
from srcip_nb.lab.topology import topology, topology_text

async def run():
    agent = await start_agent("uml")
    await agent.call("configure", text=topology_text(topology(workers=1)))
    with open(os.environ["TMPDIR"] + "/fill", "wb") as file:
        try:
            while True:
                file.write(bytes(1 << 20)); file.flush()
        except OSError:
            pass
    print("full", flush=True)
    await agent.call("exec", host="client", argv=["sh", "-c", "head -c 50M /dev/zero >/tmp/x"], timeout=20)

try:
    asyncio.run(asyncio.wait_for(run(), 60))
except LabError as error:
    print(error.cause)
"""


def on_a_disk(directory: Path, options: str, code: str) -> str:
    """Run Python with TMPDIR on a disk of its own, in a mount namespace of its own."""
    place = shlex.quote(str(directory))
    script = f"mount -t tmpfs -o {options} tmpfs {place} && TMPDIR={place} exec {sys.executable} -c {shlex.quote(code)}"
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *users, "--mount", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_that_fills_up_ends_the_kernel_with_the_reason(tmp_path):
    said = on_a_disk(tmp_path, "size=140m", ON_A_DISK)
    assert said.startswith("full\nthe lab's kernel process has ended: "), said
    assert f"; {tmp_path} has only " in said and said.endswith(" MB free, and its memory may take 128 MB\n"), said


@pytest.mark.parametrize(("options", "reason"), [("size=20m", "has only 20 MB free"), ("noexec", "is mounted noexec")])
def test_a_folder_that_cannot_hold_its_memory_is_passed_over(tmp_path, options, reason):
    code = (
        "from srcip_nb.lab.kernel import uml; import os\n"
        "print(uml._unfit(os.environ['TMPDIR'])); print(uml.memory_folder())"
    )
    why, chosen = on_a_disk(tmp_path, options, code).splitlines()
    assert why == reason and chosen != str(tmp_path)


def test_without_any_folder_the_message_says_what_to_set(monkeypatch):
    monkeypatch.setattr(uml, "_unfit", lambda folder: "is mounted noexec")
    with pytest.raises(LabError, match=r"/tmp is mounted noexec.*Set TMPDIR to a folder"):
        uml.memory_folder()
