"""srcip-nb logs: which lines are shown, how they look, and how following ends."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from srcip_nb.cli import main
from srcip_nb.errors import UsageError
from srcip_nb.logs_lines import Filter, Line, Table, highlighted, json_of, lines_of, raw_of, seconds_of, table_of
from srcip_nb.logs_query import containers_of

ACCESS = '10.0.5.0 - - [15/Oct/2023:04:23:57 +0000] "GET / HTTP/1.1" 200 292 "-" "curl/7.81.0" "-"'
FIRST = Line(
    "2023-10-15T04:23:57.128091048Z",
    "seminar",
    "webserver-68c554c9f6-ck6h2",
    "nginx",
    "worker02",
    "deployment/webserver",
    0,
    ACCESS,
    "10.0.5.0",
    "worker01",
)
SECOND = replace(FIRST, pod="web-1", node="worker01", message="starting", source="", owner="")
POD = {
    "metadata": {
        "name": "webserver-68c554c9f6-ck6h2",
        "namespace": "seminar",
        "uid": "u",
        "labels": {"pod-template-hash": "68c554c9f6"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "webserver-68c554c9f6", "controller": True}],
    },
    "spec": {
        "nodeName": "worker02",
        "containers": [{"name": "nginx"}],
        "initContainers": [{"name": "once"}, {"name": "proxy", "restartPolicy": "Always"}],
    },
    "status": {
        "containerStatuses": [{"name": "nginx", "restartCount": 0, "state": {"running": {}}}],
        "initContainerStatuses": [{"name": "proxy", "restartCount": 2, "state": {"running": {}}}],
    },
}


def test_a_table_grows_with_what_it_meets():
    table = Table()
    assert table([SECOND]) == (
        "POD    CONTAINER  NODE      SOURCE  OWNER  LINE\nweb-1  nginx      worker01  -       -      starting\n"
    )
    assert table([FIRST, SECOND]) == (
        f"webserver-68c554c9f6-ck6h2  nginx      worker02  10.0.5.0  worker01  {ACCESS}\n"
        "web-1                       nginx      worker01  -         -         starting\n"
    )
    assert table([]) == ""


def test_a_table_with_times_namespaces_and_colours():
    table = Table(color=True, highlight=[re.compile("art")], timestamps=True, namespaces=True)
    assert table([SECOND]).splitlines()[1] == (
        "2023-10-15T04:23:57.128091048Z  seminar    \x1b[34mweb-1\x1b[0m  \x1b[34mnginx    \x1b[0m  worker01  "
        "-       -      st\x1b[1;31mart\x1b[0ming"
    )


def test_json_has_sterns_names_and_three_more():
    assert json.loads(json_of([FIRST])) == {
        "time": "2023-10-15T04:23:57.128091048Z",
        "message": ACCESS,
        "nodeName": "worker02",
        "namespace": "seminar",
        "podName": "webserver-68c554c9f6-ck6h2",
        "containerName": "nginx",
        "restarts": 0,
        "workload": "deployment/webserver",
        "source": "10.0.5.0",
        "owner": "worker01",
    }
    assert json.loads(json_of([SECOND]))["source"] is None


def test_raw_is_what_the_container_wrote():
    assert raw_of([FIRST, SECOND]) == f"{ACCESS}\nstarting\n"
    assert raw_of([SECOND], timestamps=True) == "2023-10-15T04:23:57.128091048Z starting\n"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [([], "aabb"), (["ab"], "a<ab>b"), (["a+", "ab"], "<aa><b>b"), (["x*"], "aabb"), (["b", "a"], "<a><a><b><b>")],
)
def test_what_is_highlighted(patterns, expected):
    marked = highlighted("aabb", [re.compile(pattern) for pattern in patterns])
    assert marked.replace("\x1b[1;31m", "<").replace("\x1b[0m", ">") == expected


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("2m", 120), ("48h0m0s", 172_800), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25)]
)
def test_durations_as_go_writes_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "0s", "-5s", "1d", "5s "])
def test_what_is_no_duration(text):
    with pytest.raises(UsageError, match="--since 30s"):
        seconds_of(text)


def test_lines_to_include_and_to_exclude():
    shown = Filter([re.compile("a"), re.compile("b")], [re.compile("no")])
    assert [text for text in ("a", "xbx", "c", "a no") if shown.takes(text)] == ["a", "xbx"]
    assert Filter().takes("")


def test_lines_of_a_batch_and_whose_address_it_is():
    nginx, sidecar = containers_of(POD)
    assert (sidecar.name, sidecar.restarts) == ("proxy", 2)
    error = '2023/10/15 04:23:57 [error] 29#29: *1 open() "/x" failed, client: 10.0.5.9, server: localhost'
    data = f"{FIRST.time} {ACCESS}\n{FIRST.time} {error}\nunable to retrieve container logs\n".encode()
    owners = {"10.0.5.0": "worker01"}
    lines = lines_of([(nginx, 0, data)], lambda address: owners.get(address, ""))
    assert lines[0] == FIRST
    assert (lines[1].source, lines[1].owner) == ("10.0.5.9", "")
    assert (lines[2].time, lines[2].message) == ("", "unable to retrieve container logs")


def test_a_table_for_parquet_has_the_typed_columns_and_ours():
    nginx = containers_of(POD)[0]
    late, early = "2023-10-15T04:23:58Z", "2023-10-15T04:23:57.5Z"
    batches = [(nginx, 0, f"{late} starting\n{early} {ACCESS}\n{late} left out\n".encode())]
    frame = table_of(batches, lambda _: "worker01", Filter(exclude=[re.compile("left")]))
    assert frame["text"].tolist() == [ACCESS, "starting"]
    assert frame["remote_addr"].tolist()[0] == "10.0.5.0"
    assert frame[["workload", "source", "owner"]].fillna("").to_numpy().tolist() == [
        ["deployment/webserver", "10.0.5.0", "worker01"],
        ["deployment/webserver", "", ""],
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "parquet"], "-o parquet writes a file"),
        (["--out", "x.parquet"], "--out is for -o parquet"),
        (["(", "--no-follow"], "not a regular expression"),
        (["-i", "("], "not a regular expression"),
        (["-c", "("], "not a regular expression"),
        (["web", "-l", "app=web"], "PODS and --selector"),
        (["deployment/web", "-A"], "in one namespace"),
        (["--tail", "-2"], "tail is -2"),
        (["--since", "5"], "no duration"),
    ],
)
def test_wrong_use_is_said_before_anything_is_asked(words, says, capsys):
    assert main(["logs", *words]) == 2
    assert says in capsys.readouterr().err


@pytest.fixture
def follow_in_shell(cluster, lab):
    """``srcip-nb logs`` of running pods, as a shell runs it; ended when the test does not."""
    cluster.apply()
    cluster.wait_ready()
    running = []

    def run(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "srcip_nb", "logs", "--lab", lab.name, *words]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0))
        return running[-1]

    yield run
    for one in running:
        one.kill()
        one.communicate()


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    assert select.select([process.stdout], [], [], 20)[0], "no line came"
    return process.stdout.readline()


@pytest.mark.lab
def test_ctrl_c_ends_following_quietly_and_lines_come_one_by_one(cluster, follow_in_shell):
    process = follow_in_shell("-i", "GET", "-o", "json", "--tail", "0")
    while not select.select([process.stdout], [], [], 1)[0]:  # until it is at work
        cluster.visit(2)
    run = cluster.visit(4)["run"].iloc[0]
    asked = {}
    while len(asked) < 4:
        line = json.loads(line_of(process))
        found = re.search(rf"run={run}&request=(\d)", line["message"])
        if found:
            asked[found[1]] = line
    owners = {(line["nodeName"], line["source"], line["owner"]) for line in asked.values()}
    assert owners <= {("worker02", "10.0.5.0", "worker01"), ("worker01", "192.168.1.45", "worker01")}
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stderr.read() == b""


@pytest.mark.lab
def test_a_reader_that_goes_ends_following_quietly(follow_in_shell):
    process = follow_in_shell("-o", "raw")
    line_of(process)
    process.stdout.close()
    process.stdout = None
    assert process.wait(20) == 1
    assert process.stderr.read() == b""


@pytest.mark.lab
def test_parquet_is_written_on_ctrl_c(cluster, follow_in_shell, tmp_path):
    path = tmp_path / "logs.parquet"
    process = follow_in_shell("-o", "parquet", "--out", str(path), "-i", "worker process")
    assert f"writes {path}" in process.stderr.readline().decode()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    frame = pd.read_parquet(path)
    assert {"workload", "text", "node", "remote_addr"} <= set(frame)  # also where no line had come yet
    assert set(frame["workload"]) <= {"deployment/webserver"}
    assert frame["text"].str.contains("worker process").all()


@pytest.mark.lab
def test_what_is_written_once_in_the_order_of_time(cluster, lab, cli):
    cluster.apply()
    cluster.wait_ready()
    run = cluster.visit(6)["run"].iloc[0]
    done = cli("logs", "--lab", lab.name, "deploy/webserver", "--no-follow", "-i", run, "-o", "json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert len(lines) == 6
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    none = cli("logs", "--lab", lab.name, "no-such-pod", "--no-follow")
    assert (none.returncode, none.stdout) == (1, "")
    assert "no pod with a log" in none.stderr
