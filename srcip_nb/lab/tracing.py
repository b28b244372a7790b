"""One traced request: what every node's kernel said about its first packet, fetched as it is.

On each node a table of its own marks packets that open a TCP connection for tracing, before any other rule sees them.
The mark is the kernel's own flag of a packet (`meta nftrace`); nftables reports such a packet's way, and so does the
legacy iptables, whose target TRACE sets the same flag. The table goes away in any case, with all that it left.

Nothing is read into the answers here; that is ``trace.py``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from srcip_nb.errors import LabError
from srcip_nb.lab.kernel import Agent
from srcip_nb.lab.trace_messages import TABLE

# The earliest priority at which a packet's headers are whole, before raw (-300) and all of kube-proxy's.
MARKING = f"""\
add table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority -310; policy accept;
    tcp flags & (syn|ack) == syn meta nftrace set 1
  }}
  chain output {{
    type filter hook output priority -310; policy accept;
    tcp flags & (syn|ack) == syn meta nftrace set 1
  }}
}}
"""
NO_MARKING = (
    "Trace in a lab on kernel root or userns, or on the User Mode Linux that `make kernel` builds. Of mode ipvs a "
    "trace would show the rules around IPVS, not its choice, which is no rule; `ipvsadm -Ln` and `ipvsadm -Lnc` on a "
    "node show servers and connections."
)
UNMARKING = f"add table ip {TABLE}\ndelete table ip {TABLE}\n"
READ_IPTABLES = ["iptables-legacy-save"]
READ_NFTABLES = ["nft", "-a", "-t", "list", "ruleset"]
READ_CONNTRACK = ["conntrack", "-L", "-p", "tcp"]
# Linux repeats an unanswered SYN after 1 s; a second packet of the same request would only tell the same again.
TIMEOUT = 0.9


class Tracer:
    """Traces requests, one at a time: the kernel hands its messages to one reader in each host."""

    def __init__(self, agent: Agent, nodes: list[str]) -> None:
        self._agent = agent
        self._nodes = nodes
        self._one_at_a_time = asyncio.Lock()

    async def trace(self, host: str, url: str) -> dict[str, Any]:
        """Send one request and return what was said about it.

        Args:
            host: where it starts, by the agent's name.
            url: what it asks for.

        Returns:
            ``request``: its result, as ``LabClient.visit`` yields it; ``nodes``: for each node its ``messages``
            (base64, see ``agent/tracelog.py``), and ``iptables``, ``nftables`` and ``conntrack``, what these programs
            print.

        Raises:
            LabError: a node's kernel or programs do not do it, or its rules changed meanwhile.
        """
        async with self._one_at_a_time:
            return await self._trace(host, url)

    async def _trace(self, host: str, url: str) -> dict[str, Any]:
        begun: list[str] = []
        heard: dict[str, Any] = {}
        errors: list[LabError] = []
        try:
            for node in self._nodes:
                await self._agent.call("trace_begin", host=node)
                begun.append(node)
                await self._mark(node)
            rules = await self._rules()
            result = await self._visit(host, url)
            is_unchanged = rules == await self._rules()
            flows = await asyncio.gather(*(self._run(node, READ_CONNTRACK) for node in self._nodes))
        finally:
            # One node's failure leaves no other as it is, and hides no error from above.
            for node in begun:
                try:
                    await self._run(node, ["nft", "-f", "-"], UNMARKING)
                except LabError as error:
                    errors.append(error)
                try:
                    heard[node] = await self._agent.call("trace_end", host=node)
                except LabError as error:
                    errors.append(error)
        if errors:
            raise errors[0]
        if not is_unchanged:
            raise LabError("kube-proxy changed its rules while the packet was on its way", "Trace it again")
        if not all(heard[node]["whole"] for node in self._nodes):
            raise LabError("the kernel had more to tell than could be read", "Trace again when nothing else is sent")
        return {
            "request": result,
            "nodes": {
                node: {"messages": heard[node]["messages"], "iptables": ipt, "nftables": nft, "conntrack": flow}
                for node, (ipt, nft), flow in zip(self._nodes, rules, flows, strict=True)
            },
        }

    async def _mark(self, node: str) -> None:
        try:
            await self._run(node, ["nft", "-f", "-"], MARKING)
        except LabError as error:
            raise LabError(f"this kernel cannot mark packets for a trace: {error.cause}", NO_MARKING) from error

    async def _rules(self) -> list[tuple[str, str]]:
        asked = [self._run(node, argv) for node in self._nodes for argv in (READ_IPTABLES, READ_NFTABLES)]
        texts = [_without_times(text) for text in await asyncio.gather(*asked)]
        return list(zip(texts[::2], texts[1::2], strict=True))

    async def _visit(self, host: str, url: str) -> dict[str, Any]:
        stream = self._agent.stream(
            "visit", host=host, requests=[{"id": 0, "url": url}], concurrency=1, timeout=TIMEOUT
        )
        results = [result async for event in stream for result in event["done"]]
        if not results:
            raise LabError(f"{host} ended before it had sent the request", "Trace it again")
        found: dict[str, Any] = results[0]
        return found

    async def _run(self, node: str, argv: list[str], stdin: str | None = None) -> str:
        done = await self._agent.call("exec", host=node, argv=argv, stdin=stdin, timeout=20)
        if done["code"]:
            raise LabError(f"{node}: {' '.join(argv)}: {done['stderr'].strip()}")
        text: str = done["stdout"]
        return text


def _without_times(text: str) -> str:
    """Rules without the comments that say when they were printed, and without the chains' counters."""
    lines = (line.partition(" [")[0] if line.startswith(":") else line for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if not line.startswith("# "))
