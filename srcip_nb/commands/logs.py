"""``srcip-nb logs``: the logs of many pods at once, with the node that served and whose address asked."""

from __future__ import annotations

import argparse
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS
from srcip_nb.errors import SrcipError, UsageError

if TYPE_CHECKING:
    from srcip_nb.cluster import Cluster
    from srcip_nb.logs import Batch
    from srcip_nb.logs_lines import Filter
    from srcip_nb.logs_query import Query

BOOK_AGAIN = 5.0  # seconds after which an address that nobody owned is looked for again


def add_to(commands: Any) -> None:
    """Make ``srcip-nb logs`` known; options that stern has too are spelled as there."""
    logs = commands.add_parser("logs", help="the logs of many pods as they are written: node, source, owner, line")
    add = logs.add_argument
    add(
        "pods",
        nargs="?",
        metavar="PODS",
        help="a regular expression for pods' names, or deployment/NAME, service/NAME…",
    )
    add("-l", "--selector", metavar="L", help="a label selector in place of PODS")
    add("--field-selector", default="", metavar="F", help="a field selector for pods")
    add("--node", metavar="NODE", help="only pods on this node")
    namespaces = logs.add_mutually_exclusive_group()
    namespaces.add_argument("-n", "--namespace", metavar="N", help="SRCIP_NAMESPACE, else seminar")
    namespaces.add_argument("-A", "--all-namespaces", action="store_true")
    add("-c", "--container", metavar="RE", help="only containers whose name contains this regular expression")
    add("-i", "--include", action="append", default=[], metavar="RE", help="only lines that contain it; repeatable")
    add("-e", "--exclude", action="append", default=[], metavar="RE", help="no lines that contain it; repeatable")
    add("-H", "--highlight", action="append", default=[], metavar="RE", help="mark it in the lines; repeatable")
    add("-s", "--since", metavar="D", help="only lines of this duration, as in 5s, 2m, 3h")
    add("--tail", type=int, default=-1, metavar="N", help="only the last N lines of each container; -1 is all")
    add("--no-follow", action="store_true", help="end when what is written was shown, in the order of time")
    add("-t", "--timestamps", action="store_true", help="with the container runtime's time")
    add("--color", choices=("auto", "always", "never"), default="auto", help="pods in colours of their own")
    add("-o", "--output", choices=("table", "json", "raw", "parquet"), default="table")
    add("--out", type=Path, metavar="FILE", help="where -o parquet writes, when it ends or you press Ctrl-C")
    where = logs.add_mutually_exclusive_group()
    where.add_argument("--lab", nargs="?", const="", metavar="N", help="a lab, by name or any")
    where.add_argument("--context", metavar="C", help="a kubeconfig context")
    logs.set_defaults(function=_logs)


def _logs(arguments: argparse.Namespace) -> int:
    from srcip_nb import connect

    is_parquet = arguments.output == "parquet"
    if is_parquet and (arguments.out is None or not arguments.out.parent.is_dir()):
        raise UsageError("-o parquet writes a file", "Name one in a folder that exists: --out logs.parquet")
    if not is_parquet and arguments.out is not None:
        raise UsageError(f"--out is for -o parquet, not for {arguments.output}", "Redirect standard output instead")
    query = _query(arguments)
    filter_ = _filter(arguments)
    context = {"lab": arguments.lab or {}} if arguments.lab is not None else {"context": arguments.context}
    cluster = connect(**context, quiet=True)
    taken: list[Batch] = []
    show = taken.extend if is_parquet else _printer(arguments, cluster, filter_)
    is_anything = False
    try:
        if is_parquet and not arguments.no_follow:
            print(f"Ctrl-C ends this and writes {arguments.out}", file=sys.stderr, flush=True)
        source = _read_once if arguments.no_follow else _followed
        for batches in source(cluster, query):
            is_anything = is_anything or bool(batches)
            show(batches)
    except KeyboardInterrupt:
        is_anything = True  # Ctrl-C is how following ends
    if is_parquet:
        _write_parquet(arguments.out, cluster, taken, filter_)
    return HOLDS if is_anything or not arguments.no_follow else DOES_NOT_HOLD


