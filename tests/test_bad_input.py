"""Bad input of every kind: a clear error with a next step, nothing half done, nothing lost, no traceback."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from srcip_nb import connect
from srcip_nb.errors import LabError, ManifestError, NotFinishedError, SrcipError, UsageError
from srcip_nb.lab import Lab
from srcip_nb.lab.client import LabClient
from srcip_nb.lab.state import find_lab
from srcip_nb.manifest_files import lesson_objects
from srcip_nb.rest import ApiAnswerError
from tests.conftest import kubectl

pytestmark = pytest.mark.lab

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "en" / "02-cluster.ipynb"


def everything(cluster) -> dict[str, str]:
    """Every object of the namespace that a learner makes, with its version."""
    kinds = ("configmaps", "deployments", "services", "pods")
    return {
        f"{kind}/{body['metadata']['name']}": body["metadata"]["resourceVersion"]
        for kind in kinds
        for body in cluster.list(kind)
    }


def is_clear(error: SrcipError) -> bool:
    """Whether it tells a cause and what to do next, and nothing of Python's own."""
    return bool(error.cause and error.remedy) and "Traceback" not in str(error) and "Error(" not in str(error)


@pytest.fixture
def seminar(cluster):
    """The lesson, ready."""
    cluster.apply()
    cluster.wait_ready()
    return cluster


# -- the API, through connect() and kubectl ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["Sometimes", "local", "", None, 3])
def test_an_unknown_policy_value(seminar, value):
    before = everything(seminar)
    with pytest.raises(SrcipError, match="externalTrafficPolicy") as caught:
        seminar.policy(value)
    assert is_clear(caught.value)
    assert everything(seminar) == before


def test_an_unknown_policy_value_by_kubectl(lab, seminar):
    patch = '{"spec": {"externalTrafficPolicy": "Sometimes"}}'
    done = kubectl(lab, "-n", "seminar", "patch", "service", "webserver", "-p", patch, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        'The Service "webserver" is invalid: spec.externalTrafficPolicy: Unsupported value: "Sometimes": '
        'supported values: "Cluster", "Local"\n'
    )


MALFORMED = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n bad: [\n"


def test_malformed_yaml_names_its_line(lab, cluster, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(MALFORMED)
    with pytest.raises(ManifestError, match=r"broken\.yaml, line 5") as caught:
        cluster.apply("ns.yaml", str(file))
    assert is_clear(caught.value)
    assert cluster.find("namespaces", "seminar") is None, "nothing of the call was applied"
    done = kubectl(lab, "apply", "-f", str(file), check=False)
    assert done.returncode == 1 and "line 4" in done.stderr  # where kubectl's own parser sees it


def test_an_unknown_field(lab, seminar):
    before = everything(seminar)
    service = next(body for body in lesson_objects() if body["kind"] == "Service")
    service["spec"]["externalTrafficPolice"] = "Local"
    with pytest.raises(ManifestError, match=r"service/webserver: .*externalTrafficPolice") as caught:
        seminar.apply(service)
    assert is_clear(caught.value)
    done = kubectl(lab, "apply", "-f", "-", stdin=yaml.safe_dump(service), check=False)
    assert done.returncode == 1 and 'unknown field "spec.externalTrafficPolice"' in done.stderr
    assert everything(seminar) == before


def test_the_wrong_kind_at_a_url(lab, seminar):
    before = everything(seminar)
    service = json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {}})
    path = "/api/v1/namespaces/seminar/pods"
    with pytest.raises(ApiAnswerError) as caught:
        seminar.request("POST", path, json.loads(service))
    assert caught.value.code == 400 and 'Service in version "v1" cannot be handled as a Pod' in caught.value.cause
    assert is_clear(caught.value)
    done = kubectl(lab, "create", "--raw", path, "-f", "-", stdin=service, check=False)
    assert done.returncode == 1 and "BadRequest" in done.stderr
    assert everything(seminar) == before


def test_a_missing_namespace(lab, cluster):
    with pytest.raises(ApiAnswerError, match='namespaces "seminar" not found') as caught:
        cluster.apply("deployment.yaml")
    assert is_clear(caught.value)
    done = kubectl(lab, "-n", "nowhere", "create", "configmap", "x", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        'error: failed to create configmap: namespaces "nowhere" not found\n',
    )
    with pytest.raises(ApiAnswerError, match="not found") as caught:
        cluster.visit(1)
    assert is_clear(caught.value)


def test_the_node_port_of_another_service(seminar):
    before = everything(seminar)
    port = seminar.get("services", "webserver")["spec"]["ports"][0]["nodePort"]
    other = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "other"},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]},
    }
    words = rf"spec\.ports\[0\]\.nodePort: Invalid value: {port}: provided port is already allocated"
    with pytest.raises(ManifestError, match=words) as caught:
        seminar.apply(other)
    assert is_clear(caught.value)
    assert everything(seminar) == before


