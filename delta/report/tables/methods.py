"""Table 5, which the paper does not have: all methods on all data sets, and how they rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from delta.analysis.map_files import REFERENCE
from delta.report.differences import NUMBERS, SIGNIFICANT, difference_mark, minus
from delta.report.elsewhere import HARNESSES, published
from delta.report.inputs import Inputs
from delta.report.names import display, label
from delta.report.ranks import LEAST_DATASETS, LEAST_DRAWN, LEVEL, Ranking, dataset_ranks, rankings
from delta.report.results import KEYS
from delta.report.statistics import LEAST_SEEDS, format_interval, format_mean, format_p
from delta.report.table import Block, Cell, Column, Row, Table, number_cell, sort_value
from delta.report.tables.base import Collected, Diagram, Section, Shown

ORDER = 4.9

TITLE = "Table 5: all methods"
REFERENCES = (REFERENCE, "delta")  # what every method is compared with
COMPARED = [f"{name}_{reference}" for reference in REFERENCES for name in NUMBERS]
MEANS = ["method_label", "source_network", "mean", "std", "seeds", "rank", "mean_rank", "cells"]
COLUMNS = {"table5": [*KEYS, *MEANS, *COMPARED, *HARNESSES]}
FIGURE = "ranks"  # drawn by delta.report.rank_diagram
TIME = "time"  # a column that the page alone has, see `with_times`

DIFFERENCES = (
    "Differences are paired by test image and seed, with 95 % confidence intervals over images and seeds that are not "
    f"corrected for being many; a mark stands where p < {SIGNIFICANT:g} after Holm's correction over all differences "
    "of Table 1 on the data set and backbone."
)
COUNTS = "Above : below counts the data sets with such a mark."
TOO_FEW = f"A critical-difference diagram takes {LEAST_DRAWN} data sets, and says something from {LEAST_DATASETS} on."
CELLS = (
    "Cells: from how many values or pairs of its parameters cross-validation on training images chose; none where "
    "params.yaml fixes them, which compares unfairly with those that are tuned."
)
TIMES = (
    "Time: for how long a run was trained on this machine, without tests, over L2's; the median over the seeds. "
    "Attention, features, tuning and the run that a method starts from do not count."
)
NOT_OURS = (
    "† Published by others for this data set and network under another protocol: no difference to ours means anything."
)


def collect(inputs: Inputs) -> Collected:
    """All methods of Table 1. No table where neither of REFERENCES was run."""
    frame = method_frame(inputs.runs, inputs.differences, published())
    frame["cells"] = [inputs.cells.get(method, 0) for method in frame["method"]]
    return Collected({"table5": frame if frame["method"].isin(REFERENCES).any() else frame.head(0)})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """One table, with the critical-difference diagram on the page."""
    if "table5" not in frames:
        return Shown({})
    frame = frames["table5"]
    table, diagram = method_table(frame), Diagram(FIGURE, "Critical-difference diagram", rank_caption(frame))
    return Shown({"table5": table}, {"table5": Section("Table 5", table, diagram=diagram)})


def method_frame(runs: pd.DataFrame, differences: pd.DataFrame, elsewhere: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, backbone and method: method_label, source_network, mean, std and seeds of top-1 (percent),
    rank, mean_rank (over the backbone's data sets, where there are several), cells (0), for each of REFERENCES the
    difference to it as `difference_<reference>`, `low_…`, `high_…`, `p_…` and `p_holm_…`, and what each of HARNESSES
    publishes for the data set and source network.

    Args:
        runs: see `delta.report.results.read_results`.
        differences: see `delta.report.differences.run_differences`.
        elsewhere: see `delta.report.elsewhere.published`.
    """
    groups = runs.groupby([*KEYS, "method_label", "source_network"], sort=False)
    frame = groups.agg(mean=("top1", "mean"), std=("top1", "std"), seeds=("top1", "size")).reset_index()
    blocks = frame.groupby(KEYS[:2], sort=False)["mean"]
    frame["rank"] = blocks.transform(lambda means: dataset_ranks(means.to_frame().T).iloc[0])
    found = {backbone: ranking.mean_ranks for backbone, ranking in rankings(frame).items()}
    keys = zip(frame["backbone"], frame["method"], strict=True)
    frame["mean_rank"] = [found[backbone][method] if backbone in found else np.nan for backbone, method in keys]
    for reference in REFERENCES:
        compared = minus(differences, "table1", reference)
        names = {name: f"{name}_{reference}" for name in NUMBERS}
        frame = frame.merge(compared.rename(columns=names), how="left", on=KEYS)
    frame = frame.merge(elsewhere, how="left", on=["source_network", "dataset", "method"])
    return frame.assign(cells=0)[COLUMNS["table5"]]


