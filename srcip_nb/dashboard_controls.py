"""The dashboard's widgets: the controls, each with its label, and the places where texts are put.

Buttons and number fields: Tab goes from one to the next, Space or Enter presses, and JupyterLab, which takes the arrow
keys of radio buttons and selects for its own cells, leaves these keys alone. What is chosen has a filled dot before it,
so that no colour has to tell it. A control that a cluster does not have is there, switched off, and the page says why.
"""

from __future__ import annotations

import contextlib
import html
import threading
from collections.abc import Callable
from typing import Any

from srcip_nb.dashboard_state import Setting, label
from srcip_nb.expect import CLUSTER_IP, LOAD_BALANCER, NODE_PORT
from srcip_nb.lab.spec import CNIS, PROXY_MODES
from srcip_nb.text import t
from srcip_nb.traffic import POLICIES

MOST_REPLICAS, MOST_CLIENTS, MOST_RATE = 8, 4, 100
TEXTS = ("status", "picture", "verdict", "reason", "counts", "log")
STYLE = """<style>
.srcip-dashboard { font-size: 13px; --jp-widgets-font-size: 13px; }
.srcip-dashboard .widget-toggle-buttons { width: auto; align-items: center; }
.srcip-dashboard .widget-toggle-buttons .widget-toggle-button { width: auto; height: 26px; line-height: 26px;
  margin: 1px; padding: 0 8px; border: 1px solid #767676; color: #1A1A1A; background: #FFFFFF; }
.srcip-dashboard .widget-toggle-buttons .widget-toggle-button::before { content: "○ "; }
.srcip-dashboard .widget-toggle-buttons .widget-toggle-button.mod-active { background: #DCEBF7; border-color: #1A1A1A;
  font-weight: 600; box-shadow: none; }
.srcip-dashboard .widget-toggle-buttons .widget-toggle-button.mod-active::before { content: "● "; }
.srcip-dashboard .widget-label { font-weight: 600; min-width: 0; }
.srcip-dashboard :focus-visible { outline: 3px solid #0072B2 !important; outline-offset: 1px; }
.srcip-dashboard .widget-html-content { line-height: 1.4; }
.srcip-dashboard table { margin: 0; font-size: 12.5px; }
</style>"""


