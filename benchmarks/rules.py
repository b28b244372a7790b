"""How long a node's rules take, from the API's objects to the kernel, against the number of Services.

    python benchmarks/rules.py [--services 10 100 1000 5000] [--runs 3]

Each Service has 10 endpoints. A full sync goes from nothing to all rules loaded; "one" is one Service whose endpoints
changed. Where the time goes: read (objects to service ports and endpoints), write (which endpoints, and the text of the
rules), load (the agent, iptables-legacy-restore or nft, the kernel). The best of the runs is shown, for other work on
the machine only ever adds. kube-proxy v1.36.2 itself took 4.9 s (mode iptables, iptables-nft under it) and 0.31 s (mode
nftables) for the first full sync of 1,000 Services on a machine with 2 cores.

Our own parts grow as the Services do: from 1,000 to 5,000 read takes 0.1 and 0.5 s of processor time, write 0.2 and 1.0
(iptables) or 0.1 and 0.3 (nftables). Load grows faster than that, and not by us: of nft's time 0.2 s are the kernel's
at 1,000, 0.8 at 2,500 and 3.7 at 5,000, nearly as the square of the Services;
iptables-legacy-restore itself takes 0.3, 0.7 and 3.1 s before it hands the table over, the kernel 0.1, 0.3 and 0.7.
(Measured with `unshare --net` and getrusage on Linux 6.18, iptables 1.8.9, nft 1.0.6, beside other work.)
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from srcip_nb.lab.kernel import Agent, start_agent
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.node import proxy_of
from srcip_nb.lab.proxy.state import ServiceMap
from srcip_nb.lab.topology import topology, topology_text

ENDPOINTS = 10
REAL_KUBE_PROXY = {"iptables": 4.9, "nftables": 0.31}
WANTED = {"iptables": (1.0, 0.2), "nftables": (0.45, 0.2)}
PARTS = ("read", "write", "load")


def address(network: int, number: int) -> str:
    return f"10.{network}.{number // 250}.{number % 250 + 1}"


def service(number: int) -> dict[str, Any]:
    spec = {"type": "ClusterIP", "clusterIP": address(1, number), "ports": [{"port": 80, "protocol": "TCP"}]}
    return {"metadata": {"name": f"svc-{number}", "namespace": "bench"}, "spec": spec, "status": {"loadBalancer": {}}}


def endpoint_slice(number: int, endpoints: int = ENDPOINTS) -> dict[str, Any]:
    """Endpoints of a Service, half of them on each of two workers."""
    return {
        "metadata": {
            "name": f"svc-{number}-x",
            "namespace": "bench",
            "labels": {"kubernetes.io/service-name": f"svc-{number}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address(0, number * ENDPOINTS + n)],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": f"worker0{n % 2 + 1}",
            }
            for n in range(endpoints)
        ],
    }


class TimedAgent:
    """The agent, and how long it was at work."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.seconds = 0.0

    async def call(self, op: str, **arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return await self._agent.call(op, **arguments)
        finally:
            self.seconds += time.perf_counter() - started


async def one_run(agent: Agent, mode: str, count: int) -> dict[str, dict[str, float]]:
    """Seconds of each part, for "full" and for "one"."""
    timed, state = TimedAgent(agent), ServiceMap()
    proxy = proxy_of(mode, timed, Node("worker01", "192.168.1.45"))
    services, slices = [service(n) for n in range(count)], [endpoint_slice(n) for n in range(count)]
    found = {}
    for what in ("full", "one"):
        if what == "one":
            slices[count // 2] = endpoint_slice(count // 2, ENDPOINTS - 1)
        started, timed.seconds = time.perf_counter(), 0.0
        state.update_from(services, slices)
        read = time.perf_counter() - started
        await proxy.sync(state)
        total = time.perf_counter() - started
        found[what] = {"read": read, "write": total - read - timed.seconds, "load": timed.seconds, "total": total}
    await proxy.remove()
    return found


async def measure(counts: list[int], runs: int) -> None:
    agent = await start_agent()
    try:
        await agent.call("configure", text=topology_text(topology(workers=1)))
        print(
            f"{'seconds':<10} {'Services':>8}  {'full':>7} = {' + '.join(PARTS):<24} {'one':>7} = {' + '.join(PARTS)}"
        )
        for mode in ("iptables", "nftables"):  # few machines have ip_vs
            for count in counts:
                tries = [await one_run(agent, mode, count) for _ in range(runs)]
                best = {what: min((t[what] for t in tries), key=lambda t: t["total"]) for what in ("full", "one")}
                full, one = (
                    f"{b['total']:7.3f} = {' + '.join(f'{b[p]:.3f}' for p in PARTS):<24}" for b in best.values()
                )
                print(f"{mode:<10} {count:>8}  {full} {one}")
                if count == 1000:
                    wanted, real = WANTED[mode], REAL_KUBE_PROXY[mode]
                    print(
                        f"{'':<10} wanted: full at most {wanted[0]} s, one at most {wanted[1]} s;"
                        f" real kube-proxy: full {real} s, ratio {best['full']['total'] / real:.2f}"
                    )
    finally:
        await agent.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, nargs="+", default=[10, 100, 1000, 5000], metavar="N")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.services, arguments.runs))


if __name__ == "__main__":
    main()
