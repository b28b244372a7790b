"""The rules of proxy mode nftables: equal to a real kube-proxy v1.36.2, and right where that says nothing."""

from __future__ import annotations

import pytest

from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.nftables import Renderer, duration, hashed_name, nftables_rules
from srcip_nb.lab.proxy.nfttable import Table, from_text
from srcip_nb.lab.proxy.state import ServiceMap
from tests.lab.kube_proxy_truth import TRUTH, recorded, written
from tests.lab.proxy_objects import NODES, endpoint, endpoint_slice, service


def tables(text: str) -> dict[str, Table]:
    """Tables by name; sets, maps, elements and chains in no order, rules in theirs."""
    return {table.name: table for table in from_text(text)}


def rules(*objects, node: str = "worker01", **kwargs) -> Table:
    services = [obj for obj in objects if obj["kind"] == "Service"]
    slices = [obj for obj in objects if obj["kind"] == "EndpointSlice"]
    return tables(nftables_rules(services, slices, NODES, node, **kwargs))["ip kube-proxy"]


def elements(table: Table, container: str) -> dict[str, str]:
    return table.containers[container].elements


def chain(table: Table, prefix: str) -> tuple[str, ...]:
    """The rules of the one chain with this prefix that belongs to a Service."""
    (found,) = (lines for name, lines in table.chains.items() if name.startswith(f"{prefix}-") and "/" in name)
    return found


@recorded("nftables")
def test_equal_to_what_a_real_kube_proxy_wrote(truth):
    assert tables(written(nftables_rules, truth)) == tables(truth.read_text(encoding="utf-8"))


def test_the_truth_is_read_whole():
    # What the reader lost on both sides alike, the comparison above would not see.
    text = (TRUTH / "source-ranges" / "worker01.nftables").read_text(encoding="utf-8")
    ip = tables(text)["ip kube-proxy"]
    assert len(ip.chains) == text.partition("table ip6")[0].count("\tchain ") == 19
    assert len(ip.containers) == 8 and ip.comment == "rules for kube-proxy"
    assert elements(ip, "firewall-ips") == {"192.168.1.57 . tcp . 80": " : goto firewall-M6GJO2G2-default/fw/tcp/"}
    assert chain(ip, "firewall") == ("ip saddr != { 192.168.1.0/25, 203.0.113.0/24 } drop",)


def test_chain_names():
    # The second is the example of servicePortChainNameBase, kubernetes v1.36.2 pkg/proxy/nftables/proxier.go.
    assert hashed_name("default/webserver/tcp/") == "S7VKD6ZB-default/webserver/tcp/"
    assert hashed_name("ns1/svc1/tcp/p80") == "ULMVA6XW-ns1/svc1/tcp/p80"
    long = hashed_name("n" * 63 + "/" + "s" * 63 + "/sctp/" + "p" * 63 + "__" + "1" * 60)
    assert len(long) == 240 and long.endswith("...")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(1, "1s"), (90, "1m30s"), (3600, "1h"), (10800, "3h"), (86400, "1d"), (90065, "1d1h1m5s")]
)
def test_times_are_shown_as_nft_shows_them(seconds, shown):
    assert duration(seconds) == shown


def vip_service(**spec):
    port = {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}
    spec = {"type": "LoadBalancer", "ports": [port], "ingress": [{"ip": "192.168.1.56"}], **spec}
    return service(**spec)


@pytest.mark.parametrize(
    ("ranges", "node", "shown"),
    [
        (["203.0.113.7/32"], "worker01", "203.0.113.7"),
        (["203.0.113.0/24"], "worker01", "203.0.113.0/24"),
        # worker01 itself may call, so it may with the VIP as source.
        (["192.168.1.0/24"], "worker01", "{ 192.168.1.0/24 }"),
        (["192.168.1.45/32", "10.9.8.7/16"], "worker01", "{ 10.9.0.0/16, 192.168.1.45, 192.168.1.56 }"),
        (["192.168.1.45/32", "10.9.8.7/16"], "worker02", "{ 10.9.0.0/16, 192.168.1.45 }"),
        (["10.0.1.0/24", "10.0.0.0/24"], "worker01", "{ 10.0.0.0/23 }"),
        (["10.0.1.0/24", "10.0.2.0/24", "10.0.2.0/25"], "worker01", "{ 10.0.1.0-10.0.2.255 }"),
    ],
)
def test_source_ranges_are_shown_as_the_kernel_keeps_them(ranges, node, shown):
    svc = vip_service(loadBalancerSourceRanges=ranges)
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.5.8", "worker01")), node=node)
    assert chain(written, "firewall") == (f"ip saddr != {shown} drop",)


