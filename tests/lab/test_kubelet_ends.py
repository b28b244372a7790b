"""Pods that end while they begin, that are told twice to end, and containers that share a pod."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .controller_objects import Running, run


def test_nothing_is_started_in_a_pod_that_was_deleted_while_it_was_made() -> None:
    async def test(cluster: Running) -> None:
        made = cluster.agent._pod_add

        async def pod_add(**arguments: Any) -> None:
            cluster.store.delete("pods", "seminar", "web")
            await made(**arguments)

        cluster.agent._pod_add = pod_add
        cluster.create_pod()
        await cluster.until(lambda: cluster.agent.named("pod_del"))
        await cluster.until(lambda: cluster.get("pods", "web") is None)
        assert cluster.agent.named("start") == []

    run(test)


def test_the_signal_waits_until_the_program_takes_it() -> None:
    async def test(cluster: Running) -> None:
        cluster.agent.logs_start = False
        cluster.create_pod()
        await cluster.until(lambda: cluster.agent.named("start"))
        cluster.store.delete("pods", "seminar", "web")
        await cluster.until(lambda: ("Killing", "Stopping container nginx") in cluster.events("web"))
        await cluster.rest()
        assert cluster.agent.named("stop") == []
        line = {"time": 1, "stream": "stderr", "text": "[notice] 1#1: start worker processes\n"}
        cluster.agent.emit("log", pod="seminar/web", container="nginx", **line)
        await cluster.until(lambda: cluster.get("pods", "web") is None, 1.0)
        (stopped,) = cluster.agent.named("stop")
        assert 29 < stopped["grace"] < 30

    run(test)


def test_a_second_deletion_with_less_time_shortens_the_first() -> None:
    async def test(cluster: Running) -> None:
        cluster.agent.stop_waits = asyncio.Event()
        hook = {"preStop": {"sleep": {"seconds": 20}}}
        cluster.create_pod(container={"lifecycle": hook})
        await cluster.until_ready()
        cluster.store.delete("pods", "seminar", "web")
        await cluster.until(lambda: ("Killing", "Stopping container nginx") in cluster.events("web"))
        for grace in (3, 1, 20):
            cluster.store.delete("pods", "seminar", "web", grace=grace)
            await cluster.rest()
        assert [stopped["grace"] for stopped in cluster.agent.named("stop")] == [3.0, 1.0]
        cluster.agent.stop_waits.set()
        await cluster.until(lambda: cluster.get("pods", "web") is None)

    run(test)


# -- over a real kernel ----------------------------------------------------------------------------------------------


@pytest.mark.lab
def test_pods_deleted_at_any_moment_of_their_start_are_gone_without_their_grace() -> None:
    async def test(cluster: Running) -> None:
        for pause in (0.0, 0.01, 0.02, 0.04, 0.08):
            cluster.create_pod(f"web-{int(pause * 1000)}")
            await asyncio.sleep(pause)
            cluster.store.delete("pods", "seminar", f"web-{int(pause * 1000)}")
        await cluster.until(lambda: not cluster.pods())  # which waits less than their grace

    run(test, kernel=True)


OTHER_PORT = "server { listen 8080; location / { return 200 other; } }\n"


@pytest.mark.lab
def test_two_containers_of_a_pod_each_have_their_own_processes() -> None:
    async def test(cluster: Running) -> None:
        cluster.create(
            "configmaps",
            {"metadata": {"name": "other"}, "data": {"nginx.conf": f"events {{}}\nhttp {{ {OTHER_PORT} }}"}},
        )
        first = {"name": "first", "image": "nginx"}
        command = ["nginx", "-c", "/etc/other/nginx.conf", "-g", "daemon off; pid /run/nginx.pid;"]
        mount = {"name": "v", "mountPath": "/etc/other"}
        second = {"name": "second", "image": "nginx", "command": command, "volumeMounts": [mount]}
        cluster.create_pod(containers=[first, second], volumes=[{"name": "v", "configMap": {"name": "other"}}])
        await cluster.until_ready()

        async def sh(container: str, script: str) -> str:
            argv = ["sh", "-c", script]
            done = await cluster.agent.call("exec", host="seminar/web", container=container, argv=argv)
            assert done["code"] == 0, done
            return str(done["stdout"])

        async def get(port: int) -> str:
            # A container without a readinessProbe is ready when it runs, which may be before it listens.
            argv = ["curl", "-s", "--retry", "10", "--retry-connrefused", f"http://10.0.5.2:{port}/"]
            return str((await cluster.agent.call("exec", host="worker01", argv=argv))["stdout"])

        args = "tr '\\0' ' ' < /proc/1/cmdline; cat /run/nginx.pid; set -- /proc/[0-9]*; echo $#"
        before = {name: await sh(name, args) for name in ("first", "second")}
        assert "master process" in before["first"] and "daemon off;" in before["first"]
        assert "/etc/other/nginx.conf" in before["second"]
        assert all(text.split()[-2] == "1" for text in before.values()), before
        assert (await get(80)).startswith("<!DOCTYPE") and await get(8080) == "other"
        # The second ends and is started again; the first does not notice.
        await cluster.agent.call("exec", host="seminar/web", container="second", argv=["nginx", "-s", "stop"])
        await cluster.until(
            lambda: (
                cluster.get("pods", "web")["status"]["containerStatuses"][1]["restartCount"] == 1
                and cluster.get("pods", "web")["status"]["containerStatuses"][1]["ready"]
            )
        )
        assert await sh("first", args) == before["first"]
        assert await get(8080) == "other"
        assert cluster.get("pods", "web")["status"]["containerStatuses"][0]["restartCount"] == 0
        # Still the very same log: the first's standard output is reached by its own /proc.
        await get(80)
        await cluster.until(lambda: "curl" in cluster.podlogs.read("seminar", "web", "first"))
        cluster.store.delete("pods", "seminar", "web")
        await cluster.until(lambda: not cluster.pods())

    run(test, kernel=True)


@pytest.mark.lab
def test_a_pod_on_its_hosts_network_is_there_and_leaves_the_host_as_it_was() -> None:
    async def test(cluster: Running) -> None:
        async def on(host: str, *argv: str) -> str:
            done = await cluster.agent.call("exec", host=host, argv=list(argv))
            return str(done["stdout"])

        devices = await on("worker01", "ls", "/sys/class/net")
        cluster.create_pod(hostNetwork=True)
        await cluster.until_ready()
        assert "Welcome to nginx" in await on("client", "curl", "-s", "http://192.168.1.45/")
        await cluster.until(lambda: "192.168.1.122 - - [" in cluster.podlogs.read("seminar", "web", "nginx"))
        assert await on("seminar/web", "hostname") == "worker01\n"
        assert await on("seminar/web", "ls", "/sys/class/net") == devices
        cluster.store.delete("pods", "seminar", "web")
        await cluster.until(lambda: cluster.get("pods", "web") is None)
        assert await on("worker01", "ls", "/sys/class/net") == devices
        assert await on("client", "curl", "-s", "http://192.168.1.45/") == ""
        cluster.create_pod()  # a pod with a network of its own goes to the same node, which still works
        await cluster.until_ready()
        assert "Welcome to nginx" in await on("worker02", "curl", "-s", "http://10.0.5.2/")

    run(test, kernel=True)
