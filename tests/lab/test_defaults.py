import copy

import pytest

from srcip_nb.lab.api.decode import normalise
from srcip_nb.lab.api.defaults import prepare_create, set_defaults
from srcip_nb.lab.api.defaults_pod import image_tag, quality_of_service
from tests.lab.schema_truth import answer, applied, deployment, pod, service

LISTS = ("configmaps", "endpoints", "endpointslices", "namespaces", "nodes", "pods", "replicasets", "events")


def with_defaults(obj):
    result = copy.deepcopy(obj)
    set_defaults(obj["kind"], result)
    return result


@pytest.mark.parametrize("name", LISTS)
def test_what_a_server_stored_is_left_as_it_is(name: str) -> None:
    found = answer(f"list-{name}")
    for item in found["items"]:
        again = copy.deepcopy(item)
        set_defaults(found["kind"].removesuffix("List"), again)
        assert again == item


@pytest.mark.parametrize("name", ["get-service", "get-deployment"])
def test_a_manifest_gets_a_real_servers_defaults(name: str) -> None:
    truth = answer(name)
    made = with_defaults(applied(truth))
    prepare_create(truth["kind"], made)
    allocated = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
    expected = {key: value for key, value in truth["spec"].items() if key not in allocated}
    for port in expected.get("ports", []):
        del port["nodePort"]
    assert made["spec"] == expected


def test_a_pod_gets_what_the_server_decides() -> None:
    for truth in answer("list-pods")["items"]:
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": dict(truth["metadata"]), "spec": {}}
        made["spec"] = {key: truth["spec"][key] for key in ("containers", "volumes")}
        made = with_defaults(made)
        prepare_create("Pod", made)
        assert made["spec"] == {key: value for key, value in truth["spec"].items() if key != "nodeName"}
        assert made["status"] == {"phase": "Pending", "qosClass": truth["status"]["qosClass"]}


def test_a_namespace_gets_its_label_finalizer_and_phase() -> None:
    truth = next(item for item in answer("list-namespaces")["items"] if item["metadata"]["name"] == "seminar")
    made = with_defaults({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "seminar"}})
    prepare_create("Namespace", made)
    assert made["metadata"]["labels"] == truth["metadata"]["labels"]
    assert (made["spec"], made["status"]) == (truth["spec"], truth["status"])


def test_defaults_are_set_once() -> None:
    for obj in (service(type="LoadBalancer"), deployment(), pod()):
        once = with_defaults(obj)
        assert with_defaults(once) == once


@pytest.mark.parametrize(
    ("spec", "present", "absent"),
    [
        ({}, {"type": "ClusterIP", "internalTrafficPolicy": "Cluster"}, {"externalTrafficPolicy"}),
        ({"externalIPs": ["192.168.1.60"]}, {"externalTrafficPolicy": "Cluster"}, set()),
        ({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster"}, {"allocateLoadBalancerNodePorts"}),
        ({"type": "LoadBalancer"}, {"allocateLoadBalancerNodePorts": True}, set()),
        ({"type": "ExternalName", "externalName": "a.b"}, {}, {"internalTrafficPolicy", "externalTrafficPolicy"}),
        (
            {"sessionAffinity": "ClientIP"},
            {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
            set(),
        ),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 9}}}, {}, {"sessionAffinityConfig"}),
    ],
)
def test_services_by_type(spec: dict, present: dict, absent: set) -> None:
    made = with_defaults(service(**spec))["spec"]
    assert present.items() <= made.items()
    assert not absent & made.keys()


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("nginx", "latest"),
        ("nginx:1.27", "1.27"),
        ("registry:5000/nginx", "latest"),
        ("registry:5000/nginx:latest", "latest"),
        ("nginx@sha256:abc", ""),
        ("nginx:1.27@sha256:abc", "1.27"),
    ],
)
def test_tags_of_images(image: str, tag: str) -> None:
    assert image_tag(image) == tag
    made = with_defaults(pod(containers=[{"name": "c", "image": image}]))
    assert made["spec"]["containers"][0]["imagePullPolicy"] == ("Always" if tag == "latest" else "IfNotPresent")


def test_probes_ports_and_volumes() -> None:
    container = {
        "name": "c",
        "image": "nginx",
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}},
    }
    made = with_defaults(
        pod(containers=[container], volumes=[{"name": "a", "configMap": {"name": "x"}}, {"name": "b"}])
    )
    assert made["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert made["spec"]["containers"][0]["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert made["spec"]["volumes"] == [
        {"name": "a", "configMap": {"name": "x", "defaultMode": 420}},
        {"name": "b", "emptyDir": {}},
    ]


@pytest.mark.parametrize(
    ("resources", "word"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict, word: str) -> None:
    made = with_defaults(pod(containers=[{"name": "c", "image": "nginx", "resources": resources}]))
    assert quality_of_service(made["spec"]) == word


def test_empty_values_go_and_pointers_stay() -> None:
    obj = {
        "metadata": {"name": "x", "labels": {}, "annotations": None, "creationTimestamp": None},
        "spec": {"replicas": 0, "paused": False, "minReadySeconds": 0, "selector": {"matchLabels": {}}},
        "dropped": 1,
    }
    normalise("Deployment", obj)
    assert obj["metadata"] == {"name": "x"}
    assert obj["spec"] == {
        "replicas": 0,
        "selector": {},
        "strategy": {},
        "template": {"metadata": {}, "spec": {}},
    }
    assert "dropped" not in obj


def test_an_endpoint_slice_keeps_its_empty_port_name() -> None:
    obj = {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": []}
    set_defaults("EndpointSlice", obj)
    assert obj == {"addressType": "IPv4", "ports": [{"name": "", "port": 80, "protocol": "TCP"}], "endpoints": []}
