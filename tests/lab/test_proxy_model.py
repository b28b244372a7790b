from __future__ import annotations

import pytest

from srcip_nb.lab.proxy.model import Node, Plan, endpoints_by_port, ipv4, plan, service_key, service_ports
from srcip_nb.lab.proxy.state import ServiceMap
from tests.lab.proxy_objects import endpoint, endpoint_slice, node, service

WORKER01 = Node("worker01", "192.168.1.45", "zone-a")


def planned(svc, *endpoints, on=WORKER01) -> Plan:
    (port,) = service_ports(svc)
    by_port = endpoints_by_port([endpoint_slice(svc, *endpoints)])
    return plan(port, by_port.get(("", "tcp"), ()), on)


def addresses(endpoints) -> list[str]:
    return [e.ip for e in endpoints]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.5.8", "10.0.5.8"),
        ("010.000.005.08", "10.0.5.8"),
        (" 10.0.5.8", "10.0.5.8"),
        ("10.0.5.256", None),
        ("10.0.5", None),
        ("fd00::1", None),
        ("None", None),
        ("", None),
    ],
)
def test_addresses_are_read_as_kubernetes_reads_them(text, address):
    assert ipv4(text) == address


@pytest.mark.parametrize(
    "svc",
    [
        service(clusterIP="None"),
        service(clusterIP=""),
        service(type="ExternalName", externalName="example.org"),
        service(clusterIP="fd00::1"),
        service(clusterIP="fd00::1", clusterIPs=["fd00::1"], ipFamilies=["IPv6"]),
        service(labels={"service.kubernetes.io/service-proxy-name": "another"}),
        service(labels={"service.kubernetes.io/service-proxy-name": ""}),
    ],
)
def test_some_services_are_not_proxied(svc):
    assert service_ports(svc) == []


def test_the_ipv4_address_of_a_dual_stack_service_counts():
    svc = service(clusterIP="fd00::1", clusterIPs=["fd00::1", "10.1.0.9"], ipFamilies=["IPv6", "IPv4"])
    assert service_ports(svc)[0].cluster_ip == "10.1.0.9"


def test_load_balancer_addresses_of_mode_proxy_are_left_to_the_load_balancer():
    svc = service(ingress=[{"ip": "192.168.1.56"}, {"ip": "192.168.1.57", "ipMode": "Proxy"}, {"hostname": "lb"}])
    assert service_ports(svc)[0].load_balancer_vips == ("192.168.1.56",)


@pytest.mark.parametrize(
    ("ranges", "networks"),
    [
        (["203.0.113.7/24", " 192.168.1.0/25 "], ["203.0.113.0/24", "192.168.1.0/25"]),
        (["203.0.113.0/24", "0.0.0.0/0"], []),
        (["fd00::/8"], []),
    ],
)
def test_source_ranges(ranges, networks):
    (port,) = service_ports(service(loadBalancerSourceRanges=ranges))
    assert [str(network) for network in port.source_ranges] == networks


@pytest.mark.parametrize(
    ("kind", "extra", "is_local", "health_check"),
    [
        ("LoadBalancer", {}, True, 30000),
        ("NodePort", {}, True, 0),
        ("ClusterIP", {"externalIPs": ["192.168.1.200"]}, True, 0),
        ("ClusterIP", {}, False, 0),
    ],
)
def test_the_external_policy_counts_only_for_external_services(kind, extra, is_local, health_check):
    (port,) = service_ports(service(type=kind, externalTrafficPolicy="Local", healthCheckNodePort=30000, **extra))
    assert (port.external_policy_local, port.health_check_node_port) == (is_local, health_check)


def test_session_affinity_lasts_three_hours_unless_said():
    assert service_ports(service())[0].affinity_seconds is None
    assert service_ports(service(sessionAffinity="ClientIP"))[0].affinity_seconds == 10800
    config = {"clientIP": {"timeoutSeconds": 60}}
    assert service_ports(service(sessionAffinity="ClientIP", sessionAffinityConfig=config))[0].affinity_seconds == 60


