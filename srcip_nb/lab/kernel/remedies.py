"""What to type so that a kernel of this machine can do a proxy mode that its trial found it cannot."""

from __future__ import annotations

import os
import re

from srcip_nb.lab.kernel.uml import BUILD, INSTALL, built_program, find_program

MODULES = {"iptables": "iptable_nat", "nftables": "nf_tables", "ipvs": "ip_vs"}
"""The kernel module without which a proxy mode cannot be."""

PACKAGES = {"ipvsadm": "ipvsadm", "ipset": "ipset", "nft": "nftables", "iptables-legacy": "iptables"}
_NOT_FOUND = re.compile(r"\b([-\w]+): (?:command )?not found")


def mode_remedy(kernel: str, mode: str, why_not: str) -> str:
    """What to type so that a kernel can do a proxy mode; "" where nothing on this machine would help.

    Args:
        kernel: one of ``kernel.KERNELS``.
        mode: the proxy mode.
        why_not: what its trial said.
    """
    found = _NOT_FOUND.search(why_not)
    if found and found[1] in PACKAGES:
        return f"sudo apt-get install -y {PACKAGES[found[1]]}"
    if kernel != "uml" and has_module(MODULES[mode]):
        return f"sudo modprobe {MODULES[mode]}"
    program = find_program()
    if mode != "nftables":
        return "" if program else INSTALL
    is_debians = program not in (os.environ.get("SRCIP_UML"), built_program())
    return BUILD if is_debians else ""


def has_module(name: str) -> bool:
    """Whether this machine has a module for its running kernel, loaded or not."""
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.dep") as file:
            return any(line.partition(":")[0].rpartition("/")[2].startswith(f"{name}.ko") for line in file)
    except OSError:
        return False
