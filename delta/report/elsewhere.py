"""What other harnesses publish: the only place for facts about them. None of them follows this pipeline's protocol.

Their numbers are rows of elsewhere.csv beside this module, on all training images of a data set.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

# The harnesses by their key in elsewhere.csv: the name in a heading, and what it is and how its numbers differ.
HARNESSES = {
    "tllib": ("TLLib", "the Transfer-Learning-Library, which takes the best epoch on the test images"),
    "paddle": ("Paddle", "PaddleTransfer; its DELTA, beside DELTA(w/o ATT), has no attention and an unsquared norm"),
}


def published() -> pd.DataFrame:
    """Top-1 in percent: source_network, dataset and method, and a column for each of HARNESSES (NaN for none)."""
    with resources.files("delta.report").joinpath("elsewhere.csv").open(encoding="utf-8") as file:
        rows = pd.read_csv(file)
    table = rows.pivot(index=["source_network", "dataset", "method"], columns="harness", values="top1")
    return table[list(HARNESSES)].reset_index()
