"""What doctor says of a machine, here one that is pretended to lack things."""

import sys

import pytest

from srcip_nb import doctor
from srcip_nb.doctor import Feature, Finding


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
    monkeypatch.setattr(
        doctor, "can_run", lambda kernel: "programs are missing: nginx; type: sudo apt-get install nginx"
    )
    monkeypatch.setattr(doctor, "try_feature", lambda feature: pytest.fail("tried"))
    assert doctor.doctor()[0] == Finding(
        "missing", "kernel root", "programs are missing: nginx", "sudo apt-get install nginx"
    )
