"""How many of each class's test images the methods get right, the class that is hardest for all of them first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from delta.report.inputs import Inputs
from delta.report.names import display
from delta.report.predictions import Predictions
from delta.report.results import KEYS
from delta.report.table import Block, Cell, Column, Row, Table, number_cell
from delta.report.tables.base import Collected, Section, Shown

ORDER = 5

TITLE = "Accuracy by class (%)"
COLUMNS = {"classes": ["dataset", "backbone", "class", "images", "method", "method_label", "seeds", "mean", "std"]}
HARDEST = 15  # classes of each data set that are shown at once
MORE = 30  # of those that are shown on demand
LEGEND = (
    "How many of a class's test images each method gets right, averaged over the seeds of Table 1; the runs of Table 2 "
    "are left out. The class that is hardest for all methods together comes first. Mind how few images a class has: "
    "where it has 20, one image is 5 points."
)


def collect(inputs: Inputs) -> Collected:
    """The accuracy of every method on every class."""
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
    """One row per data set, backbone, class with test images, and method: images, method_label, seeds, and mean and std
    (NaN for one seed) of the accuracy over the seeds, percent.

    Of a data set, the class with the lowest mean of all methods' means comes first.
    """
    tables = [_classes(each) for each in predictions]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS["classes"])


def _classes(predictions: Predictions) -> pd.DataFrame:
    images, rows = predictions.images_per_class, []
    counts = np.stack([np.bincount(predictions.targets, right, len(images)) for right in predictions.right])
    for place in np.flatnonzero(images):
        accuracies = 100 * counts[:, place] / images[place]
        for method, label in predictions.methods.items():
            seeds = pd.Series(accuracies[predictions.of(method)])
            keys = (predictions.dataset, predictions.backbone, predictions.classes[place], images[place])
            rows.append((*keys, method, label, len(seeds), seeds.mean(), seeds.std()))
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
    blocks = []
    for pair, block in frame.groupby(KEYS[:2], sort=False):
        labels, names = block["method_label"].unique(), block["class"].unique()
        rows = []
        for name in names[:classes]:
            group = block[block["class"] == name]
            means = group.set_index("method_label")["mean"].reindex(labels)
            cells = [number_cell(mean, 1) for mean in means]
            rows.append(Row([Cell(name), number_cell(group["images"].iloc[0], 0), *cells]))
        columns = [Column("Class"), *(Column(heading, "number") for heading in ["Test images", *labels])]
        title = ", ".join(map(display, pair))
        if len(names) > classes:
            title += f": the {classes} hardest of {len(names):,} classes"
        blocks.append(Block(columns, rows, title))
    return Table(TITLE, LEGEND, blocks, frame)
