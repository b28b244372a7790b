from __future__ import annotations

import pytest

from srcip_nb.lab.proxy.vips import POOL_NAME, allocate, bgp_nodes, leader, pool_addresses, route_text
from srcip_nb.lab.topology import topology
from tests.lab.proxy_objects import NODES, endpoint, endpoint_slice, node, service

POOL = pool_addresses("192.168.1.56", "192.168.1.58")
VIP = "192.168.1.56"
WORKERS = NODES[1:]


def balancer(name="web", **spec):
    return service(name, **{"type": "LoadBalancer", **spec})


def addresses(*services):
    return {name: assignment.addresses for (_, name), assignment in allocate(services, POOL).items()}


def error_of(svc, *others):
    return allocate([*others, svc], POOL)[svc["metadata"]["namespace"], svc["metadata"]["name"]].error


def test_the_pool_has_both_ends():
    assert POOL == ("192.168.1.56", "192.168.1.57", "192.168.1.58")
    assert len(pool_addresses("192.168.1.56", "192.168.1.121")) == 66


def test_the_oldest_service_gets_the_first_address():
    younger = balancer("a", creationTimestamp="2026-11-22T14:00:02Z")
    older = balancer("b", creationTimestamp="2026-11-22T14:00:01Z")
    assert addresses(younger, older) == {"b": ("192.168.1.56",), "a": ("192.168.1.57",)}


def test_who_has_an_address_keeps_it():
    has_one = balancer("b", ingress=[{"ip": VIP}], creationTimestamp="2026-11-22T14:00:02Z")
    older = balancer("a", creationTimestamp="2026-11-22T14:00:01Z")
    decided = allocate([older, has_one], POOL)
    assert decided["seminar", "b"].addresses == (VIP,) and not decided["seminar", "b"].is_new
    assert decided["seminar", "a"].addresses == ("192.168.1.57",) and decided["seminar", "a"].is_new


def test_only_load_balancers_without_a_class_get_one():
    assert addresses(service("a", type="NodePort"), balancer("b", loadBalancerClass="example.org/lb")) == {}


@pytest.mark.parametrize(
    "spec",
    [
        {"loadBalancerIP": "192.168.1.58"},
        {"annotations": {"metallb.io/loadBalancerIPs": "192.168.1.58"}},
        {"annotations": {"metallb.universe.tf/loadBalancerIPs": " 192.168.1.58 "}},
    ],
)
@pytest.mark.parametrize("present", [None, [{"ip": VIP}]])
def test_an_address_can_be_asked_for(spec, present):
    decided = allocate([balancer(ingress=present, **spec)], POOL)["seminar", "web"]
    assert decided.addresses == ("192.168.1.58",) and decided.is_new


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"loadBalancerIP": "192.168.1.7"}, '["192.168.1.7"] is not allowed in config'),
        ({"loadBalancerIP": "nonsense"}, 'invalid spec.loadBalancerIP "nonsense"'),
        (
            {"annotations": {"metallb.io/loadBalancerIPs": "192.168.1.56,x"}},
            'invalid metallb.io/loadBalancerIPs: "192.168.1.56,x"',
        ),
        (
            {"annotations": {"metallb.io/loadBalancerIPs": "192.168.1.56,192.168.1.57"}},
            '"192.168.1.56" "192.168.1.57" has the same family',
        ),
        (
            {"loadBalancerIP": VIP, "annotations": {"metallb.io/loadBalancerIPs": VIP}},
            "service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP",
        ),
        ({"annotations": {"metallb.io/address-pool": "second"}}, 'unknown pool "second"'),
    ],
)
def test_what_cannot_be_given_is_said_in_metallbs_words(spec, words):
    assert error_of(balancer(**spec)) == words


def test_the_pool_can_be_named():
    assert addresses(balancer(annotations={"metallb.io/address-pool": POOL_NAME})) == {"web": (VIP,)}


def test_an_address_in_use_is_not_given_twice():
    other = balancer("other", ingress=[{"ip": VIP}])
    asked_for = error_of(balancer(loadBalancerIP=VIP), other)
    assert asked_for == 'can\'t change sharing key for "seminar/web", address also in use by seminar/other'
    assert addresses(other, balancer()) == {"other": (VIP,), "web": ("192.168.1.57",)}


def test_an_empty_pool():
    others = [balancer(f"s{n}", ingress=[{"ip": address}]) for n, address in enumerate(POOL)]
    assert error_of(balancer(), *others) == "no available IPs"


def test_a_request_that_cannot_be_read_leaves_the_present_address():
    decided = allocate([balancer(ingress=[{"ip": VIP}], loadBalancerIP="nonsense")], POOL)["seminar", "web"]
    assert decided.addresses == (VIP,)
    assert decided.error == 'invalid requested loadbalancer IPs: invalid spec.loadBalancerIP "nonsense"'


SHARED = {"annotations": {"metallb.io/allow-shared-ip": "x", "metallb.io/loadBalancerIPs": VIP}}


def test_an_address_can_be_shared_by_different_ports():
    one = balancer("one", ingress=[{"ip": VIP}], **SHARED)
    two = balancer("two", ports=[{"port": 443, "protocol": "TCP"}], **SHARED)
    assert addresses(one, two) == {"one": (VIP,), "two": (VIP,)}
    assert error_of(balancer("two", **SHARED), one) == 'port TCP/80 is already in use on "192.168.1.56"'


