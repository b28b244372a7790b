"""Whether an image can be made a proxy by a ConfigMap: what nginx in its pods says that it is configured with.

    official image: templates + variables -> /etc/nginx/... -> nginx reads it        any other: nobody fills them in

``nginx -T`` prints the whole configuration that a running nginx was started with, all included files too; what is not
in it is not in force. Images without the module stream end at once instead, with a word about it in their log. Where
neither can be asked, nothing is claimed: the lesson's checks then say what they see.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import ClusterError
from srcip_nb.exec_api import BrokeOffError, exec_lines
from srcip_nb.pod_client import BREAKS
from srcip_nb.rest import path_of
from srcip_nb.text import t

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

WITHIN = 15.0  # seconds; nginx prints its configuration in less than one
FILLED_IN_WITHIN = 5.0  # seconds; without a readiness probe a pod is Ready before its entrypoint has filled them in
LOG_TAIL = 50  # lines

IN_FORCE = {"proxy": r"^\s*proxy_protocol\s+on;", "backend": r"^\s*set_real_ip_from\s"}
"""The app's label -> a directive of manifests/steps/proxy.yaml that no image has by itself."""

# nginx src/core/ngx_conf_file.c: a directive of a module that it was built without, or that is not loaded.
_UNKNOWN_DIRECTIVE = re.compile(r'unknown directive "[^"]+"')


def why_not(cluster: Cluster, pod: dict[str, Any]) -> str:
    """Why a running pod of the lesson is not configured as its ConfigMap says; "" if it is, or cannot be asked.

    A lab's own nginx is not asked: it fills in templates as the official image does.

    Args:
        cluster: where.
        pod: a Pod object with the label ``app``: proxy or backend.
    """
    if cluster.lab is not None:
        return ""
    name, until = pod["metadata"]["name"], time.monotonic() + FILLED_IN_WITHIN
    while True:
        try:
            configuration = _printed(cluster, f"{cluster.namespace}/{name}")
        except ClusterError as error:
            return _no_module(error.cause) or crashed_by(cluster, pod)  # it may have been Ready for a moment
        if re.search(IN_FORCE[pod["metadata"]["labels"]["app"]], configuration, re.MULTILINE):
            return ""
        if time.monotonic() > until:
            return t("proxied.no_templates", pod=name)
        time.sleep(0.2)


def _printed(cluster: Cluster, pod: str) -> str:
    for _ in range(BREAKS - 1):
        try:
            return "\n".join(exec_lines(cluster, pod, ["nginx", "-T"], timeout=WITHIN))
        except BrokeOffError:
            continue
    return "\n".join(exec_lines(cluster, pod, ["nginx", "-T"], timeout=WITHIN))


def crashed_by(cluster: Cluster, pod: dict[str, Any]) -> str:
    """Why a pod's nginx ends at once, if it lacks a module; "" for any other reason, or where its log is silent."""
    path = path_of("pods", cluster.namespace, pod["metadata"]["name"], "log")
    for previous in (None, "true"):
        try:
            log = cluster.rest.text(path, {"tailLines": LOG_TAIL, "previous": previous}, WITHIN)
        except ClusterError:
            continue
        if why := _no_module(log):
            return why
    return ""


def _no_module(said: str) -> str:
    found = _UNKNOWN_DIRECTIVE.search(said)
    return t("proxied.no_module", said=found[0]) if found else ""