class Panel:
    """The widgets of one dashboard.

    Args:
        setting: what is chosen at first.
        why_not: controls that are switched off, and why.
        ask: called with name and value when the reader has chosen something.
        send: called by the button Send.
        stop: called by the button Stop.

    Attributes:
        controls: by the name of the ``Setting``'s field.
        send, stop: the buttons.
        message: what happened last; an error with its remedy.
        texts: the HTML widgets, by name.
        box: all of it.
    """

    def __init__(
        self,
        setting: Setting,
        why_not: dict[str, str],
        ask: Callable[[str, Any], None],
        send: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        import ipywidgets

        self._ask = ask
        self._showing = 0  # the thread that lets the controls say what is set
        self.controls: dict[str, Any] = self._made(setting)
        for name, control in self.controls.items():
            control.disabled = name in why_not
            control.tooltip = why_not.get(name, label(name))
            control.observe(self._chosen, names="value")
        self._names = {id(control): name for name, control in self.controls.items()}
        self.send = ipywidgets.Button(
            description=f"▶ {t('dash.send')}", button_style="primary", layout={"width": "7.5em"}
        )
        self.stop = ipywidgets.Button(description=f"■ {t('dash.stop')}", layout={"width": "7.5em"})
        self.send.on_click(lambda _button: send())
        self.stop.on_click(lambda _button: stop())
        self.message = ipywidgets.HTML(layout={"margin": "0"})
        self.texts = {name: ipywidgets.HTML(layout={"margin": "0"}) for name in TEXTS}
        self.box = self._arranged(why_not)

    def _made(self, setting: Setting) -> dict[str, Any]:
        import ipywidgets

        def named(name: str) -> dict[str, Any]:
            return {
                "description": f"{label(name)}:",
                "style": {"description_width": "auto"},
                "value": getattr(setting, name),
            }

        def choice(name: str, options: Any) -> Any:
            value = getattr(setting, name)
            known = [value for _words, value in options] if isinstance(options[0], tuple) else options
            made = ipywidgets.ToggleButtons(
                options=options, **{**named(name), "value": value if value in known else None}, layout={"width": "auto"}
            )
            made.add_class("widget-inline-hbox")  # as the number fields have it: the label beside, not above
            return made

        def number(name: str, low: int, high: int) -> Any:
            return ipywidgets.BoundedIntText(
                min=low,
                max=max(high, getattr(setting, name)),
                **named(name),
                layout={"width": "auto", "max_width": "11em"},
            )

        starts = [(t(f"dash.start.{value}"), value) for value in ("client", "node", "pod")]
        return {
            "external": choice("external", POLICIES),
            "internal": choice("internal", POLICIES),
            "affinity": choice("affinity", ("None", "ClientIP")),
            "mode": choice("mode", PROXY_MODES),
            "cni": choice("cni", CNIS),
            "replicas": number("replicas", 0, MOST_REPLICAS),
            "clients": number("clients", 1, MOST_CLIENTS),
            "start": choice("start", starts),
            "target": choice("target", (LOAD_BALANCER, NODE_PORT, CLUSTER_IP)),
            "rate": number("rate", 1, MOST_RATE),
        }

    def _arranged(self, why_not: dict[str, str]) -> Any:
        import ipywidgets

        def row(*children: Any) -> Any:
            return ipywidgets.HBox(
                list(children), layout={"flex_flow": "row wrap", "align_items": "center", "grid_gap": "0 14px"}
            )

        of = self.controls
        notes = "<br>".join(html.escape(f"{label(name)}: {words}") for name, words in why_not.items())
        rows = [
            row(of["external"], of["internal"], of["affinity"]),
            row(of["mode"], of["cni"], of["replicas"], of["clients"]),
            row(of["start"], of["target"], of["rate"], self.send, self.stop),
            *([ipywidgets.HTML(f"<small>{notes}</small>")] if notes else []),
        ]
        right = ipywidgets.VBox(
            [self.texts["verdict"], self.texts["reason"], self.texts["counts"]],
            layout={"flex": "1 1 470px", "min_width": "0", "overflow": "hidden"},
        )
        left = ipywidgets.VBox(
            [self.texts["picture"]], layout={"flex": "1 1 560px", "min_width": "0", "overflow": "hidden"}
        )
        middle = ipywidgets.HBox(
            [left, right], layout={"flex_flow": "row wrap", "grid_gap": "0 16px", "align_items": "flex-start"}
        )
        box = ipywidgets.VBox(
            [
                ipywidgets.HTML(STYLE, layout={"display": "none"}),
                *rows,
                self.texts["status"],
                self.message,
                middle,
                self.texts["log"],
            ],
            layout={"width": "100%", "overflow": "hidden"},
        )
        box.add_class("srcip-dashboard")
        return box

    def _chosen(self, change: dict[str, Any]) -> None:
        if self._showing != threading.get_ident():
            self._ask(self._names[id(change["owner"])], change["new"])

    def show(self, setting: Setting) -> None:
        """Let the controls say what is set, without asking for it."""
        self._showing = threading.get_ident()
        try:
            for name, control in self.controls.items():
                if not control.disabled and control.value != getattr(setting, name):
                    control.value = getattr(setting, name)
        finally:
            self._showing = 0

    def say(self, words: str) -> None:
        """What happened, in words."""
        self.say_html(f'<span role="status">{html.escape(words)}</span>')

    def say_html(self, words: str) -> None:
        """What happened, as HTML."""
        self.message.value = words

    def draw(self, texts: dict[str, str]) -> None:
        """Put texts in their places; a place whose text is the same is left alone."""
        for name, text in texts.items():
            if self.texts[name].value != text:
                self.texts[name].value = text

    def close(self) -> None:
        """Take everything off the page; it does no harm to close twice."""
        controls, self.controls = self.controls, {}
        for control in controls.values():
            control.unobserve(self._chosen, names="value")
        for one in (self.box, *controls.values(), *self.texts.values(), self.send, self.stop, self.message):
            with contextlib.suppress(KeyError):  # Jupyter has forgotten its end of the line already
                one.close()
