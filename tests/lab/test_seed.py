"""The three experiments of the seminar post, with real kubectl, from nginx's own log.

https://www.opensourcetech.tokyo/entry/20231015/1697375251: client 192.168.1.122, worker01 192.168.1.45, tunnel address
10.0.5.0, VIP 192.168.1.56.
"""

import json
import re
import time
from importlib import resources

import pytest

from tests.conftest import kubectl

pytestmark = pytest.mark.lab

MANIFESTS = ("ns.yaml", "configmap_html.yaml", "deployment.yaml", "service.yaml")


@pytest.fixture(scope="module")
def seminar(lab):
    kubectl(lab, "delete", "namespace", "seminar", "--ignore-not-found", "--wait")
    for name in MANIFESTS:
        text = (resources.files("srcip_nb") / "manifests" / name).read_text(encoding="utf-8")
        done = kubectl(lab, "apply", "-f", "-", stdin=text)
        assert done.stdout.strip().endswith("created"), done.stdout
    kubectl(lab, "-n", "seminar", "rollout", "status", "deployment/webserver", "--timeout=20s")
    jsonpath = "jsonpath={.status.loadBalancer.ingress}"
    kubectl(lab, "-n", "seminar", "wait", f"--for={jsonpath}", "service/webserver", "--timeout=10s")
    return lab


def set_policy(lab, policy: str) -> None:
    patch = json.dumps({"spec": {"externalTrafficPolicy": policy}})
    kubectl(lab, "-n", "seminar", "patch", "service", "webserver", "-p", patch)
    wait_for_health_port(lab, is_open=policy == "Local")


def wait_for_health_port(lab, is_open: bool) -> None:
    """kube-proxy opens and closes the health check node port only after the rules of that sync are loaded."""
    for _ in range(100):
        codes = [lab.client.exec(node, ["ss", "-Hltn"]).stdout for node in ("worker01", "worker02")]
        port = service(lab)["spec"].get("healthCheckNodePort")
        listening = [bool(port) and f":{port} " in code for code in codes]
        if is_open and all(listening):
            return
        if not is_open and not any(re.search(r":3[0-2]\d{3} ", code) for code in codes):
            return
    raise AssertionError(f"health check node ports: {codes}")


def service(lab) -> dict:
    return json.loads(kubectl(lab, "-n", "seminar", "get", "service", "webserver", "-o", "json").stdout)


def pods_by_node(lab) -> dict[str, str]:
    items = json.loads(kubectl(lab, "-n", "seminar", "get", "pods", "-o", "json").stdout)["items"]
    return {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in items}


def sources(lab, marker: str) -> dict[str, set[str]]:
    """Per node, the source addresses that its pod's nginx logged for requests with this marker."""
    seen = {}
    for node, pod in pods_by_node(lab).items():
        log = kubectl(lab, "-n", "seminar", "logs", pod).stdout
        seen[node] = {line.split()[0] for line in log.splitlines() if f"?{marker}" in line and " - - [" in line}
    return seen


def send(lab, url: str, marker: str, n: int = 40) -> list[dict]:
    requests = [{"id": i, "url": f"{url}?{marker}-{i}"} for i in range(n)]
    return list(lab.client.visit("client", requests, concurrency=8, timeout=2.0))


