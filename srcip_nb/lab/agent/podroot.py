"""A pod's file system: the machine's own root, read only underneath, with the pod's files on top.

An overlay does it: the machine's ``/`` is the lower layer, a tmpfs that only this pod's mount namespace has is the
upper one. Whatever the pod writes ends with it, and the machine's files stay as they are. Where the kernel has no
overlay (``features.overlay`` is false), each directory that gets a file is covered by a copy of its content on a tmpfs:
the pod's files are the same, but what it wrote elsewhere would land on the machine, so all else is made read-only.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from . import syscalls
from .protocol import RequestError
from .spaces import HOSTS_FILE, STATE, mount_sys

LAYERS = f"{STATE}/layers"
SIZE = "size=64m,mode=755"
_COPY_LIMIT = 8 << 20


def check_paths(paths: Sequence[str]) -> None:
    """Refuse paths that are not absolute and plain.

    Raises:
        RequestError: one is not.
    """
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/") or os.path.normpath(path) != path or path == "/":
            raise RequestError(f"{path!r} is not an absolute path of a file")


class File(NamedTuple):
    """A file to be written: its bytes and permissions, or where it leads to as a symbolic link."""

    data: bytes = b""
    mode: int = 0o644
    link: str = ""


def contents(files: Mapping[str, object]) -> dict[str, File]:
    """Decode files as they come over the wire: path to text, {"text" or "base64": ..., "mode": ...} or {"link": ...}.

    Raises:
        RequestError: a path or a content is not of that form.
    """
    check_paths(list(files))
    decoded = {}
    for path, content in files.items():
        try:
            decoded[path] = _decoded(content)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise RequestError(f'the content of {path} is neither text nor {{"base64": ...}}') from error
    return decoded


def _decoded(content: object) -> File:
    if isinstance(content, str):
        return File(content.encode())
    if not isinstance(content, dict):
        raise TypeError("neither text nor an object")
    if "link" in content:
        return File(link=str(content["link"]))
    data = content["text"].encode() if "text" in content else base64.b64decode(content["base64"], validate=True)
    return File(data, int(content.get("mode", 0o644)) & 0o777)


def has_overlay() -> bool:
    """Try whether the machine's root can be the lower layer of an overlay; to be called in a thread that ends."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        _mount_overlay()
    except OSError:
        return False
    return True


def _mount_overlay() -> str:
    syscalls.mount("tmpfs", LAYERS, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, SIZE)
    for name in ("upper", "work", "root"):
        os.mkdir(f"{LAYERS}/{name}")
    root = f"{LAYERS}/root"
    syscalls.mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={LAYERS}/upper,workdir={LAYERS}/work")
    return root


def make_pod_root(overlay: bool, hostname: str, empty: Sequence[str], files: Mapping[str, File]) -> None:
    """Make the calling thread's mount namespace a pod's.

    Args:
        overlay: whether the kernel has overlays.
        hostname: the pod's name.
        empty: directories that are a volume's and start empty, whatever the machine has there.
        files: path to content; directories are made as needed.
    """
    if overlay:
        _pivot_into_overlay(hostname)
    else:
        _cover(sorted({_existing_directory(path) for path in [*files, *empty]}))
        _set_read_only()
        mount_sys()
    for directory in empty:
        os.makedirs(directory, exist_ok=True)
        syscalls.mount("tmpfs", directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, SIZE)
    write_files(files)


def _pivot_into_overlay(hostname: str) -> None:
    with open(HOSTS_FILE) as file:
        known_hosts = file.read()
    root = _mount_overlay()
    # The machine's own file systems below /dev, and what is private, do not show through an overlay of / alone.
    syscalls.mount("/dev", f"{root}/dev", flags=syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount("proc", f"{root}/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    for directory, mode in (("run", "755"), ("tmp", "1777")):
        data = f"size=64m,mode={mode}"
        syscalls.mount("tmpfs", f"{root}/{directory}", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, data)
    syscalls.pivot_root(root)
    mount_sys()
    for path, text in (("/etc/hosts", known_hosts), ("/etc/hostname", hostname + "\n"), ("/etc/resolv.conf", "")):
        if os.path.islink(path):
            os.unlink(path)
        with open(path, "w") as file:
            file.write(text)


def _existing_directory(path: str) -> str:
    directory = os.path.dirname(path)
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def _cover(directories: Sequence[str]) -> None:
    """Put a writable copy over directories; a directory inside one that is covered already comes with it."""
    syscalls.mount("tmpfs", LAYERS, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, SIZE)
    covered: list[str] = []
    for number, directory in enumerate(directories):
        if any(directory == done or directory.startswith(done + "/") for done in covered):
            continue
        size = sum(
            os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(directory) for name in names
        )
        if size > _COPY_LIMIT or directory == "/":
            raise RequestError(
                f"this kernel has no overlay file system, and {directory} is too large to copy; "
                "put the pod's files into another directory"
            )
        copy = f"{LAYERS}/{number}"
        shutil.copytree(directory, copy, symlinks=True)
        syscalls.mount(copy, directory, flags=syscalls.MS_BIND)
        covered.append(directory)
    for directory in ("/tmp", "/run", "/var/log", "/var/lib/nginx"):
        if os.path.isdir(directory):
            syscalls.mount("tmpfs", directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=64m,mode=1777")


def _set_read_only() -> None:
    """Remount the machine's root read-only for this mount namespace; what covers it stays writable."""
    syscalls.mount("/", "/", flags=syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)


def write_files(files: Mapping[str, File]) -> None:
    """Write files, each at once: whoever reads sees the old content or the new one, never a part."""
    for path, content in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        draft = f"{os.path.dirname(path)}/.{os.path.basename(path)}.new"
        if content.link:
            os.symlink(content.link, draft)
        else:
            with open(draft, "wb") as file:
                file.write(content.data)
            os.chmod(draft, content.mode)
        os.replace(draft, path)


def remove_files(paths: Sequence[str]) -> None:
    """Remove files; those that are gone already are no error."""
    for path in paths:
        if os.path.lexists(path):
            os.unlink(path)


def add_host(line: str) -> None:
    """Add a line to /etc/hosts, which under an overlay is the pod's own."""
    with open("/etc/hosts", "a") as file:
        file.write(line + "\n")
