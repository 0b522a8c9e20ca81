"""Tables as Markdown, LaTeX, CSV and HTML, for a synthetic table that uses every feature."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined

from delta.report.table import Block, Cell, Column, Row, Table, escape_latex, number_cell

NAN = float("nan")
COLUMNS = [Column("Data set"), Column("Top-1 (%)", "number", marked=True), Column("Time", "bar")]
TABLE = Table(
    title="A table",
    legend="How to read it.",
    blocks=[
        Block(
            COLUMNS,
            [
                Row(
                    [
                        Cell("my_birds", qualifier="net_50"),
                        Cell("80.0 ± 1.0", 80.0, best=True, paper="79.5", below=Cell("−3.0", -3.0, mark="below")),
                        Cell(value=12.34),
                    ],
                    paper_source="net_101",
                ),
                Row([Cell("ants"), Cell(), Cell(value=100)], starts_group=False),
            ],
            title="A & B",
        ),
        Block(COLUMNS[:2], [Row([Cell("b|ees"), Cell("+1.0", 1.0, mark="above")])]),
    ],
    frame=pd.DataFrame({"dataset": ["my_birds", "ants"], "mean": [80.04567, NAN]}),
    digits=2,
    below_heading="minus L2",
)


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "# A table",
        "",
        "How to read it.",
        "",
        "## A & B",
        "",
        "| Data set | Top-1 (%) |",
        "| --- | ---: |",
        "| my_birds (net_50) | 80.0 ± 1.0 (79.5)<br>−3.0 * |",
        "| ants |  |",
        "",
        "| Data set | Top-1 (%) |",
        "| --- | ---: |",
        r"| b\|ees | +1.0 * |",
    ]


def test_latex():
    assert TABLE.latex().splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"\multicolumn{2}{l}{A \& B} \\",
        r"Data set & Top-1 (\%) \\",
        r"\midrule",
        r"my\_birds (net\_50) & $80.0 \pm 1.0$ \\",
        r"\quad paper (net\_101) & $79.5$ \\",
        r"\quad minus L2 & $-3.0^{*}$ \\",
        r"ants &  \\",
        r"\midrule",
        r"Data set & Top-1 (\%) \\",
        r"\midrule",
        r"b\textbar{}ees & $+1.0^{*}$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_csv():
    assert TABLE.csv() == "dataset,mean\nmy_birds,80.05\nants,\n"


def test_html():
    environment = Environment(
        loader=PackageLoader("delta.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.from_string('{% from "table.html.j2" import show_table %}{{ show_table(table) }}')
    text = html.render(table=TABLE)
    assert "<h3>A &amp; B</h3>" in text
    first, missing, marked = re.findall(r'<td class="number.*?</td>', text, re.DOTALL)
    assert first.startswith('<td class="number best" data-value="80.0">80.0 ± 1.0')
    assert re.sub("<.*?>", "", first) == "80.0 ± 1.0 (79.5) (best)−3.0▼ below 0, significant"
    assert missing.startswith('<td class="number" data-value="">')
    assert marked.count("▲") == 1
    assert re.findall(r"width: ([\d.]+)%", text) == ["12.3", "100"]
    assert text.count('<tr class="starts">') == 2
    assert TABLE.has_best


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("my_50%_{x}", r"my\_50\%\_\{x\}"),
        ("R&D #1 $", r"R\&D \#1 \$"),
        ("a\\b~^", r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}"),
    ],
)
def test_special_characters_of_latex_are_escaped(text, escaped):
    assert escape_latex(text) == escaped


def test_a_number_that_is_nan_is_an_empty_cell():
    assert number_cell(NAN, 3) == Cell()
    assert number_cell(0.12345, 3) == Cell("0.123", 0.12345)
