"""Every difference of two methods' top-1, paired by test image and seed."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from delta.report.differences import COLUMNS as DIFFERENCE_COLUMNS
from delta.report.differences import IMPROVED_VIEW, PAIR, difference_mark
from delta.report.inputs import Inputs
from delta.report.names import display
from delta.report.statistics import LEAST_SEEDS, format_interval, format_p
from delta.report.table import Block, Cell, Column, Row, Table, sort_value
from delta.report.tables.base import Collected, Shown

ORDER = 2.5

COLUMNS = {"differences": DIFFERENCE_COLUMNS}
TITLE = "Differences of top-1 (points)"
LEGEND = (
    "Each row is one method's top-1 minus another's, in percentage points, paired by test image and seed. An interval "
    "is the 95 % confidence interval over images and seeds for that comparison alone; the intervals are not corrected "
    "for being many. p (Holm) is, over all differences of the same table, or of the improved view, on the same data "
    "set and backbone; the mark stands where it is below 0.05."
)
COMPARISONS = {"table1": "Table 1", "table2": "Table 2", IMPROVED_VIEW: "Table 2 minus Table 1"}


def collect(inputs: Inputs) -> Collected:
    """All differences of Tables 1 and 2."""
    return Collected(frames={"differences": inputs.differences})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """The differences; the page shows them below the forest plot, not in a section of their own."""
    return Shown({"differences": difference_table(frames["differences"])} if "differences" in frames else {})


def difference_table(frame: pd.DataFrame) -> Table:
    """One row per difference, one block per data set and backbone.

    Args:
        frame: see `delta.report.differences.run_differences`.
    """
    columns = [Column("Within"), Column("Method"), Column("Minus")]
    columns += [Column("Difference (points)", "number", marked=True)]
    columns += [Column(heading, "number") for heading in ("p", "p (Holm)", "Seeds", "Images")]
    blocks = []
    for pair, block in frame.groupby(PAIR, sort=False):
        rows = []
        for comparison, group in block.groupby("comparison", sort=False):
            for number, row in enumerate(group.itertuples()):
                other = "itself in Table 1" if comparison == IMPROVED_VIEW else row.other_label
                text = format_interval(row.difference, row.low, row.high)
                cells = [Cell(COMPARISONS[comparison]), Cell(row.method_label), Cell(other)]
                cells += [Cell(text, sort_value(row.difference), mark=difference_mark(row))]
                cells += [Cell(format_p(value), sort_value(value)) for value in (row.p, row.p_holm)]
                cells += [Cell(f"{count:,}", count) for count in (row.seeds, row.images)]
                rows.append(Row(cells, starts_group=number == 0))
        blocks.append(Block(columns, rows, ", ".join(map(display, pair))))
    few = f" Fewer than {LEAST_SEEDS} seeds give no interval." if frame["low"].isna().any() else ""
    return Table(TITLE, LEGEND + few, blocks, frame, digits=6)
