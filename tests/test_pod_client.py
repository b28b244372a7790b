"""Requests from a pod: what curl says, and the same from a lab's pods and nodes."""

import socket
import ssl
import threading

import pytest
import websocket

from srcip_nb import pod_client
from srcip_nb.clients import find_client
from srcip_nb.errors import ClusterError, UsageError
from srcip_nb.exec_api import BrokeOffError, exec_lines
from srcip_nb.pod_client import failures, result_of, send_from_pod
from srcip_nb.rest import ApiAnswerError
from tests.cluster_fakes import serving

NOW = 1_800_000_000_000_000_000
URL = "http://192.168.1.56/?run=8f1c02d4&request=7"
URLS = ["http://10.1.0.9:80/?run=8f1c02d4&request=0", "http://10.1.0.9:80/?run=8f1c02d4&request=1"]


def of(said, code, exit_code, address="10.0.5.3 40000", seconds="0.250000", words=None):
    found = result_of(f"{said}={URL} {code} {exit_code} {address} {seconds}", NOW, words or {})
    assert found is not None
    assert found[0] == URL
    return found[1]


def test_an_answer():
    assert of("{\x1e}\x1e", "200", "0") == {
        "sent_at": NOW - 250_000_000,
        "client_ip": "10.0.5.3",
        "client_port": 40000,
        "status": 200,
        "error": "",
        "latency_ms": 250.0,
        "body": "{\n}",
    }


@pytest.mark.parametrize(
    ("said", "exit_code", "words", "error"),
    [
        ("", 7, {"192.168.1.56:80": "refused"}, "refused"),
        ("", 7, {}, "unreachable"),
        ("", 28, {}, "timeout"),
        ("", 52, {}, "closed"),
        ("* Recv failure: Connection reset by peer\x1e", 56, {}, "reset"),
        ("", 35, {}, "curl exit code 35"),
    ],
)
def test_no_answer_in_the_words_of_the_table(said, exit_code, words, error):
    found = of(said, "000", exit_code, " 0", words=words)
    assert (found["status"], found["error"], found["client_ip"]) == (None, error, "")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("* connect to 10.1.0.7 port 80 failed: Connection refused", {"10.1.0.7:80": "refused"}),
        ("* connect to 10.1.0.7 port 80 from 10.0.5.3 port 4 failed: No route to host", {"10.1.0.7:80": "unreachable"}),
        ("* connect to 10.1.0.7 port 80 failed: Network unreachable", {"10.1.0.7:80": "unreachable"}),
        ("< HTTP/1.1 200 OK", {}),
    ],
)
def test_why_a_connection_failed_is_read_from_both_of_curls_wordings(line, told):
    assert failures(line) == told


def test_other_lines_are_no_results():
    assert result_of("* connect to 10.1.0.7 port 80 failed: Connection refused", NOW, {}) is None


def test_what_a_shell_would_read_otherwise_is_not_sent():
    request = {"id": 0, "url": "http://192.168.1.56/' ; rm", "headers": {}}
    with pytest.raises(UsageError, match="cannot be asked for from a pod"):
        list(send_from_pod(None, "ns/pod", [request], concurrency=1, timeout=1))


@pytest.fixture
def webserver(cluster):
    cluster.apply()
    cluster.wait_ready()
    return cluster


@pytest.mark.lab
def test_a_pod_and_a_node_of_a_lab_ask_by_the_api_as_on_any_cluster(webserver):
    pods = webserver.pods()
    pod = pods.index[0]
    frame = webserver.visit(20, f"pod/{pod}", target="clusterip")
    assert (frame["status"] == 200).all()
    assert set(frame["client_ip"]) == {pods.loc[pod, "IP"]}
    assert frame["source_ip"].notna().all()
    frame = webserver.visit(4, "node/worker01", target="worker02")
    assert set(frame["client_ip"]) == {"192.168.1.45"}
    assert (frame["status"] == 200).all()
    client = find_client(webserver, "node/worker01")
    assert client.address == "192.168.1.45"
    refused = list(client.send([{"id": 5, "url": "http://127.0.0.1:9/", "headers": {}}], concurrency=2, timeout=1))
    assert [(one["id"], one["error"]) for one in refused] == [(5, "refused")]
    many = [{"id": n, "url": f"http://127.0.0.1:{9 + n % 2}/?request={n}", "headers": {}} for n in range(40)]
    assert sorted(one["id"] for one in client.send(many, concurrency=4, timeout=1)) == list(range(40))


