"""Choosing the world: the lab, or a real cluster; and the cluster under kubectl's words.

    connect()                    the lab, started on first use
    connect("kind-kind")         a context of a kubeconfig; so does SRCIP_CONTEXT=kind-kind
    connect("in-cluster")        the cluster in whose pod this runs, as the pod's service account
    connect(replay="lab-calico")  a recorded run; so does SRCIP_REPLAY=lab-calico

``KUBECONFIG`` only says where contexts are looked up; it never chooses the world. What ``connect`` gives back is a
``Cluster`` whose methods are the plain functions of the other modules: ``cluster.pods()`` is ``observe.pods(cluster)``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from srcip_nb.cluster import DEPLOYMENT, SERVICE, Cluster
from srcip_nb.errors import LabError, UsageError
from srcip_nb.in_cluster import IN_CLUSTER, in_cluster
from srcip_nb.no_kernel import check_platform, no_lab, reason
from srcip_nb.recordings import mark, open_recording, recording_tape, replay_rest, show_as_recorded
from srcip_nb.rest import Rest, World, configuration_of, load_kubernetes
from srcip_nb.tape import ReplayTape, Tape
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.lab import Lab
    from srcip_nb.lab.client import LabClient
    from srcip_nb.logs_follow import Follower
    from srcip_nb.policy import PolicyChange
    from srcip_nb.under_load import UnderLoad

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123, as the API demands of a namespace
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}")  # the form in the rough; a wrong one the kubelet names


class LessonCluster(Cluster):
    """A cluster under kubectl's words: each method is the plain function of that name, imported on first use."""

    def apply(self, *manifests: Any) -> pd.DataFrame:
        """Create or change objects; without manifests, the lesson's four: see ``apply.apply``."""
        from srcip_nb.apply import apply

        return apply(self, *manifests)

    def wait_ready(self, timeout: float = 60.0, service: str = SERVICE) -> pd.DataFrame:
        """Wait for the rollout of the lesson's Deployment and its Service's address: see ``rollout.wait_ready``."""
        from srcip_nb.rollout import wait_ready

        return wait_ready(self, timeout, service=service)

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

    def scale(self, replicas: int, deployment: str = DEPLOYMENT) -> pd.DataFrame:
        """Set the number of pods and return them when requests meet just these: see ``scale.scale``."""
        from srcip_nb.scale import scale

        return scale(self, replicas, deployment)

    def expose(self, name: str, type: str = "ClusterIP") -> pd.DataFrame:
        """A Service for the lesson's pods (``kubectl expose deployment``), once it answers: see ``expose.expose``."""
        from srcip_nb.expose import expose

        return expose(self, name, type)

    def roads(self, service: str, clients: Iterable[str] | None = None) -> pd.DataFrame:
        """Every road into a Service from several clients, expected beside observed: see ``roads.roads``."""
        from srcip_nb.roads import roads

        return roads(self, service, clients)

    def restart(self, deployment: str = DEPLOYMENT) -> pd.DataFrame:
        """Replace every pod by a new one and return the new ones (``kubectl rollout restart``): ``rolling.restart``."""
        from srcip_nb.rolling import restart

        return restart(self, deployment)

    def run_on(self, node: str | None) -> pd.DataFrame:
        """Have the pods run on one node, or anywhere again: see ``rolling.run_on``."""
        from srcip_nb.rolling import run_on

        return run_on(self, node)

    def cordon(self, node: str) -> pd.DataFrame:
        """Let no more pods onto a lab's node (``kubectl cordon``): see ``cordon.cordon``."""
        from srcip_nb.cordon import cordon

        return cordon(self, node)

    def uncordon(self, node: str) -> pd.DataFrame:
        """Let pods onto a lab's node again (``kubectl uncordon``): see ``cordon.uncordon``."""
        from srcip_nb.cordon import uncordon

        return uncordon(self, node)

    def announcers(self, service: str = SERVICE) -> tuple[str, ...]:
        """The nodes that announce the Service's external address: see ``traffic.announcers``."""
        from srcip_nb.traffic import announcers

        return announcers(self, service)

    def health(self, service: str = SERVICE) -> pd.DataFrame:
        """What every node answers on the Service's health check node port: see ``health.health``."""
        from srcip_nb.health import health

        return health(self, service)

    def clients(self) -> pd.DataFrame:
        """The hosts from which ``visit`` can start: see ``clients.clients``."""
        from srcip_nb.clients import clients

        return clients(self)

    def visit(self, n: int = 20, client: str | None = None, **options: Any) -> pd.DataFrame:
        """Send requests and return one row for each: see ``traffic.visit``."""
        from srcip_nb.traffic import visit

        return visit(self, n, client, **options)

    def visit_during(self, action: Callable[[], object], **options: Any) -> UnderLoad:
        """Send requests while something is changed, and see where the lost ones went: ``under_load.visit_during``."""
        from srcip_nb.under_load import visit_during

        return visit_during(self, action, **options)

    def explain(self, client: str | None = None, target: str | None = None, **options: Any) -> pd.DataFrame:
        """What the nodes' rules did with one request, told by their kernels: see ``explain.explain``."""
        from srcip_nb.explain import explain

        return explain(self, client, target, **options)

    def logs(self, *args: Any, **options: Any) -> pd.DataFrame:
        """The pods' logs as typed rows: see ``logs.logs``."""
        from srcip_nb.logs import logs

        return logs(self, *args, **options)

    def follow(self, *args: Any, **options: Any) -> Follower:
        """The pods' logs as they are written, new pods' too: see ``logs_follow.follow``."""
        from srcip_nb.logs_follow import follow

        return follow(self, *args, **options)

    def addresses(self) -> pd.DataFrame:
        """Whose address is it: see ``addresses.addresses``."""
        from srcip_nb.addresses import addresses

        return addresses(self)


