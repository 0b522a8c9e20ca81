"""Results of a grid search over α and β."""

from __future__ import annotations

import json

import pandas as pd


def with_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a grid, with the column `values` that says that it chooses alpha and beta."""
    pairs = zip(rows["alpha"], rows["beta"], strict=True)
    return rows.assign(values=[json.dumps({"alpha": alpha, "beta": beta}) for alpha, beta in pairs])
