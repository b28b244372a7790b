"""The matrix on living labs: every row of the oracle's table, in every mode, and a wrong oracle is found out."""

import json
from xml.etree import ElementTree

import pytest

from srcip_nb import connect, expect
from srcip_nb.cli import main
from srcip_nb.errors import UsageError
from srcip_nb.judge import AS_EXPECTED, DIFFERS, NOT_RUN
from srcip_nb.lab import Lab
from srcip_nb.lab.spec import PROXY_MODES
from srcip_nb.matrix import matrix

pytestmark = pytest.mark.lab

PORTS = "net.ipv4.ip_local_port_range"


@pytest.fixture(scope="module", params=["ptp", "flannel"])
def other(request):
    with Lab(cni=request.param, name=f"matrix-{request.param}") as running:
        yield running


def check(frame, mode):
    differing = frame[frame["verdict"] == DIFFERS]
    assert differing[["service", "client", "destination", "difference"]].to_dict("records") == []
    assert set(frame.loc[frame["verdict"] == NOT_RUN, "client"]) <= {"h1", "h2"}
    assert (frame["verdict"] == AS_EXPECTED).sum() > 650
    assert set(frame["expected"]) - {""} == {"answered", "refused", "dropped", "unreachable"}
    assert frame.attrs["mode"] == mode


# Mode ipvs is mostly on a slow kernel: its 280 recorded rows are asked in test_truth_live.py.
@pytest.mark.parametrize("mode", [mode for mode in PROXY_MODES if mode != "ipvs"])
def test_every_row_in_every_mode(other, mode):
    before = other.client.info()["proxy_mode"]
    check(matrix(connect(lab=other, quiet=True), mode=mode, progress=False), mode)
    assert other.client.info()["proxy_mode"] == before


def test_ptp_and_calico_differ_where_the_oracle_says(other, lab):
    """A pod that asks another node's port of a Local Service: seen as its node, or as itself with answers lost."""

    def asked(one):
        return one.service == "local" and one.client == "c1" and one.destination == "nodeport-worker02"

    seen = {}
    for running in (other, lab):
        frame = matrix(connect(lab=running, quiet=True), only=asked, progress=False)
        assert frame["verdict"].tolist() == [AS_EXPECTED]
        seen[frame.attrs["cni"]] = (frame["source_seen"][0], frame["errors"][0], frame["client_ip"][0])
    for cni, (source, errors, own) in seen.items():
        is_masked = cni != "ptp"
        assert source == f"s2<-{'192.168.1.45' if is_masked else own}"
        assert errors == ("" if is_masked else "timeout")


def test_who_had_an_address_before_is_forgotten(lab):
    """Else a node would send to the former announcer of the address, and be refused there."""
    mac = json.loads(lab.client.exec("worker01", ["ip", "-j", "link", "show", "dev", "eth0"]).stdout)[0]["address"]
    stale = "".join(f"neigh replace 192.168.1.{n} lladdr {mac} dev eth0 nud stale\n" for n in range(56, 90))
    assert lab.client.exec("master01", ["ip", "-batch", "-"], stdin=stale).code == 0

    def asked(one):
        return (one.service, one.client, one.destination) == ("no-endpoints", "node-master01", "vip")

    frame = matrix(connect(lab=lab, quiet=True), mode="iptables", only=asked, progress=False)
    assert frame[["expected", "difference"]].values.tolist() == [["unreachable", ""]]


def test_requests_that_were_never_answered_before_are_forgotten(lab):
    """Else a request from the same port is taken for the same flow, which met no rules then and meets none now."""
    vips = [f"192.168.1.{n}" for n in range(56, 90)]
    few = lab.client.exec("client", ["sysctl", "-n", PORTS]).stdout.strip()
    there = "".join(f"route replace {vip}/32 via 192.168.1.45 dev eth0\n" for vip in vips)
    back = "".join(f"route del {vip}/32\n" for vip in vips)

    def asked(one):
        return (one.service, one.client, one.destination) == ("both-local", "outside", "vip-by-worker01")

    try:
        assert lab.client.exec("client", ["sysctl", "-w", f"{PORTS}=40000 40031"]).code == 0
        assert lab.client.exec("client", ["ip", "-batch", "-"], stdin=there).code == 0
        many = [{"id": n, "url": f"http://{vips[n % len(vips)]}/"} for n in range(32 * len(vips))]
        list(lab.client.visit("client", many, concurrency=len(many), timeout=0.5))
        assert lab.client.exec("client", ["ip", "-batch", "-"], stdin=back).code == 0
        flows = lab.client.exec("worker01", ["conntrack", "-L", "-p", "tcp", "--state", "SYN_SENT"]).stdout
        assert len(flows.splitlines()) >= 32 * (len(vips) - 8)  # earlier tests may have left Services with some of them
        frame = matrix(connect(lab=lab, quiet=True), mode="iptables", only=asked, progress=False)
    finally:
        lab.client.exec("client", ["ip", "-force", "-batch", "-"], stdin=back)
        lab.client.exec("client", ["sysctl", "-w", f"{PORTS}={few}"])
    assert frame[["verdict", "difference"]].values.tolist() == [[AS_EXPECTED, ""]]


