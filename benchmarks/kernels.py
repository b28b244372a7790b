"""The same lab on each kernel that runs here, side by side; and many labs in a row, which leave nothing behind.

    python benchmarks/kernels.py [--runs 5] [--requests 2000] [--labs 100] [--flood 60]

Prints medians a kernel: from nothing to the first request answered (the lab up, the Deployment rolled out, one GET);
requests a second through the VIP, a new connection each, by the lab's own generator; memory of all its processes on
this machine, as shares (PSS). Then how many labs came and went and what they left: processes, files, memory. And how
long the wire to the agent took what it could be given for a while, both ways, and how quick a ping is after that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

from srcip_nb import connect
from srcip_nb.lab import Lab
from srcip_nb.lab.kernel import KERNELS, can_run, start_agent
from srcip_nb.lab.state import state_dir
from srcip_nb.lab.topology import topology, topology_text

TARGETS = {
    "ready to first request": {"root": 1.5, "userns": 1.5, "uml": 6.0},
    "requests a second": {"root": 3000, "userns": 3000, "uml": 1000},
    "memory": {"root": 150, "userns": 150, "uml": 350},
}
UNITS = {"ready to first request": "s", "requests a second": "/s", "memory": "MB"}
VIP = "http://192.168.1.56/"


def below(pid: int) -> set[int]:
    """A process and all its descendants, by the parent numbers in /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def memory_mb(pids: set[int]) -> float:
    """Memory of processes, what is shared counted by shares; a User Mode Linux's guest is inside its own."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def one_run(kernel: str, requests: int) -> dict[str, float]:
    """One lab from nothing to its end."""
    started = time.perf_counter()
    with Lab(kernel=kernel) as lab:
        cluster = connect(lab=lab.name, quiet=True)
        cluster.apply()
        cluster.wait_ready()
        (first,) = lab.client.visit("client", [{"id": 0, "url": VIP}])
        figures = {"ready to first request": time.perf_counter() - started}
        if first["status"] != 200:
            raise SystemExit(f"kernel {kernel}: the first request was not answered: {first['error']}")
        asked = [{"id": number, "url": VIP} for number in range(requests)]
        started = time.perf_counter()
        answered = sum(result["status"] == 200 for result in lab.client.visit("client", asked, concurrency=32))
        figures["requests a second"] = answered / (time.perf_counter() - started)
        figures["memory"] = memory_mb(below(lab.record.supervisor.pid))
    return figures


def left_behind(kernel: str, labs: int) -> str:
    """Start and stop labs one after the other, and tell what is more than before, apart from the first one."""

    def now() -> dict[str, int]:
        own = Path("/proc/self")
        return {
            "processes": len(below(os.getpid())),
            "open files": len(list((own / "fd").iterdir())),
            "files": len(list(state_dir().iterdir())) + len(os.listdir(os.environ["TMPDIR"])),
            "kB of memory": int(next(w for w in (own / "statm").read_text().split()[1:])) * 4,
        }

    before: dict[str, int] = {}
    started = time.perf_counter()
    for number in range(labs):
        with Lab(kernel=kernel, workers=1):
            pass
        if number == 0:
            before = now()
    took = time.perf_counter() - started
    more = ", ".join(f"{count - before[name]:+d} {name}" for name, count in now().items())
    return f"{labs} labs up and down in {took:.0f} s; since the first: {more}"


async def flood(kernel: str, seconds: float) -> str:
    """Give the wire to the agent all it takes, both ways at once."""
    agent = await start_agent(kernel)
    moved = {"out": 0, "in": 0}
    try:
        await agent.call("configure", text=topology_text(topology(workers=1)))
        end = time.monotonic() + seconds

        async def out() -> None:
            while time.monotonic() < end:
                async for event in agent.stream("open", host="client", argv=["head", "-c", "300000", "/dev/zero"]):
                    moved["out"] += len(event.get("stdout", ""))

        async def put() -> None:
            while time.monotonic() < end:
                done = await agent.call("exec", host="client", argv=["wc", "-c"], stdin="x" * 30000)
                moved["in"] += int(done["stdout"])

        await asyncio.wait_for(asyncio.gather(out(), put(), put(), put()), seconds + 60)
        started = time.perf_counter()
        await agent.call("ping")
        after = 1000 * (time.perf_counter() - started)
    finally:
        await agent.close()
    return (
        f"flooded {seconds:.0f} s: {moved['out'] >> 10} kB out, {moved['in'] >> 10} kB in; then a ping {after:.1f} ms"
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--labs", type=int, default=100)
    parser.add_argument("--flood", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--kernel", choices=KERNELS, action="append", help="only this one; may be given again")
    arguments = parser.parse_args()
    wanted = arguments.kernel or KERNELS
    reasons = {kernel: can_run(kernel) for kernel in wanted}
    kernels = [kernel for kernel, reason in reasons.items() if not reason]
    for kernel in wanted:
        if reasons[kernel]:
            print(f"kernel {kernel} does not run here: {reasons[kernel]}")
    median: dict[str, dict[str, float]] = {}
    for kernel in kernels:
        runs = [one_run(kernel, arguments.requests) for _ in range(arguments.runs)]
        median[kernel] = {name: statistics.median(run[name] for run in runs) for name in TARGETS}
    print(f"median of {arguments.runs} runs, load {os.getloadavg()[0]:.1f} (wanted in brackets)")
    print(f"{'':<26}" + "".join(f"{kernel:>18}" for kernel in kernels))
    for name, targets in TARGETS.items():
        cells = [f"{median[kernel][name]:.1f} ({targets[kernel]:g})" for kernel in kernels]
        print(f"{f'{name}, {UNITS[name]}':<26}" + "".join(f"{cell:>18}" for cell in cells))
    for kernel in kernels:
        if arguments.labs:
            with tempfile.TemporaryDirectory() as folder:
                os.environ["TMPDIR"] = folder
                print(f"{kernel}: {left_behind(kernel, arguments.labs)}", flush=True)
                del os.environ["TMPDIR"]
        if arguments.flood:
            print(f"{kernel}: {asyncio.run(flood(kernel, arguments.flood))}", flush=True)


if __name__ == "__main__":
    main()
