"""What a line of nginx's output is, and what parse() takes and refuses."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from srcip_nb.errors import UsageError
from srcip_nb.parse import parse, parse_with_re, unescape
from srcip_nb.parse_lines import KINDS, Row, read_line

DATA = Path(__file__).parent / "data" / "logs"
MAIN = '192.168.1.45 - - [15/Oct/2023:04:23:58 +0000] "GET / HTTP/1.1" 200 292 "-" "Firefox" "-"'
ERROR = (
    '2023/10/15 04:23:57 [error] 29#29: *1 open() "/usr/share/nginx/html/favicon.ico" failed (2: No such file or '
    'directory), client: 10.0.5.0, server: localhost, request: "GET /favicon.ico HTTP/1.1", host: "192.168.1.56", '
    'referrer: "http://192.168.1.56/"'
)
AT = 1697343838_000_000_000  # 2023-10-15 04:23:58 UTC, in nanoseconds


def test_the_posts_log_as_stern_printed_it():
    frame = parse(DATA / "seed-stern.log", prefix="stern")
    assert frame["kind"].astype(str).tolist() == [
        *["access_main", "error_request", "access_main"] * 2,
        *["access_main", "access_main", "error_request"],
    ]
    assert frame["pod"].str[-5:].tolist() == ["ck6h2"] * 3 + ["nlhk2"] * 6
    assert set(frame["container"]) == {"nginx"}
    sources = frame["remote_addr"].fillna(frame["client"]).tolist()
    assert sources == ["10.0.5.0"] * 3 + ["192.168.1.45"] * 3 + ["192.168.1.122"] * 3
    assert frame["status"].fillna(0).tolist() == [200, 0, 404] * 2 + [200, 404, 0]
    assert frame["time_logged"].isna().all()


def test_a_log_of_a_real_kubelet():
    frame = parse(DATA / "kubernetes-timestamps.log", prefix="timestamps")
    assert frame["time_logged"].astype("int64").tolist() == [1795357684128091048, 1795357684128259301]
    assert frame["message"].tolist() == ["worker process 9 exited with code 0", "exit"]
    assert frame["time"].astype("int64").tolist() == [1795357684000000000] * 2


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (
            MAIN,
            Row("access_main", AT, "192.168.1.45", None, "GET", "/", "HTTP/1.1", 200, 292, None, "Firefox", None),
        ),
        (
            '::1 - kube user [15/Oct/2023:13:23:58 +0900] "POST /a b?c HTTP/2.0" 499 0 "http://x/" "" "1.1.1.1, ::2"',
            Row("access_main", AT, "::1", "kube user", "POST", "/a b?c", "HTTP/2.0", 499, 0, "http://x/", "",
                "1.1.1.1, ::2"),
        ),
        (
            MAIN[:-4],
            Row("access_combined", AT, "192.168.1.45", None, "GET", "/", "HTTP/1.1", 200, 292, None, "Firefox", None),
        ),
        (
            MAIN.replace("GET / HTTP/1.1", r"\x16\x03\x01").replace(" 200 292 ", " 400 157 "),
            Row("access_main", AT, "192.168.1.45", None, None, r"\x16\x03\x01", None, 400, 157, None, "Firefox", None),
        ),
        (
            MAIN.replace("GET / HTTP/1.1", ""),
            Row("access_main", AT, "192.168.1.45", None, None, "", None, 200, 292, None, "Firefox", None),
        ),
        (
            MAIN.replace("GET / HTTP/1.1", "-"),
            Row("access_main", AT, "192.168.1.45", None, None, None, None, 200, 292, None, "Firefox", None),
        ),
        (
            MAIN.replace("GET / ", "GET /?run=0123abcd&request=007 "),
            Row("access_main", AT, "192.168.1.45", None, "GET", "/?run=0123abcd&request=007", "HTTP/1.1", 200, 292,
                None, "Firefox", None, "0123abcd", 7),
        ),
        (
            ERROR,
            Row("error_request", AT - 1_000_000_000, method="GET", uri="/favicon.ico", protocol="HTTP/1.1",
                referer="http://192.168.1.56/", level="error", pid=29, connection=1, client="10.0.5.0",
                server="localhost",
                message='open() "/usr/share/nginx/html/favicon.ico" failed (2: No such file or directory)',
                host="192.168.1.56", raw=ERROR),
        ),
        (
            "2023/10/15 04:23:58 [notice] 1#1: start worker processes",
            Row("error_process", AT, level="notice", pid=1, message="start worker processes",
                raw="2023/10/15 04:23:58 [notice] 1#1: start worker processes"),
        ),
        (
            "10-listen-on-ipv6-by-default.sh: info: IPv6 listen already enabled",
            Row("entrypoint", message="info: IPv6 listen already enabled",
                raw="10-listen-on-ipv6-by-default.sh: info: IPv6 listen already enabled"),
        ),
        (
            "nginx: [emerg] host not found in upstream",
            Row("console", level="emerg", message="host not found in upstream",
                raw="nginx: [emerg] host not found in upstream"),
        ),
        ("nginx: the configuration file /etc/nginx/nginx.conf syntax is ok",
         Row("console", message="the configuration file /etc/nginx/nginx.conf syntax is ok",
             raw="nginx: the configuration file /etc/nginx/nginx.conf syntax is ok")),
        ("", Row("other", raw="")),
        (MAIN.replace("15/Oct", "31/Sep"), Row("other", raw=MAIN.replace("15/Oct", "31/Sep"))),
        (MAIN.replace("Firefox", 'Fire"fox'), Row("other", raw=MAIN.replace("Firefox", 'Fire"fox'))),
        (MAIN.replace("Firefox", r"\q"), Row("other", raw=MAIN.replace("Firefox", r"\q"))),
    ],
)  # fmt: skip
def test_what_a_line_is(line, row):
    assert read_line(line) == row


def test_an_upstream_and_a_subrequest_are_taken_apart():
    line = (
        "2023/10/15 04:23:58 [error] 29#29: *7 connect() failed (111: Connection refused) while connecting to upstream"
        ', client: ::1, server: _, request: "GET /"a" HTTP/1.1", subrequest: "/auth", upstream: "http://10.0.5.8:80/"'
        ', host: "h"'
    )
    row = read_line(line)
    assert (row.client, row.server, row.uri, row.upstream, row.host) == ("::1", "_", '/"a"', "http://10.0.5.8:80/", "h")
    assert row.message == "connect() failed (111: Connection refused) while connecting to upstream"


def test_a_visitor_cannot_forge_the_client_of_an_error_line():
    forged = ERROR.replace("favicon.ico HTTP", "favicon.ico, client: 6.6.6.6, server: localhost HTTP")
    row = read_line(forged)
    assert row.kind == "error_request"
    assert row.client is None
    assert row.raw == forged


def test_an_error_line_that_nginx_cut_at_2048_bytes_keeps_its_client():
    row = read_line(ERROR[: ERROR.index("favicon.ico HTTP")])
    assert (row.client, row.server, row.uri) == ("10.0.5.0", "localhost", None)


def test_the_clock_of_error_lines_can_stand_in_another_zone():
    frame = parse([ERROR, MAIN], zone="Asia/Tokyo")
    assert frame["time"].astype("int64").tolist() == [AT - 9 * 3600 * 10**9 - 10**9, AT]


def test_every_column_has_its_type_even_without_lines():
    types = {name: str(dtype) for name, dtype in parse(b"").dtypes.items()}
    assert types == {
        "line": "int64", "kind": "category", "time": "datetime64[ns, UTC]", "remote_addr": "string",
        "remote_user": "string", "method": "string", "uri": "string", "protocol": "string", "status": "Int16",
        "bytes": "Int64", "referer": "string", "user_agent": "string",
        "forwarded_for": "string", "run": "string", "request": "Int64", "level": "category",
        "pid": "Int64", "connection": "Int64", "message": "string", "client": "string", "server": "string",
        "upstream": "string", "host": "string", "raw": "string",
    }  # fmt: skip
    assert tuple(parse(b"")["kind"].cat.categories) == KINDS
    assert types == {name: str(dtype) for name, dtype in parse(MAIN).dtypes.items()}
    assert parse([ERROR])["level"].cat.ordered


@pytest.mark.parametrize(
    "source",
    [
        f"{MAIN}\n{ERROR}\n",
        f"{MAIN}\n{ERROR}",
        f"{MAIN}\r\n{ERROR}\r\n",
        f"{MAIN}\n{ERROR}\n".encode(),
        bytearray(f"{MAIN}\n{ERROR}\n".encode()),
        memoryview(f"{MAIN}\n{ERROR}\n".encode()),
        [MAIN, ERROR],
        (line for line in (f"{MAIN}\n".encode(), ERROR.encode())),
        io.BytesIO(f"{MAIN}\n{ERROR}\n".encode()),
    ],
)
def test_a_log_comes_in_many_forms(source):
    frame = parse(source)
    assert frame["line"].tolist() == [1, 2]
    assert frame["kind"].tolist() == ["access_main", "error_request"]


def test_a_file_may_be_compressed(tmp_path):
    (tmp_path / "plain").write_text(MAIN)
    (tmp_path / "packed").write_bytes(gzip.compress(MAIN.encode()))
    assert_frame_equal(parse(tmp_path / "plain"), parse(tmp_path / "packed"))


def test_nothing_is_dropped_blank_lines_and_bad_bytes_included():
    frame = parse(b"\n\n\xff\x00\n" + MAIN.replace("Firefox", "x").encode().replace(b"x", b"\xe3\x81\x82\xff"))
    assert frame["kind"].tolist() == ["other", "other", "other", "access_main"]
    assert frame["raw"].tolist()[:3] == ["", "", "\\xFF\x00"]
    assert frame["user_agent"].iloc[3] == r"あ\xFF"


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 17])
def test_blocks_end_where_lines_end(monkeypatch, size):
    data = "\n".join([MAIN, ERROR, "", MAIN[:-4]] * 9).encode()
    whole = parse_with_re(data)
    monkeypatch.setattr("srcip_nb.parse.BLOCK", size)
    monkeypatch.setattr("srcip_nb.parse.SMALL", 0)
    assert_frame_equal(parse(data), whole)


@pytest.mark.parametrize(
    ("prefix", "before", "expected"),
    [
        ("timestamps", "2026-11-22T14:28:04.128091048Z ", (None, None, 1795357684128091048)),
        ("timestamps", "2026-11-22T23:28:04.5+09:00 ", (None, None, 1795357684500000000)),
        ("kubectl", "[pod/web-1/nginx] ", ("web-1", "nginx", None)),
        ("kubectl", "[pod/web-1/nginx] 2026-11-22T14:28:04Z ", ("web-1", "nginx", 1795357684000000000)),
        ("stern", "web-1 nginx ", ("web-1", "nginx", None)),
        ("stern", "web-1 nginx 2026-11-22T14:28:04.000000001Z ", ("web-1", "nginx", 1795357684000000001)),
    ],
)
def test_prefixes_are_taken_off_and_kept(prefix, before, expected):
    frame = parse([before + MAIN, MAIN.replace("192", "293")], prefix=prefix)
    pod, container, time = expected
    assert frame["kind"].tolist()[0] == "access_main"
    if prefix != "timestamps":
        assert frame[["pod", "container"]].iloc[0].tolist() == [pod, container]
    assert frame["time_logged"].iloc[0] is pd.NaT if time is None else frame["time_logged"].iloc[0].value == time
    assert frame["time_logged"].iloc[1] is pd.NaT
    assert_frame_equal(frame, parse_with_re([before + MAIN, MAIN.replace("192", "293")], prefix=prefix))


def test_a_prefix_that_names_no_moment_is_part_of_the_line():
    frame = parse("2026-13-22T14:28:04Z x", prefix="timestamps")
    assert frame["raw"].tolist() == ["2026-13-22T14:28:04Z x"]


def test_escapes_can_be_undone():
    frame = parse(MAIN.replace("Firefox", r"\xE3\x81\x82 \x22\x5C\x22 \xFF"))
    assert frame["user_agent"].tolist() == [r"\xE3\x81\x82 \x22\x5C\x22 \xFF"]
    assert unescape(frame["user_agent"]).tolist() == ['あ "\\" \ufffd']
    assert unescape(frame["referer"]).isna().all()
    assert unescape(r"\x41") == "A"


@pytest.mark.parametrize(
    ("source", "options", "cause"),
    [
        (Path("/no/such/file"), {}, "There is no file /no/such/file"),
        (Path("/"), {}, "/ is a directory"),
        (MAIN, {"prefix": "docker"}, "Unknown prefix 'docker'"),
        (MAIN, {"zone": "Mars/Olympus"}, "Unknown time zone 'Mars/Olympus'"),
        (17, {}, "A log cannot be read from int"),
    ],
)
def test_what_cannot_be_read_is_said(source, options, cause):
    with pytest.raises(UsageError) as refused:
        parse(source, **options)
    assert refused.value.cause == cause
    assert refused.value.remedy


def test_a_path_given_as_text_is_not_read_as_a_log(tmp_path):
    path = tmp_path / "access.log"
    path.write_text(MAIN)
    with pytest.raises(UsageError, match="is a text, not a path"):
        parse(str(path))


def test_a_broken_gzip_file_is_said(tmp_path):
    path = tmp_path / "access.log.gz"
    path.write_bytes(gzip.compress(MAIN.encode() * 100)[:-20])
    with pytest.raises(UsageError, match="is not a whole gzip file"):
        parse(path)