def test_source_ranges_with_policy_local():
    svc = vip_service(externalTrafficPolicy="Local", loadBalancerSourceRanges=["203.0.113.0/24"])
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.30.88", "worker02")))
    (at, verdict), *_ = elements(written, "firewall-ips").items()
    assert at == "192.168.1.56 . tcp . 80" and verdict.startswith(" : goto firewall-")
    dropped = ' comment "seminar/web:http" : drop'
    assert elements(written, "no-endpoint-services") == {"192.168.1.56 . tcp . 80": dropped}
    assert elements(written, "no-endpoint-nodeports") == {"tcp . 30080": dropped}
    assert len(chain(written, "external")) == 3  # the node's own pods and the node go on to worker02


def test_a_firewall_stays_without_endpoints():
    # Unlike mode iptables: who is shut out gets no answer, everybody else is refused.
    written = rules(vip_service(loadBalancerSourceRanges=["203.0.113.0/24"]))
    refused = ' comment "seminar/web:http" : goto reject-chain'
    assert chain(written, "firewall") == ("ip saddr != 203.0.113.0/24 drop",)
    assert elements(written, "no-endpoint-services") == dict.fromkeys(
        ("10.1.0.10 . tcp . 80", "192.168.1.56 . tcp . 80"), refused
    )
    assert elements(written, "no-endpoint-nodeports") == {"tcp . 30080": refused}
    assert not elements(written, "service-ips") and not elements(written, "service-nodeports")


def test_session_affinity_with_policy_local():
    config = {"clientIP": {"timeoutSeconds": 90}}
    svc = vip_service(externalTrafficPolicy="Local", sessionAffinity="ClientIP", sessionAffinityConfig=config)
    ends = [endpoint("10.0.5.8", "worker01"), endpoint("10.0.5.9", "worker01"), endpoint("10.0.30.88", "worker02")]
    written = rules(svc, endpoint_slice(svc, *ends))
    names = [hashed_name(f"seminar/web/tcp/http__10.0.5.{n}/80") for n in (8, 9)]
    choices = ", ".join(f"{n} : goto endpoint-{name}" for n, name in enumerate(names))
    assert chain(written, "local") == (
        *(f"ip saddr @affinity-{name} goto endpoint-{name}" for name in names),
        f"numgen random mod 2 vmap {{ {choices} }}",
    )
    assert chain(written, "service")[-1].startswith("numgen random mod 3 vmap { 0 : goto endpoint-")
    assert written.chains[f"endpoint-{names[0]}"] == (
        f"update @affinity-{names[0]} {{ ip saddr }}",
        "meta l4proto tcp dnat to 10.0.5.8:80",
    )
    assert written.containers[f"affinity-{names[0]}"].declaration[-1] == "timeout 1m30s"
    assert sum(name.startswith("affinity-") for name in written.containers) == 3


@pytest.mark.parametrize(("policy", "rejected", "length"), [("Cluster", 0, 2), ("Local", 1, 3)])
def test_external_ips_follow_the_external_policy(policy, rejected, length):
    svc = service(externalIPs=["192.168.1.200"], externalTrafficPolicy=policy)
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.30.88", "worker02")))
    assert elements(written, "service-ips")["192.168.1.200 . tcp . 80"].startswith(" : goto external-")
    assert len(elements(written, "no-endpoint-services")) == rejected
    assert len(chain(written, "external")) == length


def test_both_policies_local():
    svc = vip_service(externalTrafficPolicy="Local", internalTrafficPolicy="Local")
    slices = endpoint_slice(svc, endpoint("10.0.30.88", "worker02"))
    nowhere = rules(svc, slices, node="worker01")
    assert elements(nowhere, "no-endpoint-services")["10.1.0.10 . tcp . 80"] == ' comment "seminar/web:http" : drop'
    assert chain(nowhere, "service") and not any(name.startswith("local-") for name in nowhere.chains)
    here = rules(svc, slices, node="worker02")
    assert elements(here, "service-ips")["10.1.0.10 . tcp . 80"].startswith(" : goto local-")
    assert elements(here, "no-endpoint-services") == {}


