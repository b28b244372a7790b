"""Importing a large package without a part of it that takes seconds and that nothing here uses."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """While inside, a module that has not been imported yet cannot be; its importers take it for not installed.

    Args:
        name: of the module; one that is there already is left alone.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # "not importable", see importlib's docs
    try:
        yield
    finally:
        del sys.modules[name]
