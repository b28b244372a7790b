"""One packet followed through live kernels' rules: the seminar's two policies in both proxy modes."""

from __future__ import annotations

import threading

import pytest

from srcip_nb.errors import LabError

pytestmark = pytest.mark.lab

CHAINS = {
    ("iptables", "Cluster"): ["KUBE-SERVICES", "KUBE-EXT-", "KUBE-MARK-MASQ", "KUBE-SVC-", "KUBE-SEP-"],
    ("iptables", "Local"): ["KUBE-SERVICES", "KUBE-EXT-", "KUBE-SVL-", "KUBE-SEP-"],
    ("nftables", "Cluster"): ["services", "external-", "service-"],
    ("nftables", "Local"): ["services", "external-", "local-"],
}
STATE = "nft list tables; cat /proc/sys/net/netfilter/nf_log/2; iptables-legacy-save | grep -c ^-A"


@pytest.fixture
def seminar(cluster):
    cluster.apply()
    cluster.wait_ready()
    yield cluster
    cluster.lab.proxy_mode("iptables")


def chains_of(frame) -> list[str]:
    """The chains of Services on the first node before routing, each once, in the order in which they were met."""
    rows = frame[(frame["node"] == frame["node"][0]) & (frame["hook"] == "prerouting") & (frame["rule"] != "")]
    inside = [c for c in rows["chain"] if c.startswith("KUBE-") or c.partition("-")[0] in _NFT]
    return list(dict.fromkeys(inside))


_NFT = ("services", "external", "service", "local")


def masquerades(frame):
    return frame[frame["rule"].str.contains("MASQUERADE|masquerade fully") & (frame["table"] != "conntrack")]


def state(cluster) -> dict[str, str]:
    nodes = ("master01", "worker01", "worker02")
    return {node: cluster.lab.exec(node, ["sh", "-c", STATE]).stdout for node in nodes}


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_under_cluster_the_packet_is_marked_and_masqueraded(seminar, mode):
    seminar.lab.proxy_mode(mode)
    seminar.policy("Cluster")
    seen = {}
    for _ in range(30):
        frame = seminar.explain()
        assert frame.attrs["status"] == 200
        chains = chains_of(frame)
        wanted = CHAINS[mode, "Cluster"]
        assert len(chains) == len(wanted) and all(map(str.startswith, chains, wanted)), chains
        assert "0x4000" in set(frame["mark_after"])
        (_, masquerade), *others = masquerades(frame).iterrows()
        assert not others
        assert (masquerade["node"], masquerade["mark"]) == ("worker01", "0x0" if mode == "iptables" else "0x4000")
        seen[frame["node"].iloc[-1]] = masquerade["source_after"].split(":")[0]
        if len(seen) == 2:
            break
    assert seen == {"worker01": "192.168.1.45", "worker02": "10.0.5.0"}


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_under_local_the_source_stays(seminar, mode):
    seminar.lab.proxy_mode(mode)
    seminar.policy("Local")
    frame = seminar.explain()
    chains = chains_of(frame)
    wanted = CHAINS[mode, "Local"]
    assert len(chains) == len(wanted) and all(map(str.startswith, chains, wanted)), chains
    assert set(frame["node"]) == {"worker01"}
    assert set(frame["mark_after"].dropna()) == {"0x0"}
    assert masquerades(frame).empty
    own = f"192.168.1.122:{frame.attrs['client_port']}"
    assert set(frame["source"]) == {own}
    conntrack = frame[frame["table"] == "conntrack"].iloc[0]
    assert (conntrack["source_after"], conntrack["destination"]) == (own, "192.168.1.56:80")
    assert conntrack["destination_after"].startswith("10.0.5.")


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_dropped_packet_ends_at_the_rule_that_dropped_it(seminar, mode):
    seminar.lab.proxy_mode(mode)
    seminar.policy("Local")
    frame = seminar.explain(target="master01")
    assert (frame.attrs["status"], frame.attrs["error"]) == (None, "timeout")
    last = frame.iloc[-1]
    assert (last["node"], last["verdict"].lower()) == ("master01", "drop")
    assert last[["source_after", "destination_after"]].isna().all()
    assert "conntrack" not in set(frame["table"])


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_pod_and_a_node_can_send_too(seminar, mode):
    seminar.lab.proxy_mode(mode)
    pod = next(p["metadata"]["name"] for p in seminar.list("pods") if p["spec"]["nodeName"] == "worker02")
    assert seminar.explain(pod, "clusterip")["hook"].iloc[0] == "prerouting"
    first = seminar.explain("worker01", "clusterip").iloc[0]
    assert (first["node"], first["hook"]) == ("worker01", "output")


def test_nothing_of_it_stays(seminar):
    before = state(seminar)
    seminar.explain()
    with pytest.raises(LabError, match="no host or pod"):
        seminar.lab.trace("nobody", "192.168.1.56:80")
    assert seminar.lab.trace("client", "no-such-name:80").request["error"]
    assert state(seminar) == before


def test_two_at_once_wait_for_each_other_and_do_not_mix(seminar):
    traces = []
    threads = [
        threading.Thread(target=lambda: traces.append(seminar.lab.trace("client", "192.168.1.56:80"))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(traces) == 2
    for trace in traces:
        assert trace.steps[0].source == f"192.168.1.122:{trace.request['client_port']}"
        assert len({step.source for step in trace.steps if step.node == trace.steps[0].node}) == 1
