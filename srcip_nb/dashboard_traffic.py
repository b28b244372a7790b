"""Requests without end and the log lines that come of them, for as long as the dashboard sends.

    sender    a batch of requests every half second, from each client in turn      -> State.sent
    reader    takes the followed logs twice a second, looks at the cluster         -> State.logged, and tells of it

Two threads, which end when ``stop`` is called or after ``LONGEST`` seconds. Nothing of what they read is kept outside
the ``State``, whose bounds are its own. An error ends the sending and is kept in ``error``.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from srcip_nb.clients import Client, find_client, list_clients
from srcip_nb.dashboard_expected import start_of
from srcip_nb.dashboard_state import Line, Sent, Setting, State
from srcip_nb.dashboard_world import View, look, read_setting
from srcip_nb.errors import UsageError
from srcip_nb.expect import CLUSTER_IP
from srcip_nb.logs import Batch, frame_of
from srcip_nb.text import t

if TYPE_CHECKING:
    from srcip_nb.logs_follow import Follower
    from srcip_nb.worlds import LessonCluster

TICK = 0.5  # seconds
LOOK_EVERY = 5.0  # seconds
LONGEST = 3600.0  # seconds; who has left the page open does not want requests for ever
HASTE = 1.2  # a batch is sent so much quicker than the rate, to be done when the next is due
TIMEOUT = 1.0  # seconds that a request may take
AT_ONCE = 64  # requests under way: at 50 a second none waits for another's timeout
LINES_WITHIN = 5.0  # seconds that the last lines may take after the last request
STOP_WITHIN = 5.0


class Traffic:
    """The requests and logs of one dashboard on one cluster.

    Attributes:
        lock: holds while the state or the view is read or changed.
        state: what has been seen.
        view: the cluster as it was seen last.
        error: what ended the sending, None if nothing did.
    """

    def __init__(self, cluster: LessonCluster, state: State, view: View, news: Callable[[], None]) -> None:
        self.lock = threading.RLock()
        self.cluster = cluster
        self.state = state
        self.view = view
        self.error: Exception | None = None
        self.run = secrets.token_hex(4)
        self._news = news
        self._next = 0
        self._turn = -1
        self._ended = threading.Event()
        self._ended.set()
        self._follows = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def is_sending(self) -> bool:
        """Whether requests are being sent."""
        return not self._ended.is_set()

    def start(self) -> None:
        """Send from now on; it does no harm to start twice."""
        if self.is_sending:
            return
        self.error = None
        self._ended.clear()
        self._follows.clear()
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(work,), name=f"srcip-nb dashboard: {work.__name__}", daemon=True
            )
            for work in (self._send, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads and the following of logs."""
        self._ended.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(STOP_WITHIN)
        self._threads = [thread for thread in self._threads if thread.is_alive()]

    def move(self, cluster: LessonCluster, view: View, tell: Callable[[], None]) -> None:
        """Go on in another cluster, if requests are being sent; ``tell`` is called when it has taken the place."""
        was_sending = self.is_sending
        self.stop()
        with self.lock:
            self.cluster, self.view = cluster, view
            tell()
        if was_sending:
            self.start()

    def refresh(self) -> None:
        """Look at the cluster; where somebody else has changed what is set, another period begins."""
        period = self.state.now
        view = look(self.cluster)
        setting = read_setting(self.cluster, view, period.setting)
        with self.lock:
            self.view = view
            is_the_same_period = period is self.state.now and not self.state.is_changing
            if is_the_same_period and setting != period.setting:
                self.state.in_force(setting, time.time_ns())

    def once(self, n: int) -> None:
        """Send so many requests, wait for their lines, and return: what a page without a reader shows."""
        with self.cluster.follow(tail=0) as logs:
            self._send_batch(n, None)
            deadline = time.monotonic() + LINES_WITHIN
            while self._take(logs) and time.monotonic() < deadline:
                time.sleep(TICK / 10)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # a thread has nobody to raise to: the panel shows it with its remedy
            if self.error is None and self.is_sending:
                self.error = error
            self._ended.set()
            self._follows.set()
            self._news()

    def _send(self) -> None:
        self._follows.wait()  # or the first requests' lines would be written before anybody reads
        began = time.monotonic()
        last, owed = began - TICK, 0.0
        while not self._ended.is_set():
            rate, now = self.state.now.setting.rate, time.monotonic()
            owed = min(owed + rate * (now - last), 2.0 * rate)  # what a busy machine did not manage is made up for
            last = now
            if owed >= 1:
                self._send_batch(int(owed), rate * HASTE)
                owed -= int(owed)
            if now - began > LONGEST:
                raise UsageError(t("dash.hour"), t("dash.hour.remedy"))
            self._ended.wait(max(0.0, now + TICK - time.monotonic()))

    def _send_batch(self, n: int, rate: float | None) -> None:
        with self.lock:
            period, view = self.state.now, self.view
        setting = period.setting
        sender = self._sender(setting, view)
        target = view.targets.get(setting.target)
        is_out_of_reach = setting.target == CLUSTER_IP and setting.start == "client"
        if target is None or is_out_of_reach:
            raise UsageError(t("dash.no_target", target=setting.target), t("dash.no_target.remedy"))
        first, self._next = self._next, self._next + n
        requests = [
            {"id": i, "url": f"http://{target}/?run={self.run}&request={i}", "headers": {}}
            for i in range(first, first + n)
        ]
        results = sender.send(requests, concurrency=AT_ONCE, timeout=TIMEOUT, rate=rate)
        done = [sent_of(result, period.number, sender.name, target) for result in results]
        with self.lock:
            self.state.sent(done)

    def _sender(self, setting: Setting, view: View) -> Client:
        if setting.start == "client":
            outside = [client for client in list_clients(self.cluster) if client.role == "client"][: setting.clients]
            self._turn += 1
            return outside[self._turn % len(outside)]
        return find_client(self.cluster, start_of(setting, view)[0])

    def _read(self) -> None:
        with self.cluster.follow(tail=0) as logs:
            self._follows.set()
            looked = time.monotonic()
            while not self._ended.wait(TICK):
                if time.monotonic() - looked > LOOK_EVERY:
                    self.refresh()
                    looked = time.monotonic()
                self._take(logs)
                self._news()
            deadline = time.monotonic() + TIMEOUT
            while self._take(logs) and time.monotonic() < deadline:
                time.sleep(TICK / 10)
        self._news()

    def _take(self, logs: Follower) -> int:
        """Take the lines there are; returns how many answers wait for theirs."""
        batches = logs.take()
        with self.lock:
            self.state.lines.extend(shown_lines(batches))
            self.state.logged(lines_of(batches, self.run, self.view))
            self.state.tick(time.time_ns())
            return self.state.waiting


