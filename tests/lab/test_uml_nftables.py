"""Mode nftables in a User Mode Linux, without any privilege: on the one that `make kernel` builds, not on Debian's."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from srcip_nb import chains, connect
from srcip_nb.errors import LabError
from srcip_nb.lab import Lab
from srcip_nb.lab.kernel import native, start_agent, trials, uml

# A User Mode Linux on a busy machine takes its time.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SEEN = {
    "Cluster": {("worker01", "192.168.1.45", "node"), ("worker02", "10.0.5.0", "pod-network")},
    "Local": {("worker01", "192.168.1.122", "client")},
}


@pytest.fixture(scope="module")
def lesson() -> Iterator[SimpleNamespace]:
    """A lab in mode nftables on the kernel uml, and the lesson in it."""

    async def trial() -> None:
        await (await start_agent("uml", "nftables")).close()

    try:
        asyncio.run(trial())
    except LabError as error:
        pytest.skip(f"{error.cause}; {error.remedy}")
    with Lab(name="tests-uml-nft", kernel="uml", proxy_mode="nftables") as lab:
        cluster = connect(lab=lab.name, quiet=True)
        cluster.apply()
        cluster.wait_ready()
        yield SimpleNamespace(lab=lab, cluster=cluster)


def sources(cluster) -> set[tuple[str, str, str]]:
    frame = cluster.visit(24, progress=False)
    assert frame["status"].eq(200).all()
    return set(frame[["node", "source_ip", "source_kind"]].astype(str).itertuples(index=False, name=None))


@pytest.mark.parametrize("policy", SEEN)
def test_the_lessons_table_is_the_one_of_any_kernel(lesson, policy):
    lesson.cluster.policy(policy)
    assert sources(lesson.cluster) == SEEN[policy]


def test_the_nodes_hold_nftables_rules_and_no_iptables(lesson):
    rules = lesson.lab.client.exec("worker01", ["nft", "list", "ruleset"])
    assert rules.code == 0 and "chain nat-prerouting" in rules.stdout and "masquerade fully-random" in rules.stdout
    assert "KUBE" not in lesson.lab.client.exec("worker01", ["iptables-legacy-save"]).stdout


def test_the_rules_that_a_packet_meets_are_told(lesson):
    lesson.cluster.policy("Cluster")
    chain = chains.follow(lesson.cluster, chains.ANOTHER_NODE)
    text = " ".join(chains.rules_met(chain).astype(str).to_numpy().ravel())
    assert "masquerading" in text and "dnat" in text


@pytest.mark.parametrize("mode", ["ipvs", "iptables", "nftables"])
def test_it_changes_over_to_every_mode(lesson, mode):
    if mode == "ipvs" and not shutil.which("ipvsadm", path=native.PATH):
        pytest.skip("there is no ipvsadm; type: sudo apt-get install -y ipvsadm")
    assert lesson.lab.proxy_mode(mode) == mode
    lesson.cluster.policy("Cluster")
    seen = sources(lesson.cluster)
    assert seen == SEEN["Cluster"]


def test_doctor_names_all_three_modes(lesson):
    report = asyncio.run(trials.try_kernel("uml"))
    assert report.modes["iptables"] == report.modes["nftables"] == ""
    assert set(report.cnis.values()) == {""}


# -- without it ------------------------------------------------------------------------------------------------------


@pytest.fixture
def only_debians(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SRCIP_UML", raising=False)
    monkeypatch.delenv("SRCIP_KERNEL", raising=False)
    if uml.find_program() is None:
        pytest.skip(f"there is no Debian's User Mode Linux here; type: {uml.INSTALL}")


def why_not(kernel: str) -> LabError:
    with pytest.raises(LabError) as raised:
        asyncio.run(start_agent(kernel, "nftables"))
    return raised.value


def test_debians_says_what_to_type(only_debians):
    error = why_not("uml")
    assert "uml" in error.cause and error.remedy == "type: make kernel"
    if "cannot do proxy mode nftables" not in error.cause:
        pytest.fail(error.cause)


def test_auto_says_the_same_where_no_other_kernel_works(only_debians, monkeypatch):
    async def refused(kernel: str) -> None:
        raise LabError(f"kernel {kernel} is not allowed here", "ask who runs this machine")

    monkeypatch.setattr("srcip_nb.lab.kernel.start_native", refused)
    error = why_not("auto")
    assert error.remedy == "type: make kernel" and "root: kernel root is not allowed here" in error.cause


def test_to_install_debians_would_not_help(monkeypatch):
    monkeypatch.setattr(uml, "find_program", lambda: None)
    assert why_not("uml").remedy == uml.BUILD
