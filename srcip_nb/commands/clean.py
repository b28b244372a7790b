"""``srcip-nb clean``: all that is ours is taken away, and nothing else."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS


def add_to(commands: Any) -> None:
    """Make ``srcip-nb clean`` known."""
    clean = commands.add_parser("clean", help="remove all that srcip-nb created in a cluster, and nothing else")
    clean.add_argument("--context", metavar="C", help="a kubeconfig context; a lab that runs if left out")
    clean.add_argument("--namespace", metavar="N", help="only a participant's namespace and its matrix")
    clean.add_argument("--run", default="", metavar="ID", help="only what this run created")
    clean.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    clean.set_defaults(function=_clean)


def _clean(arguments: argparse.Namespace) -> int:
    from srcip_nb import connect
    from srcip_nb.clean import clean, proof
    from srcip_nb.lab.state import choose_lab, running_labs
    from srcip_nb.permissions import matrix_namespace
    from srcip_nb.worlds import check_namespace, first_line

    context = arguments.context or os.environ.get("SRCIP_CONTEXT")
    if not context and not running_labs():
        print("no lab runs: there is nothing to remove")
        return HOLDS
    namespace = arguments.namespace or os.environ.get("SRCIP_NAMESPACE", "")
    namespaces = [check_namespace(namespace), matrix_namespace(namespace)] if namespace else []
    cluster = connect(context, lab=None if context else choose_lab(None).name, quiet=True)
    print(first_line(cluster), file=sys.stderr)
    frame = clean(cluster, namespaces, run=arguments.run, dry_run=arguments.dry_run)
    if len(frame):
        print(frame.to_string(index=False))
    if arguments.dry_run:
        return HOLDS
    print(proof(frame, namespaces))
    return DOES_NOT_HOLD if frame.attrs["left"] else HOLDS
