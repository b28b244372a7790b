"""The cells of each kind's row in a Table: pure functions `(object, now) -> list`, in the columns' order.

Source: kubernetes v1.36.2 pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from srcip_nb.lab.api.durations import age, human_duration
from srcip_nb.lab.api.objects import JsonObject, seconds_of
from srcip_nb.lab.api.selectors import selector_text

NONE = "<none>"
_ENDPOINTS_SHOWN = 3
_ROLE_LABEL = "node-role.kubernetes.io/"


def _name(obj: JsonObject) -> str:
    return str(obj["metadata"]["name"])


def _age(obj: JsonObject, now: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _config_map(obj: JsonObject, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj, now)]


def _namespace(obj: JsonObject, now: float) -> list[Any]:
    return [_name(obj), (obj.get("status") or {}).get("phase", ""), _age(obj, now)]


# -- workloads -------------------------------------------------------------------------------------------------------


def _containers(spec: JsonObject) -> list[str]:
    containers = spec["template"]["spec"].get("containers") or []
    return [",".join(c["name"] for c in containers), ",".join(c.get("image", "") for c in containers)]


def _deployment(obj: JsonObject, now: float) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        _name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj, now),
        *_containers(spec),
        selector_text(spec.get("selector")),
    ]


def _replica_set(obj: JsonObject, now: float) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        _name(obj),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        _age(obj, now),
        *_containers(spec),
        selector_text(spec.get("selector")),
    ]


def _pod(obj: JsonObject, now: float) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    statuses = status.get("containerStatuses") or []
    ready = sum(1 for container in statuses if container.get("ready") and "running" in (container.get("state") or {}))
    gates = spec.get("readinessGates") or []
    return [
        _name(obj),
        f"{ready}/{len(spec.get('containers') or [])}",
        pod_status(obj),
        _restarts(statuses, now),
        _age(obj, now),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(gates, status.get("conditions") or []) if gates else NONE,
    ]


def pod_status(pod: JsonObject) -> str:
    """The word in kubectl's STATUS column: Running, ContainerCreating, ImagePullBackOff, Terminating ..."""
    status = pod.get("status") or {}
    reason = str(status.get("reason") or status.get("phase") or "")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    statuses = status.get("containerStatuses") or []
    has_running = False
    for container in reversed(statuses):
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = _termination(terminated)
        elif container.get("ready") and "running" in state:
            has_running = True
    if reason == "Completed" and has_running:
        conditions = status.get("conditions") or []
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        reason = "Running" if is_ready else "NotReady"
    is_finished = status.get("phase") in ("Succeeded", "Failed")
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if not is_finished:
            return "Terminating"
    return reason


def _termination(terminated: JsonObject) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _restarts(statuses: Iterable[JsonObject], now: float) -> str:
    count, last = 0, ""
    for container in statuses:
        count += container.get("restartCount", 0)
        finished = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        last = max(last, finished)
    return f"{count} ({human_duration(now - seconds_of(last))} ago)" if count and last else str(count)


def _readiness_gates(gates: list[JsonObject], conditions: list[JsonObject]) -> str:
    true = {condition["type"] for condition in conditions if condition["status"] == "True"}
    return f"{sum(1 for gate in gates if gate['conditionType'] in true)}/{len(gates)}"


# -- nodes -----------------------------------------------------------------------------------------------------------


