"""Each pod's share: what it should be, and whether what was counted fits."""

import pandas as pd
import pytest

from srcip_nb.shares import shares, shares_table, tolerance


def endpoints(**where: str) -> pd.DataFrame:
    """Pods and their nodes, as ``cluster.endpoints()`` has them; a name with "gone" is not ready."""
    frame = pd.DataFrame({"NODE": where, "READY": {pod: "gone" not in pod for pod in where}})
    return frame.astype({"NODE": "string", "READY": "boolean"})


def answers(policy: str, **counts: int) -> pd.DataFrame:
    frame = pd.DataFrame({"pod": [pod for pod, count in counts.items() for _ in range(count)]})
    frame.attrs["policy"] = policy
    return frame


TWO_AND_ONE = endpoints(a="worker01", b="worker01", c="worker02")


def test_local_shares_among_nodes_first():
    assert shares(TWO_AND_ONE, "Local") == {"a": 0.25, "b": 0.25, "c": 0.5}


def test_cluster_shares_among_pods():
    assert shares(TWO_AND_ONE, "Cluster") == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_only_ready_pods_count():
    assert shares(endpoints(a="worker01", gone="worker01", c="worker02"), "Local") == {"a": 0.5, "c": 0.5}
    assert shares(endpoints(gone="worker01"), "Cluster") == {}


def test_chance_is_allowed_for_and_no_more():
    n = 400
    table = shares_table(answers("Local", a=90, b=110, c=200), TWO_AND_ONE)
    assert table["holds"].all()
    assert table.loc["c", "within"] == pytest.approx(100 * tolerance(n, 0.5) / n, abs=0.05)
    even = shares_table(answers("Local", a=133, b=133, c=134), TWO_AND_ONE)
    assert not even["holds"].all()


def test_a_pod_without_an_answer_has_a_row():
    table = shares_table(answers("Cluster", a=30, b=30), TWO_AND_ONE)
    assert table.loc["c", "requests"] == 0 and not table.loc["c", "holds"]
