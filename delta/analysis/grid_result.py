"""The results of the grid search: its cells, and the best of them (section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from delta.io.errors import UserError


def read_grid(files: Iterable[Path]) -> pd.DataFrame:
    """Read and concatenate the tables of `delta.analysis.grid.cross_validate`, one file per fold.

    Raises:
        UserError: a file cannot be read.
    """
    dtypes = {
        "dataset": str,
        "backbone": str,
        "method": str,
        "alpha": float,
        "beta": float,
        "fold": int,
        "top1": float,
        "problem": str,
    }
    tables = []
    for file in files:
        try:
            table = pd.read_csv(file, dtype=dtypes)[list(dtypes)]
            if table[["dataset", "backbone", "method", "alpha", "beta"]].isna().any(axis=None):
                raise ValueError("a cell lacks its data set, backbone, method, alpha or beta")
            tables.append(table)
        except (OSError, ValueError, KeyError, OverflowError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise UserError(f"{file}: not a result of the grid search ({reason}): run `dvc repro`") from None
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(dtypes))


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Aggregate the grid over the folds.

    Args:
        rows: one row per cell and fold, see `read_grid`.

    Returns:
        One row per cell: dataset, backbone, method, alpha, beta, mean and std of top-1 over the folds (percent), folds
        (how many) and failed (the folds that diverged); mean and std are NaN if any fold diverged.
    """
    groups = rows.assign(failed=rows["top1"].isna()).groupby(["dataset", "backbone", "method", "alpha", "beta"])
    table = groups.agg(mean=("top1", "mean"), std=("top1", "std"), folds=("fold", "size"), failed=("failed", "sum"))
    table.loc[table["failed"] > 0, ["mean", "std"]] = float("nan")
    return table.reset_index()


def best_cell(table: pd.DataFrame) -> pd.Series | None:
    """The cell with the highest mean, of ties the one with the smallest alpha, then beta; None if every cell failed.

    Args:
        table: the `cells` of one data set, backbone and method.
    """
    finished = table.dropna(subset="mean").assign(mean=lambda cells: cells["mean"].round(9))
    if finished.empty:
        return None
    return finished.sort_values(["mean", "alpha", "beta"], ascending=[False, True, True]).iloc[0]


def best_pair(rows: pd.DataFrame) -> tuple[float, float]:
    """The alpha and beta of the best cell.

    Args:
        rows: the grid of one data set, backbone and method, see `read_grid`.

    Raises:
        UserError: every cell failed.
    """
    best = best_cell(cells(rows))
    if best is None:
        dataset, backbone, method = rows[["dataset", "backbone", "method"]].iloc[0]
        raise UserError(
            f"{dataset}, {backbone}, {method}: the grid search has no best cell, as every cell diverged: lower "
            f"backbones.{backbone}.learning_rate"
        )
    return float(best["alpha"]), float(best["beta"])
