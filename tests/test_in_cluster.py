"""Connecting from inside a pod, and never by accident."""

import json

import pytest

from srcip_nb.cluster import Cluster
from srcip_nb.errors import ClusterError, LabError, UsageError
from srcip_nb.in_cluster import in_cluster
from srcip_nb.rest import Rest
from srcip_nb.worlds import connect, first_line
from tests.cluster_fakes import serving


@pytest.fixture
def account(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("t0ken")
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "namespace").write_text("jupyter")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.1.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


def test_server_and_token_of_the_service_account(account):
    configuration, world = in_cluster(account)
    assert configuration.host == "https://10.1.0.1:443"
    assert configuration.ssl_ca_cert == str(account / "ca.crt")
    assert configuration.auth_settings()["BearerToken"]["value"].lower() == "bearer t0ken"
    assert str(world) == "in-cluster 'jupyter'"


def test_no_pod_no_service_account(account, monkeypatch):
    (account / "token").unlink()
    with pytest.raises(UsageError, match=r"this is no pod with a service account: .*token"):
        in_cluster(account)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(UsageError, match="Name a context of your kubeconfig"):
        connect("in-cluster")


def test_remedies_name_no_context_that_there_is_not(account):
    answers = {("GET", "/api/v1/nodes"): (403, {"message": "forbidden", "reason": "Forbidden"})}
    with serving(answers) as (_, cluster):
        rest = Rest(cluster.rest.configuration, in_cluster(account)[1])
        with pytest.raises(Exception, match="kubectl auth can-i --list"):
            Cluster(rest).list("nodes")


def test_the_first_line_tells_world_server_version_namespace_and_run():
    with serving({}, namespace="seminar-07", image="registry.example/nginx:1.27") as (_, cluster):
        assert first_line(cluster) == (
            f"context 'kind-kind': {cluster.server}, Kubernetes v1.36.2, namespace 'seminar-07', "
            f"image registry.example/nginx:1.27, run {cluster.run_id}"
        )


def test_settings_come_from_the_environment_and_arguments_win(monkeypatch):
    from srcip_nb.worlds import _settings

    assert _settings(None, None, None) == {"namespace": "seminar", "image": "", "adopt": False}
    monkeypatch.setenv("SRCIP_NAMESPACE", "seminar-07")
    monkeypatch.setenv("SRCIP_IMAGE", "registry.example/nginx:1.27")
    monkeypatch.setenv("SRCIP_ADOPT", "1")
    assert _settings(None, None, None) == {
        "namespace": "seminar-07",
        "image": "registry.example/nginx:1.27",
        "adopt": True,
    }
    assert _settings("mine", "", False) == {"namespace": "mine", "image": "", "adopt": False}


def test_the_current_context_is_never_taken(tmp_path, monkeypatch):
    """Whatever KUBECONFIG holds, and whatever pod this is: without a name it is the lab."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    (tmp_path / "config").write_text("{current-context: production}")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.1.0.1")

    def lab(**settings):
        raise LabError("the lab was asked for")

    monkeypatch.setattr("srcip_nb.lab.lifecycle.ensure_lab", lab)
    for context in (None, ""):
        monkeypatch.setenv("SRCIP_CONTEXT", "")
        with pytest.raises(LabError, match="the lab was asked for"):
            connect(context)


def test_a_kubeconfig_needs_no_current_context(tmp_path, monkeypatch):
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "staging", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(ClusterError, match=r"context 'staging' at http://127.0.0.1:1 cannot be reached"):
        connect("staging")
