r"""What a line of nginx's output is: the definition, one regular expression for each kind.

nginx in its official image writes to one stream, line by line::

    10.0.5.0 - - [15/Oct/2023:04:23:57 +0000] "GET / HTTP/1.1" 200 292 "-" "Firefox" "-"    access_main, 9 fields
    10.0.5.0 - - [15/Oct/2023:04:23:57 +0000] "GET / HTTP/1.1" 200 292 "-" "Firefox"        access_combined, 8 fields
    2023/10/15 04:23:57 [error] 29#29: *1 open() failed (2: ...), client: 10.0.5.0, ...     error_request
    2023/10/15 04:23:50 [notice] 1#1: start worker processes                                error_process
    /docker-entrypoint.sh: Configuration complete; ready for start up                       entrypoint
    nginx: [emerg] unknown directive "lisen" in /etc/nginx/nginx.conf:3                     console
    anything else, also what was meant to be one of the above and is not                    other

In an access line nginx writes control bytes, bytes from 0x7f up, quotes and backslashes as ``\xHH``
(``ngx_http_log_escape``): a quoted field never holds a quote, so each access line has one reading only. An error line
has no escapes: a visitor writes part of it, and can write ``, client: 6.6.6.6`` too. Where those words stand twice,
nobody can tell which are nginx's, and ``client`` is left empty.

``read_line()`` is the definition that every faster reader has to equal.
"""

from __future__ import annotations

import codecs
import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple

KINDS = ("access_main", "access_combined", "error_request", "error_process", "entrypoint", "console", "other")
LEVELS = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")

_QUOTED = r'"([^"\\]*(?:\\x[0-9A-F]{2}[^"\\]*)*)"'
TIME = r"[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}"
_LEVEL = "|".join(LEVELS)

# log_format main of the image's nginx.conf; nginx's built-in combined is the same without the last field
# (ngx_http_log_module.c). 18 digits are what an Int64 holds without a second look.
ACCESS = re.compile(
    rf'([^ "]+) - ([^"]*?) \[({TIME})\] {_QUOTED} ([0-9]{{3}}) ([0-9]{{1,18}}) {_QUOTED} {_QUOTED}(?: {_QUOTED})?',
    re.DOTALL,
)
METHOD = "[A-Z_-]+"
REQUEST = re.compile(rf"({METHOD}) (.*) (HTTP/[0-9]\.[0-9])", re.DOTALL)
IDS = re.compile(r"[?&]run=([0-9a-f]{8})&request=([0-9]{1,18})(?:[&#]|$)")
# ngx_log_error_core(): time, level, process#thread, *connection, message.
ERROR = re.compile(
    r"([0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) "
    rf"\[({_LEVEL})\] ([0-9]{{1,18}})#[0-9]{{1,18}}: "
    r"(?:\*([0-9]{1,18}) )?(.*)",
    re.DOTALL,
)
# ngx_http_log_error() and ngx_http_log_error_handler() add these to the message of a request, in this order.
CLIENT_FOLLOWS = ", client: "
_RAW_QUOTED = r'"([^"]*(?:"[^"]*)*?)"'  # a visitor's quotes are not escaped here
CONTEXT = re.compile(
    rf'([^ ,"]+)(?:, server: ([^ "]*))?(?:, request: {_RAW_QUOTED})?(?:, subrequest: {_RAW_QUOTED})?'
    rf"(?:, upstream: {_RAW_QUOTED})?(?:, host: {_RAW_QUOTED})?(?:, referrer: {_RAW_QUOTED})?"
)
# nginx cuts an error line at 2048 bytes (NGX_MAX_ERROR_STR), so what follows the address may lack its end.
CONTEXT_CUT = re.compile(r'([^ ,"]+)(?:, server: ([^ ,"]*)(?=,))?')
ENTRYPOINT = re.compile(r"(?:/docker-entrypoint\.sh|[0-9]+-[A-Za-z0-9._-]+\.(?:sh|envsh)): (.*)", re.DOTALL)
CONSOLE = re.compile(rf"nginx: (?:\[({_LEVEL})\] )?(.*)", re.DOTALL)

_MONTHS = {
    name: number
    for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)  # noqa: SIM905
}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)


class Row(NamedTuple):
    """One line, read. ``None`` where this kind of line has no such thing, or where nginx wrote ``-`` for absent."""

    kind: str
    time: int | None = None  # nanoseconds since 1970 in UTC
    remote_addr: str | None = None
    remote_user: str | None = None
    method: str | None = None
    uri: str | None = None
    protocol: str | None = None
    status: int | None = None
    bytes: int | None = None
    referer: str | None = None
    user_agent: str | None = None
    forwarded_for: str | None = None
    run: str | None = None
    request: int | None = None
    level: str | None = None
    pid: int | None = None
    connection: int | None = None
    message: str | None = None
    client: str | None = None
    server: str | None = None
    upstream: str | None = None
    host: str | None = None
    raw: str | None = None


