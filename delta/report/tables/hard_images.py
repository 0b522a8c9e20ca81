"""The test images that all runs get wrong: what a network cannot learn from these photographs, or a wrong label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from delta.report.inputs import Inputs
from delta.report.layouts import image_blocks
from delta.report.predictions import Predictions
from delta.report.results import KEYS
from delta.report.table import Cell, Table, number_cell
from delta.report.tables.base import Collected, Shown

ORDER = 5.2

TITLE = "Photographs that all methods get wrong"
TEXTS = ["path", "target", "predicted"]
COUNTS = ["predicted_runs", "wrong_runs", "runs", "always_wrong", "images"]
COLUMNS = {"hard_images": ["dataset", "backbone", *TEXTS, *COUNTS, "probability", "target_probability"]}
LISTED = 200  # images of each data set in the CSV file
SHOWN = 20  # of these in the other files
LEGEND = (
    "Test images that every run of Table 1 gets wrong, of all methods and seeds; where there is none, those that more "
    "than half of the runs get wrong. Those to whose label the networks give the lowest probability come first. An "
    "image that all runs get wrong with a high probability of another class may carry the wrong label, or show both "
    "classes."
)


def collect(inputs: Inputs) -> Collected:
    """The images that all runs, or most of them, get wrong."""
    return Collected({"hard_images": hard_image_frame(inputs.predictions)})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """The first of the images; the page shows them as pictures, see `delta.report.photographs`."""
    return Shown({"hard_images": hard_image_table(frames["hard_images"])} if "hard_images" in frames else {})


def hard_image_frame(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """The images of each data set and backbone that all runs get wrong, or if there is none, those that more than half
    of the runs get wrong; at most LISTED, one row per image:

    - path, target (the label);
    - predicted, the most frequent wrong class, and predicted_runs, how many runs say so;
    - wrong_runs of how many runs;
    - always_wrong of how many test images: those of the data set that all runs get wrong;
    - probability: that of `predicted`, mean over the runs that say so; target_probability: the label's, over all runs.

    The image that most runs get wrong comes first, of equal ones the one with the lowest target_probability.
    """
    tables = [_hard_images(each) for each in predictions]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS["hard_images"])


def _hard_images(predictions: Predictions) -> pd.DataFrame:
    wrong = ~predictions.right
    runs, counts, label = len(wrong), wrong.sum(0), predictions.target_probability.mean(0)
    always = counts == runs
    chosen = np.flatnonzero(always if always.any() else counts > runs / 2)
    ranked = chosen[np.lexsort((label[chosen], -counts[chosen]))][:LISTED]
    rows = []
    for image in ranked:
        said = predictions.predicted[wrong[:, image], image]
        predicted = np.bincount(said).argmax()
        says_so = predictions.predicted[:, image] == predicted
        names = [predictions.classes[place] for place in (predictions.targets[image], predicted)]
        numbers = (says_so.sum(), counts[image], runs, always.sum(), len(counts))
        probability = predictions.probability[says_so, image].mean()
        pair = (predictions.dataset, predictions.backbone)
        rows.append((*pair, predictions.paths[image], *names, *numbers, probability, label[image]))
    return pd.DataFrame(rows, columns=COLUMNS["hard_images"])


def hard_image_table(frame: pd.DataFrame) -> Table:
    """The first SHOWN images of each data set: one row per image, one block per data set and backbone.

    Args:
        frame: see `hard_image_frame`.
    """
    numbers = ["Runs that say so", "Wrong runs", "Their probability (%)", "The label's (%)"]
    headings = ["Image", "Label", "Most runs say"], numbers
    blocks = image_blocks(frame, KEYS[:2], SHOWN, headings, _numbers, how_many)
    return Table(TITLE, LEGEND, blocks, frame)


def _numbers(row: Any) -> list[Cell]:
    said, wrong = (Cell(f"{count} of {row.runs}", count) for count in (row.predicted_runs, row.wrong_runs))
    return [said, wrong, *(number_cell(100 * share, 1) for share in (row.probability, row.target_probability))]


def how_many(rows: pd.DataFrame) -> str:
    """How many test images all runs get wrong.

    Args:
        rows: of one data set and backbone, see `hard_image_frame`.
    """
    first = rows.iloc[0]
    if not first["always_wrong"]:
        return f"none of {first['images']:,} test images is wrong in all {first['runs']} runs"
    noun = "is" if first["always_wrong"] == 1 else "are"
    return f"{first['always_wrong']:,} of {first['images']:,} test images {noun} wrong in all {first['runs']} runs"
