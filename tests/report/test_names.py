"""Class names with what Matplotlib, Markdown, LaTeX and HTML take for markup come out as they are."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import warnings
from html import unescape

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from delta.analysis.map_files import METHODS, ActivationMaps
from delta.report import fonts
from delta.report.confusion_figure import confusion
from delta.report.fonts import drawable, font_families, undrawable_letters
from delta.report.map_figures import class_figure, figure1
from delta.report.table import Block, Cell, Column, Row, Table
from tests.report.test_confusion import drawn

NAMES = [
    *("$0_$10", "$10_$20", "$x", r"\frac$\$", "100 %", "a_b", "_cat_", "*dog*", "a|b", "<b>", "&lt;", 'say "hi"'),
    *("~~x~~", "[a](b)", "`c`", "#1", "it's", "{x}", "a^b"),
]


def texts(figure: Figure) -> list[str]:
    """The texts of a figure, in an SVG that has them as text."""
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(file := io.StringIO(), format="svg")
    found = re.findall(r"<text[^>]*>(.*?)</text>", file.getvalue(), re.S)
    return [
        re.sub(r"<.*?>", "", text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for text in found
    ]


def maps(names: list[str]) -> ActivationMaps:
    shape = (len(names), 1, 8, 8)
    images = pd.DataFrame({"label": names, "path": [f"{number}.jpg" for number in range(len(names))]})
    filters = pd.DataFrame(columns=["filter", "source_mean", "tuned_mean", "considered", "filters", "layer"])
    ramp = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), shape)
    pixels = np.full((len(names), 8, 8, 3), 128, np.uint8)
    return ActivationMaps(images, pixels, filters, dict.fromkeys(METHODS, ramp))


def test_figures_have_the_names_as_they_are():
    predictions = drawn(len(NAMES), methods=1)
    predictions.classes[:] = NAMES
    shown = maps(NAMES)
    assert set(NAMES) <= set(texts(confusion(predictions)))
    assert set(NAMES) <= set(texts(figure1(shown, "d", "b")))
    for image, name in enumerate(NAMES):
        assert name in texts(class_figure(shown, image, "d", "b"))


def table(names: list[str]) -> Table:
    rows = [Row([Cell(name), Cell("1.0", 1.0)]) for name in names]
    return Table("A table", "How to read it.", [Block([Column("Class"), Column("Top-1", "number")], rows)])


def cells(html: str) -> list[str]:
    found = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html, re.S)[2::2]
    return [unescape(cell).strip() for cell in found]


def test_markdown_has_the_names_as_they_are():
    """A renderer of GitHub's Markdown makes them of the text again."""
    html = MarkdownIt("gfm-like", {"linkify": False}).render(table(NAMES).markdown())
    assert cells(html) == NAMES
    assert not re.search(r"(?<!\\)\$", table(NAMES).markdown())  # which GitHub would take for a formula


def test_plain_names_are_plain_in_markdown():
    names = ["drawn_30", "L2-SP(ATT)", "DELTA(w/o ATT)", "black-and-tan_coonhound", "a & b", "001.ak47/001_0001.jpg"]
    assert [line.split(" | ")[0] for line in table(names).markdown().splitlines()[6:]] == [
        f"| {name}" for name in names
    ]


def test_html_has_the_names_as_they_are():
    environment = Environment(loader=PackageLoader("delta.report", ""), autoescape=True, trim_blocks=True)
    template = '{% from "table.html.j2" import show_table %}{{ show_table(table) }}'
    html = environment.from_string(template).render(table=table(NAMES))
    assert [cell for cell in cells(html.replace("_<wbr>", "_")) if "1.0" not in cell] == NAMES
    assert html.count("_") == html.count("_<wbr>") > 0  # where a long name may break


@pytest.fixture
def font(tmp_path):
    """An installed font that has nothing but the letter 猫, as a square."""
    builder, pen = FontBuilder(1000, isTTF=True), TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(point)
    pen.closePath()
    square = pen.glyph()
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({".notdef": square, "cat": square})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "cat"), (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Only Cats", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cats.ttf")
    installed = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "cats.ttf")
    forget()
    yield "Only Cats"
    fontManager.ttflist = installed
    forget()


def forget() -> None:
    for cached in (fonts._families, fonts._family_with, fonts._letters):
        cached.cache_clear()


@pytest.fixture
def no_fonts(monkeypatch):
    """As on a machine without fonts but Matplotlib's own."""
    own = [font for font in fontManager.ttflist if matplotlib.get_data_path() in font.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    forget()
    yield
    forget()


def test_letters_that_dejavu_lacks_are_drawn_with_an_installed_font(no_fonts, font):
    assert font_families(["cat"]) == ["DejaVu Sans"]
    assert font_families(["cat", "猫"]) == ["DejaVu Sans", font]
    assert drawable("a 猫") == "a 猫"
    predictions = drawn(3, methods=1)
    predictions.classes[:] = ["cat", "猫", "Müll"]
    assert {"cat", "猫", "Müll"} <= set(texts(confusion(predictions)))  # a missing letter would be a warning
    assert "猫" in texts(figure1(maps(["猫"]), "d", "b"))


def test_letters_that_no_font_has_are_told_apart_by_their_codes(no_fonts):
    names = ["猫", "犬 (dog)", "cat"]
    assert undrawable_letters(names) == "犬猫"
    predictions = drawn(3, methods=1)
    predictions.classes[:] = names
    assert {r"\u732b", r"\u72ac (dog)", "cat"} <= set(texts(confusion(predictions)))
    assert r"\u732b" in texts(figure1(maps(["猫"]), "d", "b"))


def test_looking_for_fonts_takes_no_time_without_need():
    """Fonts are read only for letters that DejaVu Sans lacks."""
    code = "from delta.report import fonts; fonts.font_families(['cat']); print(fonts._letters.cache_info().currsize)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
