"""Compare two studies: python -m studies.compare EARLIER LATER prints what each method gains, with its interval.

Both are folders of runs on the same test images, such as build/study/runs/cub_20/efficientnet_lite0.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from delta.io.errors import UserError, exit_on_user_error
from delta.methods.registry import KEYS, PAPER
from delta.report.differences import IMPROVED_VIEW, difference_mark, run_differences
from delta.report.predictions import read_all_predictions
from delta.report.results import read_results
from delta.report.statistics import format_interval
from delta.report.table import Block, Cell, Column, Row, Table, number_cell, sort_value
from delta.training.result import FILE

TITLE = "Gains in top-1 (points)"
LEGEND = (
    "Each method's top-1 in two studies, over the seeds that both have (percent), and what the later has gained over "
    "the earlier, paired by test image and seed (percentage points), with the 95 % confidence interval over images and "
    "seeds. The intervals are not corrected for their number; * marks p < 0.05 after Holm's correction."
)
HEADINGS = ("Earlier", "Later", "Gain", "Seeds", "Images")
ORDER = list(dict.fromkeys(("probe", *PAPER, *KEYS)))  # of the methods


def compare(earlier: Path, later: Path) -> Table:
    """A row for each method that both studies have.

    Args:
        earlier, later: the folders of one data set's and backbone's runs, which lie in `<method>/<seed>`.

    Raises:
        UserError: a run cannot be read, no run is in both, or they have other test images.
    """
    shared = sorted(_runs(earlier) & _runs(later), key=lambda run: (ORDER.index(run[0]), run[1]))
    if not shared:
        raise UserError(f"{earlier} and {later}: no run of the same method and seed is in both")
    runs = [_read(folder, shared) for folder in (earlier, later)]
    before, after = (next(read_all_predictions(each)) for each in runs)
    if set(before.paths) != set(after.paths):
        raise UserError(f"{earlier} and {later}: were tested on other images, so that their runs are not pairs")
    frame = run_differences([before], [after])
    frame = frame[frame["comparison"] == IMPROVED_VIEW]  # one method, the second minus the first
    rows = []
    for row in frame.itertuples():
        means = [each.loc[each["method"] == row.method, "top1"].mean() for each in runs]  # as Table 1 rounds them
        gain = format_interval(row.difference, row.low, row.high)
        cells = [Cell(row.method_label), *(number_cell(mean, 1) for mean in means)]
        cells += [Cell(gain, sort_value(row.difference), mark=difference_mark(row))]
        rows.append(Row([*cells, Cell(f"{row.seeds:,}"), Cell(f"{row.images:,}")]))
    columns = [Column("Method"), *(Column(heading, "number") for heading in HEADINGS)]
    return Table(TITLE, LEGEND, [Block(columns, rows)], frame)


def _runs(folder: Path) -> set[tuple[str, int]]:
    """The methods and seeds of Table 1's runs in a folder."""
    runs = [file.parent for file in folder.glob(f"*/*/{FILE}")]
    return {(run.parent.name, int(run.name)) for run in runs if run.parent.name in KEYS}


def _read(folder: Path, runs: Iterable[tuple[str, int]]) -> pd.DataFrame:
    """The results of these runs, see `read_results`."""
    return read_results(("", "", method, seed, folder / method / str(seed)) for method, seed in runs)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("earlier", type=Path, help="a folder of runs")
    parser.add_argument("later", type=Path, help="a folder of runs with the same test images")
    options = parser.parse_args()
    with exit_on_user_error():
        print(compare(options.earlier, options.later).markdown(), end="")


if __name__ == "__main__":
    main()
