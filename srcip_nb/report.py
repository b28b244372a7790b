"""What the matrix found, written down: for the terminal, as JSON, as JUnit XML, as one HTML page. Pure functions.

The JSON keeps its form; ``schema`` changes when it does::

    {"schema": "srcip-nb/matrix/v2",
     "verdict": "passed", "cause": "",                   passed, failed or not finished; then the cause
     "world": {"name": "lab 'lab'", "kubernetes": "v1.36.2", "mode": "iptables", "cni": "flannel",
               "owners": {"10.0.5.1": "pod-network worker01", …}},
     "nodes": ["master01", …], "seconds": 12.7,
     "data_plane": {"proxy": ["iptables", "ConfigMap kube-system/kube-proxy …"], …},       {} for a lab
     "summary": {"as expected": 700, "differs": 0, "not run": 148},
     "unknown_sources": ["203.0.113.9"],               seen by pods, and nobody's in the address book
     "cases": [
       {"service": "local", "client": "c1", "destination": "nodeport-worker02",
        "expected": {"outcome": "answered",              answered, refused, dropped or unreachable; "" if not run
                     "answered_by": ["s2"],              exactly these pods
                     "source": ["s2<-192.168.1.45"],     POD<-kept, POD<-ADDRESS (a|b: one of them), POD<-lost
                     "reason": "…", "rule": "…"},        a sentence; where the rule is known from
        "observed": {"sent": 8, "answered": 8, "errors": [], "answered_by": ["s2"],
                     "source_seen": ["s2<-192.168.1.45"], "client_ip": ["10.0.5.3"]},
        "verdict": "as expected",                        as expected, differs or not run
        "difference": ""}]}                              what differs, or why it was not run

``schemas/matrix.schema.json`` says it as a JSON Schema. Cases are in a fixed order, and ``service``, ``client`` and
``destination`` name each, so two files can be compared.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from srcip_nb.judge import AS_EXPECTED, DIFFERS, NOT_RUN
from srcip_nb.results import FAILED, MATRIX, PASSED

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = (AS_EXPECTED, DIFFERS, NOT_RUN)


def document(frame: pd.DataFrame) -> dict[str, Any]:
    """The matrix as plain JSON values, in the form that the module's text shows.

    Args:
        frame: of ``matrix.matrix``.
    """
    cases = []
    for row in _rows(frame):
        cases.append(
            {
                "service": row["service"],
                "client": row["client"],
                "destination": row["destination"],
                "expected": {
                    "outcome": row["expected"],
                    "answered_by": row["expected_by"].split(),
                    "source": row["expected_source"].split(),
                    "reason": row["reason"],
                    "rule": row["rule"],
                },
                "observed": {
                    "sent": int(row["sent"]),
                    "answered": int(row["answered"]),
                    "errors": row["errors"].split(", ") if row["errors"] else [],
                    "answered_by": row["answered_by"].split(),
                    "source_seen": row["source_seen"].split(),
                    "client_ip": row["client_ip"].split(),
                },
                "verdict": row["verdict"],
                "difference": row["difference"],
            }
        )
    attrs, summary = frame.attrs, _summary(frame)
    holds = bool(summary[AS_EXPECTED]) and not summary[DIFFERS]
    world = {"name": attrs["world"], **{name: attrs[name] for name in ("kubernetes", "mode", "cni")}}
    return {
        "schema": MATRIX,
        "verdict": PASSED if holds else FAILED,
        "cause": "",
        "world": {**world, "owners": attrs.get("owners", {})},
        "nodes": list(attrs["nodes"]),
        "seconds": attrs["seconds"],
        "data_plane": attrs.get("data_plane", {}),
        "summary": summary,
        "unknown_sources": list(attrs.get("unknown", [])),
        "cases": cases,
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _summary(frame: pd.DataFrame) -> dict[str, int]:
    return {verdict: int((frame["verdict"] == verdict).sum()) for verdict in VERDICTS}


def json_text(frame: pd.DataFrame) -> str:
    """The matrix as JSON text."""
    return json.dumps(document(frame), indent=1, ensure_ascii=False) + "\n"


def junit(frame: pd.DataFrame) -> str:
    """The matrix as JUnit XML: a test case a case; what differs is a failure, what was not run is skipped."""
    counts, attrs = _summary(frame), frame.attrs
    suite = ElementTree.Element(
        "testsuite",
        name=f"srcip_nb matrix, {attrs['mode']}, {attrs['cni']}",
        tests=str(len(frame)),
        failures=str(counts[DIFFERS]),
        errors="0",
        skipped=str(counts[NOT_RUN]),
        time=f"{attrs['seconds']:.3f}",
    )
    for row in _rows(frame):
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"matrix.{attrs['mode']}.{row['service']}",
            name=f"{row['client']} -> {row['destination']}",
        )
        if row["verdict"] == DIFFERS:
            failure = ElementTree.SubElement(case, "failure", message=row["difference"])
            failure.text = f"expected: {expected_words(row)}\nobserved: {observed_words(row)}\n{row['reason']}"
        elif row["verdict"] == NOT_RUN:
            ElementTree.SubElement(case, "skipped", message=row["difference"])
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def expected_words(row: dict[str, Any]) -> str:
    """What was expected of a case, short: ``s1<-10.0.5.1 s2<-10.0.5.0``, or dropped."""
    return row["expected_source"] if row["expected"] == "answered" else row["expected"]


def observed_words(row: dict[str, Any]) -> str:
    """What was seen of a case, short."""
    parts = [row["source_seen"], row["errors"]]
    return ", ".join(part for part in parts if part) or "nothing"


def text(frame: pd.DataFrame) -> str:
    """The matrix for a terminal: a line a case, expected beside observed; what differs once more at the end."""
    rows = _rows(frame)
    asked = [row for row in rows if row["verdict"] != NOT_RUN]
    wide = max([len(expected_words(row)) for row in asked] + [8])
    lines = []
    for service in dict.fromkeys(row["service"] for row in asked):
        lines += ["", service]
        for row in asked:
            if row["service"] == service:
                sign = "✓" if row["verdict"] == AS_EXPECTED else "✗"
                where = f"{row['client']:<14} {row['destination']:<22}"
                lines.append(f"  {sign} {where} {expected_words(row):<{wide}}  {observed_words(row)}")
    lines += ["", "✓ or ✗, client, destination, expected, observed (POD<-SOURCE; kept: the client's own address)"]
    for row in asked:
        if row["verdict"] == DIFFERS:
            lines += ["", f"✗ {row['service']}, {row['client']} -> {row['destination']}: {row['difference']}"]
            lines.append(f"  {row['reason']} ({row['rule']})")
    return "\n".join([*lines[1:], "", *_totals(frame)]) + "\n"


def _totals(frame: pd.DataFrame) -> list[str]:
    counts, attrs = _summary(frame), frame.attrs
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict] or verdict != NOT_RUN)
    lines = [
        f"{told}: {attrs['world']}, Kubernetes {attrs['kubernetes']}, mode {attrs['mode']}, pod network "
        f"{attrs['cni']}, {attrs['seconds']:.0f} s"
    ]
    if attrs.get("unknown"):
        lines.append(f"unknown sources, in nobody's name in the address book: {', '.join(attrs['unknown'])}")
    left_out = frame[frame["verdict"] == NOT_RUN]
    for reason, rows in left_out.groupby("difference", sort=False):
        lines.append(f"not run, {', '.join(dict.fromkeys(rows['client']))}: {len(rows)} cases: {reason}")
    return lines


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1b1b1b;
  background: #fff }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { text-align: left; padding: .15rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
td.address { font-family: ui-monospace, monospace; font-size: 13px }
tr.differs { background: #fde8e4 }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0 }
.reason { color: #555; font-size: 13px }
"""


