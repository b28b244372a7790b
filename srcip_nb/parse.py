r"""Logs of nginx as tables: one row a line, nothing dropped.

Three ways lead to the same frame. ``parse_lines`` says what a line is, by regular expressions, one line at a time;
``parse_with_re()`` is that and nothing else. ``parse_fast`` reads the same from a whole block at once and asks the
definition wherever it is not certain; ``parse()`` takes it for all but small logs. ``parse_prefix`` takes off what
kubectl or stern wrote before each line::

    >>> frame = parse(Path("access.log"))
    >>> frame[["time", "remote_addr", "uri", "status"]]
                           time    remote_addr           uri  status
    0 2023-10-15 04:23:57+00:00       10.0.5.0             /     200
    1 2023-10-15 04:23:58+00:00   192.168.1.45  /favicon.ico     404
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timezone, tzinfo
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from srcip_nb.errors import UsageError
from srcip_nb.parse_columns import Columns, columns_of, frame_of
from srcip_nb.parse_fast import parse_block
from srcip_nb.parse_lines import decode, read_line, unescaped
from srcip_nb.parse_prefix import check_prefix, take_prefix

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes] | Iterable[str | bytes]

BLOCK = 1 << 22  # bytes read at once: the working set of a block stays near the processor's cache
SMALL = 1 << 16  # bytes; below, the regular expressions are done before the columns' machinery is set up
GZIP = b"\x1f\x8b"


def parse(source: Source, *, prefix: str | None = None, zone: str | tzinfo = "UTC") -> pd.DataFrame:
    r"""Read nginx's log lines, of whatever kind, into typed columns.

    Args:
        source: a log as bytes or text; a path (``Path("access.log")``, gzip or not); an open binary file; or lines one
            by one. A ``str`` is always a log's text, never a path.
        prefix: what stands before each line: "timestamps" (kubectl logs --timestamps), "kubectl" (kubectl logs
            --prefix), "stern"; the last two with or without a time. Adds the columns ``time_logged`` (datetime64[ns,
            UTC], the container runtime's) and, with the last two, ``pod`` and ``container`` (string).
        zone: where the clock of error lines stands ("Asia/Tokyo"); nginx does not write it. Containers keep UTC. When
            clocks are set back an hour comes twice: the first is meant.

    Returns:
        One row a line, in order, with the columns

        - ``line``: int64, counts from 1;
        - ``kind``: category, one of access_main, access_combined, error_request, error_process, entrypoint, console,
          other;
        - ``time``: datetime64[ns, UTC], nginx's, whole seconds;
        - ``remote_addr``, ``remote_user``, ``method``, ``uri``, ``protocol``: string; ``status``: Int16; ``bytes``:
          Int64; ``referer``, ``user_agent``, ``forwarded_for``: string. A request that is not ``METHOD URI PROTOCOL``
          (empty, binary) is whole in ``uri``;
        - ``run``, ``request``: string, Int64: the ids in the query ``?run=<8 hex digits>&request=<number>``;
        - ``level``: ordered category, debug to emerg; ``pid``, ``connection``: Int64; ``message``, ``client``,
          ``server``, ``upstream``, ``host``: string: from error lines, which also set ``method``, ``uri``,
          ``protocol``, ``referer``, ``run`` and ``request``;
        - ``raw``: string, the line itself where it is not an access line, whose columns hold all of it.

        A value is missing where the line has none, or where nginx wrote ``-``, its word for absent. Escapes stay as
        nginx wrote them (``\x22``), so that a line can be found again; ``unescape()`` makes text of them. Bytes that
        are not UTF-8 are written that way too.

    Raises:
        UsageError: no such file, not a readable gzip file, unknown prefix or zone, or a source of another type.
    """
    return _frame(source, prefix, zone, only_re=False)


def parse_with_re(source: Source, *, prefix: str | None = None, zone: str | tzinfo = "UTC") -> pd.DataFrame:
    """The same as ``parse()``, by the regular expressions alone: the definition, and the measure of speed."""
    return _frame(source, prefix, zone, only_re=True)


def unescape(text: Any) -> Any:
    r"""Text with nginx's escapes undone: ``\xE3\x81\x82`` is あ. Takes a string or a column of them."""
    return (
        text.map(unescaped, na_action="ignore").astype(text.dtype) if isinstance(text, pd.Series) else unescaped(text)
    )


def _frame(source: Source, prefix: str | None, zone: str | tzinfo, *, only_re: bool) -> pd.DataFrame:
    check_prefix(prefix)
    clock = _zone(zone)
    with _opened(source) as stream:
        blocks = [_columns(block, prefix, clock, only_re=only_re) for block in _blocks(stream)]
    return frame_of(blocks or [_columns(b"", prefix, clock, only_re=only_re)])


def _columns(block: bytes, prefix: str | None, zone: tzinfo, *, only_re: bool) -> Columns:
    before: Columns = {}
    if prefix is not None:
        bare, before = take_prefix(_lines(block), prefix)
        block = b"\n".join([*bare, b""])
    if only_re or len(block) < SMALL:
        return before | columns_of([read_line(decode(line.removesuffix(b"\r")), zone) for line in _lines(block)])
    return before | parse_block(block, zone)


def _lines(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    return lines if lines[-1] else lines[:-1]  # the newline that ends the last line begins no other


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """The stream in blocks of whole lines, each block but the last ending in a newline."""
    begun: list[bytes] = []
    while chunk := stream.read(BLOCK):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*begun, chunk[:end]])
            begun = [chunk[end:]]
        else:
            begun.append(chunk)
    if rest := b"".join(begun):
        yield rest


