"""Thirty seats at once on one machine: how long they take to start, and what they take of its memory.

    python benchmarks/seminar.py [--seats 30]

Prints the time of ``seminar up`` until every seat's lab has its nodes Ready and its API answers; the memory of all the
labs, of the same labs with the lesson in each (two pods), and of the process that serves the page; the memory of one
JupyterLab, which a seat takes once it is opened; the time of ``seminar down``. PSS counts a page that n processes share
as one n-th in each, so the sum is what the machine is short of; RSS counts it n times. The notebooks' kernels come on
top: some 130 MB (PSS) for each open notebook.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from srcip_nb import connect
from srcip_nb.lab.lifecycle import client_of
from srcip_nb.lab.state import running_labs
from srcip_nb.seats import Seminar, jupyter_process, link, plan
from srcip_nb.seminar import down, up

LIMIT_S, LIMIT_MB = 60.0, 3 * 1024.0  # for thirty labs on two cores


def with_children(pids: Iterable[int]) -> set[int]:
    """These processes and everything below them."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = set()
    more = set(pids)
    while more:
        found |= more
        more = {pid for pid, parent in parents.items() if parent in found} - found
    return found


def memory(pids: Iterable[int]) -> tuple[float, float]:
    """PSS and RSS of processes in MB, from smaps_rollup (proc(5))."""
    pss = rss = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except OSError:
            continue
        values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        pss, rss = pss + values["Pss"], rss + values["Rss"]
    return pss / 1024, rss / 1024


def tell(what: str, pids: Iterable[int]) -> float:
    pss, rss = memory(pids)
    print(f"{what:<44} {pss:8.0f} MB PSS {rss:8.0f} MB RSS")
    return pss


def labs(seminar: Seminar) -> set[int]:
    return with_children(lab.supervisor.pid for seat in seminar.seats for lab in running_labs(seminar.labs(seat)))


def give_the_lesson(seminar: Seminar) -> None:
    def one(seat) -> None:
        cluster = connect(lab=client_of(running_labs(seminar.labs(seat))[0]), quiet=True)
        cluster.apply()
        cluster.wait_ready()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, seminar.seats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seats", type=int, default=30)
    parser.add_argument("--port", type=int, default=28900)
    arguments = parser.parse_args()
    print(f"{arguments.seats} seats; load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as place:
        os.environ["SRCIP_STATE_DIR"] = place
        failed: list[str] = []
        started = time.perf_counter()
        seminar = plan(Path(place) / "seminar", arguments.seats, port=arguments.port)
        running = up(seminar, lambda told: failed.append(f"{told['seat']}: {told['cause']}") if told["cause"] else None)
        taken = time.perf_counter() - started
        try:
            print(
                f"{'seminar up, every lab Ready':<44} {taken:8.1f} s   (wanted for 30: at most {LIMIT_S:.0f} s)",
                *failed,
            )
            tell("the labs", labs(seminar))
            give_the_lesson(seminar)
            pss = tell("the labs, the lesson in each", labs(seminar))
            print(
                f"{'  of them one':<44} {pss / arguments.seats:8.1f} MB PSS (wanted for 30: {LIMIT_MB:.0f} MB in all)"
            )
            tell("the page's process", {running.process.pid})
            first = seminar.seats[0]
            while str(first.port) not in urllib.request.urlopen(link(seminar, first, "127.0.0.1"), timeout=120).url:
                time.sleep(0.1)
            jupyter = jupyter_process(seminar, first)
            tell("one JupyterLab, from a seat's first click on", with_children({jupyter.pid} if jupyter else ()))
        finally:
            started = time.perf_counter()
            down(discard=True)
        print(f"{'seminar down':<44} {time.perf_counter() - started:8.1f} s")


if __name__ == "__main__":
    main()
