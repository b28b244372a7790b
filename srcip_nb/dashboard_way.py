"""The way of the request that the dashboard draws: the last one of the period whose end is known.

The way is read as in ``path_figure``: what the one table and the address book say, and what follows from them. A
request that starts on a node or in a pod meets its own node's rules first, unless it asks another node's port.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from srcip_nb.dashboard_expected import start_of
from srcip_nb.dashboard_state import Period, Seen, Sent
from srcip_nb.dashboard_world import View
from srcip_nb.errors import UsageError
from srcip_nb.expect import NODE_PORT
from srcip_nb.path_figure import Path, path_of_request


def last_way(period: Period, view: View) -> Path | None:
    """The way of the period's last request, answered or not; None before the first."""
    last, lost = period.last, period.lost
    if last is None and lost is None:
        return None
    if lost is not None and (last is None or lost.at > last.sent.at):
        return way(lost, period, view)
    return way(last, period, view)


def way(one: Seen | Sent | None, period: Period, view: View) -> Path | None:
    """The way of one request."""
    if one is None:
        return None
    sent, line = (one.sent, one.line) if isinstance(one, Seen) else (one, None)
    row = {
        "request": sent.request,
        "target": sent.target,
        "policy": period.setting.external,
        "client": sent.client,
        "client_ip": sent.client_ip,
        "error": sent.error,
        "pod": line.pod if line else None,
        "node": line.node if line else None,
        "source_ip": line.source_ip if line else None,
        "source_kind": line.kind if line else None,
        "source_node": line.owner if line else None,
        "preserved": str(line.source_ip == sent.client_ip) if line else None,
    }
    table = pd.DataFrame([row])
    announcer = view.announcers[0] if len(view.announcers) == 1 else ""
    table.attrs = {"announcer": announcer, "target": sent.target, "vip": view.vip}
    path = path_of_request(table, sent.request, view.book)
    setting = period.setting
    if setting.start == "client" or setting.target == NODE_PORT:
        return path
    try:
        node = start_of(setting, view)[1]
    except UsageError:
        return path
    by = "" if not path.node else "path.inside" if path.node == node else "path.between"
    return replace(path, entry=node, entry_reason="dash.own_rules", by=by)
