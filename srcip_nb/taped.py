"""A cluster's connections led over a tape: the API's pool of connections, a lab, and requests from this machine.

    Rest ------- TapedPool ----+
    LabClient -- TapedLab -----+-- Tape ---- live, or nobody
    Client ----- taped_visit --+

Hardly anything above these three knows whether it is recorded, replayed or neither. Where several threads ask at once,
the order of their questions is chance: then what came of all of it is one exchange (``tape.told``), and it is asked
with the tape left aside (``off_tape``).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from srcip_nb.lab.client import LabClient
from srcip_nb.tape import RUN, ReplayTape, Tape, not_recorded, question, run_of, visit_question

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

STREAMS = ("follow=true", "watch=true", "watch=1")


class TapedPool:
    """In place of urllib3's PoolManager: its ``request``, over a tape; all else is the pool's own.

    Args:
        pool: the connections.
        tape: where exchanges go, or come from.
    """

    def __init__(self, pool: Any, tape: Tape) -> None:
        self._pool = pool
        self._tape = tape

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def request(self, method: str, url: str, *, preload_content: bool = True, **options: Any) -> Any:
        """One exchange, as urllib3's ``request`` has it; an answer that never ends is not for a tape."""
        import urllib3

        headers = options.get("headers") or {}
        ask = question(method, url, str(headers.get("Accept", "")), options.get("body"))
        if any(word in url for word in STREAMS):
            if isinstance(self._tape, ReplayTape):
                raise not_recorded(ask)
            return self._pool.request(method, url, preload_content=preload_content, **options)

        def live() -> dict[str, Any]:
            answer = self._pool.request(method, url, **options)
            kind = answer.headers.get("Content-Type", "")
            return {"status": answer.status, "type": kind, "text": answer.data.decode(errors="replace")}

        answer = self._tape.exchange(ask, live)
        text = with_runs(self._tape, answer["text"]).encode()
        return urllib3.HTTPResponse(
            body=io.BytesIO(text),
            headers={"Content-Type": answer["type"]},
            status=answer["status"],
            preload_content=preload_content,
            request_method=method,
        )


class TapedLab(LabClient):
    """A lab over a tape; without a live one, a lab that only remembers.

    Args:
        tape: where exchanges go, or come from.
        live: the running lab; None: nobody is there.
    """

    def __init__(self, tape: Tape, live: LabClient | None = None) -> None:
        self.tape = tape
        self.live = live
        self.name = live.name if live else "recorded"
        self.kubeconfig = live.kubeconfig if live else Path(os.devnull)
        self.url = live.url if live else ""
        self.token = live.token if live else ""
        if live:
            self.ssl_context = live.ssl_context

    def visit(
        self,
        host: str,
        requests: Sequence[dict[str, Any]],
        concurrency: int = 8,
        timeout: float = 2.0,
        rate: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """See ``LabClient.visit``."""

        def live() -> Iterable[dict[str, Any]]:
            if self.live is None:
                raise not_recorded(f"visit {host}")
            return self.live.visit(host, requests, concurrency, timeout, rate)

        return taped_visit(self.tape, host, requests, timeout, rate, live)

    def open_url(self, host: str, argv: Sequence[str], tty: bool) -> str:
        """See ``LabClient.open_url``; a recording has no terminal."""
        if self.live is None:
            raise not_recorded(f"a terminal in {host}")
        return self.live.open_url(host, argv, tty)

    def _json(self, method: str, path: str, body: Any = None, timeout: float = 30) -> Any:
        def live() -> Any:
            if self.live is None:
                raise not_recorded(f"{method} {path}")
            return self.live._json(method, path, body, timeout)

        ask = question(method, path, body=None if body is None else json.dumps(body))
        return self.tape.exchange(ask, live)


def taped_visit(
    tape: Tape,
    client: str,
    requests: Sequence[dict[str, Any]],
    timeout: float,
    rate: float | None,
    live: Callable[[], Iterable[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """Requests from a client over a tape; what a replay answers carries the id of the run of then, which is noted."""
    run = run_of(requests[0]["url"]) if requests else ""
    answer = tape.exchange(
        visit_question(client, requests, timeout, rate), lambda: {"run": run, "results": list(live())}
    )
    if isinstance(tape, ReplayTape) and answer["run"]:
        tape.header.setdefault("runs", {})[answer["run"]] = run
    yield from answer["results"]


_C = TypeVar("_C", bound="Cluster")


def on_part(cluster: _C, part: str) -> _C:
    """The same cluster and run, recorded in a part of its own, or answering from that part's beginning.

    What is asked so may be left out or asked again when the recording is read; so it has to leave the cluster as it
    was. A cluster that is not on a tape is itself.
    """
    if cluster.rest.tape is None:
        return cluster
    from srcip_nb.rest import Rest

    tape = cluster.rest.tape.beside(part)
    lab = TapedLab(tape, cluster.lab.live) if isinstance(cluster.lab, TapedLab) else None
    rest = Rest(cluster.rest.configuration, cluster.rest.world, tape)
    kept: dict[str, Any] = {"image": cluster.image, "adopt": cluster.adopt, "run_id": cluster.run_id}
    return type(cluster)(rest, cluster.namespace, lab, **kept)


def off_tape(cluster: Cluster) -> Cluster:
    """The same cluster and run, whose exchanges are not recorded; a cluster that is not on a tape is itself."""
    if cluster.rest.tape is None:
        return cluster
    from srcip_nb.cluster import Cluster
    from srcip_nb.rest import Rest

    lab = cluster.lab.live if isinstance(cluster.lab, TapedLab) else cluster.lab
    rest = Rest(cluster.rest.configuration, cluster.rest.world)
    return Cluster(rest, cluster.namespace, lab, image=cluster.image, adopt=cluster.adopt, run_id=cluster.run_id)


def with_runs(tape: Tape, text: str) -> str:
    """A recorded text with today's ids of runs: a log line of then joins the request that is made now."""
    runs = tape.header.get("runs", {}) if isinstance(tape, ReplayTape) else {}
    return RUN.sub(lambda found: f"run={runs.get(found[1], found[1])}", text) if runs else text
