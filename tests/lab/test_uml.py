"""The lab in a User Mode Linux: the lesson's table, what is left when a part is killed, what happens at its limits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from srcip_nb import connect
from srcip_nb.errors import LabError
from srcip_nb.lab import Lab
from srcip_nb.lab.kernel import AgentError, uml
from tests.conftest import why_not_on
from tests.lab.agentlab import KernelLab, kernel_lab
from tests.lab.test_each_kernel import on_a_disk
from tests.lab.test_lifecycle import processes_below

pytestmark = pytest.mark.lab


def why_no_uml() -> str:
    return why_not_on("uml")


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


# -- a disk for its memory -------------------------------------------------------------------------------------------

ON_A_DISK = """
import asyncio, os, sys
from srcip_nb.errors import LabError
from srcip_nb.lab.kernel import start_agent
from srcip_nb.lab.topology import topology, topology_text

async def run():
    agent = await start_agent("uml")
    await agent.call("configure", text=topology_text(topology(workers=1)))
    with open(os.environ["TMPDIR"] + "/fill", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    print("full", flush=True)
    for _ in range(20):  # a program that touches such memory before the kernel does ends alone, by SIGBUS
        await agent.call("exec", host="client", argv=["sh", "-c", "head -c 50M /dev/zero >/tmp/x"], timeout=20)

try:
    asyncio.run(asyncio.wait_for(run(), 60))
except LabError as error:
    print(error.cause)
"""


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
