"""The lab: a small Kubernetes API over a real Linux kernel's networking.

    with Lab() as lab:
        lab.kubeconfig                                   # for kubectl and every other client
        lab.client.exec("worker01", ["ip", "address"])   # any tool of the machine in any host or pod

Hosts have the names a learner can type: router, master01, worker01, worker02, client. Pods are called by their own
names. ``topology.py`` has the addresses, ``supervisor.py`` the processes.
"""

from __future__ import annotations

from srcip_nb.lab.lifecycle import Lab

__all__ = ["Lab"]
