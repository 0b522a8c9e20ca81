"""From filter importance to the factors C·W_j that a penalty multiplies its terms by (Algorithm 1's last line)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from delta.errors import UserError


def write_importance(path: Path, importance: Mapping[str, np.ndarray]) -> None:
    """Write raw importance as CSV: layer, filter, importance, a row a filter.

    Args:
        importance: Σ_i of Equation (9), float64 [C] by layer.
    """
    tables = [
        pd.DataFrame({"layer": layer, "filter": range(len(scores)), "importance": scores})
        for layer, scores in importance.items()
    ]
    pd.concat(tables).to_csv(path, index=False)


def normalized(importance: np.ndarray, normalization: str) -> np.ndarray:
    """W from the raw sums of one layer: non-negative, summing to 1.

    `standardized`: softmax((W − mean) / std / 5) with the population std, as the protocol has it. `literal`:
    softmax(W), Algorithm 1 to the letter. A layer whose filters are all alike gets uniform attention.
    """
    if normalization == "standardized":
        deviation = importance.std()
        importance = (importance - importance.mean()) / (5 * deviation) if deviation > 0 else 0 * importance
    exponentials = np.exp(importance - importance.max())
    return exponentials / exponentials.sum()


def factors_of(importance: np.ndarray, normalization: str) -> np.ndarray:
    """C·W_j of one layer, averaging 1: what a penalty multiplies its terms by; see `normalized`."""
    return len(importance) * normalized(importance, normalization)


def write_factors(path: Path, importance: Path, normalization: str | None) -> None:
    """Write the factors of one method as CSV: layer, filter, factor.

    Args:
        importance: a file that `write_importance` wrote.
        normalization: see `normalized`; None for uniform attention, whose factors are exactly 1.

    Raises:
        UserError: the importance cannot be read.
    """
    table = _read(importance, "importance")
    factors = np.ones(len(table))
    if normalization:
        factors = table.groupby("layer", sort=False)["importance"].transform(
            lambda scores: factors_of(scores.to_numpy(), normalization)
        )
    table.assign(factor=factors)[["layer", "filter", "factor"]].to_csv(path, index=False)


def read_factors(path: Path) -> dict[str, np.ndarray]:
    """C·W_j by feature layer, float64 [C] each, from a file that `write_factors` wrote.

    Raises:
        UserError: the file cannot be read.
    """
    return {layer: rows["factor"].to_numpy() for layer, rows in _read(path, "factor").groupby("layer", sort=False)}


def _read(path: Path, what: str) -> pd.DataFrame:
    """layer, filter and the column `what`, a finite number a filter."""
    try:
        table = pd.read_csv(path, dtype={"layer": str, what: float})[["layer", "filter", what]]
        if not np.isfinite(table[what]).all() or table.isna().any(axis=None):
            raise ValueError(f"a filter has no finite {what}")
        if not (table["filter"] == table.groupby("layer").cumcount()).all():
            raise ValueError("a layer's filters are not numbered from 0")
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{path}: not readable ({error}): run `dvc repro`") from None
    return table