def _node(obj: JsonObject, now: float) -> list[Any]:
    info = (obj.get("status") or {}).get("nodeInfo") or {}
    kernel, architecture = info.get("kernelVersion"), info.get("architecture")
    return [
        _name(obj),
        _node_status(obj),
        _roles(obj["metadata"].get("labels") or {}),
        _age(obj, now),
        info.get("kubeletVersion", ""),
        _address(obj, "InternalIP"),
        _address(obj, "ExternalIP"),
        info.get("osImage") or "<unknown>",
        (f"{kernel} ({architecture})" if architecture else kernel) if kernel else "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _node_status(obj: JsonObject) -> str:
    conditions = {c["type"]: c["status"] for c in (obj.get("status") or {}).get("conditions") or []}
    word = "Unknown" if "Ready" not in conditions else "Ready" if conditions["Ready"] == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if (obj.get("spec") or {}).get("unschedulable") else word


def _roles(labels: dict[str, str]) -> str:
    roles = {label.removeprefix(_ROLE_LABEL) for label in labels if label.startswith(_ROLE_LABEL)}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    return ",".join(sorted(role for role in roles if role)) or NONE


def _address(obj: JsonObject, kind: str) -> str:
    addresses = (obj.get("status") or {}).get("addresses") or []
    return next((str(a["address"]) for a in addresses if a["type"] == kind), NONE)


# -- services and what is behind them --------------------------------------------------------------------------------


def _service(obj: JsonObject, now: float) -> list[Any]:
    spec = obj["spec"]
    selector = spec.get("selector") or {}
    return [
        _name(obj),
        spec.get("type", "ClusterIP"),
        spec.get("clusterIP") or NONE,
        _external_ip(obj),
        ",".join(_service_port(port) for port in spec.get("ports") or []) or NONE,
        _age(obj, now),
        ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or NONE,
    ]


def _service_port(port: JsonObject) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"


def _external_ip(obj: JsonObject) -> str:
    spec = obj["spec"]
    external = list(spec.get("externalIPs") or [])
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec.get("type") == "LoadBalancer":
        ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        balancer = sorted({str(point.get("ip") or point.get("hostname") or "") for point in ingress} - {""})
        return ",".join([*balancer, *external]) or "<pending>"
    return ",".join(external) or NONE


def _endpoints(obj: JsonObject, now: float) -> list[Any]:
    return [_name(obj), _endpoints_text(obj.get("subsets") or []), _age(obj, now)]


def _endpoints_text(subsets: list[JsonObject]) -> str:
    shown: list[str] = []
    for subset in subsets:
        addresses, ports = subset.get("addresses") or [], subset.get("ports") or []
        if not ports:
            shown += [address["ip"] for address in addresses]
        for port in ports:
            shown += [f"{_bracketed(address['ip'])}:{port['port']}" for address in addresses]
    return _at_most(shown)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _at_most(items: list[str]) -> str:
    if len(items) > _ENDPOINTS_SHOWN:
        return f"{','.join(items[:_ENDPOINTS_SHOWN])} + {len(items) - _ENDPOINTS_SHOWN} more..."
    return ",".join(items) or NONE


def _endpoint_slice(obj: JsonObject, now: float) -> list[Any]:
    addresses = [address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []]
    return [
        _name(obj),
        obj.get("addressType", ""),
        _slice_ports(obj.get("ports")),
        _unset_or(addresses),
        _age(obj, now),
    ]


def _slice_ports(ports: list[JsonObject] | None) -> str:
    return _unset_or([str(port["port"]) if port.get("port") else "*" for port in ports or []])


def _unset_or(items: list[str]) -> str:
    return _at_most(items) if items else "<unset>"


# -- events ----------------------------------------------------------------------------------------------------------


def _event(obj: JsonObject, now: float) -> list[Any]:
    series, involved = obj.get("series") or {}, obj.get("involvedObject") or {}
    first = age(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = first if not obj.get("lastTimestamp") else age(obj["lastTimestamp"], now)
    if series:
        last = age(series.get("lastObservedTime"), now)
    count = series.get("count") or obj.get("count") or 1
    target = involved.get("kind", "").lower()
    target += f"/{involved['name']}" if involved.get("name") else ""
    return [
        last,
        obj.get("type", ""),
        obj.get("reason", ""),
        target,
        involved.get("fieldPath", ""),
        _event_source(obj),
        str(obj.get("message", "")).strip(),
        first,
        count,
        _name(obj),
    ]


def _event_source(obj: JsonObject) -> str:
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return f"{component}, {host}" if host else str(component)


CELLS: dict[str, Callable[[JsonObject, float], list[Any]]] = {
    "configmaps": _config_map,
    "deployments": _deployment,
    "endpoints": _endpoints,
    "endpointslices": _endpoint_slice,
    "events": _event,
    "namespaces": _namespace,
    "nodes": _node,
    "pods": _pod,
    "replicasets": _replica_set,
    "services": _service,
}
"""By resource."""
