"""The book: its source and its printed pages as text, and a small one built and looked into."""

import contextlib
import re
import shutil
import subprocess
import zlib

import nbformat
import pytest

from srcip_nb.book_source import (
    Word,
    glossary_source,
    in_place,
    index_source,
    names,
    notebook_source,
    with_links,
    with_places,
    words_of,
)
from srcip_nb.print_pages import Chapter, contents, headings, only, printed, tidy_tables, words_linked

# sphinx-book-theme 1.4 uses what Sphinx 9 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API modifications")

V4 = nbformat.v4
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
GLOSSARY = """# Glossary

<a id="chain"></a>

## chain (チェーン)

A list of rules. See [SNAT](#snat).

<a id="snat"></a>

## SNAT

The source is rewritten.
"""
CHAIN, SNAT = words_of(GLOSSARY)
BODY = """<section id="t"><h1>01 A<a class="headerlink" href="#t">#</a></h1>
<section id="look"><h2>Look<a class="headerlink" href="#look">#</a></h2>
<p>See <a href="glossary.html#snat">SNAT</a>, <a href="02-b.html#x">there</a>, <a href="https://kubernetes.io/">k8s</a>.</p>
<h3>1. Ask</h3><details><summary>Solution</summary><p>It is 42.</p></details></section></section>"""


def test_words_of_the_glossary_with_both_spellings():
    assert Word("chain", "chain (チェーン)", ("chain", "チェーン")) == CHAIN
    assert Word("snat", "SNAT", ("SNAT",)) == SNAT
    assert glossary_source(GLOSSARY).startswith("# Glossary\n\n(chain)=\n\n## chain")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[SNAT](../../docs/glossary.en.md#snat)", "[SNAT](#snat)"),
        ("[01](01-a.ipynb), [09](09-z.ipynb)", "[01](01-a.ipynb), 09"),
        ("[k8s](https://kubernetes.io/) [here](#here)", "[k8s](https://kubernetes.io/) [here](#here)"),
        ("![alt](figure.png)", "![alt](figure.png)"),
    ],
)
def test_links_lead_within_the_book_or_are_text(text, expected):
    assert with_links(text, ["01-a.ipynb"]) == expected


@pytest.mark.parametrize(
    ("prose", "found"),
    [("a chain of", True), ("`Chain`", True), ("ルールのチェーンは", True), ("chains", False), ("unchained", False)],
)
def test_a_word_is_named_whole_or_not_at_all(prose, found):
    assert names(prose, CHAIN) is found


def test_a_word_has_its_place_where_it_is_linked_or_else_first_named():
    texts = [
        "# SNAT\n\nSNAT is named.\n\n```\nchain\n```\n\n<details>\n\na chain\n\n</details>",
        "- [SNAT](#snat), a chain",
    ]
    placed, found = with_places(texts, [CHAIN, SNAT])
    assert placed == [texts[0], '- <a id="index-chain"></a><a id="index-snat"></a>[SNAT](#snat), a chain']
    assert found == ["chain", "snat"]


def test_the_index_leads_to_each_place_and_to_the_glossary():
    assert index_source([SNAT], {"01-a": ["snat"], "02-b": []}, "en") == (
        '# Index\n\n<ul class="word-index">\n<li><span>SNAT</span> '
        '<a class="place" href="01-a.html#index-snat">01</a>, '
        '<a class="place defined" href="glossary.html#snat">Glossary</a></li>\n</ul>\n'
    )


def test_a_figure_keeps_its_alternative_text_and_caption_and_a_widget_leaves_its_twin():
    figure = V4.new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": 'a "bar"'}})
    caption = V4.new_output("display_data", {"text/markdown": "*Bars are `nodes`.*"})
    widget = V4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox()"})
    text = V4.new_output("display_data", {"text/markdown": "the twin"})
    (shown, twin) = in_place([figure, caption, widget, text])
    assert shown["data"]["text/html"] == (
        f'<figure><img alt="a &quot;bar&quot;" src="data:image/png;base64,{PNG}">'
        "<figcaption>Bars are <code>nodes</code>.</figcaption></figure>"
    )
    assert twin == text


def test_a_notebook_is_not_changed_by_being_read():
    book = V4.new_notebook(cells=[V4.new_markdown_cell("a chain, [x](x.ipynb)")], metadata={"widgets": {}})
    source, found = notebook_source(book, [], [CHAIN])
    assert source.cells[0].source == '<a id="index-chain"></a>a chain, x' and "widgets" not in source.metadata
    assert book.cells[0].source == "a chain, [x](x.ipynb)" and "widgets" in book.metadata
    assert found == ["chain"]


def test_a_printed_chapter_has_ids_of_its_own_and_its_solutions_at_the_end():
    text = printed(Chapter("01-a", "01 A", BODY), ["01-a", "glossary"], "en", unfold=True)
    assert 'id="01-a--look"' in text and "headerlink" not in text and "<details" not in text
    assert 'href="#glossary--snat"' in text and 'href="https://kubernetes.io/"' in text and ", there, " in text
    question, answer = text.index("Solution: page"), text.index("It is 42.")
    assert question < text.index("Solutions and explanations") < answer
    assert re.search(r'<p class="unfolds" id="01-a--unfolds-1">.*href="#01-a--folded-1"', text)
    assert '<h3 id="01-a--folded-1">1. Ask: Solution' in text
    folded = printed(Chapter("01-a", "01 A", BODY), ["01-a"], "en", unfold=False)
    assert "<details>" in folded and ">SNAT<" not in folded


