"""What the grid search chose for each method whose section asks for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from delta.analysis.grid_result import best_cell, cells
from delta.methods.base import Method
from delta.report.inputs import Inputs
from delta.report.names import display, label
from delta.report.results import KEYS
from delta.report.table import Block, Cell, Column, Row, Table, number_cell
from delta.report.tables.base import Collected, Section, Shown

ORDER = 6.5

TITLE = "What was tuned"
COLUMNS = {"tuning": [*KEYS, "method_label", "cells", "failed", "top1", "values"]}
LEGEND = (
    "How many combinations of its parameters each method was trained with in cross-validation on the training images, "
    "how many of them diverged, and the one with the highest accuracy, which its runs take. Methods that are not here "
    "have the parameters of params.yaml."
)


def collect(inputs: Inputs) -> Collected:
    """One row per data set, backbone and method with `select: grid`."""
    table = cells(inputs.grid)
    chosen = [name for name in inputs.searched if inputs.params.method(name).select == "grid"]
    rows = []
    for (dataset, backbone, method), group in table.groupby(KEYS, sort=False):
        best = best_cell(group)
        if method in chosen and best is not None:
            failed = int((group["failed"] > 0).sum())
            values = as_in_params(inputs.params.method(method), best["values"])
            rows.append((dataset, backbone, method, label(method), len(group), failed, best["mean"], values))
    frame = pd.DataFrame(rows, columns=COLUMNS["tuning"])
    order = frame["method"].map({name: place for place, name in enumerate(inputs.params.compared)})
    return Collected({"tuning": frame.iloc[order.argsort(kind="stable")] if len(frame) else frame})


def as_in_params(method: Method, values: str) -> str:
    """A cell's values as JSON, under their names in params.yaml: λ is `alpha` to the methods, and `lambda_` there."""
    names = {name: field.alias or name for name, field in type(method).model_fields.items()}
    return json.dumps({names[name]: value for name, value in json.loads(values).items()})


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """One table."""
    if "tuning" not in frames:
        return Shown({})
    table = tuning_table(frames["tuning"])
    return Shown({"tuning": table}, {"tuning": Section("Tuning", table)})


def tuning_table(frame: pd.DataFrame) -> Table:
    """One row per data set and method, one block per backbone.

    Args:
        frame: see `collect`.
    """
    numbers = [Column(heading, "number") for heading in ("Cells", "Diverged", "Cross-validated top-1 (%)")]
    columns, blocks = [Column("Data set"), Column("Method"), *numbers, Column("Chosen")], []
    for backbone, block in frame.groupby("backbone", sort=False):
        rows = [
            Row([Cell(display(dataset)), Cell(row.method_label), *_cells(row)], starts_group=number == 0)
            for dataset, group in block.groupby("dataset", sort=False)
            for number, row in enumerate(group.itertuples())
        ]
        blocks.append(Block(columns, rows, display(backbone)))
    return Table(TITLE, LEGEND, blocks, frame)


def _cells(row: Any) -> list[Cell]:
    chosen = ", ".join(f"{name} {value}" for name, value in json.loads(row.values).items())
    return [number_cell(row.cells, 0), number_cell(row.failed, 0), number_cell(row.top1, 1), Cell(chosen)]
