"""A change in parts: the same end as in one transaction, and no Service without rules on the way."""

from __future__ import annotations

import asyncio

import pytest

from srcip_nb.errors import LabError
from srcip_nb.lab.kernel import start_agent
from srcip_nb.lab.kernel.channel import Agent
from srcip_nb.lab.proxy import nftables, nfttable
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.nftparts import TOO_LONG, halves, parts
from srcip_nb.lab.proxy.node import NftablesNode
from srcip_nb.lab.proxy.state import ServiceMap
from srcip_nb.lab.topology import topology, topology_text
from tests.lab.proxy_objects import endpoint, endpoint_slice, service

NODE = Node("worker01", "192.168.1.45")
NAME = "ip kube-proxy"


def state(count: int, first: int = 0, affinity: int = 0) -> ServiceMap:
    """Services 10.1.N.M with two endpoints each."""
    services, slices = [], []
    for number in range(first, first + count):
        more = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": affinity}}}
        one = service(f"s{number}", clusterIP=f"10.1.{number // 200}.{number % 200 + 1}", **(more if affinity else {}))
        services.append(one)
        slices.append(endpoint_slice(one, endpoint("10.0.5.8", "worker01"), endpoint("10.0.30.67", "worker02")))
    found = ServiceMap()
    found.update_from(services, slices)
    return found


def table(services: ServiceMap) -> nfttable.Table:
    return nftables.Renderer(NODE).table(services)


def test_what_leads_somewhere_comes_after_it_and_goes_before_it():
    lines = "".join(parts(table(state(2)), table(state(2, first=1)))).splitlines()
    come, gone = (
        next(n for n in table(state(1, 2)).chains if "s2" in n),
        next(n for n in table(state(1)).chains if n.startswith("service-") and "/s0/" in n),
    )
    leads_to = [n for n, line in enumerate(lines) if line.startswith("add element") and "10.1.0.3" in line]
    assert lines.index(f"add chain {NAME} {come}") < min(
        n for n, line in enumerate(lines) if line.startswith(f"add rule {NAME} {come}")
    )
    assert max(n for n, line in enumerate(lines) if line.startswith(f"add rule {NAME} {come}")) < min(leads_to)
    no_more = [n for n, line in enumerate(lines) if line.startswith("delete element") and "10.1.0.1" in line]
    assert max(leads_to) < min(no_more) and max(no_more) < lines.index(f"flush chain {NAME} {gone}")
    assert lines.index(f"flush chain {NAME} {gone}") < lines.index(f"delete chain {NAME} {gone}")


def test_a_key_that_changes_is_never_absent():
    def with_key(rest: str) -> nfttable.Table:
        return nfttable.Table(NAME, containers={"m": nfttable.Container("map", ("type x : verdict",), {"1": rest})})

    assert parts(with_key(" : goto a"), with_key(" : goto b")) == [
        f"delete element {NAME} m {{ 1 }}\nadd element {NAME} m {{ 1 : goto b }}\n"
    ]
    assert parts(with_key(" : drop"), with_key(" : drop")) == []


def test_a_set_made_anew_goes_with_every_chain_that_names_it():
    found = parts(table(state(1, affinity=60)), table(state(1, affinity=90)))
    (whole,) = (part for part in found if "delete set" in part)
    assert whole.index("flush chain") < whole.index("delete set") < whole.index("add set") < whole.index("add rule")
    assert found == [whole]


def test_halves():
    assert halves(["aa", "b", "c"]) == (["aa"], ["b", "c"])
    assert halves(["a", "bbbb"]) == (["a"], ["bbbb"])


@pytest.mark.lab
def test_a_kernel_that_takes_only_little_at_once():
    """Two hundred Services; where the kernel would take them all, an agent between says what another kernel says."""

    async def run() -> None:
        agent = await start_agent(proxy_mode="nftables")
        try:
            await agent.call("configure", text=topology_text(topology(workers=1)))
            between = Narrow(agent, 100_000)
            node = NftablesNode(between, NODE)
            for services in (state(200), state(190, first=20), state(150, first=20, affinity=60), state(3), state(220)):
                assert await node.sync(services)
                assert await node.is_whole()
                listed = (
                    await agent.call("exec", host="worker01", argv=["nft", "-s", "list", "table", *NAME.split()])
                )["stdout"]
                wanted = nfttable.as_text([nfttable.listed(table(services))])
                assert nfttable.as_text(nfttable.from_text(listed)) == wanted
            assert between.refused >= 4
        finally:
            await agent.close()

    asyncio.run(run())


class Narrow:
    """An agent whose kernel takes no transaction longer than so many characters."""

    def __init__(self, agent: Agent, limit: int) -> None:
        self.agent, self.limit, self.refused = agent, limit, 0

    async def call(self, op: str, **arguments):
        if len(arguments.get("stdin") or "") > self.limit:
            self.refused += 1
            return {"code": 1, "stdout": "", "stderr": f"netlink: Error: Could not process rule: {TOO_LONG}"}
        result = await self.agent.call(op, **arguments)
        self.refused += TOO_LONG in result.get("stderr", "")
        return result


@pytest.mark.lab
def test_every_part_alone_is_taken_and_a_service_that_stays_has_its_key_all_the_time():
    async def run() -> None:
        agent = await start_agent(proxy_mode="nftables")
        try:
            await agent.call("configure", text=topology_text(topology(workers=1)))

            async def nft(*words: str, stdin: str = "") -> str:
                done = await agent.call("exec", host="worker01", argv=["nft", *words], stdin=stdin)
                assert done["code"] == 0, (stdin, done["stderr"])
                return done["stdout"]

            had = table(state(6))
            await nft("-f", "-", stdin=nfttable.whole([had]))
            for services in (state(6, first=3), state(4, first=3, affinity=60), state(4, first=3, affinity=90)):
                wanted = table(services)
                for part in parts(had, wanted):
                    await nft("-f", "-", stdin=part)
                    keys = await nft("list", "map", *NAME.split(), "service-ips")
                    assert "10.1.0.5 . tcp . 80 : goto service-" in keys, part
                listed = nfttable.from_text(await nft("-s", "list", "table", *NAME.split()))
                assert nfttable.as_text(listed) == nfttable.as_text([nfttable.listed(wanted)])
                had = wanted
        finally:
            await agent.close()

    asyncio.run(run())


@pytest.mark.parametrize("said", ["No such file or directory", TOO_LONG])
def test_a_kernel_that_refuses_everything_is_told_of(said):
    class Refuses:
        async def call(self, op: str, **arguments):
            return {"code": 1, "stdout": "", "stderr": f"Error: {said}"}

    with pytest.raises(LabError, match=said):
        asyncio.run(asyncio.wait_for(NftablesNode(Refuses(), NODE).sync(state(1)), 10))