def _zone(zone: str | tzinfo) -> tzinfo:
    if isinstance(zone, tzinfo):
        return zone
    if zone == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"Unknown time zone {zone!r}", 'Name it as in "Asia/Tokyo" or "UTC".') from None


@contextmanager
def _opened(source: Source) -> Iterator[IO[bytes]]:
    """The source as a binary file, without gzip's wrapping; what goes wrong with a file is told as a UsageError."""
    if isinstance(source, os.PathLike):
        with _told(Path(source)), Path(source).open("rb") as file:
            yield _gunzipped(file)
    elif isinstance(source, str):
        is_one_word = not any(character.isspace() for character in source)
        if is_one_word and source and Path(source).is_file():
            raise UsageError(f"{source!r} is a text, not a path", f"To read that file: parse(Path({source!r}))")
        yield io.BytesIO(source.encode("utf-8", "surrogateescape"))
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, io.BufferedIOBase):
        yield source  # type: ignore[misc]  # a file of bytes, whatever typing calls it
    elif isinstance(source, Iterable):
        yield io.BytesIO(b"".join(map(_ended, source)))
    else:
        raise UsageError(
            f"A log cannot be read from {type(source).__name__}", 'Give bytes, lines, or Path("access.log").'
        )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}", f"See what is there: ls {path.parent}") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a directory", f"Name files, as in {path / 'access.log'}") from None
    except PermissionError:
        raise UsageError(f"{path} may not be read or written", f"See who may: ls -ld {path} {path.parent}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        remedy = f"To read what is there: zcat {path} | srcip-nb parse -"
        raise UsageError(f"{path} is not a whole gzip file ({error})", remedy) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read or written: {error.strerror}", f"See the disk: df {path.parent}"
        ) from None


def _gunzipped(file: io.BufferedReader) -> IO[bytes]:
    is_gzip = file.peek(len(GZIP))[: len(GZIP)] == GZIP
    return gzip.open(file) if is_gzip else file  # type: ignore[return-value]  # GzipFile is a file of bytes


def _ended(line: str | bytes) -> bytes:
    encoded = line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
    return encoded if encoded.endswith(b"\n") else encoded + b"\n"


