"""The course where nothing is allowed: a container with Docker's defaults, in which only a User Mode Linux can run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.test_uml import why_no_uml
from tests.sandbox import sandboxed, user_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

COURSE = Path(__file__).resolve().parents[2] / "notebooks" / "en"
NOTEBOOKS = ("01-environment.ipynb", "02-cluster.ipynb", "03-local.ipynb")


@pytest.fixture(scope="module")
def inside() -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Run words in the sandbox, with a home and a TMPDIR of its own."""
    if why_no_uml():
        pytest.skip(f"no User Mode Linux can run here: {why_no_uml()}")
    user = user_for(sys.executable)
    # Not pytest's own directory, which every run of it closes to other users.
    with tempfile.TemporaryDirectory(prefix="srcip-sandbox-") as name:
        home = Path(name)
        if user is not None:
            os.chown(home, user, user)
        yield runner(home, user)


def runner(home: Path, user: int | None) -> Callable[..., subprocess.CompletedProcess]:
    env = {name: value for name, value in os.environ.items() if name != "SRCIP_KERNEL"}
    env |= {"HOME": str(home), "TMPDIR": str(home), "SRCIP_STATE_DIR": str(home / "labs")}

    def run(*words: str, timeout: float = 60) -> subprocess.CompletedProcess:
        argv = sandboxed(*words, user=user)
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env=env, cwd=home, check=False)

    tried = run("true")
    if tried.returncode:
        pytest.skip(f"this user cannot make such a sandbox: {tried.stderr.strip()}")
    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["unshare", "--user", "true"], "Operation not permitted"),
        (["unshare", "--net", "true"], "Operation not permitted"),
        (["mount", "-t", "tmpfs", "none", "/mnt"], "mount: /mnt: "),
        (["ip", "link", "add", "v0", "type", "dummy"], "Operation not permitted"),
    ],
)
def test_it_forbids_what_a_container_forbids(inside, words, said):
    done = inside(*words)
    assert done.returncode != 0 and said in done.stderr + done.stdout, done


def test_it_has_no_capability_and_a_small_shm(inside):
    status = inside("cat", "/proc/self/status").stdout
    assert {line.split()[1] for line in status.splitlines() if line.startswith("Cap")} == {"0" * 16}
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    shm = next(line for line in inside("cat", "/proc/self/mounts").stdout.splitlines()[::-1] if " /dev/shm " in line)
    assert "noexec" in shm and "size=65536k" in shm


def test_only_a_user_mode_linux_is_left(inside):
    said = inside(sys.executable, "-m", "srcip_nb", "doctor", timeout=120).stdout
    states = {line.split()[2]: line.split()[0] for line in said.splitlines() if " kernel " in line}
    assert states == {"root": "without", "userns": "without", "uml": "ok"}, said


def test_the_first_three_notebooks(inside):
    notebooks = [str(COURSE / name) for name in NOTEBOOKS]
    done = inside(sys.executable, "-m", "srcip_nb", "run", *notebooks, "--out", "out", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split().count("passed") for line in done.stdout.splitlines() if ".ipynb" in line] == [1, 1, 1]
