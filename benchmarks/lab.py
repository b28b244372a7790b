"""How quick and how small a lab is, beside a real three-node Kubernetes.

    python benchmarks/lab.py [--runs 5]

Prints medians of: start to three nodes Ready and the API answering; the seed's Deployment of two to Ready; a flip of
externalTrafficPolicy until the data plane has it; requests a second through the VIP, a new connection each; resident
memory of every process of the lab. The real cluster's figures (kubeadm-like, kubelet, containerd, kube-proxy 1.36.2 in
three network namespaces of one machine with 2 cores) are 12 s to Ready and 990 MB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

from srcip_nb import connect
from srcip_nb.lab import Lab

REAL_CLUSTER = {"up": 12.0, "memory": 990.0}


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def one_run(requests: int) -> dict[str, float]:
    lab = Lab()
    figures = {"up": timed(lab.__enter__)}
    try:
        os.environ["SRCIP_LAB"] = lab.name
        cluster = connect(quiet=True)
        cluster.apply("ns.yaml", "configmap_html.yaml", "service.yaml")
        figures["deployment"] = timed(lambda: (cluster.apply("deployment.yaml"), cluster.wait_ready()))
        flips = [timed(lambda policy=policy: cluster.policy(policy)) for policy in ("Local", "Cluster") * 5]
        figures["flip"] = statistics.median(flips)
        asked = [{"id": i, "url": "http://192.168.1.56/"} for i in range(requests)]
        taken = timed(lambda: list(lab.client.visit("client", asked, concurrency=32)))
        figures["rate"] = requests / taken
        figures["memory"] = lab.client.stats()["rss_kb"] / 1024
    finally:
        lab.__exit__(None, None, None)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3000)
    arguments = parser.parse_args()
    runs = [one_run(arguments.requests) for _ in range(arguments.runs)]
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    rows = [
        ("lab up: nodes Ready, API answering", "up", "s", 1.5, "at most"),
        ("Deployment of 2 to Ready", "deployment", "s", 1.0, "at most"),
        ("policy flip to data plane", "flip", "s", 0.2, "at most"),
        ("requests through the VIP", "rate", "/s", 3000, "at least"),
        ("memory of the whole lab", "memory", "MB", 150, "at most"),
    ]
    print(f"median of {arguments.runs} runs")
    for text, name, unit, target, sense in rows:
        real = REAL_CLUSTER.get(name)
        ratio = f"; real cluster {real:.0f} {unit}, ratio {median[name] / real:.2f}" if real else ""
        print(f"{text:<36} {median[name]:8.2f} {unit:<3} (wanted: {sense} {target} {unit}){ratio}")


if __name__ == "__main__":
    main()
