from __future__ import annotations

import json

from srcip_nb.lab.proxy.health import mode_answer, proxy_answer, service_answer, service_answers
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.state import ServiceMap
from tests.lab.proxy_objects import endpoint, endpoint_slice, service

WORKER01 = Node("worker01", "192.168.1.45")


def state(svc, *endpoints, ports=None) -> ServiceMap:
    services = ServiceMap()
    services.update_from([svc], [endpoint_slice(svc, *endpoints, ports=ports)])
    return services


def local(**spec):
    return service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31000, **spec)


def test_a_node_with_an_endpoint_says_so():
    answer = service_answers(
        state(local(), endpoint("10.0.5.8", "worker01"), endpoint("10.0.30.88", "worker02")), WORKER01
    )
    assert answer[31000].status == 200
    assert answer[31000].headers["X-Load-Balancing-Endpoint-Weight"] == "1"
    assert answer[31000].body == (
        '{\n\t"service": {\n\t\t"namespace": "seminar",\n\t\t"name": "web"\n\t},\n'
        '\t"localEndpoints": 1,\n\t"serviceProxyHealthy": true\n}'
    )


def test_a_node_without_a_ready_endpoint_is_not_to_be_used():
    services = state(local(), endpoint("10.0.5.8", "worker01", "terminating"), endpoint("10.0.30.88", "worker02"))
    answer = service_answers(services, WORKER01)[31000]
    assert (answer.status, answer.headers["X-Load-Balancing-Endpoint-Weight"]) == (503, "0")
    assert json.loads(answer.body)["localEndpoints"] == 0


def test_a_pod_with_two_ports_counts_once():
    ports = [{"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 81, "protocol": "TCP"}]
    services = state(local(ports=ports), endpoint("10.0.5.8", "worker01"), endpoint("10.0.5.9", "worker01"))
    assert json.loads(service_answers(services, WORKER01)[31000].body)["localEndpoints"] == 2


def test_only_policy_local_of_a_load_balancer_has_a_port():
    for svc in (
        service(type="LoadBalancer", externalTrafficPolicy="Cluster", healthCheckNodePort=31000),
        service(type="NodePort", externalTrafficPolicy="Local", healthCheckNodePort=31000),
    ):
        assert service_answers(state(svc, endpoint("10.0.5.8", "worker01")), WORKER01) == {}


def test_a_proxy_that_is_not_well_says_503_everywhere():
    assert service_answer(("seminar", "web"), 2, proxy_is_healthy=False).status == 503
    assert '"serviceProxyHealthy": false' in service_answer(("seminar", "web"), 2, proxy_is_healthy=False).body
    assert proxy_answer("2026-11-22T14:26:58Z", proxy_is_healthy=False).status == 503


def test_the_proxys_own_answers():
    answer = proxy_answer("2026-11-22T14:26:58Z")
    assert answer.status == 200 and json.loads(answer.body)["nodeEligible"] is True
    assert (answer.path, answer.address) == ("/healthz", "0.0.0.0")
    mode = mode_answer("iptables")
    assert (mode.body, mode.path, mode.address) == ("iptables", "/proxyMode", "127.0.0.1")
    of_a_service = service_answers(state(local(), endpoint("10.0.5.8", "worker01")), WORKER01)[31000]
    assert (of_a_service.path, of_a_service.address) == ("", "0.0.0.0")
