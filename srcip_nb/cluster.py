"""The cluster in hand: which world it is, and the few words in which everything else speaks to it.

    connect()                    the lab, started on first use
    connect("kind-kind")         a context of a kubeconfig; so does SRCIP_CONTEXT=kind-kind

``KUBECONFIG`` only says where contexts are looked up; it never chooses the world. A ``Cluster`` is the first argument
of the plain functions in ``apply``, ``observe``, ``policy``, ``traffic``, ``logs`` and ``addresses``, and its methods
are the same functions under kubectl's words: ``cluster.pods()`` is ``observe.pods(cluster)``.

Objects of the API are plain dicts here, written as in YAML: ``pod["status"]["podIP"]``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import LabError, NotFinishedError, UsageError
from srcip_nb.rest import READ_TIMEOUT, ApiAnswerError, Rest, World, configuration_of, load_kubernetes, path_of

if TYPE_CHECKING:
    import pandas as pd
    from kubernetes.client import ApiClient

    from srcip_nb.lab import Lab
    from srcip_nb.lab.client import LabClient
    from srcip_nb.policy import PolicyChange

FIELD_MANAGER = "srcip-nb"
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = f"{MANAGED_BY}={FIELD_MANAGER}"
DEPLOYMENT = "webserver"
SERVICE = "webserver"
MERGE_PATCH = "application/merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123, as the API demands of a namespace


class Cluster:
    """A Kubernetes API and the namespace that is worked in.

    Attributes:
        namespace: where the lesson's objects are.
        lab: the lab behind it (its hosts, commands in them), None on a real cluster.
        world: "lab" or "context" and its name.
        server: address of the API server.
        version: Kubernetes version, such as "v1.36.2".
    """

    def __init__(self, rest: Rest, namespace: str = "seminar", lab: LabClient | None = None) -> None:
        self.rest = rest
        self.namespace = namespace
        self.lab = lab
        self.world = rest.world
        self.server: str = rest.configuration.host
        self.version: str = rest.request("GET", "/version")[1].get("gitVersion", "unknown")
        rest.request("GET", "/api")  # /version is for anybody; this one tells whether the credentials are accepted

    def __repr__(self) -> str:
        return f"<Cluster {self.world}, {self.server}, Kubernetes {self.version}, namespace {self.namespace!r}>"

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

    # -- kubectl's words ----------------------------------------------------------------------------------------------

    def apply(self, *manifests: Any) -> pd.DataFrame:
        """Create or change objects; without manifests, the lesson's four: see ``apply.apply``."""
        from srcip_nb.apply import apply

        return apply(self, *manifests)

    def wait_ready(self, timeout: float = 60.0) -> pd.DataFrame:
        """Wait for the rollout of the lesson's Deployment and its Service's address: see ``rollout.wait_ready``."""
        from srcip_nb.rollout import wait_ready

        return wait_ready(self, timeout)

    def delete(self, *, wait: bool = True, timeout: float = 60.0) -> pd.DataFrame:
        """Delete what this project created in the namespace, and the namespace: see ``apply.delete``."""
        from srcip_nb.apply import delete

        return delete(self, wait=wait, timeout=timeout)

    def nodes(self) -> pd.DataFrame:
        """``kubectl get nodes -o wide``: see ``observe.nodes``."""
        from srcip_nb.observe import nodes

        return nodes(self)

    def pods(self) -> pd.DataFrame:
        """``kubectl get pods -o wide``: see ``observe.pods``."""
        from srcip_nb.observe import pods

        return pods(self)

    def service(self) -> pd.DataFrame:
        """``kubectl get service -o wide``: see ``observe.service``."""
        from srcip_nb.observe import service

        return service(self)

    def endpoints(self) -> pd.DataFrame:
        """Which pods a Service sends to, one row each: see ``observe.endpoints``."""
        from srcip_nb.observe import endpoints

        return endpoints(self)

    def events(self) -> pd.DataFrame:
        """``kubectl get events``, the newest last: see ``observe.events``."""
        from srcip_nb.observe import events

        return events(self)

    def policy(self, value: str, service: str = SERVICE) -> PolicyChange:
        """Set externalTrafficPolicy and return when it is in force: see ``policy.policy``."""
        from srcip_nb.policy import policy

        return policy(self, value, service)

    def clients(self) -> pd.DataFrame:
        """The hosts from which ``visit`` can start: see ``clients.clients``."""
        from srcip_nb.clients import clients

        return clients(self)

    def visit(self, n: int = 20, client: str | None = None, **options: Any) -> pd.DataFrame:
        """Send requests and return one row for each: see ``traffic.visit``."""
        from srcip_nb.traffic import visit

        return visit(self, n, client, **options)

    def logs(self, *args: Any, **options: Any) -> pd.DataFrame:
        """The pods' logs as typed rows: see ``logs.logs``."""
        from srcip_nb.logs import logs

        return logs(self, *args, **options)

    def addresses(self) -> pd.DataFrame:
        """Whose address is it: see ``addresses.addresses``."""
        from srcip_nb.addresses import addresses

        return addresses(self)


