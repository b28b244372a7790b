r"""The watch verb: what is there, then every change, one JSON line each, until the time is up.

    {"type":"ADDED","object":{...}}\n{"type":"BOOKMARK","object":{...}}\n

A client that asks sendInitialEvents=true (client-go's WatchList) gets what is there first and then a bookmark with the
annotation k8s.io/initial-events-end; any client that allows bookmarks gets one every minute and one before the end.

Source: kubernetes v1.36.2 apiserver pkg/endpoints/handlers/{get,watch}.go and pkg/storage/cacher.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable

from aiohttp import web

from srcip_nb.lab.api import status
from srcip_nb.lab.api.answers import add_warnings, include_object
from srcip_nb.lab.api.history import Version, Watch
from srcip_nb.lab.api.negotiate import Form
from srcip_nb.lab.api.objects import JsonObject, encoded
from srcip_nb.lab.api.options import ListOptions
from srcip_nb.lab.api.paths import Target
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.api.streams import CHECK_EVERY, Stream
from srcip_nb.lab.api.tables import as_table, partial_metadata

BOOKMARK_EVERY = 60.0
"""Seconds between two bookmarks of a watch."""

SHORTEST_TIMEOUT = 1800.0
"""Seconds that a watch without timeoutSeconds lasts at least; up to twice as long, by chance."""

INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}
_BATCH = 256 * 1024


async def answer_watch(
    request: web.Request, store: Store, target: Target, options: ListOptions, form: Form, bookmark_every: float
) -> web.StreamResponse:
    """Answer a watch; returns when its time is up or the client is gone."""
    lines = _Lines(request, target, form)
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + (options.timeout or SHORTEST_TIMEOUT * (1 + random.random()))
    watch, refusal = None, b""
    try:
        watch = _begin(store, target, options)
    except status.ApiError as error:
        if error.code != 410:
            raise
        refusal = lines.error(error)  # a version that is gone is told inside the stream, as a real server does
    stream = Stream(request, "application/json")
    add_warnings(stream.response, target.resource)
    async with stream:
        if watch is None:
            await stream.write(refusal)
            return await stream.end()
        try:
            await _write_all(stream, (lines.event("ADDED", version) for version in watch.initial))
            if options.send_initial and options.bookmarks:
                await stream.write(lines.bookmark(store.revision, INITIAL_EVENTS_END))
            await _follow(stream, watch, lines, store, options, ends_at, bookmark_every)
        except status.ApiError as error:
            await stream.write(lines.error(error))
        finally:
            watch.close()
        return await stream.end()


def _begin(store: Store, target: Target, options: ListOptions) -> Watch:
    fields = f"metadata.name={target.name}" if target.name else ""
    fields = ",".join(part for part in (fields, options.fields) if part)
    initial = options.send_initial
    if options.send_initial is False and not options.revision:
        return store.watch(
            target.resource.name, target.namespace, store.revision, labels=options.labels, fields=fields, initial=False
        )
    return store.watch(
        target.resource.name,
        target.namespace,
        options.revision,
        labels=options.labels,
        fields=fields,
        initial=True if initial else None,
    )


async def _follow(
    stream: Stream,
    watch: Watch,
    lines: _Lines,
    store: Store,
    options: ListOptions,
    ends_at: float,
    bookmark_every: float,
) -> None:
    loop = asyncio.get_running_loop()
    bookmark_at = loop.time() + bookmark_every
    while not watch.closed and not stream.is_gone:
        await _write_all(stream, (lines.event(kind, version) for kind, version in watch.pending()))
        now = loop.time()
        if options.bookmarks and now >= min(bookmark_at, ends_at):
            await stream.write(lines.bookmark(store.revision))
            bookmark_at = now + bookmark_every
        if now >= ends_at:
            return
        next_time = min(bookmark_at, ends_at) if options.bookmarks else ends_at
        await watch.wait(max(0.0, min(next_time - now, CHECK_EVERY)))


async def _write_all(stream: Stream, lines: Iterable[bytes]) -> None:
    """Write many lines in few pieces."""
    pending, size = [], 0
    for line in lines:
        pending.append(line)
        size += len(line)
        if size > _BATCH:
            await stream.write(b"".join(pending))
            pending, size = [], 0
    await stream.write(b"".join(pending))


class _Lines:
    """The events of one watch as lines, in the form that its client asked for."""

    def __init__(self, request: web.Request, target: Target, form: Form) -> None:
        self.resource = target.resource
        self.form = form
        self.include_object = include_object(request) if form.kind == "Table" else ""
        self._has_headers = False

    def event(self, kind: str, version: Version) -> bytes:
        if not self.form.kind:
            return b'{"type":"%s","object":%s}\n' % (kind.encode(), version.json)
        return _line(kind, self._shown(version.obj))

    def bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> bytes:
        metadata: JsonObject = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = annotations
        if self.form.kind == "Table":
            return _line("BOOKMARK", self._table([], {"resourceVersion": str(revision)}))
        kind, api_version = self.resource.kind, self.resource.api_version
        if self.form.kind:
            kind, api_version = "PartialObjectMetadata", f"meta.k8s.io/{self.form.version}"
        return _line("BOOKMARK", {"kind": kind, "apiVersion": api_version, "metadata": metadata})

    def error(self, error: status.ApiError) -> bytes:
        return _line("ERROR", error.status)

    def _shown(self, obj: JsonObject) -> JsonObject:
        if self.form.kind == "Table":
            return self._table([obj], {"resourceVersion": obj["metadata"]["resourceVersion"]})
        return partial_metadata(obj, f"meta.k8s.io/{self.form.version}")

    def _table(self, objects: list[JsonObject], metadata: JsonObject) -> JsonObject:
        has_headers, self._has_headers = self._has_headers, True
        return as_table(
            self.resource,
            objects,
            self.include_object,
            now=time.time(),
            list_metadata=metadata,
            version=self.form.version,
            headers=not has_headers,
        )


def _line(kind: str, obj: JsonObject) -> bytes:
    return encoded({"type": kind, "object": obj}) + b"\n"
