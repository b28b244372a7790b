"""``srcip-nb parse``: log files become one table file, whole or not at all."""

from __future__ import annotations

import io
import json
import types

import pandas as pd
import pytest

from srcip_nb.errors import UsageError
from srcip_nb.parse import parse, parse_file

MAIN = '192.168.1.45 - - [15/Oct/2023:04:23:58 +0000] "GET / HTTP/1.1" 200 292 "-" "Firefox" "-"'
LINES = [MAIN, MAIN.replace("192.168.1.45", "10.0.5.0"), MAIN, "2023/10/15 04:23:50 [notice] 1#1: exit", "?"]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "access.log"
    path.write_text("\n".join(LINES))
    return path


def test_parquet_keeps_every_type(log, tmp_path):
    assert parse_file([log], tmp_path / "out.parquet") == f"5 lines -> {tmp_path / 'out.parquet'}"
    read, made = pd.read_parquet(tmp_path / "out.parquet"), parse(log)
    assert read["raw"].fillna("").tolist() == made["raw"].fillna("").tolist()
    assert [str(kind) for kind in read.dtypes[["time", "status", "kind"]]] == [
        "datetime64[ns, UTC]",
        "Int16",
        "category",
    ]


def test_csv_and_json_hold_the_same_lines(log, tmp_path):
    parse_file([log], tmp_path / "out.csv")
    parse_file([log], tmp_path / "out.json")
    assert pd.read_csv(tmp_path / "out.csv")["remote_addr"].tolist()[:2] == ["192.168.1.45", "10.0.5.0"]
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["kind"] for row in rows] == parse(log)["kind"].tolist()
    assert rows[0]["time"] == "2023-10-15T04:23:58.000000000Z"
    assert rows[0]["referer"] is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_several_files_are_told_apart(log, tmp_path):
    other = tmp_path / "other.log"
    other.write_text(MAIN)
    parse_file([log, other], tmp_path / "out.parquet")
    read = pd.read_parquet(tmp_path / "out.parquet")
    assert read["file"].tolist() == [str(log)] * 5 + [str(other)]
    assert read["line"].tolist() == [1, 2, 3, 4, 5, 1]


def test_without_a_file_the_summary_says_kinds_and_sources(log):
    assert parse_file([log]).splitlines() == [
        "5 lines, times in UTC",
        "",
        "         kind  lines",
        "  access_main      3",
        "error_process      1",
        "        other      1",
        "",
        "      source  requests               first                last",
        "192.168.1.45         2 2023-10-15 04:23:58 2023-10-15 04:23:58",
        "    10.0.5.0         1 2023-10-15 04:23:58 2023-10-15 04:23:58",
    ]


def test_the_summary_of_nothing_is_short(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert parse_file([tmp_path / "empty"]).splitlines()[0] == "0 lines, times in UTC"


def test_standard_input_is_a_dash(monkeypatch):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(MAIN.encode()))))
    assert parse_file(["-"]).startswith("1 lines")


@pytest.mark.parametrize(
    ("out", "cause"),
    [
        ("out.xlsx", "Unknown ending"),
        ("out", "Unknown ending"),
        ("missing/out.csv", "There is no directory"),
        ("folder.csv", "is a directory"),
        ("access.csv", "is one of the logs"),
    ],
)
def test_a_wrong_target_is_refused_before_anything_is_done(tmp_path, out, cause):
    (tmp_path / "folder.csv").mkdir()
    log = tmp_path / "access.csv"
    log.write_text(MAIN)
    with pytest.raises(UsageError, match=cause) as refused:
        parse_file([log], tmp_path / out)
    assert refused.value.remedy
    assert log.read_text() == MAIN


def test_an_interrupted_write_leaves_the_old_table(log, tmp_path, monkeypatch):
    target = tmp_path / "out.csv"
    parse_file([log], target)
    before = target.read_text()

    def fails(frame, path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(parse_file.__globals__["WRITERS"], ".csv", fails)
    with pytest.raises(UsageError, match="No space"):
        parse_file([log], target)
    assert target.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["access.log", "out.csv"]


def test_no_file_and_a_missing_file_are_said(tmp_path):
    with pytest.raises(UsageError, match="No log file was named"):
        parse_file([])
    with pytest.raises(UsageError, match="There is no file"):
        parse_file([tmp_path / "none.log"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
