"""Who gets how much: the share of requests that each pod should have, beside what it had.

    Cluster   every node sends to every pod                 each pod 1 / pods
    Local     every announcing node gets the same share,    each pod 1 / (nodes with a pod x pods on its node)
              and its own pods divide it

For ``Local`` this supposes that something in front shares connections out evenly among the nodes with a pod, as equal
paths of BGP do. Then two pods on one node and one on another get 25, 25 and 50 percent (metallb.io, "Usage").
Which pod a connection meets is drawn by lot, so counts are held against a tolerance of five standard deviations of the
binomial distribution: by chance alone one count in 1.7 million is further off.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SIGMAS = 5


def shares(endpoints: pd.DataFrame, policy: str) -> dict[str, float]:
    """The share of each pod that is ready, from 0 to 1.

    Args:
        endpoints: ``cluster.endpoints()``.
        policy: ``Cluster`` or ``Local``.
    """
    where = endpoints.loc[endpoints["READY"].fillna(False).astype(bool), "NODE"].astype(str)
    if policy != "Local":
        return dict.fromkeys(where.index.astype(str), 1 / len(where)) if len(where) else {}
    beside = where.map(where.value_counts())
    return {str(pod): 1 / (where.nunique() * int(beside[pod])) for pod in where.index}


def tolerance(n: int, share: float) -> float:
    """By how many of ``n`` requests a pod's count may differ from ``n * share``."""
    return SIGMAS * math.sqrt(n * share * (1 - share))


def shares_table(requests: pd.DataFrame, endpoints: pd.DataFrame) -> pd.DataFrame:
    """Expected beside observed.

    Args:
        requests: the one table of one run.
        endpoints: ``cluster.endpoints()``, as it was when they were sent.

    Returns:
        Index NAME (the pod); NODE, requests, percent (of all requests), expected_percent, within (percentage points
        that it may differ by), holds.
    """
    import pandas as pd

    n = len(requests)
    expected = shares(endpoints, str(requests.attrs["policy"]))
    counts = requests["pod"].value_counts()
    rows = []
    for pod, share in expected.items():
        count = int(counts.get(pod, 0))
        allowed = tolerance(n, share)
        holds = abs(count - n * share) <= allowed
        percent = [round(100 * value, 1) for value in (count / n, share, allowed / n)]
        rows.append((pod, str(endpoints.loc[pod, "NODE"]), count, *percent, holds))
    columns = ["NAME", "NODE", "requests", "percent", "expected_percent", "within", "holds"]
    return pd.DataFrame(rows, columns=columns).set_index("NAME").sort_values(["NODE", "percent"])
