"""pods/log: what `kubectl logs` reads, and what it is told when there is nothing to read.

Source of the words: kubernetes v1.36.2 pkg/registry/core/pod/strategy.go (LogLocation) and
pkg/kubelet/kubelet_pods.go (validateContainerLogStatus).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from aiohttp import web

from srcip_nb.lab.api import status
from srcip_nb.lab.api.objects import JsonObject
from srcip_nb.lab.api.options import LogOptions
from srcip_nb.lab.api.podlogs import PodLogs, cut
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.api.streams import CHECK_EVERY, Stream

_TEXT = "text/plain"
_PULL_WORDS = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


async def answer_log(
    request: web.Request, store: Store, logs: PodLogs, namespace: str, name: str, options: LogOptions
) -> web.StreamResponse:
    """Answer a log request: text, whole or followed until the container ends.

    Raises:
        ApiError: 404 no such pod, 400 no such container or nothing to read yet.
    """
    pod = store.get("pods", namespace, name)
    container = container_of(pod, options.container)
    if not pod["spec"].get("nodeName"):
        return web.Response(text="", content_type=_TEXT)
    reads_previous = reads_from_previous(pod, container, options.previous)
    since = options.since_time_ns
    if options.since_seconds is not None:
        since = time.time_ns() - options.since_seconds * 1_000_000_000
    if not options.follow or options.previous or reads_previous:
        text = logs.read(
            namespace,
            name,
            container,
            previous=reads_previous,
            tail=options.tail,
            since_ns=since,
            timestamps=options.timestamps,
            limit_bytes=options.limit_bytes,
        )
        return web.Response(body=text.encode("utf-8", "replace"), content_type=_TEXT)
    pieces = logs.follow(namespace, name, container, tail=options.tail, since_ns=since, timestamps=options.timestamps)
    async with Stream(request, _TEXT) as stream:
        await _follow(stream, pieces, store, pod, options.limit_bytes)
        return await stream.end()


async def _follow(
    stream: Stream, pieces: AsyncIterator[str], store: Store, pod: JsonObject, limit_bytes: int | None
) -> None:
    left = limit_bytes
    following = asyncio.ensure_future(_next(pieces))
    try:
        while not stream.is_gone:
            done, _ = await asyncio.wait((following,), timeout=CHECK_EVERY)
            if not done:
                if not _is_there(store, pod):
                    return
                continue
            piece = following.result()
            if piece is None:
                return
            data = cut(piece, left).encode("utf-8", "replace")
            await stream.write(data)
            if left is not None:
                left -= len(data)
                if left <= 0 or len(data) < len(piece.encode("utf-8", "replace")):
                    return
            following = asyncio.ensure_future(_next(pieces))
    finally:
        following.cancel()


async def _next(pieces: AsyncIterator[str]) -> str | None:
    async for piece in pieces:
        return piece
    return None


def _is_there(store: Store, pod: JsonObject) -> bool:
    metadata = pod["metadata"]
    now = store.peek("pods", metadata["namespace"], metadata["name"])
    return now is not None and now["metadata"]["uid"] == metadata["uid"]


def container_of(pod: JsonObject, asked: str) -> str:
    """The container whose log is meant: the one asked for, or a pod's only one.

    Raises:
        ApiError: 400, the pod has no such container, or several and none was named.
    """
    name, spec = pod["metadata"]["name"], pod["spec"]
    containers = [container["name"] for container in spec.get("containers") or []]
    initial = [container["name"] for container in spec.get("initContainers") or []]
    if asked:
        if asked not in (*containers, *initial):
            raise status.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(containers) == 1 and not initial:
        return str(containers[0])
    choice = f"choose one of: [{' '.join(containers)}]"
    if initial:
        choice += f" or one of the init containers: [{' '.join(initial)}]"
    raise status.bad_request(f"a container name must be specified for pod {name}, {choice}")


def reads_from_previous(pod: JsonObject, container: str, asks_previous: bool) -> bool:
    """Whether the log to read is that of the container's last start but one.

    Raises:
        ApiError: 400, there is no log to read; the message says what the container waits for.
    """
    name = pod["metadata"]["name"]
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    found = next((entry for entry in statuses if entry["name"] == container), None)
    if found is None:
        raise status.bad_request(f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating')
    state, last = found.get("state") or {}, (found.get("lastState") or {}).get("terminated")
    is_waiting = "running" not in state and "terminated" not in state
    if asks_previous and not last:
        raise status.bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    if last or not is_waiting:
        # A log is put aside when the next start begins: while the container waits for it, its last log is the present.
        return asks_previous and not is_waiting
    reason = (state.get("waiting") or {}).get("reason", "ContainerCreating")
    words = _PULL_WORDS.get(reason, reason)
    raise status.bad_request(f'container "{container}" in pod "{name}" is waiting to start: {words}')
