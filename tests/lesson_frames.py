"""The one table as a run on the lab gives it, made by hand."""

from __future__ import annotations

import pandas as pd

CK6H2, NLHK2 = "webserver-68c554c9f6-ck6h2", "webserver-68c554c9f6-nlhk2"
CLIENT, VIP = "192.168.1.122", "192.168.1.56:80"
W1 = (NLHK2, "worker01", "192.168.1.45", "node", "worker01")
W2 = (CK6H2, "worker02", "10.0.5.0", "pod-network", "worker01")
KEPT = (NLHK2, "worker01", CLIENT, "client", None)

COLUMNS = [
    *("run", "request", "sent_at", "client", "client_ip", "target", "policy", "status", "error", "latency_ms"),
    *("pod", "node", "source_ip", "source_kind", "source_node", "preserved"),
]


def frame(policy: str, answers: list[tuple], target: str = VIP, run: str = "0badcafe") -> pd.DataFrame:
    """Each answer is (pod, node, source_ip, source_kind, source_node), or the word for an error."""
    rows = []
    for n, answer in enumerate(answers):
        error, (pod, node, source, kind, owner) = (answer, (None,) * 5) if isinstance(answer, str) else ("", answer)
        rows.append(
            {
                "run": run,
                "request": n,
                "sent_at": pd.Timestamp("2026-11-22T04:23:57Z") + pd.Timedelta(milliseconds=n),
                "client": "client",
                "client_ip": CLIENT,
                "target": target,
                "policy": policy,
                "status": pd.NA if error else 200,
                "error": error,
                "latency_ms": 2000.0 if error else 0.8,
                "pod": pod,
                "node": node,
                "source_ip": source,
                "source_kind": kind,
                "source_node": owner,
                "preserved": pd.NA if source is None else source == CLIENT,
            }
        )
    df = pd.DataFrame(rows, columns=COLUMNS)
    categories = ["client", "policy", "error", "pod", "node", "source_kind", "source_node"]
    types: dict[str, object] = dict.fromkeys(categories, "category")
    types |= {"status": "Int16", "preserved": "boolean", "source_ip": "string", "target": "string", "run": "string"}
    return df.astype(types)


def cluster_run(n: int = 20) -> pd.DataFrame:
    return frame("Cluster", [W1 if i % 5 < 2 else W2 for i in range(n)], run="c1057e40")


def local_run(n: int = 20) -> pd.DataFrame:
    return frame("Local", [KEPT] * n, run="10ca1000")


def timeout_run(n: int = 3) -> pd.DataFrame:
    return frame("Local", ["timeout"] * n, target="192.168.1.46:32305", run="deadbeef")
