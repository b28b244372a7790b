"""Namespaces: what every one holds from the start, and how one goes: first all that is in it, then itself.

Source: kubernetes v1.36.2 pkg/controller/namespace and pkg/controller/certificates/rootcacertpublisher.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from srcip_nb.lab.api.resources import RESOURCES
from srcip_nb.lab.controllers.loop import Controller, KeysOf
from srcip_nb.lab.controllers.objects import Object, copied, is_terminating, key_of, now

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store

FROM_THE_START = ("default", "kube-node-lease", "kube-public", "kube-system")

ROOT_CA = "kube-root-ca.crt"
_ROOT_CA_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)
_FINALIZER = "kubernetes"


def create_first_namespaces(store: Store) -> None:
    """Create the namespaces that every cluster has, where they are missing."""
    present = {namespace["metadata"]["name"] for namespace in store.list("namespaces")}
    for name in FROM_THE_START:
        if name not in present:
            store.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def root_ca_configmap(namespace: str, ca_pem: str) -> Object:
    """The ConfigMap with the API's certificate that every namespace holds."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": ROOT_CA,
            "namespace": namespace,
            "annotations": {"kubernetes.io/description": _ROOT_CA_DESCRIPTION},
        },
        "data": {"ca.crt": ca_pem},
    }


def remaining_conditions(remaining: dict[str, int], finalizers: dict[str, int], stamp: str) -> list[Object]:
    """The conditions of a namespace that is going, told by what is left in it.

    Args:
        remaining: number of objects left of each resource, for example {"pods.": 2}.
        finalizers: number of objects that wait for each finalizer.
        stamp: the time now.
    """
    left = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remaining.items()))
    waiting = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
    content = (
        ("True", "SomeResourcesRemain", f"Some resources are remaining: {left}")
        if remaining
        else ("False", "ContentRemoved", "All content successfully removed")
    )
    finalizing = (
        ("True", "SomeFinalizersRemain", f"Some content in the namespace has finalizers remaining: {waiting}")
        if finalizers
        else ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished")
    )
    findings = [
        ("NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", _PARSED),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted", _DELETED),
        ("NamespaceContentRemaining", *content),
        ("NamespaceFinalizersRemaining", *finalizing),
    ]
    return [
        {"type": kind, "status": value, "lastTransitionTime": stamp, "reason": reason, "message": message}
        for kind, value, reason, message in findings
    ]


_PARSED = "All legacy kube types successfully parsed"
_DELETED = "All content successfully deleted, may be waiting on finalization"


class NamespaceController(Controller[str]):
    """Namespace -> kube-root-ca.crt; a Terminating namespace -> nothing.

    Args:
        store: the objects.
        ca_pem: the certificate that kube-root-ca.crt holds.
    """

    name = "namespace controller"

    def __init__(self, store: Store, ca_pem: str = "") -> None:
        super().__init__(store)
        self._ca_pem = ca_pem

    def watched(self) -> dict[str, KeysOf[str]]:
        """Namespaces, and everything in those that are going."""
        namespaced = [name for name, resource in RESOURCES.items() if resource.namespaced]
        return {"namespaces": lambda obj: [obj["metadata"]["name"]]} | dict.fromkeys(namespaced, self._namespace_of)

    def _namespace_of(self, obj: Object) -> Iterable[str]:
        namespace, name = key_of(obj)
        live = self.seen.get("namespaces", {}).get(("", namespace))
        concerns = name == ROOT_CA or (live is not None and is_terminating(live))
        return [namespace] if concerns else []

    async def reconcile(self, key: str) -> float | None:
        """Publish the certificate in one namespace, or empty it."""
        name = key
        namespace = self.store.peek("namespaces", "", name)
        if namespace is None:
            return None
        if is_terminating(namespace):
            self._empty(namespace)
        else:
            self._publish_root_ca(name)
        return None

    def _publish_root_ca(self, namespace: str) -> None:
        wanted = root_ca_configmap(namespace, self._ca_pem)
        present = self.store.peek("configmaps", namespace, ROOT_CA)
        if present is None:
            self.store.create("configmaps", wanted, manager="kube-controller-manager")
        elif present.get("data") != wanted["data"]:
            self.store.update("configmaps", {**present, "data": wanted["data"]}, manager="kube-controller-manager")

    def _empty(self, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        remaining: dict[str, int] = {}
        finalizers: dict[str, int] = {}
        for resource in (r for r in RESOURCES.values() if r.namespaced):
            for obj in self.store.list(resource.name, name):
                if not is_terminating(obj):
                    self.store.delete(resource.name, name, obj["metadata"]["name"], propagation="Background")
            left = self.store.list(resource.name, name)
            if left:
                remaining[f"{resource.name}.{resource.group}"] = len(left)
            for obj in left:
                for finalizer in obj["metadata"].get("finalizers") or []:
                    finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
        if remaining:
            self._tell(namespace, remaining_conditions(remaining, finalizers, now()))
            return
        emptied = copied(namespace)
        emptied["spec"]["finalizers"] = [word for word in emptied["spec"].get("finalizers", []) if word != _FINALIZER]
        self.store.update("namespaces", emptied, subresource="finalize")

    def _tell(self, namespace: Object, conditions: list[Object]) -> None:
        def told(listed: list[Object]) -> list[tuple[str, str]]:
            return [(condition["type"], condition["message"]) for condition in listed]

        status = dict(namespace.get("status") or {})
        if told(status.get("conditions") or []) != told(conditions):
            status["conditions"] = conditions
            self.store.update("namespaces", {**namespace, "status": status}, subresource="status")
