"""``srcip-nb doctor``: what this machine can do, or a cluster."""

from __future__ import annotations

import argparse
from typing import Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS
from srcip_nb.errors import UsageError


def add_to(commands: Any) -> None:
    """Make ``srcip-nb doctor`` known."""
    doctor = commands.add_parser(
        "doctor", help="what this machine can do, or a cluster: each finding with its evidence"
    )
    where = doctor.add_mutually_exclusive_group()
    where.add_argument("--context", metavar="C", help="a kubeconfig context: look at that cluster")
    where.add_argument("--lab", nargs="?", const="", metavar="N", help="a lab that runs, by name or any")
    doctor.add_argument("--namespace", metavar="NS", help="where the lesson is; SRCIP_NAMESPACE, else seminar")
    doctor.add_argument(
        "--probe", action="store_true", help="also run a pod on each node's network for a moment, and ask the nodes"
    )
    doctor.set_defaults(function=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from srcip_nb.doctor import MISSING, doctor, report

    if arguments.probe and not arguments.context and arguments.lab is None:
        raise UsageError("--probe asks the nodes of a cluster", "Name it: srcip-nb doctor --context C --probe")
    if arguments.context or arguments.lab is not None:
        return _doctor_of_cluster(arguments)
    findings = doctor()
    print(report(findings))
    return DOES_NOT_HOLD if any(finding.state == MISSING for finding in findings) else HOLDS


def _doctor_of_cluster(arguments: argparse.Namespace) -> int:
    from srcip_nb import connect
    from srcip_nb.doctor import MISSING
    from srcip_nb.doctor_cluster import examine, report

    options = {"namespace": arguments.namespace, "quiet": True}
    if arguments.context:
        cluster = connect(arguments.context, **options)
    else:
        cluster = connect(lab=arguments.lab or {}, **options)
    findings = examine(cluster, probe=arguments.probe)
    print(report(cluster, findings))
    return DOES_NOT_HOLD if any(finding.state == MISSING for finding in findings) else HOLDS
