"""Whether an object may be stored: what is wrong with it, one cause per field, in a real API server's words.

    validate_create("Service", obj)         # [Cause("FieldValueRequired", "Required value", "spec.ports")]
    validate_update("Service", new, old)    # the same, and what may not change

Call them on an object whose defaults are filled in and, for a Service, whose addresses are allocated. The rules of
Services and pods have their own modules; those of the other kinds are here. What is valid but not to be had in the lab
is unsupported.py's business.

Source: kubernetes v1.36.2 pkg/apis/{core,apps,discovery}/validation/validation.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from srcip_nb.lab.api.selectors import labels_match
from srcip_nb.lab.api.status import (
    Cause,
    duplicate,
    forbidden_value,
    invalid_value,
    not_supported,
    required,
    too_long,
)
from srcip_nb.lab.api.validation_meta import (
    immutable,
    invalid,
    label_causes,
    metadata_causes,
    metadata_update_causes,
    not_negative,
    selector_causes,
    supported,
)
from srcip_nb.lab.api.validation_names import (
    config_key,
    dns_label,
    dns_subdomain,
    endpoint_address,
    ip_address,
    label_key,
    label_value,
    percent,
    port_number,
)
from srcip_nb.lab.api.validation_pod import pod_causes, pod_update_causes, template_causes
from srcip_nb.lab.api.validation_service import service_causes, service_update_causes

Object = dict[str, Any]

_CONFIG_MAP_LIMIT = 1024 * 1024
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def validate_create(kind: str, obj: Object) -> list[Cause]:
    """What is wrong with a new object; [] when it may be stored."""
    if kind == "Service":
        return service_causes(obj)
    if kind == "Pod":
        return pod_causes(obj)
    return metadata_causes(kind, obj) + _content_causes(kind, obj)


def validate_update(kind: str, new: Object, old: Object) -> list[Cause]:
    """What is wrong with a changed object, or with changing it; [] when it may be stored."""
    if kind == "Service":
        return service_update_causes(new, old)
    if kind == "Pod":
        return pod_update_causes(new, old)
    causes = metadata_update_causes(new, old) + _content_causes(kind, new)
    return causes + (_CHANGES[kind](new, old) if kind in _CHANGES else [])


def _content_causes(kind: str, obj: Object) -> list[Cause]:
    return _CONTENTS[kind](obj) if kind in _CONTENTS else []


# -- Deployment, ReplicaSet --------------------------------------------------------------------------------------------


def _deployment(deployment: Object) -> list[Cause]:
    spec = deployment["spec"]
    causes = not_negative("spec.replicas", spec.get("replicas", 0))
    causes += _selector_and_template(spec)
    causes += _strategy(spec["strategy"])
    for name in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        causes += not_negative(f"spec.{name}", spec.get(name, 0))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        causes.append(invalid_value("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return causes


def _replica_set(replica_set: Object) -> list[Cause]:
    spec = replica_set["spec"]
    causes = not_negative("spec.replicas", spec.get("replicas", 0))
    causes += not_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
    return causes + _selector_and_template(spec)


def _selector_and_template(spec: Object) -> list[Cause]:
    selector = spec.get("selector")
    causes = []
    if selector is None:
        causes.append(required("spec.selector"))
    else:
        causes += selector_causes("spec.selector", selector)
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            causes.append(invalid_value("spec.selector", selector, "empty selector is invalid for deployment"))
    if causes and selector and selector.get("matchExpressions"):
        return [*causes, invalid_value("spec.selector", selector, "invalid label selector")]
    template = spec["template"]
    labels = template["metadata"].get("labels", {})
    if selector and not labels_match(selector, labels):
        message = "`selector` does not match template `labels`"
        shown = labels or None
        causes.append(invalid_value("spec.template.metadata.labels", shown, message))
    causes += template_causes("spec.template", template)
    policy = template["spec"].get("restartPolicy")
    if policy != "Always":
        causes.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if "activeDeadlineSeconds" in template["spec"]:
        message = "activeDeadlineSeconds in ReplicaSet is not Supported"
        causes.append(forbidden_value("spec.template.spec.activeDeadlineSeconds", message))
    return causes


def _strategy(strategy: Object) -> list[Cause]:
    word, rolling_update = strategy.get("type"), strategy.get("rollingUpdate")
    if word == "Recreate":
        message = "may not be specified when strategy `type` is 'Recreate'"
        return [forbidden_value("spec.strategy.rollingUpdate", message)] if rolling_update is not None else []
    if word != "RollingUpdate":
        return [not_supported("spec.strategy", strategy, ("Recreate", "RollingUpdate"))]
    amounts = {name: rolling_update[name] for name in ("maxUnavailable", "maxSurge")} if rolling_update else {}
    causes = []
    for name, amount in amounts.items():
        field = f"spec.strategy.rollingUpdate.{name}"
        causes += invalid(field, amount, percent(amount)) if isinstance(amount, str) else not_negative(field, amount)
    if amounts and not causes:
        unavailable = amounts["maxUnavailable"]
        field = "spec.strategy.rollingUpdate.maxUnavailable"
        if all(int(str(amount).rstrip("%")) == 0 for amount in amounts.values()):
            causes.append(invalid_value(field, unavailable, "may not be 0 when `maxSurge` is 0"))
        if isinstance(unavailable, str) and int(unavailable.rstrip("%")) > 100:
            causes.append(invalid_value(field, unavailable, "must not be greater than 100%"))
    return causes


def _selector_stays(new: Object, old: Object) -> list[Cause]:
    return immutable("spec.selector", new["spec"].get("selector"), old["spec"].get("selector"))


# -- ConfigMap, Namespace, Node ----------------------------------------------------------------------------------------


def _config_map(config_map: Object) -> list[Cause]:
    causes = []
    data, binary = config_map.get("data", {}), config_map.get("binaryData", {})
    for name, entries in (("data", data), ("binaryData", binary)):
        for key in entries:
            causes += invalid(f"{name}[{key}]", key, config_key(key))
    for key in data.keys() & binary.keys():
        causes.append(invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
    decoded_sizes = (len(value) * 3 // 4 for value in binary.values())
    if sum(len(value.encode()) for value in data.values()) + sum(decoded_sizes) > _CONFIG_MAP_LIMIT:
        causes.append(too_long("", _CONFIG_MAP_LIMIT))
    return causes


def _config_map_stays(new: Object, old: Object) -> list[Cause]:
    if not old.get("immutable"):
        return []
    message = "field is immutable when `immutable` is set"
    causes = [] if new.get("immutable") else [forbidden_value("immutable", message)]
    changed = [name for name in ("data", "binaryData") if new.get(name, {}) != old.get(name, {})]
    return causes + [forbidden_value(name, message) for name in changed]


def _namespace(namespace: Object) -> list[Cause]:
    causes = []
    for index, finalizer in enumerate(namespace["spec"].get("finalizers", [])):
        errors = label_key(finalizer)
        if not errors and "/" not in finalizer and finalizer != "kubernetes":
            errors = ["name is neither a standard finalizer name nor is it fully qualified"]
        causes += invalid(f"spec.finalizers[{index}]", finalizer, errors)
    return causes


def _node(node: Object) -> list[Cause]:
    causes = []
    seen = set()
    for index, taint in enumerate(node["spec"].get("taints", [])):
        field = f"spec.taints[{index}]"
        key, value, effect = (taint.get(name, "") for name in ("key", "value", "effect"))
        causes += invalid(f"{field}.key", key, label_key(key))
        causes += invalid(f"{field}.value", value, label_value(value))
        causes += supported(f"{field}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            cause = duplicate(field, taint)
            message = f"{cause.message}: taints must be unique by key and effect pair"
            causes.append(cause._replace(message=message))
        seen.add((key, effect))
    return causes


def _node_stays(new: Object, old: Object) -> list[Cause]:
    causes = []
    spec, before = new["spec"], old["spec"]
    if before.get("podCIDRs") and before["podCIDRs"] != spec.get("podCIDRs", []):
        message = 'node updates may not change podCIDR except from "" to valid'
        causes.append(forbidden_value("spec.podCIDRs", message))
    if before.get("providerID") and before["providerID"] != spec.get("providerID", ""):
        message = 'node updates may not change providerID except from "" to valid'
        causes.append(forbidden_value("spec.providerID", message))
    return causes


# -- Endpoints, EndpointSlice, Event -----------------------------------------------------------------------------------


def _endpoints(endpoints: Object) -> list[Cause]:
    causes: list[Cause] = []
    for index, subset in enumerate(endpoints.get("subsets", [])):
        field = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.append(required(field, "must specify `addresses` or `notReadyAddresses`"))
        for group in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(group, [])):
                causes += _address(f"{field}.{group}[{place}].ip", address.get("ip", ""))
        ports = subset.get("ports", [])
        for place, port in enumerate(ports):
            path = f"{field}.ports[{place}]"
            name = port.get("name", "")
            if len(ports) > 1 and not name:
                causes.append(required(f"{path}.name"))
            elif name:
                causes += invalid(f"{path}.name", name, dns_label(name))
            causes += invalid(f"{path}.port", port.get("port", 0), port_number(port.get("port", 0)))
            causes += supported(f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
    return causes


def _endpoint_slice(endpoint_slice: Object) -> list[Cause]:
    family = endpoint_slice.get("addressType", "")
    causes = supported("addressType", family, ("FQDN", "IPv4", "IPv6"))
    names: set[str] = set()
    for index, port in enumerate(endpoint_slice.get("ports", [])):
        field = f"ports[{index}]"
        name = port.get("name", "")
        causes += invalid(f"{field}.name", name, dns_label(name)) if name else []
        if name in names:
            causes.append(duplicate(f"{field}.name", name))
        names.add(name)
        causes += supported(f"{field}.protocol", port.get("protocol"), _PROTOCOLS)
    for index, endpoint in enumerate(endpoint_slice.get("endpoints", [])):
        field = f"endpoints[{index}]"
        addresses = endpoint.get("addresses", [])
        if not addresses:
            causes.append(required(f"{field}.addresses", "must contain at least 1 address"))
        for place, address in enumerate(addresses if family in ("IPv4", "IPv6") else []):
            causes += _address(f"{field}.addresses[{place}]", address)
            if (":" in address) != (family == "IPv6") and not ip_address(address):
                causes.append(invalid_value(f"{field}.addresses", address, f"must be an {family} address"))
        if "nodeName" in endpoint:
            causes += invalid(f"{field}.nodeName", endpoint["nodeName"], dns_subdomain(endpoint["nodeName"]))
        causes += label_causes(f"{field}.deprecatedTopology", endpoint.get("deprecatedTopology", {}))
    return causes


def _address(field: str, text: str) -> list[Cause]:
    return invalid(field, text, ip_address(text) or endpoint_address(text))


def _address_type_stays(new: Object, old: Object) -> list[Cause]:
    return immutable("addressType", new.get("addressType"), old.get("addressType"))


def _event(event: Object) -> list[Cause]:
    namespace = event["involvedObject"].get("namespace", "")
    fits = event["metadata"].get("namespace") == (namespace or "default")
    if fits:
        return []
    return [invalid_value("involvedObject.namespace", namespace, "does not match event.namespace")]


_CONTENTS: dict[str, Callable[[Object], list[Cause]]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "ConfigMap": _config_map,
    "Namespace": _namespace,
    "Node": _node,
    "Endpoints": _endpoints,
    "EndpointSlice": _endpoint_slice,
    "Event": _event,
}
_CHANGES: dict[str, Callable[[Object, Object], list[Cause]]] = {
    "Deployment": _selector_stays,
    "ReplicaSet": _selector_stays,
    "ConfigMap": _config_map_stays,
    "Node": _node_stays,
    "EndpointSlice": _address_type_stays,
}
