"""Average differences over a published study's data sets and networks: python -m studies.average STUDY METHOD OTHER ...

It prints the top-1 of METHOD minus that of each OTHER, everywhere and on average, with intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from delta.io.errors import UserError, exit_on_user_error
from delta.report.differences import COLUMNS, PAIR, TABLES, difference_mark, find
from delta.report.names import display, label
from delta.report.results import gather, reason
from delta.report.statistics import format_interval
from delta.report.table import Block, Cell, Column, Row, Table, sort_value
from stages.common.paths import PARAMS

TITLE = "Differences in top-1 (points), on average"
LEGEND = (
    "The top-1 of one method minus that of another, paired by test image and seed (percentage points), with the 95 % "
    "confidence interval over images and seeds; * marks p < 0.05 after Holm's correction over all differences of the "
    "data set and network. Last, the mean of the rows, each counting alike, with an interval for these data sets and "
    "networks. It takes the errors of data sets from different sources as independent, and those of networks on the "
    "same images, and of parts of one source, as one and the same, which is rather too wide than too narrow. No "
    "interval is corrected for their number."
)
MEAN = "mean of all"


def average(study: Path, method: str, others: Sequence[str]) -> Table:
    """A column for each of `others`, a row for each data set and network that has the runs, and their mean.

    Args:
        study: the folder of a published study.

    Raises:
        UserError: the study's differences cannot be read, or it does not compare two of these methods.
    """
    file = study / "tables/differences.csv"
    rows, sources = gather([(file,)], (), COLUMNS, "differences"), _sources(study / PARAMS)
    table, found = [], []
    for (dataset, backbone), block in rows.groupby(PAIR, sort=False):
        here = {other: find(block, TABLES[0], method, other) for other in others}
        if any(row is not None for row in here.values()):
            table.append(Row([Cell(display(dataset)), Cell(display(backbone)), *map(_cell, here.values())]))
        found += [row for row in here.values() if row is not None]
    differences = pd.DataFrame(found, columns=COLUMNS)
    differences["source"] = differences["dataset"].map(sources)
    means = []
    for other in others:
        if (column := differences[differences["other"] == other]).empty:
            raise UserError(f"{file}: has no difference of {method} and {other}")
        mean = mean_difference(column)
        means.append(Cell(format_interval(*mean), sort_value(mean[0])))
    table.append(Row([Cell(MEAN), Cell(), *means]))
    headings = [f"{label(method)} minus {label(other)}" for other in others]
    columns = [Column("Data set"), Column("Network"), *(Column(heading, "number") for heading in headings)]
    return Table(TITLE, LEGEND, [Block(columns, table)], differences)


def mean_difference(rows: pd.DataFrame) -> tuple[float, float, float]:
    """The mean of differences and its 95 % interval, from low to high; NaN without the interval of every row.

    Half of the width is the sum of the halves within a source, as if their errors were one and the same, then the root
    of the sum of squares over sources, whose errors are independent, divided by the number of rows.

    Args:
        rows: difference, low, high and source, what the images were taken from.
    """
    halves = (rows["high"] - rows["low"]) / 2
    margin = np.sqrt((halves.groupby(rows["source"]).sum() ** 2).sum()) / len(rows)
    mean = rows["difference"].mean()
    if halves.isna().any():
        margin = np.nan
    return mean, mean - margin, mean + margin


def _sources(params: Path) -> dict[str, str]:
    """The source of each data set of a study."""
    try:
        datasets = yaml.safe_load(params.read_text(encoding="utf-8"))["datasets"]
        return {name: str(dataset["source"]) for name, dataset in datasets.items()}
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(f"{params}: no parameters of a study ({reason(error)})") from None


def _cell(row: pd.Series | None) -> Cell:
    """A difference with its interval, or nothing."""
    if row is None:
        return Cell()
    text = format_interval(row["difference"], row["low"], row["high"])
    return Cell(text, sort_value(row["difference"]), mark=difference_mark(row))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="a published study, studies/<name>")
    parser.add_argument("method", help="such as delta")
    parser.add_argument("others", nargs="+", metavar="other", help="such as l2_sp")
    options = parser.parse_args()
    with exit_on_user_error():
        print(average(options.study, options.method, options.others).markdown(), end="")


if __name__ == "__main__":
    main()
