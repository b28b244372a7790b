"""What the lab's API has: discovery documents, plain and aggregated, made from the table of resources.

kubectl reads the aggregated form (one document for /api, one for /apis), older clients the plain one (a document for
each group and version). Both list what is served and nothing else.
"""

from __future__ import annotations

from srcip_nb.lab.api.objects import JsonObject
from srcip_nb.lab.api.resources import GROUP_VERSIONS, RESOURCES, REVIEWS, Resource

_SERVED = (*RESOURCES.values(), *REVIEWS)
_VERSIONS = tuple(dict.fromkeys([*GROUP_VERSIONS, *((review.group, review.version) for review in REVIEWS)]))

VERSION: JsonObject = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "srcip-nb",
    "compiler": "srcip-nb",
    "platform": "linux/amd64",
}
"""The answer to /version: the Kubernetes release whose API the lab speaks."""


_OWN_KINDS = {"scale": "Scale", "exec": "PodExecOptions"}
"""Subresources that are of another kind than their object."""


def core_versions(host: str) -> JsonObject:
    """/api: the versions of the core group; `host` is where the client reached this server."""
    return {
        "kind": "APIVersions",
        "versions": [version for group, version in _VERSIONS if not group],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    }


def group_list() -> JsonObject:
    """/apis: every group but the core one."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group) for group in _groups()]}


def group(name: str) -> JsonObject | None:
    """/apis/GROUP; None if there is no such group."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)} if name in _groups() else None


def resource_list(group_name: str, version: str) -> JsonObject | None:
    """/api/v1 or /apis/GROUP/VERSION: the resources in it; None if there is no such version."""
    if (group_name, version) not in _VERSIONS:
        return None
    entries: list[JsonObject] = []
    for resource in _in(group_name, version):
        entries.append(_entry(resource))
        entries.extend(_subresource_entry(resource, name, verbs) for name, verbs in sorted(resource.subresources))
    document: JsonObject = {"kind": "APIResourceList"}
    if group_name:
        document["apiVersion"] = "v1"
    group_version = f"{group_name}/{version}" if group_name else version
    return {**document, "groupVersion": group_version, "resources": entries}


def aggregated(core: bool, version: str) -> JsonObject:
    """/api (`core`) or /apis in the aggregated form; `version` is "v2" or "v2beta1"."""
    names = [""] if core else _groups()
    items = []
    for name in names:
        metadata = {"name": name} if name else {}
        versions = [
            {
                "version": served,
                "resources": [_aggregated_entry(resource) for resource in _in(name, served)],
                "freshness": "Current",
            }
            for group_name, served in _VERSIONS
            if group_name == name
        ]
        items.append({"metadata": metadata, "versions": versions})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _groups() -> list[str]:
    return [group for group, _ in _VERSIONS if group]


def _in(group_name: str, version: str) -> list[Resource]:
    found = [r for r in _SERVED if (r.group, r.version) == (group_name, version)]
    return sorted(found, key=lambda resource: resource.name)


def _group(name: str) -> JsonObject:
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version}
        for group_name, version in _VERSIONS
        if group_name == name
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _entry(resource: Resource) -> JsonObject:
    entry: JsonObject = {
        "name": resource.name,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource not in REVIEWS:
        entry["storageVersionHash"] = resource.storage_version_hash
    return entry


def _subresource_entry(resource: Resource, name: str, verbs: tuple[str, ...]) -> JsonObject:
    entry: JsonObject = {"name": f"{resource.name}/{name}", "singularName": "", "namespaced": resource.namespaced}
    if name == "scale":
        entry.update(group="autoscaling", version="v1")
    return {**entry, "kind": _OWN_KINDS.get(name, resource.kind), "verbs": list(verbs)}


def _aggregated_entry(resource: Resource) -> JsonObject:
    entry: JsonObject = {
        "resource": resource.name,
        "responseKind": {"group": "", "version": "", "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {"subresource": name, "responseKind": _response_kind(resource, name), "verbs": list(verbs)}
            for name, verbs in sorted(resource.subresources)
        ]
    return entry


def _response_kind(resource: Resource, subresource: str) -> JsonObject:
    if subresource == "scale":
        return {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    return {"group": "", "version": "", "kind": _OWN_KINDS.get(subresource, resource.kind)}
