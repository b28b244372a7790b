"""A pod's volumes and variables: from spec and ConfigMaps to files and an environment, without reading anything.

The lab has ConfigMap, emptyDir and projected ConfigMap volumes. All containers of a pod share one file system, so what
is mounted is the same in each of them; two mounts of different volumes at one path are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from srcip_nb.lab.controllers.objects import Object
from srcip_nb.lab.images import File, expand

Content = File
"""A file of a pod, as an image has it."""

ConfigMapOf = Callable[[str], Object | None]
"""Finds a ConfigMap of the pod's namespace by name."""

_USUAL_MODE = 0o644
_KINDS = ("configMap", "emptyDir", "projected")


class MountError(Exception):
    """A volume cannot be mounted (yet); the message is that of the FailedMount event."""


class ConfigError(Exception):
    """A container cannot be configured (yet); the message is that of CreateContainerConfigError."""


@dataclass
class Mounts:
    """What volumes put into a pod's file system.

    Attributes:
        files: path -> content.
        directories: mount points, which start empty whatever the image has there.
        configmaps: names of the ConfigMaps that are read, also those that are optional and missing.
    """

    files: dict[str, Content] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    configmaps: set[str] = field(default_factory=set)


def mounts_of(pod: Object, configmap: ConfigMapOf) -> Mounts:
    """The files and directories of a pod's volumes.

    Raises:
        MountError: a ConfigMap or one of its keys is missing, or the lab has no volume of that kind.
    """
    mounts = Mounts()
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    contents = {name: _contents(volume, configmap, mounts.configmaps) for name, volume in volumes.items()}
    mounted: dict[str, str] = {}
    for mount in _volume_mounts(pod):
        name, path = mount["name"], mount["mountPath"].rstrip("/") or "/"
        if mount.get("subPath") or mount.get("subPathExpr"):
            raise _failed(
                name, "the lab mounts whole volumes, not a subPath; mount the volume at a directory of its own"
            )
        if mounted.setdefault(path, name) != name:
            raise _failed(
                name, f"volume {mounted[path]} is mounted at {path} already: a pod of the lab has one file system"
            )
        if name not in contents:
            raise _failed(name, "the pod has no volume of that name")
        if path not in mounts.directories:
            mounts.directories.append(path)
        mounts.files.update({f"{path}/{file}": content for file, content in contents[name].items()})
    return mounts


def _volume_mounts(pod: Object) -> Iterator[Object]:
    for container in [*(pod["spec"].get("initContainers") or []), *(pod["spec"].get("containers") or [])]:
        yield from container.get("volumeMounts") or []


def _failed(volume: str, reason: str) -> MountError:
    return MountError(f'MountVolume.SetUp failed for volume "{volume}" : {reason}')


def _contents(volume: Object, configmap: ConfigMapOf, names: set[str]) -> dict[str, Content]:
    name = volume["name"]
    kind = next((word for word in volume if word != "name"), "emptyDir")
    if kind == "secret":
        raise _failed(name, f'secret "{volume["secret"].get("secretName", "")}" not found: the lab has no Secrets')
    if kind not in _KINDS:
        raise _failed(name, f"the lab has no {kind} volumes, it has {', '.join(_KINDS)}")
    if kind == "emptyDir":
        return {}
    if kind == "configMap":
        return _configmap_files(name, volume["configMap"], volume["configMap"], configmap, names)
    files: dict[str, Content] = {}
    for source in volume["projected"].get("sources") or []:
        if "configMap" not in source:
            raise _failed(name, f"the lab projects ConfigMaps only, not {', '.join(source)}")
        files.update(_configmap_files(name, source["configMap"], volume["projected"], configmap, names))
    return files


def _configmap_files(
    volume: str, source: Object, modes: Object, configmap: ConfigMapOf, names: set[str]
) -> dict[str, Content]:
    """The files that a ConfigMap gives; `modes` is what holds the defaultMode."""
    name = source.get("name", "")
    names.add(name)
    found = configmap(name)
    is_optional = bool(source.get("optional"))
    if found is None:
        if is_optional:
            return {}
        raise _failed(volume, f'configmap "{name}" not found')
    data: dict[str, Content] = dict(found.get("data") or {})
    data.update({key: {"base64": text} for key, text in (found.get("binaryData") or {}).items()})
    mode = modes.get("defaultMode", _USUAL_MODE)
    if "items" not in source:
        return {key: _with_mode(content, mode) for key, content in data.items()}
    files: dict[str, Content] = {}
    for item in source["items"] or []:
        if item["key"] in data:
            files[item["path"]] = _with_mode(data[item["key"]], item.get("mode", mode))
        elif not is_optional:
            raise _failed(volume, f"configmap references non-existent config key: {item['key']}")
    return files


def _with_mode(content: Content, mode: int) -> Content:
    if mode == _USUAL_MODE:
        return content
    return {**({"text": content} if isinstance(content, str) else content), "mode": mode}


# -- environment -----------------------------------------------------------------------------------------------------


