"""The rules of proxy mode iptables: equal to a real kube-proxy v1.36.2, and right where that says nothing."""

from __future__ import annotations

import re

import pytest

from srcip_nb.lab.proxy.iptables import Features, Renderer, chain_hash, iptables_rules, probability
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.ruleset import Ruleset, from_text
from srcip_nb.lab.proxy.state import ServiceMap
from tests.lab.kube_proxy_truth import recorded, written
from tests.lab.proxy_objects import NODES, endpoint, endpoint_slice, service

SHARED_CHAINS = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL")


def service_of(rule: str) -> str:
    found = re.search(r'--comment "([^" ]+/[^" ]+)', rule)
    return found[1] if found else "~"


def comparable(text: str) -> Ruleset:
    """Tables, chains and rules in order; between Services, where kube-proxy keeps no order, that of their names."""
    ruleset = from_text(text)
    for chains in ruleset.values():
        for chain in SHARED_CHAINS:
            if chain in chains:
                chains[chain] = tuple(sorted(chains[chain], key=service_of))
    return ruleset


def rules(*objects, node: str = "worker01", **kwargs) -> Ruleset:
    services = [obj for obj in objects if obj["kind"] == "Service"]
    slices = [obj for obj in objects if obj["kind"] == "EndpointSlice"]
    return from_text(iptables_rules(services, slices, NODES, node, **kwargs))


@recorded("iptables")
def test_equal_to_what_a_real_kube_proxy_wrote(truth):
    assert comparable(written(iptables_rules, truth)) == comparable(truth.read_text(encoding="utf-8"))


def test_chain_names():
    assert chain_hash("default/webserver" + "tcp") == "UMJOY2TYQGVV2BKY"
    assert chain_hash("ns2/svc2:p80" + "tcp") == "GNZBNJ2PO5MGZ6GT"


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (2, "0.50000000000"),
        (3, "0.33333333349"),
        (5, "0.20000000019"),
        (7, "0.14285714272"),
        (11, "0.09090909082"),
        (12, "0.08333333349"),
    ],
)
def test_probabilities_are_shown_as_the_kernel_keeps_them(n, shown):
    # 2**-31 steps; checked against iptables-legacy-save 1.8.9.
    assert probability(n) == shown


def test_more_than_ten_endpoints_share_evenly():
    svc = service()
    slices = endpoint_slice(svc, *(endpoint(f"10.0.5.{n}", "worker01") for n in range(1, 13)))
    chain = next(rules for name, rules in rules(svc, slices)["nat"].items() if name.startswith("KUBE-SVC-"))
    chances = [float(found[1]) if (found := re.search(r"--probability (\S+)", rule)) else 1.0 for rule in chain[1:]]
    left, shares = 1.0, []
    for chance in chances:
        shares.append(left * chance)
        left -= left * chance
    assert len(shares) == 12 and all(abs(share - 1 / 12) < 1e-8 for share in shares)


def vip_service(**spec):
    port = {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}
    spec = {"type": "LoadBalancer", "ports": [port], "ingress": [{"ip": "192.168.1.56"}], **spec}
    return service(**spec)


def test_source_ranges_with_policy_local():
    svc = vip_service(
        externalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        loadBalancerSourceRanges=["192.168.1.45/32", "10.9.0.0/16"],
    )
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.30.88", "worker02")))
    x = chain_hash("seminar/web:httptcp")
    comment = '-m comment --comment "seminar/web:http loadbalancer IP"'
    assert written["nat"][f"KUBE-FW-{x}"] == (
        f"-s 192.168.1.45/32 {comment} -j KUBE-EXT-{x}",
        f"-s 10.9.0.0/16 {comment} -j KUBE-EXT-{x}",
        f"-s 192.168.1.56/32 {comment} -j KUBE-EXT-{x}",
        '-m comment --comment "other traffic to seminar/web:http will be dropped by KUBE-PROXY-FIREWALL"',
    )
    assert f"-s 192.168.1.56/32 {comment} -j KUBE-EXT-{x}" not in rules(svc, node="worker02")["nat"].get(
        f"KUBE-FW-{x}", ()
    )
    assert written["filter"]["KUBE-PROXY-FIREWALL"] == (
        f'-d 192.168.1.56/32 -p tcp -m comment --comment "seminar/web:http traffic not accepted by KUBE-FW-{x}"'
        " -m tcp --dport 80 -j DROP",
    )
    assert [rule.split()[-1] for rule in written["filter"]["KUBE-EXTERNAL-SERVICES"]] == ["DROP", "DROP"]


