"""Which of kube-proxy's modes this kernel can do, found by doing the one thing that each cannot do without."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

_SOCKOPT = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("ipvs_sockopt.py"))])

# Mode -> a shell command that succeeds where the mode can work; run in the agent's own network namespace.
TRIALS = {
    "iptables": "iptables-legacy -t nat -S",
    "nftables": (
        "nft add table ip trial && "
        "nft 'add chain ip trial nat { type nat hook postrouting priority 100; }'; done=$?; "
        "nft delete table ip trial; exit $done"
    ),
    # What is cleared is the agent's own namespace, which has none: to be allowed to is what is tried.
    "ipvs": f"{{ ipvsadm -Sn || {_SOCKOPT} --clear 2>/dev/null; }} && ipset list -n",
}


def try_modes(run: Callable[[list[str]], tuple[int | None, str]]) -> dict[str, str]:
    """Try every mode.

    Args:
        run: runs a command; its exit status and what it said on standard error.

    Returns:
        mode -> "" if it works, or the first words of what went wrong.
    """
    found = {}
    for mode, command in TRIALS.items():
        code, said = run(["sh", "-c", command])
        found[mode] = "" if code == 0 else reason(said) or f"exit status {code}"
    return found


def reason(said: str) -> str:
    """What a program said in one line; of nft's words the errors alone, without the command and the carets below it."""
    errors = [line.partition("Error: ")[2] for line in said.splitlines() if "Error: " in line]
    return "; ".join(dict.fromkeys(errors)) or " ".join(said.split())
