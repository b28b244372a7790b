"""The query parameters of a request, read and checked: ListOptions, write options, PodLogOptions.

Source: kubernetes v1.36.2 apimachinery pkg/apis/meta/{v1,internalversion}/validation and pkg/apis/core/validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from srcip_nb.lab.api import status
from srcip_nb.lab.api.objects import seconds_of

_MANAGER_LIMIT = 128
_FIELD_VALIDATION = ("Ignore", "Strict", "Warn")
_PROPAGATION = ("Background", "Foreground", "Orphan")


@dataclass(frozen=True)
class WriteOptions:
    """How to write: `validation` is Strict, Warn or Ignore; `manager` owns the fields."""

    manager: str
    dry_run: bool = False
    validation: str = "Warn"
    force: bool = False


@dataclass(frozen=True)
class ListOptions:
    """What to list or watch; `revision` is None where the client named no resourceVersion."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    continue_token: str = ""
    revision: int | None = None
    match: str = ""
    timeout: int | None = None
    bookmarks: bool = False
    send_initial: bool | None = None


@dataclass(frozen=True)
class DeleteOptions:
    """How to delete, from the query or the body."""

    grace: int | None = None
    propagation: str | None = None
    dry_run: bool = False
    uid: str = ""
    resource_version: str = ""


