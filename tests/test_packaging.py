"""pyproject.toml and environment.yml name the same libraries, and each says what it is for."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"kubernetes": "python-kubernetes", "matplotlib": "matplotlib-base"}


def project() -> dict:
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def split(requirement: str) -> tuple[str, str]:
    name, bounds = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement).groups()
    return CONDA_NAMES.get(name.lower(), name.lower()), bounds


def test_the_conda_environment_asks_for_what_the_package_asks_for():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    wanted = dict(split(r) for r in [e for e in listed if isinstance(e, str)] + [p for p in by_pip if p != "-e ."])
    for name in ("python", "pip"):
        wanted.pop(name)
    assert wanted == dict(split(r) for r in project()["dependencies"])


def requirements(name: str) -> list[str]:
    """Every requirement as it is written there, but for the package's own name."""
    if name == "pyproject.toml":
        extras = project()["optional-dependencies"].values()
        written = [f'"{r}"' for r in [*project()["dependencies"], *(r for extra in extras for r in extra)]]
    else:
        listed = yaml.safe_load((ROOT / name).read_text())["dependencies"]
        by_pip = [r for entry in listed if isinstance(entry, dict) for r in entry["pip"]]
        written = [f"- {r}" for r in [*(entry for entry in listed if isinstance(entry, str)), *by_pip]]
    return [r for r in written if "srcip_nb" not in r]


@pytest.mark.parametrize("name", ["pyproject.toml", "environment.yml"])
def test_every_dependency_says_what_uses_it(name):
    lines = (ROOT / name).read_text().splitlines()
    for requirement in requirements(name):
        found = [at for at, line in enumerate(lines) if re.match(rf"\s*{re.escape(requirement)}(,|\s|$)", line)]
        assert found, requirement
        for at in found:
            assert "#" in lines[at] or lines[at - 1].strip().startswith("#"), requirement


def test_the_readme_names_commands_that_exist():
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)", readme)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", readme):
        assert (ROOT / path).exists(), path
