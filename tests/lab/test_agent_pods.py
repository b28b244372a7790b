"""Pods: their files, their programs, what they write, and how they end."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest

from srcip_nb.lab.kernel import AgentError, native
from tests.lab.agentlab import NGINX, NGINX_CONF, KernelLab, kernel_lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab():
    with kernel_lab() as lab:
        yield lab


@pytest.fixture
def pod(lab: KernelLab):
    lab.events.clear()
    pod = lab.add_pod("files", "worker01", "10.0.5.20", {"/etc/app/one": "eins\n"})
    yield pod
    lab.call("pod_del", pod=pod)


def events(lab: KernelLab, kind: str) -> list[dict]:
    return [event for event in lab.events if event["event"] == kind]


def test_real_nginx_answers_and_logs(lab: KernelLab):
    lab.events.clear()
    pod = lab.add_nginx("nginx", "worker01", "10.0.5.8")
    lab.call("pod_write", pod=pod, files={"/usr/share/nginx/html/index.html": "<h1>hello</h1>\n"})
    assert lab.get("worker01", "http://10.0.5.8/")["body"] == "<h1>hello</h1>\n"
    assert "http {" in lab.exec(pod, "cat", "/etc/nginx/nginx.conf")
    lab.get("worker01", "http://10.0.5.8/missing")
    lab.wait_for(lambda: any("/missing" in e["text"] for e in events(lab, "log") if e["stream"] == "stderr"))
    assert any('"GET / HTTP/1.1" 200 15' in e["text"] for e in events(lab, "log") if e["stream"] == "stdout")
    # nginx is the first process of its own, as in a container.
    listed = [line.split() for line in lab.exec(pod, "ps", "-e", "-o", "pid=,comm=").splitlines()]
    assert listed[0] == ["1", "nginx"]
    assert {name for _, name in listed} == {"nginx", "ps"}
    assert lab.call("stop", pod=pod, container="nginx", signal="QUIT", grace=5) == {"code": 0}
    assert [(e["container"], e["code"]) for e in events(lab, "exited")] == [("nginx", 0)]
    lab.call("start", pod=pod, container="nginx", argv=NGINX)
    while lab.get("worker01", "http://10.0.5.8/")["error"] == "refused":
        pass
    lab.call("pod_del", pod=pod)
    assert lab.get("worker01", "http://10.0.5.8/")["error"] != ""


def test_log_times_rise_strictly_and_lines_are_whole(lab: KernelLab, pod):
    lines = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf rest"
    script = lines + "; head -c 40000 /dev/zero | tr '\\0' x >&2"
    lab.call("start", pod=pod, container="app", argv=["sh", "-c", script])
    lab.wait_for(lambda: events(lab, "exited"))
    logs = events(lab, "log")
    text = "".join(event["text"] for event in logs if event["stream"] == "stdout")
    assert text == "".join(f"line {i}\n" for i in range(2000)) + "rest\n"
    assert all(event["text"].endswith("\n") for event in logs)
    lengths = [len(line) for event in logs if event["stream"] == "stderr" for line in event["text"].splitlines()]
    assert lengths == [16384, 16384, 7232]
    last = 0
    for event in logs:
        assert event["time"] > last
        last = event["time"] + event["text"].count("\n") - 1
    assert lab.events[-1]["event"] == "exited"


def test_files_of_a_pod_are_its_own(lab: KernelLab, pod):
    content = {"/etc/app/two": "zwei", "/srv/deep/down/three": {"base64": base64.b64encode(b"\0\xff").decode()}}
    lab.call("pod_write", pod=pod, files=content, remove=["/etc/app/one", "/etc/app/never"])
    assert lab.exec(pod, "ls", "/etc/app").split() == ["two"]
    assert lab.exec(pod, "od", "-An", "-tx1", "/srv/deep/down/three").split() == ["00", "ff"]
    lab.exec(pod, "sh", "-c", "echo mine > /etc/motd; rm -f /etc/passwd; echo 1 > /usr/mine || true")
    for path in ("/etc/app", "/srv/deep", "/usr/mine"):
        assert lab.call("exec", host="worker01", argv=["test", "-e", path])["code"] == 1
    assert "root:" in lab.exec("worker01", "cat", "/etc/passwd")
    assert lab.exec(pod, "hostname") == "files\n"
    assert lab.exec(pod, "getent", "hosts", "files").split() == ["10.0.5.20", "files"]
    assert lab.exec(pod, "getent", "hosts", "client").split() == ["192.168.1.122", "client"]
    assert lab.exec(pod, "ls", "/sys/class/net").split() == ["eth0", "lo"]


def test_files_have_modes_and_may_be_links(lab: KernelLab, pod):
    lab.call(
        "pod_write",
        pod=pod,
        files={"/srv/run": {"text": "#!/bin/sh\necho ran\n", "mode": 0o755}, "/srv/l": {"link": "run"}},
    )
    assert lab.exec(pod, "/srv/l") == "ran\n"
    lab.call("pod_write", pod=pod, files={"/srv/l": "text now"})
    assert lab.exec(pod, "cat", "/srv/l") == "text now"
    assert lab.call("exec", host=pod, argv=["test", "-x", "/srv/l"])["code"] == 1


def test_a_volume_hides_what_the_image_has_there(lab: KernelLab):
    files = {"/usr/share/nginx/html/index.html": "mine"}
    pod = lab.add_pod("volume", "worker02", "10.0.30.70", files, empty=["/usr/share/nginx/html"])
    assert lab.exec(pod, "ls", "/usr/share/nginx/html").split() == ["index.html"]
    lab.call("pod_del", pod=pod)


def test_a_pod_that_cannot_be_made_leaves_nothing(lab: KernelLab):
    before = lab.call("stats")["namespaces"]
    with pytest.raises(AgentError, match="not an absolute path"):
        lab.add_pod("bad", "worker01", "10.0.5.30", {"etc/x": ""})
    with pytest.raises(AgentError, match="neither text nor"):
        lab.add_pod("bad", "worker01", "10.0.5.30", {"/etc/x": 7})
    with pytest.raises(AgentError, match="File exists"):
        lab.add_pod("bad", "worker01", "10.0.5.30", {"/etc/passwd/x": ""})
    text = "ip netns add seminar.bad\nip -n seminar.bad link set eth7 up\n"
    with pytest.raises(AgentError, match="eth7"):
        lab.call("pod_add", pod="seminar/bad", text=text)
    with pytest.raises(AgentError, match="its text makes one namespace"):
        lab.call("pod_add", pod="seminar/bad", text="")
    assert lab.call("stats")["namespaces"] == before
    pod = lab.add_pod("bad", "worker01", "10.0.5.30")
    with pytest.raises(AgentError, match="exists already"):
        lab.add_pod("bad", "worker01", "10.0.5.30")
    lab.call("pod_del", pod=pod)
    assert "10.0.5.30" not in lab.exec("worker01", "ip", "route")


def test_a_pods_address_can_be_used_again_at_once(lab: KernelLab):
    for _ in range(3):
        pod = lab.add_nginx("again", "worker01", "10.0.5.9")
        assert lab.get("worker02", "http://10.0.5.9/who")["body"] == "10.0.30.64\n"
        lab.call("pod_del", pod=pod)
    with pytest.raises(AgentError, match="there is no pod seminar/again"):
        lab.call("pod_del", pod="seminar/again")


def test_containers_end_as_the_kernel_says(lab: KernelLab, pod):
    with pytest.raises(AgentError, match="nothere: no such program"):
        lab.call("start", pod=pod, container="app", argv=["nothere"])
    lab.call("start", pod=pod, container="app", argv=["sh", "-c", "sleep 80 & echo up; exec sleep 80"])
    with pytest.raises(AgentError, match="runs already"):
        lab.call("start", pod=pod, container="app", argv=["true"])
    lab.wait_for(lambda: events(lab, "log"))
    # The first process of a pid namespace takes no signal that it has no handler for: the grace period runs out.
    assert lab.call("stop", pod=pod, container="app", signal="TERM", grace=0.1) == {"code": -9}
    assert lab.call("stop", pod=pod, container="app") == {"code": None}
    assert "sleep 80" not in lab.exec("worker01", "ps", "-e", "-o", "args=")
    lab.call("start", pod=pod, container="app", argv=["sh", "-c", "exit 4"])
    lab.wait_for(lambda: len(events(lab, "exited")) == 2)
    assert events(lab, "exited")[-1]["code"] == 4


def test_a_kernel_without_overlay(monkeypatch):
    """The pod's files are the same, the machine's stay as they are, and nginx runs."""
    blind = "import sys; sys.path.append(sys.argv[1]); from agent import podroot, server; "
    blind += "podroot.has_overlay = lambda: False; sys.exit(server.main())"
    monkeypatch.setattr(native, "PYTHON", (sys.executable, "-I", "-S", "-c", blind, str(native.AGENT.parent)))
    with kernel_lab() as lab:
        assert lab.agent.ready["features"]["overlay"] is False
        pod = lab.add_nginx("plain", "worker01", "10.0.5.8")
        assert lab.exec(pod, "cat", "/etc/nginx/nginx.conf") == NGINX_CONF
        assert lab.exec(pod, "ls", "/sys/class/net").split() == ["eth0", "lo"]
        assert lab.exec("worker01", "cat", "/etc/nginx/nginx.conf") == Path("/etc/nginx/nginx.conf").read_text()
        done = lab.call("exec", host=pod, argv=["touch", "/usr/mine"])
        assert "Read-only file system" in done["stderr"]
        lab.call("pod_write", pod=pod, files={"/etc/nginx/more.conf": "x"})
        assert lab.call("exec", host="worker01", argv=["test", "-e", "/etc/nginx/more.conf"])["code"] == 1
        lab.call("pod_write", pod=pod, files={"/srv/x/y": "x"})
        assert not Path("/srv/x").exists()
        with pytest.raises(AgentError, match=r"pod seminar/plain: .*Read-only file system"):
            lab.call("pod_write", pod=pod, files={"/usr/x/y": "x"})


def test_deleting_a_pod_kills_what_runs_there(lab: KernelLab):
    pod = lab.add_pod("busy", "worker01", "10.0.5.40")
    lab.call("start", pod=pod, container="app", argv=["sleep", "81"])
    lab.exec(pod, "sh", "-c", "sleep 82 &")
    lab.call("pod_del", pod=pod)
    while "sleep 8" in lab.exec("worker01", "ps", "-e", "-o", "args="):
        pass
