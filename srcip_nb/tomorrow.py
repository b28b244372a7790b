"""The matrix as a regression test, from a notebook: ask a part of it, keep the result, and see what changed.

    before = ask(cluster)            a table: expected beside observed
    save(before, "before")           before.json, before.xml (JUnit), before.html
    changes("before", "after")       as ``srcip-nb diff before.json after.json`` tells it

The part is two Services, one of each externalTrafficPolicy, asked by a host outside and by a pod: every road that the
course has shown, in a few seconds. ``srcip-nb matrix`` asks all of them. Files are in a folder of this kernel's own,
which goes with it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from srcip_nb.judge import AS_EXPECTED, DIFFERS, NOT_RUN
from srcip_nb.matrix import matrix
from srcip_nb.matrix_cases import Question
from srcip_nb.notebook import NOT_HERE, Check, Sentence, Shown, conclude, not_asked
from srcip_nb.recordings import LIVE
from srcip_nb.text import t

if TYPE_CHECKING:
    import pandas as pd

    from srcip_nb.cluster import Cluster

SERVICES, CLIENTS = ("cluster", "local"), ("outside", "c1")
BESIDE = ["service", "client", "destination", "expected", "expected_source", "source_seen", "verdict"]
NOTHING, ADDRESSES, ROWS = "nothing", "addresses only", "some rows fail"
CHANGES = ["kind", "name", "before", "after"]
NOW_FAILING, OWNER = "now failing", "owner"

_folder = tempfile.TemporaryDirectory(prefix="srcip-nb-")


def namespace() -> str:
    """Where the notebook works: a participant's own namespace if there is one, since rights end there; else its own."""
    return os.environ.get("SRCIP_NAMESPACE") or "seminar-tomorrow"


def is_in_part(question: Question) -> bool:
    """Whether the part asks this question of the matrix."""
    return question.service in SERVICES and question.client in CLIENTS


def ask(cluster: Cluster) -> pd.DataFrame:
    """Ask the part of the matrix, in a namespace made for it and deleted again: see ``matrix.matrix``.

    Raises:
        SrcipError: as ``matrix.matrix`` does.
    """
    return matrix(cluster, only=is_in_part)


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """How many rows have which verdict, by Service.

    Args:
        table: of ``ask``.
    """
    import pandas as pd

    verdicts = pd.Categorical(table["verdict"], [AS_EXPECTED, DIFFERS, NOT_RUN])
    found = pd.crosstab(table["service"].astype(object), verdicts, dropna=False)
    return found.rename_axis(index="service", columns=None)


def left_out(table: pd.DataFrame) -> pd.DataFrame | Sentence:
    """The rows that were not asked, counted by their reasons; a sentence where there are none."""
    reasons = table.loc[table["verdict"] == NOT_RUN, "difference"]
    if reasons.empty:
        return Sentence(t("tomorrow.all_asked", rows=len(table)))
    return reasons.value_counts().rename_axis("reason").rename("rows").reset_index()


def holds(table: pd.DataFrame, question: str | None = None) -> Check:
    """Every row that was asked was observed as expected, and some were.

    Args:
        table: of ``ask``.
        question: a prediction of how many differ.
    """
    asked, differs = int((table["verdict"] != NOT_RUN).sum()), int((table["verdict"] == DIFFERS).sum())
    seen = t("seen.rows", rows=asked, differ=differs)
    return conclude(t("check.rows"), bool(asked) and not differs, seen, t("hint.matrix"), question, [str(differs)])


