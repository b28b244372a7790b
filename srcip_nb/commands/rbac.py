"""``srcip-nb rbac``: the least rights that each feature needs, as YAML for kubectl."""

from __future__ import annotations

import argparse
import os
from typing import Any

from srcip_nb.commands.status import HOLDS
from srcip_nb.errors import UsageError


def add_to(commands: Any) -> None:
    """Make ``srcip-nb rbac`` known."""
    rbac = commands.add_parser("rbac", help="the least rights a participant needs on a cluster, for kubectl apply -f -")
    rbac.add_argument(
        "--feature", action="append", default=[], metavar="F", help="may be repeated; all but proxy-mode if left out"
    )
    rbac.add_argument("--namespace", metavar="N", help="the participant's namespace; SRCIP_NAMESPACE, else seminar")
    who = rbac.add_mutually_exclusive_group()
    who.add_argument("--user", metavar="U")
    who.add_argument("--group", metavar="G")
    who.add_argument("--service-account", metavar="NAMESPACE:NAME", help="one is made in the namespace if left out")
    rbac.set_defaults(function=_rbac)


def _rbac(arguments: argparse.Namespace) -> int:
    from srcip_nb.rbac import DEFAULT_ACCOUNT, Subject, choose_features, rbac_text
    from srcip_nb.worlds import check_namespace

    namespace = check_namespace(arguments.namespace or os.environ.get("SRCIP_NAMESPACE") or "seminar")
    if arguments.user:
        subject = Subject("User", arguments.user)
    elif arguments.group:
        subject = Subject("Group", arguments.group)
    else:
        place, colon, name = (arguments.service_account or f"{namespace}:{DEFAULT_ACCOUNT}").partition(":")
        if not (place and colon and name):
            raise UsageError(f"{arguments.service_account!r} is no service account", "Give it as NAMESPACE:NAME")
        subject = Subject("ServiceAccount", name, place)
    print(rbac_text(choose_features(arguments.feature), namespace, subject), end="")
    return HOLDS
