"""Source addresses that pods logged and that nobody in the address book owns, kept until somebody asks for them.

An address that is nobody's is a finding: a NAT on the way, a node that was not listed, a forged header. It may be seen
in any cell of a notebook, so every table of requests leaves it here, and the last cell hands it on to the report.
"""

from __future__ import annotations

from collections.abc import Iterable

_seen: set[str] = set()


def note(addresses: Iterable[str]) -> None:
    """Keep addresses of kind "unknown"."""
    _seen.update(addresses)


def noted() -> list[str]:
    """What was kept since ``forget``, sorted."""
    return sorted(_seen)


def forget() -> None:
    """Begin anew."""
    _seen.clear()
