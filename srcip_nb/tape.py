"""A run on tape: what was asked of a cluster and its clients, and what they answered, in order.

    RecordingTape   asks, and writes down question and answer
    ReplayTape      asks nobody: the same question has the answer that was written down

Questions are of two kinds. What changes the cluster (POST, PUT, PATCH, DELETE) cuts the tape into stretches; between
two changes the world stood still or went its own way, and what was asked there is answered in the order of then, the
last answer again where a cell runs twice. A change is taken where the tape stands next, or earlier on it, for a cell
that runs again: the tape goes back to there. Whatever else is asked is refused: nothing is ever made up.

What stands beside a notebook's own line has stretches of its own (``beside``): another lab that it starts, a panel's
button that a reader may press or not. What is drawn by lot, or is a race of several threads, is an exchange like any
other: what came of it is written down (``told``).

The file is JSON lines, packed by xz: a header, then ``{"ask", "answer"}``, with ``"beside"`` where that was asked.
Before it is written, ``scrub`` takes out what is of the machine or secret.
"""

from __future__ import annotations

import json
import lzma
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from srcip_nb.errors import UsageError

FORMAT = 1
RUN = re.compile(r"\brun=([0-9a-f]{8})\b")
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
OF_THE_MOMENT = {"sinceSeconds", "sinceTime", "timeoutSeconds", "resourceVersion"}  # differ from run to run
_SECRETS = (
    re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----(\\+n|\n)?", re.DOTALL),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),  # a service account's token
    re.compile(r"Bearer [\w.~+/=-]+"),
)
_IDENTITIES = re.compile(r'((?:machineID|systemUUID|bootID)\\*":\s*\\*")[^"\\]*')  # an answer's quotes are escaped
_LAB_ASKS = ("/lab/v1/exec", "/lab/v1/trace")
SCRUBBED = "scrubbed"
_T = TypeVar("_T")


class NotRecordedError(UsageError):
    """A recording was asked something that is not on it."""


class Tape(Protocol):
    """What a cluster's connections are led over."""

    def exchange(self, ask: str, live: Callable[[], Any]) -> Any:
        """The answer to a question; ``live`` asks for it, where somebody is there to answer."""

    def beside(self, name: str) -> Tape:
        """The tape of what stands beside the notebook's own line: another lab, or a panel."""


def told(tape: Tape | None, ask: str, live: Callable[[], _T]) -> _T:
    """What ``live`` returns, or returned when it was recorded: any JSON value. Without a tape it is just called."""
    return live() if tape is None else tape.exchange(ask, live)


def question(method: str, url: str, accept: str = "", body: Any = None) -> str:
    """An API request as it is looked up: path, parameters, form and body, without what is of the moment."""
    parts = urlsplit(url)
    query = urlencode(sorted((k, v) for k, v in parse_qsl(parts.query) if k not in OF_THE_MOMENT))
    text = body.decode() if isinstance(body, bytes) else body
    table = " as Table" if "as=Table" in accept else ""
    asked = [method, parts.path + (f"?{query}" if query else "") + table, _MOMENT.sub("now", _canonical(text))]
    return " ".join(filter(None, asked))


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
        part: the name of what stands beside the notebook's own line; "" for that.
    """

    def __init__(self, path: Path, header: dict[str, Any], part: str = "") -> None:
        self._path = path
        self._header = header
        self._of = {"beside": part} if part else {}
        self._lock = threading.Lock()
        if not path.exists():
            self._write(header)

    def exchange(self, ask: str, live: Callable[[], Any]) -> Any:
        """Ask, and write down both, once there is an answer."""
        answer = live()
        self._write({"ask": ask, "answer": answer, **self._of})
        return answer

    def beside(self, name: str) -> RecordingTape:
        """The same file, for what stands beside."""
        return RecordingTape(self._path, self._header, name)

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock, open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


class ReplayTape:
    """Answers from what was written down.

    Args:
        header: of the recording.
        events: the exchanges in order.
        part: the name of what stands beside the notebook's own line; "" for that.
    """

    def __init__(self, header: dict[str, Any], events: Sequence[dict[str, Any]], part: str = "") -> None:
        self.header = header
        self._events = events
        self._lock = threading.Lock()
        self._stretches: list[tuple[dict[str, Any] | None, dict[str, list[Any]]]] = [(None, {})]
        for event in events:
            if event.get("beside", "") != part:
                continue
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

    def beside(self, name: str) -> ReplayTape:
        """What was asked there, from its beginning."""
        return ReplayTape(self.header, self._events, name)

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
    data = lzma.compress("".join(f"{line}\n" for line in lines).encode(), preset=6 | lzma.PRESET_EXTREME)
    path.write_bytes(data)
    return len(data)


def read(path: Path) -> ReplayTape:
    """A recording, ready to answer.

    Raises:
        UsageError: it cannot be read, or is of another version.
    """
    remedy = "Make it anew: srcip-nb record DIR"
    try:
        header, *events = (json.loads(line) for line in lzma.decompress(path.read_bytes()).decode().splitlines())
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise UsageError(f"the recording {path.name} cannot be read: {error}", remedy) from error
    if header.get("format") != FORMAT:
        raise UsageError(f"the recording {path.name} has format {header.get('format')}, not {FORMAT}", remedy)
    return ReplayTape(header, events)
