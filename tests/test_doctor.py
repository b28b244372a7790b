"""What doctor says of a machine, here one that is pretended to lack things."""

import asyncio
import sys

import pytest

from srcip_nb import doctor
from srcip_nb.doctor import Feature, Finding
from srcip_nb.lab.kernel import KERNELS, can_run, remedies, trials, uml
from srcip_nb.lab.kernel.trials import KernelReport


def test_a_report_is_a_line_each_and_a_verdict():
    findings = [
        Finding("ok", "nft", "1.0.6"),
        Finding("without", "ip_vs", "kube-proxy's mode ipvs", "sudo modprobe ip_vs"),
    ]
    first, *lines = doctor.report(findings).splitlines()
    assert first.startswith("Linux ") and "user id" in first
    assert lines == [
        "ok       nft                      1.0.6",
        "without  ip_vs                    kube-proxy's mode ipvs; type: sudo modprobe ip_vs",
        "A lab can run here: srcip-nb lab up",
    ]
    broken = [*findings, Finding("missing", "nginx", "a lab needs it", "sudo apt-get install -y nginx-light")]
    assert doctor.report(broken).splitlines()[-1] == "A lab cannot run here: nginx."


def test_a_program_that_is_missing_and_one_that_is_only_useful(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path: None)
    found = {finding.what: finding for finding in doctor.programs()}
    assert (found["nginx"].state, found["nginx"].remedy) == ("missing", "sudo apt-get install -y nginx-light")
    assert (found["tcpdump"].state, found["tcpdump"].remedy) == ("without", "sudo apt-get install -y tcpdump")
    assert found["kubectl"].state == "without" and "https://" in found["kubectl"].words


