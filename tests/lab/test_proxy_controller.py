"""kube-proxy's controller over the real store and an agent that only writes down what it is asked."""

from __future__ import annotations

import asyncio
import json

import pytest
import yaml

from srcip_nb.errors import LabError, NotFinishedError, UsageError
from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.console import Console
from srcip_nb.lab.controllers.proxy import Proxy
from srcip_nb.lab.proxy.iptables import chain_hash
from srcip_nb.lab.proxy.ruleset import as_text, from_text
from srcip_nb.lab.topology import topology
from tests.lab.proxy_objects import NODES, endpoint, endpoint_slice, service


class Kernels:
    """Answers for an agent: keeps nothing, refuses on the hosts in `broken`, and remembers every call in order."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.counters: list[str] = []
        self.broken: set[str] = set()
        self.taken_ports: set[int] = set()
        self.flows = ""

    async def call(self, op, **arguments):
        await asyncio.sleep(0)
        if op == "configure":
            self.counters.append(arguments["text"])
            return {"microseconds": 1}
        host = arguments["host"]
        if op == "health":
            self.calls.append(("health", host, arguments["port"], arguments["status"]))
            if arguments["port"] in self.taken_ports:
                raise LabError(f"port {arguments['port']} of {host}: Address already in use")
            return None
        program = arguments["argv"][0].rpartition("/")[2]
        self.calls.append((program, host, arguments["argv"], arguments.get("stdin") or ""))
        if program in ("iptables-legacy-restore", "nft") and host in self.broken:
            return {"code": 2, "stdout": "", "stderr": "iptables-restore: line 7 failed"}
        return {"code": 0, "stdout": self.flows if program == "conntrack" else "", "stderr": ""}

    def loads(self) -> dict[str, str]:
        """Host -> text of its last load since the last call of this."""
        found = {host: rest[-1] for program, host, *rest in self.calls if program == "iptables-legacy-restore"}
        self.calls = []
        return found


@pytest.fixture
def kernels():
    return Kernels()


@pytest.fixture
def store():
    store = Store()
    for name in ("default", "seminar"):
        store.create("namespaces", {"metadata": {"name": name}})
    for node in NODES:
        store.create("nodes", node)
    return store


@pytest.fixture
def proxy(store, kernels):
    return Proxy(store, kernels, topology())


def local_service(store, policy="Local"):
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": policy, "clusterIP": "10.1.246.94"}
    port = {"port": 80, "protocol": "TCP", "nodePort": 32305, "targetPort": 80}
    svc = service("webserver", **spec, ports=[port])
    made = store.create("services", svc)
    store.create("endpointslices", endpoint_slice(svc, endpoint("10.0.5.8", "worker01")))
    return made


def events(store, reason):
    return [event for event in store.list("events") if event["reason"] == reason]


def test_every_node_is_loaded_once_and_then_left_alone(store, kernels, proxy):
    local_service(store)
    asyncio.run(proxy.sync())
    first = kernels.loads()
    assert set(first) == {"master01", "worker01", "worker02"}
    assert '"seminar/webserver has no local endpoints"' in first["worker02"]
    assert '"seminar/webserver has no local endpoints"' not in first["worker01"]
    asyncio.run(proxy.sync())
    assert kernels.loads() == {}


def test_a_nodes_counters_are_made_once_and_before_its_rules(kernels, proxy):
    for _ in range(2):
        asyncio.run(proxy.sync())
    assert sorted(text.split()[3] for text in kernels.counters) == ["master01", "worker01", "worker02"]
    assert kernels.counters[0].splitlines()[0].endswith("nfacct add ct_state_invalid_dropped_pkts")
    assert {program for program, *_ in kernels.calls} == {"health", "iptables-legacy-save", "iptables-legacy-restore"}


def test_only_the_nodes_that_differ_are_loaded(store, kernels, proxy):
    svc = service("inner", internalTrafficPolicy="Local")
    store.create("services", svc)
    made = store.create("endpointslices", endpoint_slice(svc, endpoint("10.0.5.8", "worker01")))
    asyncio.run(proxy.sync())
    kernels.loads()
    store.update("endpointslices", {**made, "endpoints": [endpoint("10.0.5.9", "worker01")]})
    asyncio.run(proxy.sync())
    loaded = kernels.loads()
    assert set(loaded) == {"worker01"}
    assert ":KUBE-SERVICES" not in loaded["worker01"] and "10.0.5.9:80" in loaded["worker01"]


def test_what_the_kernel_has_already_is_not_loaded_again(store, kernels):
    asyncio.run(Proxy(store, kernels, topology()).sync())
    tables = from_text(kernels.loads()["worker01"])
    assert tables["nat"]["KUBE-SERVICES"]

    class Remembers(Kernels):
        async def call(self, op, **arguments):
            answer = await super().call(op, **arguments)
            if op == "exec" and arguments["argv"] == ["iptables-legacy-save"]:
                answer["stdout"] = as_text({"nat": {**tables["nat"], "KUBE-SVC-STALE": ()}})
            return answer

    again = Remembers()
    asyncio.run(Proxy(store, again, topology()).sync())
    loaded = from_text(again.loads()["worker01"])
    assert "KUBE-SERVICES" not in loaded["nat"] and "KUBE-SVC-STALE" in loaded["nat"]
    assert "KUBE-FORWARD" in loaded["filter"]


def test_a_health_check_port_opens_after_the_rules_and_closes_with_the_policy(store, kernels, proxy):
    made = local_service(store)
    port = made["spec"]["healthCheckNodePort"]
    asyncio.run(proxy.sync())
    on_worker01 = [call for call in kernels.calls if call[1] == "worker01"]
    programs = [call[0] for call in on_worker01]
    assert programs.index("iptables-legacy-restore") < on_worker01.index(("health", "worker01", port, 200))
    assert ("health", "worker02", port, 503) in kernels.calls
    kernels.calls = []
    cluster = store.get("services", "seminar", "webserver")
    cluster["spec"]["externalTrafficPolicy"] = "Cluster"
    cluster["spec"].pop("healthCheckNodePort")
    store.update("services", cluster)
    asyncio.run(proxy.sync())
    assert {call[1] for call in kernels.calls if call == ("health", call[1], port, None)} == {
        "master01",
        "worker01",
        "worker02",
    }


def test_the_proxys_own_ports_answer_on_every_node(kernels, proxy):
    asyncio.run(proxy.sync())
    assert {call for call in kernels.calls if call[0] == "health" and call[1] == "worker01"} == {
        ("health", "worker01", 10256, 200),
        ("health", "worker01", 10249, 200),
    }


def test_a_node_that_refuses_its_rules_is_told_and_tried_again(store, kernels, proxy):
    asyncio.run(proxy.sync())
    before = proxy.in_force
    kernels.broken = {"worker02"}
    made = local_service(store)
    asyncio.run(proxy.sync())
    assert proxy.in_force == before
    assert "iptables-restore: line 7 failed" in proxy.status()["nodes"]["worker02"]["error"]
    (event,) = events(store, "SyncProxyRulesFailed")
    assert (event["type"], event["involvedObject"]["name"]) == ("Warning", "worker02")
    assert ("health", "worker02", 10256, 503) in kernels.calls
    port = made["spec"]["healthCheckNodePort"]
    assert ("health", "worker01", port, 200) in kernels.calls
    assert not any(call[:3] == ("health", "worker02", port) for call in kernels.calls)
    with pytest.raises(NotFinishedError, match=r"worker02: iptables-legacy-restore failed on worker02"):
        asyncio.run(proxy.wait_in_force(made["metadata"]["resourceVersion"], timeout=0.01))
    kernels.broken = set()
    kernels.calls = []
    asyncio.run(proxy.sync())
    assert set(kernels.loads()) == {"worker02"}
    assert proxy.in_force >= int(made["metadata"]["resourceVersion"])


def test_a_port_in_use_is_told_at_the_service(store, kernels, proxy):
    made = local_service(store)
    kernels.taken_ports = {made["spec"]["healthCheckNodePort"]}
    asyncio.run(proxy.sync())
    told = events(store, "FailedToStartServiceHealthcheck")
    assert {event["source"]["host"] for event in told} == {"master01", "worker01", "worker02"}
    assert 'failed to start healthcheck "seminar/webserver" on port' in told[0]["message"]


def test_stale_flows_are_looked_for_only_when_a_udp_service_changed(store, kernels, proxy):
    local_service(store)
    asyncio.run(proxy.sync())
    assert not any(call[0] == "conntrack" for call in kernels.calls)
    ports = [{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53}]
    svc = service("dns", clusterIP="10.1.0.53", ports=ports)
    store.create("services", svc)
    made = store.create("endpointslices", endpoint_slice(svc, endpoint("10.0.5.8", "worker01")))
    kernels.calls = []
    kernels.flows = (
        "udp 17 27 src=10.0.5.9 dst=10.1.0.53 sport=4000 dport=53 src=10.0.30.88 dst=10.0.5.9 sport=53 dport=4000 use=1"
    )
    asyncio.run(proxy.sync())
    deleted = [call[2] for call in kernels.calls if call[0] == "conntrack" and "-D" in call[2]]
    assert len(deleted) == 3 and deleted[0][-4:] == ["--reply-src", "10.0.30.88", "--reply-port-src", "53"]
    kernels.calls = []
    store.delete("endpointslices", "seminar", made["metadata"]["name"])
    asyncio.run(proxy.sync())
    assert any(call[0] == "conntrack" for call in kernels.calls)


def test_it_follows_the_store_and_says_when_rules_are_in_force(store, kernels, proxy):
    async def follow():
        running = asyncio.ensure_future(proxy.run())
        try:
            made = local_service(store)
            await proxy.wait_in_force(made["metadata"]["resourceVersion"], timeout=5)
            assert all("seminar/webserver" in text for text in kernels.loads().values())
            store.delete("services", "seminar", "webserver")
            await proxy.wait_in_force(store.revision, timeout=5)
            gone = "-X KUBE-EXT-" + chain_hash("seminar/webservertcp")
            assert [gone in text for text in kernels.loads().values()] == [True, True, True]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(follow())


def test_there_are_only_so_many_modes(store, kernels):
    with pytest.raises(UsageError, match="there is no proxy mode 'userspace'"):
        Proxy(store, kernels, topology(), mode="userspace")


def programs_on(kernels, host):
    """What was run on a host, in order: the program, and whether it put rules there or took them away."""
    found = []
    for program, at, _, text in (call for call in kernels.calls if call[0] in ("iptables-legacy-restore", "nft")):
        if at == host and text:
            adds = "jump services" in text if program == "nft" else ":KUBE-SERVICES" in text
            found.append((program, "load" if adds else "remove"))
    kernels.calls = []
    return found


class Remembering(Kernels):
    """Kernels whose iptables-legacy-save shows what was loaded last."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[str, str] = {}

    async def call(self, op, **arguments):
        answer = await super().call(op, **arguments)
        argv = arguments.get("argv", [""])
        if argv[0] == "iptables-legacy-restore" and answer["code"] == 0:
            self.saved[arguments["host"]] = arguments["stdin"]
        if argv == ["iptables-legacy-save"]:
            answer["stdout"] = self.saved.get(arguments["host"], "")
        return answer


