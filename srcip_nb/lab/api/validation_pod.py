"""What a pod has to fulfil, or the template of one, and what of a running pod may change.

Source: kubernetes v1.36.2 pkg/apis/core/validation/validation.go (ValidatePodSpec, ValidatePodUpdate and what they
call), as far as the lab's pods go; fields that the lab does not serve are left to unsupported.py.
"""

from __future__ import annotations

import copy
from typing import Any

from srcip_nb.lab.api.status import (
    Cause,
    duplicate,
    forbidden_value,
    invalid_value,
    not_found_value,
    not_supported,
    quoted,
    required,
)
from srcip_nb.lab.api.validation_meta import (
    invalid,
    label_causes,
    metadata_causes,
    metadata_update_causes,
    not_negative,
    supported,
)
from srcip_nb.lab.api.validation_names import (
    dns_label,
    dns_subdomain,
    environment_name,
    header_name,
    label_key,
    port_name,
    port_number,
)

Object = dict[str, Any]

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_MAY_CHANGE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def pod_causes(pod: Object) -> list[Cause]:
    """What is wrong with a new Pod."""
    return metadata_causes("Pod", pod) + pod_spec_causes("spec", pod["spec"])


def pod_update_causes(pod: Object, old: Object) -> list[Cause]:
    """What is wrong with a changed Pod: of its spec little may change."""
    causes = metadata_update_causes(pod, old)
    spec, before = pod["spec"], old["spec"]
    if spec == before:
        return causes
    causes += pod_spec_causes("spec", spec)
    for group in ("containers", "initContainers"):
        if len(spec.get(group, [])) != len(before.get(group, [])):
            return [*causes, forbidden_value(f"spec.{group}", "pod updates may not add or remove containers")]
    causes += _deadline_causes(spec, before)
    if not _adds_tolerations_only(spec.get("tolerations", []), before.get("tolerations", [])):
        message = "existing toleration can not be modified except its tolerationSeconds"
        causes.append(forbidden_value("spec.tolerations", message))
    wanted = _without_changeable(spec, before)
    if wanted != before:
        message = f"pod updates may not change fields other than {_MAY_CHANGE}\n{_difference(before, wanted)}"
        causes.append(forbidden_value("spec", message))
    return causes


def template_causes(field: str, template: Object) -> list[Cause]:
    """What is wrong with a pod template."""
    metadata = template.get("metadata", {})
    causes = label_causes(f"{field}.metadata.labels", metadata.get("labels", {}))
    for key in metadata.get("annotations", {}):
        causes += invalid(f"{field}.metadata.annotations", key, label_key(key.lower()))
    return causes + pod_spec_causes(f"{field}.spec", template.get("spec", {}))


def pod_spec_causes(field: str, spec: Object) -> list[Cause]:
    """What is wrong with the spec of a Pod or of a pod template."""
    causes, volumes = _volume_causes(f"{field}.volumes", spec.get("volumes", []))
    causes += _container_list_causes(f"{field}.containers", spec.get("containers", []), volumes)
    init_containers = spec.get("initContainers", [])
    if init_containers:
        causes += _container_list_causes(f"{field}.initContainers", init_containers, volumes)
        names = {container.get("name") for container in spec.get("containers", [])}
        causes += [
            duplicate(f"{field}.initContainers[{index}].name", container["name"])
            for index, container in enumerate(init_containers)
            if container.get("name") in names
        ]
    restart_policies = ("Always", "OnFailure", "Never")
    causes += _word_causes(f"{field}.restartPolicy", spec.get("restartPolicy"), restart_policies)
    dns_policies = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    causes += _word_causes(f"{field}.dnsPolicy", spec.get("dnsPolicy"), dns_policies)
    causes += label_causes(f"{field}.nodeSelector", spec.get("nodeSelector", {}))
    if spec.get("nodeName"):
        causes += invalid(f"{field}.nodeName", spec["nodeName"], dns_subdomain(spec["nodeName"]))
    if spec.get("serviceAccountName"):
        name = spec["serviceAccountName"]
        causes += invalid(f"{field}.serviceAccountName", name, dns_subdomain(name))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and deadline < 1:
        message = "must be between 1 and 2147483647, inclusive"
        causes.append(invalid_value(f"{field}.activeDeadlineSeconds", deadline, message))
    for index, toleration in enumerate(spec.get("tolerations", [])):
        causes += _toleration_causes(f"{field}.tolerations[{index}]", toleration)
    return causes


# -- volumes -----------------------------------------------------------------------------------------------------------


