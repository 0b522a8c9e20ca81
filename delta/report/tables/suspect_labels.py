"""The training images whose label may be wrong, by the recommended network's cross-validated predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from delta.report.inputs import Inputs
from delta.report.layouts import image_blocks
from delta.report.predictions import Predictions
from delta.report.recommended import Recommended
from delta.report.table import Cell, Table, number_cell
from delta.report.tables.base import Collected, Shown

ORDER = 0.4  # the page has it below the recommendation, see `delta.report.advice`

TITLE = "Training images whose label may be wrong"
TEXTS = ["path", "target", "predicted"]
NUMBERS = ["probability", "target_probability", "margin", "threshold", "found", "images"]
COLUMNS = {"suspect_labels": ["dataset", *TEXTS, *NUMBERS]}
DIGITS = 6
LISTED = 200  # images of each data set in the CSV file
SHOWN = 50  # of these in the other files
LEGEND = (
    "By confident learning (Northcutt, Jiang and Chuang, 2021), from predictions of networks that were not trained on "
    "the image: its most probable class is another one than its label, and gets at least the mean probability that the "
    "images labelled as that class give to it (its threshold). Those with the smallest margin, the label's probability "
    "minus the prediction's, come first. The less accurate the network, the more of these labels are right, and only "
    "the image is hard: look before you change one."
)


def collect(inputs: Inputs) -> Collected:
    """The images whose label may be wrong."""
    return Collected({"suspect_labels": suspect_frame(inputs.recommended)})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """The first of the images; the page shows them as pictures, too."""
    return Shown({"suspect_labels": image_table(frames["suspect_labels"])} if "suspect_labels" in frames else {})


def suspect_frame(recommended: Sequence[Recommended]) -> pd.DataFrame:
    """The training images whose label may be wrong, see `suspects`, at most LISTED of a data set: dataset,
    path, target (the label), predicted, probability (of that), target_probability, margin and threshold; they are so
    many of `found` of all `images`."""
    tables = []
    for each in recommended:
        found = suspects(each.cross_validated)
        found = found.assign(dataset=each.dataset, found=len(found), images=len(each.cross_validated.targets))
        tables.append(found.head(LISTED)[COLUMNS["suspect_labels"]])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS["suspect_labels"])


def suspects(predictions: Predictions) -> pd.DataFrame:
    """The images whose label may be wrong, by confident learning (Northcutt, Jiang and Chuang, "Confident
    learning: estimating uncertainty in dataset labels", 2021).

    With p(k; x) the probability of class k for image x by a network that was not trained on it, and ỹ the label, the
    threshold of class k is the mean self-confidence of the images with this label (equation 2 there),

        t_k = mean of p(k; x) over the x with ỹ = k

    An image counts as one of class k ≠ ỹ, off the diagonal of their confident joint, where p(k; x) ≥ t_k; of several
    such classes the most probable one counts. Here k is the most probable of all classes: an image of which another
    class is the most probable, but short of its threshold, is left out. The images are ranked by their normalised
    margin, p(ỹ; x) − max of p(k; x) over k ≠ ỹ, the smallest first.

    Args:
        predictions: of one run.

    Returns:
        A row per image: path, target, predicted, probability, target_probability, margin and threshold (that of
        `predicted`).
    """
    rows = predictions.rows()
    confidence = rows.groupby("target")["target_probability"].mean().round(DIGITS)  # as in files
    rows = rows.assign(
        margin=rows["target_probability"] - rows["probability"], threshold=rows["predicted"].map(confidence)
    )
    found = rows[(rows["predicted"] != rows["target"]) & (rows["probability"] >= rows["threshold"])]
    return found.sort_values("margin", kind="stable")


def image_table(frame: pd.DataFrame) -> Table:
    """The first SHOWN images of each data set: one row per image, one block per data set.

    Args:
        frame: see `suspect_frame`.
    """
    numbers = ["Its probability (%)", "Its threshold (%)", "The label's (%)", "Margin"]
    headings = ["Image", "Label", "Prediction"], numbers
    blocks = image_blocks(frame, ["dataset"], SHOWN, headings, _numbers, how_many)
    return Table(TITLE, LEGEND, blocks, frame, DIGITS)


def _numbers(row: Any) -> list[Cell]:
    shares = [number_cell(100 * share, 1) for share in (row.probability, row.threshold, row.target_probability)]
    return [*shares, Cell(f"{row.margin:.2f}".replace("-", "−"), row.margin)]


def how_many(rows: pd.DataFrame) -> str:
    """How many labels may be wrong.

    Args:
        rows: of one data set, see `suspect_frame`.
    """
    first = rows.iloc[0]
    return f"{first['found']:,} of {first['images']:,} labels may be wrong"
