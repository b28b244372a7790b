"""The rules on a real kernel: loaded beside others' rules, changed, and taken away."""

from __future__ import annotations

import asyncio

import pytest

from srcip_nb.lab.kernel import start_agent
from srcip_nb.lab.proxy.iptables import iptables_rules
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.nftables import nftables_rules
from srcip_nb.lab.proxy.nfttable import Table
from srcip_nb.lab.proxy.nfttable import from_text as tables_of
from srcip_nb.lab.proxy.node import IptablesNode, NftablesNode
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


def test_a_nodes_nftables_through_several_changes():
    def lb(**spec):
        port = {"port": 80, "protocol": "TCP", "nodePort": 30080}
        return service(type="LoadBalancer", ports=[port], ingress=[{"ip": "192.168.1.56"}], **spec)

    async def run():
        agent = await start_agent()
        try:
            await agent.call("configure", text=topology_text(topology(workers=1)))

            async def on_worker01(*argv, stdin=""):
                result = await agent.call("exec", host="worker01", argv=list(argv), stdin=stdin)
                assert result["code"] == 0, result
                return result["stdout"]

            async def kept() -> dict[str, Table]:
                return {table.name: table for table in tables_of(await on_worker01("nft", "-s", "list", "ruleset"))}

            await on_worker01("nft", "-f", "-", stdin="add table ip others")
            state, proxy = ServiceMap(), NftablesNode(agent, Node("worker01", "192.168.1.45"))
            pods = [endpoint("10.0.5.8", "worker01"), endpoint("10.0.30.88", "worker02")]
            sticky = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
            for svc, ends in (
                (lb(), pods),
                (lb(externalTrafficPolicy="Local"), pods),
                (lb(externalTrafficPolicy="Local"), pods[1:]),
                (lb(), []),
                (lb(**sticky), pods),
                (lb(sessionAffinity="ClientIP", loadBalancerSourceRanges=["192.168.1.0/24"]), pods),
                (lb(sessionAffinity="ClientIP"), pods[:1]),
                (service(clusterIP="10.1.0.11"), pods),
                (lb(externalTrafficPolicy="Local", internalTrafficPolicy="Local"), pods),
            ):
                slices = [endpoint_slice(svc, *ends)]
                state.update_from([svc], slices)
                assert await proxy.sync(state)
                fresh = {table.name: table for table in tables_of(nftables_rules([svc], slices, NODES, "worker01"))}
                found = await kept()
                assert found.pop("ip others") and found == fresh
            assert not await proxy.sync(state)

            assert await proxy.is_whole()
            await on_worker01("nft", "flush", "chain", "ip", "kube-proxy", "services")
            assert not await proxy.is_whole()
            assert await proxy.sync(state)
            assert (await kept())["ip kube-proxy"] == fresh["ip kube-proxy"]

            # Somebody took away what a transaction would change: the whole table comes anew.
            await on_worker01("nft", "flush", "ruleset")
            state.update_from([], [])
            assert await proxy.sync(state)
            fresh = {table.name: table for table in tables_of(nftables_rules([], [], NODES, "worker01"))}
            assert await kept() == fresh

            await proxy.remove()
            await proxy.remove()
            assert await kept() == {}
        finally:
            await agent.close()

    asyncio.run(run())


def test_a_sticky_client_stays_when_another_endpoint_comes():
    async def run():
        agent = await start_agent()
        try:
            await agent.call("configure", text=topology_text(topology(workers=1)))
            state, proxy = ServiceMap(), NftablesNode(agent, Node("worker01", "192.168.1.45"))
            svc = service(sessionAffinity="ClientIP")
            state.update_from([svc], [endpoint_slice(svc, endpoint("10.0.5.8", "worker01"))])
            await proxy.sync(state)
            (name,) = (name for name in proxy._loaded.containers if name.startswith("affinity-"))

            async def nft(*words):
                return await agent.call("exec", host="worker01", argv=["nft", *words])

            assert (await nft("add", "element", "ip", "kube-proxy", name, "{ 10.0.5.77 }"))["code"] == 0
            ends = [endpoint("10.0.5.8", "worker01"), endpoint("10.0.5.9", "worker01")]
            state.update_from([svc], [endpoint_slice(svc, *ends)])
            await proxy.sync(state)
            assert "10.0.5.77" in (await nft("list", "set", "ip", "kube-proxy", name))["stdout"]
        finally:
            await agent.close()

    asyncio.run(run())
