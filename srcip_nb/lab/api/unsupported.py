"""What is valid in Kubernetes and not to be had in the lab: refused where it would change the result, else warned of.

This is the whole list. A field that is neither here nor honoured is a fault of the lab.

    unsupported("Pod", obj)    # ["spec.securityContext: the lab's containers run as the lab does, this has no effect"]

Refused is what a learner would wait for in vain (a volume, a host port, the host's processes); warned of is what has no
effect on who reaches whom (limits, security contexts). The warnings also hold those that a real API server gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from srcip_nb.lab.api.status import Cause, forbidden_value, invalid

Object = dict[str, Any]

_VOLUMES = ("configMap", "emptyDir", "projected")
_VARIABLE_SOURCES = ("configMapKeyRef", "fieldRef")

_REFUSED_OF_PODS = {
    "hostPID": "the lab's pods see no processes but their own",
    "hostIPC": "the lab's pods do not share memory with their node",
    "ephemeralContainers": "type `srcip-nb lab exec NAMESPACE/POD -- COMMAND` to look inside a pod",
    "resourceClaims": "the lab has no devices to claim",
    "schedulingGates": "the lab's scheduler knows no gates; leave the field out",
}
_WARNED_OF_PODS = {
    "securityContext": "the lab's containers run as the lab does; this has no effect",
    "runtimeClassName": "the lab has one runtime; this has no effect",
    "dnsConfig": "the lab has no DNS; this has no effect",
    "hostAliases": "the lab writes no /etc/hosts; this has no effect",
    "shareProcessNamespace": "each container of the lab sees its own processes alone; this has no effect",
    "topologySpreadConstraints": "the lab's scheduler spreads the pods of a ReplicaSet evenly; this has no effect",
    "priorityClassName": "the lab has no PriorityClasses; this has no effect",
    "activeDeadlineSeconds": "the lab ends no pod by time; this has no effect",
    "imagePullSecrets": "the lab pulls no images; this has no effect",
    "readinessGates": "the lab looks at the containers alone; this has no effect",
    "overhead": "the lab counts no resources; this has no effect",
}
_WARNED_OF_CONTAINERS = {
    "securityContext": "the lab's containers run as the lab does; this has no effect",
    "resizePolicy": "the lab's containers have no resource limits; this has no effect",
    "stdin": "the lab's containers read no input; this has no effect",
    "tty": "the lab's containers have no terminal; this has no effect",
}


def unsupported(kind: str, obj: Object) -> list[str]:
    """What of an object the lab cannot honour; call it on an object that is valid, with its defaults.

    Args:
        kind: the object's kind.
        obj: the object, not changed.

    Returns:
        one ASCII sentence for each field that has no effect, for the Warning header; [] for most objects.

    Raises:
        ApiError: 422, fields that the lab must refuse; each cause says what to do instead.
    """
    refused: list[Cause] = []
    warnings: list[str] = []
    if kind == "Service":
        warnings += _service_warnings(obj["spec"])
    elif kind in _POD_SPECS:
        field, spec = _POD_SPECS[kind](obj)
        refused += _refused_in_pod(field, spec)
        warnings += [f"{where}: {why}" for where, why in _warned_in_pod(field, spec)]
    elif kind == "Endpoints":
        warnings.append("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    if refused:
        raise invalid(kind, obj["metadata"].get("name", ""), refused)
    return warnings


_POD_SPECS: dict[str, Callable[[Object], tuple[str, Object]]] = {
    "Pod": lambda pod: ("spec", pod["spec"]),
    "Deployment": lambda deployment: ("spec.template.spec", deployment["spec"]["template"]["spec"]),
    "ReplicaSet": lambda replica_set: ("spec.template.spec", replica_set["spec"]["template"]["spec"]),
}


def _service_warnings(spec: Object) -> Iterator[str]:
    service_type, is_headless = spec.get("type"), spec.get("clusterIP") == "None"
    if service_type == "ExternalName":
        yield "spec.externalName: the lab has no DNS; nobody can look this name up"
    elif spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if is_headless:
        yield "spec.clusterIP: the lab has no DNS; ask the EndpointSlices for a headless Service's addresses"
        if spec.get("sessionAffinity", "None") != "None":
            yield "spec.SessionAffinity is ignored for headless services"
    if spec.get("externalIPs"):
        if is_headless:
            yield "spec.externalIPs is ignored for headless services"
        elif service_type == "ExternalName":
            yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
        else:
            yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if spec.get("loadBalancerClass"):
        yield "spec.loadBalancerClass: the lab's load balancer serves Services without a class; nobody serves this one"
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def _containers(field: str, spec: Object) -> Iterator[tuple[str, Object]]:
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group, [])):
            yield f"{field}.{group}[{index}]", container


def _refused_in_pod(field: str, spec: Object) -> Iterator[Cause]:
    for name, why in _REFUSED_OF_PODS.items():
        if spec.get(name):
            yield forbidden_value(f"{field}.{name}", why)
    for index, volume in enumerate(spec.get("volumes", [])):
        yield from _refused_in_volume(f"{field}.volumes[{index}]", volume)
    for where, container in _containers(field, spec):
        yield from _refused_in_container(where, container, bool(spec.get("hostNetwork")))


def _refused_in_volume(field: str, volume: Object) -> Iterator[Cause]:
    for source in volume:
        if source not in ("name", *_VOLUMES):
            yield forbidden_value(
                f"{field}.{source}", "the lab has volumes of these kinds: configMap, emptyDir, projected"
            )
    for index, part in enumerate(volume.get("projected", {}).get("sources", [])):
        for source in part:
            if source != "configMap":
                yield forbidden_value(
                    f"{field}.projected.sources[{index}].{source}", "the lab projects ConfigMaps alone"
                )


def _refused_in_container(field: str, container: Object, is_on_host_network: bool) -> Iterator[Cause]:
    for index, port in enumerate(container.get("ports", [])):
        own_port = port.get("containerPort") if is_on_host_network else None
        if port.get("hostPort") and port["hostPort"] != own_port:
            yield forbidden_value(
                f"{field}.ports[{index}].hostPort", "the lab has no host ports; use a NodePort Service"
            )
    for index, mount in enumerate(container.get("volumeMounts", [])):
        for name in ("subPath", "subPathExpr"):
            if mount.get(name):
                why = "the lab mounts whole volumes; mount this one at a directory of its own"
                yield forbidden_value(f"{field}.volumeMounts[{index}].{name}", why)
    if container.get("volumeDevices"):
        yield forbidden_value(f"{field}.volumeDevices", "the lab has no block devices")
    for index, variable in enumerate(container.get("env", [])):
        for source in variable.get("valueFrom", {}):
            if source not in _VARIABLE_SOURCES:
                why = "the lab takes a variable's value from these: configMapKeyRef, fieldRef"
                yield forbidden_value(f"{field}.env[{index}].valueFrom.{source}", why)
    for index, source in enumerate(container.get("envFrom", [])):
        if "secretRef" in source:
            yield forbidden_value(f"{field}.envFrom[{index}].secretRef", "the lab has no Secrets; use a ConfigMap")
    if container.get("restartPolicy") or container.get("restartPolicyRules"):
        yield forbidden_value(f"{field}.restartPolicy", "the lab restarts containers as the pod's restartPolicy says")


def _warned_in_pod(field: str, spec: Object) -> Iterator[tuple[str, str]]:
    for name, why in _WARNED_OF_PODS.items():
        if spec.get(name):
            yield f"{field}.{name}", why
    for name in ("podAffinity", "podAntiAffinity"):
        if spec.get("affinity", {}).get(name):
            yield f"{field}.affinity.{name}", "the lab's scheduler looks at node affinity alone; this has no effect"
    if spec.get("serviceAccountName", "default") != "default":
        yield f"{field}.serviceAccountName", "the lab has no service accounts; this has no effect"
    if spec.get("schedulerName", "default-scheduler") != "default-scheduler":
        yield f"{field}.schedulerName", "the lab has default-scheduler alone; nobody will schedule this pod"
    for where, container in _containers(field, spec):
        for name, why in _WARNED_OF_CONTAINERS.items():
            if container.get(name):
                yield f"{where}.{name}", why
        for name in ("limits", "requests"):
            if container.get("resources", {}).get(name):
                yield f"{where}.resources.{name}", "the lab counts no resources; this has no effect"
