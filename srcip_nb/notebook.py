"""What a notebook's reader predicts, what its checks find, and the sum of it in the last cell.

    begin("02")                                         first cell
    predict("source", "client", ["client", "node"])     before: one line to change
    checks.source_ip_lost(df, question="source")        after: ✓ or ✗ in words, and what became of the prediction
    done("02")                                          last cell: how many hold

A check that does not hold says so and raises nothing, so that a reader can go on; with ``SRCIP_STRICT=1`` it raises
``CheckFailed``. ``done`` leaves the numbers in ``$SRCIP_MARKER_DIR/done.json``, from which an executed notebook is
judged; in a seminar ``tally.py`` keeps what each check found. An exercise is a line such as ``answer = ...``: as long
as the three dots stand, its check is open, neither held nor failed. A cell that is run again replaces what it said
before.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcip_nb import tally, unknowns
from srcip_nb.errors import SrcipError, UsageError
from srcip_nb.manifest_files import manifest_text
from srcip_nb.rest import path_of
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

WIDEST = 150  # characters of a table's cell; pandas cuts at 50, in the middle of the address book's reasons
LOG_TAIL = 2000  # lines of a pod's log that are looked through

NOT_HERE = "not_here"
"""A table's ``attrs`` have it where what the table is about cannot be asked in this world: the sentence why."""

HELD, FAILED, OPEN = "held", "failed", "open"
SIGNS = {HELD: "✓", FAILED: "✗", OPEN: "○"}


class CheckFailed(SrcipError):  # noqa: N818 - it reads as what it is, like AssertionError's kin in pytest
    """A check did not hold, and ``SRCIP_STRICT=1`` asks for that to stop the notebook."""


@dataclass(frozen=True)
class Prediction:
    """What the reader expects, to be held against what is seen later."""

    question: str
    answer: str
    choices: tuple[str, ...]

    def __repr__(self) -> str:
        words = t("predicted", question=self.question, answer=self.answer).replace("<b>", "").replace("</b>", "")
        return f"{words}\n{t('predict.change', choices=', '.join(self.choices))}"

    def _repr_html_(self) -> str:
        words = t("predicted", question=html.escape(self.question), answer=html.escape(self.answer))
        choices = ", ".join(f"<code>{html.escape(choice)}</code>" for choice in self.choices)
        return f"<p>{words}<br><small>{t('predict.change', choices=choices)}</small></p>"


@dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        says: what should hold, a sentence.
        state: ``held``, ``failed`` or ``open`` (an exercise without an answer).
        seen: what was seen instead or as well.
        hint: where to look if it does not hold.
        prediction: what became of the reader's prediction, "" without one.
    """

    says: str
    state: str
    seen: str = ""
    hint: str = ""
    prediction: str = ""

    def __bool__(self) -> bool:
        return self.state == HELD

    def lines(self) -> list[str]:
        """The result in words, a line each."""
        lines = [f"{SIGNS[self.state]} {t(f'check.{self.state}')}: {self.says}"]
        lines += [t("seen", what=self.seen)] if self.seen else []
        lines += [t("check.hint", hint=self.hint)] if self.hint and self.state != HELD else []
        return lines + ([self.prediction] if self.prediction else [])

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        first, *rest = (html.escape(line) for line in self.lines())
        colour = {HELD: "#00613F", FAILED: "#B33A00", OPEN: "#555555"}[self.state]
        words = "<br>".join([f"<b>{first}</b>", *rest])
        return f'<p style="border-left: 4px solid {colour}; padding-left: .6em">{words}</p>'


class Sentence(str):
    """A sentence that a notebook shows in place of a table, or of a check."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)


class Shown(str):
    """Text that a notebook shows as it is, line by line, in a block of its own.

    ``syntax`` names its language for highlighting.
    """

    syntax = ""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return f"```{self.syntax}\n{self.rstrip()}\n```"


class Yaml(Shown):
    """YAML as it is."""

    syntax = "yaml"


