"""Kernel settings by name, in the calling thread's network namespace, as sysctl(8) -w writes them."""

from __future__ import annotations

import os

from .protocol import RequestError


def path_of(key: str) -> str:
    """Find the file of a key.

    With dots, a dot inside a device's name is written as a slash, as sysctl(8) has it:
    ``net.ipv4.conf.flannel/1.rp_filter``; a key whose first separator is a slash is taken as a path.
    """
    first = next((character for character in key if character in "./"), ".")
    parts = key if first == "/" else key.translate(str.maketrans("./", "/."))
    path = os.path.normpath(f"/proc/sys/{parts}")
    if not path.startswith("/proc/sys/net/"):
        raise RequestError(f"sysctl {key}: only keys of net.* belong to a host")
    return path


def write(key: str, value: str, where_known: bool = False) -> None:
    """Set a key; with where_known, one that this kernel does not have is passed over."""
    path = path_of(key)
    try:
        with open(path, "w") as file:
            file.write(value)
    except FileNotFoundError:
        if not where_known:
            raise RequestError(f"sysctl {key}: this kernel has no such key") from None
