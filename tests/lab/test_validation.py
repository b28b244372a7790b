import copy

import pytest

from srcip_nb.lab.api.allocate import allocate_service
from srcip_nb.lab.api.defaults import prepare_create, set_defaults
from srcip_nb.lab.api.merge import strategic_merge_patch
from srcip_nb.lab.api.status import ApiError, invalid
from srcip_nb.lab.api.unsupported import unsupported
from srcip_nb.lab.api.validation import validate_create, validate_update
from tests.lab.schema_truth import answer, deployment, pod, request, service

KINDS = ("configmaps", "endpoints", "endpointslices", "namespaces", "nodes", "pods", "replicasets", "events")


def made(obj):
    """The object as a server has it when it validates."""
    obj = copy.deepcopy(obj)
    obj["metadata"].setdefault("namespace", "seminar")
    set_defaults(obj["kind"], obj)
    prepare_create(obj["kind"], obj)
    if obj["kind"] == "Service":
        allocate_service(obj, None, [], choose=lambda numbers: numbers[0])
    return obj


def complaints(obj):
    return [str(cause) for cause in validate_create(obj["kind"], made(obj))]


def changes(old, change):
    """What is said of an object after `change`, a function that alters it."""
    old = made(old)
    new = copy.deepcopy(old)
    change(new)
    set_defaults(new["kind"], new)
    if new["kind"] == "Service":
        allocate_service(new, old, [], choose=lambda numbers: numbers[0])
    return [str(cause) for cause in validate_update(new["kind"], new, old)]


# -- as a real server --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["error-422-no-ports", "error-422-policy-clusterip", "error-422-nodeport-range", "error-422-deployment-selector"],
)
def test_a_create_is_refused_in_a_real_servers_words(name: str) -> None:
    obj = request(name)
    with pytest.raises(ApiError) as caught:
        causes = validate_create(obj["kind"], made(obj))
        raise invalid(obj["kind"], obj["metadata"]["name"], causes)
    assert caught.value.status == answer(name)


def test_a_patch_is_refused_in_a_real_servers_words() -> None:
    live = answer("get-service")
    new = strategic_merge_patch(live, request("error-422-policy"), "Service")
    set_defaults("Service", new)
    allocate_service(new, live, [])
    error = invalid("Service", "webserver", validate_update("Service", new, live))
    assert error.status == answer("error-422-policy")


@pytest.mark.parametrize("name", KINDS)
def test_what_a_server_stored_is_valid(name: str) -> None:
    found = answer(f"list-{name}")
    kind = found["kind"].removesuffix("List")
    for item in found["items"]:
        assert validate_create(kind, item) == []
        assert validate_update(kind, item, item) == []
        assert not [warning for warning in unsupported(kind, item) if "deprecated" not in warning]


def test_the_seeds_service_and_deployment_are_valid() -> None:
    for name in ("get-service", "get-deployment"):
        obj = answer(name)
        assert validate_create(obj["kind"], obj) == []
        assert unsupported(obj["kind"], obj) == []


# -- metadata ----------------------------------------------------------------------------------------------------------

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def config_map(**fields):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", **fields.pop("metadata", {})}, **fields}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (config_map(metadata={"name": ""}), "metadata.name: Required value: name or generateName is required"),
        (config_map(metadata={"name": "A_b"}), f'metadata.name: Invalid value: "A_b": {SUBDOMAIN}'),
        (service() | {"metadata": {"name": "Web"}}, f'metadata.name: Invalid value: "Web": {LABEL}'),
        (service() | {"metadata": {"name": "a.b"}}, 'metadata.name: Invalid value: "a.b": must not contain dots'),
        (config_map(metadata={"name": "a" * 254}), "must be no more than 253 bytes"),
        (
            config_map(metadata={"labels": {"a b": "x"}}),
            'metadata.labels: Invalid value: "a b": name part must consist',
        ),
        (config_map(metadata={"labels": {"a": "-"}}), 'metadata.labels: Invalid value: "-": a valid label must be'),
        (config_map(metadata={"labels": {"/a": ""}}), "prefix part must be non-empty"),
        (config_map(metadata={"annotations": {"a": "x" * 262_144}}), "metadata.annotations: Too long: may not be more"),
        (config_map(metadata={"finalizers": ["a b"]}), 'metadata.finalizers: Invalid value: "a b"'),
        (config_map(data={"a b": ""}), 'data[a b]: Invalid value: "a b": a valid config key must consist'),
        (config_map(data={"..": ""}), "data[..]: Invalid value: \"..\": must not be '..'"),
        (config_map(data={"a": "x" * 2**20 + "x"}), "Too long: may not be more than 1048576 bytes"),
    ],
)
def test_metadata_and_config_maps(obj, expected: str) -> None:
    assert any(expected in complaint for complaint in complaints(obj)), complaints(obj)


