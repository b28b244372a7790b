"""Requests that start in a pod: curl, run by the pod's own shell, told over the API.

    this process --- exec over a websocket ---> sh in the pod ---> curl ---> Service

The same on every cluster, a lab included. The pod needs what the nginx image has: sh, sed, grep, xargs and curl (7.75
or later). One curl sends all requests, a new connection each; where there are few, or a rate is given, each is a curl
of its own, and its answer's body is told too. A pod on its host's network is its node, as far as addresses go: that is
how a node becomes a client.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.exec_api import BrokeOffError, exec_lines

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

_NEEDS = 'for p in %s; do command -v $p >/dev/null || { echo "there is no $p in this image" >&2; exit 127; }; done\n'
_SAYS = "={url} {http_code} {exitcode} {local_ip} {local_port} {time_total}".replace("{", "%{")

# All by one curl. It says on its error output, which nothing buffers, what came of each (-w) and, in words, what it has
# no number for (-v, the lines that begin with "* "). Its configuration ends where a line says so: an input over the API
# cannot be closed in every version of the protocol. $1: how many at once, $2: the time limit, $3: what to say.
_TOGETHER = (
    _NEEDS % "curl sed grep"
    + r"""b=; grep --help 2>&1 | grep -q -e --line-buffered && b=--line-buffered
sed -n "/^end\$/q;p" | curl -sv --parallel --parallel-immediate --parallel-max "$1" --max-time "$2" --noproxy "*" \
-A srcip-nb -H "Connection: close" --http1.1 -w "%{stderr}\n$3\n" -K - 2>&1 >/dev/null \
| grep $b -E "^=|failed: |reset by peer"
exit 0"""
)

# One curl each. $0: the time limit, $1: what to say, $2: the URL.
_EACH = r"""printf "%s\n" "$(curl -sv --max-time "$0" --noproxy "*" -A srcip-nb -H "Connection: close" \
-w "\n$1" "$2" 2>&1 | grep -E "^=|^[^*<>{}]|^[{}][^ ]|^[{}]$|failed: |reset by peer" | tail -c 900 \
| tr "\n" "\036")" """
_APART = _NEEDS % "curl xargs grep" + r"""exec xargs -E end -n 1 -P "$1" sh -c "$4" "$2" "$3" """

_LINE = re.compile(
    r"(?P<said>.*)=(?P<url>http://\S+) (?P<status>\d+) (?P<exit>\d+) "
    r"(?P<ip>[0-9a-f.:]*) (?P<port>-?\d*) (?P<seconds>[\d.,]+)"
)
_FAILED = re.compile(r"connect to (?P<host>\S+) port (?P<port>\d+).* failed: (?P<why>[^\x1e]*)")
_LONGEST_BODY = 500  # bytes
_WORDS = (
    ("refused", "refused"),
    ("No route to host", "unreachable"),
    ("unreachable", "unreachable"),
)
"""What the C library says of an errno (glibc and musl), and the word of the ``error`` column."""

_EXITS = {6: "no such host", 18: "closed", 28: "timeout", 52: "closed", 56: "closed"}
"""curl's exit codes, man curl(1), section EXIT CODES."""

