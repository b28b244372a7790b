"""A Dockerfile read, and its steps run in a folder that is a root file system: what a test can do without Docker.

``FROM`` is such a folder made by debootstrap. RUN, COPY, ENV, ARG, USER and WORKDIR are done, as far as the project's
own Dockerfile uses them; EXPOSE and CMD are only read.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

KNOWN = {"FROM", "ARG", "ENV", "RUN", "COPY", "USER", "WORKDIR", "EXPOSE", "CMD"}
ENTER = """
mount --bind "$1" "$1" && cd "$1" && mkdir -p .old proc sys dev
mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev && pivot_root . .old && umount -l .old
shift && exec "$@"
"""


def instructions(text: str) -> list[tuple[str, str]]:
    """Every instruction and its value, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines()]
    unknown = {name for name, _ in found} - KNOWN
    if unknown:
        raise ValueError(f"this reader does not know {unknown}")
    return found


class Root:
    """A root file system in which an image is being built."""

    def __init__(self, folder: Path, context: Path, outside: dict[str, str]) -> None:
        self.folder = folder
        self.context = context
        self.outside = outside  # of the machine around: where its certificates are
        self.names = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.arguments: dict[str, str] = {}
        self.user = "root"
        self.where = "/"

    def build(self, steps: list[tuple[str, str]]) -> None:
        """Do every step."""
        for name, value in steps:
            getattr(self, f"do_{name.lower()}")(value)

    def do_run(self, value: str) -> None:
        self.command(["/bin/sh", "-c", value])

    def command(self, words: list[str], timeout: float = 1200, **names: str) -> str:
        """Run words in the root as the present user, with no capabilities if that is not root; returns the output."""
        drop = [] if self.user == "root" else self.without_privileges()
        known = {**self.names, **self.arguments, **self.outside, **names}
        inside = ["env", "-i", *(f"{k}={v}" for k, v in known.items()), *drop, "sh", "-c", 'cd "$0" && exec "$@"']
        enter = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
            "sh",
            "-ec",
            ENTER,
        ]
        done = subprocess.run(
            [*enter, "enter", str(self.folder), *inside, self.where, *words],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )
        if done.returncode:
            raise AssertionError(f"{shlex.join(words)}\n{done.stdout[-4000:]}")
        return done.stdout

    def without_privileges(self) -> list[str]:
        number = self.names["NB_UID"]
        who = [f"--reuid={number}", f"--regid={number}", "--clear-groups"]
        return ["setpriv", *who, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]

    def do_arg(self, value: str) -> None:
        name, _, default = value.partition("=")
        self.arguments[name] = default

    def do_env(self, value: str) -> None:
        name, _, text = value.partition("=")
        self.names[name] = self.filled(text)

    def do_user(self, value: str) -> None:
        self.user = self.filled(value)

    def do_workdir(self, value: str) -> None:
        self.where = self.filled(value)

    def do_copy(self, value: str) -> None:
        owner, source, target = self.filled(value).split()
        shutil.copytree(self.context / source, self.folder / target.lstrip("/"), dirs_exist_ok=True)
        number = int(owner.removeprefix("--chown="))
        for path in [self.folder / target.lstrip("/"), *(self.folder / target.lstrip("/")).rglob("*")]:
            os.chown(path, number, number, follow_symlinks=False)

    def ignored(self, value: str) -> None:
        """Nothing to do."""

    # FROM is made by debootstrap before; the others only tell Docker something.
    do_from = do_expose = do_cmd = ignored

    def filled(self, text: str) -> str:
        known = {**self.arguments, **self.names}
        return re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], text)
