"""The kernels a lab can run on, and the channel to the agent that runs there.

    agent = await start_agent()
    await agent.call("configure", text=topology_text(topology()))
    await agent.call("exec", host="worker01", argv=["ip", "address"])   # {"code": 0, "stdout": ..., "stderr": ...}
    await agent.close()

``channel.py`` is the protocol's host side, whatever the kernel; ``root.py`` starts an agent on the machine's own.
"""

from __future__ import annotations

from srcip_nb.errors import UsageError
from srcip_nb.lab.kernel.channel import Agent, AgentError, Stream
from srcip_nb.lab.kernel.root import can_run_root, start_root

__all__ = ["KERNELS", "Agent", "AgentError", "Stream", "can_run_root", "start_agent"]

KERNELS = ("root",)


async def start_agent(kernel: str = "root") -> Agent:
    """Start an agent and wait until it is ready.

    Args:
        kernel: "root", the machine's own kernel.

    Raises:
        UsageError: there is no such kernel.
        LabError: it cannot be started here; the message says why and what to install.
    """
    if kernel not in KERNELS:
        raise UsageError(f"there is no kernel {kernel!r}", f"take one of {', '.join(KERNELS)}")
    return await start_root()
