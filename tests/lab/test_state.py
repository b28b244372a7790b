"""What a lab leaves on disk while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from srcip_nb.lab import supervisor
from srcip_nb.lab.state import trim_log


def test_a_long_log_keeps_its_last_whole_lines_and_its_writers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with open(log, "ab", buffering=0) as writer:
        for number in range(200):
            writer.write(b"line %d\n" % number)
        trim_log(log, limit=1000)
        writer.write(b"after\n")
    lines = log.read_text().splitlines()
    assert lines[0] == "(older lines are gone)"
    assert lines[-2:] == ["line 199", "after"]
    assert all(line.startswith("line ") for line in lines[1:-1])
    assert log.stat().st_size < 400
    before = log.read_bytes()
    trim_log(log, limit=1000)
    assert log.read_bytes() == before
    trim_log(tmp_path / "none")


def test_a_supervisor_looks_after_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 99 + b"\n")
    trimmed = asyncio.Event()
    monkeypatch.setattr(supervisor, "LOOK_EVERY", 0)
    monkeypatch.setattr(supervisor, "trim_log", lambda path: trimmed.set() if path == log else None)

    async def look() -> None:
        task = asyncio.ensure_future(supervisor._keep_house(log, lambda: None))
        await asyncio.wait_for(trimmed.wait(), 5)
        task.cancel()

    asyncio.run(look())
