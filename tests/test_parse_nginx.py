"""What a real nginx writes is what parse() reads: every request sent comes back, byte for byte."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time

import pytest

from srcip_nb.parse import parse, unescape

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log notice;
events {{}}
http {{
    log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
                    '"$http_user_agent" "$http_x_forwarded_for"';
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}; server_name localhost; root {folder}/html;
        access_log {folder}/log main;
        location /combined {{ access_log {folder}/log combined; }}
    }}
}}
"""


@pytest.fixture
def nginx(tmp_path):
    """A running nginx: its port, and a function that stops it and returns its log."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    (tmp_path / "html").mkdir()
    (tmp_path / "nginx.conf").write_text(CONFIGURATION.format(folder=tmp_path, port=port))
    words = [NGINX, "-e", str(tmp_path / "log"), "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                process.wait()
                pytest.fail(f"nginx does not start: {(tmp_path / 'log').read_text()[-300:]}")
            time.sleep(0.01)

    def stop() -> bytes:
        process.terminate()
        process.wait(timeout=10)
        return (tmp_path / "log").read_bytes()

    yield port, stop
    if process.poll() is None:
        process.kill()
        process.wait()


def send(port: int, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        while connection.recv(1 << 16):
            pass


def test_whatever_a_visitor_sends_is_read_back(nginx):
    port, stop = nginx
    dice = random.Random(1)
    header_bytes = [bytes([byte]) for byte in range(1, 256) if byte not in b"\r\n"]
    agents = [b"".join(dice.choices(header_bytes, k=30)).strip(b" ") for _ in range(200)]
    for number, agent in enumerate(agents):
        path = b"/combined" if number % 5 == 0 else b"/"
        send(port, b"GET %s?run=0123abcd&request=%d HTTP/1.1\r\nHost: h\r\nConnection: close\r\nUser-Agent: %s\r\n"
             b"Referer: %s\r\n\r\n" % (path, number, agent, agent[::-1].strip(b" ")))  # fmt: skip
    frame = parse(stop())
    frame = frame[frame["status"].notna()].set_index("request")
    assert (frame["remote_addr"] == "127.0.0.1").all()
    assert frame["kind"].tolist() == ["access_combined", *["access_main"] * 4] * 40
    assert unescape(frame["user_agent"]).tolist() == [agent.decode("utf-8", "replace") for agent in agents]
    assert unescape(frame["referer"]).tolist() == [
        agent[::-1].strip(b" ").decode("utf-8", "replace") for agent in agents
    ]


def test_requests_that_are_none_are_rows_too(nginx):
    port, stop = nginx
    send(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    send(port, b"GET /missing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    send(port, b'GET /a"b HTTP/1.1\r\nHost: h\r\nConnection: close\r\nReferer: x", host: "y\r\n\r\n')
    send(port, b"GET /%2C%20client%3A%206.6.6.6 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    frame = parse(stop())
    assert set(frame["kind"]) == {"access_main", "error_process", "error_request"}
    access = frame[frame["kind"] == "access_main"]
    assert access["status"].tolist() == [400, 404, 404, 404]
    assert access["uri"].iloc[0].startswith(r"\x16\x03\x01\x02")
    assert access["method"].isna().tolist() == [True, False, False, False]
    errors = frame[frame["kind"] == "error_request"]
    assert errors["client"].tolist()[:2] == ["127.0.0.1", "127.0.0.1"]
    assert errors["client"].isna().tolist()[2:] == [True]  # the forged one: nobody can tell which address is nginx's
    assert errors["uri"].tolist()[:2] == ["/missing", '/a"b']
    assert frame["level"].notna().sum() == len(frame) - len(access)