def test_udp_and_several_ports():
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "nodePort": 30054},
    ]
    svc = service(type="NodePort", ports=ports)
    targets = [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5353, "protocol": "TCP"}]
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.5.8", "worker01"), ports=targets))
    udp = f"service-{hashed_name('seminar/web/udp/dns')}"
    assert elements(written, "service-ips")["10.1.0.10 . udp . 53"] == f" : goto {udp}"
    assert written.chains[udp] == ("meta l4proto udp dnat ip to numgen random mod 1 map { 0 : 10.0.5.8 . 5353 }",)
    assert set(elements(written, "service-nodeports")) == {"udp . 30053", "tcp . 30054"}
    assert list(elements(written, "cluster-ips")) == ["10.1.0.10"]
    assert set(elements(written, "hairpin-connections")) == {
        "10.0.5.8 . 10.0.5.8 . udp . 5353",
        "10.0.5.8 . 10.0.5.8 . tcp . 5353",
    }


def test_only_this_nodes_own_endpoints_can_come_back_to_themselves():
    svc = service()
    slices = endpoint_slice(
        svc, endpoint("10.0.5.8", "worker01"), endpoint("10.0.30.88", "worker02"), endpoint("9.9.9.9")
    )
    for node, ip in (("worker01", "10.0.5.8"), ("worker02", "10.0.30.88")):
        assert list(elements(rules(svc, slices, node=node), "hairpin-connections")) == [f"{ip} . {ip} . tcp . 80"]
    assert elements(rules(svc, slices, node="master01"), "hairpin-connections") == {}


def test_terminating_endpoints_take_over():
    svc = vip_service(externalTrafficPolicy="Local")
    ends = [endpoint("10.0.5.8", "worker01", "terminating"), endpoint("10.0.30.88", "worker02")]
    written = rules(svc, endpoint_slice(svc, *ends))
    assert "0 : 10.0.5.8 . 80 }" in chain(written, "local")[0]
    assert "mod 1 map { 0 : 10.0.30.88 . 80 }" in chain(written, "service")[0]


def test_node_ports_are_at_the_nodes_own_address_alone():
    svc = vip_service()
    for node, address in (("worker01", {"192.168.1.45": ""}), ("worker02", {"192.168.1.46": ""}), ("stranger", {})):
        assert elements(rules(svc, node=node), "nodeport-ips") == address


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"type": "ExternalName", "externalName": "example.org"}])
def test_what_no_proxy_serves_leaves_nothing(spec):
    svc = service(**spec)
    assert rules(svc, endpoint_slice(svc, endpoint("10.0.5.8", "worker01"))) == rules()


def test_mode_proxy_has_no_rules_for_the_address():
    svc = vip_service(ingress=[{"ip": "192.168.1.56", "ipMode": "Proxy"}])
    written = rules(svc, endpoint_slice(svc, endpoint("10.0.5.8", "worker01")))
    assert "192.168.1.56" not in str(written)
    assert list(elements(written, "service-nodeports")) == ["tcp . 30080"]


def test_other_networks():
    svc = vip_service(externalTrafficPolicy="Local")
    slices = endpoint_slice(svc, endpoint("10.0.5.8", "worker01"))
    text = str(rules(svc, slices, cluster_cidr="10.244.0.0/16", service_cidr="10.96.0.0/12"))
    assert "10.244.0.0/16" in text and "10.0.0.0/16" not in text
    assert "ip daddr 10.96.0.0/12 drop" in text and "10.1.0.0/16" not in text


def test_an_unchanged_service_is_not_written_again():
    one, two = service("one"), service("two", clusterIP="10.1.0.11")
    state, renderer = ServiceMap(), Renderer(Node("worker01", "192.168.1.45"))
    seen = []
    for pod in ("10.0.5.8", "10.0.5.7"):
        slices = [endpoint_slice(one, endpoint(pod)), endpoint_slice(two, endpoint("10.0.5.9"))]
        state.update_from([one, two], slices)
        seen.append(renderer.table(state))
    before, after = seen
    kept, changed = (f"service-{hashed_name(f'seminar/{name}/tcp/')}" for name in ("two", "one"))
    assert after.chains[kept] is before.chains[kept] and after.chains[changed] != before.chains[changed]
    assert after == Renderer(Node("worker01", "192.168.1.45")).table(state)
