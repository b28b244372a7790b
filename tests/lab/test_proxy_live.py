"""The rules on a real kernel: loaded beside others' rules, changed, and taken away."""

from __future__ import annotations

import asyncio

import pytest

from srcip_nb.lab.kernel import start_agent
from srcip_nb.lab.proxy.iptables import iptables_rules
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.node import IptablesNode
from srcip_nb.lab.proxy.ruleset import from_text, ours
from srcip_nb.lab.proxy.state import ServiceMap
from srcip_nb.lab.topology import masquerade_rules, topology, topology_text
from tests.lab.proxy_objects import NODES, endpoint, endpoint_slice, service

pytestmark = pytest.mark.lab


def test_a_nodes_rules_through_several_changes():
    async def run():
        hosts = topology(workers=1)
        agent = await start_agent()
        try:
            await agent.call("configure", text=topology_text(hosts))

            async def on_worker01(*argv, stdin=""):
                result = await agent.call("exec", host="worker01", argv=list(argv), stdin=stdin)
                assert result["code"] == 0, result
                return result["stdout"]

            masquerade = masquerade_rules(hosts, hosts.host("worker01"))
            await on_worker01("iptables-legacy-restore", "--noflush", stdin=masquerade)
            svc = service(type="NodePort", ports=[{"port": 80, "protocol": "TCP", "nodePort": 30080}])
            state, proxy = ServiceMap(), IptablesNode(agent, Node("worker01", "192.168.1.45"))
            for slices in (
                [endpoint_slice(svc, endpoint("10.0.5.8", "worker01"))],
                [endpoint_slice(svc, endpoint("10.0.5.9", "worker01"), endpoint("10.0.5.10", "worker01"))],
                [],
                [endpoint_slice(svc, endpoint("10.0.5.8", "worker01"))],
            ):
                state.update_from([svc], slices)
                assert await proxy.sync(state)
                kept = ours(from_text(await on_worker01("iptables-legacy-save")))
                assert kept == from_text(iptables_rules([svc], slices, NODES, "worker01"))
            assert not await proxy.sync(state)

            assert await proxy.is_whole()
            await on_worker01("iptables-legacy", "-t", "nat", "-F")
            await on_worker01("iptables-legacy", "-t", "mangle", "-X")
            assert not await proxy.is_whole()
            assert await proxy.sync(state)
            kept = ours(from_text(await on_worker01("iptables-legacy-save")))
            assert kept == from_text(iptables_rules([svc], slices, NODES, "worker01"))

            await proxy.remove()
            left = from_text(await on_worker01("iptables-legacy-save"))
            assert "KUBE" not in str(left) and "cali-nat-outgoing" in left["nat"]
        finally:
            await agent.close()

    asyncio.run(run())