def test_source_ranges_without_endpoints_make_no_firewall():
    written = rules(vip_service(loadBalancerSourceRanges=["192.168.1.0/24"]))
    assert written["filter"]["KUBE-PROXY-FIREWALL"] == ()
    assert len(written["filter"]["KUBE-EXTERNAL-SERVICES"]) == 2  # the VIP and the node port, refused


def test_session_affinity_with_policy_local():
    svc = vip_service(externalTrafficPolicy="Local", sessionAffinity="ClientIP")
    nat = rules(svc, endpoint_slice(svc, endpoint("10.0.5.8", "worker01"), endpoint("10.0.5.9", "worker01")))["nat"]
    local = nat["KUBE-SVL-" + chain_hash("seminar/web:httptcp")]
    seps = ["KUBE-SEP-" + chain_hash(f"seminar/web:httptcp10.0.5.{n}:80") for n in (8, 9)]
    assert [rule.split()[-1] for rule in local] == [*seps, *seps]
    remembered = (
        f"-m recent --rcheck --seconds 10800 --reap --name {seps[0]} --mask 255.255.255.255 --rsource -j {seps[0]}"
    )
    assert local[0] == f'-m comment --comment "seminar/web:http -> 10.0.5.8:80" {remembered}'
    assert f"-m recent --set --name {seps[0]} --mask 255.255.255.255 --rsource" in nat[seps[0]][1]


@pytest.mark.parametrize(("policy", "filtered"), [("Cluster", 0), ("Local", 1)])
def test_external_ips_follow_the_external_policy(policy, filtered):
    svc = service(externalIPs=["192.168.1.200"], externalTrafficPolicy=policy)
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.30.88", "worker02")))
    to_it = [rule for rule in written["nat"]["KUBE-SERVICES"] if "external IP" in rule]
    assert len(to_it) == 1 and "-d 192.168.1.200/32" in to_it[0] and "-j KUBE-EXT-" in to_it[0]
    assert len(written["filter"]["KUBE-EXTERNAL-SERVICES"]) == filtered
    external = written["nat"]["KUBE-EXT-" + chain_hash("seminar/webtcp")]
    assert len(external) == {"Cluster": 2, "Local": 3}[policy]


def test_both_policies_local():
    svc = vip_service(externalTrafficPolicy="Local", internalTrafficPolicy="Local")
    slices = endpoint_slice(svc, endpoint("10.0.30.88", "worker02"))
    x = chain_hash("seminar/web:httptcp")
    nowhere = rules(svc, slices, node="worker01")
    assert '"seminar/web:http has no local endpoints"' in nowhere["filter"]["KUBE-SERVICES"][0]
    assert f"KUBE-SVC-{x}" in nowhere["nat"] and f"KUBE-SVL-{x}" not in nowhere["nat"]
    here = rules(svc, slices, node="worker02")["nat"]
    assert here[f"KUBE-SVL-{x}"][0].startswith("! -s 10.0.0.0/16 -d 10.1.0.10/32") and len(here[f"KUBE-SVL-{x}"]) == 2
    assert len(here[f"KUBE-SVC-{x}"]) == 1


def test_a_load_balancer_without_node_ports():
    svc = vip_service(ports=[{"port": 80, "protocol": "TCP"}], allocateLoadBalancerNodePorts=False)
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.5.8", "worker01")))
    assert written["nat"]["KUBE-NODEPORTS"] == ()
    assert any("loadbalancer IP" in rule for rule in written["nat"]["KUBE-SERVICES"])


def test_mode_proxy_has_no_rules_for_the_address():
    svc = vip_service(ingress=[{"ip": "192.168.1.56", "ipMode": "Proxy"}])
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.5.8", "worker01")))
    assert "192.168.1.56" not in str(written)
    assert len(written["nat"]["KUBE-NODEPORTS"]) == 2


