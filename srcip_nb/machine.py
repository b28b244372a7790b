"""What this machine can run, as tables for whoever starts the course: kernels, what is missing, which world is next.

    KERNEL   WORKS  iptables  nftables  ipvs   WHY NOT                       TYPE
    root     yes    yes       yes       no     ipvs: Can't initialize ipvs
    uml      no     -         -         -      there is no User Mode Linux   sudo apt-get install -y user-mode-linux

Every kernel is tried by starting a lab's agent on it, and ending it again; nothing is concluded from the user's id. A
notebook has an event loop of its own, so the trial runs in a thread beside it. These tables are of this machine and of
now, also where a recording is open.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from srcip_nb.doctor import FEATURES, MISSING, OK, Finding, nginx_stream, programs, python_packages, try_feature
from srcip_nb.errors import LabError, SrcipError
from srcip_nb.lab.kernel import KERNELS, candidates, start_agent
from srcip_nb.no_kernel import NONE_ASKED, reason
from srcip_nb.notebook import Check, Sentence, conclude
from srcip_nb.recordings import LIVE
from srcip_nb.text import t
from srcip_nb.worlds import LessonCluster, connect

if TYPE_CHECKING:
    import pandas as pd

MODES = ("iptables", "nftables", "ipvs")
NO_KERNEL = "none"
YES, NO, NOT_TRIED = "yes", "no", "-"
_T = TypeVar("_T")


class Trial(NamedTuple):
    """What came of one kernel: the modes with "" or a reason, or why it does not run and what to type."""

    modes: dict[str, str]
    why_not: str = ""
    remedy: str = ""


async def _try(kernel: str) -> Trial:
    try:
        agent = await start_agent(kernel)
    except LabError as error:
        return Trial({}, error.cause, error.remedy)
    try:
        return Trial(await agent.call("modes"))
    finally:
        await agent.close()


async def _try_all() -> list[Trial]:
    return await asyncio.gather(*(_try(kernel) for kernel in KERNELS))


def _beside_the_notebook(work: Callable[[], _T]) -> _T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def kernels() -> pd.DataFrame:
    """Try every kernel that a lab can run on, all at once.

    Returns:
        One row a kernel in the order in which a lab tries them, index ``KERNEL``: WORKS, then kube-proxy's modes
        ("yes", "no", "-" where the kernel does not run), WHY NOT and what to TYPE, as strings.
    """
    if not sys.platform.startswith("linux"):
        return kernel_table(dict.fromkeys(KERNELS, Trial({}, reason())))
    return kernel_table(dict(zip(KERNELS, _beside_the_notebook(lambda: asyncio.run(_try_all())), strict=True)))


def kernel_table(trials: dict[str, Trial]) -> pd.DataFrame:
    """The trials as the table that ``kernels`` returns."""
    import pandas as pd

    rows = {}
    for kernel, trial in trials.items():
        runs = not trial.why_not
        modes = {mode: (NO if trial.modes.get(mode) else YES) if runs else NOT_TRIED for mode in MODES}
        lacking = "; ".join(f"{mode}: {reason}" for mode, reason in trial.modes.items() if reason)
        why = trial.why_not or lacking
        rows[kernel] = {"WORKS": YES if runs else NO, **modes, "WHY NOT": why, "TYPE": trial.remedy}
    table = pd.DataFrame.from_dict(rows, orient="index").astype("string").rename_axis("KERNEL")
    table.attrs[LIVE] = True
    return table


def first_working(table: pd.DataFrame) -> str:
    """The kernel that a lab would take here, ``SRCIP_KERNEL`` heeded; "none" where none works."""
    if os.environ.get("SRCIP_KERNEL") == NONE_ASKED:
        return NO_KERNEL
    return next((name for name in candidates() if table.loc[name, "WORKS"] == YES), NO_KERNEL)


def parts(table: pd.DataFrame) -> pd.DataFrame:
    """What else a lab needs or can use: parts of the kernel, programs, Python packages.

    Args:
        table: of ``kernels``.

    Returns:
        One row a part, index ``PART``: STATE (ok; missing: no lab without it; without: a lab does without it), FOR (its
        version, or what it is for), TYPE (what to type to get it), as strings.
    """
    kernel = first_working(table)
    features = [] if kernel in (NO_KERNEL, "uml") else [try_feature(feature, kernel) for feature in FEATURES]
    return part_table([*features, *programs(), nginx_stream(), *python_packages()])


def part_table(found: list[Finding]) -> pd.DataFrame:
    """Findings as the table that ``parts`` returns."""
    import pandas as pd

    rows = [(one.what, one.state, one.words, one.remedy) for one in found]
    table = pd.DataFrame(rows, columns=["PART", "STATE", "FOR", "TYPE"], dtype="string").set_index("PART")
    table.attrs[LIVE] = True
    return table


def next_world(context: str, table: pd.DataFrame) -> Sentence:
    """Which world ``connect(context)`` will choose, and why; nothing is started.

    Where there is none, the sentence says what the choices are.
    """
    replay = "" if context else os.environ.get("SRCIP_REPLAY", "")
    if replay:
        return Sentence(t("machine.replay", replay=replay))
    named = context or os.environ.get("SRCIP_CONTEXT", "")
    if named:
        return Sentence(t("machine.context" if context else "machine.context_env", context=named))
    lab = os.environ.get("SRCIP_LAB", "")
    if lab:
        return Sentence(t("machine.lab_env", lab=lab))
    kernel = first_working(table)
    if kernel != NO_KERNEL:
        return Sentence(t("machine.lab", kernel=kernel))
    return Sentence(t("machine.none", choices=choices(table)))


def choices(table: pd.DataFrame) -> str:
    """What to type where no lab can run, kernel by kernel."""
    typed: dict[str, list[str]] = {}
    for name, remedy in table["TYPE"].items():
        if remedy:
            typed.setdefault(remedy, []).append(str(name))
    return "; ".join(f"{', '.join(names)}: {remedy}" for remedy, names in typed.items()) or "srcip-nb doctor"


def world(context: str, table: pd.DataFrame) -> LessonCluster | None:
    """Connect as every notebook does; None where that cannot be, and one message says what the choices are."""
    try:
        return connect(context)
    except SrcipError as error:
        print(t("machine.no_world", cause=error.cause, choices=choices(table)))
        return None


def known(table: pd.DataFrame, question: str | None = None) -> Check:
    """For every kernel it is known whether a lab runs on it: it works, or the reason is told.

    Args:
        table: of ``kernels``.
        question: a prediction among root, userns, uml, none: the kernel that a lab would take.
    """
    holds = bool(((table["WORKS"] == YES) | (table["WHY NOT"] != "")).all())
    seen = ", ".join(f"{name} {works}" for name, works in table["WORKS"].items())
    return conclude(t("check.kernels"), holds, seen, t("hint.kernels"), question, [first_working(table)])


def needed(table: pd.DataFrame) -> int:
    """How many parts are missing without which no lab runs."""
    return int((table["STATE"] == MISSING).sum())


def not_ok(table: pd.DataFrame) -> pd.DataFrame:
    """The parts that are not there."""
    return table[table["STATE"] != OK]
