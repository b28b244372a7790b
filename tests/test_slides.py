"""Slides: what is on them, how they are made to fit, and one deck built and looked into."""

import re
import shutil
import subprocess

import pytest

from srcip_nb.print_pages import Chapter
from srcip_nb.slides import (
    SMALLEST,
    Slide,
    deck_html,
    fitted,
    halves,
    pages_taken,
    slides,
    within_edge,
    write_deck,
)


def cell(code: str, output: str = "", tag: str = "") -> str:
    shown = f'<div class="cell_output">{output}</div>' if output else ""
    return f'<div class="cell {tag}"><div class="cell_input"><pre>{code}</pre></div>{shown}</div>'


BODY = f"""<section id="t"><h1>01 A<a class="headerlink" href="#t">#</a></h1>
<p>What it is.</p><ul><li>You can look.</li></ul><p>Time: 5 minutes</p>
<p>Change these.</p>{cell("context = 1", tag="tag_parameters")}
<p>Connect.</p>{cell('begin("01")', "lab")}
<section id="look"><h2>Look</h2><p>See <a href="x.html">this</a>.</p>
{cell("cluster.pods()", "<table><tr><td>a</td></tr></table>")}
{cell("x = 1")}
<p>Two figures.</p>{cell("draw()", "<p>twice</p><figure>1</figure><figure>2</figure>")}
<h3>1. Ask</h3><p>How many?</p>{cell("answer = ...", "open", "tag_exercise")}
<details><summary>Solution</summary><p>It is 42.</p></details></section>
<section id="sum"><h2>In short</h2><ul><li>So it is.</li></ul><p>Sum up.</p>{cell('done("01")', "all")}</section>
<section id="words"><h2>Words</h2><p>SNAT</p></section></section>"""
DECK = slides(Chapter("01-a", "01 A", BODY))


def test_a_notebook_becomes_these_slides():
    assert [(slide.heading, slide.is_title) for slide in DECK] == [
        ("01 A", True), ("Look", False), ("Look", False), ("Look", False), ("Look: 1. Ask", False), ("In short", False),
    ]  # fmt: skip
    title, pods, first, second, exercise, short = DECK
    assert title.text == "<p>What it is.</p><ul><li>You can look.</li></ul>"
    assert (
        pods.text == "<p>See this.</p>" and "cluster.pods()" in pods.code and '<td class="word">a</td>' in pods.output
    )
    assert first.text == "<p>Two figures.</p>" and not first.code
    assert "twice" in first.output and "<figure>1</figure>" in first.output and second.output == "<figure>2</figure>"
    assert "answer = ..." in exercise.code and not exercise.output
    assert short == Slide("In short", "<ul><li>So it is.</li></ul>")


def test_no_solution_no_set_up_and_nothing_after_the_last_cell():
    text = deck_html([(slide, 0) for slide in DECK], "01 A", "en")
    body = text[text.index("<body") :]
    assert not any(words in body for words in ("42", "Solution", "begin(", "context", "done(", "SNAT", "x = 1"))
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_a_table_whose_words_fill_the_page_is_set_smaller():
    def table(word: str) -> str:
        return f"<table><thead><tr>{'<th>n</th>' * 7}</tr></thead><tr>{f'<td>{word} a</td>' * 7}</tr></table>"

    body = f"<h1>T</h1><p>a</p>{cell('x', table('192.168.1.122'))}{cell('y', table('10.0.5.6'))}"
    assert ["wide" in slide.output for slide in slides(Chapter("t", "T", body))[-2:]] == [True, False]
    cells = "<table class='dataframe'><tr><td>{0}</td><td>{0}</td></tr></table>"
    full, japanese = (slides(Chapter("t", "T", f"<h1>T</h1><p>a</p>{cell('x', cells.format(text))}"))[-1].output
        for text in ("two words " * 6, "長い日本語の文" * 6))  # fmt: skip
    assert "wide" in full and "wide" not in japanese


def deck_of(body: str) -> list[Slide]:
    return slides(Chapter("t", "T", f"<h1>T</h1><p>a</p><p>You can</p><ul><li>b</li></ul><p>c</p>{body}"))