def sent_of(result: dict[str, Any], period: int, client: str, target: str) -> Sent:
    """A client's result as the state takes it."""
    at = int(result["sent_at"])
    ended = at + int(float(result["latency_ms"] or 0) * 1e6)
    address = str(result.get("client_ip") or "")
    return Sent(
        period, int(result["id"]), at, ended, client, address, target, result["status"], str(result["error"] or "")
    )


def lines_of(batches: list[Batch], run: str, view: View) -> list[Line]:
    """The access lines of a run among followed lines, with the owners of their addresses."""
    if not batches:
        return []
    rows = frame_of(batches)
    rows = rows[(rows["run"] == run) & rows["request"].notna() & rows["remote_addr"].notna()]
    columns = ("request", "pod", "node", "remote_addr")
    found = zip(*(rows[name].tolist() for name in columns), strict=True)
    return [Line(int(request), pod, node, source, *view.owner(source)) for request, pod, node, source in found]


def shown_lines(batches: Iterable[Batch]) -> list[tuple[str, str, str, str]]:
    """Followed lines as stern prints them: pod, container and the line without the API's time; and the pod's node."""
    return [
        (one.pod, one.node, one.name, line.split(b" ", 1)[-1].decode(errors="replace"))
        for one, _restarts, data in batches
        for line in data.splitlines()
        if line
    ]
