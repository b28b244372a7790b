"""The agent's operations. Method `op_NAME` does request `{"op": NAME}`; its arguments are the request's other members.

    configure text                            lines of topology.py
    exec host argv [stdin] [timeout] [env] [container]          -> {code, stdout, stderr}
    open host argv [tty] [env] [rows] [cols] [container]        events {stdout} and {stderr}, base64 -> {code}
    input to data | signal to signal | resize to rows cols      to a running exec, open or visit
    pod_add pod text|host [files] [empty] | pod_write pod [files] [remove] | pod_del pod
    start pod container argv [env] -> {pid} | stop pod container [grace] [signal] -> {code}
    announce host address | withdraw host address
    health host port status [headers] [body] [address] [path]   status null closes
    visit host requests [concurrency] [timeout] [rate]          events {done: [...]} -> {sent}
    trace_begin host | trace_end host -> {messages, whole}      the kernel's own, base64, see tracelog.py
    modes -> {mode: "" or why it cannot be}                     kube-proxy's, each tried
    stats -> {rss_kb, pss_kb, processes, namespaces} | ping

A host is called by its name, a pod ``NAMESPACE/POD``. A program runs in a pod's first running container, or in the one
that `container` names, then with that one's variables.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

from . import load, podroot, programs
from .arp import Announcements
from .commands import lines_of, run_text
from .containers import Containers, signal_number
from .health import HealthPorts, Reply
from .modes import try_modes
from .processes import Feed, Processes
from .programs import Running, resize_terminal
from .protocol import RequestError
from .reactor import Reactor
from .spaces import Space, Spaces, in_thread, mount_host_root
from .tracelog import TraceLog
from .uplink import Uplinks

INLINE = ("ping", "input", "signal", "resize")


class Operations:
    """All state of the lab's kernel side, and what can be done with it."""

    def __init__(self, send: Callable[[dict[str, Any]], None], has_overlay: bool) -> None:
        self._send = send
        self._has_overlay = has_overlay
        self._processes = Processes()
        self._reactor = Reactor()
        self._reactor.start()
        self._spaces = Spaces()
        self._pods: dict[str, Space] = {}
        self._containers = Containers(self._processes, self._reactor, send)
        self._announcements = Announcements(self._reactor)
        self._uplinks = Uplinks(self._reactor)
        self._health = HealthPorts(self._reactor)
        self._traces: dict[str, TraceLog] = {}
        self._running: dict[Any, Running] = {}
        self._libc = ctypes.CDLL(None)

    def begin(self, number: Any, name: str) -> Running:
        """Note that a request is under way."""
        running = Running(number)
        if name in ("exec", "open"):
            running.feed = Feed()
        if name not in INLINE:
            self._running[number] = running
        return running

    def end(self, running: Running) -> None:
        """Forget a request that is done."""
        self._running.pop(running.id, None)
        if running.feed:
            running.feed.close()

    # -- hosts --------------------------------------------------------------------------------------------------------

    def op_configure(self, running: Running, text: str) -> dict[str, int]:
        """Do the lines of a topology; hosts get their names into /etc/hosts."""
        started = time.monotonic()

        def add(name: str) -> Space:
            return self._spaces.add(name, name, lambda: mount_host_root(name))

        try:
            run_text(text, self._spaces, add)
        finally:
            self._spaces.write_hosts_file()
            self._uplinks.look_after(self._spaces.hosts())
        return {"microseconds": int((time.monotonic() - started) * 1e6)}

    def _find(self, host: str) -> Space:
        if "/" not in host:
            return self._spaces[host]
        if host not in self._pods:
            raise RequestError(f"there is no pod {host} in the lab")
        return self._pods[host]

    def _enter(self, host: str, container: str = "") -> Space:
        space = self._find(host)
        if "/" in host:
            self._containers.enter(host, space, container)
        else:
            space.enter()
        return space

    # -- programs -----------------------------------------------------------------------------------------------------

    def op_exec(
        self,
        running: Running,
        host: str,
        argv: list[str],
        stdin: str | None = None,
        timeout: float | None = None,
        env: dict[str, str] | None = None,
        container: str = "",
    ) -> dict[str, Any]:
        """Run a program to its end."""

        def enter() -> str:
            return self._enter(host, container).name

        env = {**self._containers.environment(host, container), **(env or {})}
        return programs.run(self._processes, running, enter, argv, stdin, timeout, env)

    def op_open(
        self,
        running: Running,
        host: str,
        argv: list[str],
        tty: bool = False,
        env: dict[str, str] | None = None,
        rows: int = 24,
        cols: int = 80,
        container: str = "",
    ) -> dict[str, Any]:
        """Run a program and hand on its output as it comes."""

        def hand_on(stream: str, data: bytes) -> None:
            self._send({"id": running.id, "event": {stream: base64.b64encode(data).decode()}})

        def enter() -> str:
            return self._enter(host, container).name

        env = {**self._containers.environment(host, container), **(env or {})}
        if tty:
            return programs.stream_terminal(self._processes, running, enter, argv, env, (rows, cols), hand_on)
        return programs.stream(self._processes, running, enter, argv, env, hand_on)

    def _running_one(self, to: Any) -> Running:
        if to not in self._running:
            raise RequestError(f"request {to!r} is not under way")
        return self._running[to]

    def op_input(self, running: Running, to: Any, data: str | None) -> None:
        """Give a program input (base64), or the end of it (null)."""
        feed = self._running_one(to).feed
        if feed is None:
            raise RequestError(f"request {to!r} takes no input")
        try:
            feed.put(None if data is None else base64.b64decode(data, validate=True))
        except (binascii.Error, TypeError) as error:
            raise RequestError("data has to be base64") from error

    def op_signal(self, running: Running, to: Any, signal: str) -> None:
        """Signal the program of a request (its whole process group); a visit ends at any signal."""
        number = signal_number(signal)
        target = self._running_one(to)
        if target.process:
            self._processes.signal(target.process, number, is_group=True)
        else:
            target.is_stopped.set()

    def op_resize(self, running: Running, to: Any, rows: int, cols: int) -> None:
        """Tell a program's terminal its size."""
        target = self._running_one(to)
        target.size = rows, cols  # looked at when the terminal is there, if it is not yet
        if target.terminal >= 0:
            resize_terminal(target.terminal, rows, cols)
        elif target.process:
            raise RequestError(f"request {to!r} has no terminal")

    # -- pods ---------------------------------------------------------------------------------------------------------

    def op_pod_add(
        self,
        running: Running,
        pod: str,
        text: str = "",
        files: dict[str, Any] | None = None,
        empty: list[str] | None = None,
        host: str = "",
    ) -> None:
        """Make a pod: its namespaces, its files, and by its text its network, or a host's; all of it or nothing."""
        names = [words[3] for _, words in lines_of(text) if words[:3] == ["ip", "netns", "add"] and len(words) > 3]
        if host and not text:
            names = [pod.replace("/", ".")]
        if pod.count("/") != 1 or len(names) != 1 or "." not in names[0]:
            raise RequestError("a pod is NAMESPACE/POD, and its text makes one namespace, NAMESPACE.POD")
        if pod in self._pods:
            raise RequestError(f"pod {pod} exists already")
        content, directories = podroot.contents(files or {}), empty or []
        podroot.check_paths(directories)
        node = self._spaces[host] if host else None
        hostname = host or pod.partition("/")[2]

        def add(name: str) -> Space:
            def make_root() -> None:
                podroot.make_pod_root(self._has_overlay, hostname, directories, content)

            made = self._pods[pod] = self._spaces.add(name, hostname, make_root, node)
            return made

        if node:
            add(names[0])
            return

        try:
            run_text(text, self._spaces, add)
            for address in self._pods[pod].addresses[:1]:
                self._in_pod(pod, podroot.add_host, f"{address}\t{hostname}")
        except RequestError:
            if self._pods.pop(pod, None):
                self._spaces.remove(names[0])
            raise

    def _in_pod(self, pod: str, function: Callable[..., Any], *arguments: Any) -> None:
        space = self._find(pod)

        def run() -> None:
            space.enter()
            function(*arguments)

        try:
            in_thread(run)
        except OSError as error:
            raise RequestError(f"pod {pod}: {error.filename or ''}: {error.strerror}") from error

    def op_pod_write(
        self, running: Running, pod: str, files: dict[str, Any] | None = None, remove: list[str] | None = None
    ) -> None:
        """Write and remove files of a pod."""
        content = podroot.contents(files or {})
        podroot.check_paths(remove or [])
        self._in_pod(pod, podroot.write_files, content)
        self._in_pod(pod, podroot.remove_files, remove or [])

    def op_pod_del(self, running: Running, pod: str) -> None:
        """Kill what runs in a pod and take it away."""
        space = self._find(pod)
        del self._pods[pod]
        self._containers.stop_all(pod)
        self._processes.kill_space(space.name)
        self._health.forget(space.name)
        self._announcements.forget(space.name)
        self._spaces.remove(space.name)

    def op_start(
        self, running: Running, pod: str, container: str, argv: list[str], env: dict[str, str] | None = None
    ) -> dict[str, int]:
        """Start a pod's program; its log and its end come as events."""
        return {"pid": self._containers.start(pod, self._find(pod), container, argv, env or {})}

    def op_stop(
        self, running: Running, pod: str, container: str, grace: float = 30, signal: str = "TERM"
    ) -> dict[str, int | None]:
        """End a pod's program: a signal, and after the grace period SIGKILL."""
        self._find(pod)
        return {"code": self._containers.stop(pod, container, signal_number(signal), grace)}

    # -- who answers for what -----------------------------------------------------------------------------------------

    def op_announce(self, running: Running, host: str, address: str) -> None:
        """Let a host answer ARP for an address."""
        self._announcements.announce(self._find(host), _ipv4(address))

    def op_withdraw(self, running: Running, host: str, address: str) -> None:
        """Let it no longer answer."""
        self._announcements.withdraw(self._find(host).name, _ipv4(address))

    def op_health(
        self,
        running: Running,
        host: str,
        port: int,
        status: int | None,
        headers: dict[str, str] | None = None,
        body: str = "",
        address: str = "0.0.0.0",
        path: str = "",
    ) -> None:
        """Open, change or close a port that answers health checks."""
        space = self._find(host)
        if status is None:
            self._health.close(space.name, port)
        else:
            self._health.answer(space, port, Reply(status, headers or {}, body, path), _ipv4(address))

    def op_visit(
        self,
        running: Running,
        host: str,
        requests: list[dict[str, Any]],
        concurrency: int = 16,
        timeout: float = 5.0,
        rate: float | None = None,
    ) -> dict[str, int]:
        """Send HTTP requests from a host or pod."""
        if not all(isinstance(request, dict) and "id" in request and "url" in request for request in requests):
            raise RequestError("each request wants id and url")
        self._enter(host)
        sent = 0
        try:
            for batch in load.visit(requests, concurrency, timeout, rate, running.is_stopped.is_set):
                sent += len(batch)
                self._send({"id": running.id, "event": {"done": batch}})
        except ValueError as error:
            raise RequestError(str(error)) from error
        return {"sent": sent}

    def op_trace_begin(self, running: Running, host: str) -> None:
        """Collect what the kernel tells about traced packets in a host."""
        if host in self._traces:
            raise RequestError(f"{host} is being traced already")
        self._traces[host] = TraceLog(self._find(host))

    def op_trace_end(self, running: Running, host: str) -> dict[str, Any]:
        """Stop that, and hand over what was collected."""
        if host not in self._traces:
            raise RequestError(f"{host} is not being traced")
        messages, is_whole = self._traces.pop(host).close()
        return {"messages": [base64.b64encode(message).decode() for message in messages], "whole": is_whole}

    # -- about the agent itself ---------------------------------------------------------------------------------------

    def op_modes(self, running: Running) -> dict[str, str]:
        """Which of kube-proxy's modes this kernel can do."""

        def run(argv: list[str]) -> tuple[int | None, str]:
            trial = Running(None)
            trial.feed = Feed()
            try:
                done = programs.run(self._processes, trial, lambda: "", argv, None, 20.0, None)
            finally:
                trial.feed.close()
            return done["code"], done["stderr"]

        return try_modes(run)

    def op_ping(self, running: Running) -> str:
        """Answer."""
        return "pong"

    def op_stats(self, running: Running) -> dict[str, int]:
        """Tell how much of the machine the lab's kernel side takes."""
        # Freed memory of threads that have ended goes back to the machine first, so that the figure is what is in use.
        self._libc.malloc_trim(0)
        rss = pss = count = 0
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/smaps_rollup") as file:
                        fields = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
                except (FileNotFoundError, ProcessLookupError):
                    continue
                rss += int(fields.get("Rss", "0").split()[0])
                pss += int(fields.get("Pss", "0").split()[0])
                count += 1
        return {"rss_kb": rss, "pss_kb": pss, "processes": count, "namespaces": len(self._spaces)}


def _ipv4(address: str) -> str:
    parts = address.split(".") if isinstance(address, str) else []
    if len(parts) != 4 or not all(part.isdigit() and int(part) < 256 for part in parts):
        raise RequestError(f"{address!r} is not an IPv4 address")
    return address
