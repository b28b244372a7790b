"""The dashboard: a cluster, the way of its requests, and every control that changes it, on one page.

    controls -> change() -> dashboard_world.change     one at a time, in a thread that ends when nothing waits
    Send     -> Traffic                                two threads, until Stop
    news     -> render()                               five HTML widgets whose values are replaced, never added to

A shell around plain functions: what is drawn comes from ``picture``, ``before_and_after``, ``expected_and_observed``
and ``log``, each from the state to a text. In a notebook that is executed without a reader, and in what is exported
from it, one flip of the policy is shown once instead.
"""

from __future__ import annotations

import atexit
import html
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from srcip_nb import dashboard_world as world
from srcip_nb.dashboard_controls import Panel
from srcip_nb.dashboard_expected import compare
from srcip_nb.dashboard_picture import picture
from srcip_nb.dashboard_state import Setting, State, label
from srcip_nb.dashboard_tables import before_and_after, expected_and_observed, log, reason
from srcip_nb.dashboard_traffic import Traffic
from srcip_nb.errors import SrcipError
from srcip_nb.expect import LOAD_BALANCER, NODE_PORT
from srcip_nb.text import t
from srcip_nb.widgets import RENDERED, error_html, is_static

if TYPE_CHECKING:
    from srcip_nb.worlds import LessonCluster

STATIC_REQUESTS = 20
IN_CLUSTER = ("external", "internal", "replicas", "mode", "affinity")
WORK_WITHIN = 60.0  # seconds that closing waits for a change that is under way

_open: weakref.ref[Dashboard] | None = None


def dashboard(cluster: LessonCluster | str | None = None) -> Dashboard | Trouble:
    """Show the dashboard; the one shown before in this kernel is closed.

    Args:
        cluster: of ``connect()``, or the name of a context; None: the lab. Where the lesson's objects are missing they
            are applied.

    Returns:
        The dashboard; with nobody to look at it, a static picture of one flip. Where there is no cluster to show, the
        panel says why and what to type.
    """
    global _open
    before = _open() if _open is not None else None
    if before is not None:
        before.close()
    try:
        shown = Dashboard(_connected(cluster))
    except SrcipError as error:
        if is_static():
            raise
        return Trouble(error)
    _open = weakref.ref(shown)
    return shown


def _connected(cluster: LessonCluster | str | None) -> LessonCluster:
    from srcip_nb.cluster import DEPLOYMENT, SERVICE
    from srcip_nb.worlds import connect

    found = connect(cluster or None, quiet=True) if isinstance(cluster, str) or cluster is None else cluster
    if found.find("services", SERVICE) is None or found.find("deployments", DEPLOYMENT) is None:
        found.apply()
    found.wait_ready()
    return found


class Trouble:
    """What is shown where there is no cluster to show: the error and its remedy."""

    def __init__(self, error: SrcipError) -> None:
        self.last_error = error

    def _repr_html_(self) -> str:
        return error_html(self.last_error)