def test_the_objectives_keep_the_line_above_them():
    assert deck_of("<h2>A</h2>")[0].text == "<p>a</p><p>You can</p><ul><li>b</li></ul>"


def test_what_is_run_for_an_exercise_stands_with_it():
    silent, asked = cell("last = 2"), cell("answer = ...", "open", "tag_exercise")
    body = f"<h2>E</h2><h3>1. Two</h3><p>Both are set.</p>{silent}<p>How many?</p>{asked}"
    exercise = deck_of(body)[-1]
    assert all(said in exercise.text for said in ("Both are set.", "last = 2", "How many?"))
    assert "answer" in exercise.code and "last = 2" not in exercise.code
    other = deck_of(f"<h2>A</h2><p>End it.</p>{silent}<h2>E</h2><h3>1. Two</h3><p>How many?</p>{asked}")
    assert not any("End it." in slide.text or "last = 2" in slide.text for slide in other)


def test_a_deck_ends_before_what_tidies_up():
    body = f"<h2>In short</h2><table><tr><td>so</td></tr></table><p>Tidy up.</p>{cell('cluster.delete()', 'deleted')}"
    last = deck_of(f"{body}<p>Sum up.</p>{cell('done()', 'all')}")[-1]
    assert "so" in last.text and "Tidy" not in last.text and not last.code


def test_a_sections_last_words_stand_below_its_last_cell_if_nothing_shrinks_for_it():
    (told,) = deck_of(f"<h2>A</h2><p>Look.</p>{cell('x', 'seen')}<p>So it is.</p>")[1:]
    assert told.text == "<p>Look.</p>" and told.after == "<p>So it is.</p>"
    assert [slide for slide, _ in fitted([told], lambda sized: [True])] == [told]
    apart = fitted([told], lambda sized: [not slide.after for slide, _ in sized])
    assert [(slide.text, slide.after, size) for slide, size in apart] == [
        ("<p>Look.</p>", "", 0), ("<p>So it is.</p>", "", 0),
    ]  # fmt: skip


def test_a_question_needs_no_colon_after_it():
    headings = [slide.heading for slide in deck_of("<h2>Who?</h2><h3>A pod</h3><p>a</p><h2>E</h2><h3>1</h3><p>b</p>")]
    assert headings[1:] == ["Who? A pod", "E: 1"]


def test_a_japanese_word_and_a_sentences_end_are_not_broken():
    (slide,) = deck_of("<h2>A</h2><p>1つのマニフェストを適用します。<code>ノード</code></p>")[1:]
    words = re.findall('<span class="word">(.*?)</span>', slide.text)
    assert words == ["1つ", "マニフェスト", "適用します。"] and "<code>ノード</code>" in slide.text
    (slide,) = deck_of("<h2>A</h2><p>10.0.5.2が応答</p>")[1:]
    assert '<span class="word">応答</span>' in slide.text


def test_a_long_listing_of_short_lines_has_two_columns_before_it_is_small():
    def columns(line: str) -> list[bool]:
        slide = Slide("a", "text", "code", f"<pre>{line * 20}</pre>")
        return [slide.columns for slide, _ in fitted([slide], lambda sized: [s.columns or n == 2 for s, n in sized])]

    assert columns("short: 1\n") == [True] and columns(f"{'long ' * 20}\n") == [False]
    slide = Slide("a", "text", "code", "<pre>" + "short: 1\n" * 20)
    assert fitted([slide], lambda sized: [size == 1 for _, size in sized]) == [(slide, 1)]


def test_parts_of_a_long_table_are_as_large_as_they_can_be():
    rows = "".join(f"<tr><td>{number}</td></tr>" for number in range(8))
    whole = Slide("t", output=f"<table><tbody>{rows}</tbody></table>")
    parts = fitted([whole], lambda sized: [slide.output.count("<tr>") < 5 for slide, _ in sized])
    assert [size for _, size in parts] == [0, 0]


