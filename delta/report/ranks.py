"""How methods rank over data sets: Friedman's test and Nemenyi's critical difference.

As Demšar describes them in "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import f, friedmanchisquare, studentized_range

LEVEL = 0.05
LEAST_DATASETS = 5  # from fewer, nothing is concluded: even an order that all of them agree on may be chance
LEAST_DRAWN = 3  # of fewer, mean ranks are not worth a drawing
DIGITS = 4  # decimals of a mean that count: how it was summed makes no rank


@dataclass(frozen=True)
class Ranking:
    """The methods in the order of their mean ranks.

    Attributes:
        mean_ranks: by method, the best first; 1 is the highest value on every data set.
        datasets: how many.
        statistic: F_F, Iman and Davenport's correction of Friedman's χ²_F, of `freedom` degrees of freedom; inf where
            all data sets agree, NaN where there are fewer than three methods or all values are equal.
        p: of "all methods are alike".
        critical_difference: by which two mean ranks differ significantly, at the level over all pairs (Nemenyi's test).
        level: of both tests.
    """

    mean_ranks: pd.Series
    datasets: int
    statistic: float
    p: float
    critical_difference: float
    level: float

    @property
    def freedom(self) -> tuple[int, int]:
        """The degrees of freedom of `statistic`."""
        return len(self.mean_ranks) - 1, (len(self.mean_ranks) - 1) * (self.datasets - 1)

    @property
    def is_conclusive(self) -> bool:
        """Whether there are enough data sets to compare methods over."""
        return self.datasets >= LEAST_DATASETS

    @property
    def differs(self) -> bool:
        """Whether Friedman's test tells the methods apart, without which no pair is compared."""
        return self.is_conclusive and self.p < self.level

    @property
    def groups(self) -> list[tuple[int, int]]:
        """The largest groups of methods that do not differ: the places of the first and the last in `mean_ranks`."""
        ranks, found = self.mean_ranks.to_numpy(), []
        for first in range(len(ranks)):
            near = ranks - ranks[first] < self.critical_difference
            last = int(np.flatnonzero(near)[-1]) if self.differs else len(ranks) - 1
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def dataset_ranks(means: pd.DataFrame) -> pd.DataFrame:
    """Each method's rank on each data set, 1 for the highest mean; equal means share the mean of their ranks.

    Args:
        means: [data sets, methods].
    """
    return means.round(DIGITS).rank(axis="columns", ascending=False)


def rank_methods(means: pd.DataFrame, level: float = LEVEL) -> Ranking:
    """The mean ranks of k methods over N data sets, with Friedman's test and Nemenyi's critical difference.

    χ²_F is corrected for ties. F_F = (N - 1) χ²_F / (N (k - 1) - χ²_F) has an F distribution with k - 1 and
    (k - 1)(N - 1) degrees of freedom. The critical difference is q √(k (k + 1) / (6 N)), where q is the Studentized
    range of k means with infinite degrees of freedom, divided by √2.

    Args:
        means: [data sets, methods], at least two data sets.
        level: of both tests.
    """
    ranks = dataset_ranks(means)
    (datasets, methods), statistic = ranks.shape, np.float64("nan")
    if methods > 2:
        with np.errstate(divide="ignore", invalid="ignore"):
            chi2 = friedmanchisquare(*ranks.to_numpy().T).statistic
            rest = datasets * (methods - 1) - chi2
            statistic = (datasets - 1) * chi2 / np.where(rest > 1e-9 * datasets, rest, 0)
    q = studentized_range.ppf(1 - level, methods, np.inf) / 2**0.5 if methods > 1 else np.nan
    return Ranking(
        ranks.mean().sort_values(kind="stable"),
        datasets,
        float(statistic),
        float(f.sf(statistic, methods - 1, (methods - 1) * (datasets - 1))),
        float(q * (methods * (methods + 1) / (6 * datasets)) ** 0.5),
        level,
    )


def rankings(frame: pd.DataFrame) -> dict[str, Ranking]:
    """The ranking on each backbone that has two data sets or more.

    Args:
        frame: dataset, backbone, method and mean, one row for each of their combinations.
    """
    found = {}
    for backbone, block in frame.groupby("backbone", sort=False):
        means = block.pivot(index="dataset", columns="method", values="mean")[block["method"].unique()]
        if len(means) > 1:
            found[str(backbone)] = rank_methods(means)
    return found