def manifest(name: str) -> Yaml:
    """One of the lesson's manifests, to be read before it is applied: ``manifest("service.yaml")``.

    Raises:
        ManifestError: the lesson has no such manifest.
    """
    return Yaml(manifest_text(name))


def log_lines(cluster: Cluster, df: pd.DataFrame, requests: Iterable[int] = (0,)) -> Shown:
    """Nginx's own log lines for requests of a run, as they stand in the pods' logs.

    Args:
        cluster: where.
        df: the one table of one run.
        requests: their numbers.

    Returns:
        A line each, pod and container in front as stern has it; a request that no pod logged has none.

    Raises:
        ClusterError: a log cannot be read.
    """
    rows = df[df["request"].isin(list(requests)) & df["pod"].notna()]
    lines = []
    for row in rows.itertuples():
        container = cluster.get("pods", str(row.pod))["spec"]["containers"][0]["name"]
        log = cluster.rest.text(path_of("pods", cluster.namespace, str(row.pod), "log"), {"tailLines": LOG_TAIL})
        mark = f"?run={row.run}&request={row.request} "
        lines += [f"{row.pod} {container} {line}" for line in log.splitlines() if mark in line]
    return Shown("\n".join(lines))


@dataclass
class _Record:
    """What this notebook has predicted and checked so far."""

    notebook: str = ""
    predictions: dict[str, Prediction] = field(default_factory=dict)
    checks: list[tuple[str, int, Check]] = field(default_factory=list)
    came_true: dict[str, bool] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)  # sentences, in the order they were met

    def add(self, check: Check) -> None:
        cell, execution = _cell()
        self.checks = [one for one in self.checks if not cell or one[0] != cell or one[1] == execution]
        self.checks.append((cell, execution, check))
        tally.note(tally.CHECKED, self.notebook, cell, execution, check.says, check.state)


_record = _Record()


def begin(notebook: str) -> None:
    """First cell: forget what was predicted and checked before; show errors in one line and tables' sentences whole.

    Args:
        notebook: its number, such as ``02``; it names the notebook for the reader, like in ``done``.
    """
    import pandas as pd
    from IPython import get_ipython

    pd.set_option("display.max_colwidth", WIDEST)
    _record.notebook = notebook
    tally.note(tally.BEGUN, notebook)
    _record.predictions.clear()
    _record.checks.clear()
    _record.came_true.clear()
    _record.left_out.clear()
    unknowns.forget()
    shell: Any = get_ipython()
    is_for_a_reader = shell is not None and not os.environ.get("SRCIP_MARKER_DIR")
    if is_for_a_reader:  # an executed notebook keeps its tracebacks, for whoever mends it
        shell.InteractiveTB.set_mode("Minimal")  # as %xmode does, without a word


def current_notebook() -> str:
    """The number that ``begin`` was given last, "" before."""
    return _record.notebook


