"""The ip sets of proxy mode ipvs, and which rule asks which: kubernetes v1.36.2 pkg/proxy/ipvs/ipset.go, proxier.go."""

from __future__ import annotations

_IP_PORT, _IP_PORT_IP, _IP_PORT_NET = "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net"
PORTS, _IPS = "bitmap:port", "hash:ip"

# Set: its type, and the comment of rules that ask it (ipset.go).
SETS = {
    "KUBE-CLUSTER-IP": (_IP_PORT, "Kubernetes service cluster ip + port for masquerade purpose"),
    "KUBE-EXTERNAL-IP": (_IP_PORT, "Kubernetes service external ip + port for masquerade and filter purpose"),
    "KUBE-EXTERNAL-IP-LOCAL": (_IP_PORT, "Kubernetes service external ip + port with externalTrafficPolicy=local"),
    "KUBE-HEALTH-CHECK-NODE-PORT": (PORTS, "Kubernetes health check node port"),
    "KUBE-IPVS-IPS": (_IPS, "Addresses on the ipvs interface"),
    "KUBE-LOAD-BALANCER": (_IP_PORT, "Kubernetes service lb portal"),
    "KUBE-LOAD-BALANCER-FW": (
        _IP_PORT,
        "Kubernetes service load balancer ip + port for load balancer with sourceRange",
    ),
    "KUBE-LOAD-BALANCER-LOCAL": (
        _IP_PORT,
        "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    ),
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": (
        _IP_PORT_NET,
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
    ),
    "KUBE-LOAD-BALANCER-SOURCE-IP": (
        _IP_PORT_IP,
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
    ),
    "KUBE-LOOP-BACK": (_IP_PORT_IP, "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"),
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": (
        _IP_PORT,
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
    ),
    "KUBE-NODE-PORT-LOCAL-TCP": (PORTS, "Kubernetes nodeport TCP port with externalTrafficPolicy=local"),
    "KUBE-NODE-PORT-LOCAL-UDP": (PORTS, "Kubernetes nodeport UDP port with externalTrafficPolicy=local"),
    "KUBE-NODE-PORT-SCTP-HASH": (
        _IP_PORT,
        "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
    ),
    "KUBE-NODE-PORT-TCP": (PORTS, "Kubernetes nodeport TCP port for masquerade purpose"),
    "KUBE-NODE-PORT-UDP": (PORTS, "Kubernetes nodeport UDP port for masquerade purpose"),
}

# Chain, set, what of a packet is looked up there, where it leads (ipsetWithIptablesChain); none for an empty set.
NAT_BY_SET = (
    ("KUBE-POSTROUTING", "KUBE-LOOP-BACK", "dst,dst,src", "MASQUERADE"),
    ("KUBE-SERVICES", "KUBE-LOAD-BALANCER", "dst,dst", "KUBE-LOAD-BALANCER"),
    ("KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL", "dst,dst", "RETURN"),
    ("KUBE-NODE-PORT", "KUBE-NODE-PORT-LOCAL-TCP", "dst", "RETURN"),
    ("KUBE-NODE-PORT", "KUBE-NODE-PORT-TCP", "dst", "KUBE-MARK-MASQ"),
    ("KUBE-NODE-PORT", "KUBE-NODE-PORT-LOCAL-UDP", "dst", "RETURN"),
    ("KUBE-NODE-PORT", "KUBE-NODE-PORT-UDP", "dst", "KUBE-MARK-MASQ"),
    ("KUBE-NODE-PORT", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "dst,dst", "RETURN"),
    ("KUBE-NODE-PORT", "KUBE-NODE-PORT-SCTP-HASH", "dst,dst", "KUBE-MARK-MASQ"),
)
FILTER_BY_SET = (
    ("KUBE-PROXY-FIREWALL", "KUBE-LOAD-BALANCER-FW", "dst,dst", "KUBE-SOURCE-RANGES-FIREWALL"),
    ("KUBE-SOURCE-RANGES-FIREWALL", "KUBE-LOAD-BALANCER-SOURCE-CIDR", "dst,dst,src", "RETURN"),
    ("KUBE-SOURCE-RANGES-FIREWALL", "KUBE-LOAD-BALANCER-SOURCE-IP", "dst,dst,src", "RETURN"),
)
