"""The health check node port as a table, and ``scale`` that returns when requests meet the new number of pods."""

import json

import pytest

from srcip_nb import health as health_module
from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.health import health
from srcip_nb.scale import scale


def body(local: int) -> str:
    service = {"namespace": "seminar", "name": "webserver"}
    return json.dumps({"service": service, "localEndpoints": local, "serviceProxyHealthy": True})


class FakeCluster:
    def __init__(self, port):
        self.port = port

    def get(self, resource, name):
        return {"spec": {"healthCheckNodePort": self.port} if self.port else {}}

    def list(self, resource):
        addresses = {"master01": "192.168.1.41", "worker01": "192.168.1.45", "worker02": "192.168.1.46"}
        return [
            {"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": address}]}}
            for name, address in addresses.items()
        ]


class FakeClient:
    """worker01 has a pod, master01 none, and worker02 does not answer."""

    def send(self, requests, *, concurrency, timeout):
        answers = {
            "192.168.1.41": (503, "", body(0)),
            "192.168.1.45": (200, "", body(1)),
            "192.168.1.46": (None, "timeout", ""),
        }
        for request in reversed(requests):
            status, error, text = answers[request["url"].split("/")[2].split(":")[0]]
            yield {"id": request["id"], "status": status, "error": error, "body": text}


def test_every_node_has_a_row(monkeypatch):
    monkeypatch.setattr(health_module, "find_client", lambda cluster, name: FakeClient())
    found = health(FakeCluster(31000))
    assert found.loc["worker01"].tolist() == ["http://192.168.1.45:31000/healthz", 200, "", 1]
    assert found.loc["master01", "status"] == 503
    assert found.loc["worker02"].isna().tolist() == [False, True, False, True]
    assert found.loc["worker02", "error"] == "timeout"


def test_under_cluster_there_is_no_such_port():
    with pytest.raises(UsageError, match="has no healthCheckNodePort"):
        health(FakeCluster(None))


def test_one_answer_word_for_word(monkeypatch):
    monkeypatch.setattr(health_module, "find_client", lambda cluster, name: FakeClient())
    said = str(health_module.health_answer(FakeCluster(31000), "worker01"))
    assert said.splitlines()[:2] == ["GET http://192.168.1.45:31000/healthz", "200"]
    assert json.loads(said.split("\n", 2)[2])["localEndpoints"] == 1
    assert "timeout" in health_module.health_answer(FakeCluster(31000), "worker02")
    with pytest.raises(UsageError, match="no node 'worker99'"):
        health_module.health_answer(FakeCluster(31000), "worker99")
    with pytest.raises(UsageError, match="has no healthCheckNodePort"):
        health_module.health_answer(FakeCluster(None), "worker01")


@pytest.mark.lab
def test_scale_returns_when_every_node_counts_the_pods(cluster):
    cluster.apply()
    cluster.wait_ready()
    cluster.policy("Local")
    for replicas in (1, 3, 2):
        pods = scale(cluster, replicas)
        assert len(pods) == replicas
        said = health(cluster)["local_endpoints"].to_dict()
        assert said == {node: int((pods["NODE"] == node).sum()) for node in said}
    with pytest.raises(ClusterError, match="must be greater than or equal to 0"):
        scale(cluster, -1)
    assert len(cluster.pods()) == 2
