"""The results of the grid search: its cells, and the best of them (section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pydantic import ConfigDict, TypeAdapter, ValidationError

from delta.io.errors import UserError
from delta.methods.base import Value

CELL = ["dataset", "backbone", "method", "alpha", "beta", "values"]

_VALUES: TypeAdapter[dict[str, Value]] = TypeAdapter(dict[str, Value], config=ConfigDict(allow_inf_nan=False))


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
        "values": str,
        "fold": int,
        "top1": float,
        "problem": str,
    }
    tables = []
    for file in files:
        try:
            table = pd.read_csv(file, dtype=dtypes)[list(dtypes)]
            if table[CELL].isna().any(axis=None):
                raise ValueError(f"a cell lacks its {', '.join(CELL[:-1])} or {CELL[-1]}")
            table["values"].map(_values)
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
        One row per cell, by α and β: dataset, backbone, method, alpha, beta, values, mean and std of top-1 over the
        folds (percent), folds (how many) and failed (the folds that diverged); mean and std are NaN if any fold
        diverged.
    """
    groups = rows.assign(failed=rows["top1"].isna()).groupby(CELL, sort=False)
    table = groups.agg(mean=("top1", "mean"), std=("top1", "std"), folds=("fold", "size"), failed=("failed", "sum"))
    table.loc[table["failed"] > 0, ["mean", "std"]] = float("nan")
    return table.reset_index().sort_values(CELL[:-1], kind="stable", ignore_index=True)


def best_cell(table: pd.DataFrame) -> pd.Series | None:
    """The cell with the highest mean, of ties the one with the smallest alpha, then beta, then the first one; None if
    every cell failed.

    Args:
        table: the `cells` of one data set, backbone and method.
    """
    finished = table.dropna(subset="mean").assign(mean=lambda cells: cells["mean"].round(9))
    if finished.empty:
        return None
    return finished.sort_values(["mean", "alpha", "beta"], ascending=[False, True, True], kind="stable").iloc[0]


def best_values(rows: pd.DataFrame) -> dict[str, Value]:
    """The parameters of the best cell, by name.

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
    return _values(best["values"])


def of_alpha_and_beta(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the methods that were searched over α and β, which Figure 4 can show."""
    return rows[rows["values"].map(lambda text: _values(text).keys() == {"alpha", "beta"}).astype(bool)]


def _values(text: str) -> dict[str, Value]:
    try:
        return _VALUES.validate_json(text)
    except ValidationError:
        raise ValueError("a cell's values are no JSON of parameters") from None
