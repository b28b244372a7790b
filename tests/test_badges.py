"""Badges of the README open what is there: a badge whose notebook has moved opens an error page."""

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDS = {"mybinder.org": "binder/Dockerfile", "codespaces.new": ".devcontainer/devcontainer.json"}


def paths_of(text: str) -> list[str]:
    """The files of this repository that a text's badges and their links lead to."""
    found = []
    for url in re.findall(r"https://(?:mybinder\.org/v2|codespaces\.new|github\.com/codespaces/new)[^\s)\"]*", text):
        parts = urlsplit(url)
        host = "codespaces.new" if "codespaces" in url else parts.netloc
        found.append(NEEDS[host])
        query = parse_qs(parts.query)
        found += [unquote(one).removeprefix("lab/tree/") for one in query.get("urlpath", []) + query.get("labpath", [])]
    return found


def test_a_badge_is_read():
    badge = (
        "[![b](https://mybinder.org/badge_logo.svg)](https://mybinder.org/v2/gh/O/R/HEAD?urlpath=lab/tree/a/b.ipynb)"
    )
    assert paths_of(badge) == ["binder/Dockerfile", "a/b.ipynb"]
    assert paths_of("[x](https://codespaces.new/O/R)") == [".devcontainer/devcontainer.json"]


@pytest.mark.parametrize("path", sorted(set(paths_of((ROOT / "README.md").read_text())) | set(NEEDS.values())))
def test_it_leads_to_a_file_that_exists(path):
    assert (ROOT / path).is_file()
