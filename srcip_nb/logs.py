"""The logs of many pods as one table, read once or followed.

``logs(cluster)`` is ``kubectl logs deployment/webserver --all-pods --timestamps`` and ``follow(cluster)`` what stern
does, both as typed rows: what ``parse`` makes of a line, and where it comes from. nginx's own clock has whole seconds;
``time_logged`` is the container runtime's, in nanoseconds, and gives the order of lines of different pods::

    time_logged                     pod                         node      restarts  remote_addr   uri  status
    2023-10-15 04:23:57.128091048Z  webserver-68c554c9f6-ck6h2  worker02         0  10.0.5.0      /       200
    2023-10-15 04:23:58.301772190Z  webserver-68c554c9f6-nlhk2  worker01         0  192.168.1.45  /       200
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from srcip_nb.logs_api import Wire
from srcip_nb.logs_query import DEFAULT_PODS, Container, Query
from srcip_nb.parse import parse
from srcip_nb.rest import ApiAnswerError

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster

AT_ONCE = 8  # requests for logs under way
PROBE = "kube-probe/"  # how the kubelet's probes name themselves: kubernetes pkg/probe/http
PLACE = ("pod", "node", "namespace", "container")

# Connections are kept from one call to the next: most calls come in a row and ask for little.
_idle: WeakKeyDictionary[Cluster, deque[Wire]] = WeakKeyDictionary()


def logs(cluster: Cluster, pods: str = DEFAULT_PODS, *, previous: bool = False, **query: Any) -> pd.DataFrame:
    """The logs of pods, as far as they are written.

    Args:
        cluster: where.
        pods: ``deployment/NAME``, ``service/NAME``, ``pod/NAME``, or a regular expression for pods' names.
        previous: read also the log of each container's last start but one.
        query: ``selector``, ``container``, ``since_seconds``, ``since_time``, ``tail`` and more, as in
            ``logs_query.Query``.

    Returns:
        One row a line, in the order of ``time_logged`` (datetime64[ns, UTC]), with ``pod``, ``node``, ``namespace``,
        ``container`` (category), ``restarts`` (int64: which start of the container wrote it), ``probe`` (bool: a probe
        of the kubelet asked) and the columns of ``parse.parse``; ``line`` counts the lines read of each container. A
        pod that has not started yet has no rows. ``attrs["unread"]`` says why, for each ``POD/CONTAINER`` not read.

    Raises:
        UsageError: a wrong argument.
        ApiAnswerError: no such Deployment, Service or pod, or the API does not let you.
        ClusterError: the API does not answer.
    """
    batches, unread = read(cluster, Query(pods, **query), previous=previous)
    frame = frame_of(batches)
    frame.attrs["unread"] = unread
    return frame


def read(cluster: Cluster, query: Query, *, previous: bool = False) -> tuple[list[Batch], dict[str, str]]:
    """The lines as bytes, container by container, and why others were not read; arguments and errors as ``logs``."""
    options = query.options()
    target = query.target(cluster)
    listed = cluster.request("GET", target.path, query=target.listing)[1].get("items") or []
    there = [one for pod in listed for one in target.containers(pod)]
    found = [one for one in there if one.has_log]
    asked = [(one, False) for one in found] + [(one, True) for one in found if previous and one.restarts]
    unread = {f"{one.pod}/{one.name}": "it has not started" for one in there}
    batches: list[Batch] = []
    wires = _idle.setdefault(cluster, deque())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (one, is_previous), answer in zip(
            asked, pool.map(lambda ask: _read(cluster, wires, ask[0], ask[1], options), asked), strict=True
        ):
            unread.pop(f"{one.pod}/{one.name}", None)
            if isinstance(answer, bytes):
                batches.append((one, one.restarts - is_previous, answer))
            else:
                unread[f"{one.pod}/{one.name}"] = answer
    return batches, unread


Batch = tuple[Container, int, bytes]
"""Where lines come from, which start of the container, and the lines, each with its time before it."""


def frame_of(batches: Sequence[Batch]) -> pd.DataFrame:
    """The rows of batches of lines, in the order of their times; columns as ``logs`` says."""
    whole = [(one, restarts, data if data.endswith(b"\n") else data + b"\n") for one, restarts, data in batches if data]
    counts = [data.count(b"\n") for _, _, data in whole]
    frame = parse(b"".join(data for _, _, data in whole), prefix="timestamps")
    places = [(one.pod, one.node, one.namespace, one.name) for one, _, _ in whole]
    columns = {name: column for name, column in frame.items() if name != "line"}
    place = {name: _repeated([place[at] for place in places], counts) for at, name in enumerate(PLACE)}
    origin = {
        "time_logged": columns.pop("time_logged"),
        **place,
        "restarts": np.repeat(np.array([restarts for _, restarts, _ in whole], np.int64), counts),
        "probe": frame["user_agent"].str.startswith(PROBE).fillna(False).astype(bool),
        "line": frame["line"],
    }
    return in_order(pd.DataFrame(origin | columns))


def _repeated(values: list[str], counts: list[int]) -> pd.Categorical:
    categories = sorted(set(values))
    codes = np.repeat(np.array([categories.index(value) for value in values], np.int64), counts)
    return pd.Categorical.from_codes(codes, pd.Index(categories, dtype="str"))


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows sorted by time (those of one moment as they came), ``line`` counted anew for each container."""
    frame = frame.sort_values("time_logged", kind="stable", ignore_index=True)
    frame["line"] = frame.groupby(["pod", "container"], observed=True).cumcount() + 1
    return frame


def _read(cluster: Cluster, wires: deque[Wire], one: Container, previous: bool, options: dict[str, Any]) -> bytes | str:
    """A container's log, or why there is none to read."""
    try:
        wire = wires.pop()
    except IndexError:
        wire = Wire(cluster)
    query = {"container": one.name, "timestamps": "true", "previous": "true" if previous else None, **options}
    try:
        with wire.open(one.path, query) as response:
            data = response.read()
    except ApiAnswerError as error:
        is_gone_or_waiting = error.code in (400, 404)
        if not is_gone_or_waiting:
            raise
        return error.cause
    finally:
        wires.append(wire)
    return data
