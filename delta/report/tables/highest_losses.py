"""The test images on which the recommended network has the highest loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from delta.report.inputs import Inputs
from delta.report.layouts import image_blocks
from delta.report.predictions import Predictions
from delta.report.recommended import Recommended
from delta.report.table import Cell, Table, number_cell
from delta.report.tables.base import Collected, Shown

ORDER = 0.3  # the page has it below the recommendation, see `delta.report.advice`

TITLE = "Test images with the highest loss"
TEXTS = ["path", "target", "predicted"]
COLUMNS = {
    "highest_losses": ["dataset", *TEXTS, "probability", "target_probability", "loss", "found", "images"],
}
DIGITS = 6
LISTED = 200  # images of each data set in the CSV file
SHOWN = 50  # of these in the other files
LEGEND = (
    "Test images to whose label the recommended network gives a probability below one half, the lowest first: the loss "
    "is −ln of that probability. Look at them before you trust a label or the network."
)
_LEAST = 5e-7  # of a probability: files have six digits


def collect(inputs: Inputs) -> Collected:
    """The images with the highest loss."""
    return Collected({"highest_losses": loss_frame(inputs.recommended)})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """The first of the images; the page shows them as pictures, too."""
    return Shown({"highest_losses": image_table(frames["highest_losses"])} if "highest_losses" in frames else {})


def loss_frame(recommended: Sequence[Recommended]) -> pd.DataFrame:
    """The test images to whose label a recommended network gives less than one half, at most LISTED of a data set, the
    highest loss first: dataset, path, target (the label), predicted, probability (of that), target_probability and
    loss; they are so many of `found` of all `images`."""
    tables = [_losses(each.dataset, each.tested) for each in recommended]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS["highest_losses"])


def _losses(dataset: str, tested: Predictions) -> pd.DataFrame:
    rows = tested.rows().assign(dataset=dataset)
    rows = rows.assign(loss=-np.log(rows["target_probability"].clip(lower=_LEAST)))
    found = rows[rows["target_probability"] < 0.5]
    ranked = found.sort_values(["target_probability", "probability"], ascending=[True, False], kind="stable")
    return ranked.assign(found=len(found), images=len(rows)).head(LISTED)[COLUMNS["highest_losses"]]


def image_table(frame: pd.DataFrame) -> Table:
    """The first SHOWN images of each data set: one row per image, one block per data set.

    Args:
        frame: see `loss_frame`.
    """
    headings = ["Image", "Label", "Prediction"], ["Its probability (%)", "The label's (%)", "Loss"]
    blocks = image_blocks(frame, ["dataset"], SHOWN, headings, _numbers, how_many)
    return Table(TITLE, LEGEND, blocks, frame, DIGITS)


def _numbers(row: Any) -> list[Cell]:
    shares = [number_cell(100 * share, 1) for share in (row.probability, row.target_probability)]
    return [*shares, number_cell(row.loss, 2)]


def how_many(rows: pd.DataFrame) -> str:
    """How many images have a high loss.

    Args:
        rows: of one data set, see `loss_frame`.
    """
    first = rows.iloc[0]
    verb = "is" if first["found"] == 1 else "are"
    return f"{first['found']:,} of {first['images']:,} test images {verb} below one half"
