"""The one model of a printed table, and how it is written as Markdown, LaTeX and CSV; table.html.j2 writes HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "α": r"$\alpha$",
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: its name.
        kind: `text` is set to the left, `number` to the right; `bar` draws each value, a percentage, as a bar, and
            only HTML has it.
        marked: HTML leaves room for ▲ and ▼ behind the numbers.
    """

    heading: str
    kind: Literal["text", "number", "bar"] = "text"
    marked: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what is printed; empty for a missing value.
        value: of a number, what a reader sorts by; None where it is missing.
        best: printed bold in HTML.
        qualifier: follows the text in brackets, such as a data set's source network; HTML has it in texts alone.
        paper: the paper's value; follows in brackets, or in LaTeX on a line of its own.
        mark: `above` or `below` zero, for a significant difference: ▲ or ▼ in HTML, * elsewhere.
        below: a second cell on a line below this one.
    """

    text: str = ""
    value: float | None = None
    best: bool = False
    qualifier: str = ""
    paper: str = ""
    mark: Literal["", "above", "below"] = ""
    below: Cell | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: one per column.
        starts_group: HTML draws a line above it.
        paper_source: LaTeX names this source network beside the paper's values.
    """

    cells: Sequence[Cell]
    starts_group: bool = True
    paper_source: str = ""


@dataclass(frozen=True)
class Block:
    """A part of a table with columns of its own, such as the rows of one backbone.

    Attributes:
        title: a heading above it; empty for none.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows, such as "Table 1: top-1 accuracy".
        legend: how to read it, in sentences.
        blocks: its parts, one below the other.
        frame: the same numbers, and more, as rows for a program: what `csv` writes.
        digits: decimals of the numbers in `frame`.
        below_heading: what LaTeX calls the second cells, `Cell.below`.
    """

    title: str
    legend: str
    blocks: Sequence[Block]
    frame: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    digits: int = 4
    below_heading: str = ""

    @property
    def has_best(self) -> bool:
        """Whether a cell is marked as best."""
        return any(cell.best for block in self.blocks for row in block.rows for cell in row.cells)

    def csv(self) -> str:
        """The frame as comma-separated values."""
        return self.frame.round(self.digits).to_csv(index=False)

    def markdown(self) -> str:
        """The title, the legend and a Markdown table for each block."""
        lines = [f"# {self.title}", "", self.legend]
        for block in self.blocks:
            if block.title:
                lines += ["", f"## {block.title}"]
            lines += ["", *_markdown_block(block)]
        return "\n".join([*lines, ""])

    def latex(self) -> str:
        """One tabular with a heading for each block; it takes the package booktabs."""
        layouts = [_printed_columns(block) for block in self.blocks]
        widest = max(layouts, key=len, default=[])
        alignment = "".join("l" if column.kind == "text" else "r" for _, column in widest)
        lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
        for number, (block, columns) in enumerate(zip(self.blocks, layouts, strict=True)):
            lines += [r"\midrule"] if number else []
            if block.title:
                lines.append(rf"\multicolumn{{{len(columns)}}}{{l}}{{{escape_latex(block.title)}}} \\")
            headings = [escape_latex(column.heading) for _, column in columns]
            lines += [" & ".join(headings) + r" \\", r"\midrule"]
            for row in block.rows:
                lines += [" & ".join(cells) + r" \\" for cells in self._latex_rows(row, columns)]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def _latex_rows(self, row: Row, columns: Sequence[tuple[int, Column]]) -> Iterator[list[str]]:
        """A row and, below it, the paper's values and the second cells where it has any."""
        cells = [(row.cells[place], column.kind == "text") for place, column in columns]
        yield [escape_latex(with_qualifier(cell)) if text else _latex_number(cell) for cell, text in cells]
        numbers = [cell for cell, _ in cells[1:]]
        if any(cell.paper for cell in numbers):
            source = f" ({escape_latex(row.paper_source)})" if row.paper_source else ""
            yield [rf"\quad paper{source}", *(_latex_number(Cell(cell.paper)) for cell in numbers)]
        if any(cell.below for cell in numbers):
            heading = rf"\quad {escape_latex(self.below_heading)}"
            yield [heading, *(_latex_number(cell.below or Cell()) for cell in numbers)]


def number_cell(value: float, digits: int, best: bool = False) -> Cell:
    """A number with so many decimals; an empty cell for NaN."""
    return Cell() if pd.isna(value) else Cell(f"{value:.{digits}f}", float(value), best)


def sort_value(value: float) -> float | None:
    """A number as a cell's `value`: None for NaN."""
    return None if pd.isna(value) else float(value)


def with_qualifier(cell: Cell) -> str:
    """A cell's text, followed by its qualifier in brackets if it has one."""
    return f"{cell.text} ({cell.qualifier})" if cell.qualifier else cell.text


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return re.sub(r"[_&%#${}\\~^<>|α]", lambda found: _LATEX.get(found[0], f"\\{found[0]}"), text)


def _printed_columns(block: Block) -> list[tuple[int, Column]]:
    """The columns that Markdown and LaTeX have, with their places in a row."""
    return [(place, column) for place, column in enumerate(block.columns) if column.kind != "bar"]


def _markdown_block(block: Block) -> list[str]:
    columns = _printed_columns(block)
    rows = [
        [_markdown_cell(row.cells[place], column.kind == "text") for place, column in columns] for row in block.rows
    ]
    alignment = ["---" if column.kind == "text" else "---:" for _, column in columns]
    return [f"| {' | '.join(cells)} |" for cells in ([column.heading for _, column in columns], alignment, *rows)]


def escape_markdown(text: str) -> str:
    """Text as GitHub's Markdown shows it, also in a table: nothing of it is markup, a formula or HTML."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", re.sub(r"[\\`*<|$~\[]", r"\\\g<0>", text))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)  # within a word, an underscore is one anyway


def _markdown_cell(cell: Cell, is_text: bool) -> str:
    text = escape_markdown(with_qualifier(cell)) if is_text else with_qualifier(cell).replace("|", r"\|")
    text += (f" ({cell.paper})" if cell.paper else "") + (" *" if cell.mark else "")
    return text + (f"<br>{_markdown_cell(cell.below, is_text)}" if cell.below else "")


def _latex_number(cell: Cell) -> str:
    """A number in LaTeX's math mode, and its qualifier; nothing for an empty cell."""
    text = cell.text.replace("±", r"\pm").replace("−", "-")
    qualifier = f" ({escape_latex(cell.qualifier)})" if cell.qualifier else ""
    return f"${text}{'^{*}' if cell.mark else ''}${qualifier}" if text else ""