class Dashboard:
    """The page; it shows itself as the last line of a cell.

    Attributes:
        panel: its widgets.
        traffic: what sends and reads; ``traffic.state`` is what has been seen.
        last_error: what went wrong last, None if nothing did since the last success.
    """

    def __init__(self, cluster: LessonCluster) -> None:
        view = world.look(cluster)
        setting = world.read_setting(cluster, view, Setting())
        instead = ""
        if LOAD_BALANCER not in view.targets and NODE_PORT in view.targets:
            setting = replace(setting, target=NODE_PORT)
            instead = t("visit.no_address", node=view.node_port_at)
        self.last_error: Exception | None = None
        self.traffic = Traffic(cluster, State(setting, time.time_ns()), view, self._news)
        self._wanted: dict[str, Any] = {}
        self._waiting = threading.Lock()
        self._worker: threading.Thread | None = None
        self._own: list[LessonCluster] = []  # labs that this dashboard started
        self._is_closed = False
        self.panel = Panel(setting, world.why_not(cluster), self._ask, self.send, self.stop)
        self.panel.say(" ".join(filter(None, (t("dash.ready"), instead and t("dash.instead", why=instead)))))
        self.render()
        atexit.register(_close, weakref.ref(self))

    @property
    def cluster(self) -> LessonCluster:
        """The cluster that is shown now."""
        return self.traffic.cluster

    @property
    def setting(self) -> Setting:
        """What is set now."""
        return self.traffic.state.now.setting

    # -- what the buttons do -------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send requests until ``stop``."""
        self.last_error = None
        self.panel.say(t("dash.sending", rate=self.setting.rate))  # first: an error of the threads is said after it
        self.traffic.start()
        self.render()

    def stop(self) -> None:
        """Send no more."""
        self.traffic.stop()
        self.panel.say(t("dash.stopped", total=self.traffic.state.total))
        self.render()

    def close(self) -> None:
        """End every thread, every lab that this dashboard started, and the page; it does no harm to close twice."""
        self._is_closed = True
        self.traffic.stop()
        worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join(WORK_WITHIN)
        for one in self._own:
            world.end_lab(one)
        self._own.clear()
        self.panel.close()

    def change(self, name: str, value: Any) -> None:
        """Set one thing, and return when it is in force; an error is shown in the panel and kept in ``last_error``.

        Args:
            name: a field of ``Setting``.
            value: what it becomes.
        """
        if getattr(self.setting, name) == value:
            return
        wanted = replace(self.setting, **{name: value})
        words = f"{label(name)}: {getattr(self.setting, name)} → {value}"
        self.panel.say(t("dash.changing", what=words))
        state, lock = self.traffic.state, self.traffic.lock
        if name == "rate":  # how often is asked changes nothing of what is seen
            with lock:
                state.keep_setting(wanted)
            self.panel.say(words)
            return
        with lock:
            state.change_begins(time.time_ns())
        try:
            told = self._carry_out(name, value, wanted)
        except Exception as error:  # nobody hears what a thread or a callback raises: the panel shows it
            self.last_error = error
            with lock:
                state.change_fails()
            self.panel.say_html(error_html(error))
            self.panel.show(self.setting)
        else:
            self.last_error = None
            self.panel.say(f"✓ {words}. {told}")
        self.render()

    def _carry_out(self, name: str, value: Any, wanted: Setting) -> str:
        state, traffic = self.traffic.state, self.traffic
        if name in IN_CLUSTER:
            told = world.change(self.cluster, name, value)
            traffic.refresh()
        elif world.needs_new_lab(name, value, traffic.view):
            return self._hand_over(wanted)
        else:
            told = ""
        with traffic.lock:
            state.in_force(wanted, time.time_ns())
        return told

    def _hand_over(self, wanted: Setting) -> str:
        """Another lab takes this one's place; the one it began with goes on, for it may serve other notebooks."""
        self.panel.say(t("dash.new_lab", cni=wanted.cni, clients=wanted.clients))
        old = self.cluster
        new = world.new_lab(self.traffic.view, wanted, old.namespace)
        self._own.append(new)
        view = world.look(new)
        self.traffic.move(new, view, lambda: self.traffic.state.forget(wanted, time.time_ns()))
        if old in self._own:
            self._own.remove(old)
            world.end_lab(old)
            return t("dash.handed_over", lab=str(new.world))
        return t("dash.handed_over.kept", lab=str(new.world), old=str(old.world))

    # -- threads -------------------------------------------------------------------------------------------------------

    def _ask(self, name: str, value: Any) -> None:
        """Have a change made without blocking the kernel; of two wishes for the same thing the later counts."""
        with self._waiting:
            self._wanted[name] = value
            if self._worker is None and not self._is_closed:
                self._worker = threading.Thread(target=self._work, name="srcip-nb dashboard: change", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        while True:
            with self._waiting:
                if not self._wanted or self._is_closed:
                    self._worker = None
                    return
                name = next(iter(self._wanted))
                value = self._wanted.pop(name)
            self.change(name, value)

    def _news(self) -> None:
        error = self.traffic.error
        if error is not None and error is not self.last_error:
            self.panel.say_html(error_html(error))
            self.last_error = error
        if self._worker is None and not self._wanted:  # somebody else may have changed it, with kubectl
            self.panel.show(self.setting)
        self.render()

    # -- what is seen --------------------------------------------------------------------------------------------------

    def texts(self) -> dict[str, str]:
        """What is shown now, as HTML: status, picture, verdict, reason, counts, log."""
        traffic = self.traffic
        with traffic.lock:
            state, view = traffic.state, traffic.view
            found = compare(state.now, view)
            return {
                "status": self._status(),
                "picture": picture(view, state.now),
                "verdict": expected_and_observed(found, view),
                "reason": reason(found),
                "counts": before_and_after(state, view),
                "log": log(state),
            }

    def _status(self) -> str:
        traffic, now = self.traffic, self.setting
        doing = f"▶ {t('dash.doing.send', rate=now.rate)}" if traffic.is_sending else f"■ {t('dash.doing.not')}"
        set_now = ", ".join(f"{label(name)} {getattr(now, name) or t('path.unknown')}" for name in (*IN_CLUSTER, "cni"))
        words = t("dash.status", doing=doing, total=traffic.state.total, between=traffic.state.between, set=set_now)
        return f"{html.escape(traffic.view.world)} · {html.escape(words)}"

    def render(self) -> None:
        """Show what is known now."""
        if not self._is_closed:
            self.panel.draw(self.texts())

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        if not is_static():
            display(self.panel.box)
            return
        for part in self.static():
            display(HTML(f'<div class="{RENDERED}">{part}</div>'))

    def static(self) -> list[str]:
        """One flip of externalTrafficPolicy as pieces of HTML, some requests before it and some after; it is undone.

        Raises:
            SrcipError: the cluster refused, or the requests could not be sent.
        """
        first = self.setting.external
        second = "Local" if first == "Cluster" else "Cluster"
        self.traffic.once(STATIC_REQUESTS)
        for policy in (second, first):
            self.change("external", policy)
            if self.last_error is not None:
                raise self.last_error
            if policy == second:
                self.traffic.once(STATIC_REQUESTS)
                texts = self.texts()
        note = html.escape(t("dash.static", requests=STATIC_REQUESTS, first=first, second=second))
        return [f"<p>{note}</p>", *(texts[name] for name in ("picture", "verdict", "counts", "log"))]


def _close(shown: weakref.ref[Dashboard]) -> None:
    found = shown()
    if found is not None:
        found.close()