def with_times(frame: pd.DataFrame, seconds: Mapping[tuple[str, str, str], float]) -> pd.DataFrame:
    """The frame with the column TIME: a method's time over L2's on the data set and backbone, NaN where not known.

    Times differ from run to run, and tables in reports/tables do not: the page alone has this column.

    Args:
        frame: see `method_frame`.
        seconds: of a run, by data set, backbone and method.
    """
    keys = list(frame[KEYS].itertuples(index=False, name=None))
    times = [seconds.get(key, np.nan) / seconds.get((*key[:2], "l2"), np.nan) for key in keys]
    return frame.assign(**{TIME: times})


def method_table(frame: pd.DataFrame) -> Table:
    """The methods in rows: a block for each data set and backbone and, first, one over the data sets of a backbone.

    Args:
        frame: see `method_frame` and `with_times`.
    """
    blocks = []
    for backbone, of_backbone in frame.groupby("backbone", sort=False):
        if of_backbone["mean_rank"].notna().any():
            blocks.append(_overall_block(str(backbone), of_backbone))
        for dataset, block in of_backbone.groupby("dataset", sort=False):
            blocks.append(_block(f"{display(str(dataset))}, {display(str(backbone))}", block))
    return Table(TITLE, _legend(frame), blocks, frame, digits=6)


def _block(title: str, frame: pd.DataFrame) -> Block:
    """One data set and backbone, a row per method."""
    references = [reference for reference in REFERENCES if frame[f"difference_{reference}"].notna().any()]
    harnesses = [harness for harness in HARNESSES if frame[harness].notna().any()]
    timed = TIME in frame and frame[TIME].notna().any()
    columns = [Column("Method"), Column("Top-1 (%)", "number")]
    columns += [Column(f"Minus {label(reference)}", "number", marked=True) for reference in references]
    columns += [Column("Rank", "number"), Column("Cells", "number")]
    columns += [Column("Time", "number")] if timed else []
    columns += [Column(f"{HARNESSES[harness][0]} †", "number") for harness in harnesses]
    rows, best = [], frame["rank"].min()
    for row in frame.itertuples():
        cells = [Cell(row.method_label), Cell(format_mean(row.mean, row.std), row.mean, row.rank == best)]
        cells += [_difference(row, reference) for reference in references]
        cells += [Cell(f"{row.rank:g}", row.rank), _tuned(row)]
        cells += [number_cell(getattr(row, TIME), 2)] if timed else []
        cells += [_published(getattr(row, harness)) for harness in harnesses]
        rows.append(Row(cells))
    return Block(columns, rows, title)