def test_a_new_mode_is_loaded_before_the_old_one_goes(store):
    kernels, modes = Remembering(), []
    proxy = Proxy(store, kernels, topology())
    proxy.on_mode = modes.append
    asyncio.run(proxy.sync())
    assert programs_on(kernels, "worker01") == [("iptables-legacy-restore", "load")]
    proxy.mode = "nftables"
    assert proxy.in_force == 0
    asyncio.run(proxy.sync())
    assert proxy.in_force > 0
    assert programs_on(kernels, "worker01") == [("nft", "load"), ("iptables-legacy-restore", "load")]
    assert "-X KUBE-SERVICES" in kernels.saved["worker01"]
    proxy.mode = "iptables"
    kernels.saved.clear()
    asyncio.run(proxy.sync())
    assert programs_on(kernels, "worker01") == [("iptables-legacy-restore", "load"), ("nft", "remove")]
    asyncio.run(proxy.sync())
    assert programs_on(kernels, "worker01") == []


def test_a_node_that_refuses_a_mode_keeps_the_other(store):
    kernels = Remembering()
    proxy = Proxy(store, kernels, topology())
    asyncio.run(proxy.sync())
    kernels.calls, kernels.broken = [], {"worker02"}
    proxy.mode = "nftables"
    asyncio.run(proxy.sync())
    assert proxy.in_force == 0 and proxy.status()["nodes"]["worker02"]["error"]
    kernels.broken = set()
    kernels.calls = []
    proxy.mode = "iptables"
    asyncio.run(proxy.sync())
    # The rules that never went are not loaded again, and above all not taken away.
    assert programs_on(kernels, "worker02") == [("nft", "remove")]
    assert proxy.in_force > 0


