"""The kernels a lab can run on, and the channel to the agent that runs there.

    agent = await start_agent()
    await agent.call("configure", text=topology_text(topology()))
    await agent.call("exec", host="worker01", argv=["ip", "address"])   # {"code": 0, "stdout": ..., "stderr": ...}
    await agent.close()

``channel.py`` is the protocol's host side, whatever the kernel; ``native.py`` starts an agent on the machine's own
kernel, as root or in a user namespace.
"""

from __future__ import annotations

import os

from srcip_nb.errors import LabError, UsageError
from srcip_nb.lab.kernel.channel import Agent, AgentError, Stream
from srcip_nb.lab.kernel.native import can_run_native, start_native
from srcip_nb.lab.kernel.remedies import mode_remedy
from srcip_nb.lab.kernel.uml import can_run_uml, start_uml

__all__ = ["KERNELS", "Agent", "AgentError", "Stream", "can_run", "candidates", "start_agent", "why_none_works"]

KERNELS = ("root", "userns", "uml")
_OTHERWISE = "Leave --kernel out to have another one looked for, or choose another --proxy-mode."


def candidates(kernel: str = "auto") -> tuple[str, ...]:
    """The kernels to be tried, in order: one that was named, here or by ``SRCIP_KERNEL``, or all.

    Raises:
        UsageError: there is no such kernel.
    """
    named = (os.environ.get("SRCIP_KERNEL") or "auto") if kernel == "auto" else kernel
    if named not in ("auto", *KERNELS):
        raise UsageError(f"there is no kernel {named!r}", f"Choose one of: {', '.join(('auto', *KERNELS))}.")
    return KERNELS if named == "auto" else (named,)


def can_run(kernel: str) -> str:
    """Try, in a child, whether a lab can run on a kernel: "" or the reason why not, one sentence.

    Args:
        kernel: one of ``KERNELS``.
    """
    return can_run_uml() if kernel == "uml" else can_run_native(kernel)


def why_none_works(kernel: str = "auto") -> str:
    """Try the kernels in children: "" if one works, else a reason for each."""
    reasons = {}
    for candidate in candidates(kernel):
        reasons[candidate] = can_run(candidate)
        if not reasons[candidate]:
            return ""
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


async def start_agent(kernel: str = "auto", proxy_mode: str = "iptables") -> Agent:
    """Start an agent on the first kernel that works and can do a proxy mode, and wait until it is ready.

    Args:
        kernel: one of ``KERNELS``; "auto" tries one after the other.
        proxy_mode: kube-proxy's mode that it has to be able to do.

    Raises:
        UsageError: there is no such kernel.
        LabError: none works here; the message says why and what to type.
    """
    failures: dict[str, LabError] = {}
    for candidate in candidates(kernel):
        try:
            agent = await (start_uml(proxy_mode) if candidate == "uml" else start_native(candidate))
            agent.kernel = candidate
            await _check_mode(agent, proxy_mode)
        except LabError as error:
            failures[candidate] = error
        else:
            agent.passed_over = {name: failure.cause for name, failure in failures.items()}
            return agent
    *_, last = failures.values()
    if len(failures) == 1:
        raise last
    reasons = "; ".join(f"{name}: {failure.cause}" for name, failure in failures.items())
    raise LabError(f"no kernel for this lab works here ({reasons})", last.remedy)


async def _check_mode(agent: Agent, proxy_mode: str) -> None:
    if proxy_mode == "iptables":
        return  # without it no agent starts
    why_not = (await agent.call("modes"))[proxy_mode]
    if why_not:
        release = agent.ready["kernel"]
        await agent.close()
        remedy = mode_remedy(agent.kernel, proxy_mode, why_not)
        raise LabError(
            f"kernel {agent.kernel} ({release}) cannot do proxy mode {proxy_mode}: {why_not}",
            f"type: {remedy}" if remedy else _OTHERWISE,
        )
