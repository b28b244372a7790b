"""Controls for a notebook: choose a policy and a number of requests, press the button, see table and figure.

A thin shell: what the button does is ``cluster.policy(…)`` and ``cluster.visit(…)``, the functions of the notebooks'
other cells. An error is shown in the panel with its remedy and kept in ``last_error``, because Jupyter shows nobody
what a callback raises. In a notebook that is executed without a reader the same run is shown once as a
plain table and figure: widgets are empty in exported pages.
"""

from __future__ import annotations

import base64
import html
import os
from typing import TYPE_CHECKING, Any

from srcip_nb.errors import SrcipError
from srcip_nb.picture import Picture
from srcip_nb.plots import requests_per_node, source_addresses, source_addresses_table
from srcip_nb.recordings import mark, mark_html
from srcip_nb.tape import RecordingTape
from srcip_nb.taped import on_part
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.worlds import LessonCluster

POLICIES = ("Cluster", "Local")
LABEL_WIDTH = "8em"
RENDERED = "jp-RenderedHTMLCommon jp-RenderedHTML"  # JupyterLab's own style for tables
MOST_REQUESTS = 500  # a panel is for looking; what takes longer than some seconds belongs in a cell


def controls(
    cluster: LessonCluster, requests: int = 20, policy: str = "Cluster", target: str | None = None
) -> Controls:
    """Make the panel: policy, number of requests, a button, and what came of it.

    Args:
        cluster: where.
        requests: how many requests a run sends, until the reader changes it.
        policy: what is chosen at first.
        target: what is asked, as ``cluster.visit`` takes it; None: the Service's external address.
    """
    return Controls(cluster, requests, policy, target)


class Controls:
    """The panel; it shows itself as the last line of a cell.

    Attributes:
        policy: ToggleButtons, ``Cluster`` or ``Local``.
        requests: how many to send.
        button: sets the policy and sends them.
        message: one line on what happened, or the error and its remedy.
        view: table and figure.
        runs: the last one table under each policy, by policy; ``last``: of the last run.
        last_error: what went wrong in the last run, None if nothing did.
    """

    def __init__(
        self, cluster: LessonCluster, requests: int = 20, policy: str = "Cluster", target: str | None = None
    ) -> None:
        import ipywidgets

        self.cluster = cluster
        self.target = target
        self.runs: dict[str, pd.DataFrame] = {}
        self.last: pd.DataFrame | None = None
        self.nodes: pd.DataFrame | None = None
        self.last_error: Exception | None = None
        wide = {"description_width": LABEL_WIDTH}
        self.policy = ipywidgets.ToggleButtons(
            options=POLICIES,
            value=policy,
            description=t("w.policy"),
            style={**wide, "button_width": "8em"},
            layout={"width": "auto"},
        )
        self.policy.add_class("widget-inline-hbox")  # as every other control has it: the label beside, not above
        self.requests = ipywidgets.BoundedIntText(
            value=requests, min=1, max=MOST_REQUESTS, description=t("w.requests"), style=wide, layout={"width": "14em"}
        )
        self.button = ipywidgets.Button(
            description=t("w.run"),
            button_style="primary",
            layout={"width": "16.5em", "margin": f"2px 2px 2px {LABEL_WIDTH}"},
        )
        self.message = ipywidgets.HTML(html.escape(f"{t('w.ready')} {t('recorded.panel')}" if mark() else t("w.ready")))
        self.view = ipywidgets.HTML()
        self.box = ipywidgets.VBox([self.policy, self.requests, self.button, self.message, self.view])
        self.button.on_click(self._pressed)

    def run(self) -> pd.DataFrame:
        """Set the chosen policy, send the requests, and return their one table.

        Raises:
            SrcipError: as ``cluster.policy`` and ``cluster.visit`` do.
        """
        cluster = on_part(self.cluster, f"panel {self.policy.value} {self.requests.value}")
        cluster.policy(self.policy.value)
        df = cluster.visit(self.requests.value, target=self.target, progress=False)
        self.nodes = cluster.nodes()
        self.runs[self.policy.value] = self.last = df
        return df

    def pictures(self) -> list[Picture]:
        """Who answered in the last run; with a run of each policy also what nginx logged under the two."""
        last = requests_per_node(self.last, () if self.nodes is None else self.nodes) if self.last is not None else None
        both = source_addresses(*(self.runs[one] for one in POLICIES)) if len(self.runs) == len(POLICIES) else None
        return [one for one in (last, both) if one is not None]

    def table(self) -> pd.DataFrame:
        """The source IPs that nginx logged, counted: of both policies, or of the one that was run."""
        ran = [self.runs[policy] for policy in POLICIES if policy in self.runs]
        table = source_addresses_table(ran[0], ran[-1])
        return table if len(ran) > 1 else table.iloc[:, :3].set_axis([*table.columns[:2], t("col.requests")], axis=1)

    def _pressed(self, _button: Any) -> None:
        self.button.disabled, self.last_error = True, None
        self.message.value = html.escape(t("w.busy"))
        try:
            df = self.run()
            self.message.value = html.escape(_summary(self.policy.value, df))
            figures = "".join(map(_figure_html, self.pictures()))
            table = self.table().to_html(index=False, border=0).replace("<table ", '<table style="margin: 0" ', 1)
            self.view.value = f'<div class="{RENDERED}">{table}{mark_html()}{figures}</div>'
        except Exception as error:  # Jupyter drops what a callback raises: here it is shown, and kept
            self.last_error = error
            self.message.value, self.view.value = error_html(error), ""
        finally:
            self.button.disabled = False

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        if not is_static():
            display(self.box)
            return
        if isinstance(self.cluster.rest.tape, RecordingTape):
            self._run_the_others()
        df = self.run()
        display(Markdown(t("w.static", policy=self.policy.value, total=len(df))))
        display(self.table())
        for one in self.pictures():
            one._ipython_display_()

    def _run_the_others(self) -> None:
        """Let a recording have the other policies too: whoever opens it may choose them."""
        chosen = self.policy.value
        for value in (one for one in POLICIES if one != chosen):
            self.policy.value = value
            self.run()
        self.policy.value = chosen
        self.runs.clear()


def is_static() -> bool:
    """Whether nobody is there to press buttons: ``SRCIP_STATIC=1``, or ``srcip-nb run`` executes the notebook."""
    return os.environ.get("SRCIP_STATIC") == "1" or bool(os.environ.get("SRCIP_MARKER_DIR"))


def _summary(policy: str, df: pd.DataFrame) -> str:
    answered, kept = int(df["node"].notna().sum()), int(df["preserved"].fillna(False).sum())
    return t("w.result", policy=policy, total=len(df), answered=answered, kept=kept)


def _figure_html(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    alt, caption = html.escape(picture.alt, quote=True), html.escape(picture.caption)
    image = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    return f'<figure style="margin: 1em 0">{image}<figcaption><em>{caption}</em></figcaption></figure>'


def error_html(error: Exception) -> str:
    """An error as a panel shows it: its cause, and its remedy where it has one."""
    cause, remedy = f"{type(error).__name__}: {error}", ""
    if isinstance(error, SrcipError):
        cause, remedy = error.cause, error.remedy
    lines = [f"✗ {html.escape(t('w.failed', cause=cause))}"]
    lines += [html.escape(t("w.remedy", remedy=remedy))] if remedy else []
    return f'<div role="alert" style="border-left: 4px solid #B33A00; padding-left: .6em">{"<br>".join(lines)}</div>'
