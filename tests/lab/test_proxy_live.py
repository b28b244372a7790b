"""The rules on a real kernel: loaded beside others' rules, changed, and taken away."""

from __future__ import annotations

import asyncio
import random

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

            for what in (
                "chain ip kube-proxy services",
                "map ip kube-proxy service-ips",
                "chain ip kube-proxy masquerading",
            ):
                assert await proxy.is_whole()
                await on_worker01("nft", "flush", *what.split())
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


def random_services(chance: random.Random) -> tuple[list[dict], list[dict]]:
    """Some Services of any kind, addresses in common among them, with endpoints in any state."""
    services, slices = [], []
    ranges = ["10.0.0.0/8", "192.168.1.0/24", "1.2.3.4/32", "1.2.3.5/32", "203.0.113.0/25", "203.0.113.128/25"]
    for n in range(chance.randrange(2, 7)):
        spec = {"type": chance.choice(["ClusterIP", "NodePort", "LoadBalancer"])}
        spec["internalTrafficPolicy"] = chance.choice(["Cluster", "Local"])
        if spec["type"] != "ClusterIP":
            spec["externalTrafficPolicy"] = chance.choice(["Cluster", "Local"])
            web = {"name": "a", "port": 80, "protocol": chance.choice(["TCP", "UDP"]), "nodePort": 30000 + n}
            spec["ports"] = [web, {"name": "b", "port": 81, "protocol": "TCP", "nodePort": 30100 + n}]
        if spec["type"] == "LoadBalancer":
            spec["ingress"] = [{"ip": f"192.168.1.{chance.randrange(56, 59)}"}]
            spec["loadBalancerSourceRanges"] = chance.sample(ranges, chance.randrange(4))
        if chance.random() < 0.4:
            timeout = {"clientIP": {"timeoutSeconds": chance.choice([60, 90])}}
            spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": timeout}
        svc = service(f"s{n}", clusterIP=f"10.1.0.{10 * chance.randrange(1, 3) + n}", **spec)
        pods = chance.sample(range(2, 9), chance.randrange(5))
        states = ["ready", "ready", "terminating", "gone", "starting"]
        ends = [endpoint(f"10.0.5.{p}", chance.choice(["worker01", "worker02"]), chance.choice(states)) for p in pods]
        services.append(svc)
        slices.append(endpoint_slice(svc, *ends))
    return services, slices


@pytest.mark.parametrize("seed", [1, 2])
def test_changes_by_transaction_end_where_a_fresh_sync_would(seed):
    async def run():
        agent, chance, refused = await start_agent(), random.Random(seed), []
        try:
            await agent.call("configure", text=topology_text(topology(workers=1)))

            class Watched:
                async def call(self, op, **arguments):
                    result = await agent.call(op, **arguments)
                    refused.extend([result["stderr"]] if result and result.get("code") else [])
                    return result

            state, worker01 = ServiceMap(), Node("worker01", "192.168.1.45")
            proxies = [NftablesNode(Watched(), worker01), IptablesNode(Watched(), worker01)]
            for _ in range(20):
                services, slices = random_services(chance)
                state.update_from(services, slices)
                for proxy in proxies:
                    await proxy.sync(state)
                # Before Linux 6.2 a transaction may be refused for a moment, and the whole table is loaded instead.
                assert refused == [] or tuple(map(int, agent.ready["kernel"].split(".")[:2])) < (6, 2)
            for argv, text, fresh in (
                (["nft", "-s", "list", "ruleset"], tables_of, nftables_rules),
                (["iptables-legacy-save"], lambda saved: ours(from_text(saved)), iptables_rules),
            ):
                shown = await agent.call("exec", host="worker01", argv=argv)
                assert text(shown["stdout"]) == text(fresh(services, slices, NODES, "worker01"))
        finally:
            await agent.close()

    asyncio.run(run())