COULD_NOT_CONNECT, BROKE_OFF = 7, 56
BREAKS = 3  # connections that may end without a word; beside containerd 1.6.20 one in thirty does
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

    Where the way into the pod breaks off without a word, what has no result yet is sent once more, unless at a rate: a
    request and its id are the same then, and the pods' logs are read for the first line of each.

    Args:
        cluster: where.
        pod: NAMESPACE/NAME.
        requests: ``{"id": int, "url": str, "headers": {}}`` each.
        concurrency: how many are under way at once.
        timeout: seconds a request may take.
        rate: requests a second at most.

    Yields:
        As ``Client.send``; ``sent_at`` is by this machine's clock: when the result came, less the request's own time.
        ``client_ip`` is "" where no connection came about; ``body`` is "" unless each request is a curl of its own (no
        more of them than ``concurrency``, or a rate) and it is short.

    Raises:
        UsageError: a URL with a space or a quote, or headers: neither goes this way.
        ClusterError: the pod is not there or cannot do it, or it ended before all had been sent.
    """
    for request in requests:
        if request.get("headers") or re.search(r"""[\s'"\\]""", request["url"]):
            raise UsageError(
                f"{request['url']!r} cannot be asked for from a pod", "Leave out headers, spaces and quotes"
            )
    told: set[int] = set()
    for attempt in range(1, BREAKS + 1):
        left = [request for request in requests if request["id"] not in told]
        try:
            for result in _send_once(cluster, pod, left, concurrency, timeout, rate):
                told.add(result["id"])
                yield result
            return
        except BrokeOffError:
            if rate is not None or attempt == BREAKS:
                raise


def _send_once(
    cluster: Cluster, pod: str, requests: Sequence[dict[str, Any]], concurrency: int, timeout: float, rate: float | None
) -> Iterator[dict[str, Any]]:
    is_apart = rate is not None or len(requests) <= concurrency
    longest = START_WITHIN + timeout * -(-len(requests) // concurrency) * 2 + (len(requests) / rate if rate else 0)
    says = [str(concurrency), f"{timeout:g}", _SAYS]
    argv = ["sh", "-c", _APART if is_apart else _TOGETHER, "srcip-nb", *says, *([_EACH] if is_apart else [])]
    given = _input(requests, rate, "{url}\n" if is_apart else 'url = "{url}"\noutput = "/dev/null"\n')
    waiting: dict[str, list[Any]] = {}
    for request in requests:
        waiting.setdefault(request["url"], []).append(request["id"])
    words: dict[str, str] = {}
    left = len(requests)
    try:
        for line in exec_lines(cluster, pod, argv, given, timeout=longest):
            words.update(failures(line))
            found = result_of(line, time.time_ns(), words)
            ids = waiting.get(found[0]) if found else None
            if found and ids:
                left -= 1
                yield {"id": ids.pop(0), **found[1]}
    except ClusterError:
        if left or not requests:  # once every result is here, how the connection ended is of no account
            raise
    if left:
        raise ClusterError(f"pod {pod} reported {len(requests) - left} of {len(requests)} requests", "Run it again")


def _input(requests: Sequence[dict[str, Any]], rate: float | None, form: str) -> Iterator[str]:
    """What the pod reads, a line or two a request: all at once, or one by one at the rate."""
    lines = [form.format(url=request["url"]) for request in requests]
    if rate is None:
        for at in range(0, len(lines), 200):
            yield "".join(lines[at : at + 200])
    else:
        started = time.monotonic()
        for number, line in enumerate(lines):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            yield line
    yield "end\n"


def failures(line: str) -> dict[str, str]:
    """``host:port`` and the word of the ``error`` column, where curl says in a line why it could not connect."""
    return {
        f"{found['host']}:{found['port']}": next((word for said, word in _WORDS if said in found["why"]), "")
        for found in _FAILED.finditer(line)
    }


def result_of(line: str, now_ns: int, words: Mapping[str, str]) -> tuple[str, dict[str, Any]] | None:
    """URL and result (without its id) of a request from its line, None for a line that is something else.

    Args:
        line: the body or what curl said in words, ``=``, then URL, status, exit code, address, port and seconds; the
            record separator (30) stands for a line break.
        now_ns: when the line came, in nanoseconds since 1970.
        words: of ``failures``, of this line and those before it.
    """
    found = _LINE.fullmatch(line.rstrip("\x1e"))
    if found is None:
        return None
    seconds = float(found["seconds"].replace(",", "."))
    exit_code, said = int(found["exit"]), found["said"]
    body, error = "", ""
    if exit_code == COULD_NOT_CONNECT:
        target = urlsplit(found["url"])
        error = words.get(f"{target.hostname}:{target.port or 80}") or "unreachable"
    elif exit_code:
        is_reset = exit_code == BROKE_OFF and "reset by peer" in said
        error = "reset" if is_reset else _EXITS.get(exit_code, f"curl exit code {exit_code}")
    elif len(said) <= _LONGEST_BODY:
        body = said.replace("\x1e", "\n").rstrip("\n")
    return found["url"], {
        "sent_at": now_ns - int(seconds * 1e9),
        "client_ip": found["ip"],
        "client_port": max(0, int(found["port"] or 0)),
        "status": None if exit_code else int(found["status"]),
        "error": error,
        "latency_ms": round(seconds * 1000, 3),
        "body": body,
    }