def connect(
    context: str | None = None,
    *,
    lab: str | dict[str, Any] | Lab | LabClient | None = None,
    namespace: str = "seminar",
    quiet: bool = False,
) -> Cluster:
    """Choose the world and say which it is.

    A context named here, else one named by ``SRCIP_CONTEXT``, else the lab: the one that runs for this notebook, or a
    new one.

    Args:
        context: name of a context of a kubeconfig.
        lab: a certain lab: its name, a running ``Lab``, or settings for it such as ``{"workers": 3}``.
        namespace: where the lesson's objects are.
        quiet: do not print the line that says which world was chosen.

    Raises:
        UsageError: no such context or lab, or a name that cannot be a namespace; nothing was started.
        LabError: this machine cannot run a lab.
        ClusterError: the API server does not answer, or does not accept the credentials.
    """
    if not _DNS_LABEL.fullmatch(namespace):
        raise UsageError(f"{namespace!r} cannot be a namespace", "Use up to 63 of a-z, 0-9 and '-', such as 'seminar'")
    if context and lab is not None:
        raise UsageError("a context and a lab were asked for at once", "Give connect() one of the two")
    if not context and lab is None:
        context = os.environ.get("SRCIP_CONTEXT")
    cluster = _real_cluster(context, namespace) if context else _lab_cluster(lab, namespace)
    if not quiet:
        print(f"{cluster.world}: {cluster.server}, Kubernetes {cluster.version}, namespace {namespace!r}")
    return cluster


def _real_cluster(context: str, namespace: str) -> Cluster:
    from srcip_nb.lab.client import LabClient

    paths = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    known = _contexts(paths)
    if context not in known:
        raise UsageError(
            f"no context {context!r} in {paths}; there are: {', '.join(known) or 'none'}",
            "See them with: kubectl config get-contexts; or connect() without a context for the lab",
        )
    rest = Rest(configuration_of(paths, context), World("context", context))
    for path in paths.split(os.pathsep):
        found = LabClient.from_kubeconfig(path)
        if found and found.url == rest.configuration.host:
            return Cluster(Rest(configuration_of(path, None, proxy=False), World("lab", found.name)), namespace, found)
    return Cluster(rest, namespace)


def _contexts(paths: str) -> list[str]:
    load_kubernetes()
    from kubernetes import config

    try:
        found, _ = config.list_kube_config_contexts(paths)
    except config.ConfigException as error:
        raise UsageError(
            f"there is no usable kubeconfig at {paths} ({error})",
            "Set KUBECONFIG to its path; or connect() without a context for the lab",
        ) from error
    return [entry["name"] for entry in found]


def _lab_cluster(lab: str | dict[str, Any] | Lab | LabClient | None, namespace: str) -> Cluster:
    from srcip_nb.lab.client import LabClient

    client: LabClient
    if isinstance(lab, LabClient):
        client = lab
    elif isinstance(lab, str):
        client = _running_lab(lab)
    elif lab is None or isinstance(lab, dict):
        from srcip_nb.lab.lifecycle import ensure_lab

        client = ensure_lab(**(lab or {}))
    else:
        client = lab.client
    configuration = configuration_of(str(client.kubeconfig), None, proxy=False)
    return Cluster(Rest(configuration, World("lab", client.name)), namespace, client)


def _running_lab(name: str) -> LabClient:
    from srcip_nb.lab.lifecycle import client_of
    from srcip_nb.lab.state import find_lab

    record = find_lab(name)
    if record is None:
        raise LabError(f"no lab named {name!r} runs", f"Start it: srcip-nb lab up --name {name}")
    return client_of(record)


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


__all__ = ["READ_TIMEOUT", "Cluster", "connect", "path_of", "wait_until"]
