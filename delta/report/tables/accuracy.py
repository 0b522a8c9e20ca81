"""Tables 1 and 2: top-1 accuracy by data set, backbone and method, in the default and in the improved view."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from delta.analysis.map_files import REFERENCE
from delta.report import paper
from delta.report.differences import NUMBERS, difference_mark, minus
from delta.report.inputs import Inputs
from delta.report.layouts import page_blocks, paper_blocks
from delta.report.names import label
from delta.report.results import KEYS, Metrics, mean_and_std, nested_metrics, per_seed
from delta.report.sources import source_note
from delta.report.statistics import (
    LEAST_SEEDS,
    format_interval,
    format_mean,
)
from delta.report.table import Cell, Column, Table, sort_value
from delta.report.tables.base import Collected, Section, Shown

ORDER = 1

SETTINGS = {"table1": "default", "table2": "improved"}
METRICS = {"table1": "metrics", "table2": "metrics_improved"}
TITLES = {
    "table1": "Table 1: top-1 accuracy (%)",
    "table2": "Table 2: top-1 accuracy (%) with the improved view",
}
MEANS = ["method_label", "source_network", "mean", "std", "macro", "seeds", "cells", "paper_mean", "paper_std"]
COLUMNS = dict.fromkeys(SETTINGS, [*KEYS, *MEANS, *NUMBERS, "device"])
INTERVAL = "95 % confidence interval over images and seeds, for this comparison alone"
HOLM = "p < 0.05 after Holm's correction over all differences of this table on the data set and backbone"
MACRO = "Macro is the mean of the accuracies on each class's test images, of which classes have different numbers."
IMPROVED_VIEW = "Images keep their aspect ratio, and the logits of ten crops of a test image are averaged. "


def collect(inputs: Inputs) -> Collected:
    """The accuracies of all runs, and the metrics `metrics` and `metrics_improved`."""
    runs = {name: inputs.runs if name == "table1" else inputs.runs_with(SETTINGS[name]) for name in SETTINGS}
    return Collected(
        frames={
            name: accuracy_frame(name, rows, inputs.differences, inputs.cells)
            for name, rows in runs.items()
            if not rows.empty
        },
        metrics={METRICS[name]: accuracy_metrics(rows) for name, rows in runs.items()},
    )


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """Tables 1 and 2 as the paper lays them out, see `paper_blocks`, and for the page with one row per method."""
    found = {name: frames[name] for name in SETTINGS if name in frames}
    return Shown(
        tables={name: paper_layout(name, frame) for name, frame in found.items()},
        sections={name: Section(f"Table {name[-1]}", page_layout(name, frame)) for name, frame in found.items()},
    )


def accuracy_metrics(runs: pd.DataFrame) -> Metrics:
    """By data set, backbone and method: top1_mean, top1_std (not for one seed), the same of macro where classes have
    different numbers of test images, and per_seed (top-1); percent."""
    runs = runs.assign(macro=runs["macro"].where(_class_sizes_differ(runs, "top1")))

    def entry(rows: pd.DataFrame) -> dict[str, Any]:
        top1, macro = rows.set_index("seed")["top1"], rows["macro"].dropna()
        return (
            mean_and_std("top1", top1)
            | (mean_and_std("macro", macro) if len(macro) else {})
            | {"per_seed": per_seed(top1)}
        )

    return nested_metrics(runs, entry)


def accuracy_frame(
    name: str, runs: pd.DataFrame, differences: pd.DataFrame, cells: Mapping[str, int] = MappingProxyType({})
) -> pd.DataFrame:
    """One row per data set, backbone and method: method_label, source_network, mean, std, macro (the mean accuracy on
    each class, where that is not the mean because classes have different numbers of test images), seeds, cells (that
    its parameters were chosen of), the paper's paper_mean and paper_std, the difference to L2-SP with its confidence
    interval low and high, p and p_holm, and device.

    What does not exist is NaN, such as the deviation of one seed or the paper's value for a user's own data set.

    Args:
        name: `table1` or `table2`.
        runs: see `delta.report.results.read_results`.
        differences: see `delta.report.differences.run_differences`.
        cells: see `delta.report.inputs.Inputs.cells`; 0 for a method that it lacks.
    """
    groups = runs.groupby([*KEYS, "method_label", "source_network"], sort=False)
    means = {"mean": ("top1", "mean"), "std": ("top1", "std"), "macro": ("macro", "mean"), "seeds": ("top1", "size")}
    summary = groups.agg(**means).reset_index()
    summary["macro"] = summary["macro"].where(_class_sizes_differ(summary, "mean"))
    summary["cells"] = [cells.get(method, 0) for method in summary["method"]]
    numbers = paper.numbers(int(name[-1])).drop(columns="metric")
    summary = summary.merge(numbers.rename(columns={"mean": "paper_mean", "std": "paper_std"}), how="left", on=KEYS)
    summary = summary.merge(minus(differences, name, REFERENCE), how="left", on=KEYS)
    devices = runs.groupby(KEYS, sort=False)["device"].agg(lambda each: ", ".join(each.unique()))
    return summary.merge(devices.reset_index(), on=KEYS)[COLUMNS[name]]


def _class_sizes_differ(rows: pd.DataFrame, top1: str) -> pd.Series:
    """By row, whether any mean over classes is not that over images, in the column `top1`, on the row's data set."""
    differs = (rows["macro"] - rows[top1]).abs() > 1e-6
    return differs.groupby([rows["dataset"], rows["backbone"]]).transform("any")


