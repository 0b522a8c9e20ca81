"""Paired differences compared with scipy and with the formula."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from delta.report.statistics import is_significant, paired_differences


def results(**top1: list[float]) -> pd.DataFrame:
    rows = [("d", "b", m, seed, value) for m, values in top1.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seed", "top1"])


@pytest.mark.parametrize("seeds", [3, 5, 12])
def test_intervals_equal_scipys(seeds):
    random = np.random.default_rng(seeds)
    theirs, ours = random.normal(70, 3, seeds), random.normal(71, 3, seeds)
    row = paired_differences(results(l2_sp=theirs, delta=ours)).iloc[0]
    interval = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_an_interval_equals_the_formula():
    # Differences 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.302653.
    row = paired_differences(results(l2_sp=[50, 50, 50], delta=[51, 52, 53])).iloc[0]
    margin = 4.302653 / math.sqrt(3)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((2, 2 - margin, 2 + margin), abs=1e-5)


def test_two_seeds_give_no_interval():
    row = paired_differences(results(l2_sp=[50, 51], delta=[52, 54])).iloc[0]
    assert row["difference"] == 2.5
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])
    assert not is_significant(row["low"], row["high"])


def test_only_seeds_of_both_methods_are_paired():
    one, other = results(l2_sp=[50, 60, 70, 80]), results(delta=[51, 61, 71])
    row = paired_differences(pd.concat([one, other.iloc[::-1]])).iloc[0]
    assert (row["difference"], row["low"], row["high"]) == (1, 1, 1)


def test_without_l2_sp_there_are_no_differences():
    assert paired_differences(results(l2=[50, 60], delta=[51, 61])).empty
    assert list(paired_differences(results(l2_sp=[50, 60], l2=[50, 61]))["method"]) == ["l2"]


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 2, True), (-2, -0.1, True), (-0.1, 2, False), (0, 2, False)]
)
def test_an_interval_on_one_side_of_zero_is_significant(low, high, verdict):
    assert is_significant(low, high) == verdict
