from __future__ import annotations

import asyncio
from typing import Any

import pytest

from srcip_nb.lab.api.podlog_answers import container_of, reads_from_previous
from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.api.status import ApiError

POD = ("seminar", "web", "nginx")


def filled(*texts: str) -> PodLogs:
    logs = PodLogs()
    for second, text in enumerate(texts):
        logs.append(*POD, second * 1_000_000_000 + 5, text)
    return logs


def test_reading_whole_the_last_lines_and_since() -> None:
    logs = filled("a\n", "b\nc\n", "d")
    assert logs.read(*POD) == "a\nb\nc\nd\n"
    assert [logs.read(*POD, tail=count) for count in (0, 1, 2, 3, 9)] == [
        "",
        "d\n",
        "c\nd\n",
        "b\nc\nd\n",
        "a\nb\nc\nd\n",
    ]
    assert logs.read(*POD, since_ns=1_000_000_000) == "b\nc\nd\n"
    assert logs.read(*POD, tail=1, timestamps=True) == "1970-01-01T00:00:02.000000005Z d\n"
    assert logs.read("seminar", "web", "none") == ""


def test_a_limit_cuts_bytes_but_no_character() -> None:
    assert filled("aあb\n").read(*POD, limit_bytes=3) == "a"
    assert filled("aあb\n").read(*POD, limit_bytes=4) == "aあ"


def test_the_oldest_goes_first() -> None:
    logs = PodLogs(limit=10)
    for number in range(6):
        logs.append(*POD, number, f"{number}23\n")
    assert logs.read(*POD) == "423\n523\n"


def test_a_restart_puts_the_log_aside() -> None:
    logs = filled("old\n")
    logs.restart(*POD)
    logs.append(*POD, 1, "new\n")
    assert (logs.read(*POD), logs.read(*POD, previous=True)) == ("new\n", "old\n")
    logs.remove("seminar", "web")
    assert (logs.read(*POD), logs.read(*POD, previous=True)) == ("", "")


@pytest.mark.parametrize("end", ["finish", "restart", "remove"])
def test_following_gives_everything_once_and_ends_with_the_container(end: str) -> None:
    async def follow() -> str:
        logs = filled("a\n", "b\n")
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, logs.append, *POD, 9, "c\n")
        loop.call_later(0.02, logs.append, *POD, 9, "d\n")
        loop.call_later(0.03, getattr(logs, end), *(POD[:2] if end == "remove" else POD))
        return "".join([piece async for piece in logs.follow(*POD, tail=1)])

    assert asyncio.run(asyncio.wait_for(follow(), 5)) == "b\nc\nd\n"


def test_following_begins_before_the_first_start() -> None:
    async def follow() -> list[str]:
        logs = PodLogs()
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, logs.restart, *POD)
        loop.call_later(0.02, logs.append, *POD, 9, "a\n")
        loop.call_later(0.03, logs.finish, *POD)
        return [piece async for piece in logs.follow(*POD)]

    assert asyncio.run(asyncio.wait_for(follow(), 5)) == ["a\n"]


def pod(state: dict[str, Any] | None, last: dict[str, Any] | None = None, containers: int = 1) -> dict[str, Any]:
    statuses = [{"name": "c0", "state": state, "lastState": last or {}}] if state is not None else []
    return {
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": f"c{number}"} for number in range(containers)]},
        "status": {"containerStatuses": statuses},
    }


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "ContainerCreating"),
        ({"waiting": {"reason": "ContainerCreating"}}, "ContainerCreating"),
        ({"waiting": {"reason": "ErrImagePull"}}, "image can't be pulled"),
        ({"waiting": {"reason": "ImagePullBackOff"}}, "trying and failing to pull image"),
        ({"waiting": {"reason": "CreateContainerConfigError"}}, "CreateContainerConfigError"),
    ],
)
def test_a_container_that_never_ran_has_no_log(state: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        reads_from_previous(pod(state), "c0", False)
    assert caught.value.message == f'container "c0" in pod "web" is waiting to start: {words}'
    assert caught.value.code == 400


def test_which_log_a_restarted_container_has() -> None:
    ended = {"terminated": {"exitCode": 1}}
    backing_off = pod({"waiting": {"reason": "CrashLoopBackOff"}}, ended)
    assert (reads_from_previous(backing_off, "c0", False), reads_from_previous(backing_off, "c0", True)) == (
        False,
        False,
    )
    running = pod({"running": {}}, ended)
    assert (reads_from_previous(running, "c0", False), reads_from_previous(running, "c0", True)) == (False, True)
    with pytest.raises(ApiError, match='previous terminated container "c0" in pod "web" not found'):
        reads_from_previous(pod({"running": {}}), "c0", True)


def test_which_container_is_meant() -> None:
    assert container_of(pod({}), "") == "c0"
    with pytest.raises(ApiError, match="container x is not valid for pod web"):
        container_of(pod({}), "x")
    with pytest.raises(ApiError, match=r"a container name must be specified for pod web, choose one of: \[c0 c1\]"):
        container_of(pod({}, containers=2), "")
