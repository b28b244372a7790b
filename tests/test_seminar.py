"""A seminar of two seats: links lead to JupyterLab, checks appear on the page, and nothing outlives it."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from srcip_nb.lab.state import Process, running_labs
from srcip_nb.seats import environment, jupyter_process, link
from srcip_nb.seminar import find
from srcip_nb.seminar_rows import count_checks
from tests.lab.test_lifecycle import GONE_WITHIN, Traces, processes_below, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

PORT = str(20000 + os.getpid() % 10000)  # below what Linux gives out by itself (32768 and up)
JUPYTER_WITHIN = 30.0  # seconds; it ends its kernels first
AT_A_SEAT = """
from srcip_nb import connect
from srcip_nb.notebook import begin, conclude
begin("02")
cluster = connect(quiet=True)
conclude(f"this is {cluster.lab.name if cluster.lab else cluster.namespace}", True, "", "")
conclude("this does not hold", False, "", "")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the seminars of this module have their folders."""
    return tmp_path_factory.mktemp("seminars")


@pytest.fixture(autouse=True)
def _none_is_left():
    yield
    running = find()
    if running:
        os.kill(running.process.pid, signal.SIGKILL)


def seminar(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "srcip_nb", "seminar", *words]
    return subprocess.run(command, text=True, capture_output=True, timeout=120)


def get(url: str) -> tuple[int, str, str]:
    """Status, the address where it led, and the text."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.url, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, url, error.read().decode()


def start_kernel(seat) -> int:
    headers = {"Authorization": f"token {seat.token}"}
    asked = urllib.request.Request(f"http://127.0.0.1:{seat.port}/{seat.name}/api/kernels", b"{}", headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return answer.status


def work_at(running, seat) -> str:
    """Run what a notebook would, where a kernel of that seat would."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_A_SEAT],
        env=environment(running.seminar, seat),
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_up_to_a_killed_seminar(place):
    up = seminar("up", "--seats", "2", "--folder", str(place / "room"), "--port", PORT)
    assert up.returncode == 0, up.stderr
    running = find()
    assert running.page in up.stdout and running.links in up.stdout
    first, second = running.seminar.seats

    for wrong in (f"{running.page}x", running.page.replace(running.seminar.token, first.token)):
        assert get(wrong)[0] == 403
    assert get(link(running.seminar, first, "127.0.0.1").replace(first.token, second.token))[0] == 403
    assert "not opened" in get(running.page)[2]
    assert first.token in get(running.links)[2]

    # the first click starts JupyterLab, and leads there once it answers
    seat_link = link(running.seminar, first, "127.0.0.1")
    assert wait_until(lambda: f":{first.port}/seat-01/lab/tree/notebooks/en/" in get(seat_link)[1], 60)
    assert get(f"http://127.0.0.1:{first.port}/seat-01/api/contents?token={first.token}")[0] == 200
    assert get(f"http://127.0.0.1:{first.port}/seat-01/api/contents?token={second.token}")[0] == 403
    assert jupyter_process(running.seminar, first) and not jupyter_process(running.seminar, second)

    work_at(running, second)
    counted = f"1/{count_checks('en')['02']}"
    listed = seminar("list").stdout.splitlines()[2].split()
    assert listed[:6] == ["seat-02", "running", "not", "opened", "02", counted]
    assert "this does not hold" in get(running.page)[2]

    labs = [lab for seat in running.seminar.seats for lab in running_labs(running.seminar.labs(seat))]
    assert [(lab.name, lab.owner) for lab in labs] == [("lab", running.process)] * 2
    traces = [Traces(lab) for lab in labs]
    assert start_kernel(first) == 201
    everything = processes_below(running.process.pid)
    os.kill(running.process.pid, signal.SIGKILL)
    assert wait_until(lambda: [left for trace in traces for left in trace.left()] == [], GONE_WITHIN)
    assert wait_until(lambda: not any(process.alive for process in everything), JUPYTER_WITHIN), "JupyterLab still runs"
    assert seminar("list").returncode == 1
    assert seminar("down").returncode == 0, "it tidies up"


def test_up_again_and_down(place):
    room = place / "room"
    up = seminar("up", "--seats", "1", "--folder", str(room), "--port", PORT)
    assert up.returncode == 0, up.stderr
    running = find()
    (seat,) = running.seminar.seats
    again = seminar("up", "--seats", "1", "--folder", str(room), "--port", PORT)
    assert again.returncode == 2 and "is up already" in again.stderr
    (lab,) = running_labs(running.seminar.labs(seat))
    own = environment(running.seminar, seat)
    more = subprocess.run([sys.executable, "-m", "srcip_nb", "lab", "up", "--name", "more"], env=own, timeout=60)
    assert more.returncode == 0
    traces = [Traces(one) for one in running_labs(running.seminar.labs(seat))]
    assert len(traces) == 2
    assert seminar("down").returncode == 0
    assert [left for trace in traces for left in trace.left()] == []
    assert not Process.of(running.process.pid) and room.is_dir()

    taken = seminar("up", "--seats", "1", "--folder", str(room), "--port", lab.url.rpartition(":")[2], "--listen", "x")
    assert taken.returncode == 2 and "cannot be had" in taken.stderr
    assert find() is None


def test_namespaces_of_a_cluster_instead_of_labs(place, lab, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(lab.kubeconfig))
    words = ("up", "--seats", "2", "--folder", str(place / "cluster"), "--port", PORT, "--prefix", "class")
    assert seminar(*words, "--context", "nowhere").returncode == 2
    up = seminar(*words, "--context", f"srcip-lab-{lab.name}")
    assert up.returncode == 0, up.stderr
    running = find()
    started = time.monotonic()
    work_at(running, running.seminar.seats[1])
    assert time.monotonic() - started < 60
    assert not any(running_labs(running.seminar.labs(seat)) for seat in running.seminar.seats)
    rights = seminar("rbac").stdout
    assert "namespace: class-01" in rights and "namespace: class-02" in rights
    down = seminar("down", "--discard")
    assert down.returncode == 0 and not (place / "cluster").exists()
