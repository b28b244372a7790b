"""Whose objects, whose namespace, which rights: on a real API server, whose word it is."""

import json
import secrets
from contextlib import contextmanager

import pytest

from srcip_nb import connect
from srcip_nb.clean import clean, proof
from srcip_nb.errors import UsageError
from srcip_nb.permissions import MissingPermissionError, permissions_of, require_feature
from srcip_nb.rbac import Subject, rbac_objects
from srcip_nb.rest import ApiAnswerError

pytestmark = pytest.mark.cluster

MANAGED = "app.kubernetes.io/managed-by"


@contextmanager
def namespace_of_somebody_else(cluster, **labels):
    """A namespace that bears none of our labels, taken away again by whoever made it."""
    name = f"srcip-theirs-{secrets.token_hex(3)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    cluster.request("POST", "/api/v1/namespaces", body)
    try:
        yield name
    finally:
        cluster.request("DELETE", f"/api/v1/namespaces/{name}")


def test_everything_made_bears_our_labels_and_a_second_run_changes_nothing(real_cluster):
    real_cluster.apply()
    for kind in ("configmaps", "deployments", "services"):
        labels = real_cluster.list(kind, labels=f"{MANAGED}=srcip-nb")[0]["metadata"]["labels"]
        assert labels["srcip-nb/run"] == real_cluster.run_id
    again = connect(real_cluster.world.name, namespace=real_cluster.namespace, quiet=True)
    assert again.run_id != real_cluster.run_id
    assert set(again.apply()["result"]) == {"unchanged"}


def test_what_somebody_else_made_is_neither_used_nor_deleted(real_cluster):
    context = real_cluster.world.name
    with namespace_of_somebody_else(real_cluster) as name:
        with pytest.raises(UsageError, match="nothing is put into it"):
            connect(context, namespace=name, quiet=True).apply()
        adopting = connect(context, namespace=name, adopt=True, quiet=True)
        adopting.apply()
        adopting.delete()
        left = adopting.get("namespaces", name)
        assert MANAGED not in left["metadata"]["labels"]
        assert adopting.list("configmaps", labels=f"{MANAGED}=srcip-nb") == []
        assert not left["metadata"].get("deletionTimestamp")


def test_clean_takes_all_that_is_ours_and_proves_it(real_cluster):
    real_cluster.apply()
    frame = clean(real_cluster, [real_cluster.namespace])
    assert set(frame["result"]) == {"removed"}
    assert {"namespaces", "services", "deployments.apps", "configmaps"} <= set(frame["kind"])
    assert proof(frame, [real_cluster.namespace]).endswith(f"listed in {real_cluster.namespace}: nothing.")
    assert real_cluster.find("namespaces", real_cluster.namespace) is None


def test_a_run_goes_on_where_one_was_interrupted(real_cluster):
    real_cluster.apply("ns.yaml", "configmap_html.yaml")
    real_cluster.delete(wait=False)  # the namespace is Terminating now, or gone already
    assert set(real_cluster.apply()["result"]) == {"created"}


@pytest.fixture
def participant(real_cluster, tmp_path, monkeypatch):
    """Another connection to the same cluster, as a service account that has no rights yet, and how to grant some."""
    name = f"srcip-seat-{secrets.token_hex(3)}"
    subject = Subject("ServiceAccount", "srcip-nb", name)
    made = []

    def make(body):
        base = f"/apis/{body['apiVersion']}" if "/" in body["apiVersion"] else f"/api/{body['apiVersion']}"
        inside = body["metadata"].get("namespace")
        path = f"{base}/namespaces/{inside}" if inside else base
        path += f"/{body['kind'].lower()}s"
        try:
            real_cluster.request("POST", path, body)
        except ApiAnswerError as error:
            if error.code != 409:
                raise
        if not inside:
            made.append(f"{path}/{body['metadata']['name']}")

    def grant(*features):
        for _, body in rbac_objects(features, name, subject):
            make(body)

    make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "srcip-nb", "namespace": name}})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token_path = f"/api/v1/namespaces/{name}/serviceaccounts/srcip-nb/token"
    token = real_cluster.request("POST", token_path, request)[1]["status"]["token"]
    ca = real_cluster.rest.configuration.ssl_ca_cert
    trust = {"certificate-authority": ca} if ca else {"insecure-skip-tls-verify": True}
    config = {
        "clusters": [{"name": "c", "cluster": {"server": real_cluster.server, **trust}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "seat", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    yield connect("seat", namespace=name, quiet=True), grant
    for path in made:
        real_cluster.request("DELETE", path)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_missing_rights_are_named_first_and_the_printed_ones_suffice(real_cluster, participant):
    seat, grant = participant
    with pytest.raises(MissingPermissionError) as caught:
        require_feature(seat, "lessons")
    assert set(caught.value.missing) == set(permissions_of(["lessons"], seat.namespace))
    with pytest.raises(MissingPermissionError, match=r"nothing was changed.*--service-account srcip-seat-\w+:srcip-nb"):
        seat.apply()
    assert real_cluster.list("services", namespace=seat.namespace) == []
    grant("lessons", "addresses")
    label = {"metadata": {"labels": {"srcip-nb/granted": "true"}}}  # as the Namespace that is printed has it
    real_cluster.patch("namespaces", seat.namespace, label)
    require_feature(seat, "lessons", "addresses")
    assert set(seat.apply()["result"]) == {"unchanged", "created"}
    assert seat.addresses() is not None
    assert seat.delete()["result"].tolist()[:2] == ["deleted", "deleted"]
    with pytest.raises(MissingPermissionError, match="pods/exec"):
        require_feature(seat, "clients")
