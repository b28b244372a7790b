"""A run on tape: what was asked of a cluster and its clients, and what they answered, in order.

    RecordingTape   asks, and writes down question and answer
    ReplayTape      asks nobody: the same question has the answer that was written down

Questions are of two kinds. What changes the cluster (POST, PUT, PATCH, DELETE) cuts the tape into stretches; between
two changes the world stood still or went its own way, and what was asked there is answered in the order of then, the
last answer again where a cell runs twice. A change is taken where the tape stands next, or earlier on it, for a cell
that runs again: the tape goes back to there. Whatever else is asked is refused: nothing is ever made up.

The file is gzipped JSON lines: a header, then ``{"ask", "answer"}``. Before it is written, ``scrub`` takes
out what is of the machine or secret.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from srcip_nb.errors import UsageError

FORMAT = 1
RUN = re.compile(r"\brun=([0-9a-f]{8})\b")
OF_THE_MOMENT = {"sinceSeconds", "sinceTime", "timeoutSeconds", "resourceVersion"}  # differ from run to run
_SECRETS = (
    re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----(\\+n|\n)?", re.DOTALL),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),  # a service account's token
    re.compile(r"Bearer [\w.~+/=-]+"),
)
_IDENTITIES = re.compile(r'((?:machineID|systemUUID|bootID)\\*":\s*\\*")[^"\\]*')  # an answer's quotes are escaped
_LAB_ASKS = ("/lab/v1/exec", "/lab/v1/trace")
SCRUBBED = "scrubbed"


class NotRecordedError(UsageError):
    """A recording was asked something that is not on it."""


class Tape(Protocol):
    """What a cluster's connections are led over."""

    def exchange(self, ask: str, live: Callable[[], Any]) -> Any:
        """The answer to a question; ``live`` asks for it, where somebody is there to answer."""


def question(method: str, url: str, accept: str = "", body: Any = None) -> str:
    """An API request as it is looked up: path and parameters without those of the moment, form, and body."""
    parts = urlsplit(url)
    query = urlencode(sorted((k, v) for k, v in parse_qsl(parts.query) if k not in OF_THE_MOMENT))
    text = body.decode() if isinstance(body, bytes) else body
    table = " as Table" if "as=Table" in accept else ""
    return " ".join(filter(None, [method, parts.path + (f"?{query}" if query else "") + table, _canonical(text)]))


def visit_question(client: str, requests: Sequence[dict[str, Any]], timeout: float, rate: float | None) -> str:
    """Requests of a client as they are looked up; a run's own id does not count."""
    urls = [RUN.sub("run=", request["url"]) for request in requests]
    headers = [request.get("headers") or {} for request in requests]
    asked = {"urls": urls, "timeout": timeout, **({"rate": rate} if rate else {})}
    return f"visit {client} {_canonical(json.dumps({**asked, 'headers': headers} if any(headers) else asked))}"


def is_change(ask: str) -> bool:
    """Whether a question changes the cluster: no reading, no dry run, no review of what one may do, no visit."""
    method, target = ask.split(" ", 2)[:2]
    path, _, query = target.partition("?")
    only_asks = "dryRun=All" in query or path.endswith("reviews") or path in _LAB_ASKS
    return method in ("POST", "PUT", "PATCH", "DELETE") and not only_asks


def _canonical(text: str | None) -> str:
    if not text:
        return ""
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def run_of(ask_url: str) -> str:
    """The run's id in a request's address, "" without one."""
    found = RUN.search(ask_url)
    return found[1] if found else ""


class RecordingTape:
    """Writes every exchange to a file as it happens, a line each.

    Args:
        path: of the file; lines are added.
        header: about the run; it is the first line of a new file.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self._path = path
        self._lock = threading.Lock()
        if not path.exists():
            self._write(header)

    def exchange(self, ask: str, live: Callable[[], Any]) -> Any:
        """Ask, and write down both."""
        answer = live()
        self._write({"ask": ask, "answer": answer})
        return answer

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock, open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


class ReplayTape:
    """Answers from what was written down.

    Args:
        header: of the recording.
        events: the exchanges in order.
    """

    def __init__(self, header: dict[str, Any], events: Sequence[dict[str, Any]]) -> None:
        self.header = header
        self._lock = threading.Lock()
        self._stretches: list[tuple[dict[str, Any] | None, dict[str, list[Any]]]] = [(None, {})]
        for event in events:
            if is_change(event["ask"]):
                self._stretches.append((event, {}))
            else:
                self._stretches[-1][1].setdefault(event["ask"], []).append(event["answer"])
        self._at = 0
        self._had: dict[str, int] = {}

    def exchange(self, ask: str, live: Callable[[], Any]) -> Any:
        """The recorded answer; ``live`` is never called.

        Raises:
            NotRecordedError: it was not asked at this place of the recorded run.
        """
        with self._lock:
            return self._change(ask) if is_change(ask) else self._look_up(ask)

    def _change(self, ask: str) -> Any:
        behind = range(self._at, 0, -1)
        for at in (self._at + 1, *behind):
            event = self._stretches[at][0] if at < len(self._stretches) else None
            if event is not None and event["ask"] == ask:
                self._at, self._had = at, {}
                return event["answer"]
        raise not_recorded(ask)

    def _look_up(self, ask: str) -> Any:
        answers = self._stretches[self._at][1].get(ask)
        if not answers:
            raise not_recorded(ask)
        at = self._had.get(ask, 0)
        self._had[ask] = at + 1
        return answers[min(at, len(answers) - 1)]


def not_recorded(ask: str) -> NotRecordedError:
    """The error for a question that is not on the tape."""
    words = ask if len(ask) <= 100 else f"{ask[:99]}…"
    return NotRecordedError(
        f"this is a recording, and only what was recorded can be asked; this was not, or not at this point: {words}",
        "Run the cells in order and unchanged, from the one with connect(). For questions of your own take a lab: "
        "connect() on Linux, in Docker or on Binder",
    )


def scrub(text: str, private: Iterable[str] = ()) -> str:
    """A line of a recording without secrets, and without words that are of the machine.

    Args:
        text: the line.
        private: words such as the machine's name, a token, a folder.
    """
    for secret in _SECRETS:
        text = secret.sub(SCRUBBED, text)
    text = _IDENTITIES.sub(rf"\g<1>{SCRUBBED}", text)
    for word in sorted({word for word in private if len(word) > 3}, key=len, reverse=True):
        text = text.replace(word, SCRUBBED)
    return text


def write(path: Path, lines: Iterable[str]) -> int:
    """Write a recording, the same bytes for the same lines; returns its size in bytes."""
    data = gzip.compress("".join(f"{line}\n" for line in lines).encode(), compresslevel=9, mtime=0)
    path.write_bytes(data)
    return len(data)


def read(path: Path) -> ReplayTape:
    """A recording, ready to answer.

    Raises:
        UsageError: it cannot be read, or is of another version.
    """
    remedy = "Make it anew: srcip-nb record DIR"
    try:
        header, *events = (json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines())
    except (OSError, EOFError, ValueError) as error:
        raise UsageError(f"the recording {path.name} cannot be read: {error}", remedy) from error
    if header.get("format") != FORMAT:
        raise UsageError(f"the recording {path.name} has format {header.get('format')}, not {FORMAT}", remedy)
    return ReplayTape(header, events)