def html(frame: pd.DataFrame) -> str:
    """The matrix as one page that needs nothing else: totals, what differs, then a table a Service."""
    rows = _rows(frame)
    differing = [row for row in rows if row["verdict"] == DIFFERS]
    parts = [f"<p>{escape(line)}</p>" for line in _totals(frame)]
    if differing:
        parts.append(_table("What differs", differing, with_service=True))
    for service in dict.fromkeys(row["service"] for row in rows):
        mine = [row for row in rows if row["service"] == service and row["verdict"] != NOT_RUN]
        count = sum(row["verdict"] == DIFFERS for row in mine)
        told = f"{service}: {len(mine)} cases, {f'{count} differ' if count else 'all as expected'}"
        parts.append(f"<details><summary>{escape(told)}</summary>{_table(service, mine)}</details>")
    title = f"Expected and observed: mode {frame.attrs['mode']}, pod network {frame.attrs['cni']}"
    return page(title, "\n".join(parts))


def page(title: str, body: str) -> str:
    """One HTML page that needs nothing else.

    Args:
        title: plain text.
        body: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def unfinished_html(title: str, cause: str) -> str:
    """The page of what came to no verdict."""
    return page(title, f"<p>not finished: {escape(cause)}</p>")


def run_html(result: dict[str, Any]) -> str:
    """A run of the course as one page: each notebook's verdict, and what its checks expected beside what they saw.

    Args:
        result: of ``results.run_document``.
    """
    world = result["world"]
    parts = [f"<p>{escape(result['verdict'])}: {escape(world['name'])}, Kubernetes {escape(world['kubernetes'])}</p>"]
    if result["cause"]:
        parts.append(f"<p>{escape(result['cause'])}</p>")
    for row in result["rows"]:
        told = ": ".join(part for part in (row["notebook"], row["verdict"], row["reason"]) if part)
        lines = "".join(
            f"<tr{'' if check['state'] == 'held' else ' class=differs'}><td>{escape(check['expected'])}</td>"
            f"<td>{escape(check['observed'])}</td><td>{escape(check['state'])}</td></tr>\n"
            for check in row["checks"]
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in ("expected", "observed", "verdict"))
        parts.append(f"<table><caption>{escape(told)}</caption><tr>{head}</tr>\n{lines}</table>")
    return page("The course as a regression test", "\n".join(parts))


def _table(caption: str, rows: list[dict[str, Any]], with_service: bool = False) -> str:
    names = [*(["service"] if with_service else []), "client", "destination", "expected", "observed", "verdict", "why"]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = []
    for row in rows:
        cells = [escape(row[name]) for name in names if name in ("service", "client", "destination")]
        addresses = [escape(expected_words(row)), escape(observed_words(row))]
        why = "; ".join(part for part in (row["difference"], row["reason"]) if part)
        cells_html = "".join(f"<td>{cell}</td>" for cell in cells)
        cells_html += "".join(f'<td class="address">{cell}</td>' for cell in addresses)
        cells_html += f'<td>{row["verdict"]}</td><td class="reason">{escape(why)}</td>'
        body.append(f"<tr{' class=differs' if row['verdict'] == DIFFERS else ''}>{cells_html}</tr>")
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>\n" + "\n".join(body) + "</table>"
