import json
import os
import socket
import struct
import subprocess
import sys
import threading

import pytest

from srcip_nb.cluster import Cluster, wait_until
from srcip_nb.errors import ClusterError, LabError, NotFinishedError, UsageError
from srcip_nb.rest import ApiAnswerError, World, path_of
from srcip_nb.worlds import connect
from tests.cluster_fakes import recorded, rest_to, serving

SERVICE = "/api/v1/namespaces/seminar/services/webserver"


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("nodes", "seminar"), "/api/v1/nodes"),
        (("pods", None), "/api/v1/pods"),
        (("pods", "seminar", "a", "log"), "/api/v1/namespaces/seminar/pods/a/log"),
        (("deployments", "seminar", "webserver"), "/apis/apps/v1/namespaces/seminar/deployments/webserver"),
        (("services", "a/b"), "/api/v1/namespaces/a%2Fb/services"),
    ],
)
def test_path_of(words, path):
    assert path_of(*words) == path


def test_get_find_and_list():
    answers = {
        ("GET", SERVICE): recorded("get-service"),
        ("GET", "/api/v1/namespaces/seminar/services/nope"): recorded("error-404-service"),
        ("GET", "/api/v1/pods"): recorded("list-pods"),
    }
    with serving(answers) as (api, cluster):
        assert cluster.version == "v1.36.2"
        assert cluster.get("services", "webserver")["spec"]["clusterIP"] == "10.1.52.86"
        assert cluster.find("services", "nope") is None
        assert len(cluster.list("pods", everywhere=True, labels="app=webserver", fields="")) == 2
        assert api.asked[-1][2] == {"labelSelector": "app=webserver"}


def test_the_servers_words_and_what_to_do():
    answers = {
        ("PATCH", SERVICE): recorded("error-422-policy"),
        ("GET", "/api/v1/namespaces/seminar/services/nope"): recorded("error-404-service"),
        ("GET", "/api/v1/nodes"): (403, {"message": 'nodes is forbidden: User "x" cannot list', "reason": "Forbidden"}),
    }
    with serving(answers) as (_, cluster):
        with pytest.raises(ApiAnswerError) as refused:
            cluster.patch("services", "webserver", {})
        assert refused.value.code == 422
        assert refused.value.reason == "Invalid"
        assert 'Unsupported value: "local": supported values: "Cluster", "Local"' in refused.value.cause
        with pytest.raises(ApiAnswerError, match=r'services "nope" not found\. Create it first'):
            cluster.get("services", "nope")
        with pytest.raises(ApiAnswerError, match="kubectl --context kind-kind auth can-i --list"):
            cluster.list("nodes")


def test_wrong_token():
    unauthorized = (401, {"kind": "Status", "message": "Unauthorized", "reason": "Unauthorized", "code": 401})
    with (
        pytest.raises(ClusterError, match=r"context 'kind-kind' does not accept the credentials .*kubectl --context"),
        serving({("GET", "/api"): unauthorized}),
    ):
        pass


def test_not_kubernetes():
    with (
        pytest.raises(ClusterError, match="answered something that is not JSON: <html>"),
        serving({("GET", "/version"): (200, b"<html>")}),
    ):
        pass
    with pytest.raises(ClusterError, match="Bad Gateway"), serving({("GET", "/version"): (502, b"Bad Gateway")}):
        pass


def test_nobody_listens():
    with pytest.raises(ClusterError, match=r"lab 'x' .* cannot be reached: .*refused.*run connect\(\) again"):
        Cluster(rest_to(1, World("lab", "x")))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "Remote end closed connection without response"),
        (None, "Connection reset by peer"),
    ],
)
def test_a_server_that_goes_in_the_middle(answer, words):
    """It is said in the system's words, not in Python's."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with server:
            for _ in range(2):  # what was read is asked once more
                connection, _ = server.accept()
                connection.recv(4096)
                if answer is None:  # closed with data unsent, it resets
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    threading.Thread(target=run, daemon=True).start()
    with pytest.raises(ClusterError, match=rf"cannot be reached: {words}\. The lab has ended"):
        Cluster(rest_to(server.getsockname()[1], World("lab", "x")))


def kubeconfig(path, *contexts: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": c, "cluster": {"server": f"http://127.0.0.1:1/{c}"}} for c in contexts],
        "users": [{"name": c, "user": {"token": "t"}} for c in contexts],
        "contexts": [{"name": c, "context": {"cluster": c, "user": c}} for c in contexts],
        "current-context": contexts[0],
    }
    path.write_text(json.dumps(config))
    return str(path)


def test_unknown_context_names_the_known_ones_of_all_files(tmp_path, monkeypatch):
    files = [kubeconfig(tmp_path / "a", "kind-a"), kubeconfig(tmp_path / "b", "kind-b")]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(files))
    with pytest.raises(UsageError, match=r"no context 'prod' in .*: kind-a, kind-b"):
        connect("prod")


def test_the_environment_names_a_context(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "a", "kind-a", "kind-b"))
    monkeypatch.setenv("SRCIP_CONTEXT", "kind-b")
    with pytest.raises(ClusterError, match=r"context 'kind-b' at http://127.0.0.1:1/kind-b cannot be reached"):
        connect()


def test_no_kubeconfig(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"no usable kubeconfig at .*none"):
        connect("kind-kind")


def test_wrong_use_starts_nothing():
    with pytest.raises(UsageError, match="cannot be a namespace"):
        connect(namespace="Seminar_1")
    with pytest.raises(UsageError, match="at once"):
        connect("kind-kind", lab="x")
    with pytest.raises(LabError, match="no lab named 'none' runs"):
        connect(lab="none")


def test_wait_until_tells_the_last_state():
    states = iter(["1 of 2", "2 of 2", ""])
    assert wait_until(lambda: next(states), "the rollout", 5, every=0) >= 0
    with pytest.raises(NotFinishedError, match=r"the rollout did not come about within 0 s; last seen: 1 of 2"):
        wait_until(lambda: "1 of 2", "the rollout", 0)


def run_python(text: str) -> str:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    loaded = run_python("import sys, srcip_nb; print(' '.join(sys.modules))").split()
    assert not {"pandas", "kubernetes", "matplotlib", "yaml", "aiohttp"} & set(loaded)


def test_the_client_is_imported_without_kubernetes_validate():
    text = (
        "import sys; from srcip_nb.rest import load_kubernetes as l; l(); print('kubernetes_validate' in sys.modules)"
    )
    assert run_python(text) == "False"


def test_names_of_the_package_stay_functions():
    import srcip_nb
    import srcip_nb.policy

    assert callable(srcip_nb.policy)
    assert srcip_nb.policy is sys.modules["srcip_nb.policy"].policy
    assert all(callable(getattr(srcip_nb, name)) for name in srcip_nb.__all__)
    with pytest.raises(AttributeError, match="no attribute 'pond'"):
        _ = srcip_nb.pond
