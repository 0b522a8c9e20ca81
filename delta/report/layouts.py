"""The two layouts of a table of means: the paper's, with one column per method, and the page's, one row per method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from delta.report import paper
from delta.report.names import display
from delta.report.sources import unusual_sources
from delta.report.statistics import format_mean
from delta.report.table import Block, Cell, Column, Row, number_cell, sort_value, with_qualifier

WIDEST = 8  # methods that a page has room for side by side


def paper_blocks(frame: pd.DataFrame, cell: Callable[[Any], Cell]) -> list[Block]:
    """One row per data set, one column per method, one block per backbone; of more than WIDEST methods, the transpose.

    Args:
        frame: one row per data set, backbone and method: method_label, source_network, paper_mean and what `cell`
            needs.
        cell: makes the cell of a row of `frame`.
    """
    labels, sources, blocks = dict(zip(frame["method"], frame["method_label"], strict=True)), unusual_sources(frame), []
    for backbone, block in frame.groupby("backbone", sort=False):
        rows = []
        for dataset, group in block.groupby("dataset", sort=False):
            source = sources.get((dataset, backbone), "")
            cells = [Cell(display(dataset), qualifier=source), *map(cell, group.itertuples())]
            rows.append(Row(cells, paper_source=paper.source_network(dataset, backbone) if source else ""))
        headings = [display(backbone), *labels.values()]
        if len(labels) > WIDEST:
            headings, rows = _transposed(headings, rows)
        blocks.append(Block([Column(headings[0]), *(Column(text, "number") for text in headings[1:])], rows))
    return blocks


def _transposed(headings: Sequence[str], rows: Sequence[Row]) -> tuple[list[str], list[Row]]:
    """A column for each row, headed by its first cell, and a row for each column."""
    names, *columns = zip(*(row.cells for row in rows), strict=True)
    turned = [Row([Cell(heading), *column]) for heading, column in zip(headings[1:], columns, strict=True)]
    return [headings[0], *map(with_qualifier, names)], turned


def image_blocks(
    frame: pd.DataFrame,
    keys: Sequence[str],
    shown: int,
    headings: tuple[Sequence[str], Sequence[str]],
    numbers: Callable[[Any], list[Cell]],
    how_many: Callable[[pd.DataFrame], str],
) -> list[Block]:
    """The first images of each data set: one row per image, one block for each value of the keys.

    Args:
        frame: one row per image: the keys, path, target, predicted and what `numbers` and `how_many` need.
        shown: images of a block.
        headings: of the path, label and prediction, and of the numbers.
        numbers: the further cells of a row of `frame`.
        how_many: how many such images there are, for the title; it takes a block's rows.
    """
    texts, further = headings
    columns, blocks = [*map(Column, texts), *(Column(heading, "number") for heading in further)], []
    for values, block in frame.groupby(list(keys), sort=False):
        rows = [
            Row([*map(Cell, (row.path, row.target, row.predicted)), *numbers(row)])
            for row in block.head(shown).itertuples()
        ]
        blocks.append(Block(columns, rows, f"{', '.join(map(display, values))}: {how_many(block)}"))
    return blocks


def page_blocks(
    frame: pd.DataFrame,
    headings: tuple[str, str, str],
    digits: int = 1,
    difference: tuple[Column, Callable[[Any], Cell]] | None = None,
) -> list[Block]:
    """One row per data set and method, one block per backbone.

    Args:
        frame: one row per data set, backbone and method: method_label, source_network, mean, std, paper_mean and, if
            there are such, paper_std and macro, the mean over classes.
        headings: of the methods, the means and the paper's means; a block without any of these has no such column, nor
            one of means over classes.
        digits: decimals of the means.
        difference: a last column for blocks that have any `difference`, and what makes its cell of a row of `frame`.
    """
    sources, blocks = unusual_sources(frame), []
    for backbone, block in frame.groupby("backbone", sort=False):
        has_paper, has_macro = (name in block and block[name].notna().any() for name in ("paper_mean", "macro"))
        last = difference if difference and block["difference"].notna().any() else None
        columns = [Column("Data set"), Column(headings[0]), Column(headings[1], "number")]
        columns += [Column("Macro (%)", "number")] if has_macro else []
        columns += ([Column(headings[2], "number")] if has_paper else []) + ([last[0]] if last else [])
        rows = []
        for dataset, group in block.groupby("dataset", sort=False):
            name = Cell(display(dataset), qualifier=sources.get((dataset, backbone), ""))
            for number, row in enumerate(group.itertuples()):
                best = row.mean == group["mean"].max()
                cells = [name, Cell(row.method_label), Cell(format_mean(row.mean, row.std, digits), row.mean, best)]
                cells += [number_cell(row.macro, digits)] if has_macro else []
                theirs = format_mean(row.paper_mean, getattr(row, "paper_std", float("nan")), digits)
                cells += [Cell(theirs, sort_value(row.paper_mean))] if has_paper else []
                cells += [last[1](row)] if last else []
                rows.append(Row(cells, starts_group=number == 0))
        blocks.append(Block(columns, rows, display(backbone)))
    return blocks
