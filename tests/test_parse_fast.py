"""The reader by columns gives what the regular expressions give, cell by cell."""

from __future__ import annotations

import random
from datetime import timezone
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from srcip_nb import parse as parse_module  # noqa: F401  # the module is loaded, the name is not used
from srcip_nb.parse_columns import columns_of, frame_of
from srcip_nb.parse_fast import parse_block
from srcip_nb.parse_lines import decode, read_line

TIME = b"[15/Oct/2023:04:23:57 +0000]"
MAIN = b"10.0.5.0 - - " + TIME + b' "GET / HTTP/1.1" 200 292 "-" "Mozilla/5.0 (X11)" "-"'
COMBINED = MAIN[:-4]
WITH_IDS = MAIN.replace(b"GET / ", b"GET /?run=0123abcd&request=17 ")
ERROR = (
    b'2023/10/15 04:23:57 [error] 29#29: *1 open() "/usr/share/nginx/html/favicon.ico" failed (2: No such file or '
    b'directory), client: 10.0.5.0, server: localhost, request: "GET /favicon.ico HTTP/1.1", host: "192.168.1.56", '
    b'referrer: "http://192.168.1.56/"'
)
EDGES = [
    MAIN,
    COMBINED,
    WITH_IDS,
    ERROR,
    b"",
    b'"',
    b'""""""""',
    b'""""""',
    b"\r",
    b"\x00",
    b"\xff\xfe",
    MAIN + b"\r",
    MAIN + b"\r\r",
    MAIN + b" ",
    b" " + MAIN,
    MAIN.replace(b'"GET / HTTP/1.1"', b'""'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"-"'),
    MAIN.replace(b'"GET / HTTP/1.1"', rb'"\x16\x03\x01\x02\x00"'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"GET / HTTP/1.1 "'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"GET  HTTP/1.1"'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"GET HTTP/1.1"'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'" / HTTP/1.1"'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"get / HTTP/1.1"'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"GET / HTTP/2.0"'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"GET / HTTP/9.9"'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"GET /a b c HTTP/1.0"'),
    MAIN.replace(b'"GET / HTTP/1.1"', b'"GET /"'),
    MAIN.replace(b"Mozilla", rb"\xE3\x81\x82"),
    MAIN.replace(b"Mozilla", rb"\xe3"),
    MAIN.replace(b"Mozilla", rb"\x2"),
    MAIN.replace(b"Mozilla", b"\\"),
    MAIN.replace(b"Mozilla", rb"\""),
    MAIN.replace(b"Mozilla", "あ".encode()),
    MAIN.replace(b"Mozilla", b"\xff"),
    MAIN.replace(b"Mozilla", b"\x00"),
    MAIN.replace(b"Mozilla", b"a\rb"),
    MAIN.replace(b"Mozilla/5.0 (X11)", b""),
    MAIN.replace(b"Mozilla/5.0 (X11)", b"-"),
    MAIN.replace(b'"-"', b'"--"'),
    MAIN.replace(b"Mozilla", b"x" * 5000),
    MAIN.replace(b"10.0.5.0", b"2001:db8::1"),
    MAIN.replace(b"10.0.5.0", b"unix:"),
    MAIN.replace(b"10.0.5.0", b""),
    MAIN.replace(b"10.0.5.0 - -", b"-"),
    MAIN.replace(b"10.0.5.0 - -", b"10.0.5.0 - kube user"),
    MAIN.replace(b"10.0.5.0 - -", b"10.0.5.0 - "),
    MAIN.replace(b"10.0.5.0 - -", b"10.0.5.0 -"),
    MAIN.replace(b"10.0.5.0 - -", b"10.0.5.0 - a [15/Oct/2023:04:23:57 +0000]"),
    MAIN.replace(b"10.0.5.0 - -", b"10.0.5.0 x -"),
    MAIN.replace(b" 200 ", b" 20 "),
    MAIN.replace(b" 200 ", b" 2000 "),
    MAIN.replace(b" 200 ", b" 2x0 "),
    MAIN.replace(b" 200 ", b" 000 "),
    MAIN.replace(b" 292 ", b" - "),
    MAIN.replace(b" 292 ", b"  "),
    MAIN.replace(b" 292 ", b" 007 "),
    MAIN.replace(b" 292 ", b" " + b"9" * 18 + b" "),
    MAIN.replace(b" 292 ", b" " + b"9" * 19 + b" "),
    MAIN.replace(b" 292 ", b" -1 "),
    MAIN.replace(b" 292 ", b" 0x1 "),
    MAIN.replace(b" 292 ", b" 1 2 "),
    MAIN.replace(b"+0000", b"+0900"),
    MAIN.replace(b"+0000", b"-0330"),
    MAIN.replace(b"+0000", b"+2400"),
    MAIN.replace(b"+0000", b"+0060"),
    MAIN.replace(b"15/Oct", b"31/Sep"),
    MAIN.replace(b"15/Oct", b"29/Feb"),
    MAIN.replace(b"15/Oct/2023", b"29/Feb/2024"),
    MAIN.replace(b"15/Oct", b"15/Okt"),
    MAIN.replace(b"2023", b"0000"),
    MAIN.replace(b"2023", b"1677"),
    MAIN.replace(b"2023", b"1678"),
    MAIN.replace(b"2023", b"2261"),
    MAIN.replace(b"2023", b"2262"),
    MAIN.replace(b":04:23:57", b":24:00:00"),
    MAIN.replace(b":04:23:57", b":04:60:00"),
    MAIN.replace(b":04:23:57", b":04:23:60"),
    MAIN.replace(b":04:23:57", b":04-23:57"),
    MAIN.replace(b":04:23:57", b":0a:23:57"),
    *(
        MAIN.replace(b"GET / ", b"GET " + uri + b" ")
        for uri in (
            b"/?run=0123abcd&request=",
            b"/?run=0123abcd&request=1&more=2",
            b"/?run=0123abcd&request=1#part",
            b"/?run=0123abcd&request=1x",
            b"/?a=b&run=0123abcd&request=1",
            b"/?xrun=0123abcd&request=1",
            b"/?xrun=0&run=0123abcd&request=1",
            b"/?run=0123ABCD&request=1",
            b"/?run=0123abcd&request=" + b"9" * 18,
            b"/?run=0123abcd&request=" + b"9" * 19,
            b"run=0123abcd&request=1",
            b"?run=0123abcd&request=1",
            b"/?run=0123abcd&run=0123abcd&request=1",
            b"/?run=",
            b"run=",
        )
    ),
    ERROR.replace(b"GET /favicon.ico", b"GET /?run=0123abcd&request=3"),
    ERROR + b', client: 6.6.6.6',
    ERROR[:120],
    ERROR[:170],
    ERROR.replace(b"[error]", b"[fatal]"),
    ERROR.replace(b"2023/10/15", b"2023/13/15"),
    b"2023/10/15 04:23:50 [notice] 1#1: start worker processes",
    b"/docker-entrypoint.sh: Configuration complete; ready for start up",
    b"10-listen-on-ipv6-by-default.sh: info: Enabled listen on IPv6 in /etc/nginx/conf.d/default.conf",
    b'nginx: [emerg] unknown directive "lisen" in /etc/nginx/nginx.conf:3',
    b"nginx: configuration file /etc/nginx/nginx.conf test failed",
    b"-" * 60 + b'"' + b"-" * 30 + b'""""""' + b"-" * 30 + b'"',
]  # fmt: skip


def by_definition(data: bytes, zone=timezone.utc) -> pd.DataFrame:
    lines = data.split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    return frame_of([columns_of([read_line(decode(line.removesuffix(b"\r")), zone) for line in lines])])


def assert_same(data: bytes, zone=timezone.utc) -> None:
    fast, slow = frame_of([parse_block(data, zone)]), by_definition(data, zone)
    assert list(fast.dtypes) == list(slow.dtypes)
    assert_frame_equal(fast, slow, check_exact=True)
    for name in fast.columns:
        assert fast[name].isna().tolist() == slow[name].isna().tolist()


@pytest.mark.parametrize("line", EDGES, ids=range(len(EDGES)))
def test_each_edge_alone_and_between_plain_lines(line):
    assert_same(line + b"\n")
    assert_same(MAIN + b"\n" + line + b"\n" + COMBINED)


def test_all_edges_at_once():
    assert_same(b"\n".join(EDGES))
    assert_same(b"\r\n".join(EDGES) + b"\r\n")


def test_most_edges_of_an_access_line_are_read_without_the_definition(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr("srcip_nb.parse_fast.read_line", lambda text, zone: asked.append(text) or read_line(text, zone))
    parse_block(
        b"\n".join([MAIN, COMBINED, WITH_IDS, MAIN.replace(b"10.0.5.0 - -", b"::1 - kube user")] * 10), timezone.utc
    )
    assert asked == []


@pytest.mark.parametrize("seed", range(20))
def test_mutated_lines(seed):
    dice = random.Random(seed)
    assert_same(b"\n".join(mutated(dice) for _ in range(400)))


def test_error_lines_of_another_zone():
    assert_same(b"\n".join([ERROR, MAIN] * 3), ZoneInfo("Asia/Tokyo"))


ALPHABET = [bytes([byte]) for byte in b'"\\ -[]/:+x0159AFGTH?&=#,\r\x00\x7f\x80\xff'] + [
    b" - ", b'" "', b"\\xE3", b"run=", b"&request=", b", client: ", b'", ', "あ".encode(), b"HTTP/1.1", TIME,
]  # fmt: skip


def mutated(dice: random.Random) -> bytes:
    line = dice.choice(EDGES if dice.random() < 0.3 else [MAIN, COMBINED, WITH_IDS, ERROR])
    for _ in range(dice.choice([0, 1, 1, 1, 2, 3, 6])):
        at = dice.randrange(len(line) + 1)
        what = dice.random()
        if what < 0.4:
            line = line[:at] + dice.choice(ALPHABET) + line[at:]
        elif what < 0.7:
            line = line[:at] + dice.choice(ALPHABET) + line[at + 1 :]
        elif what < 0.9:
            line = line[:at] + line[at + dice.choice([1, 1, 2, 8]) :]
        else:
            other = dice.choice(EDGES)
            line = line[:at] + other[dice.randrange(len(other) + 1) :]
    return line.replace(b"\n", b"")
