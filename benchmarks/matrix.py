"""The whole matrix on a lab of each pod network, in each proxy mode that this machine can do.

    python benchmarks/matrix.py [--runs 3]

Prints the median seconds, and how often it took the time of the quickest. All rows on one lab are wanted within 60 s
(within 180 s in mode ipvs, which on most machines is User Mode Linux). A case that differs ends it.
"""

from __future__ import annotations

import argparse
import os
import statistics

from srcip_nb import connect
from srcip_nb.errors import LabError
from srcip_nb.judge import DIFFERS
from srcip_nb.lab import Lab
from srcip_nb.lab.spec import PROXY_MODES
from srcip_nb.lab.topology import CNIS
from srcip_nb.matrix import matrix

WANTED = {"ipvs": 180}


def seconds(cni: str, mode: str) -> tuple[int, float]:
    """How many cases were asked, and in what time."""
    with Lab(cni=cni, proxy_mode=mode) as lab:
        frame = matrix(connect(lab=lab, quiet=True), mode=mode, progress=False)
    if (frame["verdict"] == DIFFERS).any():
        raise SystemExit(f"{cni}, {mode}: {(frame['verdict'] == DIFFERS).sum()} cases differ")
    return len(frame), frame.attrs["seconds"]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    median: dict[tuple[str, str], float] = {}
    cases = 0
    for mode in PROXY_MODES:
        for cni in CNIS:
            try:
                runs = [seconds(cni, mode) for _ in range(arguments.runs)]
            except LabError as error:
                print(f"{cni}, {mode}: {error.cause}")
                continue
            cases = runs[0][0]
            median[cni, mode] = statistics.median(took for _, took in runs)
    print(f"the matrix, {cases} cases, median of {arguments.runs} runs, load {os.getloadavg()[0]:.1f}")
    for (cni, mode), took in median.items():
        ratio = took / min(median.values())
        print(f"{cni:<10}{mode:<10}{took:6.1f} s ({WANTED.get(mode, 60)} wanted){ratio:6.1f} times the quickest")


if __name__ == "__main__":
    main()