def test_metadata_that_stays() -> None:
    assert changes(config_map(), lambda obj: obj["metadata"].update(name="other")) == [
        'metadata.name: Invalid value: "other": field is immutable'
    ]


def test_an_immutable_config_map_stays() -> None:
    old = config_map(immutable=True, data={"a": "1"})
    why = "Forbidden: field is immutable when `immutable` is set"
    assert changes(old, lambda obj: obj.update(data={"a": "2"})) == [f"data: {why}"]
    assert changes(old, lambda obj: obj.update(immutable=False)) == [f"immutable: {why}"]
    assert changes(old, lambda obj: obj["metadata"].update(labels={"a": "b"})) == []


# -- Services ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"type": "Nodeport"},
            'spec.type: Unsupported value: "Nodeport": supported values: "ClusterIP", "ExternalName", ',
        ),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        ({"ports": [{"port": 80, "protocol": "tcp"}]}, 'spec.ports[0].protocol: Unsupported value: "tcp"'),
        ({"ports": [{"port": 80, "targetPort": "http_port"}]}, "must contain only alpha-numeric characters"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[1].name: Required value"),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]},
            'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,'
            '"TargetPort":0,"NodePort":0}',
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30080}]},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ({"selector": {"a b": "c"}}, 'spec.selector: Invalid value: "a b"'),
        (
            {"sessionAffinity": "ip"},
            'spec.sessionAffinity: Unsupported value: "ip": supported values: "ClientIP", "None"',
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
            "clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
        ),
        ({"externalIPs": ["1.2.3"]}, 'spec.externalIPs[0]: Invalid value: "1.2.3": must be a valid IP address, (e.g. '),
        ({"externalIPs": ["127.0.0.1"]}, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ({"externalIPs": ["010.1.2.3"]}, 'spec.externalIPs[0]: Invalid value: "010.1.2.3": must not have leading 0s'),
        (
            {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1/8"]},
            "must not have bits set beyond the prefix length",
        ),
        (
            {"allocateLoadBalancerNodePorts": True},
            "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            {"healthCheckNodePort": 30100},
            "spec.healthCheckNodePort: Invalid value: 30100: may only be set when `type` is 'LoadBalancer' and "
            "`externalTrafficPolicy` is 'Local'",
        ),
        (
            {"internalTrafficPolicy": "local"},
            'spec.internalTrafficPolicy: Unsupported value: "local": supported values: "Cluster", "Local"',
        ),
        (
            {"trafficDistribution": "Near"},
            'supported values: "PreferClose", "PreferSameNode", "PreferSameZone"',
        ),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {"type": "NodePort", "clusterIP": "None"},
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
    ],
)
def test_services(spec: dict, expected: str) -> None:
    assert any(expected in complaint for complaint in complaints(service(**spec))), complaints(service(**spec))


@pytest.mark.parametrize("service_type", ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])
@pytest.mark.parametrize("next_type", ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])
def test_the_type_of_a_service_may_change(service_type: str, next_type: str) -> None:
    old = service(type=service_type, externalName="example.com")
    assert complaints(old) == []
    assert changes(old, lambda obj: obj["spec"].update(type=next_type)) == []


def test_a_cluster_ip_may_not_change() -> None:
    def change(obj):
        obj["spec"].update(clusterIP="10.1.9.9", clusterIPs=["10.1.9.9"])

    assert changes(service(), change) == [
        'spec.clusterIPs[0]: Invalid value: ["10.1.9.9"]: may not change once set',
    ]


def test_a_health_check_port_may_not_change() -> None:
    old = service(type="LoadBalancer", externalTrafficPolicy="Local")
    assert changes(old, lambda obj: obj["spec"].update(healthCheckNodePort=31999)) == [
        "spec.healthCheckNodePort: Forbidden: field is immutable"
    ]


# -- Deployments and pods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"replicas": -1}, ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        ({"selector": None}, ["spec.selector: Required value"]),
        ({"selector": {}}, ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}},
            ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}},
            ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxUnavailable": "150%"}}},
            ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%'],
        ),
        (
            {"minReadySeconds": 700},
            ["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
        ),
    ],
)
def test_deployments(spec: dict, expected: list) -> None:
    assert complaints(deployment(**spec)) == expected


