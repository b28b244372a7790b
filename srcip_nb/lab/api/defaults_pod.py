"""The defaults of a pod, of its containers and volumes: those of a Pod alone, and those of every pod template too.

A Pod gets a few more than the template it was made from (enableServiceLinks, requests from limits), as on a real
server, so that a new default does not change the hash of every template.

Source: kubernetes v1.36.2 pkg/apis/core/v1/defaults.go.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

_VOLUME_SOURCES_WITH_MODE = ("configMap", "secret", "downwardAPI", "projected")
_MODE = 0o644


def default_pod(pod: Object) -> None:
    """Fill in, in place, the defaults of a Pod."""
    spec = pod["spec"]
    default_pod_spec(spec)
    for container in _containers(spec):
        limits = container["resources"].get("limits", {})
        if limits:
            requests = container["resources"].setdefault("requests", {})
            for name, amount in limits.items():
                requests.setdefault(name, amount)
    spec.setdefault("enableServiceLinks", True)
    if spec.get("hostNetwork"):
        for container in _containers(spec):
            for port in container.get("ports", []):
                port.setdefault("hostPort", port["containerPort"])


def default_pod_spec(spec: Object) -> None:
    """Fill in, in place, the defaults of the spec of a Pod or of a pod template."""
    for volume in spec.get("volumes", []):
        _volume(volume)
    for container in _containers(spec):
        _container(container)
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])


def default_resources(holder: Object, *names: str) -> None:
    """Write, in place, the amounts of resource lists as strings: a server gives {"cpu": "2"} for {"cpu": 2}."""
    for name in names:
        for resource, amount in holder.get(name, {}).items():
            holder[name][resource] = str(amount)


def image_tag(image: str) -> str:
    """The tag of an image's name: latest for nginx, 1.27 for nginx:1.27, "" for nginx@sha256:..."""
    name, has_digest, _ = image.partition("@")
    # A colon before the last slash belongs to a registry's port.
    _, has_tag, tag = name.rpartition("/")[2].partition(":")
    if has_tag:
        return tag
    return "" if has_digest else "latest"


def quality_of_service(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from the containers' requests and limits of cpu and memory."""
    wanted = ("cpu", "memory")
    requests = [_amounts(container, "requests") for container in _containers(spec)]
    limits = [_amounts(container, "limits") for container in _containers(spec)]
    if not any(requests) and not any(limits):
        return "BestEffort"
    is_guaranteed = all(
        set(limit) == set(wanted) and all(request.get(name, limit[name]) == limit[name] for name in wanted)
        for request, limit in zip(requests, limits, strict=True)
    )
    return "Guaranteed" if is_guaranteed else "Burstable"


def _amounts(container: Object, kind: str) -> Object:
    amounts = container.get("resources", {}).get(kind, {})
    return {name: amount for name, amount in amounts.items() if name in ("cpu", "memory") and str(amount) != "0"}


def _containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def _container(container: Object) -> None:
    default_resources(container["resources"], "requests", "limits")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    is_latest = image_tag(container.get("image", "")) == "latest"
    container.setdefault("imagePullPolicy", "Always" if is_latest else "IfNotPresent")
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            _probe(container[probe])
    for hook in container.get("lifecycle", {}).values():
        if isinstance(hook, dict):
            _http_get(hook)
    for variable in container.get("env", []):
        field_ref = variable.get("valueFrom", {}).get("fieldRef")
        if field_ref is not None:
            field_ref.setdefault("apiVersion", "v1")


def _probe(probe: Object) -> None:
    _http_get(probe)
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)


def _http_get(handler: Object) -> None:
    http_get = handler.get("httpGet")
    if http_get is not None:
        http_get.setdefault("path", "/")
        http_get.setdefault("scheme", "HTTP")


def _volume(volume: Object) -> None:
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    for source in _VOLUME_SOURCES_WITH_MODE:
        if source in volume:
            volume[source].setdefault("defaultMode", _MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    items = [volume.get("downwardAPI", {}), *(part.get("downwardAPI", {}) for part in _projected(volume))]
    for item in [item for source in items for item in source.get("items", [])]:
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")
    for part in _projected(volume):
        if "serviceAccountToken" in part:
            part["serviceAccountToken"].setdefault("expirationSeconds", 3600)


def _projected(volume: Object) -> list[Object]:
    sources: list[Object] = volume.get("projected", {}).get("sources", [])
    return sources
