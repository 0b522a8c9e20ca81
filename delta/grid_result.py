"""What the grid search found: cells, the best of them, and the pair that a method takes from it (section 4.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import inf
from pathlib import Path

import pandas as pd

from delta.errors import UserError
from delta.regularizers import Method


def read_grid(files: Iterable[Path]) -> pd.DataFrame:
    """The folds' rows one below the other, as `delta.grid.cross_validate` returns them.

    Raises:
        UserError: a file cannot be read.
    """
    kinds = {"dataset": str, "backbone": str, "alpha": float, "beta": float, "fold": int, "top1": float, "problem": str}
    tables = []
    for file in files:
        try:
            table = pd.read_csv(file, dtype=kinds)[list(kinds)]
            if table[["dataset", "backbone", "alpha", "beta"]].isna().any(axis=None):
                raise ValueError("a cell has no name, alpha or beta")
            tables.append(table)
        except (OSError, ValueError, KeyError, OverflowError) as error:
            raise UserError(f"{file}: not a result of the grid search ({error}): run `dvc repro`") from None
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(kinds))


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """The grid's cells: dataset, backbone, alpha, beta, mean and std of top-1 over the folds, folds, failed.

    Args:
        rows: a row a cell and fold, see `read_grid`.

    Returns:
        Percent; a cell that diverged on any fold (`failed` counts them) has neither mean nor std.
    """
    groups = rows.assign(failed=rows["top1"].isna()).groupby(["dataset", "backbone", "alpha", "beta"])
    table = groups.agg(mean=("top1", "mean"), std=("top1", "std"), folds=("fold", "size"), failed=("failed", "sum"))
    table.loc[table["failed"] > 0, ["mean", "std"]] = float("nan")
    return table.reset_index()


def best_cell(table: pd.DataFrame) -> pd.Series | None:
    """The cell with the largest mean, of equals the one with the smaller alpha, then beta; None if every cell failed.

    Args:
        table: the `cells` of one data set and backbone.
    """
    left = table.dropna(subset="mean").assign(mean=lambda kept: kept["mean"].round(9))
    if left.empty:
        return None
    return left.sort_values(["mean", "alpha", "beta"], ascending=[False, True, True]).iloc[0]


def write_selection(path: Path, rows: pd.DataFrame | None) -> None:
    """Write the pair that replaces a method's alpha and beta, as JSON; nothing replaces them without `rows`.

    Args:
        rows: the grid of one data set and backbone, see `read_grid`.

    Raises:
        UserError: every cell failed.
    """
    selected = {}
    if rows is not None:
        best = best_cell(cells(rows))
        if best is None:
            raise UserError("the grid search has no winner, as every cell diverged: lower the learning rate")
        selected = {"alpha": float(best["alpha"]), "beta": float(best["beta"])}
    path.write_text(json.dumps(selected) + "\n", encoding="utf-8")


def with_selection(method: Method, path: Path) -> Method:
    """The method with the alpha and beta that `write_selection` wrote, or as it is.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        selected = json.loads(path.read_text(encoding="utf-8"))
        if selected != {}:
            selected = {name: selected[name] for name in ("alpha", "beta")}
            if not all(0 <= value < inf for value in selected.values()):
                raise ValueError("they are no numbers from 0 on")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: no selected alpha and beta ({error}): run `dvc repro`") from None
    return method.model_copy(update=selected)
