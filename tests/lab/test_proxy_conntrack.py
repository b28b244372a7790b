from __future__ import annotations

from srcip_nb.lab.proxy.conntrack import Flow, stale_flows
from srcip_nb.lab.proxy.state import ServiceMap
from tests.lab.proxy_objects import endpoint, endpoint_slice, service


def line(source: str, destination: str, dport: int, answered_by: str, answering_port: int, note: str = "") -> str:
    asked = f"src={source} dst={destination} sport=40001 dport={dport}"
    answer = f"src={answered_by} dst={source} sport={answering_port} dport=40001"
    return f"udp      17 27 {asked} {note}{answer} mark=0 use=1"


LISTING = "\n".join(
    [
        line("10.0.5.9", "10.1.0.10", 53, "10.0.5.8", 5353),
        line("10.0.5.9", "10.1.0.10", 53, "10.0.30.88", 5353, "[UNREPLIED] "),
        line("10.0.5.7", "10.1.0.10", 53, "10.0.30.88", 5353),
        line("192.168.1.122", "192.168.1.45", 30053, "10.0.30.88", 5353),
        line("192.168.1.122", "192.168.1.1", 53, "192.168.1.1", 53),
        "conntrack v1.4.7 (conntrack-tools): 5 flow entries have been shown.",
    ]
)
PORTS = [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]
TARGETS = [{"name": "dns", "port": 5353, "protocol": "UDP"}]


def state(*endpoints) -> ServiceMap:
    svc = service(type="NodePort", ports=PORTS)
    services = ServiceMap()
    services.update_from([svc], [endpoint_slice(svc, *endpoints, ports=TARGETS)])
    return services


def test_flows_to_an_endpoint_that_is_gone():
    assert stale_flows(LISTING, state(endpoint("10.0.5.8", "worker01"))) == [
        Flow("10.1.0.10", "53", "10.0.30.88", "5353"),
        Flow("192.168.1.45", "30053", "10.0.30.88", "5353"),
    ]


def test_an_endpoint_that_still_serves_keeps_its_flows():
    assert stale_flows(LISTING, state(endpoint("10.0.5.8"), endpoint("10.0.30.88", state="terminating"))) == []


def test_without_any_endpoint_nothing_is_removed():
    assert stale_flows(LISTING, state()) == []


def test_the_command_names_both_ends():
    command = Flow("10.1.0.10", "53", "10.0.30.88", "5353").delete_command()
    assert command[:4] == ["conntrack", "-D", "-p", "udp"]
    assert command[4:] == [
        "--orig-dst", "10.1.0.10", "--orig-port-dst", "53", "--reply-src", "10.0.30.88", "--reply-port-src", "5353",
    ]  # fmt: skip
