"""UDP flows that still go to an endpoint that is gone.

The kernel decides by a flow's first packet where it goes and remembers it. A TCP client notices a dead endpoint and
connects anew; a UDP client that keeps its port would send to it for as long as it sends. So kube-proxy removes what the
kernel remembers of such flows (kubernetes v1.36.2 pkg/proxy/conntrack/cleanup.go), and so does the lab.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from srcip_nb.lab.proxy.state import ServiceEntry, ServiceMap

LIST_UDP = ["conntrack", "-L", "-p", "udp"]
"""The command whose output stale_flows() reads."""

_FIELD = re.compile(r"\b(src|dst|sport|dport)=(\S+)")


class Flow(NamedTuple):
    """What a client asked for and who answers it, of one or more UDP flows."""

    destination: str
    port: str
    answered_by: str
    answering_port: str

    def delete_command(self) -> list[str]:
        """Write the command that makes the kernel forget these flows."""
        asked = ["--orig-dst", self.destination, "--orig-port-dst", self.port]
        return [
            "conntrack",
            "-D",
            "-p",
            "udp",
            *asked,
            "--reply-src",
            self.answered_by,
            "--reply-port-src",
            self.answering_port,
        ]


def has_udp(entry: ServiceEntry) -> bool:
    """Has the Service a UDP port?"""
    return any(port.protocol == "udp" for port, _ in entry)


def _flows(listing: str) -> list[Flow]:
    flows = []
    for line in listing.splitlines():
        fields = _FIELD.findall(line) if line.startswith("udp") else []
        if len(fields) == 8:
            asked, answer = dict(fields[:4]), dict(fields[4:])
            flows.append(Flow(asked["dst"], asked["dport"], answer["src"], answer["sport"]))
    return flows


def stale_flows(listing: str, services: ServiceMap) -> list[Flow]:
    """Find flows to a UDP Service that are not answered by one of its serving endpoints.

    Policies do not count, and a Service without a serving endpoint is left alone: its flows have nowhere else to go.

    Args:
        listing: what `conntrack -L -p udp` printed.
        services: the state that is in force now.
    """
    by_address: dict[tuple[str, str], set[str]] = {}
    by_node_port: dict[str, set[str]] = {}
    for entry in services.values():
        for port, endpoints in entry:
            serving = {endpoint.text for endpoint in endpoints if endpoint.serving}
            if port.protocol != "udp" or not serving:
                continue
            for address in (port.cluster_ip, *port.load_balancer_vips, *port.external_ips):
                by_address[address, str(port.port)] = serving
            if port.node_port:
                by_node_port[str(port.node_port)] = serving
    stale: dict[Flow, None] = {}
    for flow in _flows(listing):
        serving = by_address.get((flow.destination, flow.port)) or by_node_port.get(flow.port) or set()
        if serving and f"{flow.answered_by}:{flow.answering_port}" not in serving:
            stale[flow] = None
    return list(stale)