def test_a_mode_that_no_kernel_takes_is_taken_back():
    class Refuses:
        mode = "iptables"

        async def wait_in_force(self, revision, *_):
            raise NotFinishedError(f"{self.mode} failed on worker01")

    class Request:
        async def json(self):
            return {"mode": "nftables"}

    stub = Refuses()
    console = Console(agent=None, store=None, topology=topology(1), proxy=stub, info=dict)
    with pytest.raises(ApiError, match="is still iptables: nftables failed on worker01"):
        asyncio.run(console._set_proxy_mode(Request()))
    assert stub.mode == "iptables"


def test_the_mode_can_be_read_as_on_a_cluster_made_by_kubeadm(store, kernels, proxy):
    store.create("namespaces", {"metadata": {"name": "kube-system"}})
    told = []
    proxy.on_mode = told.append
    for mode in ("iptables", "nftables", "nftables"):
        proxy.mode = mode
        asyncio.run(proxy.sync())
        config = store.get("configmaps", "kube-system", "kube-proxy")["data"]["config.conf"]
        assert yaml.safe_load(config)["mode"] == mode
    assert told == ["iptables", "nftables"]


def test_a_nodes_new_label_counts(store, kernels, proxy):
    svc = service()
    store.create("services", svc)
    hints = (endpoint("10.0.5.8", "worker01", zones=["zone-a"]), endpoint("10.0.30.88", "worker02", zones=["zone-b"]))
    store.create("endpointslices", endpoint_slice(svc, *hints))
    asyncio.run(proxy.sync())
    assert "10.0.30.88" not in kernels.loads()["worker01"]
    node = store.get("nodes", "", "worker01")
    node["metadata"]["labels"]["topology.kubernetes.io/zone"] = "zone-b"
    store.update("nodes", node)
    asyncio.run(proxy.sync())
    loaded = kernels.loads()
    assert set(loaded) == {"worker01"} and "10.0.5.8" not in loaded["worker01"]


def test_the_answer_of_a_load_balancers_question_is_json(store, proxy, kernels):
    local_service(store)
    bodies = {}
    original = kernels.call

    async def keep(op, **arguments):
        if op == "health":
            bodies[arguments["host"], arguments["port"]] = arguments.get("body")
        return await original(op, **arguments)

    kernels.call = keep
    asyncio.run(proxy.sync())
    port = store.get("services", "seminar", "webserver")["spec"]["healthCheckNodePort"]
    assert json.loads(bodies["worker01", port])["localEndpoints"] == 1
