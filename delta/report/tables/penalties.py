"""How strong each method's penalty is in the objective that its runs minimise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from delta.report.curves import curve, with_curves
from delta.report.inputs import Inputs
from delta.report.names import display
from delta.report.results import KEYS, SHARES
from delta.report.table import Block, Cell, Column, Row, Table, number_cell
from delta.report.tables.base import Collected, Section, Shown

ORDER = 6

TITLE = "How strong the penalties are"
COLUMNS = {"penalties": [*KEYS, "method_label", "alpha", *SHARES, "cross_entropy", "seeds"]}
HEADINGS = ["α", "First iteration (%)", "First epoch (%)", "Cross-entropy at the end"]
LEGEND = (
    "The share of the penalty, α · Ω, in the objective, in the first iteration and over the first epoch. It depends on "
    "the network and on how its Ω is scaled, α alone tells little: who takes a method to another network may look for "
    "the α with the same share. L2-SP's Ω starts at 0, as its networks start at the weights that it pulls to. The "
    "cross-entropy is that of the training images, over the last epoch. Means over the seeds of Table 1."
)


def collect(inputs: Inputs) -> Collected:
    """The penalties' shares and the runs' last losses."""
    return Collected({"penalties": penalty_frame(inputs.runs)})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """One table."""
    if "penalties" not in frames:
        return Shown({})
    table = penalty_table(frames["penalties"])
    return Shown({"penalties": table}, {"penalties": Section("Penalties", table)})


def penalty_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, backbone and method: method_label, alpha (NaN for a method without a penalty),
    penalty_share and penalty_share_first_epoch (percent of the objective), cross_entropy (mean over the last epoch of
    training) and seeds; means over the seeds. The probe has no row.

    Args:
        runs: see `delta.report.results.read_results`.

    Raises:
        UserError: a run has no curve of its cross-entropy.
    """
    runs = with_curves(runs)
    last = [
        curve(row.run, "cross_entropy")["cross_entropy"].tail(row.iterations_per_epoch).mean()
        for row in runs.itertuples()
    ]
    groups = runs.assign(cross_entropy=last, seeds=1).groupby([*KEYS, "method_label"], sort=False)
    means = {name: (name, "mean") for name in ("alpha", *SHARES, "cross_entropy")}
    frame = groups.agg(**means, seeds=("seeds", "sum")).reset_index()
    frame.loc[frame["alpha"] == 0, ["alpha", *SHARES]] = float("nan")
    return frame[COLUMNS["penalties"]]


def penalty_table(frame: pd.DataFrame) -> Table:
    """One row per data set and method, one block per backbone.

    Args:
        frame: see `penalty_frame`.
    """
    blocks = []
    for backbone, block in frame.groupby("backbone", sort=False):
        columns = [Column("Data set"), Column("Method"), *(Column(heading, "number") for heading in HEADINGS)]
        rows = [
            Row([Cell(display(dataset)), Cell(row.method_label), *_numbers(row)], starts_group=number == 0)
            for dataset, group in block.groupby("dataset", sort=False)
            for number, row in enumerate(group.itertuples())
        ]
        blocks.append(Block(columns, rows, display(backbone)))
    return Table(TITLE, LEGEND, blocks, frame, digits=6)


def _numbers(row: Any) -> list[Cell]:
    alpha = Cell() if pd.isna(row.alpha) else Cell(f"{row.alpha:g}", row.alpha)
    shares = [number_cell(share, 2) for share in (row.penalty_share, row.penalty_share_first_epoch)]
    return [alpha, *shares, number_cell(row.cross_entropy, 3)]
