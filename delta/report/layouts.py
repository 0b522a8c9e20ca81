"""The two layouts of a table of means: the paper's, with one column per method, and the page's, one row per method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from delta.report import paper
from delta.report.names import display
from delta.report.sources import unusual_sources
from delta.report.statistics import format_mean
from delta.report.table import Block, Cell, Column, Row, number_cell, sort_value


def paper_blocks(frame: pd.DataFrame, cell: Callable[[Any], Cell]) -> list[Block]:
    """One row per data set, one column per method, one block per backbone; where the data set has any `macro`, the mean
    accuracy of the classes, a second row has it.

    Args:
        frame: one row per data set, backbone and method: method_label, source_network, paper_mean, what `cell` needs
            and, if it is known, macro.
        cell: makes the cell of a row of `frame`.
    """
    labels, sources, blocks = dict(zip(frame["method"], frame["method_label"], strict=True)), unusual_sources(frame), []
    for backbone, block in frame.groupby("backbone", sort=False):
        columns = [Column(display(backbone)), *(Column(text, "number") for text in labels.values())]
        rows = []
        for dataset, group in block.groupby("dataset", sort=False):
            source = sources.get((dataset, backbone), "")
            cells = [Cell(display(dataset), qualifier=source), *map(cell, group.itertuples())]
            rows.append(Row(cells, paper_source=paper.source_network(dataset, backbone) if source else ""))
            if "macro" in group and group["macro"].notna().any():
                name = Cell(display(dataset), qualifier="mean of classes")
                rows.append(Row([name, *(number_cell(mean, 1) for mean in group["macro"])], starts_group=False))
        blocks.append(Block(columns, rows))
    return blocks


def page_blocks(
    frame: pd.DataFrame,
    headings: tuple[str, str, str],
    digits: int = 1,
    further: Sequence[tuple[str, Column, Callable[[Any], Cell]]] = (),
) -> list[Block]:
    """One row per data set and method, one block per backbone.

    Args:
        frame: one row per data set, backbone and method: method_label, source_network, mean, std, paper_mean and, if
            the paper has it, paper_std.
        headings: of the methods, the means and the paper's means; a block without any of these has no such column.
        digits: decimals of the means.
        further: last columns, for blocks that have any value in a column of `frame`: that column's name, the new
            column, and what makes its cell of a row of `frame`.
    """
    sources, blocks = unusual_sources(frame), []
    for backbone, block in frame.groupby("backbone", sort=False):
        has_paper = block["paper_mean"].notna().any()
        last = [(column, cell) for name, column, cell in further if block[name].notna().any()]
        columns = [Column("Data set"), Column(headings[0]), Column(headings[1], "number")]
        columns += ([Column(headings[2], "number")] if has_paper else []) + [column for column, _ in last]
        rows = []
        for dataset, group in block.groupby("dataset", sort=False):
            name = Cell(display(dataset), qualifier=sources.get((dataset, backbone), ""))
            for number, row in enumerate(group.itertuples()):
                best = row.mean == group["mean"].max()
                cells = [name, Cell(row.method_label), Cell(format_mean(row.mean, row.std, digits), row.mean, best)]
                theirs = format_mean(row.paper_mean, getattr(row, "paper_std", float("nan")), digits)
                cells += [Cell(theirs, sort_value(row.paper_mean))] if has_paper else []
                cells += [cell(row) for _, cell in last]
                rows.append(Row(cells, starts_group=number == 0))
        blocks.append(Block(columns, rows, display(backbone)))
    return blocks
