"""The cluster in hand: the few words in which everything else speaks to a Kubernetes API.

A ``Cluster`` is the first argument of the plain functions in ``apply``, ``observe``, ``policy``, ``traffic``, ``logs``
and ``addresses``; ``worlds.connect`` makes one. Objects of the API are plain dicts here, written as in YAML:
``pod["status"]["podIP"]``.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import NotFinishedError, UsageError
from srcip_nb.rest import ApiAnswerError, Rest, path_of

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from srcip_nb.lab.client import LabClient

FIELD_MANAGER = "srcip-nb"
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = f"{MANAGED_BY}={FIELD_MANAGER}"
RUN_LABEL = "srcip-nb/run"
DEPLOYMENT = "webserver"
SERVICE = "webserver"
MERGE_PATCH = "application/merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


class Cluster:
    """A Kubernetes API and the namespace that is worked in.

    Attributes:
        namespace: where the lesson's objects are.
        lab: the lab behind it (its hosts, commands in them), None on a real cluster.
        world: "lab" or "context" and its name.
        server: address of the API server.
        version: Kubernetes version, such as "v1.36.2".
        run_id: 8 hexadecimal digits, the label ``srcip-nb/run`` of what is created through this; ``SRCIP_RUN`` names
            one that several connections share.
        image: taken wherever a manifest says ``nginx:latest``; "" leaves it.
        adopt: whether a namespace may be used that somebody else created.
    """

    def __init__(
        self,
        rest: Rest,
        namespace: str = "seminar",
        lab: LabClient | None = None,
        *,
        image: str = "",
        adopt: bool = False,
        run_id: str = "",
    ) -> None:
        self.rest = rest
        self.namespace = namespace
        self.lab = lab
        self.image = image
        self.adopt = adopt
        self.run_id = run_id or _run_id()
        self.world = rest.world
        self.server: str = rest.configuration.host
        self.version: str = rest.request("GET", "/version")[1].get("gitVersion", "unknown")
        rest.request("GET", "/api")  # /version is for anybody; this one tells whether the credentials are accepted

    def __repr__(self) -> str:
        return f"<Cluster {self.world}, {self.server}, Kubernetes {self.version}, namespace {self.namespace!r}>"

    def beside(self, namespace: str) -> Cluster:
        """The same cluster and run, in another namespace."""
        other = Cluster(self.rest, namespace, self.lab, image=self.image, adopt=self.adopt)
        other.run_id = self.run_id
        return other

    def api_client(self) -> ApiClient:
        """A new client of the official ``kubernetes`` package; one for each thread."""
        return self.rest.api_client()

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, dict[str, Any]]:
        """One request to the API; see ``Rest.request``."""
        return self.rest.request(method, path, body, **options)

    def get(self, resource: str, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        """One object, by the plural name of its kind: ``cluster.get("services", "webserver")``.

        Raises:
            ApiAnswerError: code 404 where there is none.
        """
        return self.request("GET", path_of(resource, namespace or self.namespace, name))[1]

    def find(self, resource: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None where there is none."""
        try:
            return self.get(resource, name, namespace=namespace)
        except ApiAnswerError as error:
            if error.code != 404:
                raise
            return None

    def list(
        self,
        resource: str,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        everywhere: bool = False,
    ) -> list[dict[str, Any]]:
        """Objects of one kind.

        Args:
            resource: plural name: ``pods``, ``services``, ``nodes`` …
            namespace: another namespace than the cluster's own.
            labels: a label selector such as ``app=webserver``.
            fields: a field selector such as ``spec.nodeName=worker01``.
            everywhere: all namespaces.
        """
        path = path_of(resource, None if everywhere else namespace or self.namespace)
        query = {"labelSelector": labels, "fieldSelector": fields}
        return self.request("GET", path, query=query)[1].get("items") or []

    def table(
        self, resource: str, *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> dict[str, Any]:
        """The server's own table of these objects: what ``kubectl get`` prints."""
        path = path_of(resource, namespace or self.namespace)
        query = {"labelSelector": labels, "fieldSelector": fields}
        return self.request("GET", path, query=query, accept=TABLE)[1]

    def patch(
        self, resource: str, name: str, patch: dict[str, Any], *, namespace: str | None = None, dry_run: bool = False
    ) -> dict[str, Any]:
        """Change fields of an object (a JSON merge patch) and return it as it now is."""
        query = {"fieldManager": FIELD_MANAGER, "dryRun": "All" if dry_run else None}
        path = path_of(resource, namespace or self.namespace, name)
        return self.request("PATCH", path, patch, query=query, content_type=MERGE_PATCH)[1]


def is_ready(body: dict[str, Any]) -> bool:
    """Whether the condition Ready of a Node or Pod is True."""
    conditions = body.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _run_id() -> str:
    given = os.environ.get("SRCIP_RUN", "")
    if given and not re.fullmatch("[0-9a-f]{8}", given):
        raise UsageError(f"SRCIP_RUN is {given!r}", "Give 8 hexadecimal digits, or leave it unset")
    return given or secrets.token_hex(4)


def wait_until(look: Callable[[], str], what: str, timeout: float, *, every: float = 0.05, remedy: str = "") -> float:
    """Look until it holds; returns the seconds that took.

    Args:
        look: returns "" when it holds, else in words what it saw.
        what: what is waited for, for the error.
        timeout: seconds.
        every: seconds between two looks.
        remedy: what to type when time runs out.

    Raises:
        NotFinishedError: with the last state seen.
    """
    started = time.monotonic()
    while state := look():
        if time.monotonic() - started > timeout:
            raise NotFinishedError(f"{what} did not come about within {timeout:g} s; last seen: {state}", remedy)
        time.sleep(every)
    return time.monotonic() - started
