"""From the API's objects to facts about the data plane: pure functions, each fact with the object that said so.

    Seen (objects, what could not be read, answers to /proxyMode)  -->  find  -->  DataPlane

Whoever carries out Services in kube-proxy's place is looked for first (Cilium, Calico's eBPF): a ConfigMap of
kube-proxy may lie about long after kube-proxy is gone. An object that may not be read and could say otherwise makes a
fact "not known".

Names of objects and fields: Kubernetes v1.36.2 pkg/proxy/apis/config and cmd/kube-proxy; Calico api/pkg/apis/
projectcalico/v3 (FelixConfiguration, IPPool) and the operator's Installation; Cilium Documentation/cmdref and
pkg/option; flannel pkg/subnet/kube/annotations.go; k3s pkg/daemons/agent; amazon-vpc-cni-k8s README.
"""

from __future__ import annotations

from collections.abc import Iterator

from srcip_nb.dataplane import CALICO_EBPF, CILIUM, EBPF, NO, NONE, YES, DataPlane, Fact
from srcip_nb.dataplane_balancer import announce, ip_mode, load_balancer
from srcip_nb.dataplane_seen import (
    Seen,
    annotations_of,
    command_words,
    containers_of,
    data_of,
    environment_of,
    is_scheduled,
    json_words,
    option_of,
    where,
    yaml_of,
)

CALICO_PREFIX = "projectcalico.org/"
FLANNEL_BACKEND = "flannel.alpha.coreos.com/backend-type"
K3S_ARGS = ("k3s.io/node-args", "rke2.io/node-args")
MODES = ("iptables", "nftables", "ipvs", "kernelspace")
_DEFAULT_MODE = "iptables"  # on Linux, kubernetes v1.36.2 cmd/kube-proxy/app/server_linux.go
_CONFIGURATIONS = (("kube-proxy", "config.conf"), ("kube-proxy-config", "config"))  # ConfigMap and key; EKS' second
_TRUE = {"true", "strict", "1", "yes", "enabled"}

# DaemonSet -> the pod network whose agent it is.
AGENTS = {
    "calico-node": "calico",
    "canal": "calico",
    "kube-flannel-ds": "flannel",
    "kube-flannel": "flannel",
    "cilium": "cilium",
    "anetd": "cilium",  # GKE Dataplane V2
    "kindnet": "kindnet",
    "aws-node": "aws-vpc",
    "azure-cns": "azure",
    "weave-net": "weave",
    "kube-router": "kube-router",
    "antrea-agent": "antrea",
    "netd": "gke",
}
_TUNNELS = {
    "vxlan": "vxlan",
    "host-gw": NONE,
    "wireguard": "wireguard",
    "ipip": "ipip",
    "geneve": "geneve",
    "disabled": NONE,
    "native": NONE,
}


def find(seen: Seen) -> DataPlane:
    """Conclude what the data plane is from what was seen."""
    network = cni(seen)
    carrier = proxy(seen, network)
    return DataPlane(
        proxy=carrier,
        cni=network,
        tunnel=tunnel(seen, network),
        masquerade=masquerade(seen, network),
        load_balancer=load_balancer(seen),
        announce=announce(seen),
        dsr=dsr(seen, carrier),
        ip_mode=ip_mode(seen),
    )


# -- who carries out Services ------------------------------------------------------------------------------------------


def proxy(seen: Seen, network: Fact) -> Fact:
    """Who carries out Services: kube-proxy's mode, "cilium" or "calico-ebpf"."""
    for look in (_cilium, _calico_ebpf):
        found = look(seen, network)
        if found is not None:
            return found
    said = [fact for fact in (*_answered(seen), _configured(seen), _by_arguments(seen), _by_k3s(seen)) if fact]
    values = {fact.value for fact in said}
    if len(values) > 1:
        return Fact("", "they disagree: " + "; ".join(fact.evidence for fact in said))
    if said:
        return Fact(said[0].value, "; ".join(fact.evidence for fact in said))
    return Fact("", f"looked at: {'; '.join(_looked_at(seen))}")


