"""The lab's hosts and how they are wired, as data and as text; nothing here touches a kernel.

    client .122 ----+
                    |            router .1: the LAN's switch (br0) and everybody's default gateway
    master01 .41 ---+-- br0 ---- 192.168.1.0/24
    worker01 .45 ---+
    worker02 .46 ---+            worker01 ==VXLAN== worker02    10.0.5.0/26, 10.0.30.64/26

Every host and every pod is a network namespace. A host's is called as the host, a pod's ``NAMESPACE.POD``. On each host
the LAN is ``eth0``; on the router each port of ``br0`` is called as the host at its other end.

The texts are commands that a learner can type as root: ip(8), bridge(8) and sysctl(8), one a line. ``cni`` decides how
pods are attached, how nodes reach each other's pods, and what is masqueraded when a pod speaks to the world outside:

=========  ========================================  ===========================  ============================
cni        host end of a pod's veth                  between nodes                masquerading of its own
=========  ========================================  ===========================  ============================
calico     no address; the pod's gateway is          VXLAN vxlan.calico 4096      natOutgoing: pool to not-pool
           169.254.1.1, answered by proxy ARP
flannel    the block's .1 on every veth              VXLAN flannel.1 1            ip-masq (FLANNEL-POSTRTG)
ptp        the block's .1 on every veth              VXLAN vxlan0 1               none
=========  ========================================  ===========================  ============================

That is all that makes a masqueraded source address differ: the kernel takes an address of the device by which the
packet leaves, and of the first device that has one where that device has none.

``announce`` decides how a load balancer's address (VIP) is reached. "l2": it is an address of the LAN, and one node
answers ARP for it. "bgp": it is behind the router, for what MetalLB announces by BGP is in no LAN's subnet.
So clients have routes to the pool by way of the router, and the router has for each VIP a route with a next hop for
each node that announces it, chosen by a hash of protocol, addresses and ports: one connection stays with one node.
Answers go from the node to the client directly, for they are on one LAN; the router would tell the client of that short
cut (ICMP redirect), so it is told not to.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass

from srcip_nb.errors import UsageError

LAN = "192.168.1.0/24"
CLUSTER_CIDR = "10.0.0.0/16"
SERVICE_CIDR = "10.1.0.0/16"
NODE_PORTS = (30000, 32767)
VIP_POOL = ("192.168.1.56", "192.168.1.121")
CNIS = ("calico", "flannel", "ptp")
ANNOUNCE = ("l2", "bgp")
MAX_WORKERS = 50
MAX_CLIENTS = 78

LAN_MTU = 1500
VXLAN_HEADERS = 50
CALICO_GATEWAY = "169.254.1.1"
CALICO_VETH_MAC = "ee:ee:ee:ee:ee:ee"


@dataclass(frozen=True)
class Tunnel:
    """A VXLAN device: its name and numbers are those of the pod network it is copied from."""

    device: str
    id: int
    port: int


TUNNELS = {
    "calico": Tunnel("vxlan.calico", 4096, 4789),
    "flannel": Tunnel("flannel.1", 1, 8472),
    "ptp": Tunnel("vxlan0", 1, 8472),
}


@dataclass(frozen=True)
class Host:
    """One machine of the lab.

    Attributes:
        name: what a learner types: router, master01, worker01, client.
        role: "router", "control-plane", "worker" or "client".
        address: its address on the LAN, without the prefix length.
        mac: of its LAN device.
        pod_block: the block its pods have their addresses from; "" where no pods can be.
        tunnel_address: address of its VXLAN device (the block's first); "" where no pods can be.
        tunnel_mac: of its VXLAN device; "" where no pods can be.
    """

    name: str
    role: str
    address: str
    mac: str
    pod_block: str = ""
    tunnel_address: str = ""
    tunnel_mac: str = ""

    @property
    def is_node(self) -> bool:
        """Whether Kubernetes knows this host as a Node."""
        return self.role in ("control-plane", "worker")


@dataclass(frozen=True)
class Topology:
    """The hosts in a fixed order (router, nodes, clients), the pod network's kind, and how VIPs are announced."""

    cni: str
    hosts: tuple[Host, ...]
    announce: str = "l2"

    @property
    def router(self) -> Host:
        """The LAN's switch and default gateway."""
        return self.hosts[0]

    @property
    def nodes(self) -> tuple[Host, ...]:
        """master01 and the workers."""
        return tuple(host for host in self.hosts if host.is_node)

    @property
    def workers(self) -> tuple[Host, ...]:
        """The nodes that run pods."""
        return tuple(host for host in self.hosts if host.role == "worker")

    @property
    def clients(self) -> tuple[Host, ...]:
        """The hosts outside the cluster."""
        return tuple(host for host in self.hosts if host.role == "client")

    @property
    def tunnel(self) -> Tunnel:
        """The VXLAN between the nodes."""
        return TUNNELS[self.cni]

    @property
    def pod_mtu(self) -> int:
        """The LAN's MTU less what VXLAN puts in front of a packet."""
        return LAN_MTU - VXLAN_HEADERS

    def host(self, name: str) -> Host:
        """Find a host by name.

        Raises:
            UsageError: there is none of that name.
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise UsageError(
            f"the lab has no host {name!r}", f"its hosts are {', '.join(host.name for host in self.hosts)}"
        )

    def gateway(self, node: Host) -> str:
        """Tell the address that the pods of a node send everything to."""
        return CALICO_GATEWAY if self.cni == "calico" else str(ipaddress.ip_network(node.pod_block)[1])

    def pod_addresses(self, node: Host) -> tuple[str, ...]:
        """List the addresses that pods of a node may have, lowest first.

        Not the first of the block (the network's own, the tunnel's), nor the last (broadcast); nor .1 where that is
        the gateway.
        """
        first = 1 if self.cni == "calico" else 2
        return tuple(str(address) for address in list(ipaddress.ip_network(node.pod_block))[first:-1])


def _mac(prefix: str, address: str) -> str:
    """A device's own MAC with its IPv4 address inside, so that a packet dump can be read."""
    return prefix + ":" + ":".join(f"{byte:02x}" for byte in ipaddress.ip_address(address).packed)


def _worker_address(number: int) -> str:
    """worker01 is .45 (the post's); after .55 come the VIPs and the clients, so worker12 goes on at .201."""
    return f"192.168.1.{44 + number if number <= 11 else 189 + number}"


def _worker_block(number: int) -> str:
    return {1: "10.0.5.0/26", 2: "10.0.30.64/26"}.get(number, f"10.0.{60 + number}.0/26")


def topology(workers: int = 2, clients: int = 1, cni: str = "calico", announce: str = "l2") -> Topology:
    """Decide names and addresses of a lab.

    Args:
        workers: 1 to 50; worker01 and worker02 have the addresses of the seminar post.
        clients: 1 to 78 hosts outside the cluster: client, client2, client3 and so on.
        cni: "calico", "flannel" or "ptp".
        announce: "l2" or "bgp".

    Raises:
        UsageError: a number out of range, or a pod network or kind of announcement that does not exist.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MAX_WORKERS:
        raise UsageError(f"a lab has 1 to {MAX_WORKERS} workers, not {workers!r}")
    if isinstance(clients, bool) or not isinstance(clients, int) or not 1 <= clients <= MAX_CLIENTS:
        raise UsageError(f"a lab has 1 to {MAX_CLIENTS} clients, not {clients!r}")
    if cni not in CNIS:
        raise UsageError(f"there is no pod network {cni!r}", f"take one of {', '.join(CNIS)}")
    if announce not in ANNOUNCE:
        raise UsageError(f"there is no announcement {announce!r}", f"take one of {', '.join(ANNOUNCE)}")

    def node(name: str, role: str, address: str, block: str) -> Host:
        tunnel_address = block.split("/")[0]
        tunnel_mac = _mac("66:00", tunnel_address)
        return Host(name, role, address, _mac("02:00", address), block, tunnel_address, tunnel_mac)

    hosts = [Host("router", "router", "192.168.1.1", _mac("02:00", "192.168.1.1"))]
    hosts.append(node("master01", "control-plane", "192.168.1.41", "10.0.241.0/26"))
    for number in range(1, workers + 1):
        hosts.append(node(f"worker{number:02d}", "worker", _worker_address(number), _worker_block(number)))
    for number in range(1, clients + 1):
        address = f"192.168.1.{121 + number}"
        hosts.append(Host("client" if number == 1 else f"client{number}", "client", address, _mac("02:00", address)))
    return Topology(cni, tuple(hosts), announce)


def pool_networks() -> tuple[str, ...]:
    """Write the VIP pool as the fewest networks that hold it and nothing else."""
    first, last = (ipaddress.IPv4Address(end) for end in VIP_POOL)
    return tuple(str(network) for network in ipaddress.summarize_address_range(first, last))


def _sysctl(namespace: str, *settings: str, where_known: bool = False) -> str:
    """With -e, a key that this kernel does not have (IPv6 off, no bridge filter) is passed over."""
    return f"ip netns exec {namespace} sysctl -q {'-e ' if where_known else ''}-w {' '.join(settings)}"


def _namespace_lines(name: str) -> Iterator[str]:
    """A namespace inherits settings that differ from machine to machine, so all that matters is said.

    The keys come before the devices: a device takes its settings from "default" when it is made.
    """
    yield f"ip netns add {name}"
    yield _sysctl(name, "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
    no_ipv6 = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    yield _sysctl(name, *no_ipv6, where_known=True)
    yield f"ip -n {name} link set lo up"


def _host_lines(t: Topology, host: Host) -> Iterator[str]:
    name = host.name
    yield from _namespace_lines(name)
    yield _sysctl(name, f"net.ipv4.ip_forward={0 if host.role == 'client' else 1}")
    if host.is_node:
        # kube-proxy's iptables mode sets it, so that node ports answer on 127.0.0.1 too.
        yield _sysctl(name, "net.ipv4.conf.all.route_localnet=1")
    if host.role == "router":
        yield _sysctl(name, "net.bridge.bridge-nf-call-iptables=0", where_known=True)
        if t.announce == "bgp":
            yield _sysctl(name, "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0")
            yield _sysctl(name, "net.ipv4.fib_multipath_hash_policy=1")
        yield f"ip -n {name} link add br0 address {host.mac} type bridge"
        yield f"ip -n {name} addr add {host.address}/24 dev br0"
        yield f"ip -n {name} link set br0 up"
        if t.announce == "bgp":
            # What nobody announces has no way on; the router says so at once, rather than ask its LAN.
            yield from (f"ip -n {name} route add unreachable {network}" for network in pool_networks())
        return
    yield f"ip link add eth0 netns {name} address {host.mac} type veth peer name {name} netns {t.router.name}"
    yield f"ip -n {t.router.name} link set {name} master br0 up"
    yield f"ip -n {name} addr add {host.address}/24 dev eth0"
    yield f"ip -n {name} link set eth0 up"
    yield f"ip -n {name} route add default via {t.router.address} dev eth0"
    if t.announce == "bgp" and host.role == "client":
        yield from (f"ip -n {name} route add {network} via {t.router.address} dev eth0" for network in pool_networks())


def _tunnel_lines(t: Topology, host: Host, tunnel: Tunnel) -> Iterator[str]:
    name, device = host.name, tunnel.device
    yield (
        f"ip -n {name} link add {device} address {host.tunnel_mac} mtu {t.pod_mtu} type vxlan id {tunnel.id} "
        f"local {host.address} dev eth0 dstport {tunnel.port} nolearning"
    )
    yield f"ip -n {name} addr add {host.tunnel_address}/32 dev {device}"
    yield f"ip -n {name} link set {device} up"
    for other in t.nodes:
        if other is not host:
            yield f"bridge -n {name} fdb append {other.tunnel_mac} dev {device} dst {other.address}"
            yield f"ip -n {name} neigh add {other.tunnel_address} lladdr {other.tunnel_mac} dev {device} nud permanent"
            yield f"ip -n {name} route add {other.pod_block} via {other.tunnel_address} dev {device} onlink"


def topology_text(t: Topology) -> str:
    """Write the commands that build the hosts, the LAN and the pod network between the nodes, one a line."""
    lines: list[str] = []
    for host in t.hosts:
        lines += ["", f"# {host.name}, {host.role}, {host.address}", *_host_lines(t, host)]
    for host in t.nodes:
        lines += ["", f"# pods of {host.name}: {host.pod_block}"]
        lines += _tunnel_lines(t, host, t.tunnel)
        if t.cni == "calico":
            # An address of the block that no pod has goes nowhere, rather than out by the default route.
            lines.append(f"ip -n {host.name} route add blackhole {host.pod_block}")
    return "\n".join(lines[1:]) + "\n"


def pod_netns(namespace: str, pod: str) -> str:
    """Name a pod's network namespace: ``seminar.webserver-68c554c9f6-ck6h2`` (a Kubernetes namespace has no dots)."""
    return f"{namespace}.{pod}"


def pod_device(t: Topology, namespace: str, pod: str) -> str:
    """Name the host end of a pod's veth.

    Calico's is ``cali`` and 11 hexadecimal digits of the SHA-1 of ``NAMESPACE.POD``; the CNI project's ptp plug-in says
    ``veth`` and 8 digits, at random there and from the same hash here.
    """
    digits = hashlib.sha1(pod_netns(namespace, pod).encode(), usedforsecurity=False).hexdigest()
    return f"cali{digits[:11]}" if t.cni == "calico" else f"veth{digits[:8]}"


def pod_text(t: Topology, node: Host, namespace: str, pod: str, address: str) -> str:
    """Write the commands that make a pod's network namespace and attach it to its node, one a line.

    Args:
        t: the lab.
        node: where the pod runs.
        namespace: the pod's Kubernetes namespace.
        pod: its name.
        address: its address, out of ``t.pod_addresses(node)``.
    """
    name, device, gateway = pod_netns(namespace, pod), pod_device(t, namespace, pod), t.gateway(node)
    is_calico = t.cni == "calico"
    peer_mac = f" address {CALICO_VETH_MAC}" if is_calico else ""
    lines = [
        *_namespace_lines(name),
        f"ip link add eth0 netns {name} mtu {t.pod_mtu} type veth "
        f"peer name {device} netns {node.name} mtu {t.pod_mtu}{peer_mac}",
    ]
    if is_calico:
        lines += [
            # Proxy ARP answers after a random delay of up to 0.8 s unless told otherwise.
            _sysctl(node.name, f"net.ipv4.neigh.{device}.proxy_delay=0", f"net.ipv4.conf.{device}.proxy_arp=1"),
        ]
    else:
        lines += [f"ip -n {node.name} addr add {gateway}/32 dev {device}"]
    lines += [
        f"ip -n {node.name} link set {device} up",
        f"ip -n {node.name} route add {address}/32 dev {device} scope link",
        f"ip -n {name} addr add {address}/32 dev eth0",
        f"ip -n {name} link set eth0 up",
        f"ip -n {name} route add {gateway}/32 dev eth0 scope link",
        f"ip -n {name} route add default via {gateway} dev eth0",
    ]
    return "\n".join(lines) + "\n"


def masquerade_rules(t: Topology, host: Host) -> str:
    """Write the pod network's own masquerading on a host, for ``iptables-restore --noflush``; "" where there is none.

    Calico: natOutgoing of the IP pool, what goes from a pod to an address that no pod has. Flannel: the rules of its
    ``--ip-masq``, which also masquerade what comes from outside for a pod of another node.
    """
    if not host.is_node or t.cni == "ptp":
        return ""
    if t.cni == "calico":
        chain = "cali-nat-outgoing"
        rules = [f"-s {CLUSTER_CIDR} ! -d {CLUSTER_CIDR} -j MASQUERADE --random-fully"]
    else:
        chain = "FLANNEL-POSTRTG"
        rules = [
            "-m mark --mark 0x4000/0x4000 -j RETURN",
            f"-s {host.pod_block} -d {CLUSTER_CIDR} -j RETURN",
            f"-s {CLUSTER_CIDR} -d {host.pod_block} -j RETURN",
            f"! -s {CLUSTER_CIDR} -d {host.pod_block} -j RETURN",
            f"-s {CLUSTER_CIDR} ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
            f"! -s {CLUSTER_CIDR} -d {CLUSTER_CIDR} -j MASQUERADE --random-fully",
        ]
    lines = [
        "*nat",
        f":{chain} - [0:0]",
        f"-A POSTROUTING -j {chain}",
        *(f"-A {chain} {rule}" for rule in rules),
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def node_annotations(t: Topology, node: Host) -> dict[str, str]:
    """Tell the annotations by which the real pod network publishes a node's tunnel address on its Node object."""
    if t.cni == "calico":
        return {
            "projectcalico.org/IPv4Address": f"{node.address}/24",
            "projectcalico.org/IPv4VXLANTunnelAddr": node.tunnel_address,
        }
    if t.cni == "flannel":
        return {
            "flannel.alpha.coreos.com/backend-data": json.dumps(
                {"VNI": TUNNELS["flannel"].id, "VtepMAC": node.tunnel_mac}
            ),
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ip": node.address,
        }
    return {}
