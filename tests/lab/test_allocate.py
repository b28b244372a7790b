import copy
import random

import pytest

from srcip_nb.lab.api.allocate import NODE_PORTS, SERVICE_RANGE, allocate_service
from srcip_nb.lab.api.defaults import set_defaults
from srcip_nb.lab.api.status import ApiError
from tests.lab.schema_truth import answer, service

LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}


def allocated(spec, old=None, others=(), choose=lambda numbers: numbers[0]):
    obj = service(**spec)
    set_defaults("Service", obj)
    allocate_service(obj, old, others, choose=choose)
    return obj


def updated(old, others=(), **spec):
    """The Service after a client changed these fields of what it had read."""
    obj = copy.deepcopy(old)
    for name, value in spec.items():
        if value is None:
            obj["spec"].pop(name, None)
        else:
            obj["spec"][name] = value
    set_defaults("Service", obj)
    allocate_service(obj, old, others, choose=lambda numbers: numbers[0])
    return obj


def refusal(spec, old=None, others=()):
    with pytest.raises(ApiError) as caught:
        allocated(spec, old, others)
    return caught.value


# -- cluster IPs -------------------------------------------------------------------------------------------------------


def test_an_address_of_the_upper_part_is_chosen() -> None:
    spec = allocated({})["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("10.1.1.1", ["10.1.1.1"])
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


def test_an_address_in_use_is_not_chosen() -> None:
    first = allocated({})
    assert allocated({}, others=[first])["spec"]["clusterIP"] == "10.1.1.2"


def test_a_random_address_is_free_and_in_the_range() -> None:
    choose = random.Random(1).choice
    services = []
    for _ in range(300):
        services.append(allocated({"type": "NodePort"}, others=services, choose=choose))
    addresses = {each["spec"]["clusterIP"] for each in services}
    ports = {each["spec"]["ports"][0]["nodePort"] for each in services}
    assert len(addresses) == len(ports) == 300
    assert ports <= set(NODE_PORTS)


def test_an_address_is_honoured() -> None:
    spec = allocated({"clusterIP": "10.1.0.10"})["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("10.1.0.10", ["10.1.0.10"])


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.1.1.1", "provided IP is already allocated"),
        ("10.2.0.1", "the provided network does not match the current range"),
        (
            "10.1.0.0",
            f"the provided IP (10.1.0.0) is not in the valid range. The range of valid IPs is {SERVICE_RANGE}",
        ),
    ],
)
def test_an_address_that_cannot_be_had(address: str, why: str) -> None:
    error = refusal({"clusterIP": address}, others=[allocated({})])
    invalid = f'Service "web" is invalid: spec.clusterIPs: Invalid value: ["{address}"]'
    assert error.message == f"{invalid}: failed to allocate IP {address}: {why}"


def test_headless_services_have_none() -> None:
    spec = allocated({"clusterIP": "None"})["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilies"]) == ("None", ["None"], ["IPv4"])
    without_selector = allocated({"clusterIP": "None", "selector": {}})["spec"]
    assert (without_selector["ipFamilies"], without_selector["ipFamilyPolicy"]) == (
        ["IPv4", "IPv6"],
        "RequireDualStack",
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"ipFamilies": ["IPv6"]}, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            '"RequireDualStack": this cluster is not configured for dual-stack services',
        ),
        (
            {"clusterIP": "fd00::1"},
            'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster',
        ),
        (
            {"clusterIP": "frob"},
            'spec.clusterIPs[0]: Invalid value: "frob": must be a valid IP address, (e.g. 10.9.8.7 or',
        ),
    ],
)
def test_this_cluster_is_ipv4(spec: dict, message: str) -> None:
    assert message in refusal(spec).message


def test_prefer_dual_stack_is_taken_with_one_family() -> None:
    assert allocated({"ipFamilyPolicy": "PreferDualStack"})["spec"]["ipFamilies"] == ["IPv4"]


# -- node ports --------------------------------------------------------------------------------------------------------


def test_node_ports_by_type() -> None:
    assert "nodePort" not in allocated({})["spec"]["ports"][0]
    assert allocated({"type": "NodePort"})["spec"]["ports"][0]["nodePort"] == 30086
    assert allocated({"type": "LoadBalancer"})["spec"]["ports"][0]["nodePort"] == 30086
    without = allocated({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False})
    assert "nodePort" not in without["spec"]["ports"][0]


def test_a_node_port_in_use() -> None:
    taken = allocated({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30101}]})
    error = refusal({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30101}]}, others=[taken])
    assert error.message == (
        'Service "web" is invalid: spec.ports[0].nodePort: Invalid value: 30101: provided port is already allocated'
    )


