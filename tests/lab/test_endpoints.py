from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srcip_nb.lab.controllers.endpointslices import endpoints_for, endpointslices_for

from .controller_objects import STAMP, pod, service

DATA = Path(__file__).parent.parent / "data" / "controllers"


def recorded(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


def conditions(piece: dict[str, Any]) -> list[dict[str, bool]]:
    return [endpoint["conditions"] for endpoint in piece["endpoints"]]


def test_slices_are_what_the_real_controller_wrote() -> None:
    (real,) = recorded("endpointslices")
    (made,) = endpointslices_for(recorded("services")[0], recorded("pods"), [real])
    assert made["endpoints"] == real["endpoints"]
    assert made["ports"] == real["ports"]
    assert made["addressType"] == real["addressType"]
    assert made["metadata"] == real["metadata"]


def test_a_new_slice_is_named_by_the_store_and_labelled() -> None:
    (real,) = recorded("endpointslices")
    (made,) = endpointslices_for(recorded("services")[0], recorded("pods"))
    assert made["metadata"]["generateName"] == "webserver-"
    assert "name" not in made["metadata"]
    for field in ("labels", "ownerReferences", "namespace"):
        assert made["metadata"][field] == real["metadata"][field]


def test_endpoints_are_what_the_real_controller_wrote() -> None:
    (real,) = recorded("endpoints")
    made = endpoints_for(recorded("services")[0], recorded("pods"), real)
    assert made["subsets"] == real["subsets"]
    assert made["metadata"] == real["metadata"]


def test_a_service_without_pods_keeps_one_empty_slice() -> None:
    (piece,) = endpointslices_for(service(), [])
    assert (piece["endpoints"], piece["ports"]) == ([], [])
    assert "subsets" not in endpoints_for(service(), [])


def test_ready_serving_terminating() -> None:
    pods = [
        pod("a", ip="10.0.5.2", ready=True),
        pod("b", ip="10.0.5.3"),
        pod("c", ip="10.0.5.4", ready=True, metadata={"deletionTimestamp": STAMP}),
    ]
    (piece,) = endpointslices_for(service(), pods)
    assert conditions(piece) == [
        {"ready": True, "serving": True, "terminating": False},
        {"ready": False, "serving": False, "terminating": False},
        {"ready": False, "serving": True, "terminating": True},
    ]
    (subset,) = endpoints_for(service(), pods)["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.5.2"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.0.5.3"]


def test_publish_not_ready_addresses_calls_all_ready() -> None:
    (piece,) = endpointslices_for(service(publishNotReadyAddresses=True), [pod("b", ip="10.0.5.3")])
    assert conditions(piece) == [{"ready": True, "serving": False, "terminating": False}]


def test_pods_without_address_of_others_or_ended_are_passed_over() -> None:
    other = pod("other", ip="10.0.5.9", ready=True, metadata={"labels": {"app": "db"}})
    elsewhere = pod("elsewhere", ip="10.0.5.8", ready=True, metadata={"namespace": "default"})
    ended = pod("ended", ip="10.0.5.7")
    ended["status"]["phase"] = "Succeeded"
    (piece,) = endpointslices_for(service(), [pod("new"), other, elsewhere, ended])
    assert piece["endpoints"] == []


def test_a_named_target_port_is_each_pods_own() -> None:
    web = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    old, new = pod("a", ip="10.0.5.2", ready=True), pod("b", ip="10.0.5.3", ready=True)
    old["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 80}]
    new["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 8080}]
    slices = endpointslices_for(web, [old, new])
    assert [(piece["ports"][0]["port"], len(piece["endpoints"])) for piece in slices] == [(80, 1), (8080, 1)]
    subsets = endpoints_for(web, [old, new])["subsets"]
    assert [subset["ports"] for subset in subsets] == [
        [{"name": "http", "port": 80, "protocol": "TCP"}],
        [{"name": "http", "port": 8080, "protocol": "TCP"}],
    ]


def test_a_slice_has_at_most_100_endpoints() -> None:
    pods = [pod(f"p{n:03d}", ip=f"10.0.{n // 200}.{n % 200 + 1}", ready=True) for n in range(250)]
    slices = endpointslices_for(service(), pods)
    assert [len(piece["endpoints"]) for piece in slices] == [100, 100, 50]


def test_zone_of_the_node_is_told() -> None:
    (piece,) = endpointslices_for(
        service(), [pod("a", ip="10.0.5.2", node="worker01", ready=True)], (), {"worker01": "a"}
    )
    assert (piece["endpoints"][0]["nodeName"], piece["endpoints"][0]["zone"]) == ("worker01", "a")


def test_headless_is_marked() -> None:
    (piece,) = endpointslices_for(service(clusterIP="None"), [])
    assert piece["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_traffic_distribution_says_for_whom_a_ready_endpoint_is_meant() -> None:
    pods = [pod("a", "10.0.5.2", "worker01", ready=True), pod("b", "10.0.30.66", "worker02", ready=False)]
    zones = {"worker01": "zone-a", "worker02": "zone-b"}

    def hints(wanted: str | None, zones: dict[str, str]) -> list[Any]:
        fields = {"trafficDistribution": wanted} if wanted else {}
        (piece,) = endpointslices_for(service(**fields), pods, zones=zones)
        return [(endpoint["addresses"][0], endpoint.get("hints")) for endpoint in piece["endpoints"]]

    zone, node = [{"name": "zone-a"}], [{"name": "worker01"}]
    silent = ("10.0.30.66", None)
    assert hints(None, zones) == [("10.0.5.2", None), silent]
    assert hints("PreferClose", zones) == hints("PreferSameZone", zones) == [("10.0.5.2", {"forZones": zone}), silent]
    assert hints("PreferSameNode", zones) == [("10.0.5.2", {"forZones": zone, "forNodes": node}), silent]
    assert hints("PreferSameNode", {}) == [("10.0.5.2", {"forNodes": node}), silent]
    assert hints("PreferSameZone", {}) == [("10.0.5.2", None), silent]
