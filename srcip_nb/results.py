"""What a run of the course or of the matrix came to, as JSON that keeps its form, and what changed between two.

    {"schema": "srcip-nb/run/v1",    "verdict": …, "cause": …, "world": {…}, "rows": [ a row a notebook ]}
    {"schema": "srcip-nb/matrix/v2", "verdict": …, "cause": …, "world": {…}, "cases": [ a row a case ], …}

``verdict`` is "passed", "failed", or "not finished": then ``cause`` says what went away, and no row may be taken for a
result. The forms are in ``schemas/*.schema.json`` (JSON Schema 2020-12) and in the package's documentation; the number
at the end of ``schema`` changes when a program that reads the form would have to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from srcip_nb.errors import UsageError
from srcip_nb.run import FAILED, NOT_FINISHED, PASSED, Verdict

RUN, MATRIX = "srcip-nb/run/v1", "srcip-nb/matrix/v2"
SCHEMAS = {RUN: "run.schema.json", MATRIX: "matrix.schema.json"}
GOOD = (PASSED, "as expected")


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a form: ``schema_of("srcip-nb/run/v1")``."""
    return json.loads((resources.files("srcip_nb") / "schemas" / SCHEMAS[name]).read_text(encoding="utf-8"))


def run_document(verdicts: Sequence[Verdict], world: Mapping[str, Any], cause: str = "") -> dict[str, Any]:
    """A run of the course as plain JSON values.

    Args:
        verdicts: of ``run.run``.
        world: ``name``, ``kubernetes``, ``mode``, ``cni``, ``owners``; what is not known is "".
        cause: why the whole run did not finish, "" if it did.
    """
    found = [v.verdict for v in verdicts]
    whole = PASSED if found and all(verdict == PASSED for verdict in found) else FAILED
    if cause or not found or NOT_FINISHED in found:
        whole = NOT_FINISHED
    causes = [cause] if cause else [f"{v.notebook}: {v.reason}" for v in verdicts if v.verdict == NOT_FINISHED]
    return {
        "schema": RUN,
        "verdict": whole,
        "cause": "; ".join(causes),
        "world": dict(world),
        "seconds": round(sum(v.seconds for v in verdicts), 1),
        "rows": [
            {
                "notebook": v.notebook,
                "verdict": v.verdict,
                "reason": v.reason,
                "seconds": round(v.seconds, 1),
                "checks": [dict(check) for check in v.checks],
            }
            for v in verdicts
        ],
    }


def world_of(context: str) -> dict[str, Any]:
    """What a cluster is, for a result.

    Raises:
        ClusterError: it does not answer.
    """
    from srcip_nb.addresses import addresses
    from srcip_nb.dataplane_read import detect
    from srcip_nb.worlds import connect

    cluster = connect(context, quiet=True)
    plane, book = detect(cluster), addresses(cluster)
    mine = book[book["kind"].isin(["node", "pod-network"])]
    owners = {str(a): f"{k} {o}" for a, k, o in zip(mine["address"], mine["kind"], mine["owner"], strict=True)}
    return {
        "name": str(cluster.world),
        "kubernetes": cluster.version,
        "mode": plane.proxy.value,
        "cni": plane.cni.value,
        "owners": owners,
    }


def unfinished_matrix(world: Mapping[str, Any], cause: str) -> dict[str, Any]:
    """A matrix that came to no verdict."""
    return {
        "schema": MATRIX,
        "verdict": NOT_FINISHED,
        "cause": cause,
        "world": dict(world),
        "nodes": [],
        "seconds": 0.0,
        "data_plane": {},
        "summary": {"as expected": 0, "differs": 0, "not run": 0},
        "unknown_sources": [],
        "cases": [],
    }


def unfinished_junit(name: str, cause: str) -> str:
    """A suite that came to no verdict, as JUnit XML: one error, which no reader takes for a pass."""
    suite = ElementTree.Element("testsuite", name=name, tests="1", failures="0", errors="1", skipped="0")
    case = ElementTree.SubElement(suite, "testcase", classname=name, name="the run")
    ElementTree.SubElement(case, "error", message=cause)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def read_result(path: Path) -> dict[str, Any]:
    """A result from its file.

    Raises:
        UsageError: it cannot be read, or is no result of a form that is known here.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read as a result: {error}", "Give a file of --json, or DIR/result.json"
        ) from (error)
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema not in SCHEMAS:
        raise UsageError(f"{path} is no result of a form known here ({schema!r})", f"Known: {', '.join(SCHEMAS)}")
    return found


def rows_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a result by their names."""
    if result["schema"] == RUN:
        return {row["notebook"]: row for row in result["rows"]}
    return {f"{row['service']}: {row['client']} -> {row['destination']}": row for row in result["cases"]}


def diff(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What changed between two results of one form; nothing else, so an empty list means no change.

    Returns:
        (kind, name, before, after) each. Kinds, in this order: "verdict"; "now failing", "now passing" and "changed"
        (another verdict otherwise, or the same with something else observed) rows; "new" and "absent" rows; "world"
        (version, proxy mode, pod network); "owner" (an address that somebody else has, or nobody any more).

    Raises:
        UsageError: they are of two forms.
    """
    if old["schema"] != new["schema"]:
        raise UsageError(f"{old['schema']} and {new['schema']} cannot be compared", "Give two runs or two matrices.")
    found = [("verdict", "", old["verdict"], new["verdict"])] if old["verdict"] != new["verdict"] else []
    before, after = rows_of(old), rows_of(new)
    for name in before.keys() & after.keys():
        found += _row_change(name, before[name], after[name])
    found += [("new", name, "", after[name]["verdict"]) for name in after.keys() - before.keys()]
    found += [("absent", name, before[name]["verdict"], "") for name in before.keys() - after.keys()]
    for key in ("name", "kubernetes", "mode", "cni"):
        was, now = str(old["world"].get(key, "")), str(new["world"].get(key, ""))
        found += [("world", key, was, now)] if was != now else []
    owned, owns = old["world"].get("owners", {}), new["world"].get("owners", {})
    for address in owned.keys() | owns.keys():
        was, now = owned.get(address, ""), owns.get(address, "")
        found += [("owner", address, was, now)] if was != now else []
    return sorted(found, key=lambda change: (KINDS.index(change[0]), change))


KINDS = ("verdict", "now failing", "now passing", "changed", "new", "absent", "world", "owner")


def _row_change(name: str, before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    was, now = _told(before), _told(after)
    if was == now:
        return []
    is_good, was_good = after["verdict"] in GOOD, before["verdict"] in GOOD
    kind = "now passing" if is_good and not was_good else "now failing" if was_good and not is_good else "changed"
    return [(kind, name, was, now)]


def _told(row: dict[str, Any]) -> str:
    """A row's verdict and why, without what changes from run to run: seconds, pods' and clients' own addresses."""
    why = row.get("reason") or row.get("difference") or ""
    return f"{row['verdict']}{f': {why}' if why and row['verdict'] not in GOOD else ''}"


def diff_text(changes: Sequence[tuple[str, str, str, str]]) -> str:
    """The changes for a terminal, a line each."""
    if not changes:
        return "nothing changed\n"
    return "".join(
        f"{kind}{f'  {name}' if name else ''}: {before or '(none)'} -> {after or '(none)'}\n"
        for kind, name, before, after in changes
    )
