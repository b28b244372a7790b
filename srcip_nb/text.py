"""The words of figures, tables' captions, checks and widgets, in English and in Japanese.

The notebooks of both languages have the same code cells, so what code says is chosen here: by ``SRCIP_LANG``, else by
the folder the notebook runs in (``notebooks/ja`` or ``notebooks/en``), else English. Names of Kubernetes (``Cluster``,
``node``, field names) are the same in both: the learner meets them untranslated in kubectl too.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path

from srcip_nb.errors import UsageError

LANGUAGES = ("en", "ja")


@cache
def words(lang: str) -> dict[str, str]:
    """Every text of a language by its key: ``words/en.yaml`` or ``words/ja.yaml``."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C takes 3 ms, the other 50
    return dict(yaml.load(files("srcip_nb").joinpath(f"words/{lang}.yaml").read_text(encoding="utf-8"), loader))


def language() -> str:
    """``en`` or ``ja``: what ``SRCIP_LANG`` says, else the notebook's folder, else ``en``.

    Raises:
        UsageError: ``SRCIP_LANG`` names another language.
    """
    chosen = os.environ.get("SRCIP_LANG")
    if chosen:
        if chosen not in LANGUAGES:
            raise UsageError(f"SRCIP_LANG is {chosen!r}", f"Set it to one of: {', '.join(LANGUAGES)}.")
        return chosen
    folder = Path.cwd().name
    return folder if folder in LANGUAGES else "en"


def t(key: str, lang: str | None = None, **values: object) -> str:
    """The words for ``key``, with ``values`` filled in.

    Args:
        key: an entry of ``words/en.yaml`` and ``words/ja.yaml``.
        lang: ``en`` or ``ja``; ``language()`` if left out.
        values: what stands in braces in the text.

    Raises:
        KeyError: no such text, or a value is missing: a mistake in this package, which the tests find.
    """
    return words(lang or language())[key].format(**values)
