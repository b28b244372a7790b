"""Both languages say the same things, and every key that code asks for exists."""

import re
import string
from pathlib import Path

import pytest

from srcip_nb.errors import UsageError
from srcip_nb.text import language, t, words

EN, JA = words("en"), words("ja")
PACKAGE = Path(__file__).parent.parent / "srcip_nb"


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_no_key_stands_twice(lang):
    keys = re.findall(r"^([\w.-]+): ", (PACKAGE / f"words/{lang}.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(keys) == len(set(keys)) == len(words(lang))


def test_both_languages_have_the_same_keys():
    assert set(EN) == set(JA)


@pytest.mark.parametrize("key", EN)
def test_no_language_drops_a_value(key):
    assert fields(EN[key]) == fields(JA[key])


@pytest.mark.parametrize("key", JA)
def test_japanese_is_japanese(key):
    untranslated = JA[key] == EN[key] and re.search(r"[a-z]{3}", re.sub(r"\{\w+\}", "", EN[key]))
    assert not untranslated


def test_every_key_in_the_code_exists():
    asked = set()
    for module in PACKAGE.glob("*.py"):
        source = module.read_text(encoding="utf-8")
        asked |= set(re.findall(r"""\bt\(\s*["']([a-z_0-9.]+)["']""", source))
    assert asked and asked <= set(EN)


def test_language_is_the_notebooks_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("SRCIP_LANG", raising=False)
    for folder, expected in (("ja", "ja"), ("en", "en"), ("elsewhere", "en")):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        assert language() == expected


def test_srcip_lang_goes_before_the_folder(tmp_path, monkeypatch):
    (tmp_path / "ja").mkdir()
    monkeypatch.chdir(tmp_path / "ja")
    monkeypatch.setenv("SRCIP_LANG", "en")
    assert t("col.node") == "node"
    monkeypatch.setenv("SRCIP_LANG", "fr")
    with pytest.raises(UsageError, match="SRCIP_LANG"):
        t("col.node")


def test_a_missing_value_is_an_error():
    with pytest.raises(KeyError):
        t("kind.node", "en")