def test_an_image_the_lab_has_not(lab, cluster):
    objects = lesson_objects()
    deployment = next(body for body in objects if body["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "httpd:2.4"
    cluster.apply(*objects)
    started = time.monotonic()
    with pytest.raises(NotFinishedError, match="ImagePullBackOff") as caught:
        cluster.wait_ready(timeout=60)
    assert time.monotonic() - started < 30, "it waited for what cannot come"
    assert is_clear(caught.value) and "nginx" in caught.value.cause
    events = cluster.list("events")
    assert {"ErrImagePull", "ImagePullBackOff"} & {word for e in events for word in e["message"].split()}
    assert any(e["type"] == "Warning" and "nginx" in e["message"] and "httpd:2.4" in e["message"] for e in events)
    pod = cluster.list("pods")[0]["metadata"]["name"]
    described = kubectl(lab, "-n", "seminar", "describe", "pod", pod).stdout
    assert re.search(r"Warning +Failed .*httpd:2\.4.*nginx", described)
    cluster.apply()  # and it can be put right
    cluster.wait_ready()


def test_a_wrong_token(lab, tmp_path, monkeypatch):
    config = json.loads(lab.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = "wrong"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    client = LabClient.from_kubeconfig(path)
    with pytest.raises(SrcipError, match="does not accept the credentials") as caught:
        connect(lab=client, quiet=True)
    assert is_clear(caught.value)
    with pytest.raises(LabError, match="Unauthorized") as refused:
        client.hosts()
    assert is_clear(refused.value)
    done = kubectl(lab, "--token", "wrong", "get", "pods", check=False)
    assert (done.returncode, done.stderr) == (1, "error: You must be logged in to the server (Unauthorized)\n")


def test_a_full_pool_of_addresses(lab, cluster):
    cluster.apply("ns.yaml")

    def services(count: int) -> list[dict]:
        spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
        names = [f"s{number}" for number in range(count)]
        return [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": n}, "spec": spec} for n in names]

    def pending() -> list[str]:
        found = cluster.list("services")
        return [s["metadata"]["name"] for s in found if not s["status"]["loadBalancer"].get("ingress")]

    cluster.apply(*services(67))
    wait_until(lambda: len(pending()) <= 1)
    (late,) = pending()
    described = kubectl(lab, "-n", "seminar", "describe", "service", late).stdout
    assert f'Failed to allocate IP for "seminar/{late}": no available IPs' in described
    gone = "s1" if late != "s1" else "s2"
    kubectl(lab, "-n", "seminar", "delete", "service", gone)
    wait_until(lambda: pending() == [])


def wait_until(condition, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


# -- visits, and labs that end meanwhile ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"client": "nobody"}, "no client 'nobody'"),
        ({"target": "nowhere"}, "no target 'nowhere'"),
        ({"n": "3"}, "n='3'"),
        ({"n": 0}, "n=0"),
        ({"timeout": "2"}, "timeout='2'"),
        ({"rate": 0}, "rate=0"),
        ({"service": "none"}, 'services "none" not found'),
    ],
)
def test_visits_that_make_no_sense(seminar, arguments, said):
    with pytest.raises(SrcipError, match=re.escape(said)) as caught:
        seminar.visit(**{"n": 1, "progress": False, **arguments})
    assert is_clear(caught.value)


def test_the_namespace_goes_while_it_is_visited(seminar):
    """Every request keeps its row: answered ones without a line say so, later ones have their error."""
    threading.Timer(0.5, seminar.delete).start()
    frame = seminar.visit(60, rate=40, timeout=0.5, concurrency=20, progress=False)
    assert list(frame["request"]) == list(range(60))
    answered = frame["status"].notna()
    assert answered.iloc[0] and not answered.iloc[-1]
    assert set(frame.loc[~answered, "error"]) <= {"timeout", "refused", "reset", "unreachable", "closed"}
    assert frame.attrs["unmatched"] == int((answered & frame["source_ip"].isna()).sum())
    assert frame.loc[~answered, "source_ip"].isna().all()


@pytest.mark.parametrize("victim", ["supervisor", "agent"])
def test_the_lab_goes_while_it_is_visited(victim):
    with Lab(name=f"dies-{victim}", workers=1) as lab:
        cluster = connect(lab=lab, quiet=True)
        cluster.apply()
        cluster.wait_ready()
        pid = lab.record.supervisor.pid if victim == "supervisor" else lab.client.info()["agentPid"]
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(LabError, match=r"\d+ of 600 requests") as caught:
            cluster.visit(600, rate=100, progress=False)
        assert is_clear(caught.value)
        wait_until(lambda: find_lab(lab.name) is None, 5)
        for call in (cluster.pods, cluster.logs, lambda: cluster.visit(1), lambda: lab.client.exec("client", ["true"])):
            with pytest.raises(SrcipError) as caught:
                call()
            assert is_clear(caught.value)
    assert find_lab(f"dies-{victim}") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"context": "none"}, "no context 'none'"),
        ({"lab": "none"}, "no lab named 'none'"),
        ({"lab": {"labourers": 3}}, "no setting 'labourers'"),
        ({"lab": {"workers": 51}}, "workers is 51"),
        ({"lab": 3}, "3 is no lab"),
        ({"namespace": "A B"}, "'A B' cannot be a namespace"),
        ({"namespace": ""}, "'' cannot be a namespace"),
        ({"namespace": 7}, "7 cannot be a namespace"),
        ({"image": "an image"}, "'an image' cannot be an image"),
        ({"context": "in-cluster"}, "this is no pod with a service account"),
    ],
)
def test_connections_that_make_no_sense(lab, monkeypatch, arguments, said):
    monkeypatch.setenv("KUBECONFIG", str(lab.kubeconfig))
    monkeypatch.setenv("SRCIP_LAB", lab.name)
    with pytest.raises(SrcipError, match=re.escape(said)) as caught:
        connect(**arguments)
    assert is_clear(caught.value)


