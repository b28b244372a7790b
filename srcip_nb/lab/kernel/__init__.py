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
from srcip_nb.lab.kernel.uml import can_run_uml, start_uml

__all__ = ["KERNELS", "Agent", "AgentError", "Stream", "can_run", "candidates", "start_agent", "why_none_works"]

KERNELS = ("root", "userns", "uml")


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


async def start_agent(kernel: str = "auto") -> Agent:
    """Start an agent on the first kernel that works, and wait until it is ready.

    Args:
        kernel: "root" or "userns"; "auto" tries one after the other.

    Raises:
        UsageError: there is no such kernel.
        LabError: none works here; the message says why and what to type.
    """
    failures: list[LabError] = []
    names = candidates(kernel)
    for candidate in names:
        try:
            return await (start_uml() if candidate == "uml" else start_native(candidate))
        except LabError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    reasons = "; ".join(f"{name}: {failure.cause}" for name, failure in zip(names, failures, strict=True))
    raise LabError(f"no kernel for a lab works here ({reasons})", failures[-1].remedy)
