"""What a URL path of the Kubernetes API names.

/api/v1/namespaces/seminar/pods/web-1/log     Target(pods, namespace="seminar", name="web-1", subresource="log")
/apis/apps/v1/deployments                     Target(deployments): those of all namespaces
"""

from __future__ import annotations

from typing import NamedTuple

from srcip_nb.lab.api import status
from srcip_nb.lab.api.resources import ABSENT_SUBRESOURCES, Resource, find


class Target(NamedTuple):
    """A collection of objects (`name` is ""), an object, or one of its subresources."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that may be used on it: create, deletecollection, list (and watch) only on collections."""
        if self.name:
            return tuple(
                verb
                for verb in self.resource.verbs_of(self.subresource)
                if self.subresource or verb not in ("create", "deletecollection", "list")
            )
        own = ("create", "deletecollection", "list", "watch")
        is_all_namespaces = self.resource.namespaced and not self.namespace
        return tuple(v for v in self.resource.verbs if v in own and not (is_all_namespaces and v in own[:2]))


def parse_path(path: str) -> Target:
    """What a decoded path below /api or /apis names.

    Raises:
        ApiError: 404 where this server has nothing, 501 where a real cluster would have a subresource.
    """
    parts = path.strip("/").split("/")
    if len(parts) > 2 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) > 3 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise status.path_not_found()
    namespace = ""
    is_namespaced = rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize")
    if is_namespaced:
        namespace, rest = rest[1], rest[2:]
    resource = find(group, version, rest[0])
    name, subresource = (rest[1] if len(rest) > 1 else ""), "/".join(rest[2:])
    _refuse_absent(rest[0], subresource)
    is_misplaced = resource is not None and resource.namespaced != is_namespaced and (is_namespaced or bool(name))
    if resource is None or is_misplaced or "" in (*parts[:-1], *rest):
        raise status.path_not_found()
    if subresource and not resource.verbs_of(subresource):
        raise status.path_not_found()
    return Target(resource, namespace, name, subresource)


def _refuse_absent(resource: str, subresource: str) -> None:
    """Say clearly what the lab does not have, where a client may well expect it."""
    word = subresource.split("/")[0]
    instead = ABSENT_SUBRESOURCES.get((resource, word))
    if instead:
        message = f"the lab has no {resource}/{word}: {instead}"
        raise status.ApiError(status.make_status(501, "NotImplemented", message))