def test_the_command_on_the_default_lab(lab, cli, tmp_path):
    before = state_of_client(lab)
    files = [tmp_path / f"matrix.{kind}" for kind in ("json", "junit.xml", "html")]
    done = cli("matrix", "--lab", lab.name, "--json", files[0], "--junit", files[1], "--html", files[2], timeout=100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert " 0 differs" in done.stdout.splitlines()[-2] + done.stdout.splitlines()[-1]
    document = json.loads(files[0].read_text())
    assert (document["schema"], document["world"]["cni"], document["summary"]["differs"]) == (
        "srcip-nb/matrix/v2",
        "calico",
        0,
    )
    assert ElementTree.parse(files[1]).getroot().get("failures") == "0"
    assert files[2].read_text().startswith("<!DOCTYPE html>")
    assert state_of_client(lab) == before
    namespaces = connect(lab=lab, quiet=True).list("namespaces")
    assert not [body for body in namespaces if body["metadata"]["name"].startswith("srcip-matrix")]


def state_of_client(lab):
    """What the matrix changes on the outside host and on the nodes for a while."""
    neighbours = lab.client.exec("client", ["ip", "neigh", "show", "nud", "permanent"]).stdout
    redirects = lab.client.exec("client", ["sysctl", "net.ipv4.conf.all.accept_redirects"]).stdout
    limits = [lab.client.exec(node, ["sysctl", "net.ipv4.icmp_ratelimit"]).stdout for node in ("master01", "worker01")]
    return neighbours, lab.client.exec("client", ["ip", "route"]).stdout, redirects, limits


def test_a_wrong_oracle_is_found_out_and_the_command_fails(lab, monkeypatch, capsys):
    monkeypatch.setattr("srcip_nb.matrix_cases.SELECTED", {"local": ({"app": "s"}, {"externalTrafficPolicy": "Local"})})
    monkeypatch.setattr("srcip_nb.matrix_build.SELECTED", {"local": None})
    monkeypatch.setattr("srcip_nb.matrix_ask.ROUNDS", 1)
    for module in ("srcip_nb.matrix_cases", "srcip_nb.matrix_build"):
        monkeypatch.setattr(f"{module}.STATES", {})
        monkeypatch.setattr(f"{module}.EXTERNAL_IPS", {})
    wrong = expect.Row("external", "NodePort", "all, SNAT", "all, SNAT", "all, SNAT")
    monkeypatch.setitem(expect._ROWS, ("external", "NodePort"), wrong)
    assert main(["matrix", "--lab", lab.name]) == 1
    said = capsys.readouterr().out
    assert "✗ local, outside -> nodeport-worker01: no answer of s2; s1 saw 192.168.1.122, not worker01's" in said
    assert "✗ local, outside -> vip:" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cni", "ptp", "--lab", "x"], "--cni starts a lab of its own"),
        (["--ipvs-scheduler", "sh", "--lab", "x"], "--ipvs-scheduler starts a lab of its own"),
        (["--mode", "ipvs", "--ipvs-scheduler", "wrr"], "the lab has no IPVS scheduler 'wrr'"),
        (["--lab", "x", "--json", "/nowhere/at/all.json"], "there is no folder"),
    ],
)
def test_wrong_use_is_2(words, says, capsys):
    assert main(["matrix", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_mode_that_the_lab_does_not_have(lab):
    with pytest.raises(UsageError, match="knows nothing of proxy mode 'kernelspace'"):
        matrix(connect(lab=lab, quiet=True), mode="kernelspace", progress=False)