def _cell() -> tuple[str, int]:
    """Which cell runs, by the id that the front end gives it ("" if it gives none), and which execution this is."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    if shell is None or not hasattr(shell, "get_parent"):
        return "", 0
    metadata = (shell.get_parent() or {}).get("metadata") or {}
    return str(metadata.get("cellId") or ""), shell.execution_count


def predict(question: str, answer: Any, choices: Sequence[Any]) -> Prediction:
    """Record what you expect; a check with the same ``question`` later says what became of it.

    Args:
        question: a short name, the same as in the check.
        answer: one of ``choices``.
        choices: what may be answered.

    Raises:
        UsageError: the answer is none of the choices.
    """
    allowed = tuple(str(choice) for choice in choices)
    if str(answer) not in allowed:
        raise UsageError(f"{answer!r} is none of the choices for {question!r}", f"Choose one of: {', '.join(allowed)}.")
    made = Prediction(question, str(answer), allowed)
    _record.predictions[question] = made
    return made


def conclude(
    says: str, holds: bool, seen: str, hint: str, question: str | None = None, answers: Collection[str] = ()
) -> Check:
    """Record a check and return it.

    Args:
        says: what should hold.
        holds: whether it does.
        seen: what was seen.
        hint: where to look.
        question: of the prediction that this settles.
        answers: what the answer turned out to be; of several, each counts as right.
    """
    check = Check(says, HELD if holds else FAILED, seen, hint, _settle(question, answers))
    _record.add(check)
    if not holds and os.environ.get("SRCIP_STRICT") == "1":
        raise CheckFailed(f"{says}: {t('check.failed')}. {t('seen', what=seen)}", hint)
    return check


def leave_open(says: str) -> Check:
    """Record an exercise that has no answer yet, and return it."""
    check = Check(says, OPEN, hint=t("hint.exercise"))
    _record.add(check)
    return check


def not_asked(material: Any) -> Sentence | None:
    """What a check returns where this world cannot show what it is about; the notebook's sum says it once more.

    Args:
        material: what the check would look at.

    Returns:
        The sentence why; None: the check can be made.
    """
    said = getattr(material, "attrs", {}).get(NOT_HERE)
    if said is None:
        return None
    _record.left_out[str(said)] = None
    return Sentence(said)


def _settle(question: str | None, answers: Collection[str]) -> str:
    if question is None:
        return ""
    if question not in _record.predictions:
        raise UsageError(f"there is no prediction {question!r}", "Run the cell with predict(…) first.")
    made = _record.predictions[question]
    answer = made.answer
    _record.came_true[question] = answer in answers
    among_choices = [one for one in answers if one in made.choices]  # the same answer may have several spellings
    seen = ", ".join(among_choices or answers) or t("seen.none")
    return t("predict.right", answer=answer) if answer in answers else t("predict.wrong", answer=answer, seen=seen)


@dataclass(frozen=True)
class Summary:
    """What ``done`` shows: the checks and predictions of a notebook."""

    notebook: str
    held: int
    failed: tuple[str, ...]
    open: int
    predicted: int
    right: int
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lines = [f"{t('done.title', notebook=self.notebook)}: {self._checks()}"]
        lines += [f"✗ {sentence}" for sentence in self.failed]
        lines += [t("done.left_out", why=sentence) for sentence in self.left_out]
        lines += [t("done.predictions", right=self.right, all=self.predicted)] if self.predicted else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<p>{'<br>'.join(html.escape(line) for line in repr(self).splitlines())}</p>"

    def _checks(self) -> str:
        return t("done.checks", held=self.held, failed=len(self.failed), open=self.open)


def done(notebook: str) -> Summary:
    """Last cell: sum up, and leave the result in ``$SRCIP_MARKER_DIR/done.json`` for whoever executed the notebook.

    Args:
        notebook: its number, such as ``02``.

    Raises:
        OSError: the result cannot be written.
    """
    checks = [check for _, _, check in _record.checks]
    failed = tuple(" ".join([check.says, *([t("seen", what=check.seen)] if check.seen else [])])
                   for check in checks if check.state == FAILED)  # fmt: skip
    settled = _record.came_true
    summary = Summary(
        notebook=notebook,
        held=sum(check.state == HELD for check in checks),
        failed=failed,
        open=sum(check.state == OPEN for check in checks),
        predicted=len(settled),
        right=sum(settled.values()),
        left_out=tuple(_record.left_out),
    )
    tally.note(tally.DONE, notebook)
    folder = os.environ.get("SRCIP_MARKER_DIR")
    if folder:
        told = [{"expected": check.says, "observed": check.seen, "state": check.state} for check in checks]
        marker = {"notebook": notebook, "held": summary.held, "failed": list(failed), "open": summary.open}
        marker |= {"checks": told, "unknown_sources": unknowns.noted(), "left_out": list(summary.left_out)}
        (Path(folder) / "done.json").write_text(json.dumps(marker, ensure_ascii=False), encoding="utf-8")
    return summary