def test_the_posts_first_listing(seminar):
    vip = service(seminar)["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert vip == "192.168.1.56"
    assert set(pods_by_node(seminar)) == {"worker01", "worker02"}
    page = seminar.client.exec("client", ["curl", "-s", f"http://{vip}/"]).stdout
    assert "<title>20231008 k8sセミナー</title>" in page
    wide = kubectl(seminar, "get", "nodes", "-o", "wide").stdout
    assert re.search(r"worker01\s+Ready\s+<none>\s+\S+\s+v1\.36\.2\S*\s+192\.168\.1\.45", wide), wide


def test_cluster_hides_the_client(seminar):
    set_policy(seminar, "Cluster")
    results = send(seminar, "http://192.168.1.56/", "cluster")
    assert [r["status"] for r in results] == [200] * 40
    assert {r["client_ip"] for r in results} == {"192.168.1.122"}
    assert sources(seminar, "cluster") == {"worker01": {"192.168.1.45"}, "worker02": {"10.0.5.0"}}


def test_local_shows_the_client(seminar):
    set_policy(seminar, "Local")
    results = send(seminar, "http://192.168.1.56/", "local")
    assert [r["status"] for r in results] == [200] * 40
    assert sources(seminar, "local") == {"worker01": {"192.168.1.122"}, "worker02": set()}


def test_favicon_leaves_the_posts_error_line(seminar):
    set_policy(seminar, "Local")
    seminar.client.exec("client", ["curl", "-s", "http://192.168.1.56/favicon.ico"])
    log = kubectl(seminar, "-n", "seminar", "logs", pods_by_node(seminar)["worker01"]).stdout
    assert re.search(
        r'\d{4}/\d\d/\d\d [\d:]{8} \[error\] \d+#\d+: \*\d+ open\(\) "/usr/share/nginx/html/favicon\.ico" failed '
        r"\(2: No such file or directory\), client: 192\.168\.1\.122, server: localhost, "
        r'request: "GET /favicon\.ico HTTP/1\.1", host: "192\.168\.1\.56"',
        log,
    ), log[-2000:]


PINNED = """
apiVersion: v1
kind: Pod
metadata: {name: pinned, namespace: seminar, labels: {app: pinned}}
spec:
  nodeName: worker01
  containers: [{name: nginx, image: "nginx:latest"}]
---
apiVersion: v1
kind: Service
metadata: {name: pinned, namespace: seminar}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: pinned}
  ports: [{port: 80, nodePort: 30080}]
"""


def test_a_node_without_a_pod_drops_under_local_and_answers_under_cluster(seminar):
    kubectl(seminar, "apply", "-f", "-", stdin=PINNED)
    kubectl(seminar, "-n", "seminar", "wait", "--for=condition=Ready", "pod/pinned", "--timeout=10s")
    worker01, worker02 = "http://192.168.1.45:30080/", "http://192.168.1.46:30080/"
    wait_until(lambda: send(seminar, worker01, "first", 1)[0]["status"] == 200)

    def logged(marker: str) -> set[str]:
        lines = kubectl(seminar, "-n", "seminar", "logs", "pinned").stdout.splitlines()
        return {line.split()[0] for line in lines if f"?{marker}-" in line}

    assert {r["error"] for r in send(seminar, worker02, "dropped", 3)} == {"timeout"}
    assert {r["status"] for r in send(seminar, worker01, "kept", 3)} == {200}
    assert (logged("dropped"), logged("kept")) == (set(), {"192.168.1.122"})
    patch = json.dumps({"spec": {"externalTrafficPolicy": "Cluster"}})
    kubectl(seminar, "-n", "seminar", "patch", "service", "pinned", "-p", patch)
    wait_until(lambda: send(seminar, worker02, "second", 1)[0]["status"] == 200)
    assert {r["status"] for r in send(seminar, worker02, "forwarded", 8)} == {200}
    assert logged("forwarded") == {"10.0.30.64"}
    kubectl(seminar, "-n", "seminar", "delete", "pod/pinned", "service/pinned")


def wait_until(condition, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"


def test_no_endpoint_at_all_is_refused(seminar):
    kubectl(seminar, "-n", "seminar", "scale", "deployment", "webserver", "--replicas=0")
    try:
        kubectl(seminar, "-n", "seminar", "wait", "--for=delete", "pod", "-l", "app=webserver", "--timeout=20s")
        address = service(seminar)["spec"]["clusterIP"]
        done = seminar.client.exec("worker01", ["curl", "-s", "-m", "2", f"http://{address}/"])
        assert done.code == 7
    finally:
        kubectl(seminar, "-n", "seminar", "scale", "deployment", "webserver", "--replicas=2")
        kubectl(seminar, "-n", "seminar", "rollout", "status", "deployment/webserver", "--timeout=20s")


def test_health_check_node_port_speaks_as_kube_proxy(seminar):
    set_policy(seminar, "Local")
    port = service(seminar)["spec"]["healthCheckNodePort"]
    for node, address in (("worker01", "192.168.1.45"), ("master01", "192.168.1.41")):
        local = 1 if node == "worker01" else 0
        done = seminar.client.exec("client", ["curl", "-si", f"http://{address}:{port}/healthz"])
        head, _, body = done.stdout.partition("\r\n\r\n")
        assert f" {200 if local else 503} " in head.splitlines()[0]
        assert f"x-load-balancing-endpoint-weight: {local}" in head.lower()
        assert json.loads(body) == {
            "service": {"namespace": "seminar", "name": "webserver"},
            "localEndpoints": local,
            "serviceProxyHealthy": True,
        }