def _cilium(seen: Seen, network: Fact) -> Fact | None:
    config = seen.named("ConfigMap", "cilium-config", "kube-system")
    if config is None:
        why = seen.silent.get("ConfigMap kube-system/cilium-config", "not there")
        if network.value != "cilium":
            return None
        return Fact("", f"Cilium may stand in for kube-proxy, and ConfigMap kube-system/cilium-config: {why}")
    value = data_of(config, "kube-proxy-replacement")
    return Fact(CILIUM, f"{where(config)}: kube-proxy-replacement {value}") if value.lower() in _TRUE else None


def _calico_ebpf(seen: Seen, network: Fact) -> Fact | None:
    if network.value != "calico":
        return None
    installation = seen.named("Installation", "default")
    felix = seen.named("FelixConfiguration", "default")
    agent = seen.agents().get("calico-node")
    chosen = ((installation or {}).get("spec") or {}).get("calicoNetwork") or {}
    if installation and chosen.get("linuxDataplane") == "BPF":
        return Fact(CALICO_EBPF, f"{where(installation)}: spec.calicoNetwork.linuxDataplane BPF")
    if felix and (felix.get("spec") or {}).get("bpfEnabled"):
        return Fact(CALICO_EBPF, f"{where(felix)}: spec.bpfEnabled true")
    if agent and environment_of(agent).get("FELIX_BPFENABLED", "").lower() in _TRUE:
        return Fact(CALICO_EBPF, f"{where(agent)}: FELIX_BPFENABLED true")
    if seen.is_refused("FelixConfiguration"):
        return Fact("", f"Calico may run eBPF, and FelixConfiguration default: {seen.silent['FelixConfiguration']}")
    return None


def _answered(seen: Seen) -> list[Fact]:
    """What kube-proxy itself said; more than one fact where nodes differ."""
    by_mode: dict[str, list[str]] = {}
    for node, answer in seen.modes.items():
        if answer in MODES:
            by_mode.setdefault(answer, []).append(node)
    return [
        Fact(mode, f"kube-proxy on {', '.join(nodes)} answers /proxyMode: {mode}") for mode, nodes in by_mode.items()
    ]


def _configured(seen: Seen) -> Fact | None:
    """The ConfigMap from which kubeadm's, kind's and EKS's kube-proxy read their configuration."""
    agents = seen.agents()
    for name, key in _CONFIGURATIONS:
        config = seen.named("ConfigMap", name, "kube-system")
        if config is None or not data_of(config, key):
            continue
        agent = agents.get("kube-proxy")
        if "DaemonSet" not in seen.silent and (agent is None or not is_scheduled(agent)):
            continue  # nobody reads it
        mode = yaml_of(data_of(config, key)).get("mode") or ""
        said = (
            f"{where(config)}: {key}, mode {mode}" if mode else f"{where(config)}: {key} leaves the mode at its default"
        )
        return Fact(str(mode) or _DEFAULT_MODE, said)
    return None


def _by_arguments(seen: Seen) -> Fact | None:
    """kube-proxy's command line, where it runs as a DaemonSet or a static pod (GKE, AKS)."""
    agent = seen.agents().get("kube-proxy")
    running = [agent] if agent and is_scheduled(agent) else []
    running += [pod for pod in seen.all("Pod") if pod["metadata"]["name"].startswith("kube-proxy-")]
    for item in running:
        words = [word for container in containers_of(item) for word in command_words(container)]
        mode = option_of(words, "--proxy-mode")
        if mode:
            return Fact(mode, f"{where(item)}: --proxy-mode={mode}")
        if words and not option_of(words, "--config"):
            return Fact(_DEFAULT_MODE, f"{where(item)}: no --proxy-mode and no --config, so its default")
    return None


def _by_k3s(seen: Seen) -> Fact | None:
    """k3s runs kube-proxy in its own process, in mode iptables unless --kube-proxy-arg says otherwise."""
    for node in seen.all("Node"):
        for key in K3S_ARGS:
            if key not in annotations_of(node):
                continue
            words = json_words(annotations_of(node)[key])
            if "--disable-kube-proxy" in words:
                return None
            passed = [word.removeprefix("--kube-proxy-arg=") for word in words]
            mode = next((word.split("=", 1)[1] for word in passed if word.startswith("proxy-mode=")), "")
            said = f"--kube-proxy-arg proxy-mode={mode}" if mode else "no --kube-proxy-arg proxy-mode, so its default"
            if key.startswith("k3s.io") or mode:
                return Fact(mode or _DEFAULT_MODE, f"{where(node)}: annotation {key}: {said}")
    return None


