"""What a Service has to fulfil when it is made, and what of it may change.

Source: kubernetes v1.36.2 pkg/apis/core/validation/validation.go (validateService and what it calls).
"""

from __future__ import annotations

from typing import Any

from srcip_nb.lab.api.service_rules import (
    HEADLESS,
    is_externally_accessible,
    is_headless,
    needs_cluster_ip,
    needs_health_check,
)
from srcip_nb.lab.api.status import Cause, duplicate, forbidden_value, invalid_value, not_supported, required
from srcip_nb.lab.api.validation_meta import invalid, label_causes, metadata_causes, metadata_update_causes, supported
from srcip_nb.lab.api.validation_names import (
    cidr,
    dns_label,
    dns_subdomain,
    endpoint_address,
    ip_address,
    label_key,
    port_name,
    port_number,
)

Object = dict[str, Any]

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_ONLY_LOAD_BALANCER = "may only be used when `type` is 'LoadBalancer'"
_LONGEST_AFFINITY = 86400


def service_causes(service: Object) -> list[Cause]:
    """What is wrong with a new Service."""
    return metadata_causes("Service", service) + _causes(service, None)


def service_update_causes(service: Object, old: Object) -> list[Cause]:
    """What is wrong with a changed Service; values that the server allocates were filled in before."""
    causes = metadata_update_causes(service, old)
    spec, before = service["spec"], old["spec"]
    has_addresses = needs_cluster_ip(service) and needs_cluster_ip(old)
    if has_addresses and not (is_headless(service) and is_headless(old)):
        causes += _address_change_causes(spec, before)
    stays_load_balancer = spec.get("type") == before.get("type") == "LoadBalancer"
    if stays_load_balancer and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        message = "may not change once set"
        causes.append(invalid_value("spec.loadBalancerClass", spec.get("loadBalancerClass"), message))
    keeps_health_check = needs_health_check(service) and needs_health_check(old)
    if keeps_health_check and spec.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
        causes.append(forbidden_value("spec.healthCheckNodePort", "field is immutable"))
    return causes + _causes(service, old)