def _query(arguments: argparse.Namespace) -> Query:
    from srcip_nb.logs_lines import seconds_of
    from srcip_nb.logs_query import DEFAULT_PODS, Query

    if arguments.pods and arguments.selector:
        raise UsageError("PODS and --selector were given at once", "Leave one of them out.")
    anything = "" if arguments.all_namespaces else DEFAULT_PODS
    fields = [arguments.field_selector] if arguments.field_selector else []
    fields += [f"spec.nodeName={arguments.node}"] if arguments.node else []
    return Query(
        arguments.pods or anything,
        selector=arguments.selector,
        container=arguments.container,
        namespace=arguments.namespace,
        everywhere=arguments.all_namespaces,
        fields=",".join(fields),
        since_seconds=None if arguments.since is None else seconds_of(arguments.since),
        tail=None if arguments.tail == -1 else arguments.tail,
    )


def _filter(arguments: argparse.Namespace) -> Filter:
    from srcip_nb.logs_lines import Filter
    from srcip_nb.logs_query import pattern_of

    return Filter(
        [pattern_of(text, "lines") for text in arguments.include],
        [pattern_of(text, "lines") for text in arguments.exclude],
    )


def _printer(arguments: argparse.Namespace, cluster: Cluster, filter_: Filter) -> Callable[[list[Batch]], None]:
    from srcip_nb.logs_lines import Table, json_of, lines_of, raw_of, time_of

    is_wanted = arguments.color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    color = is_wanted or arguments.color == "always"
    highlight = [re.compile(text) for text in [*arguments.highlight, *arguments.include]] if color else []
    owners = Owners(cluster)
    forms: dict[str, Callable[[Any], str]] = {
        "table": Table(color, highlight, arguments.timestamps, arguments.all_namespaces),
        "json": json_of,
        "raw": lambda lines: raw_of(lines, arguments.timestamps, highlight),
    }
    form = forms[arguments.output]

    def show(batches: list[Batch]) -> None:
        lines = [line for line in lines_of(batches, owners) if filter_.takes(line.message)]
        if arguments.no_follow:
            lines.sort(key=lambda line: time_of(line.time))
        sys.stdout.write(form(lines))
        sys.stdout.flush()

    return show


def _read_once(cluster: Cluster, query: Query) -> Iterator[list[Batch]]:
    from srcip_nb.logs import read

    batches, unread = read(cluster, query)
    for name, why in unread.items():
        print(f"srcip-nb: {name}: {why}", file=sys.stderr)
    if not batches:
        print("srcip-nb: no pod with a log was found", file=sys.stderr)
    yield batches


def _followed(cluster: Cluster, query: Query) -> Iterator[list[Batch]]:
    from srcip_nb.logs_follow import Follower

    told: SrcipError | None = None
    with Follower(cluster, query) as lines:
        for batches in lines.batches():
            told = _tell_new(lines.errors, told)
            if not batches and _has_no_reader():
                raise BrokenPipeError
            yield batches


def _tell_new(errors: list[SrcipError], told: SrcipError | None) -> SrcipError | None:
    """Print what went wrong since the error that was told last; returns the one that was told last now."""
    known = next((at for at, error in enumerate(errors) if error is told), -1)
    new = errors[known + 1 :]
    for cause in dict.fromkeys(error.cause for error in new):
        print(f"srcip-nb: {cause}", file=sys.stderr)
    return new[-1] if new else told


def _has_no_reader() -> bool:
    """Whether standard output is a pipe whose other end is closed: found before the next line, which may not come."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


class Owners:
    """Whose address it is, by an address book that is read again when an address is in none."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, str] = {}
        self._read_at: float | None = None

    def __call__(self, address: str) -> str:
        """The owner of an address; "" if nobody is known to have it."""
        owner = self._known.get(address)
        now = time.monotonic()
        if owner is None and (self._read_at is None or now - self._read_at > BOOK_AGAIN):
            self._read_at = now
            self._known = self._book()
            owner = self._known.get(address)
        return owner or ""

    def _book(self) -> dict[str, str]:
        from srcip_nb.addresses import addresses

        try:
            book = addresses(self._cluster)
        except SrcipError as error:
            print(f"srcip-nb: the owners of addresses are not known: {error.cause}", file=sys.stderr)
            return self._known
        return dict(zip(book["address"], book["owner"], strict=True))


def _write_parquet(path: Path, cluster: Cluster, batches: Iterable[Batch], filter_: Filter) -> None:
    from srcip_nb.logs_lines import table_of

    frame = table_of(list(batches), Owners(cluster), filter_)
    frame.to_parquet(path, index=False)
    print(f"{path}: {len(frame)} lines", file=sys.stderr)
