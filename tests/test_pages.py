"""What README, reference and the instructor's page name is there: commands, options, targets, links, pictures."""

import argparse
import re
import subprocess
from pathlib import Path

import pytest

from srcip_nb.cli import _parser
from srcip_nb.run import course

ROOT = Path(__file__).resolve().parent.parent
PAIRS = [
    ("README.md", "README.ja.md"),
    ("docs/reference.en.md", "docs/reference.ja.md"),
    ("docs/instructor.en.md", "docs/instructor.ja.md"),
]
PAGES = [page for pair in PAIRS for page in pair]


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def shell_lines(page: str) -> list[str]:
    """The lines of code blocks without a language: commands."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)
    return [line for language, block in blocks if not language for line in block.splitlines()]


def commands(page: str) -> list[str]:
    """What a reader may type: lines of code blocks and words in backticks, without their comments."""
    lines = shell_lines(page)
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text(page), flags=re.DOTALL))
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines]


def known_words() -> dict[str, argparse.ArgumentParser]:
    """Every command of srcip-nb, "lab up" too, and its parser."""
    found = {}

    def walk(one: argparse.ArgumentParser, name: str) -> None:
        found[name] = one
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, below in action.choices.items():
                    walk(below, f"{name} {word}".strip())

    walk(_parser(), "")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    known = known_words()
    asked = [line for line in commands(page) if "srcip-nb " in line]
    assert asked
    for line in asked:
        words = re.sub(r'[")].*', "", line.split("srcip-nb ", 1)[1]).split(" -- ")[0].split()
        if words[0] == "COMMAND":
            continue
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert name in known, line
        options = {option for action in known[name]._actions for option in action.option_strings}
        assert {word for word in words if word.startswith("-")} <= options, line


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page):
    rules = re.findall(r"^([a-z ]+):", text("Makefile"), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    named = {match[1] for line in commands(page) if (match := re.search(r"\bmake ([a-z]+)$", line))}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_read_somewhere(page):
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "srcip_nb").rglob("*.py"))
    for name in set(re.findall(r"SRCIP_[A-Z_]+", text(page))):
        assert f'"{name}"' in code, name


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page):
    for image, words, target in re.findall(r"(!?)\[([^\]]*)\]\(([^)]+)\)", text(page)):
        assert words.strip(), target
        if not target.startswith("https://"):
            assert ((ROOT / page).parent / target.partition("#")[0]).is_file(), target
        if image:
            assert len(words) > 40, f"an alternative text for {target}"


@pytest.mark.parametrize(("english", "japanese"), PAIRS)
def test_both_languages_have_the_same_commands_and_sections(english, japanese):
    def typed(page: str) -> list[str]:
        lines = [re.sub(r"\s+#.*", "", line) for line in shell_lines(page)]
        return [line.replace("SRCIP_LANG=ja ", "").replace("notebooks/ja/", "notebooks/en/") for line in lines]

    assert typed(english) == typed(japanese)
    levels = [re.findall(r"^#+ ", text(page), re.MULTILINE) for page in (english, japanese)]
    assert levels[0] == levels[1]
    rows = [sum(line.startswith("|") for line in text(page).splitlines()) for page in (english, japanese)]
    assert rows[0] == rows[1]


def test_every_notebook_is_on_the_first_page_of_its_language():
    for page, lang in (("README.md", "en"), ("README.ja.md", "ja")):
        for path in course(lang):
            assert f"(notebooks/{lang}/{path.name})" in text(page)


def test_pictures_in_docs_are_shown_somewhere():
    listed = subprocess.run(
        ["git", "ls-files", "docs/*.png"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    shown = "".join(text(page) for page in PAGES)
    assert [path for path in listed if path not in shown] == []
