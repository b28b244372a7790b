"""What every figure shares: its words, its fonts, and a node's colour.

Colours are Okabe and Ito's, safe for colour-blind readers, and never the only sign. A node's number decides its colour
and hatch, so worker01 is orange and worker02 blue in every figure of every notebook. Figures are made without pyplot,
so they may be drawn in a widget's callback, and nothing of matplotlib's settings is changed outside the drawing.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from srcip_nb.recordings import mark
from srcip_nb.text import t

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
FONT_SIZE = 11
# Okabe and Ito, "Color Universal Design" (2008), without black and without the yellow that white paper swallows.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
HATCHES = ("", "//", "..", "\\\\", "xx", "++", "oo")  # one more than colours: pairs repeat only after 42 nodes
INK = "#1A1A1A"


@dataclass(frozen=True)
class Picture:
    """A figure with its words; a notebook shows it with alternative text and a caption under it.

    Attributes:
        figure: matplotlib's Figure.
        alt: what the figure says, from its data, for who cannot see it.
        caption: how to read it.
        png: the image as it is shown.
    """

    figure: Figure
    alt: str
    caption: str
    png: bytes

    def __repr__(self) -> str:
        return f"<Picture: {self.alt}>"

    def _ipython_display_(self) -> None:
        show(self.png, self.alt, self.caption)


def show(png: bytes, alt: str, caption: str = "") -> None:
    """Display an image with its alternative text, and a caption under it."""
    from IPython.display import Image, Markdown, display

    display(Image(png, format="png", alt=alt))
    if caption:
        display(Markdown(f"*{caption}*"))


def picture(draw: Callable[[Figure], None], size: tuple[float, float], alt: str, caption: str) -> Picture:
    """Make a figure of this size in inches, have it drawn, and keep it as an image with its words."""
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        draw(figure)
        if recorded := mark():
            _write_mark(figure, recorded)
            alt, caption = f"{alt} {recorded}.", f"{caption} {recorded}."
        out = io.BytesIO()
        figure.savefig(out, format="png")
    return Picture(figure, alt, caption, out.getvalue())


def _write_mark(figure: Figure, words: str) -> None:
    """The mark of a recording in a strip of its own under the figure, so that a copy of the image bears it too."""
    strip = 2 * FONT_SIZE / 72 / figure.get_figheight()
    engine: Any = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, strip, 1, 1 - strip))
    figure.text(0.995, strip / 4, words, ha="right", va="bottom", fontsize=FONT_SIZE - 2, color=INK)


@contextmanager
def drawing() -> Iterator[None]:
    """Fonts with Japanese glyphs and sizes that can be read, while the block runs."""
    import matplotlib

    fonts = ["DejaVu Sans", *([japanese] if (japanese := _japanese_font()) else [])]
    with matplotlib.rc_context({"font.family": fonts, "font.size": FONT_SIZE, "axes.titlesize": FONT_SIZE + 1,
                                "figure.titlesize": FONT_SIZE + 1, "hatch.linewidth": 0.8}):  # fmt: skip
        yield


@functools.cache
def _japanese_font() -> str:
    """The family of the font that matplotlib-fontja brings. Importing that package would change every figure's font."""
    from matplotlib import font_manager

    package = importlib.util.find_spec("matplotlib_fontja")
    if package is None or package.origin is None:
        return ""
    file = Path(package.origin).parent / "fonts" / "ipaexg.ttf"
    font_manager.fontManager.addfont(str(file))
    return font_manager.FontProperties(fname=str(file)).get_name()


def node_style(node: str) -> dict[str, Any]:
    """Colour and hatch of a node, the same in every figure: decided by the number in its name, else by its hash."""
    number = re.search(r"(\d+)$", node)
    is_worker = number is not None and not re.match(r"(master|control)", node)
    at = (
        int(number[1]) - 1
        if number and is_worker
        else int.from_bytes(hashlib.sha256(node.encode()).digest()[:4], "big")
    )
    return {"facecolor": COLOURS[at % len(COLOURS)], "hatch": HATCHES[at % len(HATCHES)]}


def owner_words(kind: str, node: str = "") -> str:
    """Whose address it is, in words: ``worker01's own address``."""
    return t(f"kind.{kind}", node=node or t("some_node")) if kind else t("no_answer.where")


def text_of(value: Any) -> str:
    """A cell as text; nothing where there is none."""
    return "" if pd.isna(value) else str(value)
