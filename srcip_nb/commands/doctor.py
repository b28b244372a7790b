"""``srcip-nb doctor``: what this machine can do."""

from __future__ import annotations

import argparse
from typing import Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS


def add_to(commands: Any) -> None:
    """Make ``srcip-nb doctor`` known."""
    doctor = commands.add_parser("doctor", help="what this machine can do, what is missing and how to mend it")
    doctor.set_defaults(function=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from srcip_nb.doctor import MISSING, doctor, report

    findings = doctor()
    print(report(findings))
    return DOES_NOT_HOLD if any(finding.state == MISSING for finding in findings) else HOLDS