def read_line(text: str, zone: tzinfo = timezone.utc) -> Row:
    """Read one line.

    Args:
        text: the line without its line ending.
        zone: the zone of error lines' clock; they do not name one.

    Returns:
        The row; its ``raw`` is the line itself unless it is an access line, whose fields hold it all.
    """
    access = ACCESS.fullmatch(text)
    if access:
        address, user, when, request, status, size, referer, agent, forwarded = access.groups()
        time = access_time(when)
        if time is not None:
            method, uri, protocol = split_request(request)
            return Row(
                "access_combined" if forwarded is None else "access_main",
                time,
                address,
                _absent(user),
                method,
                uri,
                protocol,
                int(status),
                int(size),
                _absent(referer),
                _absent(agent),
                _absent(forwarded),
                *request_ids(uri),
            )
    error = ERROR.fullmatch(text)
    if error:
        clock, level, pid, connection, message = error.groups()
        time = error_time(clock, zone)
        if time is not None:
            return _error_row(text, time, level, int(pid), None if connection is None else int(connection), message)
    entrypoint = ENTRYPOINT.fullmatch(text)
    if entrypoint:
        return Row("entrypoint", message=entrypoint[1], raw=text)
    console = CONSOLE.fullmatch(text)
    if console:
        return Row("console", level=console[1], message=console[2], raw=text)
    return Row("other", raw=text)


def _error_row(text: str, time: int, level: str, pid: int, connection: int | None, message: str) -> Row:
    before, client_follows, context = message.partition(CLIENT_FOLLOWS)
    if not client_follows:
        return Row("error_process", time, level=level, pid=pid, connection=connection, message=message, raw=text)
    is_plain = CLIENT_FOLLOWS not in context
    found = CONTEXT.fullmatch(context) if is_plain else None
    cut = CONTEXT_CUT.match(context) if is_plain and not found else None
    client = server = request = upstream = host = referer = None
    if found:
        client, server, request, _, upstream, host, referer = found.groups()
    elif cut:
        client, server = cut.groups()
    else:
        before = message
    method, uri, protocol = (None, None, None) if request is None else split_request(request)
    run, number = request_ids(uri)
    return Row(
        "error_request", time, None, None, method, uri, protocol, None, None, referer, None, None, run, number,
        level, pid, connection, before, client, server, upstream, host, text,
    )  # fmt: skip


def error_time(clock: str, zone: tzinfo) -> int | None:
    """Nanoseconds since 1970 of ``2023/10/15 04:23:57`` on a clock of this zone; None where there is no such moment."""
    seconds = _seconds(int(clock[:4]), int(clock[5:7]), int(clock[8:10]), clock[11:])
    if seconds is None:
        return None
    if zone is not timezone.utc:
        wall = _EPOCH.replace(tzinfo=zone) + timedelta(seconds=seconds)
        seconds -= (wall.utcoffset() or _SECOND * 0) // _SECOND
    return seconds * 1_000_000_000


def _absent(value: str | None) -> str | None:
    return None if value == "-" else value


def split_request(request: str) -> tuple[str | None, str | None, str | None]:
    """Method, URI, protocol; a request that is not these three is all in the URI: empty, binary, HTTP/0.9."""
    found = REQUEST.fullmatch(request)
    if found:
        return found[1], found[2], found[3]
    return None, _absent(request), None


def request_ids(uri: str | None) -> tuple[str | None, int | None]:
    """The id of the run (8 hexadecimal digits) and the number of the request from ``?run=...&request=...``."""
    found = IDS.search(uri) if uri and "run=" in uri else None
    return (found[1], int(found[2])) if found else (None, None)


def access_time(text: str) -> int | None:
    """Nanoseconds since 1970 of ``15/Oct/2023:04:23:57 +0000``; None where there is no such day, hour or zone."""
    month = _MONTHS.get(text[3:6])
    zone_hours, zone_minutes = int(text[22:24]), int(text[24:])
    if month is None or zone_hours > 23 or zone_minutes > 59:
        return None
    seconds = _seconds(int(text[7:11]), month, int(text[:2]), text[12:20])
    if seconds is None:
        return None
    offset = zone_hours * 3600 + zone_minutes * 60
    return (seconds + offset if text[21] == "-" else seconds - offset) * 1_000_000_000


def _seconds(year: int, month: int, day: int, clock: str) -> int | None:
    """Seconds since 1970 of a day and ``04:23:57`` where clocks keep UTC; None where there is no such moment."""
    midnight = _midnight(year, month, day)
    hour, minute, second = int(clock[:2]), int(clock[3:5]), int(clock[6:])
    if midnight is None or hour > 23 or minute > 59 or second > 59:
        return None
    return midnight + hour * 3600 + minute * 60 + second


@lru_cache(maxsize=1 << 12)
def _midnight(year: int, month: int, day: int) -> int | None:
    fits_nanoseconds = 1678 <= year <= 2261  # what 64 bits of nanoseconds hold in whole years
    try:
        return (datetime(year, month, day, tzinfo=timezone.utc) - _EPOCH) // _SECOND if fits_nanoseconds else None
    except ValueError:
        return None


def _as_nginx_escapes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(f"\\x{byte:02X}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("srcip_nb.nginx", _as_nginx_escapes)


def decode(line: bytes) -> str:
    r"""The text of a line; a byte that is not UTF-8 is written as nginx itself writes it, ``\xFF``."""
    return line.decode("utf-8", "srcip_nb.nginx")


_ESCAPE = re.compile(rb"\\x([0-9A-F]{2})")


def unescaped(text: str) -> str:
    r"""Text with nginx's escapes undone; bytes that are not UTF-8 even so become U+FFFD."""
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode()).decode("utf-8", "replace")
