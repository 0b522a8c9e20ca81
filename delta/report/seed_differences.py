"""DELTA's numbers minus those of other networks, paired by seed, for what has no value per test image."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from delta.analysis.map_files import SOURCE
from delta.report.results import KEYS
from delta.report.statistics import seed_interval

DIFFERENCE = ["difference", "low", "high", "pairs"]


def delta_minus_others(values: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """DELTA's number minus each other network's, with Student's 95 % confidence interval over the seeds.

    The source network is one, whatever the seed: every seed of DELTA is compared with it.

    Args:
        values: one number a seed: dataset, backbone, method, seed, what is in `by`, and value.
        by: further columns that keep numbers apart.

    Returns:
        dataset, backbone, method (the other network), what is in `by`, difference, low, high (NaN where there is no
        interval) and pairs (how many seeds); no rows where there is no DELTA.
    """
    rows = []
    for keys, block in values.groupby([*KEYS[:2], *by], sort=False):
        numbers = {method: group.set_index("seed")["value"] for method, group in block.groupby("method", sort=False)}
        delta = numbers.pop("delta", pd.Series(dtype=float))
        for method, others in numbers.items():
            pairs = (delta - (others.iloc[0] if method == SOURCE else others)).dropna()
            if len(pairs):
                interval = seed_interval(pairs)
                rows.append((*keys, method, interval.difference, interval.low, interval.high, len(pairs)))
    frame = pd.DataFrame(rows, columns=[*KEYS[:2], *by, "method", *DIFFERENCE])
    return frame[[*KEYS, *by, *DIFFERENCE]]


def published_delta_minus_others(numbers: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The same of the paper's single values: an interval is the value itself.

    Args:
        numbers: dataset, backbone, method, what is in `by`, and mean, see `delta.report.paper.numbers`.
    """
    keys = [*KEYS[:2], *by]
    delta = numbers[numbers["method"] == "delta"][[*keys, "mean"]]
    rows = numbers.merge(delta, on=keys, suffixes=("", "_delta"))
    difference = rows["mean_delta"] - rows["mean"]
    # Binary fractions: 6.367 - 6.367 may not be 0 in another order.
    difference = difference.round(9)
    rows = rows.assign(difference=difference, low=difference, high=difference, pairs=1)
    return rows.drop(columns="mean_delta")
