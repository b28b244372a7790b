"""The request generator's pure parts, and its loop against a small server on 127.0.0.1; no lab is needed."""

from __future__ import annotations

import errno
import itertools
import socket
import threading
import time

import pytest

from srcip_nb.lab.agent import load


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nhello", (200, "hello")),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", (404, "")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
            (200, "hello!"),
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", (200, "")),
        (b"HTTP/1.0 200\r\n\r\n" + b"x" * 500, (200, "x" * 200)),
        (b"HTTP/1.1 200 OK\r\n", (None, "")),
        (b"SSH-2.0-x\r\n\r\n", (None, "")),
        (b"", (None, "")),
        (b"HTTP/1.1 abc\r\n\r\n", (None, "")),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff", (200, "�")),
    ],
)
def test_answers(data, expected):
    assert load.parse_answer(data) == expected


def test_a_request_is_written_as_curl_would():
    target = load.Target("http://worker01:32305/a", {"user-agent": "mine", "x-id": "7"})
    assert (target.host, target.port) == ("worker01", 32305)
    assert target.request("run=1&request=2") == (
        b"GET /a?run=1&request=2 HTTP/1.1\r\nHost: worker01:32305\r\nUser-Agent: mine\r\nAccept: */*\r\nX-Id: 7\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert load.Target("http://h", {}).request("").startswith(b"GET / HTTP/1.1\r\nHost: h\r\n")


@pytest.mark.parametrize("url", ["ftp://h/", "http://", "worker01", "http://h:99999/"])
def test_what_is_no_url(url):
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        _ = load.Target(url, {}).port


def test_a_header_cannot_smuggle_a_line():
    with pytest.raises(ValueError, match="line break"):
        load.Target("http://h/", {"x": "a\r\nHost: evil"})
    with pytest.raises(ValueError, match="line break"):
        load.Target("http://h/", {}).request("a\r\nHost: evil")


def test_words_for_errors():
    assert load.error_word(errno.ECONNREFUSED) == "refused"
    assert load.error_word(errno.ENETUNREACH) == "unreachable"
    assert load.error_word(errno.EADDRNOTAVAIL) == "Cannot assign requested address"


def serve(answer: bytes, count: int, seen: list[bytes] | None = None) -> str:
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with server:
            for _ in range(count):
                connection, _ = server.accept()
                with connection:
                    request = connection.recv(4096)
                    if seen is not None:
                        seen.append(request)
                    connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_requests_of_one_run_differ_in_path_query_and_headers():
    seen: list[bytes] = []
    url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 4, seen)
    asked = [("", {}), ("?a=1", {}), ("b?a=2#here", {}), ("?a=1", {"X-Id": "7"})]
    requests = [{"id": at, "url": url + rest, "headers": headers} for at, (rest, headers) in enumerate(asked)]
    assert sum(len(batch) for batch in load.visit(requests, concurrency=1)) == 4
    lines = [request.split(b" HTTP")[0] for request in seen]
    assert lines == [b"GET /", b"GET /?a=1", b"GET /b?a=2", b"GET /?a=1"]
    assert [b"X-Id: 7" in request for request in seen] == [False, False, False, True]


def test_visits_without_a_lab():
    url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 30)
    results = [r for batch in load.visit([{"id": n, "url": url} for n in range(30)], concurrency=5) for r in batch]
    assert sorted(r["id"] for r in results) == list(range(30))
    assert {(r["status"], r["error"], r["body"], r["client_ip"]) for r in results} == {(200, "", "ok", "127.0.0.1")}
    assert all(r["latency_ms"] > 0 for r in results)


def test_a_copy_of_a_socket_in_another_process_does_no_harm(monkeypatch):
    """A program that is being started just then has copies of all sockets until it runs: they outlive their closing."""
    copies, end = [], load.Visitor._end

    def end_with_a_copy(self, exchange, error, *when):
        if exchange.socket:
            copies.append(exchange.socket.dup())
        end(self, exchange, error, *when)

    monkeypatch.setattr(load.Visitor, "_end", end_with_a_copy)
    url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 30)
    results = [r for batch in load.visit([{"id": n, "url": url} for n in range(30)], concurrency=5) for r in batch]
    for copy in copies:
        copy.close()
    assert [r["status"] for r in results] == [200] * 30


@pytest.mark.parametrize("length", [None, 200_000])
def test_a_long_answer_is_read_to_its_end(length):
    head = b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: %d\r\n" % length if length else b"") + b"\r\n"
    url = serve(head + b"y" * 200_000, 1)
    (result,) = [r for batch in load.visit([{"id": "a", "url": url}]) for r in batch]
    assert (result["status"], result["error"], result["body"]) == (200, "", "y" * 200)


def test_an_empty_run():
    assert list(load.visit([])) == []


def test_time_in_which_the_machine_stood_still_is_not_counted():
    """Here the loop stands still where it asks whether to stop, and the server answers a while after its end."""
    server = socket.create_server(("127.0.0.1", 0))
    stood_still = threading.Event()

    def run() -> None:
        with server:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                assert stood_still.wait(20)
                time.sleep(0.3)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    asked = itertools.count()

    def stand_still() -> bool:
        if next(asked) == 1:  # the first time no request is on its way yet
            time.sleep(2.5)
            stood_still.set()
        return False

    answering = threading.Thread(target=run)
    answering.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    (result,) = (r for batch in load.visit([{"id": 1, "url": url}], timeout=1.0, is_stopped=stand_still) for r in batch)
    answering.join()
    assert (result["status"], result["error"]) == (200, "")
    assert result["latency_ms"] > 2500


def test_patience_ends_however_slow_the_machine_is():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        turns = 0

        def is_slow() -> bool:
            nonlocal turns
            turns += 1
            time.sleep(0.7)
            return False

        visited = load.visit([{"id": 1, "url": url}], timeout=1.0, is_stopped=is_slow)
        assert [r["error"] for batch in visited for r in batch] == ["timeout"]
    assert 2 <= turns <= 5
