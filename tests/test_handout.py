"""The handout: several notebooks in one page, whole without a network."""

import re

import nbformat
import pytest

from srcip_nb.handout import handout, joined

FOLDED = (
    "<details><summary>Solution</summary>\n\nIt is **so**:\n\n```python\nanswer = 42\n```\n\n</details>\n\nAfter it."
)


@pytest.fixture
def books(tmp_path):
    (tmp_path / "ja").mkdir()
    paths = []
    for name, other in (("01-a", "02-b"), ("02-b", "01-a")):
        v4 = nbformat.v4
        shown = v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"alt": "a bar"}})
        cells = [
            v4.new_markdown_cell(f"# {name}\n\n[other]({other}.ipynb), [page](https://kubernetes.io/)", id="0"),
            v4.new_code_cell("1", id="1", outputs=[shown]),
            v4.new_markdown_cell(FOLDED, id="2"),
        ]
        paths.append(tmp_path / "ja" / f"{name}.ipynb")
        nbformat.write(v4.new_notebook(cells=cells), paths[-1])
    return paths


def test_joined_cells_have_ids_of_their_own(books):
    whole = joined(books, "both")
    ids = [cell.id for cell in whole.cells]
    assert len(ids) == len(set(ids)) == 6
    nbformat.validate(whole)


def test_links_between_the_notebooks_lead_within_the_page(books):
    first, *_ = joined(books, "both").cells
    assert "[other](#02-b)" in first.source and "(https://kubernetes.io/)" in first.source
    (alone, *_) = joined(books[:1], "one").cells
    assert "[other](02-b.ipynb)" in alone.source


def test_the_page_is_whole_without_a_network(books, tmp_path):
    (page,) = handout([*books, *books, tmp_path / "ja" / "03-never-run.ipynb"], tmp_path)
    text = page.read_text(encoding="utf-8")
    assert page.name == "handout-ja.html"
    assert '<html lang="ja"' in text and "<title>Podから見える送信元IPアドレス</title>" in text
    assert "<script" not in text
    assert text.count('alt="a bar"') == 2
    assert text.count('<a id="02-b">') == 1 and 'href="#02-b"' in text
    for folded in re.findall(r"<details>.*?</details>", text, re.DOTALL):
        assert "<strong>so</strong>" in folded and "42" in folded and "After it" not in folded
    assert text.count("<details>") == 2
