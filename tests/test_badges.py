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


def test_the_addresses_written_out_name_what_is_there():
    for lang in ("en", "ja"):
        found = paths_of((ROOT / f"docs/docker.{lang}.md").read_text())
        assert set(NEEDS.values()) | {f"notebooks/{lang}/00-start-here.ipynb"} == set(found)


@pytest.mark.parametrize("readme", ["README.md", "README.ja.md"])
def test_a_badge_leads_to_a_file_and_a_section_that_exist(readme):
    text = (ROOT / readme).read_text()
    badges = re.findall(r"\[!\[([^\]]+)\]\((https://[^)]+\.svg)\)\]\(([^)]+)\)", text)
    assert [urlsplit(image).netloc for _, image, _ in badges] == ["mybinder.org", "github.com"]
    for words, _, target in badges:
        assert words
        for path in paths_of(target):
            assert (ROOT / path).is_file(), path
        if not target.startswith("https://"):
            page, _, section = target.partition("#")
            sections = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
            assert section in [title.lower() for title in sections], target


@pytest.mark.parametrize("path", NEEDS.values())
def test_what_builds_them_exists(path):
    assert (ROOT / path).is_file()
