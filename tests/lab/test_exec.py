"""`kubectl exec`: what a program writes, reads and ends with, over the channels of a websocket."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from typing import Any

import pytest

from srcip_nb.lab.api.podexec import ended
from tests.conftest import KUBECTL, kubectl
from tests.lab.apiserver import api_server

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: shell, namespace: default}
spec:
  containers:
  - {name: one, image: nginx, env: [{name: WHO, value: one}]}
  - {name: two, image: nginx, command: [sleep, "600"], env: [{name: WHO, value: two}]}
"""


def test_how_a_program_ended() -> None:
    assert ended(0) == {"metadata": {}, "status": "Success"}
    assert ended(3)["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert ended(-9)["details"]["causes"][0]["message"] == "137"


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("stdout=true", 400, "you must specify a command for the container"),
        ("command=ls", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("command=ls&stdout=true&container=x", 400, "container x is not valid for pod web"),
        ("command=ls&stdout=true", 400, "pod web does not have a host assigned"),
    ],
)
def test_what_is_asked_wrongly_is_said(query: str, code: int, message: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }
    with api_server() as server:
        assert server.request("GET", f"/api/v1/namespaces/default/pods/none/exec?{query}").status == 404
        server.request("POST", "/api/v1/namespaces/default/pods", pod)
        for method in ("GET", "POST"):
            answer = server.request(method, f"/api/v1/namespaces/default/pods/web/exec?{query}")
            assert (answer.status, answer.body["message"]) == (code, message)
        server.call(server.store.bind, "default", "web", "worker01")
        answer = server.request("GET", "/api/v1/namespaces/default/pods/web/exec?command=ls&stdout=true")
        assert (answer.status, 'container not found ("c")' in answer.body["message"]) == (500, True)


@pytest.fixture(scope="module")
def shell(lab: Any) -> Any:
    kubectl(lab, "apply", "-f", "-", stdin=POD)
    kubectl(lab, "wait", "--for=condition=Ready", "pod/shell", "--timeout=20s")
    yield lab
    kubectl(lab, "delete", "pod", "shell", "--now")


@pytest.mark.lab
def test_output_errors_and_the_exit_code(shell: Any) -> None:
    done = kubectl(shell, "exec", "shell", "-c", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert done.stderr == "err\ncommand terminated with exit code 3\n"
    assert kubectl(shell, "exec", "shell", "-c", "one", "--", "cat", "/proc/1/comm").stdout == "nginx\n"
    assert kubectl(shell, "exec", "shell", "-c", "two", "--", "cat", "/proc/1/comm").stdout == "sleep\n"
    for name in ("one", "two"):
        assert kubectl(shell, "exec", "shell", "-c", name, "--", "sh", "-c", "echo $WHO").stdout == f"{name}\n"
    missing = kubectl(shell, "exec", "shell", "-c", "one", "--", "nosuch", check=False)
    assert (missing.returncode, "nosuch: no such program" in missing.stderr) == (1, True)
    killed = kubectl(shell, "exec", "shell", "-c", "one", "--", "sh", "-c", "kill -9 $$", check=False)
    assert killed.returncode == 137


@pytest.mark.lab
def test_input_is_handed_on_to_its_end(shell: Any) -> None:
    text = "".join(f"line {number}\n" for number in range(20000))
    assert kubectl(shell, "exec", "-i", "shell", "-c", "one", "--", "cat", stdin=text).stdout == text


@pytest.mark.lab
def test_a_terminal_has_the_size_of_the_readers_own(shell: Any) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    argv = [str(KUBECTL), "--kubeconfig", str(shell.kubeconfig), "exec", "-it", "shell", "-c", "one", "--", "sh"]
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said, deadline = b"", time.monotonic() + 20
    try:
        os.write(ours, b"until [ \"$(stty size)\" = '33 99' ]; do :; done; tty; echo it is $((40+2)); exit 5\n")
        while b"it is 42" not in said and time.monotonic() < deadline:
            said += os.read(ours, 4096)
        assert process.wait(10) == 5
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"/dev/pts/" in said


@pytest.mark.lab
def test_a_program_ends_with_the_client_that_asked_for_it(shell: Any) -> None:
    argv = [str(KUBECTL), "--kubeconfig", str(shell.kubeconfig), "exec", "shell", "-c", "one", "--"]
    process = subprocess.Popen([*argv, "sh", "-c", "echo up; exec sleep 4711"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while "sleep 4711" in shell.client.exec("default/shell", ["ps", "-e", "-o", "args="]).stdout:
        assert time.monotonic() < deadline


PYTHON_CLIENT = """
import sys
from kubernetes import client, config
from kubernetes.stream import stream

config.load_kube_config(sys.argv[1])
call = client.CoreV1Api().connect_get_namespaced_pod_exec
wanted = dict(container="one", stdout=True, stderr=True, stdin=False, tty=False, _preload_content=False)
running = stream(call, "shell", "default", command=["sh", "-c", "hostname; exit 4"], **wanted)
running.run_forever(timeout=10)
print(running.read_stdout(), running.returncode)
"""


@pytest.mark.lab
def test_the_python_client_can_exec(shell: Any) -> None:
    argv = [sys.executable, "-c", PYTHON_CLIENT, str(shell.kubeconfig)]  # a process of its own: it leaves sockets open
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.stdout == "shell\n 4\n", done.stderr
