"""The endpoint controllers: write what `endpointslices` decides, and the Service `kubernetes` of every cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from srcip_nb.lab.controllers.endpointslices import (
    MANAGED_BY,
    MANAGER,
    SERVICE_NAME,
    TRIGGER_TIME,
    ZONE,
    endpoints_for,
    endpointslices_for,
)
from srcip_nb.lab.controllers.loop import Controller, KeysOf
from srcip_nb.lab.controllers.objects import (
    Key,
    Object,
    copied,
    has_labels,
    is_terminating,
    key_of,
    labels_of,
    now,
)

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store

_MANAGER = "kube-controller-manager"
_CONTENT = ("endpoints", "ports", "subsets")

API_PORT = 6443
"""Where a real API server listens on the control plane; the lab's listens on 127.0.0.1 of the machine only."""


class EndpointsController(Controller[Key]):
    """Services with a selector, and pods -> EndpointSlices and Endpoints."""

    name = "endpoints controller"

    def watched(self) -> dict[str, KeysOf[Key]]:
        """Services, the pods behind them, and what was written of them: somebody may have changed it."""
        return {
            "services": lambda obj: [key_of(obj)],
            "pods": self._services_of,
            "endpointslices": self._service_of_slice,
            "endpoints": lambda obj: [key_of(obj)],
        }

    def _services_of(self, pod: Object) -> Iterable[Key]:
        namespace, _ = key_of(pod)
        return [
            key
            for key, service in self.seen.get("services", {}).items()
            if key[0] == namespace and has_labels(labels_of(pod), service["spec"].get("selector") or {})
        ]

    def _service_of_slice(self, piece: Object) -> Iterable[Key]:
        labels = labels_of(piece)
        is_mine = labels.get(MANAGED_BY) == MANAGER and SERVICE_NAME in labels
        return [(key_of(piece)[0], labels[SERVICE_NAME])] if is_mine else []

    async def reconcile(self, key: Key) -> float | None:
        """Write the EndpointSlices and Endpoints of one Service."""
        namespace, name = key
        service = self.store.peek("services", namespace, name)
        if service is None:
            if self.store.peek("endpoints", namespace, name) and not self._is_terminating(namespace):
                self.store.delete("endpoints", namespace, name)
            return None
        if is_terminating(service) or not service["spec"].get("selector") or self._is_terminating(namespace):
            return None
        self._write_slices(service)
        self._write_endpoints(service)
        return None

    def _is_terminating(self, namespace: str) -> bool:
        found = self.store.peek("namespaces", "", namespace)
        return found is None or is_terminating(found)

    def _write_slices(self, service: Object) -> None:
        namespace, name = key_of(service)
        pods = self.store.list("pods", namespace)
        present = self.store.list("endpointslices", namespace, labels=f"{SERVICE_NAME}={name},{MANAGED_BY}={MANAGER}")
        wanted = endpointslices_for(service, pods, present, self._zones())
        for piece in wanted:
            self._write("endpointslices", piece)
        kept = {piece["metadata"].get("name") for piece in wanted}
        for piece in present:
            if piece["metadata"]["name"] not in kept:
                self.store.delete("endpointslices", namespace, piece["metadata"]["name"])

    def _write_endpoints(self, service: Object) -> None:
        namespace, name = key_of(service)
        present = self.store.peek("endpoints", namespace, name)
        self._write("endpoints", endpoints_for(service, self.store.list("pods", namespace), present))

    def _write(self, resource: str, wanted: Object) -> None:
        """Create or update; the trigger time is set when the endpoints themselves change, not for a label."""
        name = wanted["metadata"].get("name")
        present = self.store.peek(resource, wanted["metadata"]["namespace"], name) if name else None
        if present is not None and _same(present, wanted):
            return
        has_content = bool(wanted.get("endpoints") or wanted.get("subsets"))
        has_changed = present is None or any(present.get(field) != wanted.get(field) for field in _CONTENT)
        if has_content and has_changed:
            wanted = copied(wanted)
            wanted["metadata"].setdefault("annotations", {})[TRIGGER_TIME] = now()
        if present is None:
            self.store.create(resource, wanted, manager=_MANAGER)
        else:
            self.store.update(resource, wanted, manager=_MANAGER)

    def _zones(self) -> dict[str, str]:
        nodes = self.store.list("nodes")
        return {node["metadata"]["name"]: labels_of(node)[ZONE] for node in nodes if ZONE in labels_of(node)}


def _same(present: Object, wanted: Object) -> bool:
    fields = ("labels", "annotations", "ownerReferences")
    return all(present.get(field) == wanted.get(field) for field in _CONTENT) and all(
        present["metadata"].get(field) == wanted["metadata"].get(field) for field in fields
    )


def create_kubernetes_service(store: Store, cluster_ip: str, address: str) -> None:
    """Create the Service `kubernetes` with its Endpoints and EndpointSlice, as the API server itself does.

    Args:
        store: with the namespace default in it.
        cluster_ip: the first address of the Service range.
        address: of the control plane.
    """
    namespace = {"name": "kubernetes", "namespace": "default"}
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_PORT}
    target = {"name": "https", "port": API_PORT, "protocol": "TCP"}
    service = {
        "metadata": {**namespace, "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "ports": [port], "sessionAffinity": "None"},
    }
    skip_mirror = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    endpoints = {
        "metadata": {**namespace, "labels": skip_mirror},
        "subsets": [{"addresses": [{"ip": address}], "ports": [target]}],
    }
    piece = {
        "metadata": {**namespace, "labels": {SERVICE_NAME: "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [target],
    }
    for resource, obj in (("services", service), ("endpoints", endpoints), ("endpointslices", piece)):
        if store.peek(resource, "default", "kubernetes") is None:
            store.create(resource, obj, manager="kube-apiserver")
