"""Events: what `kubectl describe` prints under an object, and `kubectl get events` for all of them.

The same thing said twice of the same object is one Event with a count. An Event's name is the object's and the time, in
hexadecimal nanoseconds, so names sort as things happened:

    webserver-59c5d794d9-rt8fr.18ea643e091db874
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from srcip_nb.lab.api.status import ApiError
from srcip_nb.lab.controllers.objects import Object, copied, now, now_micro, seconds_of

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store

EVENTS_LAST = 3600.0
"""Seconds that an Event is kept after it was last seen (the API server's --event-ttl, one hour)."""


_names: WeakKeyDictionary[object, dict[tuple[str, ...], str]] = WeakKeyDictionary()
"""For each store what was told, and the name of the Event that tells it."""


def record(
    store: Store,
    involved: Object,
    reason: str,
    message: str,
    type: str = "Normal",
    *,
    component: str,
    host: str = "",
    path: str = "",
    action: str = "",
) -> None:
    """Tell something about an object, or count it up if it was told before.

    Args:
        store: where Events are kept.
        involved: the object, with apiVersion and kind.
        reason: one word, for example ``FailedScheduling``.
        message: the sentence that `kubectl describe` shows.
        type: ``Normal`` or ``Warning``.
        component: who tells it, for example ``kubelet``.
        host: the node where it was seen.
        path: part of the object, for example ``spec.containers{nginx}``.
        action: what was being done; with it the Event has the newer form (eventTime, series) that the scheduler writes.

    A namespace that is going takes no new Events; what cannot be told there is not told.
    """
    metadata = involved["metadata"]
    namespace = metadata.get("namespace") or "default"
    said = (metadata.get("uid", ""), component, type, reason, message, path)
    names = _names.setdefault(store, {})
    present = store.peek("events", namespace, names[said]) if said in names else None
    if present is not None:
        store.update("events", seen_again(present))
        return
    names[said] = f"{metadata['name']}.{time.time_ns():x}"
    try:
        store.create("events", new_event(names[said], involved, reason, message, type, component, host, path, action))
    except ApiError as error:
        del names[said]
        if error.code not in (403, 404):  # the namespace is terminating or gone
            raise


def new_event(
    name: str,
    involved: Object,
    reason: str,
    message: str,
    type: str,
    component: str,
    host: str,
    path: str,
    action: str,
) -> Object:
    """An Event seen once, as the real components write it."""
    metadata = involved["metadata"]
    reference = {
        "kind": involved.get("kind", ""),
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "apiVersion": involved.get("apiVersion", ""),
        "resourceVersion": metadata.get("resourceVersion", ""),
        "fieldPath": path,
    }
    event: Object = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata.get("namespace") or "default"},
        "involvedObject": {word: value for word, value in reference.items() if value},
        "reason": reason,
        "message": message,
        "type": type,
        "reportingComponent": component,
    }
    if action:
        instance = f"{component}-{host}" if host else component
        return {
            **event,
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "eventTime": now_micro(),
            "action": action,
            "reportingInstance": instance,
        }
    stamp = now()
    source = {"component": component, "host": host} if host else {"component": component}
    times: Object = {"firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1, "eventTime": None}
    return {**event, "source": source, **times, "reportingInstance": host}


def seen_again(event: Object) -> Object:
    """The same Event, counted once more."""
    event = copied(event)
    if event.get("eventTime"):
        series = event.get("series") or {"count": 1}
        event["series"] = {"count": series["count"] + 1, "lastObservedTime": now_micro()}
    else:
        event["count"] = event.get("count", 1) + 1
        event["lastTimestamp"] = now()
    return event


def last_seen(event: Object) -> float:
    """When it was last seen, seconds since the epoch."""
    series = event.get("series") or {}
    stamp = event.get("lastTimestamp") or series.get("lastObservedTime") or event.get("eventTime")
    return seconds_of(stamp or event["metadata"]["creationTimestamp"])


async def forget_old_events(store: Store, pause: float = 60.0) -> None:
    """Remove Events an hour after they were last seen, for ever."""
    while True:
        await asyncio.sleep(pause)
        for event in store.list("events"):
            if time.time() - last_seen(event) > EVENTS_LAST:
                store.delete("events", event["metadata"]["namespace"], event["metadata"]["name"])
        kept = {event["metadata"]["name"] for event in store.list("events")}
        names = _names.get(store, {})
        for said in [said for said, name in names.items() if name not in kept]:
            del names[said]
