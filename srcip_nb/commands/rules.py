"""``srcip-nb render-rules``: what kube-proxy would load on a node."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from srcip_nb.commands.status import HOLDS


def add_to(commands: Any) -> None:
    """Make ``srcip-nb render-rules`` known."""
    rules = commands.add_parser("render-rules", help="what kube-proxy would load on a node")
    rules.add_argument("--mode", default="iptables", metavar="M")
    rules.add_argument("--node", required=True, metavar="N")
    rules.add_argument("--loaded", action="store_true", help="as the kernel tells it after loading")
    rules.add_argument("files", nargs="+", metavar="FILE.yaml", type=Path)
    rules.set_defaults(function=_render_rules)


def _render_rules(arguments: argparse.Namespace) -> int:
    from srcip_nb.lab.proxy.render import render_rules

    print(render_rules(arguments.mode, arguments.node, arguments.files, arguments.loaded), end="")
    return HOLDS
