"""The pairs of classes that are taken for each other most often."""

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

ORDER = 5.1

TITLE = "The classes that are confused most often (%)"
COLUMNS = {"confusions": ["dataset", "backbone", "target", "predicted", "images", "method", "method_label", "share"]}
LISTED = 50  # pairs of each data set in the CSV file
SHOWN = 10
LEGEND = (
    "Of the test images with the label on the left, how many a method's networks take for the class beside it, over "
    "all seeds of Table 1. The pairs that the methods together confuse most often come first."
)


def collect(inputs: Inputs) -> Collected:
    """The most confused pairs, and how often each method confuses them."""
    return Collected({"confusions": confusion_frame(inputs.predictions)})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """The first of the pairs."""
    if "confusions" not in frames:
        return Shown({})
    table = confusion_table(frames["confusions"])
    return Shown({"confusions": table}, {"confusions": Section("Confusions", table)})


def confusion_frame(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """One row per data set, backbone, pair of classes and method: target (the label), predicted, images (the class's
    test images), method_label and share, the percentage of these images that the method takes for `predicted`.

    Of a data set, the LISTED pairs with the largest mean share of all methods, largest first, pairs of other classes.
    """
    tables = [_confusions(each) for each in predictions]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS["confusions"])


def _confusions(predictions: Predictions) -> pd.DataFrame:
    images, shares, rows = predictions.images_per_class, {}, []
    for method in predictions.methods:
        counts = predictions.confusion(method)
        np.fill_diagonal(counts, 0)
        shares[method] = 100 * counts / np.maximum(images * predictions.of(method).sum(), 1)[:, None]
    mean = np.mean(list(shares.values()), axis=0).round(9)
    order = np.argsort(-mean, axis=None, kind="stable")[:LISTED]
    for target, predicted in zip(*np.unravel_index(order, mean.shape), strict=True):
        if mean[target, predicted] == 0:
            break
        names = (predictions.classes[target], predictions.classes[predicted])
        keys = (predictions.dataset, predictions.backbone, *names, images[target])
        for method, label in predictions.methods.items():
            rows.append((*keys, method, label, shares[method][target, predicted]))
    return pd.DataFrame(rows, columns=COLUMNS["confusions"])


def confusion_table(frame: pd.DataFrame) -> Table:
    """The first SHOWN pairs of each data set: one row per pair, one column per method, one block per data set and
    backbone.

    Args:
        frame: see `confusion_frame`.
    """
    blocks = []
    for pair, block in frame.groupby(KEYS[:2], sort=False):
        labels, rows = block["method_label"].unique(), []
        for (target, predicted), group in list(block.groupby(["target", "predicted"], sort=False))[:SHOWN]:
            shares = group.set_index("method_label")["share"].reindex(labels)
            cells = [number_cell(group["images"].iloc[0], 0), *(number_cell(share, 1) for share in shares)]
            rows.append(Row([Cell(target), Cell(predicted), *cells]))
        columns = [Column("Label"), Column("taken for")]
        columns += [Column(heading, "number") for heading in ["Test images", *labels]]
        blocks.append(Block(columns, rows, ", ".join(map(display, pair))))
    return Table(TITLE, LEGEND, blocks, frame)


def matrix_caption(classes: pd.DataFrame, confusions: pd.DataFrame | None, shown: int) -> str:
    """The caption of the confusion matrices of one data set and backbone.

    Args:
        classes: its rows of `reports/tables/classes.csv`.
        confusions: its rows of `reports/tables/confusions.csv`, None for none.
        shown: how many classes a matrix has at most.
    """
    count = classes["class"].nunique()
    text = (
        "A row is a class, a column what the networks say, the grey the share of the class's test images, over all "
        "seeds of Table 1; what is right lies on the diagonal."
    )
    if count > shown:
        text += f" Of {count:,} classes the {shown} hardest are drawn; the last column is all the others."
    if confusions is None or confusions.empty:
        return text
    means = confusions.groupby(["target", "predicted"], sort=False)["share"].mean()
    parts = [f"{target} for {predicted} ({share:.0f} %)" for (target, predicted), share in means.head(3).items()]
    return f"{text} Most often taken for another, as the mean of the methods: {'; '.join(parts)}."