def _looked_at(seen: Seen) -> Iterator[str]:
    for name, key in _CONFIGURATIONS:
        config = seen.named("ConfigMap", name, "kube-system")
        because = "not there"
        if config is not None:
            mode = yaml_of(data_of(config, key)).get("mode") or "its default"
            because = f"says mode {mode}, but no DaemonSet kube-proxy runs that would read it"
        yield f"ConfigMap kube-system/{name} ({seen.silent.get(f'ConfigMap kube-system/{name}', because)})"
    yield f"DaemonSet kube-proxy ({seen.silent.get('DaemonSet', 'not there, or runs nowhere')})"
    reasons = {answer.removeprefix("!") for answer in seen.modes.values()}
    yield f"/proxyMode on port 10249 of {len(seen.modes)} nodes ({', '.join(sorted(reasons)) or 'not asked'})"


# -- the pod network ---------------------------------------------------------------------------------------------------


def cni(seen: Seen) -> Fact:
    """Which pod network it is."""
    agents = seen.agents()
    for node in seen.all("Node"):
        for key in annotations_of(node):
            if key.startswith(CALICO_PREFIX):
                return Fact("calico", f"{where(node)}: annotation {key}")
            if key == FLANNEL_BACKEND:
                return Fact("flannel", f"{where(node)}: annotation {key} {annotations_of(node)[key]}")
            if key.startswith(("network.cilium.io/", "io.cilium.network.")):
                return Fact("cilium", f"{where(node)}: annotation {key}")
    for name, network in AGENTS.items():
        if name in agents:
            return Fact(network, where(agents[name]))
    for kind, network in (("CiliumNode", "cilium"), ("IPPool", "calico")):
        if found := seen.all(kind):
            return Fact(network, where(found[0]))
    why = seen.silent.get("DaemonSet", "none of a pod network that is known here")
    return Fact("", f"looked at: Nodes' annotations (no pod network speaks there); DaemonSets ({why})")


def tunnel(seen: Seen, network: Fact) -> Fact:
    """How pods' packets go from node to node."""
    if network.value == "flannel":
        for node in seen.all("Node"):
            kind = annotations_of(node).get(FLANNEL_BACKEND, "")
            if kind:
                value = _TUNNELS.get(kind, kind)
                return Fact(value, f"{where(node)}: annotation {FLANNEL_BACKEND} {kind}")
    if network.value == "calico":
        return _calico_tunnel(seen)
    if network.value == "cilium":
        config = seen.named("ConfigMap", "cilium-config", "kube-system")
        if config is None:
            return Fact("", f"ConfigMap kube-system/cilium-config: {_why_no_cilium_config(seen)}")
        mode = data_of(config, "routing-mode") or data_of(config, "tunnel")
        if mode in ("native", "disabled"):
            return Fact(NONE, f"{where(config)}: routing-mode {mode}")
        kind = data_of(config, "tunnel-protocol") or data_of(config, "tunnel")
        return Fact(_TUNNELS.get(kind, "vxlan"), f"{where(config)}: tunnel-protocol {kind or 'not set, so vxlan'}")
    if network.value in ("kindnet", "aws-vpc", "azure", "gke"):
        return Fact(NONE, f"{network.value} routes pods' addresses ({network.evidence})")
    return Fact("", "not looked for: the pod network is not known" if not network else f"not known of {network.value}")


