"""The figures' data in reports/plots that the page and the claims need."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.analysis.grid_result import CELL
from delta.report import data_amount
from delta.report.results import KEYS, read_table

# The columns that are needed, by file name.
PLOTS = {
    "learning_curves": [*KEYS, "schedule", "seed", "epoch", "top1", "drop_epoch"],
    "grid": [*CELL, "fold", "top1"],
    "filter_shares": ["dataset", "backbone", "stage", "seed", "filters", "share", "reach"],
    "activation_maps": [*KEYS, "label", "path", "map", "area", "correlation"],
    "map_filters": ["dataset", "backbone", "filter", "considered", "filters", "layer"],
    "data_amount": data_amount.COLUMNS,
    "gallery": [*KEYS, "label", "category", "unit", "iou", "file"],
    "map_classes": ["dataset", "backbone", "label", "path", "file"],
}


def read_plots(reports: Path) -> dict[str, pd.DataFrame | None]:
    """The figures' data by name; None where a run has none.

    Args:
        reports: the folder of `plots`.

    Raises:
        UserError: a file is no table, or lacks a column.
    """
    return {name: read_table(reports / "plots" / f"{name}.csv", columns) for name, columns in PLOTS.items()}