@dataclass(frozen=True)
class LogOptions:
    """Which part of a log."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since_seconds: int | None = None
    since_time_ns: int | None = None
    limit_bytes: int | None = None


def write_options(query: Mapping[str, str], user_agent: str, kind: str) -> WriteOptions:
    """The options of a create, update or patch.

    Args:
        query: the URL's.
        user_agent: the header; its part before the slash is the manager of those who name none.
        kind: what the options are called in an error: CreateOptions, UpdateOptions, PatchOptions.

    Raises:
        ApiError: 422.
    """
    causes = []
    validation = query.get("fieldValidation", "")
    if validation and validation not in _FIELD_VALIDATION:
        causes.append(status.not_supported("fieldValidation", validation, _FIELD_VALIDATION))
    given = query.get("fieldManager", "")
    if len(given.encode()) > _MANAGER_LIMIT:
        causes.append(status.too_long("fieldManager", _MANAGER_LIMIT))
    if any(not character.isprintable() for character in given):
        causes.append(status.invalid_value("fieldManager", given, "should only contain printable characters"))
    dry_run = _dry_run(query.get("dryRun", ""), causes)
    _refuse(kind, causes)
    agent = "".join(c for c in user_agent.split("/")[0] if c.isprintable())[:_MANAGER_LIMIT]
    manager = given or agent or "unknown"
    return WriteOptions(manager, dry_run, validation or "Warn", boolean(query.get("force", "")))


def check_apply(query: Mapping[str, str], is_apply: bool) -> None:
    """Server-side apply needs a field manager, and nothing else takes force.

    Raises:
        ApiError: 422.
    """
    if is_apply and not query.get("fieldManager"):
        _refuse("PatchOptions", [status.required("fieldManager", "is required for apply patch")])
    if not is_apply and "force" in query:
        _refuse("PatchOptions", [status.forbidden_value("force", "may not be specified for non-apply patch")])


def list_options(query: Mapping[str, str], *, is_watch: bool) -> ListOptions:
    """The options of a list or watch.

    Raises:
        ApiError: 400 a number cannot be read, 422 options that do not go together.
    """
    match, sends = query.get("resourceVersionMatch", ""), query.get("sendInitialEvents")
    send_initial = None if sends is None else boolean(sends)
    given = query.get("resourceVersion", "")
    causes = []
    if is_watch and match and send_initial is None:
        detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(status.forbidden_value("resourceVersionMatch", detail))
    if not is_watch and send_initial is not None:
        causes.append(status.forbidden_value("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if is_watch and send_initial is not None and match != "NotOlderThan":
        detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        causes.append(status.forbidden_value("resourceVersionMatch", detail))
    if not is_watch and match and match not in ("Exact", "NotOlderThan"):
        causes.append(status.not_supported("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
    if not is_watch and match and not given:
        detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        causes.append(status.forbidden_value("resourceVersionMatch", detail))
    _refuse("ListOptions", causes)
    return ListOptions(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=_number(query, "limit") or 0,
        continue_token=query.get("continue", ""),
        revision=revision_of(given),
        match=match,
        timeout=_number(query, "timeoutSeconds"),
        bookmarks=boolean(query.get("allowWatchBookmarks", "")),
        send_initial=send_initial,
    )


def revision_of(text: str) -> int | None:
    """A resourceVersion as a number; None for "".

    Raises:
        ApiError: 400.
    """
    if not text:
        return None
    if not re.fullmatch(r"\d{1,18}", text):
        raise status.bad_request(f'invalid resource version: strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def delete_options(query: Mapping[str, str], body: dict[str, object]) -> DeleteOptions:
    """The options of a deletion: the body's, where there is one, else the query's.

    Raises:
        ApiError: 400, 422.
    """
    causes: list[status.Cause] = []
    preconditions = body.get("preconditions") or {}
    if body:
        grace, propagation = body.get("gracePeriodSeconds"), body.get("propagationPolicy")
        orphans, dry_run = body.get("orphanDependents"), body.get("dryRun")
    else:
        grace, propagation = _number(query, "gracePeriodSeconds"), query.get("propagationPolicy")
        orphans = boolean(query["orphanDependents"]) if query.get("orphanDependents") else None
        dry_run = None
    if propagation and propagation not in _PROPAGATION:
        causes.append(status.not_supported("propagationPolicy", propagation, (*_PROPAGATION, "nil")))
    if propagation and orphans is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(status.invalid_value("propagationPolicy", propagation, detail))
    dry = ",".join(str(word) for word in dry_run) if isinstance(dry_run, list) else query.get("dryRun", "")
    is_dry = _dry_run(dry, causes)
    _refuse("DeleteOptions", causes)
    if orphans is not None:
        propagation = "Orphan" if orphans else "Background"
    wanted = preconditions if isinstance(preconditions, dict) else {}
    return DeleteOptions(
        grace=grace if isinstance(grace, int) else None,
        propagation=str(propagation) if propagation else None,
        dry_run=is_dry,
        uid=str(wanted.get("uid") or ""),
        resource_version=str(wanted.get("resourceVersion") or ""),
    )


def log_options(query: Mapping[str, str], pod: str) -> LogOptions:
    """The options of a log request.

    Raises:
        ApiError: 400 a number cannot be read, 422 a number or a combination that makes no sense.
    """
    tail, since = _number(query, "tailLines"), _number(query, "sinceSeconds")
    limit, since_time = _number(query, "limitBytes"), query.get("sinceTime", "")
    stream = query.get("stream", "")
    causes = []
    if tail is not None and tail < 0:
        causes.append(status.invalid_value("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        causes.append(status.invalid_value("limitBytes", limit, "must be greater than 0"))
    if since is not None and since_time:
        causes.append(status.forbidden_value("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if since is not None and since < 1:
        causes.append(status.invalid_value("sinceSeconds", since, "must be greater than 0"))
    if stream not in ("", "All"):
        causes.append(status.not_supported("stream", stream, ("All",)))
    if causes:
        raise status.invalid("PodLogOptions", pod, causes, group="")
    return LogOptions(
        container=query.get("container", ""),
        follow=boolean(query.get("follow", "")),
        previous=boolean(query.get("previous", "")),
        timestamps=boolean(query.get("timestamps", "")),
        tail=tail,
        since_seconds=since,
        since_time_ns=_time_ns(since_time) if since_time else None,
        limit_bytes=limit,
    )


def boolean(text: str) -> bool:
    """A boolean parameter: everything but "", "0" and "false" is true, in any case (apimachinery pkg/conversion)."""
    return text.lower() not in ("", "0", "false")


def _time_ns(text: str) -> int:
    try:
        return int(seconds_of(text) * 1_000_000_000)
    except ValueError:
        raise status.bad_request(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        ) from None


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[+-]?\d{1,18}", text):
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _dry_run(text: str, causes: list[status.Cause]) -> bool:
    words = [word for word in text.split(",") if word]
    if set(words) - {"All"}:
        causes.append(status.not_supported("dryRun", words, ("All",)))
    return bool(words)


def _refuse(kind: str, causes: list[status.Cause]) -> None:
    if causes:
        raise status.invalid(kind, "", causes, group="meta.k8s.io")