def _overall_block(backbone: str, frame: pd.DataFrame) -> Block:
    """All data sets of a backbone, a row per method, the best first."""
    references = [reference for reference in REFERENCES if frame[f"p_holm_{reference}"].notna().any()]
    columns = [Column("Method"), Column("Mean rank", "number")]
    columns += [Column(f"Above : below {label(reference)}", "number") for reference in references]
    columns += [Column("Cells", "number")]
    rows, best = [], frame["mean_rank"].min()
    for method, group in frame.sort_values("mean_rank", kind="stable").groupby("method", sort=False):
        first = next(group.itertuples())
        cells = [Cell(first.method_label), number_cell(first.mean_rank, 2, first.mean_rank == best)]
        cells += [_counts(group, reference) if method != reference else Cell() for reference in references]
        rows.append(Row([*cells, _tuned(first)]))
    count = frame["dataset"].nunique()
    return Block(columns, rows, f"{display(backbone)}, all {count} data sets")


def _difference(row: Any, reference: str) -> Cell:
    found = pd.Series({name: getattr(row, f"{name}_{reference}") for name in NUMBERS})
    text = format_interval(found["difference"], found["low"], found["high"])
    return Cell(text, sort_value(found["difference"]), mark=difference_mark(found))


def _published(top1: float) -> Cell:
    """With as many digits as were published."""
    return Cell() if pd.isna(top1) else Cell(f"{top1:g}", top1)


def _counts(rows: pd.DataFrame, reference: str) -> Cell:
    """On how many data sets a method is significantly above and below the reference."""
    significant = rows[rows[f"p_holm_{reference}"] < SIGNIFICANT][f"difference_{reference}"]
    above, below = int((significant > 0).sum()), int((significant < 0).sum())
    return Cell(f"{above} : {below}", above - below)


def _tuned(row: Any) -> Cell:
    return Cell(str(row.cells), row.cells) if row.cells else Cell()


def rank_caption(frame: pd.DataFrame) -> str:
    """What Friedman's test says of each backbone that is in the critical-difference diagram."""
    drawn = {key: ranking for key, ranking in rankings(frame).items() if ranking.datasets >= LEAST_DRAWN}
    return " ".join(f"{display(backbone)}: {_friedman(ranking)}" for backbone, ranking in drawn.items())


def _friedman(ranking: Ranking) -> str:
    if not ranking.is_conclusive:
        return f"{ranking.datasets} data sets are fewer than {LEAST_DATASETS}, and nothing can be concluded from them."
    if np.isnan(ranking.p):
        return "Friedman's test takes three methods, and values that differ."
    numbers = f"F({', '.join(map(str, ranking.freedom))}) = {ranking.statistic:.2f}, p = {format_p(ranking.p)}"
    numbers = numbers.replace("= <", "<")
    if not ranking.differs:
        return f"over {ranking.datasets} data sets, Friedman's test does not tell the methods apart ({numbers})."
    return (
        f"over {ranking.datasets} data sets, Friedman's test says that the methods differ ({numbers}). A line joins "
        f"those whose mean ranks are less than the critical difference apart, {ranking.critical_difference:.2f} at p < "
        f"{LEVEL:g} over all pairs (Nemenyi)."
    )


def _legend(frame: pd.DataFrame) -> str:
    seeds = int(frame["seeds"].max())
    top1 = f"Mean top-1 ± sample standard deviation over {seeds} seeds" if seeds > 1 else "Top-1 of one seed"
    sentences = [f"{top1}; rank 1 is the highest, and equal ones share their ranks."]
    if frame[COMPARED].notna().any(axis=None):
        sentences.append(DIFFERENCES)
    if frame[[f"low_{reference}" for reference in REFERENCES]].isna().all(axis=None):
        sentences.append(f"Fewer than {LEAST_SEEDS} seeds give no interval.")
    elif frame["mean_rank"].notna().any():
        sentences.append(COUNTS)
    if not rank_caption(frame):
        sentences.append(TOO_FEW)
    sentences.append(CELLS)
    if TIME in frame and frame[TIME].notna().any():
        sentences.append(TIMES)
    if notes := [f"{name} is {what}." for key, (name, what) in HARNESSES.items() if frame[key].notna().any()]:
        sentences += [NOT_OURS, *notes]
    return " ".join(sentences)
