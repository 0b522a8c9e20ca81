"""What other harnesses publish: the only place for facts about them. None of them follows this pipeline's protocol.

Their numbers are rows of elsewhere.csv beside this module, on all training images of a data set.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

# The harnesses by their key in elsewhere.csv: their name, and how what they publish differs.
HARNESSES = {
    "tllib": ("Transfer-Learning-Library", "it takes the best epoch on the test images"),
    "paddle": ("PaddleTransfer", "its DELTA has no attention and no square, and stands beside DELTA(w/o ATT)"),
}


def published() -> pd.DataFrame:
    """Top-1 in percent: source_network, dataset and method, and a column for each of HARNESSES (NaN for none)."""
    with resources.files("delta.report").joinpath("elsewhere.csv").open(encoding="utf-8") as file:
        rows = pd.read_csv(file)
    table = rows.pivot(index=["source_network", "dataset", "method"], columns="harness", values="top1")
    return table[list(HARNESSES)].reset_index()
