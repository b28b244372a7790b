"""How fast a large access log becomes a table: the regular expressions alone against the reader by columns.

    python benchmarks/parse.py [--lines 1000000] [--errors 5]

Prints the median of both times, their ratio, rows a second and peak memory, after comparing the two tables cell by
cell. As a floor for any program around regular expressions it also prints the time of matching alone: no types, no
table.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TARGET = 3  # times as fast as the regular expressions
AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:109.0) Gecko/20100101 Firefox/118.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 Safari/537.36",
    "curl/7.88.1",
    "kube-probe/1.36",
    r"\xE3\x83\x96\xE3\x83\xA9\xE3\x82\xA6\xE3\x82\xB6",
]
MALFORMED = [
    '{address} - - [{time}] "\\x16\\x03\\x01\\x02\\x00\\x01\\x00\\x01\\xFC\\x03\\x03" 400 157 "-" "-" "-"',
    '{address} - - [{time}] "" 400 0 "-" "-" "-"',
    '{address} - - [{time}] "GET / HTTP/1.1" 200 292 "-" "a "quoted" agent" "-"',
    '{address} - - [{time}] "GET / HTT',
    "\x00\x00\x00\x00",
    "",
]


def log(lines: int, errors: int, seed: int = 20231008) -> bytes:
    """A log of mostly main, a fifth combined, some per cent of error lines, half a per cent of malformed ones."""
    dice = random.Random(seed)
    addresses = [f"10.0.{dice.randrange(256)}.{dice.randrange(256)}" for _ in range(2000)]
    addresses += [f"2001:db8::{dice.randrange(65536):x}" for _ in range(200)]
    made: list[str] = []
    clock = 1697328000.0
    for number in range(lines):
        clock += dice.random()
        now, address = time.gmtime(clock), dice.choice(addresses)
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", now)
        uri = dice.choice([f"/?run=0123abcd&request={number}", "/favicon.ico"])
        draw = dice.random() * 100
        if draw < 0.5:
            made.append(dice.choice(MALFORMED).format(address=address, time=stamp))
        elif draw < 0.5 + errors:
            made.append(
                f"{time.strftime('%Y/%m/%d %H:%M:%S', now)} [error] 29#29: *{number} open() "
                '"/usr/share/nginx/html/favicon.ico" failed (2: No such file or directory), '
                f'client: {address}, server: localhost, request: "GET {uri} HTTP/1.1", '
                'host: "192.168.1.56", referrer: "http://192.168.1.56/"'
            )
        else:
            made.append(
                f'{address} - - [{stamp}] "GET {uri} HTTP/1.1" {dice.choice([200, 304, 404])} {dice.randrange(100000)} '
                f'"{dice.choice(["-", "http://192.168.1.56/"])}" "{dice.choice(AGENTS)}"'
                + ("" if draw > 80 else ' "-"')
            )
    return ("\n".join(made) + "\n").encode()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def match_only(data: bytes) -> None:
    from srcip_nb.parse_lines import ACCESS

    for line in data.decode().split("\n"):
        found = ACCESS.fullmatch(line)
        if found:
            found.groups()


def peak_megabytes(path: Path, function: str) -> float:
    """Peak memory of a process that does this once, less what the process needs without."""
    program = (
        "import pathlib, re, sys; import srcip_nb.parse as module\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+) kB', pathlib.Path('/proc/self/status').read_text())[1])\n"
        "read = getattr(module, sys.argv[2]); read(b''); before = peak()\n"
        "frame = read(pathlib.Path(sys.argv[1])); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, path, function], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def main() -> int:
    from pandas.testing import assert_frame_equal

    from srcip_nb.parse import parse, parse_with_re

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--errors", type=int, default=5, help="per cent of error lines")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    data = log(given.lines, given.errors)
    print(f"{given.lines:,} lines, {len(data) / 1e6:.0f} MB, {given.errors} % error lines, 0.5 % malformed")
    assert_frame_equal(parse(data), parse_with_re(data))
    print("the two tables are equal, cell by cell")
    times = {"re": [], "columns": [], "match": []}
    for _ in range(given.rounds):  # in turns, so that a busy moment of the machine meets all of them
        times["columns"].append(seconds(lambda: parse(data)))
        times["re"].append(seconds(lambda: parse_with_re(data)))
        times["match"].append(seconds(lambda: match_only(data)))
    slow, fast, floor = (statistics.median(times[name]) for name in ("re", "columns", "match"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "access.log"
        path.write_bytes(data)
        peaks = {name: peak_megabytes(path, name) for name in ("parse_with_re", "parse")}
    print(f"{'':24}{'seconds':>9}{'rows/s':>12}{'peak MB':>9}")
    print(f"{'re + DataFrame':24}{slow:9.2f}{given.lines / slow:12,.0f}{peaks['parse_with_re']:9.0f}")
    print(f"{'parse()':24}{fast:9.2f}{given.lines / fast:12,.0f}{peaks['parse']:9.0f}")
    print(f"{'re, matching alone':24}{floor:9.2f}{given.lines / floor:12,.0f}")
    ratio = slow / fast
    print(f"ratio {ratio:.1f} (at least {TARGET} asked); to matching alone {floor / fast:.1f}")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
