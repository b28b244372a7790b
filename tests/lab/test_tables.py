"""Cells that the recorded tables do not show (those are compared whole in test_api_contract.py)."""

from __future__ import annotations

from typing import Any

import pytest

from srcip_nb.lab.api.durations import human_duration
from srcip_nb.lab.api.resources import RESOURCES
from srcip_nb.lab.api.table_cells import CELLS, pod_status
from srcip_nb.lab.api.tables import as_table

NOW = 1_700_000_000.0
BORN = "2023-11-14T22:03:20Z"  # ten minutes before NOW


def cells(resource: str, obj: dict[str, Any]) -> list[Any]:
    return CELLS[resource]({"metadata": {"name": "x", "creationTimestamp": BORN}, "spec": {}, **obj}, NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11160, "3h6m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (180000, "2d2h"),
        (691200, "8d"),
        (63072000, "2y"),
        (63158400, "2y1d"),
        (252288000, "8y"),
    ],
)
def test_ages_in_kubectls_words(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("service", "external_ip"),
    [
        ({"spec": {"type": "ClusterIP"}}, "<none>"),
        ({"spec": {"type": "NodePort", "externalIPs": ["192.0.2.1"]}}, "192.0.2.1"),
        ({"spec": {"type": "LoadBalancer"}}, "<pending>"),
        (
            {
                "spec": {"type": "LoadBalancer", "externalIPs": ["192.0.2.1"]},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.168.1.56"}]}},
            },
            "192.168.1.56,192.0.2.1",
        ),
        ({"spec": {"type": "ExternalName", "externalName": "example.com"}}, "example.com"),
    ],
)
def test_external_ip_of_a_service(service: dict[str, Any], external_ip: str) -> None:
    assert cells("services", service)[3] == external_ip


def test_ports_of_a_service() -> None:
    ports = [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]
    assert cells("services", {"spec": {"ports": ports, "selector": {"b": "2", "a": "1"}}})[4:] == [
        "80:30080/TCP,53/UDP",
        "10m",
        "a=1,b=2",
    ]


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"status": {"phase": "Pending", "containerStatuses": [{"name": "nginx", "state": state, **more}]}}


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        ({"status": {"phase": "Pending"}}, "Pending"),
        (container({"waiting": {"reason": "ContainerCreating"}}), "ContainerCreating"),
        (container({"waiting": {"reason": "ImagePullBackOff"}}), "ImagePullBackOff"),
        (container({"terminated": {"exitCode": 0, "reason": "Completed"}}), "Completed"),
        (container({"terminated": {"exitCode": 3}}), "ExitCode:3"),
        (container({"terminated": {"exitCode": 137, "signal": 9}}), "Signal:9"),
        ({"status": {"phase": "Running"}, "metadata": {"deletionTimestamp": BORN}}, "Terminating"),
        ({"status": {"phase": "Succeeded"}, "metadata": {"deletionTimestamp": BORN}}, "Succeeded"),
    ],
)
def test_status_of_a_pod(pod: dict[str, Any], word: str) -> None:
    assert pod_status({"metadata": {}, **pod}) == word


def test_restarts_of_a_pod_say_when() -> None:
    pod = container(
        {"running": {}}, ready=True, restartCount=2, lastState={"terminated": {"finishedAt": "2023-11-14T22:12:20Z"}}
    )
    assert cells("pods", {**pod, "spec": {"containers": [{"name": "nginx"}]}})[1:4] == [
        "1/1",
        "Pending",
        "2 (60s ago)",
    ]


def test_nodes_say_their_role_and_that_they_are_cordoned() -> None:
    node = {
        "metadata": {
            "name": "master01",
            "creationTimestamp": BORN,
            "labels": {"node-role.kubernetes.io/control-plane": ""},
        },
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert cells("nodes", node)[1:3] == ["Ready,SchedulingDisabled", "control-plane"]
    assert cells("nodes", {"status": {}})[1:3] == ["Unknown", "<none>"]


def test_many_endpoints_are_shortened() -> None:
    addresses = [{"ip": f"10.0.0.{number}"} for number in range(5)]
    subsets = [{"addresses": addresses, "ports": [{"port": 80}]}]
    assert cells("endpoints", {"subsets": subsets})[1] == "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."
    slices = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": []}
    assert cells("endpointslices", slices)[1:4] == ["IPv4", "<unset>", "10.0.0.1"]


def test_rows_carry_what_was_asked_for() -> None:
    config_map = {"kind": "ConfigMap", "metadata": {"name": "x", "creationTimestamp": BORN}, "data": {"a": "b"}}
    resource = RESOURCES["configmaps"]

    def carried(include: str) -> Any:
        return as_table(resource, [config_map], include, now=NOW)["rows"][0]["object"]

    assert carried("None") is None
    assert carried("Object") == config_map
    assert carried("Metadata")["kind"] == "PartialObjectMetadata"
    assert as_table(resource, [], now=NOW, headers=False)["columnDefinitions"] is None
