"""What the lab cannot honour: refused, or warned of, and never dropped in silence."""

from __future__ import annotations

from typing import Any

import pytest

from srcip_nb.lab.api.defaults import set_defaults
from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.api.unsupported import unsupported
from tests.conftest import kubectl
from tests.lab.apiserver import api_server

PODS = "/api/v1/namespaces/default/pods"


def pod(**spec: Any) -> dict[str, Any]:
    container = {"name": "nginx", "image": "nginx", **spec.pop("container", {})}
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [container], **spec}}
    set_defaults("Pod", obj)
    return obj


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/etc"}}]), "spec.volumes[0].hostPath"),
        (pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}]), "spec.volumes[0].secret"),
        (pod(hostPID=True), "spec.hostPID"),
        (pod(container={"ports": [{"containerPort": 80, "hostPort": 80}]}), "spec.containers[0].ports[0].hostPort"),
        (
            pod(container={"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "b"}]}),
            "spec.containers[0].volumeMounts[0].subPath",
        ),
        (
            pod(container={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            "spec.containers[0].env[0].valueFrom.secretKeyRef",
        ),
    ],
)
def test_what_a_learner_would_wait_for_in_vain_is_refused(obj: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiError) as caught:
        unsupported("Pod", obj)
    assert caught.value.code == 422
    assert [cause["field"] for cause in caught.value.status["details"]["causes"]] == [field]


def test_a_plain_pod_is_neither_refused_nor_warned_of() -> None:
    assert unsupported("Pod", pod()) == []


def test_a_pod_on_its_hosts_network_has_its_own_ports_there() -> None:
    port = {"containerPort": 80, "hostPort": 80}
    assert unsupported("Pod", pod(hostNetwork=True, container={"ports": [port]})) == []
    with pytest.raises(ApiError, match="hostPort"):
        unsupported("Pod", pod(hostNetwork=True, container={"ports": [{**port, "hostPort": 81}]}))


def test_the_server_refuses_and_warns() -> None:
    with api_server() as server:
        refused = server.request("POST", PODS, pod(volumes=[{"name": "v", "hostPath": {"path": "/etc"}}]))
        assert (refused.status, refused.body["reason"]) == (422, "Invalid")
        assert "the lab has volumes of these kinds: configMap, emptyDir, projected" in refused.body["message"]
        assert server.request("GET", f"{PODS}/web").status == 404
        warned = server.request("POST", PODS, pod(container={"resources": {"limits": {"cpu": "1"}}}))
        assert warned.status == 201
        told = 'spec.containers[0].resources.limits: the lab counts no resources; this has no effect"'
        assert warned.headers.get_all("Warning")[0] == f'299 - "{told}'
        # The limit stands in the object: what is said is kept, and each write that says it is warned of again.
        patched = server.request(
            "PATCH", f"{PODS}/web", {"metadata": {"labels": {"a": "b"}}}, content_type="application/merge-patch+json"
        )
        assert any(told in warning for warning in patched.headers.get_all("Warning"))
        status = server.request(
            "PATCH",
            f"{PODS}/web/status",
            {"status": {"phase": "Running"}},
            content_type="application/merge-patch+json",
        )
        assert (status.status, status.headers.get_all("Warning")) == (200, None)


def test_a_service_nobody_can_look_up_is_warned_of() -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    with api_server() as server:
        answer = server.request("POST", "/api/v1/namespaces/default/services", service)
        assert answer.headers.get_all("Warning") == [
            '299 - "spec.clusterIP: the lab has no DNS; ask the EndpointSlices for a headless Service\'s addresses"'
        ]


@pytest.mark.lab
def test_kubectl_shows_what_is_refused_and_what_is_warned_of(lab: Any) -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: unsupported, namespace: default}
spec:
  containers:
  - {name: nginx, image: nginx, securityContext: {privileged: true}}
"""
    refused = kubectl(
        lab, "apply", "-f", "-", stdin=text + "  volumes: [{name: v, hostPath: {path: /etc}}]\n", check=False
    )
    assert refused.returncode == 1
    assert "spec.volumes[0].hostPath: Forbidden: the lab has volumes of these kinds" in refused.stderr
    warned = kubectl(lab, "apply", "-f", "-", stdin=text)
    kubectl(lab, "delete", "pod", "unsupported")
    assert "Warning: spec.containers[0].securityContext: the lab's containers run as the lab does" in warned.stderr
    unknown = kubectl(lab, "apply", "-f", "-", stdin=text + "  hostNetwerk: true\n", check=False)
    assert 'unknown field "spec.hostNetwerk"' in unknown.stderr
