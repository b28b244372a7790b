"""The helper module on a real kernel: the post's experiments through ``connect()``, and what goes wrong on the way."""

import pandas as pd
import pytest

from srcip_nb.cluster import wait_until
from srcip_nb.errors import LabError, ManifestError, UsageError
from srcip_nb.manifest_files import manifest_text
from srcip_nb.policy import policy
from srcip_nb.rest import ApiAnswerError
from srcip_nb.traffic import COLUMNS
from tests.conftest import kubectl

pytestmark = pytest.mark.lab


@pytest.fixture
def seminar(cluster):
    cluster.apply()
    cluster.wait_ready(30)
    return cluster


def seen(frame: pd.DataFrame) -> set[tuple]:
    """(node, source_ip, source_kind, source_node) of the answered requests."""
    columns = ["node", "source_ip", "source_kind", "source_node"]
    return set(frame.dropna(subset=["node"])[columns].astype("string").fillna("").itertuples(index=False, name=None))


def test_cluster_then_local(seminar):
    assert seminar.visit(24, progress=False)["status"].tolist() == [200] * 24
    assert seminar.policy("Cluster").after == "Cluster"
    before = seminar.visit(40, progress=False)
    change = seminar.policy("Local")
    after = seminar.visit(40, progress=False)
    assert {name: str(dtype) for name, dtype in after.dtypes.items()} == COLUMNS
    assert seen(before) == {
        ("worker01", "192.168.1.45", "node", "worker01"),
        ("worker02", "10.0.5.0", "pod-network", "worker01"),
    }
    assert not before["preserved"].any()
    assert seen(after) == {("worker01", "192.168.1.122", "client", "")}
    assert after["preserved"].all()
    assert after.attrs["unmatched"] == before.attrs["unmatched"] == 0
    assert after.attrs["announcer"] == "worker01"
    assert "healthCheckNodePort" in change.evidence
    assert set(change.nodes) == {"master01", "worker01", "worker02"}


def test_the_very_next_request_meets_the_new_policy(seminar):
    for value in ("Local", "Cluster") * 4:
        seminar.policy(value)
        frame = seminar.visit(8, progress=False, timeout=1.0)
        assert frame["error"].tolist() == [""] * 8
        assert frame["preserved"].unique().tolist() == [value == "Local"]


def test_a_node_without_a_pod_times_out_under_local(seminar):
    seminar.patch("deployments", "webserver", {"spec": {"replicas": 1}})
    seminar.wait_ready(30)
    wait_until(lambda: "" if len(seminar.endpoints()) == 1 else "two endpoints", "one endpoint", 30)
    (node,) = seminar.endpoints()["NODE"]
    other = {"worker01": "worker02", "worker02": "worker01"}[node]
    policy(seminar, "Local")
    frame = seminar.visit(3, target=other, timeout=0.5, progress=False)
    assert frame["error"].tolist() == ["timeout"] * 3
    assert frame["node"].isna().all()
    assert seminar.visit(4, target=node, progress=False)["preserved"].all()
    policy(seminar, "Cluster")
    assert set(seminar.visit(4, target=other, progress=False)["node"]) == {node}


def test_the_address_moves_with_the_pods(seminar):
    """Under Local only a node with a pod announces: policy() returns when the client reaches the new one."""
    seminar.policy("Cluster")
    kubectl_in(seminar, "cordon", "worker01")
    try:
        for name in seminar.pods().query("NODE == 'worker01'").index:
            seminar.request("DELETE", f"/api/v1/namespaces/seminar/pods/{name}")
        seminar.wait_ready(30)
        nodes_with_pods(seminar, {"worker02"})
        seminar.policy("Local")
        frame = seminar.visit(8, progress=False, timeout=1.0)
        assert set(frame["node"]) == {"worker02"}
        assert frame["preserved"].all()
        assert frame.attrs["announcer"] == "worker02"
    finally:
        kubectl_in(seminar, "uncordon", "worker01")


def nodes_with_pods(cluster, wanted: set[str]) -> None:
    def look() -> str:
        found = set(cluster.endpoints()["NODE"])
        return "" if found == wanted else f"pods on {found}"

    wait_until(look, f"pods on {wanted} alone", 30)


def kubectl_in(cluster, *words: str) -> None:
    kubectl(cluster.lab, *words)


def test_a_node_port_service_is_judged_by_requests(seminar):
    text = manifest_text("service.yaml").replace("LoadBalancer", "NodePort")
    seminar.apply(text)
    for value in ("Local", "Cluster"):
        change = seminar.policy(value)
        assert f"were answered as {value} has it" in change.evidence or "healthCheckNodePort" in change.evidence
    with pytest.raises(UsageError, match="no external address"):
        seminar.visit(1)


def test_from_inside_the_cluster(seminar):
    frame = seminar.visit(16, client="worker01", target="clusterip", progress=False)
    assert set(frame["client_ip"]) == {"192.168.1.45"}
    assert ("worker01", "192.168.1.45", "node", "worker01") in seen(frame)


def test_twice_and_away(cluster):
    cluster.apply()
    cluster.delete()
    assert cluster.find("namespaces", "seminar") is None
    cluster.apply()
    assert set(cluster.apply()["result"]) == {"unchanged"}
    cluster.wait_ready(30)
    assert len(cluster.visit(2, progress=False)) == 2


def test_bad_input_changes_nothing(cluster):
    unknown = manifest_text("service.yaml").replace("targetPort", "tragetPort")
    with pytest.raises(ManifestError, match="tragetPort"):
        cluster.apply("ns.yaml", unknown)
    assert cluster.find("namespaces", "seminar") is None
    with pytest.raises(ManifestError, match='Unsupported value: "local"'):
        cluster.apply("ns.yaml", manifest_text("service.yaml").replace("Policy: Cluster", "Policy: local"))
    assert cluster.find("namespaces", "seminar") is None
    with pytest.raises(ApiAnswerError, match='namespaces "seminar" not found'):
        cluster.apply("service.yaml")
    with pytest.raises(ApiAnswerError, match='services "webserver" not found'):
        cluster.policy("Local")
    with pytest.raises(UsageError, match="no client 'client7'"):
        cluster.visit(1, client="client7")


def test_a_lab_behind_a_context(lab, monkeypatch, capsys):
    """``export KUBECONFIG=…`` of a lab and its context by name: the same lab, clients and all."""
    from srcip_nb import connect

    monkeypatch.setenv("KUBECONFIG", str(lab.kubeconfig))
    cluster = connect(f"srcip-lab-{lab.name}")
    assert cluster.lab.name == lab.name
    assert capsys.readouterr().out.startswith(f"lab '{lab.name}': https://127.0.0.1:")
    with pytest.raises(UsageError, match=f"there are: srcip-lab-{lab.name}"):
        connect("kind-kind")


def test_a_wrong_token(lab, tmp_path, monkeypatch):
    from srcip_nb import connect

    text = lab.kubeconfig.read_text().replace(lab.client.token, "wrong")
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(ApiAnswerError, match="does not accept the credentials"):
        connect(f"srcip-lab-{lab.name}")
    with pytest.raises(LabError, match="no lab named 'nosuch' runs"):
        connect(lab="nosuch")