def connect(
    context: str | None = None,
    *,
    lab: str | dict[str, Any] | Lab | LabClient | None = None,
    namespace: str | None = None,
    image: str | None = None,
    adopt: bool | None = None,
    apart: str = "",
    replay: str | None = None,
    quiet: bool = False,
) -> LessonCluster:
    """Choose the world and say which it is.

    What is named here, else the recording that ``SRCIP_REPLAY`` names, else the context that ``SRCIP_CONTEXT`` names,
    else the lab: the one that runs for this notebook, or a new one. The current context of a kubeconfig is never taken.

    Args:
        context: name of a context of a kubeconfig; "in-cluster": the cluster in whose pod this runs.
        lab: a certain lab: its name, a running ``Lab``, or settings for it such as ``{"workers": 3}``.
        namespace: where the lesson's objects are; one a participant, where many share a cluster. None:
            ``SRCIP_NAMESPACE``, else "seminar".
        image: an image of nginx to take wherever a manifest says ``nginx:latest``, for clusters that cannot pull from
            Docker Hub. None: ``SRCIP_IMAGE``, else the manifests' own.
        adopt: whether a namespace may be used that somebody else created; it is not deleted even then. None: yes if
            ``SRCIP_ADOPT`` is 1.
        apart: in a lab, work in a namespace of this step's own: "proxy" makes it ``seminar-proxy``. On a real cluster
            rights are given for one namespace a participant, so all is done in that one.
        replay: a recorded run instead of a cluster: the name of one that comes with the package ("lab-calico"), or the
            folder of ``srcip-nb record``. It answers what was asked then, in that order; figures and tables say so.
        quiet: do not print the line that says which world was chosen.

    Raises:
        UsageError: no such context, lab or recording, a name that cannot be a namespace or an image, or no service
            account here; nothing was started.
        LabError: this machine cannot run a lab.
        ClusterError: the API server does not answer, or does not accept the credentials.
    """
    settings = _settings(namespace, image, adopt)
    if sum((bool(context), lab is not None, bool(replay))) > 1:
        raise UsageError("several of a context, a lab and a recording were asked for at once", "Give connect() one")
    if not context and lab is None and not replay:
        replay = os.environ.get("SRCIP_REPLAY")
        context = os.environ.get("SRCIP_CONTEXT")
    if replay:
        cluster = _recorded_cluster(replay, settings)
    else:
        cluster = _real_cluster(context, settings) if context else _lab_cluster(lab, settings)
    if apart and cluster.lab is not None:
        cluster.namespace = check_namespace(f"{cluster.namespace}-{apart}")
    show_as_recorded(cluster.rest.tape.header if isinstance(cluster.rest.tape, ReplayTape) else None)
    if not quiet:
        print(first_line(cluster))
        if isinstance(cluster.rest.tape, ReplayTape):
            print(t("recorded.only"))
    return cluster


def first_line(cluster: Cluster) -> str:
    """Which world, server, version and namespace, and the run's id: what ``connect`` prints."""
    if isinstance(cluster.rest.tape, ReplayTape):
        return f"{mark()}: Kubernetes {cluster.version}, namespace {cluster.namespace!r}, run {cluster.run_id}"
    image = f", image {cluster.image}" if cluster.image else ""
    where = f"namespace {cluster.namespace!r}{image}, run {cluster.run_id}"
    return f"{cluster.world}: {cluster.server}, Kubernetes {cluster.version}, {where}"


def check_namespace(name: str) -> str:
    """The name, if it can be one of a namespace.

    Raises:
        UsageError: it cannot.
    """
    if not isinstance(name, str) or not _DNS_LABEL.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a namespace", "Use up to 63 of a-z, 0-9 and '-', such as 'seminar'")
    return name


