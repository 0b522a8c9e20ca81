"""Tables 3 and 4 as the page shows them: cells to print, with numbers to sort by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from delta.report.detector_tables import COUNTED, PRINTED, detector_legend
from delta.report.names import concept, display, features
from delta.report.part_tables import DIGITS, EACH, part_legend
from delta.report.sources import exceptions, source_note
from delta.report.statistics import count, plus_minus

Pair = tuple[str, str]  # data set and backbone


@dataclass(frozen=True)
class Cell:
    """A text to print; of a number the value to sort by, None where there is nothing."""

    text: str
    value: float | None = None
    best: bool = False
    paper: str = ""  # the paper's value, beside it
    source: str = ""  # a data set's source network, where that must be said


@dataclass(frozen=True)
class Line:
    """A row of a table; the first of its group has a line above it."""

    cells: Sequence[Cell]
    starts: bool = True


@dataclass(frozen=True)
class Grid:
    """A table whose first `texts` columns are texts and whose others are numbers."""

    caption: str
    headings: Sequence[str]
    texts: int
    lines: Sequence[Line]


@dataclass(frozen=True)
class Section:
    """A table of the paper: its blocks by backbone, and further tables that open on demand.

    Attributes:
        legend: what stands in it, sentences.
        blocks: backbone and table.
        summary: what opens.
        details: what opens: title and table.
    """

    number: int
    title: str
    legend: str
    blocks: Sequence[tuple[str, Grid]]
    summary: str
    details: Sequence[tuple[str, Grid]]


def part_section(table: pd.DataFrame, each: pd.DataFrame | None) -> Section:
    """Table 3.

    Args:
        table, each: `reports/tables/table3.csv` and `table3_parts.csv`.
    """
    blocks = []
    for backbone, block in table.groupby("backbone", sort=False):
        has_paper = bool(block["paper_mean"].notna().any())

        def cells(rows: pd.DataFrame, has_paper: bool = has_paper) -> list[list[Cell]]:
            best = rows["mean"].max()
            found = []
            for row in rows.itertuples():
                mean = Cell(plus_minus(row.mean, row.std, DIGITS), row.mean, row.mean == best)
                found.append([Cell(features(row.method)), mean, *([_number(row.paper_mean, DIGITS)] * has_paper)])
            return found

        headings = ["Data set", "Network", "Mean part activation", *["Paper"] * has_paper]
        lines = _grouped(block, exceptions(table), backbone, cells)
        blocks.append((backbone, Grid(f"Table 3: mean part activation with {display(backbone)}", headings, 2, lines)))
    details = (
        [] if each is None else [_parts(pair, rows) for pair, rows in each.groupby(["dataset", "backbone"], sort=False)]
    )
    legend = f"{part_legend(table)}{source_note(table)}"
    return Section(3, "activation at annotated parts", legend, blocks, f"Part by part. {EACH}.", details)


def detector_section(table: pd.DataFrame, concepts: pd.DataFrame | None) -> Section:
    """Table 4.

    Args:
        table, concepts: `reports/tables/table4.csv` and `table4_concepts.csv`.
    """
    blocks = []
    for backbone, block in table.groupby("backbone", sort=False):
        lines = _grouped(block, exceptions(table), backbone, _detectors)
        headings = ["Data set", "Network", *map(str.capitalize, COUNTED.values()), "Sum", "Units"]
        blocks.append((backbone, Grid(f"Table 4: unique detectors with {display(backbone)}", headings, 2, lines)))
    details = []
    if concepts is not None:
        details = [_concepts(pair, rows) for pair, rows in concepts.groupby(["dataset", "backbone"], sort=False)]
    legend = detector_legend(table)
    if table["paper_mean"].notna().any():
        legend += " Below in brackets the paper's value."
    legend += source_note(table)
    return Section(
        4, "unique detectors", legend, blocks, "The concepts with the highest IoU, of the first seed.", details
    )


def _grouped(
    block: pd.DataFrame,
    sources: Mapping[Pair, str],
    backbone: str,
    cells: Callable[[pd.DataFrame], list[list[Cell]]],
) -> list[Line]:
    """The rows of each data set, which name it in their first column."""
    lines = []
    for dataset, rows in block.groupby("dataset", sort=False):
        name = Cell(display(dataset), source=sources.get((dataset, backbone), ""))
        lines += [Line([name, *each], number == 0) for number, each in enumerate(cells(rows))]
    return lines


def _detectors(rows: pd.DataFrame) -> list[list[Cell]]:
    best = rows[rows["metric"] == "sum"]["mean"].max()
    found = []
    for method, metrics in rows.groupby("method", sort=False):
        cells = []
        for row in metrics.set_index("metric").loc[PRINTED].itertuples():
            paper = "" if pd.isna(row.paper_mean) else f"({row.paper_mean:.0f})"
            is_best = row.Index == "sum" and row.mean == best
            cells.append(Cell(count(row.mean, row.std), row.mean, is_best, paper))
        found.append([Cell(features(method)), *cells])
    return found


def _parts(pair: Pair, rows: pd.DataFrame) -> tuple[str, Grid]:
    methods, lines = list(rows["method"].unique()), []
    for (part, images), row in rows.groupby(["part", "images"], sort=False):
        means = row.set_index("method")["mean"].reindex(methods)
        numbers = [_number(mean, DIGITS, mean == means.max()) for mean in means]
        lines.append(Line([Cell(part), Cell(f"{images:,}", images), *numbers]))
    title = _title(pair)
    return title, Grid(f"Activation at each part: {title}", ["Part", "Images", *map(features, methods)], 1, lines)


def _concepts(pair: Pair, rows: pd.DataFrame) -> tuple[str, Grid]:
    lines = []
    for method, block in rows.groupby("method", sort=False):
        for number, row in enumerate(block.itertuples()):
            texts = [Cell(features(method)), Cell(concept(row.label)), Cell(row.category)]
            numbers = [Cell(str(row.unit), row.unit), Cell(f"{row.iou:.3f}", row.iou), Cell(str(row.units), row.units)]
            lines.append(Line(texts + numbers, number == 0))
    title = _title(pair)
    headings = ["Network", "Concept", "Category", "Best unit", "IoU", "Units that detect it"]
    return title, Grid(f"The concepts detected best: {title}", headings, 3, lines)


def _number(value: float, digits: int, best: bool = False) -> Cell:
    return Cell("", None) if pd.isna(value) else Cell(f"{value:.{digits}f}", value, best)


def _title(pair: Pair) -> str:
    return ", ".join(map(display, pair))