def test_endpoints_are_in_order_of_their_text_and_counted_once():
    svc = service()
    first = endpoint_slice(svc, endpoint("10.0.5.9"), endpoint("10.0.5.10"), endpoint("10.0.5.8"))
    second = endpoint_slice(svc, endpoint("10.0.5.8", state="terminating"), endpoint("10.0.30.88"), suffix="y")
    found = endpoints_by_port([first, second])["", "tcp"]
    assert addresses(found) == ["10.0.30.88", "10.0.5.10", "10.0.5.8", "10.0.5.9"]
    assert all(e.ready for e in found)


def test_endpoints_belong_to_a_port_by_name_and_protocol():
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns", "port": 5353, "protocol": "TCP"}]
    found = endpoints_by_port([endpoint_slice(service(), endpoint("10.0.5.8"), ports=ports)])
    assert {key: [e.text for e in endpoints] for key, endpoints in found.items()} == {
        ("dns", "udp"): ["10.0.5.8:53"],
        ("dns", "tcp"): ["10.0.5.8:5353"],
    }


def test_slices_that_kube_proxy_does_not_watch():
    svc = service()
    assert service_key(endpoint_slice(svc)) == ("seminar", "web")
    for change in ({"addressType": "IPv6"}, {"metadata": {"name": "x", "labels": {}}}):
        assert service_key(endpoint_slice(svc) | change) is None
    headless = endpoint_slice(svc)
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    assert service_key(headless) is None


def test_a_missing_condition_means_ready():
    svc = service()
    (found,) = endpoints_by_port([endpoint_slice(svc, {"addresses": ["10.0.5.8"]})])["", "tcp"]
    assert (found.ready, found.serving, found.terminating) == (True, True, False)


LOCAL = {"type": "NodePort", "externalTrafficPolicy": "Local"}
LOCAL_PORTS = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]


def test_policy_local_with_an_endpoint_here():
    chosen = planned(
        service(**LOCAL, ports=LOCAL_PORTS), endpoint("10.0.5.8", "worker01"), endpoint("10.0.30.88", "worker02")
    )
    assert addresses(chosen.local_endpoints) == ["10.0.5.8"]
    assert addresses(chosen.cluster_endpoints) == ["10.0.30.88", "10.0.5.8"]
    assert chosen.has_external_endpoints and chosen.has_internal_endpoints


def test_policy_local_without_an_endpoint_here_keeps_the_way_for_pods_and_the_host():
    chosen = planned(service(**LOCAL, ports=LOCAL_PORTS), endpoint("10.0.30.88", "worker02"))
    assert chosen.has_endpoints and not chosen.has_external_endpoints
    assert chosen.uses_external_traffic and chosen.uses_cluster_policy and not chosen.uses_local_policy


@pytest.mark.parametrize("state", ["starting", "gone"])
def test_endpoints_that_serve_nobody(state):
    chosen = planned(service(), endpoint("10.0.5.8", "worker01", state))
    assert not chosen.has_endpoints and chosen.reachable_endpoints == ()


def test_terminating_endpoints_serve_only_when_no_ready_one_is_left():
    going, ready = endpoint("10.0.5.8", "worker01", "terminating"), endpoint("10.0.30.88", "worker02")
    assert addresses(planned(service(), going, ready).cluster_endpoints) == ["10.0.30.88"]
    assert addresses(planned(service(), going).cluster_endpoints) == ["10.0.5.8"]
    assert planned(service(), going).has_endpoints


def test_for_policy_local_only_this_nodes_endpoints_decide_about_terminating_ones():
    svc = service(**LOCAL, ports=LOCAL_PORTS)
    chosen = planned(svc, endpoint("10.0.5.8", "worker01", "terminating"), endpoint("10.0.30.88", "worker02"))
    assert addresses(chosen.local_endpoints) == ["10.0.5.8"]
    assert addresses(chosen.cluster_endpoints) == ["10.0.30.88"]
    assert addresses(chosen.reachable_endpoints) == ["10.0.30.88", "10.0.5.8"]


