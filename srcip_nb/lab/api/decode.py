"""The form in which a server keeps an object: what Go's decoder and encoder leave of the JSON that a client sent.

A real API server turns JSON into Go structs and back. On the way unknown fields and nulls go away, so do empty strings,
lists and maps and zero numbers (where Go says `omitempty`), and what cannot be absent appears as {}, "" or 0:

    {"metadata": {"labels": {}}, "spec": {"ports": null, "clusterIP": ""}}  ->  {"metadata": {}, "spec": {}, ...}

Field owners, patches and comparisons are told apart by presence, so this comes before all of them. The tables below are
what the schemas do not tell; the source is kubernetes v1.36.2 staging/src/k8s.io/api (the types and their json tags).
"""

from __future__ import annotations

from typing import Any

from srcip_nb.lab.api.schema import ANY, Type, schema_of

# Numbers and booleans that are no pointers in Go: zero is the same as absent.
_DROPPED_WHEN_ZERO = {
    "ObjectMeta": ("generation",),
    "NodeSpec": ("unschedulable",),
    "ContainerImage": ("sizeBytes",),
    "Probe": ("failureThreshold", "initialDelaySeconds", "periodSeconds", "successThreshold", "timeoutSeconds"),
    "ContainerPort": ("hostPort",),
    "Container": ("stdin", "stdinOnce", "tty"),
    "VolumeMount": ("readOnly",),
    "PodSpec": ("hostIPC", "hostNetwork", "hostPID"),
    "PersistentVolumeClaimVolumeSource": ("readOnly",),
    "NFSVolumeSource": ("readOnly",),
    "PodCondition": ("observedGeneration",),
    "ContainerStateTerminated": ("signal",),
    "VolumeMountStatus": ("readOnly",),
    "PodStatus": ("observedGeneration",),
    "ServiceSpec": ("healthCheckNodePort", "publishNotReadyAddresses"),
    "ServicePort": ("nodePort",),
    "Condition": ("observedGeneration",),
    "Event": ("count",),
    "EventSeries": ("count",),
    "DeploymentSpec": ("minReadySeconds", "paused"),
    "DeploymentStatus": (
        "availableReplicas",
        "observedGeneration",
        "readyReplicas",
        "replicas",
        "unavailableReplicas",
        "updatedReplicas",
    ),
    "ReplicaSetSpec": ("minReadySeconds",),
    "ReplicaSetStatus": ("availableReplicas", "fullyLabeledReplicas", "observedGeneration", "readyReplicas"),
}

# Structs that are no pointers in Go: always there, {} at least.
_ALWAYS_THERE = {
    "Namespace": ("spec", "status"),
    "Node": ("spec", "status"),
    "Pod": ("spec", "status"),
    "Service": ("spec", "status"),
    "ServiceStatus": ("loadBalancer",),
    "Deployment": ("spec", "status"),
    "DeploymentSpec": ("strategy", "template"),
    "ReplicaSet": ("spec", "status"),
    "ReplicaSetSpec": ("template",),
    "PodTemplateSpec": ("metadata", "spec"),
    "Container": ("resources",),
    "ContainerStatus": ("state", "lastState"),
    "Endpoint": ("conditions",),
    "Event": ("involvedObject", "source"),
}

# Times that are no pointers in Go: null when they are not set.
_NULL_WHEN_UNSET = {
    "PodCondition": ("lastProbeTime", "lastTransitionTime"),
    "NodeCondition": ("lastHeartbeatTime", "lastTransitionTime"),
    "DeploymentCondition": ("lastUpdateTime", "lastTransitionTime"),
    "ReplicaSetCondition": ("lastTransitionTime",),
    "ContainerStateRunning": ("startedAt",),
    "ContainerStateTerminated": ("startedAt", "finishedAt"),
    "Event": ("firstTimestamp", "lastTimestamp", "eventTime"),
}

# Strings and lists that Go writes even when they are empty, and that the schema does not call required.
_KEPT_WHEN_EMPTY = {
    "Event": ("reportingComponent", "reportingInstance"),
    "EndpointSlice": ("endpoints", "ports"),
    "Endpoint": ("addresses",),
    "HostPathVolumeSource": ("type",),
    "PersistentVolumeClaimSpec": ("storageClassName",),
    "TypedLocalObjectReference": ("apiGroup",),
}

# What Go writes for a number, boolean or string that must be there and was not sent.
_ZEROS: dict[str, Any] = {"int32": 0, "int64": 0, "bool": False, "string": "", "intstr.IntOrString": 0}


def normalise(kind: str, obj: dict[str, Any]) -> None:
    """Bring an object, in place, into the form in which a server of its kind would write it back.

    Raises:
        KeyError: the lab has no such kind.
    """
    # Every string of an EndpointSlice is a pointer in Go or required: "" (a port without a name) is a value there.
    _Normaliser(keeps_empty_strings=kind == "EndpointSlice").struct(obj, schema_of(kind))


def empty_object(kind: str) -> dict[str, Any]:
    """What a server starts from when it makes an object: the structs that are always there, nothing in them."""
    obj: dict[str, Any] = {"metadata": {}}
    normalise(kind, obj)
    spec = obj.get("spec", {})
    for pod_spec in (spec if kind == "Pod" else None, spec.get("template", {}).get("spec")):
        if pod_spec is not None:
            # The one list of a pod that Go writes even when it has none.
            pod_spec["containers"] = None
    return obj


class _Normaliser:
    def __init__(self, keeps_empty_strings: bool) -> None:
        self.keeps_empty_strings = keeps_empty_strings

    def struct(self, obj: dict[str, Any], shape: Type) -> None:
        name = shape.go.split(".")[1]
        for key in list(obj):
            is_known = key in shape.fields
            if not is_known or self._is_absent(obj[key], shape, key):
                del obj[key]
        for key in _ALWAYS_THERE.get(name, ()):
            obj.setdefault(key, {})
        for key in shape.required:
            zero = _ZEROS.get(shape.fields[key].go)
            if shape.fields[key].form == "scalar" and zero is not None:
                obj.setdefault(key, zero)
        for key, value in obj.items():
            self._inside(value, shape.fields[key])
        # Go's own empties come after: what was inside may have gone, and a map or list without content goes too.
        for key in [key for key, value in obj.items() if not value and shape.fields[key].form in ("map", "list")]:
            if not _is_kept(shape, key):
                del obj[key]
        for key in _NULL_WHEN_UNSET.get(name, ()):
            obj.setdefault(key, None)

    def _inside(self, value: Any, shape: Type) -> None:
        if shape.form == "struct":
            self.struct(value, shape)
        elif shape.form == "list":
            value[:] = [item for item in value if item is not None]
            for item in value:
                self._inside(item, shape.element or ANY)
        elif shape.form == "map":
            element = shape.element or ANY
            for key in [key for key, item in value.items() if item is None]:
                # Go keeps the key of a null in a map, with the value's zero.
                value[key] = "" if element.go == "string" else {}
            for item in value.values():
                self._inside(item, element)

    def _is_absent(self, value: Any, shape: Type, key: str) -> bool:
        if value is None:
            return True
        field = shape.fields[key]
        if field.form != "scalar" or _is_kept(shape, key):
            return False
        if isinstance(value, str) and not value:
            return not self.keeps_empty_strings or field.go in ("v1.Time", "v1.MicroTime")
        return not value and key in _DROPPED_WHEN_ZERO.get(shape.go.split(".")[1], ())


def _is_kept(shape: Type, key: str) -> bool:
    return key in shape.required or key in _KEPT_WHEN_EMPTY.get(shape.go.split(".")[1], ())