def test_contents_list_chapters_sections_and_solutions():
    chapter = Chapter("01-a", "01 A", BODY)
    assert headings(chapter) == [("look", "Look")]
    assert contents([chapter, Chapter("glossary", "Glossary", BODY)], "en", shallow=["glossary"]) == (
        '<nav class="contents"><h1>Contents</h1><ol><li><a href="#01-a">01 A</a><ol>'
        '<li><a href="#01-a--look">Look</a></li><li><a href="#01-a--folded">Solutions and explanations</a></li></ol>'
        '</li><li><a href="#glossary">Glossary</a></li></ol></nav>'
    )


def test_a_notebook_by_itself_takes_the_words_it_links_to():
    sections = '<section id="a"><span id="snat"></span>s</section><section id="b">t</section>'
    pages = f'<section id="glossary"><h1>G</h1>{sections}</section>'
    assert words_linked(BODY, "glossary") == ["snat"]
    kept = only(Chapter("glossary", "G", pages), ["snat"]).body
    assert 'id="snat"' in kept and 'id="b"' not in kept


def test_tables_are_marked_and_an_index_has_its_name_beside_the_columns():
    from bs4 import BeautifulSoup

    head = "<tr><th></th><th>IP</th></tr><tr><th>NAME</th><th></th></tr>"
    row = "<tr><th>webserver</th><td>/healthz/of/a/very/long/address</td></tr>"
    soup = BeautifulSoup(f"<table><thead>{head}</thead><tbody>{row}</tbody></table>", "html.parser")
    tidy_tables(soup)
    assert [cell.get_text() for cell in soup.select("thead th")] == ["NAME", "IP"]
    assert soup.table["class"] == "short" and "healthz/<wbr/>of/<wbr/>a" in str(soup)


def tool(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is missing: apt-get install poppler-utils")


def read(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """A Japanese book of two small notebooks."""
    for module in ("sphinx", "myst_nb", "sphinx_book_theme"):
        pytest.importorskip(module, reason=f"{module} is missing: pip install 'srcip_nb[handout]'")
    from srcip_nb.book import write_book
    from srcip_nb.print_pages import BookError, laid_out

    try:
        laid_out("<title>t</title>")
    except BookError as error:
        pytest.skip(str(error))
    if "BIZ UDPGothic" not in read(tool("fc-list")):
        pytest.skip("the handout's font is missing: apt-get install fonts-morisawa-bizud-gothic")
    folder = tmp_path_factory.mktemp("book")
    figure = V4.new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": "棒グラフ"}})
    told = V4.new_output(
        "execute_result", {"text/html": "<table><tr><td>10.0.5.0</td></tr></table>"}, execution_count=1
    )
    paths = []
    for name, other in (("01-a", "02-b"), ("02-b", "01-a")):
        cells = [
            V4.new_markdown_cell(f"# {name} 送信元IP\n\n[次]({other}.ipynb)", id="0"),
            V4.new_markdown_cell("## 観察\n\n[SNAT](../../docs/glossary.ja.md#snat)されます。", id="1"),
            V4.new_code_cell("cluster.pods()", id="2", outputs=[told, figure], execution_count=1),
            V4.new_markdown_cell("<details><summary>解答</summary>\n\n答えは42\n\n</details>", id="3"),
        ]
        paths.append(folder / f"{name}.ipynb")
        nbformat.write(V4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), paths[-1])
    return folder, write_book(paths, folder / "out", "ja")


def test_a_small_book_is_written_whole(small_book):
    folder, written = small_book
    assert [str(path.relative_to(folder / "out")) for path in written] == [
        "book-ja/index.html", "book-ja.pdf", "ja/01-a.html", "ja/01-a.pdf", "ja/02-b.html", "ja/02-b.pdf",
    ]  # fmt: skip
    for page in [*(folder / "out" / "book-ja").glob("*.html"), written[2]]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//', text), page
        assert '<html lang="ja"' in text or page.name in ("genindex.html", "search.html")
    assert 'alt="棒グラフ"' in written[2].read_text(encoding="utf-8")
    assert "index-snat" in (folder / "out" / "book-ja" / "word-index.html").read_text(encoding="utf-8")


def test_the_pdf_is_a4_tagged_and_brings_its_fonts(small_book):
    _, written = small_book
    for pdf in (path for path in written if path.suffix == ".pdf"):
        facts = read(tool("pdfinfo"), str(pdf))
        assert re.search(r"Page size: .*\(A4\)", facts) and re.search(r"Tagged: +yes", facts)
        fonts = [line.split() for line in read(tool("pdffonts"), str(pdf)).splitlines()[2:]]
        assert fonts and all(font[-5] == "yes" for font in fonts), fonts
        assert any("BIZ-UDPGothic" in font[0] for font in fonts)


def test_the_pdf_has_contents_page_numbers_index_and_japanese_text(small_book):
    _, written = small_book
    text = read(tool("pdftotext"), "-layout", str(written[1]), "-")
    pages = text.split("\f")
    for title in ("01-a 送信元IP", "02-b 送信元IP", "用語集", "索引"):
        (listed,) = re.findall(rf"^\s*{title}[ .]+(\d+)$", pages[1], re.MULTILINE)
        assert title in pages[int(listed) - 1]
    assert re.search(r"解答: 3ページ", pages[2]) and "答えは42" in pages[2]
    assert re.search(r"SNAT\s+3, 4, \d+", pages[-2])


def test_alternative_texts_are_in_the_pdf(small_book):
    _, written = small_book
    raw = written[1].read_bytes()
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", raw, re.DOTALL):
        with contextlib.suppress(zlib.error):
            raw += zlib.decompress(stream)
    told = "棒グラフ".encode("utf-16-be")
    assert re.search(rb"/Alt ?(?:<feff" + told.hex().encode() + rb">|\(\xfe\xff" + re.escape(told) + rb"\))", raw)
