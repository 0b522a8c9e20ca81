"""Recall and precision of each class, the class that is hardest for all methods first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from delta.report.class_scores import class_scores
from delta.report.inputs import Inputs
from delta.report.names import display
from delta.report.predictions import Predictions
from delta.report.results import KEYS
from delta.report.table import Block, Cell, Column, Row, Table, number_cell
from delta.report.tables.base import Collected, Section, Shown

ORDER = 5

TITLE = "Recall and precision by class (%)"
NUMBERS = ["seeds", "mean", "std", "said", "precision"]
COLUMNS = {"classes": ["dataset", "backbone", "class", "images", "method", "method_label", *NUMBERS]}
HARDEST = 15  # classes of each data set that are shown at once
MORE = 30  # of those that are shown on demand
LEGEND = (
    "The upper number is the recall: how many of a class's test images each method gets right. The lower one is the "
    "precision: how many of the images that it takes for the class are of the class; there is none where it takes none "
    "for it. Both are averaged over the seeds of Table 1; the runs of Table 2 are left out. The class that is hardest "
    "for all methods together comes first. Mind how few images a class has: where it has 20, one image is 5 points."
)
MACRO = (
    " Where the classes differ in size, the last rows are the accuracy on all images and the mean over all classes "
    "(macro average), in which a small class weighs as much as a large one."
)


def collect(inputs: Inputs) -> Collected:
    """Recall and precision of every method on every class."""
    return Collected({"classes": class_frame(inputs.predictions)})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """The hardest classes; on the page, more of them on demand."""
    if "classes" not in frames:
        return Shown({})
    frame = frames["classes"]
    table, more = class_table(frame, HARDEST), class_table(frame, MORE)
    is_longer = sum(len(block.rows) for block in more.blocks) > sum(len(block.rows) for block in table.blocks)
    summary = f"Up to {MORE} classes of each data set; all are in reports/tables/classes.csv."
    return Shown({"classes": table}, {"classes": Section("Classes", table, more if is_longer else None, summary)})


def class_frame(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """One row per data set, backbone, class with test images, and method: images, method_label, seeds; mean and std
    (NaN for one seed) of the recall over the seeds, percent; said, the mean number of test images that are taken for
    the class, and precision, its mean over the seeds in which there are any, percent.

    Of a data set, the class with the lowest mean of all methods' mean recalls comes first.
    """
    tables = [_classes(each) for each in predictions]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS["classes"])


def _classes(predictions: Predictions) -> pd.DataFrame:
    images, rows = predictions.images_per_class, []
    scores = [class_scores(predictions.targets, predicted, len(images)) for predicted in predictions.predicted]
    recall, said, precision = (
        np.stack([getattr(run, name) for run in scores]) for name in ("recall", "said", "precision")
    )
    for place in np.flatnonzero(images):
        for method, label in predictions.methods.items():
            runs = predictions.of(method)
            seeds, precisions = pd.Series(recall[runs, place]), pd.Series(precision[runs, place])
            keys = (predictions.dataset, predictions.backbone, predictions.classes[place], images[place])
            numbers = (len(seeds), seeds.mean(), seeds.std(), said[runs, place].mean(), precisions.mean())
            rows.append((*keys, method, label, *numbers))
    table = pd.DataFrame(rows, columns=COLUMNS["classes"])
    hardness = table.groupby("class")["mean"].transform("mean").round(9)
    return table.assign(hardness=hardness).sort_values("hardness", kind="stable").drop(columns="hardness")


def class_table(frame: pd.DataFrame, classes: int) -> Table:
    """The first classes of each data set: one row per class, one column per method, one block per data set and
    backbone.

    Args:
        frame: see `class_frame`.
        classes: how many.
    """
    blocks, legend = [], LEGEND
    for pair, block in frame.groupby(KEYS[:2], sort=False):
        labels, names = block["method_label"].unique(), block["class"].unique()
        rows = [_row(name, block[block["class"] == name], labels) for name in names[:classes]]
        if block["images"].nunique() > 1:
            rows += _means(block, labels)
            legend = LEGEND + MACRO
        columns = [Column("Class"), *(Column(heading, "number") for heading in ["Test images", *labels])]
        title = ", ".join(map(display, pair))
        if len(names) > classes:
            title += f": the {classes} hardest of {len(names):,} classes"
        blocks.append(Block(columns, rows, title))
    return Table(TITLE, legend, blocks, frame, below_heading="precision")


def _row(name: str, rows: pd.DataFrame, labels: Sequence[str]) -> Row:
    found = rows.set_index("method_label").reindex(labels)
    cells = [_cell(*values) for values in zip(found["mean"], found["precision"], strict=True)]
    return Row([Cell(name), number_cell(rows["images"].iloc[0], 0), *cells])


def _means(block: pd.DataFrame, labels: Sequence[str]) -> list[Row]:
    """The accuracy on all images, and the means over all classes."""
    methods = [block[block["method_label"] == label] for label in labels]
    images = number_cell(methods[0]["images"].sum(), 0)
    top1 = [number_cell(np.average(rows["mean"], weights=rows["images"]), 1) for rows in methods]
    macro = [_cell(rows["mean"].mean(), rows["precision"].mean()) for rows in methods]
    return [Row([Cell("(all images)"), images, *top1]), Row([Cell("(mean of all classes)"), images, *macro])]


def _cell(recall: float, precision: float) -> Cell:
    below = None if pd.isna(precision) else number_cell(precision, 1)
    return replace(number_cell(recall, 1), below=below)