def test_a_table_that_runs_over_the_edge_does_not_fit():
    from srcip_nb.print_pages import BookError, laid_out

    def page(count: int):
        table = f"<table><tr>{f'<td>{chr(65) * 20}</td>' * count}</tr></table>"
        return laid_out(deck_html([(Slide("t", output=table), 0)], "t", "en")).pages[0]

    try:
        assert within_edge(page(2)) and not within_edge(page(9))
    except BookError as error:
        pytest.skip(str(error))


def test_type_shrinks_until_a_slide_fits():
    asked = []

    def fits(sized):
        asked.append(len(sized))
        return [size >= 2 or slide.heading == "short" for slide, size in sized]

    assert fitted([Slide("short"), Slide("long", "text")], fits) == [(Slide("short"), 0), (Slide("long", "text"), 2)]
    assert asked == [2, 1, 1]


def test_a_long_slide_becomes_two_and_an_endless_one_goes_on():
    whole = Slide("long", "text", "code", "output")
    apart = [(Slide("long", "text", "code"), 0), (Slide("long", output="output"), 0)]
    assert fitted([whole], lambda sized: [not (s.code and s.output) for s, _ in sized]) == apart
    assert fitted([Slide("endless", output="x")], lambda sized: [False] * len(sized)) == [
        (Slide("endless", output="x"), SMALLEST)
    ]


def test_a_long_table_is_parted_with_its_head_on_both():
    rows = "".join(f"<tr><td>{number}</td></tr>" for number in range(7))
    table = (
        f'<div class="output">log</div><div class="output"><table><thead>H</thead><tbody>{rows}</tbody></table></div>'
    )
    first, second = halves(Slide("t", output=table))
    assert "log" in first.output and "<td>3</td>" in first.output and "<td>4</td>" not in first.output
    assert "log" not in second.output and "H" in second.output and "<td>4</td></tr><tr>" in second.output
    assert "<td>3</td>" not in second.output
    assert halves(Slide("t", output="<pre>long</pre>")) == [Slide("t", output="<pre>long</pre>")]


LISTING = """<div class="cell_output"><pre>pid  1;

http {
    <b>log</b>  'a &lt; b';

    server {
        listen  80;
    }
}

stream {
    listen  8080;
}
</pre></div>"""


def test_a_long_listing_is_parted_at_an_empty_line_where_nothing_is_open():
    first, second = halves(Slide("t", "text", output=LISTING))
    assert first.text and "<b>log</b>  'a &lt; b';" in first.output and first.output.endswith("}</pre></div>")
    assert (second.text, second.output) == (
        "",
        '<div class="cell_output"><pre>stream {\n    listen  8080;\n}</pre></div>',
    )
    for one in ("<pre>a\n\nb</pre>", "<pre>a\nb\nc\nd\ne\nf\ng</pre>", LISTING * 2):
        assert halves(Slide("t", output=one)) == [Slide("t", output=one)]


def test_pages_are_counted_from_where_a_slide_begins():
    class Page:
        def __init__(self, *names):
            self.anchors = dict.fromkeys(names)

    class Pages:
        pages = (Page("slide-1"), Page("slide-2", "02-a"), Page("slide-2"), Page("slide-3"))

    assert pages_taken(Pages, 3) == [1, 2, 1]


def test_a_deck_is_16_to_9_and_every_slide_one_page(tmp_path):
    from srcip_nb.print_pages import BookError, laid_out

    pdfinfo = shutil.which("pdfinfo") or pytest.skip("pdfinfo is missing: apt-get install poppler-utils")
    try:
        laid_out("<title>t</title>")
    except BookError as error:
        pytest.skip(str(error))
    long = "".join(f"<tr><td>{number}</td></tr>" for number in range(12))
    body = BODY.replace("<tr><td>a</td></tr>", long)
    _, paper = write_deck(Chapter("01-a", "01 A", body), tmp_path, "en")
    facts = subprocess.run([pdfinfo, paper], check=True, capture_output=True, text=True, timeout=60).stdout
    assert re.search(r"Page size: +960 x 540 pts", facts)
    assert int(re.search(r"Pages: +(\d+)", facts)[1]) in (6, 7)  # the long table may have one of its own
