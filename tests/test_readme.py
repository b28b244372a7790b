"""What the README tells a newcomer to type does what it says; what pages name exists: test_pages.py."""

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parent.parent
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def block(first: str) -> str:
    """The README's block of commands that begins with a certain word."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return next(text for text in blocks if text.startswith(first))


def shell(text: str, **environment: str) -> subprocess.CompletedProcess:
    names = {**os.environ, "PATH": PATH, **environment}
    return subprocess.run(
        ["bash", "-euc", text],
        cwd=ROOT,
        env=names,
        text=True,
        capture_output=True,
        timeout=90,
        stdin=subprocess.DEVNULL,
    )


def test_a_lab_of_ones_own(tmp_path):
    done = shell(block("eval"), SRCIP_STATE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^seminar +webserver-\S+ ", done.stdout, re.MULTILINE), done.stdout
    assert "service/webserver created" in done.stdout
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [], "and it is down again"


def test_commands_in_hosts(lab, cluster):
    cluster.apply()
    cluster.wait_ready()
    for line in block("srcip-nb lab exec").splitlines():
        done = shell(line.replace("lab exec", f"lab exec --name {lab.name}", 1))
        assert done.returncode == 0, (line, done.stderr)


def test_a_shell_on_a_terminal(lab):
    """Prompt, echo, a terminal of its own, and the exit code come through as from any shell."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "srcip_nb", "lab", "exec", "--name", lab.name, "worker01", "--", "bash"]
        os.execv(command[0], command)
    try:
        prompt = read(terminal, b"# ")
        os.write(terminal, b"tty; echo $((6*7)); exit 3\n")
        seen = read(terminal, b"")
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3, prompt + seen
    assert b"/dev/pts/" in seen and b"42" in seen


def read(terminal: int, until: bytes) -> bytes:
    """What a terminal shows, up to some words, or to its end if there are none."""
    seen = b""
    while select.select([terminal], [], [], 20)[0]:
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # EIO: the other side has closed
            return seen
        if until and until in seen:
            return seen
    raise AssertionError(f"it said only {seen!r}")
