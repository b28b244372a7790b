"""What each kernel can do for a lab, found by doing it once: kube-proxy's modes, and a whole small network a CNI.

    report = asyncio.run(try_kernel("uml"))
    report.modes    # {"iptables": "", "nftables": "Could not process rule: Operation not supported", "ipvs": ""}
    report.cnis     # {"calico": "", "flannel": "", "ptp": ""}

"" says that it works; anything else are the kernel's own words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from srcip_nb.errors import LabError
from srcip_nb.lab.kernel import can_run, start_agent
from srcip_nb.lab.kernel.channel import Agent, AgentError
from srcip_nb.lab.topology import CNIS, pod_text, topology, topology_text

TRIAL_WITHIN = 30.0
"""Seconds that looking at one kernel may take after its agent is ready."""


@dataclass(frozen=True)
class KernelReport:
    """What one kernel can do.

    Attributes:
        name: one of ``kernel.KERNELS``.
        why_not: why no lab runs on it, "" if one does.
        remedy: what to type to mend that; "" where nothing is to be typed.
        release: the kernel's, as uname(1) says it.
        modes: proxy mode -> "" or why it does not work.
        cnis: pod network -> "" or why it does not work.
    """

    name: str
    why_not: str = ""
    remedy: str = ""
    release: str = ""
    modes: Mapping[str, str] = field(default_factory=dict)
    cnis: Mapping[str, str] = field(default_factory=dict)


async def try_kernel(name: str) -> KernelReport:
    """Start an agent on a kernel, try everything, end it.

    Args:
        name: one of ``kernel.KERNELS``.
    """
    # A User Mode Linux is its own trial; the others are tried by a shell first, which says more than an agent could.
    reason = "" if name == "uml" else await asyncio.to_thread(can_run, name)
    if reason:
        why_not, _, remedy = reason.partition("; type: ")
        return KernelReport(name, why_not, remedy)
    try:
        agent = await start_agent(name)
    except LabError as error:
        return KernelReport(name, error.cause, error.remedy.removeprefix("type: "))
    try:
        modes, cnis = await asyncio.wait_for(_abilities(agent), TRIAL_WITHIN)
    except (LabError, asyncio.TimeoutError) as error:
        cause = error.cause if isinstance(error, LabError) else f"its trials took longer than {TRIAL_WITHIN:.0f} s"
        return KernelReport(name, cause, release=agent.ready["kernel"])
    finally:
        await agent.close()
    return KernelReport(name, release=agent.ready["kernel"], modes=modes, cnis=cnis)


async def _abilities(agent: Agent) -> tuple[dict[str, str], dict[str, str]]:
    modes = await agent.call("modes")
    return modes, {cni: await _try_cni(agent, cni) for cni in CNIS}


async def _try_cni(agent: Agent, cni: str) -> str:
    """Make a network of its own beside the others, with a pod on a node: "" or what went wrong."""
    small = topology(workers=1, cni=cni)
    # Hosts of several networks live in one agent here, so each has the CNI's first letter before its name.
    hosts = tuple(replace(host, name=f"{cni[0]}-{host.name}") for host in small.hosts)
    small = replace(small, hosts=hosts)
    node = small.workers[0]
    pod = pod_text(small, node, "trial", cni, small.pod_addresses(node)[0])
    try:
        await agent.call("configure", text=topology_text(small) + pod)
    except AgentError as error:
        return error.cause
    return ""