def test_internal_policy_local_alone_needs_no_cluster_endpoints():
    svc = service(internalTrafficPolicy="Local")
    elsewhere = planned(svc, endpoint("10.0.30.88", "worker02"))
    assert elsewhere.has_endpoints and not elsewhere.has_internal_endpoints
    assert elsewhere.reachable_endpoints == () and not elsewhere.uses_cluster_policy
    here = planned(svc, endpoint("10.0.5.8", "worker01"), endpoint("10.0.30.88", "worker02"))
    assert addresses(here.reachable_endpoints) == ["10.0.5.8"] and here.has_internal_endpoints


ZONES = (
    endpoint("10.0.5.8", "worker01", zones=["zone-a"]),
    endpoint("10.0.30.88", "worker02", zones=["zone-b"]),
)


def test_zone_hints_narrow_the_choice():
    assert addresses(planned(service(), *ZONES).cluster_endpoints) == ["10.0.5.8"]


def test_a_hint_counts_only_if_every_ready_endpoint_has_one_and_one_names_this_place():
    everywhere = ["10.0.30.88", "10.0.5.8"]
    without_hint = (ZONES[0], endpoint("10.0.30.88", "worker02"))
    assert addresses(planned(service(), *without_hint).cluster_endpoints) == everywhere
    assert addresses(planned(service(), *ZONES, on=Node("n", "1.2.3.4", "zone-c")).cluster_endpoints) == everywhere
    assert addresses(planned(service(), *ZONES, on=Node("n", "1.2.3.4", "")).cluster_endpoints) == everywhere
    not_ready = (*ZONES, endpoint("10.0.5.9", "worker01", "starting"))
    assert addresses(planned(service(), *not_ready).cluster_endpoints) == ["10.0.5.8"]


def test_node_hints_come_before_zone_hints():
    both = (
        endpoint("10.0.5.8", "worker01", zones=["zone-a"], nodes=["worker01"]),
        endpoint("10.0.5.9", "worker03", zones=["zone-a"], nodes=["worker03"]),
    )
    assert addresses(planned(service(), *both).cluster_endpoints) == ["10.0.5.8"]
    elsewhere = Node("worker04", "192.168.1.48", "zone-a")
    assert addresses(planned(service(), *both, on=elsewhere).cluster_endpoints) == ["10.0.5.8", "10.0.5.9"]


def test_hints_do_not_touch_policy_local():
    svc = service(**LOCAL, ports=LOCAL_PORTS)
    here_for_another_zone = endpoint("10.0.5.8", "worker01", zones=["zone-b"])
    chosen = planned(svc, here_for_another_zone, endpoint("10.0.5.9", "worker03", zones=["zone-a"]))
    assert addresses(chosen.local_endpoints) == ["10.0.5.8"]
    assert addresses(chosen.cluster_endpoints) == ["10.0.5.9"]
    assert addresses(chosen.reachable_endpoints) == ["10.0.5.8", "10.0.5.9"]


def test_a_nodes_address_is_its_internal_one():
    assert Node.from_object(node("worker01", "192.168.1.45", "zone-a")) == WORKER01
    assert Node.from_object({"metadata": {"name": "n"}}) == Node("n", "127.0.0.1", "")


def test_the_state_tells_what_changed_and_keeps_the_rest():
    one, two = service("one"), service("two")
    state = ServiceMap()
    assert state.update_from([one, two], [endpoint_slice(one, endpoint("10.0.5.8"))]) == {
        ("seminar", "one"),
        ("seminar", "two"),
    }
    kept = state["seminar", "two"]
    # Equal objects, not the same ones: as after reading them again.
    again = [service("one"), service("two")]
    assert state.update_from(again, [endpoint_slice(one, endpoint("10.0.5.9"))]) == {("seminar", "one")}
    assert state["seminar", "two"] is kept
    assert state.endpoint_count == 1
    assert state.update_from(again[:1], []) == {("seminar", "one"), ("seminar", "two")}
    assert set(state) == {("seminar", "one")}


def test_a_service_that_becomes_headless_leaves_the_state():
    state = ServiceMap()
    state.update_from([service()], [])
    assert state.update_from([service(clusterIP="None")], []) == {("seminar", "web")} and not state
