"""Which network each data set's training images recommend, and how the candidates compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from delta.analysis.recommendation import interval
from delta.report.inputs import Inputs
from delta.report.names import display
from delta.report.recommended import Recommended
from delta.report.table import Block, Cell, Column, Row, Table, number_cell
from delta.report.tables.base import Collected, Shown

ORDER = 0.1  # the page has them in its first section, see `delta.report.advice`

TITLE = "The recommended network of each data set"
CANDIDATES = "The candidates"
NETWORK = ["dataset", "backbone", "method", "method_label", "alpha", "beta", "c"]
CROSS = ["top1", "low", "high", "macro", "images", "folds", "candidates", "sizes_differ"]
TEST = ["test_top1", "test_low", "test_high", "test_macro", "test_right", "test_images"]
PROBABILITIES = ["temperature", "calibration_error_before", "calibration_error", "threshold", "kept"]
COLUMNS = {
    "recommendation": [*NETWORK, *CROSS, *TEST, *PROBABILITIES, "reason", "folder"],
    "candidates": [*NETWORK, "top1", "macro", "folds", "of_folds", "sizes_differ"],
}
DIGITS = 8  # of a small α
LEGEND = (
    "The network in runs/<data set>/best. Its accuracy by cross-validation on training images chose it among the "
    "candidates, and is therefore a little too high; the test images chose nothing. In brackets: 95 % confidence "
    "intervals over the images. The calibration error (expected calibration error) is on cross-validated images, "
    "after and before dividing the logits by the temperature. With `--unknown` an image is none of the "
    "classes where the cosine of its features and the nearest class mean is below the last column."
)
CANDIDATES_LEGEND = (
    "Accuracy by cross-validation on training images: every image is classified by a network that was not trained on "
    "it. A candidate that fell behind was dropped: its accuracy is that of the folds computed until then, and is not "
    "quite comparable."
)
MACRO = " Macro is the mean of the accuracies on each class, which counts a small class as much as a large one."


def collect(inputs: Inputs) -> Collected:
    """The recommended networks and the candidates."""
    return Collected(
        {
            "recommendation": recommendation_frame(inputs.recommended),
            "candidates": candidate_frame(inputs.recommended),
        }
    )


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """Both as tables; on the page `delta.report.advice` shows them."""
    tables = {"recommendation": recommendation_table, "candidates": candidate_table}
    return Shown({name: table(frames[name]) for name, table in tables.items() if name in frames})


def recommendation_frame(recommended: Sequence[Recommended]) -> pd.DataFrame:
    """One row per data set that has a recommendation:

    - dataset, backbone, method, method_label, alpha, beta, c (NaN where the method has none) of the network;
    - top1 with the interval low to high, and macro, the mean over classes: percent, by cross-validation on so many
      images in so many folds, the best of so many candidates; whether the sizes of the classes differ;
    - the same on test images: test_right of test_images;
    - temperature, expected calibration errors in percent, and when an image is unknown, see
      `delta.analysis.recommendation`;
    - reason, and folder, which is the network's.
    """
    rows = []
    for each in recommended:
        found, tested = each.recommendation, each.tested
        right, images = int(tested.right.sum()), len(tested.targets)
        winner = found.winner
        recalls = pd.Series(tested.right[0]).groupby(tested.targets).mean()
        differ = each.cross_validated.sizes_differ or tested.sizes_differ
        network = (each.dataset, winner.backbone, winner.method, winner.label, winner.alpha, winner.beta, winner.c)
        cross = (winner.top1, found.low, found.high, winner.macro, found.images, found.folds, len(found.candidates))
        test = (100 * right / images, *interval(right, images), 100 * recalls.mean(), right, images)
        errors = (found.temperature, found.calibration_error_before, found.calibration_error)
        threshold, folder = (found.unknown.threshold, found.unknown.kept), each.folder.as_posix()
        rows.append((*network, *cross, differ, *test, *errors, *threshold, found.reason, folder))
    return pd.DataFrame(rows, columns=COLUMNS["recommendation"])


def candidate_frame(recommended: Sequence[Recommended]) -> pd.DataFrame:
    """One row per data set and candidate, the recommended one first, with columns as `recommendation_frame` has them;
    folds are those that were computed, of_folds all."""
    rows = []
    for each in recommended:
        of_folds, differ = each.recommendation.folds, each.cross_validated.sizes_differ
        for one in each.recommendation.candidates:
            network = (each.dataset, one.backbone, one.method, one.label, one.alpha, one.beta, one.c)
            rows.append((*network, one.top1, one.macro, one.folds, of_folds, differ))
    return pd.DataFrame(rows, columns=COLUMNS["candidates"])


def recommendation_table(frame: pd.DataFrame) -> Table:
    """One row per data set.

    Args:
        frame: see `recommendation_frame`.
    """
    differ = bool(frame["sizes_differ"].any())
    mean = ["Macro (%)"] * differ
    headings = ["Cross-validated (%)", *mean, "Test images (%)", *mean]
    headings += ["Calibration error (%)", "before", "Temperature", "Unknown below"]
    columns = [Column("Data set"), Column("Network"), *(Column(heading, "number") for heading in headings)]
    rows = []
    for row in frame.itertuples():
        macro, test_macro = ([number_cell(mean, 1)] * differ for mean in (row.macro, row.test_macro))
        cells = [
            *map(Cell, (display(row.dataset), network(row))),
            Cell(with_interval(row.top1, row.low, row.high), row.top1),
            *macro,
            Cell(with_interval(row.test_top1, row.test_low, row.test_high), row.test_top1),
            *test_macro,
            *(number_cell(error, 1) for error in (row.calibration_error, row.calibration_error_before)),
            number_cell(row.temperature, 2),
            number_cell(row.threshold, 3),
        ]
        rows.append(Row(cells))
    return Table(TITLE, LEGEND, [Block(columns, rows)], frame, DIGITS)


def candidate_table(frame: pd.DataFrame) -> Table:
    """One row per candidate, one block per data set.

    Args:
        frame: see `candidate_frame`.
    """
    blocks = []
    for dataset, block in frame.groupby("dataset", sort=False):
        differ = bool(block["sizes_differ"].any())
        headings = ["Accuracy (%)", *["Macro (%)"] * differ]
        columns = [Column("Method"), Column("Network"), Column("Settings")]
        columns += [*(Column(heading, "number") for heading in headings), Column("Folds")]
        rows = []
        for place, row in enumerate(block.itertuples()):
            dropped = ", dropped" if row.folds < row.of_folds else ""
            cells = [
                Cell(row.method_label, qualifier="" if place else "recommended"),
                *map(Cell, (display(row.backbone), settings(row))),
                number_cell(row.top1, 1),
                *[number_cell(row.macro, 1)] * differ,
                Cell(f"{row.folds} of {row.of_folds}{dropped}"),
            ]
            rows.append(Row(cells))
        blocks.append(Block(columns, rows, display(dataset)))
    legend = CANDIDATES_LEGEND + (MACRO if frame["sizes_differ"].any() else "")
    return Table(CANDIDATES, legend, blocks, frame, DIGITS)


def network(row: Any) -> str:
    """The recommended network in words: "DELTA on ResNet-101, α = 0.01, β = 0.01"."""
    return ", ".join(filter(None, [f"{row.method_label} on {display(row.backbone)}", settings(row)]))


def settings(row: Any) -> str:
    """A candidate's parameters: "α = 0.01, β = 0.01" or "C = 1"; empty where it has none."""
    values = {"α": row.alpha, "β": row.beta, "C": row.c}
    return ", ".join(f"{name} = {value:g}" for name, value in values.items() if pd.notna(value))


def with_interval(value: float, low: float, high: float) -> str:
    """An accuracy with its interval: "92.3 [88.7, 94.9]"."""
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"