def _volume_causes(field: str, volumes: list[Object]) -> tuple[list[Cause], set[str]]:
    """The complaints about volumes, and the names of the good ones."""
    causes: list[Cause] = []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        path = f"{field}[{index}]"
        sources = [key for key in volume if key != "name"]
        found = [required(path, "must specify a volume type")] if not sources else []
        found += [forbidden_value(f"{path}.{key}", "may not specify more than 1 volume type") for key in sources[1:]]
        if "configMap" in sources:
            found += _config_map_causes(f"{path}.configMap", volume["configMap"])
        name = volume.get("name", "")
        found += invalid(f"{path}.name", name, dns_label(name)) if name else [required(f"{path}.name")]
        if name in names:
            found.append(duplicate(f"{path}.name", name))
        if not found:
            names.add(name)
        causes += found
    return causes, names


def _config_map_causes(field: str, source: Object) -> list[Cause]:
    causes = [] if source.get("name") else [required(f"{field}.name")]
    causes += _mode_causes(f"{field}.defaultMode", source.get("defaultMode"))
    for index, item in enumerate(source.get("items", [])):
        path = f"{field}.items[{index}]"
        causes += [required(f"{path}.{name}") for name in ("key", "path") if not item.get(name)]
        causes += _inner_path_causes(f"{path}.path", item.get("path", ""))
        causes += _mode_causes(f"{path}.mode", item.get("mode"))
    return causes


def _mode_causes(field: str, mode: int | None) -> list[Cause]:
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid_value(field, mode, _MODE_TEXT)]


def _inner_path_causes(field: str, path: str) -> list[Cause]:
    causes = [invalid_value(field, path, "must be a relative path")] if path.startswith("/") else []
    if ".." in path.split("/"):
        causes.append(invalid_value(field, path, "must not contain '..'"))
    return causes


# -- containers --------------------------------------------------------------------------------------------------------


def _container_list_causes(field: str, containers: list[Object], volumes: set[str]) -> list[Cause]:
    if not containers:
        return [required(field)]
    causes: list[Cause] = []
    names: set[str] = set()
    for index, container in enumerate(containers):
        path = f"{field}[{index}]"
        causes += _container_causes(path, container, volumes)
        name = container.get("name", "")
        if name in names:
            causes.append(duplicate(f"{path}.name", name))
        names.add(name)
    return causes


