"""Having the agent run the commands that load rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from srcip_nb.errors import LabError

LOAD_TIMEOUT = 30.0
"""Seconds after which a command that loads rules counts as failed."""

LOAD_ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.top_pad=16777216:glibc.malloc.mmap_threshold=1073741824"
}
"""Has the loading programs keep a big table in huge pages: a third less time for 30,000 rules (glibc 2.35 or later)."""


class CallsAgent(Protocol):
    """The part of the agent that a proxy needs: see the agent's wire protocol."""

    async def call(self, op: str, **arguments: Any) -> Any:
        """Have the agent do something and return its result."""


async def run(agent: CallsAgent, host: str, argv: Sequence[str], stdin: str = "") -> str:
    """Run a command on a host and return what it printed.

    Raises:
        LabError: it failed; the cause holds the command and what it said.
    """
    result = await agent.call(
        "exec", host=host, argv=list(argv), stdin=stdin, timeout=LOAD_TIMEOUT, env=LOAD_ENVIRONMENT
    )
    if result["code"]:
        said = " ".join(result["stderr"].split()) or f"exit code {result['code']}"
        raise LabError(f"{argv[0]} failed on {host}: {said}")
    return str(result["stdout"])