def _settings(namespace: str | None, image: str | None, adopt: bool | None) -> dict[str, Any]:
    """What a Cluster is told beside its API: the arguments, else the environment."""
    if namespace is None:
        namespace = os.environ.get("SRCIP_NAMESPACE") or "seminar"
    check_namespace(namespace)
    if image is None:
        image = os.environ.get("SRCIP_IMAGE", "")
    if not isinstance(image, str) or (image and not _IMAGE.fullmatch(image)):
        raise UsageError(f"{image!r} cannot be an image", "Give it as REGISTRY/NAME:TAG, such as 'registry/nginx:1.27'")
    if adopt is None:
        adopt = os.environ.get("SRCIP_ADOPT") == "1"
    return {"namespace": namespace, "image": image, "adopt": adopt}


def _real_cluster(context: str, settings: dict[str, Any]) -> LessonCluster:
    from srcip_nb.lab.client import LabClient

    if context == IN_CLUSTER:
        return LessonCluster(Rest(*in_cluster()), **settings)
    paths = check_context(context)
    rest = Rest(configuration_of(paths, context), World("context", context))
    for path in paths.split(os.pathsep):
        found = LabClient.from_kubeconfig(path)
        if found and found.url == rest.configuration.host:
            world = World("lab", found.name)
            return LessonCluster(Rest(configuration_of(path, None, proxy=False), world), lab=found, **settings)
    rest = Rest(rest.configuration, rest.world, recording_tape(settings))
    return LessonCluster(rest, **settings)


def check_context(context: str) -> str:
    """The paths of the kubeconfig, as KUBECONFIG has them, if it has a context of that name.

    Raises:
        UsageError: it has not, or there is no kubeconfig.
    """
    paths = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    contexts = _contexts(paths)
    if context not in contexts:
        raise UsageError(
            f"no context {context!r} in {paths}; there are: {', '.join(contexts) or 'none'}",
            "See them with: kubectl config get-contexts; or connect() without a context for the lab",
        )
    return paths


def _contexts(paths: str) -> list[str]:
    load_kubernetes()
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger

    try:
        # Not list_kube_config_contexts: it refuses a file without current-context, which is a careful way to keep one.
        merged = KubeConfigMerger(paths).config
        entries = merged.safe_get("contexts") if merged else None
        if entries is None:
            raise ConfigException("it is not there, or names no contexts")
        return [entry["name"] for entry in entries]
    except ConfigException as error:
        raise UsageError(
            f"there is no usable kubeconfig at {paths} ({error})",
            "Set KUBECONFIG to its path; or connect() without a context for the lab",
        ) from error


def _recorded_cluster(replay: str, settings: dict[str, Any]) -> LessonCluster:
    from srcip_nb.notebook import current_notebook
    from srcip_nb.taped import TapedLab

    tape = open_recording(replay, current_notebook())
    header = tape.header
    lab = TapedLab(tape) if header["kind"] == "lab" else None
    settings |= {
        "namespace": header["namespace"],
        "image": header.get("image", ""),
        "adopt": header.get("adopt", False),
    }
    return LessonCluster(replay_rest(tape), lab=lab, run_id=header["run"], **settings)


def _lab_cluster(lab: str | dict[str, Any] | Lab | LabClient | None, settings: dict[str, Any]) -> LessonCluster:
    check_platform()
    from srcip_nb.lab import Lab
    from srcip_nb.lab.client import LabClient

    client: LabClient
    if isinstance(lab, LabClient):
        client = lab
    elif isinstance(lab, str):
        client = _running_lab(lab)
    elif lab is None or isinstance(lab, dict):
        client = _own_lab(lab or {})
    elif isinstance(lab, Lab):
        client = lab.client
    else:
        raise UsageError(f"{lab!r} is no lab", "Give its name, a running Lab, or settings: lab={'workers': 3}")
    return cluster_of(client, recording_tape(settings), **settings)


def cluster_of(client: LabClient, tape: Tape | None, **settings: Any) -> LessonCluster:
    """The cluster of a running lab, on a tape or not; settings as ``Cluster`` takes them."""
    rest = Rest(configuration_of(str(client.kubeconfig), None, proxy=False), World("lab", client.name), tape)
    if tape is not None:
        from srcip_nb.taped import TapedLab

        client = TapedLab(tape, client)
    return LessonCluster(rest, lab=client, **settings)


def _own_lab(lab: dict[str, Any]) -> LabClient:
    from srcip_nb.lab.lifecycle import ensure_lab

    try:
        return ensure_lab(**lab)
    except LabError as error:
        why = reason()
        if not why:
            raise  # the machine could, this lab cannot
        raise no_lab(why, error.remedy) from error


def _running_lab(name: str) -> LabClient:
    from srcip_nb.lab.lifecycle import client_of
    from srcip_nb.lab.state import find_lab

    record = find_lab(name)
    if record is None:
        raise LabError(f"no lab named {name!r} runs", f"Start it: srcip-nb lab up --name {name}")
    return client_of(record)