def test_a_node_port_out_of_range() -> None:
    error = refusal({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]})
    assert error.status["details"]["causes"] == answer("error-422-nodeport-range")["details"]["causes"]


def test_tcp_and_udp_of_a_port_share_a_node_port() -> None:
    ports = [{"port": 53, "name": "a", "protocol": "UDP"}, {"port": 53, "name": "b"}]
    spec = allocated({"type": "NodePort", "ports": ports})["spec"]
    assert [port["nodePort"] for port in spec["ports"]] == [30086, 30086]
    ports[1]["nodePort"] = 30053
    spec = allocated({"type": "NodePort", "ports": ports})["spec"]
    assert [port["nodePort"] for port in spec["ports"]] == [30053, 30053]


def test_a_health_check_port_is_a_node_port() -> None:
    spec = allocated(LOCAL)["spec"]
    assert (spec["ports"][0]["nodePort"], spec["healthCheckNodePort"]) == (30086, 30087)
    asked = allocated({**LOCAL, "healthCheckNodePort": 30100})
    assert asked["spec"]["healthCheckNodePort"] == 30100
    error = refusal({**LOCAL, "healthCheckNodePort": 30100}, others=[asked])
    assert (error.code, error.message) == (
        500,
        "Internal error occurred: failed to allocate requested HealthCheck NodePort 30100: "
        "provided port is already allocated",
    )
    node_port = refusal({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30100}]}, others=[asked])
    assert "provided port is already allocated" in node_port.message


def test_a_full_range_is_said() -> None:
    others = [service(type="NodePort", ports=[{"port": 1, "nodePort": port} for port in NODE_PORTS])]
    assert refusal({"type": "NodePort"}, others=others).message.endswith("failed to allocate a nodePort: range is full")


# -- updates -----------------------------------------------------------------------------------------------------------


def test_the_same_manifest_again_keeps_everything() -> None:
    old = allocated(LOCAL)
    again = allocated(LOCAL, old=old)
    assert again == old


def test_a_policy_flip_takes_and_gives_back_the_health_check_port() -> None:
    old = allocated({"type": "LoadBalancer"})
    local = updated(old, externalTrafficPolicy="Local")
    assert local["spec"]["healthCheckNodePort"] == 30087
    cluster = updated(local, externalTrafficPolicy="Cluster")
    assert cluster == old


def test_from_load_balancer_to_cluster_ip_the_rest_goes() -> None:
    old = allocated(LOCAL)
    old["status"] = {"loadBalancer": {"ingress": [{"ip": "192.168.1.56", "ipMode": "VIP"}]}}
    new = updated(old, type="ClusterIP")
    plain = allocated({})
    assert new["spec"] == plain["spec"]
    assert new["status"] == {"loadBalancer": {}}


def test_a_cluster_ip_is_kept_over_types_and_given_back_by_external_name() -> None:
    old = allocated({"type": "NodePort"})
    balanced = updated(old, type="LoadBalancer")
    assert balanced["spec"]["clusterIP"] == old["spec"]["clusterIP"]
    assert balanced["spec"]["ports"] == old["spec"]["ports"]
    external = updated(old, type="ExternalName", externalName="a.b")
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & external["spec"].keys()
    back = updated(external, type="ClusterIP")
    assert back["spec"]["clusterIP"] == "10.1.1.1"


def test_a_second_port_gets_a_node_port_of_its_own() -> None:
    old = allocated({"type": "NodePort", "ports": [{"port": 80, "name": "a"}]})
    new = updated(old, ports=[{"port": 80, "name": "a"}, {"port": 81, "name": "b"}])
    assert [port["nodePort"] for port in new["spec"]["ports"]] == [30086, 30087]


def test_a_node_port_can_be_changed_to_a_free_one() -> None:
    old = allocated({"type": "NodePort"})
    new = updated(old, ports=[{"port": 80, "nodePort": 31000}])
    assert new["spec"]["ports"][0]["nodePort"] == 31000
    other = allocated({"type": "NodePort", "ports": [{"port": 80, "nodePort": 31000}]})
    with pytest.raises(ApiError, match="provided port is already allocated"):
        updated(old, [other], ports=[{"port": 80, "nodePort": 31000}])


def test_a_node_port_without_a_type_for_it_is_left_to_validation() -> None:
    old = allocated({"type": "NodePort"})
    new = updated(old, type="ClusterIP", ports=[{"port": 80, "nodePort": 31000}])
    assert new["spec"]["ports"][0]["nodePort"] == 31000


def test_clearing_only_cluster_ip_keeps_it() -> None:
    old = allocated({})
    assert updated(old, clusterIP=None)["spec"] == old["spec"]
    assert updated(old, clusterIPs=None)["spec"] == old["spec"]
