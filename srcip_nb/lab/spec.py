"""What a lab is asked to be, checked before anything is started."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from srcip_nb.errors import UsageError

CNIS = ("calico", "flannel", "ptp")
PROXY_MODES = ("iptables", "nftables", "ipvs")
ANNOUNCE = ("l2", "bgp")
IPVS_SCHEDULERS = ("rr", "lc", "sh")
KERNELS = ("auto", "root", "userns", "uml")
MAX_WORKERS = 50
DEFAULT_NAME = "lab"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class LabSpec:
    """The settings of one lab.

    Args:
        name: a DNS label of at most 40 characters; several labs live side by side by name.
        workers: how many worker nodes, 1 to 50.
        clients: how many hosts outside the cluster send requests, 1 to 20.
        cni: the pod network, ``calico``, ``flannel`` or ``ptp``; it decides which address a masqueraded packet gets.
        proxy_mode: kube-proxy's mode, ``iptables``, ``nftables`` or ``ipvs``; a running lab can change it.
        kernel: where the lab's kernel comes from; ``auto`` takes the first that works here.
        port: TCP port of the API on 127.0.0.1, 0 for any free one.
        ipvs_scheduler: how mode ipvs shares connections out: ``rr`` (in turn), ``lc`` (to who has the fewest) or ``sh``
            (by the source address: a client stays with its endpoint).
        announce: how external addresses reach the nodes, ``l2`` (one node answers ARP) or ``bgp`` (the router shares
            connections out to all eligible nodes).

    Raises:
        UsageError: a setting is unknown or out of range; nothing has been started.
    """

    name: str = DEFAULT_NAME
    workers: int = 2
    clients: int = 1
    cni: str = "calico"
    proxy_mode: str = "iptables"
    kernel: str = "auto"
    port: int = 0
    announce: str = "l2"
    ipvs_scheduler: str = "rr"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} cannot be a lab's name", "Use up to 40 of a-z, 0-9 and '-', for example --name seminar."
            )
        _check_range("workers", self.workers, 1, MAX_WORKERS)
        _check_range("clients", self.clients, 1, 20)
        _check_range("port", self.port, 0, 65535)
        _check_choice("cni", self.cni, CNIS)
        _check_choice("proxy mode", self.proxy_mode, PROXY_MODES)
        _check_choice("IPVS scheduler", self.ipvs_scheduler, IPVS_SCHEDULERS)
        _check_choice("kernel", self.kernel, KERNELS)
        _check_choice("announcement", self.announce, ANNOUNCE)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON."""
        return asdict(self)


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{what} is {value!r}", f"Give a whole number from {low} to {high}.")


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"the lab has no {what} {value!r}", f"Choose one of: {', '.join(choices)}.")
