"""Running in a pod of the cluster itself: server and credentials of the pod's service account.

Asked for by name, ``connect("in-cluster")`` or ``--context in-cluster``, and never taken because it is there: a
notebook in JupyterHub on Kubernetes would else touch that cluster when a lab was meant. The kubelet mounts the files;
the token in them is replaced about every hour, and read again each minute.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from srcip_nb.errors import UsageError
from srcip_nb.rest import World, load_kubernetes

if TYPE_CHECKING:
    from kubernetes.client import Configuration

IN_CLUSTER = "in-cluster"
FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_cluster(folder: Path | None = None) -> tuple[Configuration, World]:
    """The API as a pod's service account reaches it, and the name of that world: the pod's own namespace.

    Args:
        folder: where ``token``, ``ca.crt`` and ``namespace`` are; None: where the kubelet mounts them.

    Raises:
        UsageError: this is no pod, or one without a service account's token.
    """
    load_kubernetes()
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    folder = folder or FOLDER
    configuration = Configuration()
    try:
        loader = InClusterConfigLoader(str(folder / "token"), str(folder / "ca.crt"), environ=os.environ)
        loader.load_and_set(configuration)
        namespace = (folder / "namespace").read_text(encoding="utf-8").strip()
    except (ConfigException, OSError) as error:
        raise UsageError(
            f"this is no pod with a service account: {error}",
            "Name a context of your kubeconfig (kubectl config get-contexts), or none for the lab",
        ) from error
    return configuration, World(IN_CLUSTER, namespace)
