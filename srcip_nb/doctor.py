"""What this machine can do for a lab, found by trying it: the kernels, its programs, the Python packages.

    ok       kernel root         Linux 6.1.0: modes iptables, nftables; pod networks calico, flannel, ptp
    without  root: mode ipvs     kernel=auto takes uml for it; ...; type: sudo modprobe ip_vs
    missing  nginx               pods run it; type: sudo apt-get install -y nginx-light

What is ``missing`` keeps a lab from running; ``without`` a thing that is only nice to have it runs all the same.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from srcip_nb.lab.entrypoint import STREAM_MODULE
from srcip_nb.lab.kernel import KERNELS
from srcip_nb.lab.kernel.native import NEEDED, PATH, UNSHARE
from srcip_nb.lab.kernel.remedies import mode_remedy
from srcip_nb.lab.kernel.trials import KernelReport, try_kernel

OK, MISSING, WITHOUT, UNKNOWN = "ok", "missing", "without", "unknown"
TRIAL_WITHIN = 20.0  # seconds

_LONGEST_WORDS = 100
_TRIAL_SHELL = ("--mount", "sh", "-ec")
_NFACCT = Path(__file__).resolve().parent / "lab" / "agent" / "nfacct.py"


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        state: ``ok``, ``missing`` (a lab needs it), ``without`` (it does without) or ``unknown`` (of a cluster).
        what: its name.
        words: its version, or what it is for, or why it does not work.
        remedy: what to type to get it; "" where nothing is to be done or can be.
        evidence: what said so, where that is not plain from the words.
    """

    state: str
    what: str
    words: str
    remedy: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class Feature:
    """A part of the kernel, tried by a command in namespaces of its own.

    Attributes:
        what: its name.
        used_for: what a lab uses it for.
        trial: a shell command that succeeds where it is there.
        module: the kernel module that brings it.
        is_needed: whether no lab runs without it.
    """

    what: str
    used_for: str
    trial: str
    module: str
    is_needed: bool = False


FEATURES = (
    Feature("vxlan", "tunnels between nodes", "ip link add v0 type vxlan id 1 dstport 4789", "vxlan", True),
    Feature("conntrack", "the kernel's table of flows", "conntrack -L", "nf_conntrack_netlink", True),
    Feature("nft", "looking at rules as nftables", "nft add table ip trial", "nf_tables"),
    Feature("nfacct", "kube-proxy's packet counters", f"{sys.executable} -I -S {_NFACCT} trial", "nfnetlink_acct"),
    Feature(
        "overlay",
        "pods' file systems in layers",
        "mount -t tmpfs tmpfs /run; cd /run; mkdir l u w m; mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m",
        "overlay",
    ),
)

# Beside what a lab cannot do without: program -> (Debian package, what for).
USEFUL = {
    "ipvsadm": ("ipvsadm", "kube-proxy's mode ipvs"),
    "ipset": ("ipset", "kube-proxy's mode ipvs"),
    "curl": ("curl", "requests by hand, from any host or pod"),
    "envsubst": ("gettext-base", "variables in a pod's nginx configuration"),
    "nft": ("nftables", "looking at rules as nftables"),
    "tcpdump": ("tcpdump", "packets, in any host or pod"),
    "kubectl": ("", "the cluster by hand: https://kubernetes.io/docs/tasks/tools/"),
}
_SAYS_VERSION = {"ip": "-V", "nginx": "-v", "unshare": "-V", "iptables-legacy-restore": "--version"}
_VERSION = re.compile(r"\d+(\.\d+)+")


def doctor() -> list[Finding]:
    """Look at everything a lab needs or can use on this machine."""
    reports = [asyncio.run(try_kernel(name)) for name in KERNELS]
    native = next((report.name for report in reports if report.name in UNSHARE and not report.why_not), "")
    features = [try_feature(feature, native) for feature in FEATURES] if native else []
    return [*kernels(reports), *features, *programs(), nginx_stream(), *python_packages()]


def kernels(reports: list[KernelReport]) -> list[Finding]:
    """Say of each kernel whether a lab runs on it, with which proxy modes and pod networks, and what would mend it.

    Args:
        reports: of all kernels, in the order in which ``kernel="auto"`` tries them.
    """
    one_works = any(not report.why_not for report in reports)
    found = []
    for report in reports:
        if report.why_not:
            state = WITHOUT if one_works else MISSING
            found.append(Finding(state, f"kernel {report.name}", report.why_not, report.remedy))
            continue
        modes = ", ".join(mode for mode, why_not in report.modes.items() if not why_not)
        cnis = ", ".join(cni for cni, why_not in report.cnis.items() if not why_not)
        words = f"Linux {report.release}: modes {modes or 'none'}; pod networks {cnis or 'none'}"
        found.append(Finding(OK, f"kernel {report.name}", words))
        found += [_lacks_mode(report, mode, reports) for mode, why_not in report.modes.items() if why_not]
        for cni, why_not in report.cnis.items():
            if why_not:
                found.append(Finding(WITHOUT, f"{report.name}: pods by {cni}", why_not, "sudo modprobe vxlan"))
    return found


