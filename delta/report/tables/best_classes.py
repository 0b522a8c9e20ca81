"""Recall and precision of the recommended network on each class, with counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from delta.report.class_scores import ClassScores, class_scores
from delta.report.inputs import Inputs
from delta.report.names import display
from delta.report.predictions import Predictions
from delta.report.recommended import Recommended
from delta.report.table import Block, Cell, Column, Row, Table, number_cell
from delta.report.tables.base import Collected, Shown

ORDER = 0.2  # the page has it below the recommendation, see `delta.report.advice`

TITLE = "The recommended network, class by class"
SCORES = ["images", "said", "right", "recall", "precision"]
PARTS = {"test": "Test", "cross": "CV"}  # and what they are called
COLUMNS = {"best_classes": ["dataset", "class", *(f"{part}_{name}" for part in PARTS for name in SCORES)]}
SHOWN = 15  # classes of each data set
LEGEND = (
    "Recall: how many of a class's images the network takes for it. Precision: how many of the images that it takes "
    "for the class are of the class. The counts stand in brackets. Test: on test images. CV: cross-validated, on "
    "training images, each classified by a network that was not trained on it. The hardest class, on both together, "
    "comes first."
)
MACRO = (
    " The classes differ in size, so the last row is their mean (macro average), in which a small class weighs as much "
    "as a large one."
)


def collect(inputs: Inputs) -> Collected:
    """The recommended networks' recall and precision."""
    return Collected({"best_classes": best_class_frame(inputs.recommended)})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """The hardest classes; all are in the CSV file."""
    return Shown({"best_classes": best_class_table(frames["best_classes"])} if "best_classes" in frames else {})


def best_class_frame(recommended: Sequence[Recommended]) -> pd.DataFrame:
    """One row per data set and class, the hardest first. Of the test images (`test_…`) and of the training images, by
    cross-validation (`cross_…`): images of the class, said (how many images are taken for it), right, and recall and
    precision in percent, NaN of no images."""
    rows = []
    for each in recommended:
        scores = [_scores(each.tested), _scores(each.cross_validated)]
        columns = {"dataset": each.dataset, "class": each.tested.classes}
        for part, found in zip(PARTS, scores, strict=True):
            columns |= {f"{part}_{name}": getattr(found, name) for name in SCORES}
        images = sum(found.images for found in scores)
        table = pd.DataFrame(columns).assign(easiness=sum(found.right for found in scores) / images)
        rows.append(table.sort_values("easiness", kind="stable")[COLUMNS["best_classes"]])
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=COLUMNS["best_classes"])


def _scores(predictions: Predictions) -> ClassScores:
    return class_scores(predictions.targets, predictions.predicted[0], len(predictions.classes))


def best_class_table(frame: pd.DataFrame, classes: int | None = SHOWN) -> Table:
    """One row per class, one block per data set; last all images, and where the classes differ in size their mean.

    Args:
        frame: see `best_class_frame`.
        classes: how many of a data set; None for all.
    """
    headings = [f"{name} {score} (%)" for name in PARTS.values() for score in SCORES[3:]]
    columns = [Column("Class"), *(Column(heading, "number") for heading in headings)]
    blocks, legend = [], LEGEND
    for dataset, block in frame.groupby("dataset", sort=False):
        rows = [Row([Cell(row["class"]), *_cells(row)]) for _, row in block.head(classes or len(block)).iterrows()]
        rows.append(Row([Cell("(all images)"), *_cells(_of_all_images(block))]))
        if any(block[f"{part}_images"].nunique() > 1 for part in PARTS):
            means = [number_cell(block[f"{part}_{name}"].mean(), 1) for part in PARTS for name in SCORES[3:]]
            rows.append(Row([Cell("(mean of all classes)"), *means]))
            legend = LEGEND + MACRO
        title = display(dataset)
        if classes and len(block) > classes:
            title += f": the {classes} hardest of {len(block):,} classes"
        blocks.append(Block(columns, rows, title))
    return Table(TITLE, legend, blocks, frame)


def _of_all_images(block: pd.DataFrame) -> pd.Series:
    """The scores of all classes together; recall and precision are both the accuracy."""
    total = block[[f"{part}_{name}" for part in PARTS for name in SCORES[:3]]].sum().astype(float)
    for part in PARTS:
        for name in SCORES[3:]:
            total[f"{part}_{name}"] = 100 * total[f"{part}_right"] / total[f"{part}_images"]
    return total


def _cells(row: pd.Series) -> list[Cell]:
    cells = []
    for part in PARTS:
        for score, whole in (("recall", "images"), ("precision", "said")):
            share = row[f"{part}_{score}"]
            counts = f"({row[f'{part}_right']:.0f}/{row[f'{part}_{whole}']:.0f})"
            cells.append(Cell() if pd.isna(share) else Cell(f"{share:.1f} {counts}", float(share)))
    return cells