def service_variables(pod: Object, services: Iterable[Object]) -> dict[str, str]:
    """The variables that tell a container of its namespace's Services, such as WEBSERVER_SERVICE_HOST.

    Services without a cluster IP are left out. With enableServiceLinks false the API's own Service is all it is told of
    (kubernetes v1.36.2 pkg/kubelet/envvars/envvars.go, pkg/kubelet/kubelet_pods.go).
    """
    namespace = pod["metadata"].get("namespace", "")
    links = pod["spec"].get("enableServiceLinks", True)
    found: dict[str, str] = {}
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        is_api = (metadata["namespace"], metadata["name"]) == ("default", "kubernetes")
        is_linked = links and metadata["namespace"] == namespace
        address, ports = spec.get("clusterIP") or "None", spec.get("ports") or []
        if address == "None" or not ports or not (is_api or is_linked):
            continue
        name = metadata["name"].upper().replace("-", "_")
        found |= {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
        for port in ports:
            if port.get("name"):
                found[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
            protocol = port.get("protocol", "TCP")
            url = f"{protocol.lower()}://{address}:{port['port']}"
            found.setdefault(f"{name}_PORT", url)
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            found |= {prefix: url, f"{prefix}_PROTO": protocol.lower()}
            found |= {f"{prefix}_PORT": str(port["port"]), f"{prefix}_ADDR": address}
    return found


def environment_of(
    pod: Object,
    container: Object,
    status: Mapping[str, Any],
    configmap: ConfigMapOf,
    services: Iterable[Object] = (),
) -> dict[str, str]:
    """A container's variables: Services, then envFrom, then env, where $(NAME) is what was said before.

    Args:
        pod: for valueFrom.fieldRef.
        container: with env and envFrom.
        status: podIP, hostIP and so on, as the kubelet knows them before the API does.
        configmap: finds the ConfigMaps that are referred to.
        services: those of its namespace, and the API's own.

    Raises:
        ConfigError: a ConfigMap or key is missing, or the lab has no source of that kind.
    """
    variables = service_variables(pod, services)
    for source in container.get("envFrom") or []:
        reference = source.get("configMapRef")
        if reference is None:
            raise ConfigError("the lab has no Secrets; envFrom takes a configMapRef")
        found = configmap(reference.get("name", ""))
        if found is None and not reference.get("optional"):
            raise ConfigError(f'configmap "{reference.get("name", "")}" not found')
        for key, value in ((found or {}).get("data") or {}).items():
            variables[source.get("prefix", "") + key] = value
    for variable in container.get("env") or []:
        if "valueFrom" in variable:
            value = _value_from(pod, variable["valueFrom"], status, configmap)
            if value is not None:
                variables[variable["name"]] = value
        else:
            variables[variable["name"]] = expand(str(variable.get("value") or ""), variables)
    return variables


def _value_from(pod: Object, source: Object, status: Mapping[str, Any], configmap: ConfigMapOf) -> str | None:
    if "configMapKeyRef" in source:
        reference = source["configMapKeyRef"]
        found = configmap(reference.get("name", ""))
        value = ((found or {}).get("data") or {}).get(reference["key"])
        if value is not None or reference.get("optional"):
            return value
        if found is None:
            raise ConfigError(f'configmap "{reference.get("name", "")}" not found')
        namespace = pod["metadata"].get("namespace", "")
        raise ConfigError(f"couldn't find key {reference['key']} in ConfigMap {namespace}/{reference.get('name', '')}")
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"], status)
    raise ConfigError(f"the lab cannot take a variable's value from {', '.join(source)}")


def _field(pod: Object, path: str, status: Mapping[str, Any]) -> str:
    metadata, spec = pod["metadata"], pod["spec"]
    plain = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": status.get("podIP", ""),
        "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": status.get("hostIP", ""),
    }
    if path in plain:
        return str(plain[path])
    for part in ("labels", "annotations"):
        if path.startswith(f"metadata.{part}['") and path.endswith("']"):
            return str((metadata.get(part) or {}).get(path[len(f"metadata.{part}['") : -2], ""))
    raise ConfigError(f"the lab does not know the field {path}")


# -- what is not honoured --------------------------------------------------------------------------------------------


def unhonoured_fields(pod: Object) -> list[str]:
    """Fields of a pod's spec that say something and that the lab does nothing about, for one warning."""
    spec = pod["spec"]
    found = [name for name in _POD_FIELDS if spec.get(name)]
    containers = [("initContainers", c) for c in spec.get("initContainers") or []]
    containers += [("containers", c) for c in spec.get("containers") or []]
    for group, container in containers:
        where = f"{group}[{container['name']}]"
        found += [f"{where}.{name}" for name in _CONTAINER_FIELDS if container.get(name)]
        if (container.get("lifecycle") or {}).get("postStart"):
            found.append(f"{where}.lifecycle.postStart")
        resources = container.get("resources") or {}
        found += [f"{where}.resources.{name}" for name in ("limits", "requests") if resources.get(name)]
    return [f"spec.{name}" for name in found]


_POD_FIELDS = (
    "hostPID",
    "hostIPC",
    "hostAliases",
    "dnsConfig",
    "securityContext",
    "runtimeClassName",
    "shareProcessNamespace",
    "topologySpreadConstraints",
    "activeDeadlineSeconds",
)
_CONTAINER_FIELDS = ("securityContext", "volumeDevices", "stdin", "tty", "resizePolicy")