def paper_layout(name: str, frame: pd.DataFrame) -> Table:
    """The table as the paper has it, see `paper_blocks`.

    Args:
        name: `table1` or `table2`.
        frame: see `accuracy_frame`.
    """
    legend = _paper_layout_legend(frame) + tuning_note(frame) + source_note(frame)
    return Table(TITLES[name], legend, paper_blocks(frame, _accuracy), frame, below_heading=f"minus {label(REFERENCE)}")


def page_layout(name: str, frame: pd.DataFrame) -> Table:
    """The table as the page has it: one row per data set and method, one block per backbone.

    Args:
        name: `table1` or `table2`.
        frame: see `accuracy_frame`.
    """
    difference = Column(f"Difference to {label(REFERENCE)} (points)", "number", marked=True)
    headings = ("Method", "Top-1 (%)", "Paper (%)")
    blocks = page_blocks(frame, headings, difference=(difference, _difference))
    legend = (IMPROVED_VIEW if name == "table2" else "") + _page_legend(frame) + tuning_note(frame) + source_note(frame)
    return Table(TITLES[name], legend, blocks, frame)


def _accuracy(row: Any) -> Cell:
    """The mean with that over classes and the paper's mean in brackets, and below it the difference to L2-SP."""
    difference = _difference(row)
    return Cell(
        format_mean(row.mean, row.std),
        row.mean,
        qualifier="" if pd.isna(row.macro) else f"macro {row.macro:.1f}",
        paper=format_mean(row.paper_mean, row.paper_std),
        below=difference if difference.text else None,
    )


def _difference(row: Any) -> Cell:
    """The difference to L2-SP with its interval; empty for L2-SP itself."""
    text = format_interval(row.difference, row.low, row.high)
    return Cell(text, sort_value(row.difference), mark=difference_mark(row))


def tuning_note(frame: pd.DataFrame) -> str:
    """Of how many cells the parameters of each method were chosen.

    Args:
        frame: see `accuracy_frame`.
    """
    methods = frame.drop_duplicates("method")
    by_cells = methods[methods["cells"] > 0].groupby("cells", sort=False)["method_label"].agg(", ".join)
    tuned = "; ".join(f"{labels} ({cells} cells)" for cells, labels in by_cells.items())
    fixed = ", ".join(methods.loc[methods["cells"] == 0, "method_label"])
    text = f" Parameters chosen by cross-validation on the training images: {tuned}." if tuned else ""
    return text + (f" Parameters of params.yaml, not tuned here: {fixed}." if fixed else "")


def _paper_layout_legend(frame: pd.DataFrame) -> str:
    seeds = int(frame["seeds"].max())
    text = "Top-1 of one seed." if seeds == 1 else f"Mean ± sample standard deviation over {seeds} seeds."
    text += f" {MACRO}" if frame["macro"].notna().any() else ""
    text += " In brackets the paper's value, where it has one." if frame["paper_mean"].notna().any() else ""
    if frame["difference"].notna().any():
        text += f" Below: the difference to {label(REFERENCE)}, paired by test image and seed"
        if frame["low"].notna().any():
            text += f", and its {INTERVAL}, with * where {HOLM}."
        else:
            text += f"; a confidence interval takes at least {LEAST_SEEDS} seeds."
    return text


def _page_legend(frame: pd.DataFrame) -> str:
    seeds = int(frame["seeds"].max())
    text = "Top-1 of one seed." if seeds == 1 else f"Mean top-1 ± sample standard deviation over {seeds} seeds."
    text += f" {MACRO}" if frame["macro"].notna().any() else ""
    if frame["difference"].isna().all():
        return f"{text} There is nothing to compare with {label(REFERENCE)}."
    text += f" The difference to {label(REFERENCE)} is paired by test image and seed"
    if frame["low"].isna().all():
        return f"{text}; {'one seed gives' if seeds == 1 else 'two seeds give'} no interval."
    return f"{text}, with its {INTERVAL}, marked ▲ or ▼ where {HOLM}."