def test_udp_and_several_ports():
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "nodePort": 30054},
    ]
    svc = service(type="NodePort", ports=ports)
    targets = [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5353, "protocol": "TCP"}]
    nat = rules(svc, endpoint_slice(svc, endpoint("10.0.5.8", "worker01"), ports=targets))["nat"]
    udp = "KUBE-SVC-" + chain_hash("seminar/web:dnsudp")
    assert (
        f'-d 10.1.0.10/32 -p udp -m comment --comment "seminar/web:dns cluster IP" -m udp --dport 53 -j {udp}'
        in nat["KUBE-SERVICES"]
    )
    sep = nat["KUBE-SEP-" + chain_hash("seminar/web:dnsudp10.0.5.8:5353")]
    assert sep[1] == '-p udp -m comment --comment "seminar/web:dns" -m udp -j DNAT --to-destination 10.0.5.8:5353'
    assert "KUBE-SVC-" + chain_hash("seminar/web:dns-tcptcp") in nat


def test_a_health_check_port_is_let_in_whether_or_not_there_are_endpoints():
    written = rules(vip_service(externalTrafficPolicy="Local", healthCheckNodePort=31000))
    assert written["filter"]["KUBE-NODEPORTS"] == (
        '-p tcp -m comment --comment "seminar/web:http health check node port" -m tcp --dport 31000 -j ACCEPT',
    )


def test_large_clusters_have_no_comments_at_endpoints():
    svc = service()
    slices = [
        endpoint_slice(svc, *(endpoint(f"10.0.{a}.{b}") for b in range(1, 251)), suffix=str(a)) for a in range(1, 5)
    ]
    at_limit = rules(svc, *slices)["nat"]
    beyond = rules(svc, *slices, endpoint_slice(svc, endpoint("10.0.9.1"), suffix="9"))["nat"]
    chain = "KUBE-SVC-" + chain_hash("seminar/webtcp")
    sep = "KUBE-SEP-" + chain_hash("seminar/webtcp10.0.1.1:80")
    assert all("comment" in rule for rule in at_limit[chain] + at_limit[sep])
    assert "comment" in beyond[chain][0] and not any("comment" in rule for rule in beyond[chain][1:] + beyond[sep])


def test_without_nfacct_no_rule_counts():
    svc = vip_service()
    slices = endpoint_slice(svc, endpoint("10.0.5.8", "worker01"))
    with_it, without = rules(svc, slices), rules(svc, slices, features=Features(nfacct=False))
    assert "nfacct" in str(with_it) and "nfacct" not in str(without)
    assert len(without["nat"]["KUBE-NODEPORTS"]) == len(with_it["nat"]["KUBE-NODEPORTS"]) - 1


def test_another_cluster_cidr():
    svc = vip_service(externalTrafficPolicy="Local")
    text = str(rules(svc, endpoint_slice(svc, endpoint("10.0.5.8")), cluster_cidr="10.244.0.0/16"))
    assert "10.244.0.0/16" in text and "10.0.0.0/16" not in text


def test_an_unchanged_service_is_not_written_again():
    one, two = service("one"), service("two", clusterIP="10.1.0.11")
    state, renderer = ServiceMap(), Renderer(Node("worker01", "192.168.1.45"))
    state.update_from(
        [one, two], [endpoint_slice(one, endpoint("10.0.5.8")), endpoint_slice(two, endpoint("10.0.5.9"))]
    )
    before = renderer.ruleset(state)["nat"]
    state.update_from(
        [one, two], [endpoint_slice(one, endpoint("10.0.5.7")), endpoint_slice(two, endpoint("10.0.5.9"))]
    )
    after = renderer.ruleset(state)["nat"]
    kept, gone = ("KUBE-SVC-" + chain_hash(f"seminar/{name}tcp") for name in ("two", "one"))
    assert after[kept] is before[kept] and after[gone] != before[gone]
    fresh = Renderer(Node("worker01", "192.168.1.45")).ruleset(state)["nat"]
    assert after == fresh
