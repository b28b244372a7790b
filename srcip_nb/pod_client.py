"""Requests that start in a pod of a real cluster: its own curl, run by ``exec`` through the API.

One command sends some requests, so many at a time, and says of each a line that this module reads:

    srcip-nb 7 1760000000000000000 10.0.5.3 200 0.004 0 aGVsbG8K
             id, sent at (ns), the socket's own address, HTTP status, seconds, curl's exit code, body in base64

A lab needs none of this: its agent opens sockets in the pod's network namespace. sh, curl, date and base64 are all that
the pod's image must have; the official nginx image (Debian's) has them.
"""

from __future__ import annotations

import base64
import binascii
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import ClusterError

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

BODY_BYTES = 200  # as many as a lab's client keeps
IN_ONE_COMMAND = 32  # requests; the command travels in a URL
MARK = "srcip-nb"
FIELDS = 7

# A line is written at once, so lines of requests that are under way together do not mix.
_ONE = f"""\
one() {{
  id=$1; shift
  file=$(mktemp); at=$(date +%s%N)
  said=$(curl -s -o "$file" -w '%{{local_ip}} %{{http_code}} %{{time_total}}' "$@"); code=$?
  echo "{MARK} $id $at ${{said:-- 000 0}} $code $(head -c {BODY_BYTES} "$file" | base64 | tr -d '\\n')"
  rm -f "$file"
}}
"""

# curl(1), EXIT CODES -> the words of a lab's client.
ERRORS = {7: "refused", 18: "closed", 28: "timeout", 52: "closed", 56: "reset"}


def script_of(requests: Sequence[dict[str, Any]], concurrency: int, timeout: float) -> str:
    """The shell script that sends requests, ``concurrency`` of them side by side.

    Args:
        requests: ``{"id": int, "url": str, "headers": {}}`` each.
        concurrency: how many are under way at once.
        timeout: seconds a request may take.
    """
    lines = []
    for number, request in enumerate(requests, 1):
        fields = [word for name, value in (request.get("headers") or {}).items() for word in ("-H", f"{name}: {value}")]
        words = [str(request["id"]), "-m", f"{timeout:g}", *fields, request["url"]]
        lines.append(f"one {shlex.join(words)} &")
        if number % concurrency == 0:
            lines.append("wait")
    return _ONE + "\n".join([*lines, "wait"]) + "\n"


def read_results(text: str) -> Iterator[dict[str, Any]]:
    """What the script wrote, as results of ``Client.send``; lines that are not its own are passed over."""
    for line in text.splitlines():
        words = line.split(" ")
        if words[0] != MARK or len(words) < FIELDS:
            continue
        number, at, own, status, seconds, code, *body = words[1:]
        is_answered = code == "0"
        yield {
            "id": int(number),
            "sent_at": int(at) if at.isdecimal() else time.time_ns(),  # busybox's date knows no %N
            "client_ip": "" if own == "-" else own,
            "status": int(status) if is_answered else None,
            "error": "" if is_answered else ERRORS.get(int(code), f"curl {code}"),
            "latency_ms": float(seconds) * 1000,
            "body": _decoded("".join(body)),
        }


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode(errors="replace")
    except binascii.Error:
        return ""


def send_from_pod(
    cluster: Cluster, pod: str, requests: Sequence[dict[str, Any]], concurrency: int, timeout: float
) -> Iterator[dict[str, Any]]:
    """Send requests from a pod of the cluster's namespace; yields a result as each ends, see ``Client.send``.

    Raises:
        ClusterError: the API does not let a command run in that pod, or the pod has no curl.
    """
    for start in range(0, len(requests), IN_ONE_COMMAND):
        some = requests[start : start + IN_ONE_COMMAND]
        said = run_in_pod(cluster, pod, ["sh", "-c", script_of(some, concurrency, timeout)], timeout * len(some) + 10)
        found = list(read_results(said))
        if any(result["error"] == "curl 127" for result in found):
            raise ClusterError(f"pod {pod!r} has no curl", "Take a pod of the official nginx image, which has one")
        yield from found


def run_in_pod(cluster: Cluster, pod: str, command: Sequence[str], timeout: float) -> str:
    """Run a command in a pod's first container, as ``kubectl exec`` does, and return what it wrote.

    Raises:
        ClusterError: the API refused, or the connection broke.
    """
    from kubernetes.client import ApiException, CoreV1Api
    from kubernetes.stream import stream

    remedy = f"Try it by hand: kubectl exec -n {cluster.namespace} {pod} -- {shlex.join(command[:1])}"
    try:
        connection = stream(
            CoreV1Api(cluster.api_client()).connect_get_namespaced_pod_exec,
            pod,
            cluster.namespace,
            command=list(command),
            stdin=False,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
        try:
            connection.run_forever(timeout=timeout)
            return str(connection.read_all())
        finally:
            connection.sock.shutdown()  # close() leaves the socket open where the other end has closed first
    except (ApiException, OSError) as error:
        reason = getattr(error, "reason", "") or str(error)
        raise ClusterError(f"no command runs in pod {pod!r}: {reason}", remedy) from error
