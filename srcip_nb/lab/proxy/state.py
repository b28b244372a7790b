"""Objects of the API -> what a proxy needs, kept from one sync to the next.

Reading 1,000 Services with 10 endpoints each takes longer than anything a single change asks for. So each Service is
read once and kept with the objects it was read from; as long as these are equal, the very same tuple is handed out, and
whoever renders it (iptables.py) sees by identity that nothing changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from srcip_nb.lab.proxy.model import Endpoint, ServiceKey, ServicePort, endpoints_by_port, service_key, service_ports

ServiceEntry = tuple[tuple[ServicePort, tuple[Endpoint, ...]], ...]
"""The ports of one Service, each with its endpoints."""


class ServiceMap(dict[ServiceKey, ServiceEntry]):
    """(namespace, name) -> the Service's ports with their endpoints; Services that no proxy serves are not in it."""

    def __init__(self) -> None:
        super().__init__()
        self._read_from: dict[ServiceKey, tuple[Mapping[str, Any], ...]] = {}

    @classmethod
    def of(cls, services: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]]) -> ServiceMap:
        """Read Services and EndpointSlices of all namespaces, once."""
        state = cls()
        state.update_from(services, slices)
        return state

    def update_from(
        self, services: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]]
    ) -> set[ServiceKey]:
        """Take over the state of the API: all Services and all EndpointSlices, of all namespaces.

        Returns:
            The Services that appeared, changed or went.
        """
        slices_of: dict[ServiceKey, list[Mapping[str, Any]]] = {}
        for endpoint_slice in slices:
            if (key := service_key(endpoint_slice)) is not None:
                slices_of.setdefault(key, []).append(endpoint_slice)
        changed: set[ServiceKey] = set()
        seen: set[ServiceKey] = set()
        for service in services:
            key = (service["metadata"].get("namespace") or "default", service["metadata"]["name"])
            seen.add(key)
            source = (service, *slices_of.get(key, ()))
            if self._read_from.get(key) == source:
                continue
            self._read_from[key] = source
            changed.add(key)
            by_port = endpoints_by_port(source[1:])
            entry = tuple((port, by_port.get((port.name, port.protocol), ())) for port in service_ports(service))
            if entry:
                self[key] = entry
            else:
                self.pop(key, None)
        for key in self._read_from.keys() - seen:
            changed.add(key)
            del self._read_from[key]
            self.pop(key, None)
        return changed

    @property
    def endpoint_count(self) -> int:
        """Endpoints of all service ports together: beyond 1,000 kube-proxy leaves comments out to keep rules small."""
        return sum(len(endpoints) for entry in self.values() for _, endpoints in entry)