def _calico_tunnel(seen: Seen) -> Fact:
    for key, value in (("IPv4VXLANTunnelAddr", "vxlan"), ("IPv4IPIPTunnelAddr", "ipip")):
        for node in seen.all("Node"):
            if CALICO_PREFIX + key in annotations_of(node):
                return Fact(value, f"{where(node)}: annotation {CALICO_PREFIX}{key}")
    for pool in seen.all("IPPool"):
        spec = pool.get("spec") or {}
        modes = {"vxlan": spec.get("vxlanMode") or "Never", "ipip": spec.get("ipipMode") or "Never"}
        used = [f"{name} {mode}" for name, mode in modes.items() if mode != "Never"]
        value = next((name for name, mode in modes.items() if mode != "Never"), NONE)
        return Fact(value, f"{where(pool)}: {', '.join(used) or 'vxlanMode and ipipMode Never'}")
    return Fact("", f"Nodes have no tunnel address in annotations; IPPool: {seen.silent.get('IPPool', 'not there')}")


def masquerade(seen: Seen, network: Fact) -> Fact:
    """Whether what a pod sends to another node's address comes with the address of the pod's node."""
    if network.value == "calico":
        return _calico_masquerade(seen)
    agents = seen.agents()
    if network.value == "flannel":
        for name in ("kube-flannel-ds", "kube-flannel"):
            if name in agents:
                words = [word for container in containers_of(agents[name]) for word in command_words(container)]
                has = "--ip-masq" in words or "--ip-masq=true" in words
                said = f"{where(agents[name])}: {'--ip-masq' if has else 'no --ip-masq'}"
                return Fact(YES if has else NO, said)
        return Fact("", f"flanneld's option --ip-masq: DaemonSet ({seen.silent.get('DaemonSet', 'not there')})")
    if network.value == "kindnet":
        return Fact(YES, f"kindnet masquerades what leaves the pods' ranges ({network.evidence})")
    if network.value == "aws-vpc":
        outside = environment_of(agents["aws-node"]).get("AWS_VPC_K8S_CNI_EXTERNALSNAT", "false")
        said = f"{where(agents['aws-node'])}: within the VPC pods keep their addresses (EXTERNALSNAT {outside})"
        return Fact(NO, said)
    return Fact("", "the pod network is not known" if not network else f"not known of {network.value}")


def _calico_masquerade(seen: Seen) -> Fact:
    pools = [pool for pool in seen.all("IPPool") if not (pool.get("spec") or {}).get("disabled")]
    if not pools:
        return Fact("", f"natOutgoing of Calico's IPPools: {seen.silent.get('IPPool', 'no pool')}")
    felix = seen.named("FelixConfiguration", "default")
    excluded = ((felix or {}).get("spec") or {}).get("natOutgoingExclusions") or "IPPoolsOnly"
    if felix and excluded == "IPPoolsAndHostIPs":
        return Fact(NO, f"{where(felix)}: natOutgoingExclusions {excluded}")
    values = {bool((pool.get("spec") or {}).get("natOutgoing")) for pool in pools}
    if len(values) > 1:
        return Fact("", "natOutgoing is set in some IPPools and not in others")
    is_set = values.pop()
    return Fact(YES if is_set else NO, f"{where(pools[0])}: natOutgoing {'true' if is_set else 'not set'}")


def dsr(seen: Seen, carrier: Fact) -> Fact:
    """Whether the node with the pod answers the client by itself."""
    if carrier.value == CILIUM:
        config = seen.named("ConfigMap", "cilium-config", "kube-system")
        mode = data_of(config, "bpf-lb-mode") if config else ""
        value = {"": NO, "snat": NO, "dsr": YES}.get(mode, mode)
        return Fact(value, f"ConfigMap kube-system/cilium-config: bpf-lb-mode {mode or 'not set, so snat'}")
    if carrier.value == CALICO_EBPF:
        felix = seen.named("FelixConfiguration", "default")
        if felix is None:
            return Fact("", f"FelixConfiguration default: {seen.silent.get('FelixConfiguration', 'not there')}")
        mode = (felix.get("spec") or {}).get("bpfExternalServiceMode") or "Tunnel"
        return Fact(YES if mode == "DSR" else NO, f"{where(felix)}: spec.bpfExternalServiceMode {mode}")
    if carrier and carrier.value not in EBPF:
        return Fact(NO, "kube-proxy on Linux has none")
    return Fact("", "it is not known who carries out Services")


def _why_no_cilium_config(seen: Seen) -> str:
    return seen.silent.get("ConfigMap kube-system/cilium-config", "not there")
