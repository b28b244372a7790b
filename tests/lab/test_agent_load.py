"""The request generator's pure parts, and its loop against a small server on 127.0.0.1; no lab is needed."""

from __future__ import annotations

import errno
import socket
import threading

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