def parse_file(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    prefix: str | None = None,
    zone: str | tzinfo = "UTC",
) -> str:
    """Read log files as ``srcip-nb parse`` does, and write them as one table.

    Args:
        paths: log files, gzip or not; ``-`` is standard input. With several, a first column ``file`` says which.
        out: the table's file: ``.parquet``, ``.csv`` (a missing value is nothing between two commas) or ``.json`` (a
            list of objects). It appears whole or not at all. None: no file is written.
        prefix: as for ``parse()``.
        zone: as for ``parse()``.

    Returns:
        What to print: where the table went, or without ``out`` the summary: lines of each kind, addresses with most
        requests.

    Raises:
        UsageError: a file that cannot be read or written, an ending that is not known, no file at all.
    """
    if not paths:
        raise UsageError("No log file was named", "srcip-nb parse access.log, or - for standard input")
    target = None if out is None else Path(out)
    if target is not None:
        _check_target(target, paths)
    frames = {str(path): _read(path, prefix, zone) for path in paths}
    frame = next(iter(frames.values())) if len(frames) == 1 else _with_file(frames)
    if target is None:
        return summary(frame)
    with _told(target):
        _write(frame, target)
    return f"{len(frame)} lines -> {target}"


def _read(path: str | os.PathLike[str], prefix: str | None, zone: str | tzinfo) -> pd.DataFrame:
    source = _gunzipped(sys.stdin.buffer) if os.fspath(path) == "-" else Path(path)  # type: ignore[arg-type]
    return parse(source, prefix=prefix, zone=zone)


def _with_file(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    frame = pd.concat(frames.values(), ignore_index=True)
    names = [name for name, part in frames.items() for _ in range(len(part))]
    frame.insert(0, "file", pd.Series(pd.Categorical(names, list(frames))))
    return frame


def _check_target(target: Path, paths: Sequence[str | os.PathLike[str]]) -> None:
    if target.suffix not in WRITERS:
        raise UsageError(f"Unknown ending of {target}", f"Known are {', '.join(WRITERS)}, as in {target.stem}.parquet")
    if not target.parent.is_dir():
        raise UsageError(f"There is no directory {target.parent}", f"mkdir -p {target.parent}")
    if target.is_dir():
        raise UsageError(f"{target} is a directory", f"Name a file, as in {target / 'access.parquet'}")
    if target.exists() and any(Path(path).exists() and target.samefile(path) for path in paths):
        raise UsageError(
            f"{target} is one of the logs to be read", "Name another file after -o; the log would be lost."
        )


def _write(frame: pd.DataFrame, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        WRITERS[target.suffix](frame, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".parquet": lambda frame, path: frame.to_parquet(path, engine="pyarrow", index=False),
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".json": lambda frame, path: frame.to_json(
        path, orient="records", date_format="iso", date_unit="ns", force_ascii=False
    ),
}


def summary(frame: pd.DataFrame, most: int = 10) -> str:
    """A few lines of text: how many lines of each kind, and who asked most, with the first and the last time."""
    kinds = frame["kind"].value_counts(sort=False).rename_axis("kind").rename("lines").reset_index()
    access = frame[frame["remote_addr"].notna()]
    sources = access.groupby("remote_addr")["time"].agg(requests="size", first="min", last="max")
    sources = sources.sort_values("requests", ascending=False, kind="stable").reset_index(names="source")
    shown = sources.head(most).assign(
        **{column: sources[column].dt.strftime("%Y-%m-%d %H:%M:%S") for column in ("first", "last")}
    )
    left_out = f"\n({len(sources) - most} more sources)" if len(sources) > most else ""
    parts = [f"{len(frame)} lines, times in UTC", kinds[kinds["lines"] > 0].to_string(index=False)]
    return "\n\n".join(parts + ([shown.to_string(index=False) + left_out] if len(shown) else []))
