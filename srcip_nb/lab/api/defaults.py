"""What an API server fills in: the defaults of each kind, and what it decides itself when an object is made.

Two steps, apart because field owners are counted between them (what a client sent and what was defaulted belongs to
the client, what the server decided afterwards belongs to nobody):

    set_defaults(kind, obj)       on every create, update and patch: imagePullPolicy, protocol, strategy ...
    prepare_create(kind, obj)     once, when the object is made: phase, finalizers, tolerations, quality of service

Source: kubernetes v1.36.2 pkg/apis/{core,apps,discovery}/v1/defaults.go, pkg/registry/*/strategy.go and the admission
plug-ins DefaultTolerationSeconds and Priority.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from srcip_nb.lab.api.decode import normalise
from srcip_nb.lab.api.defaults_pod import default_pod, default_pod_spec, default_resources, quality_of_service
from srcip_nb.lab.api.service_rules import is_externally_accessible

Object = dict[str, Any]

_CLIENT_IP_TIMEOUT = 10800
"""Seconds for which sessionAffinity ClientIP remembers a client: three hours, as the API defines it."""


def set_defaults(kind: str, obj: Object) -> None:
    """Bring an object, in place, into the server's form (see decode.py) and fill in what its kind defaults.

    Raises:
        KeyError: the lab has no such kind.
    """
    normalise(kind, obj)
    _DEFAULTS.get(kind, lambda obj: None)(obj)


def prepare_create(kind: str, obj: Object) -> None:
    """Set, in place, what the server alone decides about a new object; call it after `set_defaults`."""
    _PREPARE.get(kind, lambda obj: None)(obj)


def _service(service: Object) -> None:
    spec = service["spec"]
    affinity = spec.setdefault("sessionAffinity", "None")
    if affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    elif affinity == "ClientIP":
        client_ip = spec.get("sessionAffinityConfig", {}).get("clientIP", {})
        if "timeoutSeconds" not in client_ip:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _CLIENT_IP_TIMEOUT}}
    service_type = spec.setdefault("type", "ClusterIP")
    for port in spec.get("ports", []):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    if is_externally_accessible(service):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if service_type in ("ClusterIP", "NodePort", "LoadBalancer"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if service_type == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in service["status"]["loadBalancer"].get("ingress", []):
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _namespace(namespace: Object) -> None:
    name = namespace["metadata"].get("name")
    if name:
        namespace["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    namespace["status"].setdefault("phase", "Active")


def _node(node: Object) -> None:
    status = node["status"]
    default_resources(status, "capacity", "allocatable")
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))


def _endpoints(endpoints: Object) -> None:
    for subset in endpoints.get("subsets", []):
        for port in subset.get("ports", []):
            port.setdefault("protocol", "TCP")


def _endpoint_slice(endpoint_slice: Object) -> None:
    for port in endpoint_slice.get("ports", []):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _deployment(deployment: Object) -> None:
    spec = deployment["spec"]
    spec.setdefault("replicas", 1)
    strategy = spec["strategy"]
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling_update = strategy.setdefault("rollingUpdate", {})
        rolling_update.setdefault("maxUnavailable", "25%")
        rolling_update.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    default_pod_spec(spec["template"]["spec"])


def _replica_set(replica_set: Object) -> None:
    replica_set["spec"].setdefault("replicas", 1)
    replica_set["status"].setdefault("replicas", 0)
    default_pod_spec(replica_set["spec"]["template"]["spec"])


def _event(event: Object) -> None:
    event.setdefault("reportingComponent", "")
    event.setdefault("reportingInstance", "")


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "Service": _service,
    "Namespace": _namespace,
    "Node": _node,
    "Pod": default_pod,
    "Endpoints": _endpoints,
    "EndpointSlice": _endpoint_slice,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "Event": _event,
}


# -- what the server decides about a new object ------------------------------------------------------------------------


def _new_namespace(namespace: Object) -> None:
    namespace["status"] = {"phase": "Active"}
    finalizers = namespace["spec"].setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    # A name made from generateName is known only now.
    _namespace(namespace)


def _new_service(service: Object) -> None:
    service["status"] = {"loadBalancer": {}}


def _new_deployment(deployment: Object) -> None:
    deployment["status"] = {}


def _new_replica_set(replica_set: Object) -> None:
    replica_set["status"] = {"replicas": 0}


def _new_pod(pod: Object) -> None:
    spec = pod["spec"]
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        is_tolerated = any(
            toleration.get("key", key) == key and toleration.get("effect", "NoExecute") == "NoExecute"
            for toleration in tolerations
        )
        if not is_tolerated:
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    pod["status"] = {"phase": "Pending", "qosClass": quality_of_service(spec)}


_PREPARE: dict[str, Callable[[Object], None]] = {
    "Namespace": _new_namespace,
    "Service": _new_service,
    "Deployment": _new_deployment,
    "ReplicaSet": _new_replica_set,
    "Pod": _new_pod,
}
