"""A request reaches a pod: whose address does the pod see, and why?

Experiments in a notebook or a program go like this:

    from srcip_nb import connect
    cluster = connect()            # the lab, or a real cluster
    cluster.apply()                # namespace, page, two web servers, a Service
    cluster.wait_ready()
    cluster.visit(20)              # one row a request: who answered, and whose address it saw
    cluster.policy("Local")        # returns when it is in force
    cluster.visit(20)
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srcip_nb.addresses import addresses
    from srcip_nb.apply import apply
    from srcip_nb.dashboard import dashboard
    from srcip_nb.explain import explain
    from srcip_nb.logs import logs
    from srcip_nb.notebook import begin, done, predict
    from srcip_nb.observe import nodes, pods, service
    from srcip_nb.path_figure import request_path
    from srcip_nb.plots import requests_per_node, source_addresses
    from srcip_nb.policy import policy
    from srcip_nb.traffic import visit
    from srcip_nb.widgets import controls
    from srcip_nb.worlds import connect

# Loaded on first use (PEP 562): `srcip-nb lab list` needs neither pandas nor the Kubernetes client.
_HOMES = {
    "addresses": "addresses",
    "apply": "apply",
    "begin": "notebook",
    "connect": "worlds",
    "controls": "widgets",
    "dashboard": "dashboard",
    "done": "notebook",
    "explain": "explain",
    "logs": "logs",
    "nodes": "observe",
    "pods": "observe",
    "policy": "policy",
    "predict": "notebook",
    "request_path": "path_figure",
    "requests_per_node": "plots",
    "service": "observe",
    "source_addresses": "plots",
    "visit": "traffic",
}

__all__ = [
    "addresses",
    "apply",
    "begin",
    "connect",
    "controls",
    "dashboard",
    "done",
    "explain",
    "logs",
    "nodes",
    "pods",
    "policy",
    "predict",
    "request_path",
    "requests_per_node",
    "service",
    "source_addresses",
    "visit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


class _Package(ModuleType):
    """Keeps ``srcip_nb.policy`` the function after ``srcip_nb/policy.py`` has been imported.

    Importing a module sets it as an attribute of its package; where module and function share a name, the function
    stays. The module is reached as ``from srcip_nb.policy import …``.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