def save(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Write a result in its three forms: JSON, JUnit XML, HTML.

    Args:
        table: of ``ask``.
        name: of the files, without what follows the dot.

    Returns:
        One row a file: its name and number of bytes.
    """
    import pandas as pd

    from srcip_nb import report

    texts = {"json": report.json_text(table), "xml": report.junit(table), "html": report.html(table)}
    sizes = {
        path(f"{name}.{form}").name: path(f"{name}.{form}").write_text(text, "utf-8") for form, text in texts.items()
    }
    return pd.DataFrame({"characters": sizes}).rename_axis("file")


def path(name: str) -> Path:
    """Where a result is, such as ``before.json``."""
    return Path(_folder.name) / name


def head(name: str, lines: int = 12) -> Shown:
    """The first lines of a file that ``save`` wrote."""
    return Shown("\n".join(path(name).read_text(encoding="utf-8").splitlines()[:lines]))


def changes(old: str, new: str) -> pd.DataFrame:
    """What changed between two saved results, as ``srcip-nb diff`` has it.

    Args:
        old: the name given to ``save``.
        new: the same, of the later one; where there is none (beside a real cluster), a sentence is printed.

    Returns:
        One row a change: kind ("now failing", "now passing", "changed", "new", "absent", "world", "owner"), name,
        before, after. Empty: nothing changed, or there is nothing to compare.
    """
    import pandas as pd

    from srcip_nb.results import diff, read_result

    if not path(f"{new}.json").exists():
        found = pd.DataFrame(columns=CHANGES, dtype="string")
        found.attrs[NOT_HERE] = t("tomorrow.one_result")
        print(found.attrs[NOT_HERE])
        return found
    rows = diff(read_result(path(f"{old}.json")), read_result(path(f"{new}.json")))
    return pd.DataFrame(rows, columns=CHANGES, dtype="string")


def found_out(changed: pd.DataFrame, question: str | None = None) -> Check | Sentence:
    """The comparison names rows that held before and fail now.

    Args:
        changed: of ``changes``.
        question: a prediction among "nothing", "addresses only", "some rows fail".
    """
    if left_out := not_asked(changed):
        return left_out
    failing = changed.loc[changed["kind"] == NOW_FAILING, "name"]
    answer = ROWS if len(failing) else ADDRESSES if len(changed) else NOTHING
    seen = ", ".join(failing) or t("seen.none")
    return conclude(t("check.found_out"), bool(len(failing)), seen, t("hint.found_out"), question, [answer])


def doctor(cluster: Cluster) -> pd.DataFrame:
    """What ``srcip-nb doctor --context`` finds out about a cluster; nothing is changed.

    Returns:
        One row a finding, index ``WHAT``: STATE (ok, without, missing, unknown), FOUND, and the EVIDENCE for it.
    """
    import pandas as pd

    from srcip_nb.doctor_cluster import examine

    rows = [(one.what, one.state, one.words, one.evidence) for one in examine(cluster)]
    return pd.DataFrame(rows, columns=["WHAT", "STATE", "FOUND", "EVIDENCE"], dtype="string").set_index("WHAT")


def rights(*namespaces: str) -> pd.DataFrame:
    """The objects that ``srcip-nb rbac`` prints for participants, each a user of the namespace's name.

    Args:
        namespaces: one a participant.

    Returns:
        One row an object: PARTICIPANT, KIND, NAME, and what it is FOR.
    """
    import pandas as pd

    from srcip_nb.rbac import Subject, choose_features, rbac_objects

    rows = []
    for one in namespaces:
        for purpose, body in rbac_objects(choose_features(["lessons"]), one, Subject("User", one)):
            rows.append((one, body["kind"], body["metadata"]["name"], purpose.splitlines()[0]))
    table = pd.DataFrame(rows, columns=["PARTICIPANT", "KIND", "NAME", "FOR"], dtype="string")
    table.attrs[LIVE] = True
    return table


def nothing_left(removed: pd.DataFrame, question: str | None = None) -> Check:
    """After ``clean`` nothing bears this project's label any more, where it looked.

    Args:
        removed: of ``clean.clean``.
        question: a prediction of how many objects are left.
    """
    left = removed.attrs["left"]
    seen = t("seen.left", removed=len(removed) - len(left), left=len(left))
    return conclude(t("check.clean"), not left, seen, t("hint.clean"), question, [str(len(left))])
