"""The load balancer's controller over the real store and an agent that only writes down what it is asked."""

from __future__ import annotations

import asyncio

import pytest

from srcip_nb.errors import LabError
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.controllers.loadbalancer import LoadBalancer
from srcip_nb.lab.topology import topology
from tests.lab.proxy_objects import endpoint, endpoint_slice, node, service

POOL = ("192.168.1.56", "192.168.1.57")


class Speakers:
    """Answers for an agent: remembers announcements, refuses on the hosts in `broken`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str] | str] = []
        self.broken: set[str] = set()

    async def call(self, op, **arguments):
        await asyncio.sleep(0)
        host = arguments.get("host", "router")
        if host in self.broken:
            raise LabError(f"there is no host {host}")
        self.calls.append((op, host, arguments["address"]) if op != "configure" else arguments["text"])


@pytest.fixture
def speakers():
    return Speakers()


@pytest.fixture
def store():
    store = Store()
    for name in ("default", "seminar"):
        store.create("namespaces", {"metadata": {"name": name}})
    for name, address in (("worker01", "192.168.1.45"), ("worker02", "192.168.1.46")):
        store.create("nodes", node(name, address))
    return store


@pytest.fixture
def balancer(store, speakers):
    return LoadBalancer(store, speakers, topology(), POOL)


def create(store, name, policy="Cluster", **spec):
    port = {"port": 80, "protocol": "TCP", "targetPort": 80}
    svc = service(name, type="LoadBalancer", externalTrafficPolicy=policy, ports=[port], **spec)
    svc["spec"].pop("clusterIP")
    store.create("services", svc)
    return svc


def give_endpoints(store, svc, *endpoints):
    found = store.peek("endpointslices", "seminar", f"{svc['metadata']['name']}-x")
    new = endpoint_slice(svc, *endpoints)
    if found:
        store.update("endpointslices", new)
    else:
        store.create("endpointslices", new)


def addresses(store, name):
    status = store.get("services", "seminar", name)["status"]
    return [(entry["ip"], entry["ipMode"]) for entry in status["loadBalancer"].get("ingress") or []]


def told(store):
    return [(event["reason"], event["message"]) for event in store.list("events")]


def sync(balancer):
    asyncio.run(balancer.sync())


def test_an_address_is_given_at_once_and_announced_with_the_first_endpoint(store, speakers, balancer):
    svc = create(store, "webserver")
    sync(balancer)
    assert addresses(store, "webserver") == [("192.168.1.56", "VIP")]
    assert told(store) == [("IPAllocated", 'Assigned IP ["192.168.1.56"]')]
    assert speakers.calls == []
    give_endpoints(store, svc, endpoint("10.0.30.88", "worker02"))
    sync(balancer)
    assert speakers.calls == [("announce", "worker01", "192.168.1.56")]
    assert ("nodeAssigned", 'announcing from node "worker01" with protocol "layer2"') in told(store)
    sync(balancer)
    assert len(speakers.calls) == 1 and len(told(store)) == 2


def test_the_leader_changes_with_the_policy_and_the_old_one_stops_first(store, speakers, balancer):
    svc = create(store, "webserver")
    give_endpoints(store, svc, endpoint("10.0.30.88", "worker02"))
    sync(balancer)
    speakers.calls = []
    changed = store.get("services", "seminar", "webserver")
    changed["spec"]["externalTrafficPolicy"] = "Local"
    store.update("services", changed)
    sync(balancer)
    assert speakers.calls == [("withdraw", "worker01", "192.168.1.56"), ("announce", "worker02", "192.168.1.56")]
    assert balancer.announced == {"192.168.1.56": ("worker02",)}


def test_an_address_goes_silent_with_the_last_endpoint(store, speakers, balancer):
    svc = create(store, "webserver")
    give_endpoints(store, svc, endpoint("10.0.5.8", "worker01"))
    sync(balancer)
    give_endpoints(store, svc)
    sync(balancer)
    assert speakers.calls[-1] == ("withdraw", "worker01", "192.168.1.56") and balancer.announced == {}
    assert addresses(store, "webserver") == [("192.168.1.56", "VIP")]


def test_a_node_that_is_not_ready_loses_its_addresses(store, speakers, balancer):
    svc = create(store, "webserver")
    give_endpoints(store, svc, endpoint("10.0.30.88", "worker02"))
    sync(balancer)
    store.update("nodes", node("worker01", "192.168.1.45", ready="Unknown"), subresource="status")
    sync(balancer)
    assert balancer.announced == {"192.168.1.56": ("worker02",)}


def test_a_deleted_service_sets_its_address_free(store, speakers, balancer):
    svc = create(store, "webserver")
    give_endpoints(store, svc, endpoint("10.0.5.8", "worker01"))
    sync(balancer)
    store.delete("services", "seminar", "webserver")
    sync(balancer)
    assert balancer.announced == {}
    create(store, "another")
    sync(balancer)
    assert addresses(store, "another") == [("192.168.1.56", "VIP")]


def test_a_service_that_is_no_load_balancer_any_more_gives_its_address_back(store, balancer):
    create(store, "webserver")
    sync(balancer)
    changed = store.get("services", "seminar", "webserver")
    changed["spec"]["type"] = "ClusterIP"
    for field in ("externalTrafficPolicy", "allocateLoadBalancerNodePorts"):
        changed["spec"].pop(field, None)
    for port in changed["spec"]["ports"]:
        port.pop("nodePort", None)
    store.update("services", changed)
    sync(balancer)
    assert addresses(store, "webserver") == []


def test_an_exhausted_pool_is_told_once_and_mended_later(store, balancer):
    for name in ("one", "two", "three"):
        create(store, name)
    sync(balancer)
    sync(balancer)
    without = [name for name in ("one", "two", "three") if not addresses(store, name)]
    assert len(without) == 1
    (failed,) = [event for event in store.list("events") if event["reason"] == "AllocationFailed"]
    assert failed["message"] == f'Failed to allocate IP for "seminar/{without[0]}": no available IPs'
    assert failed["type"] == "Warning" and failed["count"] == 1
    has_one = next(name for name in ("one", "two", "three") if name not in without)
    store.delete("services", "seminar", has_one)
    sync(balancer)
    assert addresses(store, without[0])


def test_an_announcement_that_fails_is_told_and_tried_again(store, speakers, balancer):
    svc = create(store, "webserver")
    give_endpoints(store, svc, endpoint("10.0.5.8", "worker01"))
    speakers.broken = {"worker01"}
    sync(balancer)
    assert balancer.announced == {} and "announceFailed" in [reason for reason, _ in told(store)]
    speakers.broken = set()
    sync(balancer)
    assert balancer.announced == {"192.168.1.56": ("worker01",)}


@pytest.fixture
def by_bgp(store, speakers):
    return LoadBalancer(store, speakers, topology(announce="bgp"), POOL)


def set_policy(store, name, policy):
    changed = store.get("services", "seminar", name)
    changed["spec"]["externalTrafficPolicy"] = policy
    store.update("services", changed)


REPLACE = "ip -n router route replace 192.168.1.56/32"


def test_by_bgp_the_route_follows_in_one_step_and_each_new_node_says_so(store, speakers, by_bgp):
    svc = create(store, "webserver")
    give_endpoints(store, svc, endpoint("10.0.30.88", "worker02"))
    sync(by_bgp)
    sync(by_bgp)
    set_policy(store, "webserver", "Local")
    sync(by_bgp)
    give_endpoints(store, svc, endpoint("10.0.5.8", "worker01"))
    sync(by_bgp)
    give_endpoints(store, svc)
    sync(by_bgp)
    assert speakers.calls == [
        f"{REPLACE} nexthop via 192.168.1.45 nexthop via 192.168.1.46\n",
        f"{REPLACE} nexthop via 192.168.1.46\n",
        f"{REPLACE} nexthop via 192.168.1.45\n",
        "ip -n router route del 192.168.1.56/32\n",
    ]
    assert by_bgp.announced == {}
    events = [event for event in store.list("events") if event["reason"] == "nodeAssigned"]
    assert {(event["message"], event["count"], event["source"]["host"]) for event in events} == {
        ('announcing from node "worker01" with protocol "bgp"', 2, "worker01"),
        ('announcing from node "worker02" with protocol "bgp"', 1, "worker02"),
    }


def test_by_bgp_services_that_share_an_address_are_announced_by_the_nodes_of_each(store, speakers, by_bgp):
    shared = {"metadata": {"annotations": {"metallb.io/allow-shared-ip": "x"}}}
    one, two = create(store, "one"), create(store, "two")
    for name, port in (("one", 80), ("two", 81)):
        changed = store.get("services", "seminar", name)
        changed["metadata"] |= shared["metadata"]
        changed["spec"]["loadBalancerIP"] = "192.168.1.56"
        changed["spec"]["ports"][0]["port"] = port
        store.update("services", changed)
    give_endpoints(store, one)
    give_endpoints(store, two, endpoint("10.0.5.8", "worker01"))
    sync(by_bgp)
    assert by_bgp.announced == {"192.168.1.56": ("worker01", "worker02")}
    assert {event["involvedObject"]["name"] for event in store.list("events") if event["reason"] == "nodeAssigned"} == {
        "two"
    }


def test_by_bgp_a_route_that_fails_is_told_and_tried_again(store, speakers, by_bgp):
    svc = create(store, "webserver")
    give_endpoints(store, svc, endpoint("10.0.5.8", "worker01"))
    speakers.broken = {"router"}
    sync(by_bgp)
    assert by_bgp.announced == {}
    assert [reason for reason, _ in told(store)].count("announceFailed") == 2
    speakers.broken = set()
    sync(by_bgp)
    assert by_bgp.announced == {"192.168.1.56": ("worker01", "worker02")}