def test_a_lab_with_other_settings_is_not_taken_in_silence(lab, monkeypatch):
    monkeypatch.setenv("SRCIP_LAB", lab.name)
    with pytest.raises(UsageError, match="runs with workers=2") as caught:
        connect(lab={"workers": 3})
    assert is_clear(caught.value)


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "required: COMMAND"),
        (["frobnicate"], 2, "invalid choice: 'frobnicate'"),
        (["lab", "frobnicate"], 2, "invalid choice: 'frobnicate'"),
        (["lab", "up", "--labourers", "3"], 2, "--labourers"),
        (["lab", "up", "--workers", "many"], 2, "invalid int value: 'many'"),
        (["lab", "up", "--workers", "51"], 2, "from 1 to 50"),
        (["lab", "up", "--port", "99999"], 2, "from 0 to 65535"),
        (["lab", "up", "--cni", "weave"], 2, "calico, flannel, ptp"),
        (["lab", "up", "--", "client"], 2, "only 'lab exec' takes a command"),
        (["lab", "down", "none"], 1, "no lab named 'none'"),
        (["lab", "down", "tests", "--all"], 2, "Give one of them"),
        (["lab", "exec", "--name", "none", "client", "--", "true"], 1, "no lab named 'none'"),
        (["lab", "exec", "client"], 2, "no command was given"),
        (["run", "none.ipynb"], 2, "no notebook none.ipynb"),
        (["run", "--lang", "fr"], 2, "'fr'"),
        (["run", str(NOTEBOOK), "-p", "frobnicate", "3"], 2, "no parameter 'frobnicate'"),
        (["run", str(NOTEBOOK), "-p", "requests", "[1"], 2, "not YAML"),
        (["run", str(NOTEBOOK), "--context", "none"], 2, "no context 'none'"),
        (["run", str(NOTEBOOK), "--out", "/proc/none"], 2, "/proc/none cannot be made"),
        (["run", str(NOTEBOOK), "--junit", "/none/f.xml"], 2, "no folder /none"),
        (["parse", "/none"], 2, "/none"),
        (["render-rules", "--mode", "frob", "--node", "worker01", "/none"], 2, "'frob'"),
    ],
)
def test_wrong_words(lab, cli, monkeypatch, tmp_path, words, status, said):
    monkeypatch.setenv("KUBECONFIG", str(lab.kubeconfig))
    monkeypatch.chdir(tmp_path)
    done = cli(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert find_lab("lab") is None


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["frobnicate"], 127, "frobnicate: no such program"),
        (["/no/such"], 127, "/no/such: no such program"),
        (["/etc/passwd"], 126, "/etc/passwd: Permission denied"),
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -KILL $$"], 137, ""),
    ],
)
def test_exit_codes_of_commands_in_a_host(lab, cli, argv, status, said):
    done = cli("lab", "exec", "--name", lab.name, "client", "--", *argv)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(said) and done.stderr.count("\n") == (1 if said else 0)
    if said:
        completed = lab.client.exec("client", argv)
        assert completed.code == status and completed.stderr == done.stderr


def test_a_host_that_is_not_there(lab, cli):
    done = cli("lab", "exec", "--name", lab.name, "worker9", "--", "true")
    assert done.returncode == 1
    assert "no host or pod 'worker9'; there are: router, master01, worker01" in done.stderr


