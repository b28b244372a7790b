"""What a cluster's data plane is, each fact with the evidence for it, and which rows of the oracle it allows.

    DataPlane                                        evidence
      proxy          iptables                        ConfigMap kube-system/kube-proxy, config.conf: mode iptables
      cni            calico                          Node worker01: annotation projectcalico.org/IPv4Address
      load_balancer  metallb                         Event nodeAssigned on Service seminar/webserver
      ip_mode        ""  (not known)                 no Service has an external address

Expectations hold for a data plane, never for Kubernetes as such: eBPF, ipMode Proxy and DSR keep or lose other
addresses than kube-proxy's rules do. So ``left_out`` says for each case of the oracle why it cannot be asked here, or
"" where it can. What was not found out is "", and its evidence says what was looked at. Nothing here looks at a
cluster: ``dataplane_find`` concludes, ``dataplane_read`` reads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from srcip_nb.expect import EXTERNAL, LOAD_BALANCER, MASQUERADES, MODES, NODE_PORT, POD, READY, Case, World

CILIUM, CALICO_EBPF = "cilium", "calico-ebpf"
EBPF = (CILIUM, CALICO_EBPF)
YES, NO = "yes", "no"
VIP, PROXY, HOSTNAME = "VIP", "Proxy", "hostname"
NONE = "none"
SERVICE_LB = "servicelb"


@dataclass(frozen=True)
class Fact:
    """Something that is known, and how; or that it is not, and why.

    Attributes:
        value: "" where it is not known.
        evidence: which object and field said so; for what is not known, what was looked at.
    """

    value: str = ""
    evidence: str = "not looked for"

    def __bool__(self) -> bool:
        return bool(self.value)


@dataclass(frozen=True)
class DataPlane:
    """How a cluster carries a request to a pod.

    Attributes:
        proxy: who carries out Services: kube-proxy's mode ("iptables", "nftables", "ipvs"), "cilium" or "calico-ebpf".
        cni: the pod network: "calico", "flannel", "kindnet", "cilium", "aws-vpc", "azure", "gke" …
        tunnel: how pods' packets go from node to node: "vxlan", "ipip", "wireguard", "geneve", or "none" for routes.
        masquerade: whether what a pod sends to another node's address comes with the address of the pod's node: "yes"
            or "no".
        load_balancer: who gives external addresses: "metallb", "servicelb", "kube-vip", "cilium", a cloud's name
            ("aws", "gce", "azure" …), or "none".
        announce: how MetalLB or Cilium announce them: "l2", "bgp", or "l2, bgp".
        dsr: whether the node with the pod answers the client by itself (direct server return): "yes", "no", "hybrid",
            "annotation".
        ip_mode: ipMode of the Services' external addresses: "VIP" (kube-proxy has rules for them), "Proxy", or
            "hostname" where there is a name instead of an address.
    """

    proxy: Fact = Fact()
    cni: Fact = Fact()
    tunnel: Fact = Fact()
    masquerade: Fact = Fact()
    load_balancer: Fact = Fact()
    announce: Fact = Fact()
    dsr: Fact = Fact()
    ip_mode: Fact = Fact()

    def facts(self) -> dict[str, Fact]:
        """All of them by name, in the order of a packet's way."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def with_mode(self, mode: str, evidence: str) -> DataPlane:
        """The same with a proxy mode that somebody vouches for, such as ``--mode`` on a command line."""
        return replace(self, proxy=Fact(mode, evidence))

    @property
    def world(self) -> World:
        """What the oracle is told: kube-proxy's mode ("" if not known or another proxy's), and the pod network.

        The network's name is left out unless it is known to masquerade as the oracle's network of that name does.
        """
        known = MASQUERADES.get(self.cni.value)
        is_as_known = known is not None and self.masquerade.value == (YES if known else NO)
        mode = self.proxy.value if self.proxy.value in MODES else ""
        return World(mode, self.cni.value if is_as_known else "")


def left_out(plane: DataPlane, case: Case) -> str:
    """Why a case of the oracle cannot be asked on this data plane; "" where it can.

    The reasons name the evidence. Under an eBPF data plane, and where it is not known, only those cases are left which
    all data planes decide alike: the source is kept under externalTrafficPolicy Local for clients outside, and from
    pod to ClusterIP.
    """
    return _by_address(plane, case) or _by_proxy(plane, case)


def _by_address(plane: DataPlane, case: Case) -> str:
    """What speaks against asking an external address."""
    if case.destination != LOAD_BALANCER:
        return ""
    if plane.load_balancer.value == NONE:
        return f"no external address is given here ({plane.load_balancer.evidence})"
    if plane.load_balancer.value == SERVICE_LB:
        return (
            "ServiceLB gives nodes' own addresses, at which its pods masquerade beside kube-proxy's rules "
            f"({plane.load_balancer.evidence})"
        )
    if plane.ip_mode.value == PROXY:
        return f"ipMode Proxy: the address is a proxy's, kube-proxy has no rules for it ({plane.ip_mode.evidence})"
    if plane.ip_mode.value == HOSTNAME:
        return f"a name instead of an address: kube-proxy has no rules for it ({plane.ip_mode.evidence})"
    return ""


def _by_proxy(plane: DataPlane, case: Case) -> str:
    """What speaks against kube-proxy's table."""
    proxy = plane.proxy
    if proxy.value in MODES:
        return ""
    if proxy and proxy.value not in EBPF:
        return f"the oracle has no table for proxy mode {proxy.value} ({proxy.evidence})"
    if _is_alike_everywhere(case):
        return ""
    if not proxy:
        return f"who carries out Services here could not be found out ({proxy.evidence}); say it: --mode"
    return f"{proxy.value} carries out Services, not kube-proxy, whose table this is ({proxy.evidence})"


def _is_alike_everywhere(case: Case) -> bool:
    """Whether eBPF data planes answer as kube-proxy does; only where somebody answers.

    Sources: Cilium Documentation/network/kubernetes/kubeproxy-free.rst, "Client Source IP Preservation"; Calico,
    operations/ebpf/enabling-ebpf and projectcalico/calico#8812.
    """
    if case.client == POD and case.destination not in (NODE_PORT, LOAD_BALANCER):
        is_itself = any(endpoint.pod == case.pod for endpoint in case.endpoints)
        is_ready = all(endpoint.state == READY for endpoint in case.endpoints)
        return bool(case.endpoints) and is_ready and not is_itself and case.internal == "Cluster"
    if case.client != EXTERNAL or case.external != "Local":
        return False
    there = [endpoint for endpoint in case.endpoints if endpoint.node == case.at]
    return bool(there) and all(endpoint.state == READY for endpoint in there)


def mode_or_default(plane: DataPlane) -> str:
    """The mode whose table ``expect`` is to take for the cases that are left: its own, else "iptables".

    What ``left_out`` lets through where kube-proxy's mode is not the answer is the same in every mode.
    """
    return plane.proxy.value if plane.proxy.value in MODES else MODES[0]
