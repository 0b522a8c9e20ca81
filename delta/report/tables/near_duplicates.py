"""A user's photographs that are nearly the same, and on which side of the split they are."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from delta.report.inputs import Inputs
from delta.report.names import display
from delta.report.table import Block, Cell, Column, Row, Table
from delta.report.tables.base import Collected, Section, Shown

ORDER = 5.3

TITLE = "Photographs that are nearly the same"
COLUMNS = {"near_duplicates": ["dataset", "group", "path", "label", "split"]}
SHOWN = 40  # photographs of each data set; all are in the CSV file
USES = {"train": "training", "test": "test", "": "not used"}
LEGEND = (
    "Copies of a photograph, and photographs that look the same to a perceptual hash, also after compressing, resizing "
    "or cutting off a little. If the split is drawn here, a group stays on one side: where one of it is a test image, "
    "the others are not used. A group with several labels, which comes first, has a wrong one, or shows both classes."
)


def collect(inputs: Inputs) -> Collected:
    """The near-duplicates of every data set."""
    return Collected({"near_duplicates": inputs.near_duplicates})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """The groups, one row per photograph, one block per data set."""
    if "near_duplicates" not in frames:
        return Shown({})
    frame = frames["near_duplicates"].fillna("")
    columns = [Column(heading) for heading in ("Group", "Photograph", "Label", "Used for")]
    blocks = []
    for dataset, rows in frame.groupby("dataset", sort=False):
        labels, splits = (rows.groupby("group")[key].transform("nunique") for key in ("label", "split"))
        first = rows.assign(labels=labels).sort_values("labels", ascending=False, kind="stable").head(SHOWN)
        cells = [
            Row([*map(Cell, (str(row.group), row.path, row.label, USES[row.split]))]) for row in first.itertuples()
        ]
        blocks.append(Block(columns, cells, f"{display(dataset)}: {_how_many(rows)}"))
    table = Table(TITLE, LEGEND, blocks, frame)
    return Shown({"near_duplicates": table}, {"near_duplicates": Section("Near-duplicates", table)})


def _how_many(rows: pd.DataFrame) -> str:
    groups = rows.groupby("group")
    several = (groups["label"].nunique() > 1).sum()
    both = groups["split"].agg(lambda each: {"train", "test"} <= set(each)).sum()
    found = f"{len(rows):,} photographs in {groups.ngroups:,} {'group' if groups.ngroups == 1 else 'groups'}"
    return f"{found}, {several:,} of several labels" + (f", {both:,} in training and test" if both else "")