def test_programs_that_cannot_be_run_do_no_harm_to_the_lab(lab):
    """posix_spawn collects a program it could not start; the agent must not stumble over it."""
    for _ in range(100):
        assert lab.client.exec("client", ["/etc/passwd"], timeout=5).code == 126
    assert lab.client.exec("client", ["true"], timeout=5).code == 0


def test_a_time_limit_is_said(lab):
    with pytest.raises(LabError, match=r"sleep was killed: it had not ended after 0\.2 s"):
        lab.client.exec("client", ["sleep", "9"], timeout=0.2)


def test_the_lab_ends_under_a_command(cli):
    with Lab(name="ends", workers=1) as lab:
        command = [sys.executable, "-m", "srcip_nb", "lab", "exec", "--name", "ends", "client", "--"]
        running = subprocess.Popen(
            [*command, "sh", "-c", "echo started; sleep 60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert running.stdout.readline() == "started\n"
        os.kill(lab.record.supervisor.pid, signal.SIGKILL)
        _, said = running.communicate(timeout=20)
    assert running.returncode == 1
    assert "lab 'ends' ended while the command ran" in said and "Traceback" not in said


# -- the machine -------------------------------------------------------------------------------------------------------

READING = "+dac_read_search"  # it may read wherever Python is installed, and nothing else
AS_NOBODY = ["setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups", "--inh-caps", READING]
AS_NOBODY += ["--ambient-caps", READING, "--bounding-set", f"-all,{READING}"]
AS_ROOT = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
WITHOUT_NGINX = [*AS_ROOT, "unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$0"; exec "$@"']


def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
    names = {**os.environ, **environment}
    return subprocess.run(words, text=True, capture_output=True, timeout=60, env=names)


@pytest.fixture
def nobody(tmp_path_factory):
    """How an ordinary user runs ``srcip-nb``, and where that user's labs are."""
    directory = tmp_path_factory.mktemp("nobody")
    os.chown(directory, 1001, 1001)
    for parent in directory.parents[:-2]:
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    if run(*AS_NOBODY, sys.executable, "-c", "pass").returncode:
        pytest.skip("no other user can run this Python")
    return lambda *words: run(
        *AS_NOBODY, sys.executable, "-m", "srcip_nb", *words, SRCIP_STATE_DIR=str(directory)
    ), directory


def test_without_privileges(nobody):
    srcip_nb, directory = nobody
    up = srcip_nb("lab", "up", "--kernel", "root")
    assert up.returncode == 1 and up.stdout == ""
    assert "an ordinary user may not make network namespaces here" in up.stderr and "sudo" in up.stderr
    assert "Traceback" not in up.stderr
    assert [path.name for path in directory.iterdir() if path.is_dir()] == []
    doctor = srcip_nb("doctor")
    assert re.search(r"^(without|missing) +kernel root .*sudo", doctor.stdout, re.MULTILINE)


def test_a_directory_of_somebody_else(nobody, tmp_path):
    done = run(*AS_NOBODY, sys.executable, "-m", "srcip_nb", "lab", "list", SRCIP_STATE_DIR="/root/labs")
    assert done.returncode == 1
    assert "Set SRCIP_STATE_DIR to a directory of your own" in done.stderr and "Traceback" not in done.stderr


def test_without_nginx(tmp_path):
    nginx = shutil.which("nginx", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    command = [*WITHOUT_NGINX, nginx, sys.executable, "-m", "srcip_nb"]
    up = run(*command, "lab", "up", "--name", "dry", SRCIP_STATE_DIR=str(tmp_path))
    assert up.returncode == 1 and up.stdout == ""
    assert "nginx" in up.stderr and "sudo apt-get install -y nginx-light" in up.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    doctor = run(*command, "doctor")
    assert doctor.returncode == 1
    assert re.search(r"^missing +nginx .*type: sudo apt-get install -y nginx-light$", doctor.stdout, re.MULTILINE)


def test_doctor_where_all_is_there(cli):
    done = cli("doctor")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ok +kernel \w+ +Linux .*: modes iptables", done.stdout, re.MULTILINE)
    assert "missing" not in done.stdout


def test_fifty_workers():
    with Lab(name="fifty", workers=50) as lab:
        cluster = connect(lab=lab, quiet=True)
        assert list(cluster.nodes()["STATUS"]) == ["Ready"] * 51
        cluster.apply()
        cluster.wait_ready()
        assert list(cluster.visit(4, progress=False)["status"]) == [200] * 4
        cluster.policy("Local")
        assert cluster.visit(4, progress=False)["preserved"].all()