@pytest.mark.lab
def test_a_program_in_a_pod_that_fails_or_hangs_is_told(webserver):
    at = f"seminar/{webserver.pods().index[0]}"
    assert list(exec_lines(webserver, at, ["sh", "-c", "echo a; printf b"], timeout=10)) == ["a", "b"]
    with pytest.raises(ClusterError, match=r"exit code 3|exit status 3.*\(why\)"):
        list(exec_lines(webserver, at, ["sh", "-c", "echo why >&2; exit 3"], timeout=10))
    with pytest.raises(ClusterError, match="did not end in time"):
        list(exec_lines(webserver, at, ["sleep", "20"], timeout=0.5))
    with pytest.raises(ApiAnswerError, match="not found"):
        list(exec_lines(webserver, "seminar/nobody", ["true"], timeout=5))


@pytest.mark.parametrize(
    "words",
    [websocket.WebSocketConnectionClosedException("socket is already closed."), ConnectionResetError(104, "reset")],
)
def test_a_connection_that_is_closed_before_it_stands_broke_off(monkeypatch, words):
    def closed(*_, **__):
        raise words

    monkeypatch.setattr(websocket, "create_connection", closed)
    with serving({}) as (_, cluster), pytest.raises(BrokeOffError, match="before its program began"):
        list(exec_lines(cluster, "seminar/web", ["true"], timeout=1))


def test_a_server_that_ends_it_in_the_middle_of_tls_broke_off():
    def hang_up() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server, serving({}) as (_, cluster):
        cluster.rest.configuration.host = f"https://127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(BrokeOffError, match="before its program began"):
            list(exec_lines(cluster, "seminar/web", ["true"], timeout=1))
        thread.join()


def test_what_has_no_result_yet_is_sent_once_more_where_the_way_breaks_off(monkeypatch):
    """A connection that ends without a word says nothing about the requests; at a rate, time has gone on."""
    asked = []

    def exec_lines(cluster, pod, argv, stdin, timeout):
        text = "".join(stdin)
        asked.append(text.count("http://"))
        yield f"body={URLS[len(asked) - 1]} 200 0 10.0.5.3 40000 0.001"
        if len(asked) < len(URLS):
            raise BrokeOffError("broke off")

    monkeypatch.setattr(pod_client, "exec_lines", exec_lines)
    requests = [{"id": number, "url": url, "headers": {}} for number, url in enumerate(URLS)]
    options = {"concurrency": 8, "timeout": 1.0}
    assert [result["id"] for result in pod_client.send_from_pod(None, "ns/pod", requests, **options)] == [0, 1]
    assert asked == [2, 1]
    asked.clear()
    with pytest.raises(BrokeOffError):
        list(pod_client.send_from_pod(None, "ns/pod", requests, **options, rate=100.0))


@pytest.mark.lab
def test_a_connection_is_never_read_and_written_at_once(webserver, monkeypatch):
    """TLS cannot: what looked like an end was none, and the next connection got what was still being written."""
    using, met = threading.Lock(), []

    def alone(call):
        def watched(self, *given):
            is_alone = using.acquire(blocking=False)
            met.append(is_alone)
            try:
                return call(self, *given)
            finally:
                if is_alone:
                    using.release()

        return watched

    for name in ("send", "recv"):
        monkeypatch.setattr(ssl.SSLSocket, name, alone(getattr(ssl.SSLSocket, name)))
    at = f"seminar/{webserver.pods().index[0]}"
    lines = [f"{number:06} {'x' * 200}\n" for number in range(500)]
    echoed = exec_lines(webserver, at, ["sed", "/^end$/q"], [*lines, "end\n"], timeout=20)
    assert [*echoed] == [line.rstrip() for line in lines] + ["end"]
    assert all(met) and len(met) > len(lines)
