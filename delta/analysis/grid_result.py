"""What the grid search found: its cells, and the best of them (section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from delta.io.errors import UserError


def read_grid(files: Iterable[Path]) -> pd.DataFrame:
    """The folds' rows one below the other, as `delta.analysis.grid.cross_validate` returns them.

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


def best_pair(rows: pd.DataFrame) -> tuple[float, float]:
    """The alpha and beta of the best cell.

    Args:
        rows: the grid of one data set and backbone, see `read_grid`.

    Raises:
        UserError: every cell failed.
    """
    best = best_cell(cells(rows))
    if best is None:
        raise UserError("the grid search has no winner, as every cell diverged: lower the learning rate")
    return float(best["alpha"]), float(best["beta"])
