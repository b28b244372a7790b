"""`make kernel`: its fragment held against what a lab loads, its script with a source that is made in no time.

Building a real one takes minutes and some gigabytes for a while: set SRCIP_TEST_KERNEL=1.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from srcip_nb.lab.agent.guest import NEEDED
from srcip_nb.lab.kernel import uml

ROOT = Path(__file__).resolve().parent.parent
FRAGMENT = ROOT / "scripts" / "kernel.config"
DATA = ROOT / "tests" / "data"
WANTED = "SRCIP_TEST_KERNEL"


@pytest.fixture(scope="module")
def options() -> set[str]:
    """What the fragment has built in, without CONFIG_."""
    return set(re.findall(r"^CONFIG_(\w+)=y$", FRAGMENT.read_text(), re.MULTILINE))


# -- the fragment ----------------------------------------------------------------------------------------------------

IPTABLES = {
    "-m addrtype": "NETFILTER_XT_MATCH_ADDRTYPE",
    "-m comment": "NETFILTER_XT_MATCH_COMMENT",
    "-m conntrack": "NETFILTER_XT_MATCH_CONNTRACK",
    "-m ipvs": "NETFILTER_XT_MATCH_IPVS",
    "-m mark": "NETFILTER_XT_MARK",
    "-m nfacct": "NETFILTER_XT_MATCH_NFACCT",
    "-m physdev": "NETFILTER_XT_MATCH_PHYSDEV",
    "-m recent": "NETFILTER_XT_MATCH_RECENT",
    "-m sctp": "NETFILTER_XT_MATCH_SCTP",
    "-m set": "NETFILTER_XT_SET",
    "-m statistic": "NETFILTER_XT_MATCH_STATISTIC",
    "-m tcp": "NETFILTER_XTABLES",
    "-m udp": "NETFILTER_XTABLES",
    "-j ACCEPT": "NETFILTER_XTABLES",
    "-j DROP": "NETFILTER_XTABLES",
    "-j RETURN": "NETFILTER_XTABLES",
    "-j DNAT": "NETFILTER_XT_NAT",
    "-j MARK": "NETFILTER_XT_MARK",
    "-j MASQUERADE": "NETFILTER_XT_TARGET_MASQUERADE",
    "-j REJECT": "IP_NF_TARGET_REJECT",
    "*filter": "IP_NF_FILTER",
    "*mangle": "IP_NF_MANGLE",
    "*nat": "IP_NF_NAT",
    "*raw": "IP_NF_RAW",
}
SETS = {
    "bitmap:port": "IP_SET_BITMAP_PORT",
    "hash:ip": "IP_SET_HASH_IP",
    "hash:ip,port": "IP_SET_HASH_IPPORT",
    "hash:ip,port,ip": "IP_SET_HASH_IPPORTIP",
    "hash:ip,port,net": "IP_SET_HASH_IPPORTNET",
}
# What a rule's words ask for; the words left out are the names of headers, hooks, verdicts and NF_TABLES itself.
NFTABLES = {
    "ct": "NFT_CT",
    "dnat": "NFT_NAT",
    "masquerade": "NFT_MASQ",
    "numgen": "NFT_NUMGEN",
    "fib": "NFT_FIB_IPV4",
    "reject": "NFT_REJECT",
}
OF_NFTABLES_ITSELF = """\
accept ack addr comment daddr dport drop dstnat filter flags forward goto hook input ip ip6 jump l4proto local map mark
meta mod nat new nftrace output policy port postrouting prerouting priority random saddr sctp set srcnat state status
syn tcp th to type udp update vmap
"""
# Debian's modules (agent/guest.py) whose options are called otherwise than they are.
MODULES = {
    "br_netfilter": "BRIDGE_NETFILTER",
    "ipip": "NET_IPIP",
    "overlay": "OVERLAY_FS",
    "iptable_nat": "IP_NF_NAT",
    "iptable_filter": "IP_NF_FILTER",
    "iptable_mangle": "IP_NF_MANGLE",
    "iptable_raw": "IP_NF_RAW",
    "ipt_REJECT": "IP_NF_TARGET_REJECT",
    "nfnetlink_log": "NETFILTER_NETLINK_LOG",
    "nfnetlink_acct": "NETFILTER_NETLINK_ACCT",
    "nf_conntrack_netlink": "NF_CT_NETLINK",
    "xt_mark": "NETFILTER_XT_MARK",
    "xt_nat": "NETFILTER_XT_NAT",
    "xt_set": "NETFILTER_XT_SET",
    "xt_tcpudp": "NETFILTER_XTABLES",
}


def written(mode: str) -> str:
    """All that a real kube-proxy wrote in a mode: ten scenarios, and 68 Services more."""
    plain = [path.read_text() for path in sorted(DATA.glob(f"kube-proxy/*/*.{mode}"))]
    zoo = [gzip.decompress(path.read_bytes()).decode() for path in DATA.glob(f"kube-proxy-zoo/{mode}/*.rules.gz")]
    assert len(plain) == 30 and len(zoo) == (0 if mode == "ipvs" else 3)
    return "\n".join(plain + zoo)


@pytest.mark.parametrize("mode", ["iptables", "ipvs"])
def test_every_match_and_target_of_kube_proxy_has_its_option(options, mode):
    text = written(mode)
    words = set(re.findall(r" (-m \w+)", text)) | set(re.findall(r"^\*\w+", text, re.MULTILINE))
    words |= set(re.findall(r" (-j [A-Z]+)(?=\s)", text))
    assert len(words) > 12 and words <= IPTABLES.keys()
    assert {IPTABLES[word] for word in words} <= options


def test_mode_ipvs_has_its_sets_and_schedulers(options):
    text = written("ipvs")
    kinds = set(re.findall(r"^create \S+ (\S+)", text, re.MULTILINE))
    assert kinds == SETS.keys() and {SETS[kind] for kind in kinds} <= options
    assert {f"IP_VS_{name}" for name in ("RR", "LC", "SH", "NFCT", "PROTO_TCP", "PROTO_UDP", "PROTO_SCTP")} <= options


def test_every_expression_of_mode_nftables_has_its_option(options):
    from srcip_nb.lab.tracing import MARKING

    # Without what is a name: comments, and the chains, sets and maps that are led to.
    text = re.sub(r'"[^"]*"|(?<=goto )\S+|(?<=jump )\S+|@\S+', "", written("nftables") + MARKING)
    rules = re.findall(r"^(?:\t\t|    )[a-z].*", re.sub(r"(?ms)^\t(?:set|map) .*?^\t}", "", text), re.MULTILINE)
    words = {word for line in rules for word in re.findall(r"(?<![-\w/])[a-z]\w*(?![-\w/])", line)}
    assert words - set(OF_NFTABLES_ITSELF.split()) == set(NFTABLES)
    assert {NFTABLES[word] for word in words & NFTABLES.keys()} <= options
    assert {"NF_TABLES", "NF_TABLES_IPV4", "NF_TABLES_IPV6", "NF_TABLES_INET", "NFT_REDIR", "NFT_LOG"} <= options


def test_it_has_built_in_what_is_loaded_into_debians(options):
    for module in NEEDED.split():
        upper = module.upper()
        names = {MODULES.get(module, upper), upper.replace("XT_", "NETFILTER_XT_MATCH_", 1)}
        names |= {upper.replace("XT_", "NETFILTER_XT_TARGET_", 1)}
        assert names & options, module


def test_the_agents_own_needs(options):
    """hostfs, the serial line, /proc/*/task/*/children, smaps_rollup, namespaces, users.py's filter, entropy."""
    needs = "HOSTFS SSL DEVTMPFS PROC_CHILDREN PROC_PAGE_MONITOR NET_NS PID_NS UTS_NS SECCOMP_FILTER UNIX98_PTYS"
    assert set(f"{needs} UML_RANDOM HW_RANDOM TMPFS PACKET INET_TCP_DIAG IP_ROUTE_MULTIPATH".split()) <= options
    assert "# CONFIG_MODULES is not set" in FRAGMENT.read_text(), "so that no module is missed"