def test_a_selector_stays() -> None:
    def change(obj):
        obj["spec"]["selector"]["matchLabels"] = {"app": "x"}
        obj["spec"]["template"]["metadata"]["labels"] = {"app": "x"}

    assert changes(deployment(), change) == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable'
    ]
    assert changes(deployment(), lambda obj: obj["spec"].update(replicas=5)) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": []}, ["spec.containers: Required value"]),
        ({"containers": [{"name": "c"}]}, ["spec.containers[0].image: Required value"]),
        (
            {"containers": [{"name": "c", "image": "nginx"}, {"name": "c", "image": "nginx"}]},
            ['spec.containers[1].name: Duplicate value: "c"'],
        ),
        (
            {
                "containers": [
                    {"name": "c", "image": "nginx", "volumeMounts": [{"name": "nope", "mountPath": "/a"}]},
                ]
            },
            ['spec.containers[0].volumeMounts[0].name: Not found: "nope"'],
        ),
        (
            {"volumes": [{"name": "v", "configMap": {}}]},
            ["spec.volumes[0].configMap.name: Required value"],
        ),
        (
            {"volumes": [{"name": "v"}, {"name": "v"}]},
            ['spec.volumes[1].name: Duplicate value: "v"'],
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "configMap": {"name": "c"}}]},
            ["spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            {"restartPolicy": "always"},
            [
                'spec.restartPolicy: Unsupported value: "always": supported values: "Always", "OnFailure", "Never"',
            ],
        ),
        (
            {"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 70000}]}]},
            ["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
        ),
        (
            {"containers": [{"name": "c", "image": "nginx", "readinessProbe": {}}]},
            ["spec.containers[0].readinessProbe: Required value: must specify a handler type"],
        ),
        (
            {"tolerations": [{"operator": "Equal", "value": "x"}]},
            [
                'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, '
                'which means "match all values and all keys"',
            ],
        ),
    ],
)
def test_pods(spec: dict, expected: list) -> None:
    assert complaints(pod(**spec)) == expected


def test_of_a_pod_only_the_image_may_change() -> None:
    def image(obj):
        obj["spec"]["containers"][0]["image"] = "nginx:1.27"

    def node(obj):
        obj["spec"]["nodeName"] = "worker01"

    assert changes(pod(), image) == []
    (complaint,) = changes(pod(), node)
    assert complaint.startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    )
    assert complaint.endswith('\n+ nodeName: "worker01"')
    assert changes(pod(), lambda obj: obj["spec"]["containers"].append({"name": "d", "image": "nginx"})) == [
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    ]


# -- what the lab does not have ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hostPID": True}, "hostPID"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "volumes[0].hostPath"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "volumes[0].secret"),
        ({"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80, "hostPort": 80}]}]},
         "containers[0].ports[0].hostPort"),
        ({"containers": [{"name": "c", "image": "nginx", "envFrom": [{"secretRef": {"name": "s"}}]}]},
         "containers[0].envFrom[0].secretRef"),
    ],
)  # fmt: skip
def test_fields_that_would_do_nothing_are_refused(spec: dict, field: str) -> None:
    for kind, prefix, obj in (("Pod", "spec", pod(**spec)), ("Deployment", "spec.template.spec", None)):
        if obj is None:
            obj = deployment()
            obj["spec"]["template"]["spec"].update(spec)
        obj = made(obj)
        assert validate_create(kind, obj) == []
        with pytest.raises(ApiError) as caught:
            unsupported(kind, obj)
        (cause,) = caught.value.status["details"]["causes"]
        assert caught.value.code == 422
        assert (cause["reason"], cause["field"]) == ("FieldValueForbidden", f"{prefix}.{field}")


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (pod(securityContext={"runAsUser": 1}), "spec.securityContext"),
        (pod(containers=[{"name": "c", "image": "nginx", "resources": {"limits": {"cpu": "1"}}}]),
         "spec.containers[0].resources.limits"),
        (pod(serviceAccountName="x"), "spec.serviceAccountName"),
        (service(type="ExternalName", externalName="a.b"), "spec.externalName"),
        (service(trafficDistribution="PreferClose"), "spec.trafficDistribution"),
    ],
)  # fmt: skip
def test_fields_without_effect_are_warned_of(obj, field: str) -> None:
    warnings = unsupported(obj["kind"], made(obj))
    assert warnings[0].startswith(f"{field}: ")
    assert all(warning.isascii() and "\n" not in warning for warning in warnings)


def test_plain_objects_are_not_warned_of() -> None:
    for obj in (pod(), deployment(), service(type="LoadBalancer", externalTrafficPolicy="Local"), config_map()):
        assert unsupported(obj["kind"], made(obj)) == []
