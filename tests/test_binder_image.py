"""The image of Binder, Docker Desktop and Codespaces: its Dockerfile read, and, where asked for, its steps run.

Running them takes minutes and a few hundred megabytes of packages: set SRCIP_TEST_IMAGE=1, as root, with debootstrap.
"""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.dockerfile import Root, instructions

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "binder" / "Dockerfile"
FIRST = "notebooks/en/00-start-here.ipynb"
WANTED = "SRCIP_TEST_IMAGE"


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    return instructions(DOCKERFILE.read_text())


def values(steps, name: str) -> list[str]:
    return [value for one, value in steps if one == name]


def test_it_is_made_as_binder_asks(steps):
    """https://repo2docker.readthedocs.io, Dockerfile: a user of the number given, a home that is its own, no root."""
    assert values(steps, "FROM") == ["debian:bookworm-slim"], "the release with user-mode-linux 6.1"
    assert "NB_UID=1000" in values(steps, "ARG") and "NB_USER=jovyan" in values(steps, "ARG")
    assert "HOME=/home/${NB_USER}" in values(steps, "ENV")
    assert values(steps, "USER") == ["${NB_USER}"]
    after = [name for name, _ in steps[[name for name, _ in steps].index("USER") :]]
    assert "COPY" not in after and "RUN" in after, "Python packages are installed by the user"
    assert values(steps, "EXPOSE") == ["8888"]
    assert json.loads(values(steps, "CMD")[0])[:2] == ["jupyter", "lab"]


def test_it_has_every_system_package_that_the_set_up_installs(steps):
    listed = re.search(r"for pair in (.*?); do", (ROOT / "scripts" / "setup.sh").read_text(), re.DOTALL)[1]
    wanted = {pair.partition(":")[2] for pair in listed.replace("\\\n", " ").split()} | {"libnginx-mod-stream"}
    assert wanted <= set(values(steps, "RUN")[0].split())


def test_versions_are_those_of_the_package(steps):
    (command,) = [value for value in values(steps, "RUN") if "pip install" in value]
    named = re.findall(r"'([^']+)'|\s(-e \.)", command.split("pip install")[1].split("&&")[0])
    assert [first or second for first, second in named] == ["-e .", "notebook>=7"]


@pytest.mark.parametrize("name", ["binder/jupyter_server_config.json"])
def test_it_opens_on_the_first_notebook(name):
    settings = json.loads((ROOT / name).read_text())
    assert {one["default_url"] for one in settings.values()} == {f"/lab/tree/{FIRST}"}


def test_the_codespace_is_built_from_the_same_file():
    folder = ROOT / ".devcontainer"
    settings = json.loads((folder / "devcontainer.json").read_text())
    assert (folder / settings["build"]["dockerfile"]).resolve() == DOCKERFILE
    assert (folder / settings["build"]["context"]).resolve() == ROOT
    assert settings["remoteUser"] == "jovyan"
    assert settings["customizations"]["codespaces"]["openFiles"] == [FIRST]


def why_not_built() -> str:
    if os.environ.get(WANTED) != "1":
        return f"it takes minutes: set {WANTED}=1"
    if os.geteuid() != 0:
        return "a root file system is made by root only"
    return "" if shutil.which("debootstrap") else "debootstrap is missing: sudo apt-get install debootstrap"


@pytest.mark.timeout(3600)
def test_its_steps_run_and_the_first_notebook_too(steps, tmp_path, record_property):
    if why := why_not_built():
        pytest.skip(why)
    root = Root(tmp_path / "root", tmp_path / "context", {})
    make_root(root.folder)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        (root.context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root.context / name)
    root.outside = certificates(root.folder)
    root.build(steps)
    assert root.user == "jovyan"
    assert root.command(["id", "-u"]).strip() == "1000"
    assert "CapEff:\t0000000000000000" in root.command(["cat", "/proc/self/status"])
    began = time.monotonic()
    root.command(
        ["papermill", "notebooks/en/01-environment.ipynb", "/tmp/01.ipynb", "--cwd", "notebooks/en"],
        SRCIP_KERNEL="uml",
        SRCIP_MARKER_DIR="/tmp",
    )
    seconds = time.monotonic() - began
    said = json.loads((root.folder / "tmp" / "done.json").read_text())
    assert said["failed"] == [] and said["held"] >= 3, said
    record_property("seconds", seconds)
    print(f"notebook 01 on User Mode Linux, its lab's start included: {seconds:.1f} s")


def make_root(folder: Path) -> None:
    """What debian:bookworm-slim is, but for the files that it leaves out."""
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(folder)], check=True, capture_output=True)
    shutil.copy("/etc/resolv.conf", folder / "etc" / "resolv.conf")


def certificates(folder: Path) -> dict[str, str]:
    """The machine's own authorities, for machines that reach the package registries through one of their own."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not bundle.exists():
        return {}
    (folder / "opt").mkdir(exist_ok=True)
    shutil.copy(bundle, folder / "opt" / "authorities.crt")
    return {"PIP_CERT": "/opt/authorities.crt", "SSL_CERT_FILE": "/opt/authorities.crt"}
