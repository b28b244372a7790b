"""What `kubectl get` prints: a server-side Table with the columns and cells of a real API server.

    as_table(RESOURCES["services"], objects, revision="205", now=time.time())

kubectl prints columns of priority 0, and with -o wide those of priority 1. The cells of each kind are in
table_cells.py; the columns stand here as (name, type, priority, description), where a description that is a field's
own, such as "ServiceSpec.type", is looked up in the schemas.

Source: kubernetes v1.36.2 pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from srcip_nb.lab.api.objects import JsonObject
from srcip_nb.lab.api.resources import Resource
from srcip_nb.lab.api.schema import read_definitions
from srcip_nb.lab.api.table_cells import CELLS

_NAME = ("Name", "string", 0, "ObjectMeta.name")
_AGE = ("Age", "string", 0, "ObjectMeta.creationTimestamp")
_CONTAINERS = ("Containers", "string", 1, "Names of each container in the template.")
_IMAGES = ("Images", "string", 1, "Images referenced by each container in the template.")

_COLUMNS: dict[str, tuple[tuple[str, str, int, str], ...]] = {
    "configmaps": (_NAME, ("Data", "string", 0, "ConfigMap.data"), _AGE),
    "deployments": (
        _NAME,
        ("Ready", "string", 0, "Number of the pod with ready state"),
        ("Up-to-date", "string", 0, "DeploymentStatus.updatedReplicas"),
        ("Available", "string", 0, "DeploymentStatus.availableReplicas"),
        _AGE,
        _CONTAINERS,
        _IMAGES,
        ("Selector", "string", 1, "DeploymentSpec.selector"),
    ),
    "endpoints": (_NAME, ("Endpoints", "string", 0, "Endpoints.subsets"), _AGE),
    "endpointslices": (
        _NAME,
        ("AddressType", "string", 0, "EndpointSlice.addressType"),
        ("Ports", "string", 0, "EndpointSlice.ports"),
        ("Endpoints", "string", 0, "EndpointSlice.endpoints"),
        _AGE,
    ),
    "events": (
        ("Last Seen", "string", 0, "Event.lastTimestamp"),
        ("Type", "string", 0, "Event.type"),
        ("Reason", "string", 0, "Event.reason"),
        ("Object", "string", 0, "Event.involvedObject"),
        ("Subobject", "string", 1, "ObjectReference.fieldPath"),
        ("Source", "string", 1, "Event.source"),
        ("Message", "string", 0, "Event.message"),
        ("First Seen", "string", 1, "Event.firstTimestamp"),
        ("Count", "string", 1, "Event.count"),
        ("Name", "string", 1, "ObjectMeta.name"),
    ),
    "namespaces": (_NAME, ("Status", "string", 0, "The status of the namespace"), _AGE),
    "nodes": (
        _NAME,
        ("Status", "string", 0, "The status of the node"),
        ("Roles", "string", 0, "The roles of the node"),
        _AGE,
        ("Version", "string", 0, "NodeSystemInfo.kubeletVersion"),
        ("Internal-IP", "string", 1, "NodeStatus.addresses"),
        ("External-IP", "string", 1, "NodeStatus.addresses"),
        ("OS-Image", "string", 1, "NodeSystemInfo.osImage"),
        ("Kernel-Version", "string", 1, "NodeSystemInfo.kernelVersion"),
        ("Container-Runtime", "string", 1, "NodeSystemInfo.containerRuntimeVersion"),
    ),
    "pods": (
        _NAME,
        ("Ready", "string", 0, "The aggregate readiness state of this pod for accepting traffic."),
        ("Status", "string", 0, "The aggregate status of the containers in this pod."),
        (
            "Restarts",
            "string",
            0,
            "The number of times the containers in this pod have been restarted and when the last container in this "
            "pod has restarted.",
        ),
        _AGE,
        ("IP", "string", 1, "PodStatus.podIP"),
        ("Node", "string", 1, "PodSpec.nodeName"),
        ("Nominated Node", "string", 1, "PodStatus.nominatedNodeName"),
        ("Readiness Gates", "string", 1, "PodSpec.readinessGates"),
    ),
    "replicasets": (
        _NAME,
        ("Desired", "integer", 0, "ReplicaSetSpec.replicas"),
        ("Current", "integer", 0, "ReplicaSetStatus.replicas"),
        ("Ready", "integer", 0, "ReplicaSetStatus.readyReplicas"),
        _AGE,
        _CONTAINERS,
        _IMAGES,
        ("Selector", "string", 1, "ReplicaSetSpec.selector"),
    ),
    "services": (
        _NAME,
        ("Type", "string", 0, "ServiceSpec.type"),
        ("Cluster-IP", "string", 0, "ServiceSpec.clusterIP"),
        ("External-IP", "string", 0, "ServiceSpec.externalIPs"),
        ("Port(s)", "string", 0, "ServiceSpec.ports"),
        _AGE,
        ("Selector", "string", 1, "ServiceSpec.selector"),
    ),
}


def as_table(
    resource: Resource,
    objects: Iterable[JsonObject],
    include_object: str = "Metadata",
    *,
    now: float,
    list_metadata: JsonObject | None = None,
    version: str = "v1",
    headers: bool = True,
) -> JsonObject:
    """A meta.k8s.io Table of objects of one resource.

    Args:
        resource: theirs.
        objects: one row each.
        include_object: what a row carries of its object: "None", "Metadata" (PartialObjectMetadata) or "Object".
        now: seconds since 1970, for ages.
        list_metadata: the list's resourceVersion, continue, remainingItemCount.
        version: "v1" or "v1beta1".
        headers: columnDefinitions are null without; a watch sends them with its first event only.
    """
    api_version = f"meta.k8s.io/{version}"
    rows = []
    for obj in objects:
        row: JsonObject = {"cells": CELLS[resource.name](obj, now)}
        row["object"] = _row_object(resource, obj, include_object, api_version)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": list_metadata or {},
        "columnDefinitions": _column_definitions(resource.name) if headers else None,
        "rows": rows,
    }


def partial_metadata(obj: JsonObject, api_version: str = "meta.k8s.io/v1") -> JsonObject:
    """An object's PartialObjectMetadata: its metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj["metadata"]}


def _row_object(resource: Resource, obj: JsonObject, include_object: str, api_version: str) -> Any:
    if include_object == "None":
        return None
    if include_object == "Object":
        return obj
    return partial_metadata(obj, api_version)


@cache
def _column_definitions(name: str) -> list[JsonObject]:
    described = _descriptions()
    return [
        {
            "name": title,
            "type": type_,
            "format": "name" if title == "Name" else "",
            "description": described.get(description, description),
            "priority": priority,
        }
        for title, type_, priority, description in _COLUMNS[name]
    ]


@lru_cache(maxsize=1)
def _descriptions() -> dict[str, str]:
    """The description of every field that a column names, by "Type.field"; the schemas themselves are not kept."""
    wanted = {text for columns in _COLUMNS.values() for *_, text in columns if re.fullmatch(r"\w+\.\w+", text)}
    found = {}
    for name, definition in read_definitions().items():
        kind = name.rsplit(".", 1)[1]
        is_ours = name.startswith(("io.k8s.api.core.v1.", "io.k8s.api.apps.v1.", "io.k8s.api.discovery.v1."))
        if is_ours or name.endswith(".meta.v1.ObjectMeta"):
            for field, node in definition.get("properties", {}).items():
                if f"{kind}.{field}" in wanted:
                    found[f"{kind}.{field}"] = str(node.get("description", ""))
    return found
