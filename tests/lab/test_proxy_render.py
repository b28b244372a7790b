"""`srcip-nb render-rules`: reading files, and holding the rules against what the kernel makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from srcip_nb.errors import ManifestError, UsageError
from srcip_nb.lab.proxy.render import render_rules
from tests.lab.proxy_objects import NODES, endpoint, endpoint_slice, service

TRUTH = Path(__file__).parents[1] / "data" / "kube-proxy"


def zoo() -> list[dict]:
    """Services of every kind at once."""
    vip = [{"ip": "192.168.1.56"}]
    port = [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]
    lb = {"type": "LoadBalancer", "ingress": vip, "ports": port}
    dns = [
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "nodePort": 30054},
        {"name": "sig", "port": 99, "protocol": "SCTP", "nodePort": 30055},
    ]
    long = {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86399}}}
    local = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}
    ranges = ["10.0.1.0/24", "10.0.2.0/24", "192.168.1.0/26", "192.168.1.56/32", "10.0.1.128/25"]
    services = [
        service("g", **lb, loadBalancerSourceRanges=ranges, sessionAffinity="ClientIP", **long),
        service("i", **lb, loadBalancerSourceRanges=["10.0.1.0/24", "10.0.0.0/24"]),
        service("j", **lb, loadBalancerSourceRanges=["203.0.113.7/32"]),
        service("a", **lb, **local, loadBalancerSourceRanges=["192.168.1.45/32", "10.9.8.7/16"]),
        service("b", **lb, **local, sessionAffinity="ClientIP"),
        service("c", **lb, **local, internalTrafficPolicy="Local", externalIPs=["192.168.1.200", "192.168.1.201"]),
        service("d", type="NodePort", ports=dns, externalTrafficPolicy="Local"),
        service("e", namespace="other", externalIPs=["192.168.1.202"]),
        service("f", **lb, sessionAffinity="ClientIP", loadBalancerSourceRanges=["203.0.113.0/24"]),
    ]
    pods = [endpoint(f"10.0.5.{n}", "worker01") for n in range(2, 14)] + [endpoint("10.0.30.88", "worker02")]
    objects = [*NODES, *services, service("no-endpoints", **lb, **local), service("h", clusterIP="None")]
    return [*objects, *(endpoint_slice(svc, *pods) for svc in services)]


@pytest.fixture
def zoo_file(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text(yaml.safe_dump_all(zoo()), encoding="utf-8")
    return path


@pytest.mark.lab
@pytest.mark.parametrize("node", ["master01", "worker01", "worker02"])
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_the_kernel_shows_the_rules_as_they_were_written(zoo_file, mode, node):
    assert render_rules(mode, node, [zoo_file], loaded=True) == render_rules(mode, node, [zoo_file])


def test_files_lists_and_json_are_read_alike(tmp_path, zoo_file):
    as_list = tmp_path / "list.json"
    as_list.write_text(yaml.safe_dump({"kind": "List", "items": zoo()}), encoding="utf-8")
    halves = [tmp_path / "1.yaml", tmp_path / "2.yaml"]
    for half, path in zip((zoo()[:8], zoo()[8:]), halves, strict=True):
        path.write_text("---\n" + yaml.safe_dump_all(half) + "---\n", encoding="utf-8")
    expected = render_rules("iptables", "worker01", [zoo_file])
    assert render_rules("iptables", "worker01", [as_list]) == expected
    assert render_rules("iptables", "worker01", halves) == expected


def test_the_form_is_that_of_iptables_save():
    truth = TRUTH / "nodeport-local"
    written = render_rules("iptables", "worker01", [truth / "objects.yaml"])
    assert sorted(written.splitlines()) == sorted((truth / "worker01.iptables").read_text().splitlines())


def test_the_form_is_that_of_nft_list_ruleset():
    truth = TRUTH / "source-ranges"
    written = render_rules("nftables", "worker01", [truth / "objects.yaml"])
    assert sorted(written.replace(",", "").split()) == sorted(
        (truth / "worker01.nftables").read_text().replace(",", "").split()
    )


@pytest.mark.parametrize(
    ("mode", "node", "text", "error", "words"),
    [
        ("winkernel", "worker01", "", UsageError, "there is no proxy mode 'winkernel'"),
        ("iptables", "worker09", yaml.safe_dump_all(NODES), UsageError, "no Node 'worker09'.*worker01"),
        ("iptables", "worker01", "a: [", ManifestError, "is not YAML: .*line 2"),
        ("iptables", "worker01", "just text", ManifestError, "has no kind"),
        ("iptables", "worker01", "kind: Service", ManifestError, "no metadata.name"),
    ],
)
def test_what_cannot_be_rendered_is_said(tmp_path, mode, node, text, error, words):
    path = tmp_path / "objects.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=words):
        render_rules(mode, node, [path])


def test_a_file_that_is_not_there():
    with pytest.raises(UsageError, match=r"nowhere\.yaml cannot be read: No such file"):
        render_rules("iptables", "worker01", ["nowhere.yaml"])


def test_what_makes_no_rule_is_not_passed_over_in_silence(tmp_path, capsys):
    path = tmp_path / "objects.yaml"
    path.write_text(
        yaml.safe_dump_all([{"kind": "Pod", "metadata": {"name": "p"}}, service(clusterIP="")]), encoding="utf-8"
    )
    render_rules("iptables", "worker01", [path])
    said = capsys.readouterr().err
    assert "no rule is made from Pod" in said and "Service seminar/web has no clusterIP yet" in said