# -- where a lab looks for it ----------------------------------------------------------------------------------------


def program(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_a_named_one_comes_first_then_the_built_one_then_debians(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SRCIP_UML", raising=False)
    monkeypatch.setattr(uml, "PATH", str(tmp_path / "bin"))
    assert uml.find_program() is None
    packaged = program(tmp_path / "bin" / "linux.uml")
    assert uml.find_program() == packaged
    built = program(tmp_path / "cache" / "srcip-nb" / "kernel" / "linux.uml")
    assert uml.find_program() == built == uml.built_program()
    monkeypatch.setenv("SRCIP_UML", program(tmp_path / "mine"))
    assert uml.find_program() == str(tmp_path / "mine")
    monkeypatch.setenv("SRCIP_UML", str(tmp_path / "gone"))
    assert uml.find_program() == built


@pytest.mark.parametrize("cache", ["", "relative"])
def test_without_a_cache_of_its_own_it_is_in_the_home(monkeypatch, cache):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert uml.built_program() == "/home/me/.cache/srcip-nb/kernel/linux.uml"


# -- the script ------------------------------------------------------------------------------------------------------

MAKEFILE = """\
allnoconfig:
	grep -v '^CONFIG_NFT_{lacks}=' $(KCONFIG_ALLCONFIG) >.config
linux:
	@echo "compiling for $(ARCH) with [$(CFLAGS)]"
	{compile}
"""
COMPILES = "printf '#!/bin/sh\\necho 9.9-made-up\\n' >linux; chmod +x linux"
STUBS = {
    **dict.fromkeys(("gcc", "flex", "bison", "bc", "xz"), "exit 0"),
    "df": "printf 'Filesystem Blocks Used Available\\n/ 9 9 9999999\\n'",
    "uname": "echo x86_64",
}


class Kernel:
    """`make kernel` on a machine of its own making: programs, a source, a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built = folder / "cache" / "srcip-nb" / "kernel"
        self.stubs(**STUBS)
        self.source()

    def stubs(self, **programs: str) -> None:
        for name, does in programs.items():
            Path(program(self.folder / "bin" / name)).write_text(f"#!/bin/sh\n{does}\n")

    def source(self, lacks: str = "SOMETHING", compile: str = COMPILES, knows: str = "NFT_NAT") -> None:
        tree = self.folder / "linux-source-9.9"
        tree.mkdir(exist_ok=True)
        (tree / "Makefile").write_text(MAKEFILE.format(lacks=lacks, compile=compile))
        (tree / "Kconfig").write_text(f"config {knows}\n\tbool\n")
        with tarfile.open(self.folder / "source.tar", "w") as tar:
            tar.add(tree, tree.name)

    def make(self, **environment: str) -> subprocess.CompletedProcess:
        env = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "SRCIP_KERNEL_SOURCE": str(self.folder / "source.tar"),
            "CFLAGS": "-O9",
            **environment,
        }
        argv = ["make", "--no-print-directory", "kernel"]
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

    def left(self) -> set[str]:
        return {path.name for path in self.built.iterdir()} if self.built.exists() else set()


@pytest.fixture
def kernel(tmp_path) -> Kernel:
    if not shutil.which("make"):
        pytest.skip("there is no make")
    return Kernel(tmp_path)


def test_it_builds_once_and_says_what_it_does(kernel, monkeypatch):
    done = kernel.make()
    assert done.returncode == 0, done.stderr
    unpacking, compiling, built, see = done.stderr.splitlines()
    assert unpacking == f"Unpacking {kernel.folder / 'source.tar'}" and "five to ten minutes" in compiling
    program = kernel.built / "linux.uml"
    assert re.fullmatch(rf"Linux 9\.9-made-up is built, after \d+ seconds: {program}", built)
    assert see.endswith("srcip-nb doctor")
    assert kernel.left() == {"linux.uml", "linux.uml.from", "lock"}, "neither source nor log"
    monkeypatch.setenv("XDG_CACHE_HOME", str(kernel.folder / "cache"))
    assert uml.built_program() == str(program)

    kernel.stubs(tar="exit 1")
    again = kernel.make()
    assert again.returncode == 0
    assert again.stderr == f"It is there already: {program} (9.9-made-up). To remove it: rm -r {kernel.built}\n"


def test_a_newer_source_is_built_anew(kernel):
    kernel.make()
    kernel.source(compile=COMPILES.replace("9.9", "10.0"))
    os.utime(kernel.folder / "source.tar", (0, 0))
    assert "Linux 10.0-made-up is built" in kernel.make().stderr


def test_what_the_compiler_said_is_shown_and_kept(kernel):
    kernel.source(compile="@echo 'boom: no such thing' >&2; false")
    done = kernel.make()
    assert done.returncode != 0
    log = kernel.built / "build.log"
    assert "boom: no such thing" in done.stderr and f"All that was said: {log}" in done.stderr
    assert "compiling for um with []" in log.read_text(), "the caller's flags are not the kernel's"
    assert kernel.left() == {"build.log", "lock"}


def test_an_option_that_is_not_granted_ends_it_and_an_unknown_one_does_not(kernel):
    kernel.source(lacks="NAT")
    done = kernel.make()
    assert done.returncode != 0
    assert "This source does not grant what kernel.config asks for: CONFIG_NFT_NAT\n" in done.stderr
    kernel.source(lacks="NAT", knows="NFT_OF_ANOTHER_NAME")
    assert kernel.make().returncode == 0


def test_missing_packages_are_named(kernel):
    """A machine without bison, without a compiler's headers, and without a way to install."""
    kernel.stubs(gcc="exit 1", id="echo 1000", sudo="exit 1")
    for name in ("sh", "dirname", "realpath", "find", "sort", "tail", "date", "make", "mkdir"):
        (kernel.folder / "bin" / name).symlink_to(shutil.which(name))
    (kernel.folder / "bin" / "bison").unlink()
    done = kernel.make(PATH=str(kernel.folder / "bin"))
    assert done.returncode != 0
    assert "These system packages are missing: bison libc6-dev\n" in done.stderr
    assert "Install them and try again: sudo apt-get install bison libc6-dev\n" in done.stderr


@pytest.mark.parametrize(
    ("stub", "does", "said"),
    [
        ("uname", "echo aarch64", "User Mode Linux is for x86_64 alone; this machine is aarch64."),
        ("df", "printf 'F\\n/ 9 9 102400\\n'", " has 100 MB free; to build a kernel takes 2000 MB for a while."),
        ("flock", "exit 1", "Another one is being built in "),
    ],
)
def test_why_it_cannot(kernel, stub, does, said):
    kernel.stubs(**{stub: does})
    done = kernel.make()
    assert done.returncode != 0 and said in done.stderr, done.stderr
    assert not kernel.left() & {"linux.uml"}


# -- a real one ------------------------------------------------------------------------------------------------------

LESSON = """
from srcip_nb import connect
from srcip_nb.lab import Lab
with Lab(kernel="uml", proxy_mode="nftables") as lab:
    cluster = connect(lab=lab.name, quiet=True)
    cluster.apply()
    cluster.wait_ready()
    frame = cluster.visit(24, progress=False)
    print(lab.client.info()["kernel"]["kernel"], *sorted(set(frame["source_ip"])))
"""


@pytest.mark.lab
@pytest.mark.timeout(5400)
@pytest.mark.skipif(not os.environ.get(WANTED), reason=f"takes minutes and 2 GB of disk: set {WANTED}=1")
def test_a_real_one_is_built_and_carries_the_lesson(tmp_path):
    def run(*argv: str) -> subprocess.CompletedProcess:
        env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
        env.pop("SRCIP_UML", None)
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=5000, check=False)

    built = run("make", "kernel")
    assert built.returncode == 0, built.stderr
    assert run("make", "kernel").stderr.startswith("It is there already: ")
    taught = run(sys.executable, "-c", LESSON)
    assert taught.returncode == 0, taught.stderr
    assert re.fullmatch(r"\d\S*-srcip-nb 10\.0\.5\.0 192\.168\.1\.45\n", taught.stdout)
