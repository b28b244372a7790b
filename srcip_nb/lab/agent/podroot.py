"""A pod's file system: the machine's own root, read only underneath, with the pod's files on top.

An overlay does it: the machine's ``/`` is the lower layer, a tmpfs that only this pod's mount namespace has is the
upper one. Whatever the pod writes ends with it, and the machine's files stay as they are. Where no overlay of ``/`` can
be (``features.overlay`` is false: a kernel without, or an ordinary user, for whom the owner of ``/`` is unknown), the
root is a tmpfs: the system's directories are mounted in it, a directory that gets files is one of links to the
machine's, and the others are there but empty.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from . import syscalls
from .protocol import RequestError
from .spaces import HOSTS_FILE, STATE, mount_sys

LAYERS = f"{STATE}/layers"
SIZE = "size=64m,mode=755"
MACHINE = "/.machine"
_COPIED = 16 << 10  # bytes of a file, at most
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "opt", "etc", "nix", "gnu")

# What statvfs(3) calls a mount's flags, and what mount(2) does.
_KEPT_FLAGS = {
    2: syscalls.MS_NOSUID,
    4: syscalls.MS_NODEV,
    8: syscalls.MS_NOEXEC,
    1024: 1024,
    2048: 2048,
    4096: 1 << 21,
}


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
        _pivot_into_tree(hostname, sorted({os.path.dirname(path) for path in [*files, *empty]} - {"/"}))
    for directory in empty:
        os.makedirs(directory, exist_ok=True)
        syscalls.mount("tmpfs", directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, SIZE)
    write_files(files)


def _pivot_into_overlay(hostname: str) -> None:
    with open(HOSTS_FILE) as file:
        known_hosts = file.read()
    root = _mount_overlay()
    _mount_own(root)
    syscalls.pivot_root(root)
    _name_pod(hostname, known_hosts)


def _mount_own(root: str) -> None:
    """What every pod has of its own, and what neither an overlay of / nor its directories show."""
    syscalls.mount("/dev", f"{root}/dev", flags=syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount("proc", f"{root}/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    for directory, mode in (("run", "755"), ("tmp", "1777")):
        data = f"size=64m,mode={mode}"
        syscalls.mount("tmpfs", f"{root}/{directory}", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, data)
    # Before the machine's goes out of sight: only who sees a /sys may mount one in a user namespace.
    mount_sys(f"{root}/sys")


def _name_pod(hostname: str, known_hosts: str) -> None:
    for path, text in (("/etc/hosts", known_hosts), ("/etc/hostname", hostname + "\n"), ("/etc/resolv.conf", "")):
        if os.path.islink(path):
            os.unlink(path)
        with open(path, "w") as file:
            file.write(text)


def _pivot_into_tree(hostname: str, directories: Sequence[str]) -> None:
    """A root on a tmpfs: the machine's system directories mounted there, and links into them where files will be.

    Args:
        hostname: the pod's name.
        directories: those that have to be writable.
    """
    with open(HOSTS_FILE) as file:
        known_hosts = file.read()
    root = f"{LAYERS}/root"
    os.makedirs(root, exist_ok=True)
    syscalls.mount("tmpfs", root, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, SIZE)
    for entry in os.scandir("/"):
        copy = f"{root}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), copy)
        elif entry.is_dir():
            os.mkdir(copy)
            if entry.name in _SYSTEM:
                # With all that is mounted below: an ordinary user may not uncover what a mount hides.
                for place in (copy, f"{root}{MACHINE}/{entry.name}"):
                    os.makedirs(place, exist_ok=True)
                    syscalls.mount(entry.path, place, flags=syscalls.MS_BIND | syscalls.MS_REC)
                    _set_read_only(place)
    _make_empty_directories("/var", f"{root}/var")
    _mount_own(root)
    syscalls.pivot_root(root)
    for directory in ("/etc", *directories):
        _make_writable(directory)
    _name_pod(hostname, known_hosts)


def _set_read_only(place: str) -> None:
    """Make a mount read-only; the flags it has stay, for an ordinary user may not take them away."""
    has = os.statvfs(place).f_flag
    kept = sum(flag for bit, flag in _KEPT_FLAGS.items() if has & bit)
    syscalls.mount(place, place, flags=kept | syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)


def _make_empty_directories(source: str, copy: str) -> None:
    """The directories of a tree, two levels deep, with nothing in them."""
    for first in (entry for entry in os.scandir(source) if entry.is_dir(follow_symlinks=False)):
        os.makedirs(f"{copy}/{first.name}", exist_ok=True)
        with contextlib.suppress(PermissionError):  # a directory for others' eyes: its own will do
            for second in os.scandir(first.path):
                if second.is_dir(follow_symlinks=False):
                    os.makedirs(f"{copy}/{first.name}/{second.name}", exist_ok=True)


def _make_writable(directory: str) -> None:
    """Put a tmpfs over the machine's directory, or what there is of it, with links to all that is underneath."""
    path = ""
    for name in directory.strip("/").split("/"):
        is_ours, path = _is_ours(path or "/"), f"{path}/{name}"
        if is_ours and os.path.islink(path) and os.path.isdir(path):
            os.unlink(path)
            os.mkdir(path)
            _link_all(path)
        elif not os.path.isdir(path):
            if not is_ours:
                _put_tmpfs_over(os.path.dirname(path))
            os.mkdir(path)
    if not _is_ours(directory):
        _put_tmpfs_over(directory)


def _is_ours(directory: str) -> bool:
    """Whether a directory lies on a file system of the pod's own, and not on the machine's."""
    if not os.path.isdir(f"{MACHINE}{directory}"):
        return True
    return not os.path.samefile(directory, f"{MACHINE}{directory}")


def _put_tmpfs_over(directory: str) -> None:
    syscalls.mount("tmpfs", directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, SIZE)
    _link_all(directory)


def _link_all(directory: str) -> None:
    for entry in os.scandir(f"{MACHINE}{directory}"):
        copy = f"{directory}/{entry.name}"
        is_small_file = entry.is_file(follow_symlinks=False) and entry.stat().st_size <= _COPIED
        if is_small_file and os.access(entry.path, os.R_OK):
            shutil.copy(entry.path, copy)  # so that it can be written to
        else:
            os.symlink(entry.path, copy)


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
    """Add a line to the pod's /etc/hosts."""
    with open("/etc/hosts", "a") as file:
        file.write(line + "\n")