def cluster_ip_causes(service: Object) -> list[Cause]:
    """What is wrong with clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy; allocation asks this too."""
    if not needs_cluster_ip(service):
        return []
    spec = service["spec"]
    cluster_ip, cluster_ips = spec.get("clusterIP", ""), spec.get("clusterIPs", [])
    families = spec.get("ipFamilies", [])
    causes = []
    if cluster_ip and not cluster_ips:
        causes.append(required("spec.clusterIPs"))
    elif cluster_ip and cluster_ips[0] != cluster_ip:
        causes.append(invalid_value("spec.clusterIPs", cluster_ips, "first value must match `clusterIP`"))
    elif cluster_ips and not cluster_ip:
        message = "must be empty when `clusterIP` is not specified"
        causes.append(invalid_value("spec.clusterIPs", cluster_ips, message))
    for index, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            causes.append(not_supported(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6")))
        if family in families[:index]:
            causes.append(duplicate(f"spec.ipFamilies[{index}]", family))
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _FAMILY_POLICIES:
        causes.append(not_supported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES))
    return causes + _address_causes(cluster_ips, families)


def _address_causes(cluster_ips: list[str], families: list[str]) -> list[Cause]:
    if cluster_ips[:1] == [HEADLESS]:
        message = "'None' must be the first and only value"
        return [invalid_value("spec.clusterIPs", cluster_ips, message)] if len(cluster_ips) > 1 else []
    causes = []
    for index, address in enumerate(cluster_ips):
        causes += invalid(f"spec.clusterIPs[{index}]", address, ip_address(address))
    are_addresses = not causes
    if len(cluster_ips) > 2:
        causes.append(invalid_value("spec.clusterIPs", cluster_ips, "may only hold up to 2 values"))
    if not are_addresses:
        return causes
    of_family = ["IPv6" if ":" in address else "IPv4" for address in cluster_ips]
    if len(cluster_ips) > 1 and len(set(of_family)) < 2:
        message = "may specify no more than one IP for each IP family"
        causes.append(invalid_value("spec.clusterIPs", cluster_ips, message))
    for index, (address, family, wanted) in enumerate(zip(cluster_ips, of_family, families, strict=False)):
        if family != wanted and wanted in ("IPv4", "IPv6"):
            message = f"expected an {wanted} value as indicated by `ipFamilies[{index}]`"
            causes.append(invalid_value(f"spec.clusterIPs[{index}]", address, message))
    return causes


def _address_change_causes(spec: Object, before: Object) -> list[Cause]:
    causes = []
    for name, singular in (("clusterIPs", "clusterIP"), ("ipFamilies", "ipFamily")):
        new, old = spec.get(name, []), before.get(name, [])
        if old and not new:
            causes.append(invalid_value(f"spec.{name}[0]", new, f"primary {singular} can not be unset"))
        for index, (value, previous) in enumerate(zip(new, old, strict=False)):
            if value != previous:
                causes.append(invalid_value(f"spec.{name}[{index}]", new, "may not change once set"))
    return causes


def _causes(service: Object, old: Object | None) -> list[Cause]:
    spec = service["spec"]
    service_type = spec.get("type", "")
    ports = spec.get("ports", [])
    causes = []
    if not ports and not is_headless(service) and service_type != "ExternalName":
        causes.append(required("spec.ports"))
    if service_type in ("LoadBalancer", "NodePort") and is_headless(service):
        message = f"may not be set to 'None' for {service_type} services"
        causes.append(invalid_value("spec.clusterIPs[0]", HEADLESS, message))
    if service_type == "ExternalName":
        causes += _external_name_causes(spec)
    names: set[str] = set()
    for index, port in enumerate(ports):
        causes += _port_causes(f"spec.ports[{index}]", port, len(ports) > 1, names)
    causes += label_causes("spec.selector", spec.get("selector", {}))
    causes += _affinity_causes(spec)
    causes += cluster_ip_causes(service)
    present = (old or {"spec": {}})["spec"].get("externalIPs", [])
    for index, address in enumerate(spec.get("externalIPs", [])):
        errors = [] if address in present else ip_address(address)
        causes += invalid(f"spec.externalIPs[{index}]", address, errors or endpoint_address(address))
    causes += supported("spec.type", service_type, _TYPES)
    causes += _port_number_causes(spec)
    causes += _load_balancer_causes(spec)
    causes += _traffic_causes(service)
    return causes


def _external_name_causes(spec: Object) -> list[Cause]:
    message = "may not be set for ExternalName services"
    causes = [
        forbidden_value(f"spec.{name}", message)
        for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(name)
    ]
    name = spec.get("externalName", "").removesuffix(".")
    return causes + (
        invalid("spec.externalName", name, dns_subdomain(name)) if name else [required("spec.externalName")]
    )


def _port_causes(path: str, port: Object, needs_name: bool, names: set[str]) -> list[Cause]:
    causes = []
    name = port.get("name", "")
    if needs_name and not name:
        causes.append(required(f"{path}.name"))
    elif name:
        causes += invalid(f"{path}.name", name, dns_label(name))
        if name in names:
            causes.append(duplicate(f"{path}.name", name))
        names.add(name)
    number = port.get("port", 0)
    causes += invalid(f"{path}.port", number, port_number(number))
    causes += supported(f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
    target: Any = port.get("targetPort", number)
    errors = port_name(target) if isinstance(target, str) else port_number(target)
    causes += invalid(f"{path}.targetPort", target, errors)
    if "appProtocol" in port:
        causes += invalid(f"{path}.appProtocol", port["appProtocol"], label_key(port["appProtocol"]))
    return causes


def _port_number_causes(spec: Object) -> list[Cause]:
    causes = []
    ports = spec.get("ports", [])
    if spec.get("type") == "ClusterIP":
        message = "may not be used when `type` is 'ClusterIP'"
        causes += [
            forbidden_value(f"spec.ports[{index}].nodePort", message)
            for index, port in enumerate(ports)
            if port.get("nodePort")
        ]
    seen: set[tuple[str, str, int]] = set()
    for index, port in enumerate(ports):
        key = ("nodePort", port.get("protocol", ""), port.get("nodePort", 0))
        if key[2] and key in seen:
            causes.append(duplicate(f"spec.ports[{index}].nodePort", key[2]))
        seen.add(key)
    for index, port in enumerate(ports):
        key = ("port", port.get("protocol", ""), port.get("port", 0))
        if key in seen:
            # A real server prints its own struct here, whose other fields are empty.
            shown = f'"Name":"","Protocol":"{key[1]}","AppProtocol":null,"Port":{key[2]},"TargetPort":0,"NodePort":0'
            causes.append(Cause("FieldValueDuplicate", f"Duplicate value: {{{shown}}}", f"spec.ports[{index}]"))
        seen.add(key)
    return causes


def _affinity_causes(spec: Object) -> list[Cause]:
    affinity = spec.get("sessionAffinity")
    causes = supported("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    config = spec.get("sessionAffinityConfig")
    path = "spec.sessionAffinityConfig"
    if affinity == "None" and config is not None:
        causes.append(forbidden_value(path, "must not be set when session affinity is None"))
    elif affinity == "ClientIP":
        seconds = (config or {}).get("clientIP", {}).get("timeoutSeconds")
        if seconds is None:
            causes.append(required(f"{path}.clientIP.timeoutSeconds", "when session affinity type is ClientIP"))
        elif not 0 < seconds <= _LONGEST_AFFINITY:
            message = f"must be greater than 0 and less than {_LONGEST_AFFINITY}"
            causes.append(invalid_value(f"{path}.clientIP.timeoutSeconds", seconds, message))
    return causes


def _load_balancer_causes(spec: Object) -> list[Cause]:
    is_load_balancer = spec.get("type") == "LoadBalancer"
    causes = []
    ranges = spec.get("loadBalancerSourceRanges", [])
    # The field's name starts with a capital letter in a real server's message too.
    path = "spec.LoadBalancerSourceRanges"
    if ranges and not is_load_balancer:
        causes.append(forbidden_value(path, _ONLY_LOAD_BALANCER))
    for index, text in enumerate(ranges):
        causes += invalid(f"{path}[{index}]", text.strip(), cidr(text.strip()))
    if "allocateLoadBalancerNodePorts" in spec and not is_load_balancer:
        causes.append(forbidden_value("spec.allocateLoadBalancerNodePorts", _ONLY_LOAD_BALANCER))
    if "loadBalancerClass" in spec:
        name = spec["loadBalancerClass"]
        causes += (
            invalid("spec.loadBalancerClass", name, label_key(name))
            if is_load_balancer
            else [forbidden_value("spec.loadBalancerClass", _ONLY_LOAD_BALANCER)]
        )
    return causes


def _traffic_causes(service: Object) -> list[Cause]:
    spec = service["spec"]
    causes = []
    policy = spec.get("externalTrafficPolicy")
    if is_externally_accessible(service):
        causes += supported("spec.externalTrafficPolicy", policy, _POLICIES)
    elif policy:
        message = "may only be set for externally-accessible services"
        causes.append(invalid_value("spec.externalTrafficPolicy", policy, message))
    port = spec.get("healthCheckNodePort", 0)
    if port and needs_health_check(service):
        causes += invalid("spec.healthCheckNodePort", port, port_number(port))
    elif port:
        message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes.append(invalid_value("spec.healthCheckNodePort", port, message))
    if "internalTrafficPolicy" in spec:
        causes += supported("spec.internalTrafficPolicy", spec["internalTrafficPolicy"], _POLICIES)
    if "trafficDistribution" in spec:
        causes += supported("spec.trafficDistribution", spec["trafficDistribution"], _DISTRIBUTIONS)
    return causes