def test_policy_local_shares_only_with_the_same_pods():
    spec = {"externalTrafficPolicy": "Local", **SHARED}
    one = balancer("one", ingress=[{"ip": VIP}], selector={"app": "a"}, **spec)
    port = [{"port": 443, "protocol": "TCP"}]
    assert error_of(balancer("two", ports=port, selector={"app": "a"}, **spec), one) == ""
    assert "can't change sharing key" in error_of(balancer("two", ports=port, selector={"app": "b"}, **spec), one)


def leads(svc, *endpoints, nodes=WORKERS, vip=VIP):
    return leader(vip, nodes, svc, [endpoint_slice(svc, *endpoints)])


ON_BOTH = (endpoint("10.0.5.8", "worker01"), endpoint("10.0.30.88", "worker02"))


def test_the_leader_is_the_first_by_hash():
    # sha256("worker01#192.168.1.56") begins with 082f, that of worker02 with 394b; for .57 it is 68c3 and 65aa.
    assert leads(balancer(), *ON_BOTH) == "worker01"
    assert leads(balancer(), *ON_BOTH, vip="192.168.1.57") == "worker02"


def test_under_local_only_nodes_with_an_endpoint_lead():
    local = balancer(externalTrafficPolicy="Local")
    assert leads(local, ON_BOTH[1]) == "worker02"
    assert leads(balancer(), ON_BOTH[1]) == "worker01"


@pytest.mark.parametrize("state", ["starting", "gone"])
def test_nobody_leads_without_an_endpoint_that_serves(state):
    assert leads(balancer()) is None
    assert leads(balancer(), endpoint("10.0.5.8", "worker01", state)) is None


def test_an_endpoint_that_is_terminating_but_serves_counts():
    local = balancer(externalTrafficPolicy="Local")
    assert leads(local, endpoint("10.0.30.88", "worker02", "terminating")) == "worker02"


@pytest.mark.parametrize(
    "unfit",
    [
        node("worker01", "192.168.1.45", ready="False"),
        node("worker01", "192.168.1.45", ready="Unknown"),
        node("worker01", "192.168.1.45", **{"node.kubernetes.io/exclude-from-external-load-balancers": ""}),
    ],
)
def test_a_node_that_is_not_fit_does_not_lead(unfit):
    assert leads(balancer(), *ON_BOTH, nodes=[unfit, WORKERS[1]]) == "worker02"
    assert leads(balancer(), *ON_BOTH, nodes=[unfit]) is None


def test_a_cordoned_node_may_lead():
    cordoned = node("worker01", "192.168.1.45") | {"spec": {"unschedulable": True}}
    assert leads(balancer(), *ON_BOTH, nodes=[cordoned, WORKERS[1]]) == "worker01"


def test_other_services_endpoints_do_not_count():
    svc, other = balancer(), balancer("other")
    assert leader(VIP, WORKERS, svc, [endpoint_slice(other, *ON_BOTH)]) is None


def announce(svc, *endpoints, nodes=NODES):
    return bgp_nodes(nodes, svc, [endpoint_slice(svc, *endpoints)])


def test_by_bgp_every_node_announces_under_cluster_and_those_with_an_endpoint_under_local():
    local = balancer(externalTrafficPolicy="Local")
    assert announce(balancer(), ON_BOTH[1], nodes=WORKERS) == ("worker01", "worker02")
    assert announce(local, *ON_BOTH, nodes=WORKERS) == ("worker01", "worker02")
    assert announce(local, ON_BOTH[1], nodes=WORKERS) == ("worker02",)


@pytest.mark.parametrize("state", ["starting", "gone"])
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_by_bgp_an_endpoint_that_does_not_serve_does_not_count(policy, state):
    svc = balancer(externalTrafficPolicy=policy)
    assert announce(svc) == announce(svc, endpoint("10.0.5.8", "worker01", state)) == ()
    assert announce(svc, endpoint("10.0.5.8", "worker01", "terminating"), nodes=WORKERS[:1]) == ("worker01",)


def test_by_bgp_an_endpoint_has_to_serve_in_every_slice_that_has_it():
    svc = balancer(externalTrafficPolicy="Local")
    pieces = [[ON_BOTH[0], ON_BOTH[1]], [endpoint("10.0.5.8", "worker01", "starting")]]
    slices = [endpoint_slice(svc, *piece) for piece in pieces]
    assert bgp_nodes(WORKERS, svc, slices) == bgp_nodes(WORKERS, svc, slices[::-1]) == ("worker02",)


@pytest.mark.parametrize(
    "unfit",
    [
        node("worker01", "192.168.1.45", ready="Unknown"),
        node("worker01", "192.168.1.45", **{"node.kubernetes.io/exclude-from-external-load-balancers": ""}),
    ],
)
def test_by_bgp_a_node_that_is_not_fit_does_not_announce(unfit):
    assert announce(balancer(), *ON_BOTH, nodes=[unfit, WORKERS[1]]) == ("worker02",)
    assert announce(balancer(externalTrafficPolicy="Local"), ON_BOTH[0], nodes=[unfit, WORKERS[1]]) == ()


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (
            ["worker01", "worker02"],
            "ip -n router route replace 192.168.1.56/32 nexthop via 192.168.1.45 nexthop via 192.168.1.46\n",
        ),
        (["worker02"], "ip -n router route replace 192.168.1.56/32 nexthop via 192.168.1.46\n"),
        ([], "ip -n router route del 192.168.1.56/32\n"),
    ],
)
def test_the_routers_route(nodes, text):
    assert route_text(topology(), VIP, nodes) == text
