"""Where no lab can run: why, and what can be done instead, in one message.

macOS and Windows have another kernel, gVisor one without what a lab needs. Everything that needs no kernel works
there: real clusters, recordings, parsing logs, the rules as text, the figures.
"""

from __future__ import annotations

import os
import sys

from srcip_nb.errors import LabError
from srcip_nb.recordings import shipped

NONE_ASKED = "none"  # SRCIP_KERNEL: a machine that has a kernel is taken for one without

CHOICES = """\
There are these choices:
  a recorded run, marked as such: connect(replay="{first}") ({all}), or SRCIP_REPLAY={first} for all notebooks
  Docker, Docker Desktop too: docker build -t srcip_nb -f binder/Dockerfile . && \
docker run --rm --privileged -p 8888:8888 srcip_nb
  a cluster by kind: kind create cluster --config kind/cluster.yaml, then kind/README.md, then connect("kind-srcip-nb")
  Binder, in a browser, nothing to install: the README's badge
  a Linux VM (on Windows also WSL 2): make lab in it"""


def reason() -> str:
    """Why this machine has no kernel for a lab, found by trying; "" if it has one."""
    if os.environ.get("SRCIP_KERNEL") == NONE_ASKED:
        return "SRCIP_KERNEL=none asks for none"
    if not sys.platform.startswith("linux"):
        name = {"darwin": "macOS", "win32": "Windows"}.get(sys.platform, sys.platform)
        return f"a lab needs Linux's kernel, and this is {name}"
    from srcip_nb.lab.kernel import why_none_works

    return why_none_works()


def no_lab(why: str, remedy: str = "") -> LabError:
    """The error that says why there is no lab, and what the choices are.

    Args:
        why: the reason.
        remedy: what would mend it here, "" where nothing would.
    """
    names = shipped() or ["DIR"]
    choices = CHOICES.format(first=names[0], all=", ".join(names))
    return LabError(f"no lab can run here: {why}", f"{remedy}\n{choices}" if remedy else choices)


def check_platform() -> None:
    """Refuse at once where there can be no lab, before anything of Linux is imported.

    Raises:
        LabError: with the choices.
    """
    if os.environ.get("SRCIP_KERNEL") == NONE_ASKED or not sys.platform.startswith("linux"):
        raise no_lab(reason())