def _lacks_mode(report: KernelReport, mode: str, reports: list[KernelReport]) -> Finding:
    others = [other.name for other in reports if not other.why_not and not other.modes.get(mode, "unknown")]
    why_not = report.modes[mode]
    said = textwrap.shorten(why_not, _LONGEST_WORDS, placeholder=" ...")
    words = f"kernel=auto takes {others[0]} for it ({said})" if others else said
    return Finding(WITHOUT, f"{report.name}: mode {mode}", words, mode_remedy(report.name, mode, why_not))


def try_feature(feature: Feature, kernel: str = "root") -> Finding:
    """Try one part of a kernel, in namespaces that end with the trial."""
    try:
        done = subprocess.run(
            [*UNSHARE[kernel], *_TRIAL_SHELL, feature.trial],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_WITHIN,
            check=False,
            env={"PATH": PATH},
        )
        works = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    if works:
        return Finding(OK, feature.what, feature.used_for)
    state = MISSING if feature.is_needed else WITHOUT
    return Finding(state, feature.what, feature.used_for, f"sudo modprobe {feature.module}")


def programs() -> list[Finding]:
    """The programs of this machine that a lab runs, with their versions."""
    found = []
    path = f"{Path(sys.executable).parent}:{PATH}"
    for name in [*NEEDED, *USEFUL]:
        package, used_for = USEFUL.get(name, (NEEDED.get(name, ""), "a lab needs it"))
        place = shutil.which(name, path=path)
        if place:
            found.append(Finding(OK, name, _version(place, name)))
        else:
            state = MISSING if name in NEEDED else WITHOUT
            found.append(Finding(state, name, used_for, f"sudo apt-get install -y {package}" if package else ""))
    return found


def nginx_stream() -> Finding:
    """Whether this machine's nginx hands on bytes (module stream), built in or from its file; tried by its own test."""
    what, used_for = "nginx stream", "proxies that speak PROXY protocol, in pods"
    for load in ("", f"load_module {STREAM_MODULE};"):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as trial:
            trial.write("pid /dev/null;\nevents {}\nstream {}\n")
            trial.flush()
            argv = ["nginx", "-t", "-q", "-c", trial.name, *(["-g", load] if load else [])]
            if _succeeds(argv):
                return Finding(OK, what, used_for)
    return Finding(WITHOUT, what, used_for, "sudo apt-get install -y libnginx-mod-stream")


def _succeeds(argv: list[str]) -> bool:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_WITHIN,
            check=False,
            env={"PATH": PATH},
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _version(place: str, name: str) -> str:
    words = ["version", "--client"] if name == "kubectl" else [_SAYS_VERSION.get(name, "--version")]
    try:
        done = subprocess.run(
            [place, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TRIAL_WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{place} cannot be run: {error}"
    found = _VERSION.search(done.stdout + done.stderr)
    return found[0] if found else place


def python_packages() -> list[Finding]:
    """The packages this one requires: which are there, and whether their versions fit."""
    findings = []
    mend = f"{sys.executable} -m pip install --upgrade"
    for text in metadata.requires("srcip_nb") or []:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            findings.append(Finding(MISSING, wanted.name, f"wanted: {wanted.specifier}", f"{mend} '{text}'"))
            continue
        if wanted.specifier.contains(version, prereleases=True):
            findings.append(Finding(OK, wanted.name, version))
        else:
            words = f"{version}, but wanted: {wanted.specifier}"
            findings.append(Finding(MISSING, wanted.name, words, f"{mend} '{text}'"))
    return findings


def report(findings: list[Finding]) -> str:
    """The findings as a text: a line each, and at the end what to type first."""
    system = f"{platform.system()} {platform.release()}, user id {os.geteuid()}, Python {platform.python_version()}"
    lines = [system]
    for finding in findings:
        line = f"{finding.state:<8} {finding.what:<24} {finding.words}"
        lines.append(f"{line}; type: {finding.remedy}" if finding.remedy else line)
    bad = [finding for finding in findings if finding.state == MISSING]
    if not bad:
        lines.append("A lab can run here: srcip-nb lab up")
    else:
        lines.append(f"A lab cannot run here: {', '.join(finding.what for finding in bad)}.")
    return "\n".join(lines)