def test_python_packages_are_held_against_what_is_wanted(monkeypatch):
    wanted = ["there>=2", "old>=2,!=3.0", "gone>=1", 'extra>=1; extra == "test"']
    versions = {"there": "2.1", "old": "3.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise doctor.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(doctor.metadata, "version", version)
    pip = f"{sys.executable} -m pip install --upgrade"
    assert doctor.python_packages() == [
        Finding("ok", "there", "2.1"),
        Finding("missing", "old", "3.0, but wanted: !=3.0,>=2", f"{pip} 'old>=2,!=3.0'"),
        Finding("missing", "gone", "wanted: >=1", f"{pip} 'gone>=1'"),
    ]


def test_everything_this_package_requires_is_looked_at():
    assert {finding.what.lower() for finding in doctor.python_packages()} >= {"kubernetes", "pandas", "papermill"}
    assert {finding.state for finding in doctor.python_packages()} == {"ok"}


@pytest.mark.parametrize(("is_needed", "state"), [(True, "missing"), (False, "without")])
def test_a_feature_that_does_not_work(monkeypatch, is_needed, state):
    monkeypatch.setitem(doctor.UNSHARE, "root", ("env",))
    monkeypatch.setattr(doctor, "_TRIAL_SHELL", ("sh", "-ec"))
    feature = Feature("magic", "tricks", "exit 1", "magic_mod", is_needed)
    assert doctor.try_feature(feature) == Finding(state, "magic", "tricks", "sudo modprobe magic_mod")
    works = Feature("magic", "tricks", "true", "magic_mod", is_needed)
    assert doctor.try_feature(works) == Finding("ok", "magic", "tricks")


def test_without_the_kernel_its_parts_are_not_tried(monkeypatch):
    async def none_works(kernel: str) -> KernelReport:
        return KernelReport(kernel, "programs are missing: nginx", "sudo apt-get install nginx")

    monkeypatch.setattr(doctor, "try_kernel", none_works)
    monkeypatch.setattr(doctor, "try_feature", lambda feature: pytest.fail("tried"))
    assert doctor.doctor()[0] == Finding(
        "missing", "kernel root", "programs are missing: nginx", "sudo apt-get install nginx"
    )


CNIS = {"calico": "", "flannel": "", "ptp": ""}


def test_each_kernel_with_its_modes_and_what_another_does_for_it(monkeypatch):
    monkeypatch.setattr(remedies, "has_module", lambda name: name == "ip_vs")
    reports = [
        KernelReport("root", "not allowed here", "sudo srcip-nb"),
        KernelReport(
            "userns",
            release="6.12",
            modes={"iptables": "", "nftables": "", "ipvs": "no such protocol"},
            cnis={**CNIS, "ptp": "unknown device type"},
        ),
        KernelReport("uml", release="6.1", modes={"iptables": "", "nftables": "", "ipvs": ""}, cnis=CNIS),
    ]
    assert doctor.kernels(reports) == [
        Finding("without", "kernel root", "not allowed here", "sudo srcip-nb"),
        Finding("ok", "kernel userns", "Linux 6.12: modes iptables, nftables; pod networks calico, flannel"),
        Finding(
            "without", "userns: mode ipvs", "kernel=auto takes uml for it (no such protocol)", "sudo modprobe ip_vs"
        ),
        Finding("without", "userns: pods by ptp", "unknown device type", "sudo modprobe vxlan"),
        Finding("ok", "kernel uml", "Linux 6.1: modes iptables, nftables, ipvs; pod networks calico, flannel, ptp"),
    ]
    alone = doctor.kernels(reports[:2])
    assert alone[2] == Finding("without", "userns: mode ipvs", "no such protocol", "sudo modprobe ip_vs")


PACKAGED, BUILT, NAMED = "/usr/bin/linux.uml", "/home/me/.cache/srcip-nb/kernel/linux.uml", "/opt/linux"


@pytest.mark.parametrize(
    ("kernel", "mode", "said", "module", "uml", "remedy"),
    [
        ("root", "ipvs", "sh: 1: ipvsadm: not found", True, "", "sudo apt-get install -y ipvsadm"),
        ("uml", "ipvs", "bash: line 1: ipset: command not found", False, PACKAGED, "sudo apt-get install -y ipset"),
        ("root", "ipvs", "Protocol not available", True, "", "sudo modprobe ip_vs"),
        ("userns", "ipvs", "Protocol not available", False, None, "sudo apt-get install -y user-mode-linux"),
        ("userns", "ipvs", "Protocol not available", False, PACKAGED, ""),
        ("uml", "ipvs", "Protocol not available", True, PACKAGED, ""),
        ("uml", "nftables", "sh: 1: nft: not found", True, PACKAGED, "sudo apt-get install -y nftables"),
        ("uml", "nftables", "Operation not supported", True, PACKAGED, "make kernel"),
        ("uml", "nftables", "Operation not supported", True, BUILT, ""),
        ("uml", "nftables", "Operation not supported", True, NAMED, ""),
        ("root", "nftables", "Operation not supported", True, None, "sudo modprobe nf_tables"),
        ("root", "nftables", "Operation not supported", False, None, "make kernel"),
        ("root", "nftables", "Operation not supported", False, BUILT, ""),
    ],
)
def test_what_mends_a_mode(monkeypatch, kernel, mode, said, module, uml, remedy):
    monkeypatch.setattr(remedies, "has_module", lambda name: module)
    monkeypatch.setattr(remedies, "find_program", lambda: uml)
    monkeypatch.setattr(remedies, "built_program", lambda: BUILT)
    monkeypatch.setenv("SRCIP_UML", NAMED)
    assert remedies.mode_remedy(kernel, mode, said) == remedy


@pytest.mark.lab
def test_a_kernel_that_works_tells_its_modes_and_pod_networks():
    report = asyncio.run(trials.try_kernel(next(name for name in KERNELS if not can_run(name))))
    assert not report.why_not and report.release
    assert report.modes["iptables"] == "" and set(report.modes) == {"iptables", "nftables", "ipvs"}
    assert report.cnis == CNIS


def test_a_kernel_that_does_not_start_is_reported(monkeypatch):
    monkeypatch.setattr(trials, "can_run", lambda name: "not here; type: sudo something")
    assert asyncio.run(trials.try_kernel("root")) == KernelReport("root", "not here", "sudo something")
    monkeypatch.setattr(uml, "find_program", lambda: None)
    assert asyncio.run(trials.try_kernel("uml")) == KernelReport("uml", "there is no User Mode Linux here", uml.INSTALL)
