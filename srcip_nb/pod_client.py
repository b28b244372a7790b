"""Requests that start in a pod: curl, run by the pod's own shell, told over the API.

    this process --- exec over a websocket ---> sh in the pod --- xargs ---> curl, one process a request ---> Service

The same on every cluster, a lab included. The pod needs what the nginx image has: sh, xargs, grep, tr and curl. A pod
on its host's network is its node, as far as addresses go: that is how a node becomes a client.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.exec_api import exec_lines

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

_OUTER = """\
for p in curl xargs; do command -v $p >/dev/null || { echo "there is no $p in this image" >&2; exit 127; }; done
exec xargs -E end -n 2 -P "$1" sh -c "$3" "$2\""""

# $0 is the time limit, $1 the request's number, $2 its URL. What curl has no number for it says in words (-v, marked
# "* "); its other remarks and the headers are dropped, and of a long body all but the end.
_INNER = """\
printf "%s\\t%s\\n" "$1" "$(curl -sv --max-time "$0" --noproxy "*" -A srcip-nb -H "Connection: close" \
-w "\\n=%{http_code} %{exitcode} %{local_ip} %{local_port} %{time_total}" "$2" 2>&1 \
| grep -E "^=|^[^*<>{}]|^[{}][^ ]|^[{}]\\$|failed: |reset by peer" | tail -c 700 | tr "\\n" "\\036")\""""

_LINE = re.compile(
    r"(?P<id>\d+)\t(?P<said>.*)(?<![^\x1e\t])=(?P<status>\d+) (?P<exit>\d+) (?P<ip>\S*) (?P<port>-?\d*) "
    r"(?P<seconds>[\d.,]+)"
)
_LONGEST_BODY = 500  # bytes
_WORDS = (
    ("refused", "refused"),
    ("No route to host", "unreachable"),
    ("unreachable", "unreachable"),
    ("reset by peer", "reset"),
)
"""What the C library says of an errno (glibc and musl), and the word of the ``error`` column."""

_EXITS = {6: "no such host", 18: "closed", 28: "timeout", 52: "closed", 56: "closed"}
"""curl's exit codes, man curl(1), section EXIT CODES."""

START_WITHIN = 30.0  # seconds, beside what the requests may take


def send_from_pod(
    cluster: Cluster,
    pod: str,
    requests: Sequence[dict[str, Any]],
    *,
    concurrency: int,
    timeout: float,
    rate: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Send requests from a pod, a new connection each; yields a result as each ends.

    Args:
        cluster: where.
        pod: NAMESPACE/NAME.
        requests: ``{"id": int, "url": str, "headers": {}}`` each.
        concurrency: how many are under way at once.
        timeout: seconds a request may take.
        rate: requests a second at most.

    Yields:
        As ``Client.send``; ``sent_at`` is by this machine's clock: when the result came, less the request's own time.
        ``client_ip`` is "" where no connection came about; ``body`` is "" where it is longer than 500 bytes.

    Raises:
        UsageError: a URL with a space or a quote, or headers: neither goes this way.
        ClusterError: the pod is not there or cannot do it, or it ended before all had been sent.
    """
    for request in requests:
        if request.get("headers") or re.search(r"""[\s'"\\]""", request["url"]):
            raise UsageError(
                f"{request['url']!r} cannot be asked for from a pod", "Leave out headers, spaces and quotes"
            )
    argv = ["sh", "-c", _OUTER, "srcip-nb", str(concurrency), f"{timeout:g}", _INNER]
    longest = START_WITHIN + timeout * -(-len(requests) // concurrency) * 2 + (len(requests) / rate if rate else 0)
    done = 0
    for line in exec_lines(cluster, pod, argv, _input(requests, rate), timeout=longest):
        result = result_of(line, time.time_ns())
        if result is not None:
            done += 1
            yield result
    if done < len(requests):
        raise ClusterError(f"pod {pod} reported {done} of {len(requests)} requests", "Run it again")


def _input(requests: Sequence[dict[str, Any]], rate: float | None) -> Iterator[str]:
    """The lines that xargs reads: all at once, or one by one at the rate."""
    lines = [f"{request['id']} {request['url']}\n" for request in requests]
    if rate is None:
        for at in range(0, len(lines), 200):
            yield "".join(lines[at : at + 200])
    else:
        started = time.monotonic()
        for number, line in enumerate(lines):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            yield line
    yield "end\n"


def result_of(line: str, now_ns: int) -> dict[str, Any] | None:
    """A request's result from its line, None for a line that is something else.

    Args:
        line: number, a tab, the body or what curl said in words, then ``=``, status, exit code, address, port and
            seconds; the record separator (30) stands for a line break.
        now_ns: when the line came, in nanoseconds since 1970.
    """
    found = _LINE.match(line)
    if found is None:
        return None
    seconds = float(found["seconds"].replace(",", "."))
    exit_code, status = int(found["exit"]), int(found["status"])
    body = found["said"].replace("\x1e", "\n").rstrip("\n")
    error = ""
    if exit_code:
        by_words = next((word for said, word in _WORDS if said in found["said"]), "")
        error = by_words or _EXITS.get(exit_code, f"curl exit code {exit_code}")
        if exit_code == 28:
            error = "timeout"
    return {
        "id": int(found["id"]),
        "sent_at": now_ns - int(seconds * 1e9),
        "client_ip": found["ip"],
        "client_port": max(0, int(found["port"] or 0)),
        "status": None if exit_code else status,
        "error": error,
        "latency_ms": round(seconds * 1000, 3),
        "body": body if len(body) <= _LONGEST_BODY and not exit_code else "",
    }
