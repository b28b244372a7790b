"""Where no lab can run, the package can be imported, and one message says what the choices are."""

import subprocess
import sys

import pytest

from srcip_nb import connect
from srcip_nb.errors import LabError

# What a Python for Windows does not have, hidden before anything of the project is imported. Other people's packages
# are there already: they are built for the machine that they run on.
ELSEWHERE = """
import importlib.abc, os, sys
import kubernetes.client, kubernetes.config, matplotlib.figure, numpy, pandas, pyarrow, yaml
GONE = {"fcntl", "pty", "termios", "tty", "resource", "pwd", "grp", "syslog"}

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Hide())
for name in GONE:
    sys.modules.pop(name, None)
for name in ("sched_getaffinity", "sched_setaffinity", "statvfs", "killpg", "geteuid"):
    delattr(os, name)
sys.platform = sys.argv[1]
import srcip_nb
from srcip_nb import begin, connect, plots
from srcip_nb.lab.client import LabClient
from srcip_nb.lab.proxy.render import *
from srcip_nb.parse import *
from srcip_nb.errors import LabError
try:
    connect()
except LabError as error:
    print(error)
begin("02")
cluster = connect(replay="lab-calico")
print(cluster.apply().shape)
"""


@pytest.mark.parametrize("platform, name", [("darwin", "macOS"), ("win32", "Windows")])
def test_without_linux(platform, name):
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, platform], text=True, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert f"this is {name}" in done.stdout
    assert "Recorded, not live" in done.stdout


def test_the_choices_are_in_one_message(monkeypatch):
    monkeypatch.setenv("SRCIP_KERNEL", "none")
    with pytest.raises(LabError) as raised:
        connect()
    for choice in ("replay=", "docker run --rm --privileged", "kind create cluster", "Binder", "Linux VM"):
        assert choice in raised.value.remedy


def test_a_kernel_that_does_not_do_has_the_same_choices(monkeypatch):
    from srcip_nb import no_kernel, worlds

    def fails(**settings):
        raise LabError("no kernel works", "sudo apt-get install -y user-mode-linux")

    monkeypatch.setattr("srcip_nb.lab.lifecycle.ensure_lab", fails)
    monkeypatch.setattr(worlds, "reason", lambda: "root: not allowed; uml: not there")
    with pytest.raises(LabError) as raised:
        connect()
    assert "root: not allowed; uml: not there" in raised.value.cause
    assert raised.value.remedy.startswith("sudo apt-get install") and "replay=" in raised.value.remedy
    assert no_kernel.CHOICES.splitlines()[0] in raised.value.remedy