def _container_causes(field: str, container: Object, volumes: set[str]) -> list[Cause]:
    name = container.get("name", "")
    causes = invalid(f"{field}.name", name, dns_label(name)) if name else [required(f"{field}.name")]
    if not container.get("image"):
        causes.append(required(f"{field}.image"))
    policy = container.get("terminationMessagePolicy")
    causes += supported(f"{field}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    causes += _port_list_causes(f"{field}.ports", container.get("ports", []))
    for index, variable in enumerate(container.get("env", [])):
        variable_name = variable.get("name", "")
        path = f"{field}.env[{index}].name"
        if not variable_name:
            causes.append(required(path))
        else:
            causes += invalid(path, variable_name, environment_name(variable_name))
    causes += _mount_causes(f"{field}.volumeMounts", container.get("volumeMounts", []), volumes)
    causes += supported(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            causes += _probe_causes(f"{field}.{probe}", container[probe], must_succeed_once=probe != "readinessProbe")
    for name, handler in container.get("lifecycle", {}).items():
        if isinstance(handler, dict):
            causes += _handler_causes(f"{field}.lifecycle.{name}", handler)
    return causes


def _port_list_causes(field: str, ports: list[Object]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path = f"{field}[{index}]"
        name = port.get("name", "")
        if name:
            errors = port_name(name)
            causes += invalid(f"{path}.name", name, errors)
            if not errors and name in names:
                causes.append(duplicate(f"{path}.name", name))
            names.add(name)
        number = port.get("containerPort", 0)
        if not number:
            causes.append(required(f"{path}.containerPort"))
        else:
            causes += invalid(f"{path}.containerPort", number, port_number(number))
        if port.get("hostPort"):
            causes += invalid(f"{path}.hostPort", port["hostPort"], port_number(port["hostPort"]))
        causes += supported(f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
    return causes


def _mount_causes(field: str, mounts: list[Object], volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    places: set[str] = set()
    for index, mount in enumerate(mounts):
        path = f"{field}[{index}]"
        name, place = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            causes.append(required(f"{path}.name"))
        if name not in volumes:
            causes.append(not_found_value(f"{path}.name", name))
        if not place:
            causes.append(required(f"{path}.mountPath"))
        if place in places:
            causes.append(invalid_value(f"{path}.mountPath", place, "must be unique"))
        places.add(place)
        causes += _inner_path_causes(f"{field}.subPath", mount.get("subPath", ""))
    return causes


def _probe_causes(field: str, probe: Object, must_succeed_once: bool) -> list[Cause]:
    causes = _handler_causes(field, probe)
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        causes += not_negative(f"{field}.{name}", probe.get(name, 0))
    if must_succeed_once and probe.get("successThreshold", 1) != 1:
        causes.append(invalid_value(f"{field}.successThreshold", probe["successThreshold"], "must be 1"))
    return causes


def _handler_causes(field: str, handler: Object) -> list[Cause]:
    kinds = [kind for kind in _HANDLERS if kind in handler]
    if not kinds:
        return [required(field, "must specify a handler type")]
    message = "may not specify more than 1 handler type"
    causes = [forbidden_value(f"{field}.{kind}", message) for kind in kinds[1:]]
    kind, action = kinds[0], handler[kinds[0]]
    if kind == "exec" and not action.get("command"):
        causes.append(required(f"{field}.exec.command"))
    if kind in ("httpGet", "tcpSocket", "grpc"):
        port = action.get("port", 0)
        errors = port_name(port) if isinstance(port, str) else port_number(port)
        causes += invalid(f"{field}.{kind}.port", port, errors)
    if kind == "httpGet":
        if action.get("scheme") not in ("HTTP", "HTTPS"):
            causes.append(not_supported(f"{field}.httpGet.scheme", action.get("scheme"), ("HTTP", "HTTPS")))
        for header in action.get("httpHeaders", []):
            name = header.get("name", "")
            causes += invalid(f"{field}.httpGet.httpHeaders", name, header_name(name))
    return causes


# -- the rest ----------------------------------------------------------------------------------------------------------


def _word_causes(field: str, word: str | None, words: tuple[str, ...]) -> list[Cause]:
    """As `supported`, but the words are shown in their own order, which here is not the alphabet's."""
    if not word:
        return [required(field)]
    if word in words:
        return []
    shown = ", ".join(quoted(each) for each in words)
    return [Cause("FieldValueNotSupported", f"Unsupported value: {quoted(word)}: supported values: {shown}", field)]


def _toleration_causes(field: str, toleration: Object) -> list[Cause]:
    key, operator = toleration.get("key", ""), toleration.get("operator", "Equal")
    causes = invalid(f"{field}.key", key, label_key(key)) if key else []
    if not key and operator != "Exists":
        message = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        causes.append(invalid_value(f"{field}.operator", toleration.get("operator", ""), message))
    if operator not in ("Equal", "Exists"):
        causes.append(not_supported(f"{field}.operator", operator, ("Equal", "Exists")))
    elif operator == "Exists" and toleration.get("value"):
        message = "value must be empty when `operator` is 'Exists'"
        causes.append(invalid_value(f"{field}.operator", toleration["value"], message))
    effect = toleration.get("effect", "")
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        message = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        causes.append(invalid_value(f"{field}.effect", effect, message))
    if effect and effect not in _EFFECTS:
        causes.append(not_supported(f"{field}.effect", effect, _EFFECTS))
    return causes


def _deadline_causes(spec: Object, before: Object) -> list[Cause]:
    new, old = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    field = "spec.activeDeadlineSeconds"
    if old is not None and new is None:
        return [invalid_value(field, None, "must not update from a positive integer to nil value")]
    if old is not None and new is not None and new > old:
        return [invalid_value(field, new, "must be less than or equal to previous value")]
    return []


def _adds_tolerations_only(new: list[Object], old: list[Object]) -> bool:
    def plain(toleration: Object) -> Object:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    kept = [plain(toleration) for toleration in new]
    return all(plain(toleration) in kept for toleration in old)


def _without_changeable(spec: Object, before: Object) -> Object:
    """The spec with the fields that may change set back to what they were."""
    wanted = copy.deepcopy(spec)
    for group in ("containers", "initContainers"):
        for container, old in zip(wanted.get(group, []), before.get(group, []), strict=True):
            container["image"] = old.get("image")
    for name in ("activeDeadlineSeconds", "tolerations"):
        wanted.pop(name, None)
        if name in before:
            wanted[name] = before[name]
    if before.get("terminationGracePeriodSeconds", 0) < 0 and wanted.get("terminationGracePeriodSeconds") == 1:
        wanted["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    return wanted


def _difference(old: Object, new: Object) -> str:
    lines = []
    for key in sorted({**old, **new}):
        if old.get(key) != new.get(key):
            lines += [f"- {key}: {quoted(old[key])}"] if key in old else []
            lines += [f"+ {key}: {quoted(new[key])}"] if key in new else []
    return "\n".join(lines)
