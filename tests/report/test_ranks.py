"""Ranks over data sets against Demšar's worked example and formulas by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from delta.report.ranks import dataset_ranks, rank_methods, rankings

# Demšar (2006), Table 6: AUC on 14 data sets. On voting, the second last but one, it ranks C4.5+cf above C4.5+m+cf and
# prints 0.975 for both, so a digit is added.
DEMSAR = pd.DataFrame(
    {
        "C4.5": [763, 599, 954, 628, 882, 936, 661, 583, 775, 1000, 940, 619, 972, 957],
        "C4.5+m": [768, 591, 971, 661, 888, 931, 668, 583, 838, 1000, 962, 666, 981, 978],
        "C4.5+cf": [771, 590, 968, 654, 886, 916, 609, 563, 866, 1000, 965, 614, 975.1, 946],
        "C4.5+m+cf": [798, 569, 967, 657, 898, 931, 685, 625, 875, 1000, 962, 669, 975, 970],
    }
)


def conovers_chi2(ranks: np.ndarray) -> float:
    """Friedman's statistic with ties, as Conover ("Practical Nonparametric Statistics", section 5.8) writes it."""
    n, k = ranks.shape
    return (
        (k - 1) * np.square(ranks.sum(0) - n * (k + 1) / 2).sum() / (np.square(ranks).sum() - n * k * (k + 1) ** 2 / 4)
    )


def test_demsars_example():
    ranking = rank_methods(DEMSAR)
    assert ranking.mean_ranks.round(3).to_dict() == {
        "C4.5+m+cf": 1.964,
        "C4.5+m": 2.0,
        "C4.5+cf": 2.893,
        "C4.5": 3.143,
    }
    assert list(ranking.mean_ranks) == sorted(ranking.mean_ranks)
    assert (ranking.datasets, ranking.freedom) == (14, (3, 39))
    assert ranking.critical_difference == pytest.approx(1.25, abs=0.005)
    # The paper's χ²_F of 9.28 and F_F of 3.69 are not corrected for ties. Four data sets have a pair of equal values,
    # and one has four: the correction divides by 1 - Σ (t³ - t) / (N k (k² - 1)).
    chi2 = 14 * 3 * ranking.statistic / (13 + ranking.statistic)
    without = chi2 * (1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * 4 * (4**2 - 1)))
    assert without == pytest.approx(9.28, abs=0.01)
    assert 13 * without / (14 * 3 - without) == pytest.approx(3.69, abs=0.005)
    # "We reject the null-hypothesis", and "the post-hoc test is not powerful enough".
    assert ranking.p < 0.05
    assert ranking.groups == [(0, 3)]


def test_demsars_groups_at_ten_percent():
    """Pure C4.5 is worse than C4.5+m and C4.5+m+cf; C4.5+cf belongs to both groups, that is, to none for certain."""
    ranking = rank_methods(DEMSAR, level=0.1)
    assert ranking.critical_difference == pytest.approx(1.12, abs=0.005)
    assert [list(ranking.mean_ranks.index[first : last + 1]) for first, last in ranking.groups] == [
        ["C4.5+m+cf", "C4.5+m", "C4.5+cf"],
        ["C4.5+cf", "C4.5"],
    ]


@pytest.mark.parametrize(
    ("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (10, 3.164)]
)
def test_the_critical_values_of_demsars_table_5(methods, q):
    means = pd.DataFrame(np.random.default_rng(0).normal(size=(9, methods)))
    factor = (methods * (methods + 1) / (6 * 9)) ** 0.5
    assert rank_methods(means).critical_difference / factor == pytest.approx(q, abs=0.001)


@pytest.mark.parametrize("levels", [3, 1000])
def test_friedmans_statistic_with_and_without_ties(levels):
    means = pd.DataFrame(np.random.default_rng(levels).integers(0, levels, (8, 5)))
    # Rank by hand: one more than how many are higher, and half of how many others are equal.
    values = means.to_numpy()
    higher, equal = (op(values[:, None, :], values[:, :, None]).sum(2) for op in (np.greater, np.equal))
    ranks = 1 + higher + (equal - 1) / 2
    np.testing.assert_array_equal(dataset_ranks(means), ranks)
    chi2 = conovers_chi2(ranks)
    assert rank_methods(means).statistic == pytest.approx(7 * chi2 / (8 * 4 - chi2))


def test_p_is_the_share_of_orders_that_are_as_uneven():
    """Over all orders of three methods on five data sets; the F distribution is close to it, not equal."""
    means = pd.DataFrame([[3, 2, 1], [3, 2, 1], [3, 1, 2], [3, 2, 1], [2, 3, 1]])
    ranking, random = rank_methods(means), np.random.default_rng(0)
    drawn = np.array([conovers_chi2(random.permuted(means.to_numpy(), axis=1).astype(float)) for _ in range(4000)])
    share = (drawn >= conovers_chi2(dataset_ranks(means).to_numpy()) - 1e-9).mean()
    assert ranking.p == pytest.approx(share, abs=0.03)


def test_groups_are_all_pairs_that_are_near():
    random = np.random.default_rng(5)
    ranking = rank_methods(pd.DataFrame(random.normal(size=(20, 8)) + np.arange(8) / 2))
    assert ranking.differs
    ranks, joined = ranking.mean_ranks.to_numpy(), set()
    for first, last in ranking.groups:
        joined |= set(combinations(range(first, last + 1), 2))
    near = {(i, j) for i, j in combinations(range(8), 2) if abs(ranks[j] - ranks[i]) < ranking.critical_difference}
    assert 0 < len(near) < 28
    assert joined == near
    assert not any(a <= c and d <= b for (a, b), (c, d) in combinations(ranking.groups, 2))


def test_data_sets_that_all_agree():
    ranking = rank_methods(pd.DataFrame([[3.0, 2.0, 1.0]] * 6))
    assert (ranking.statistic, ranking.p) == (float("inf"), 0)
    assert list(ranking.mean_ranks) == [1, 2, 3]


def test_equal_values_and_two_methods_have_no_test():
    for means in ([[1.0, 1.0, 1.0]] * 6, [[1.0, 2.0]] * 6):
        ranking = rank_methods(pd.DataFrame(means))
        assert np.isnan(ranking.p)
        assert not ranking.differs
        assert ranking.groups == [(0, len(means[0]) - 1)]


def test_too_few_data_sets_tell_nothing_apart():
    four, five = (rank_methods(pd.DataFrame([[9.0, 5.0, 1.0]] * count)) for count in (4, 5))
    assert four.p < 0.05
    assert (four.is_conclusive, four.differs) == (False, False)
    assert five.differs


def test_rounding_makes_no_rank():
    assert dataset_ranks(pd.DataFrame([[0.1 + 0.2, 0.3]])).to_numpy().tolist() == [[1.5, 1.5]]


def test_each_backbone_has_its_own_ranking():
    rows = [("a", "x", "l2", 2), ("a", "x", "bss", 1), ("b", "x", "l2", 1), ("b", "x", "bss", 2), ("b", "x", "lwf", 3)]
    rows += [("a", "x", "lwf", 3), ("a", "y", "l2", 1), ("a", "y", "bss", 2)]
    found = rankings(pd.DataFrame(rows, columns=["dataset", "backbone", "method", "mean"]))
    assert list(found) == ["x"]
    assert found["x"].mean_ranks.to_dict() == {"lwf": 1, "l2": 2.5, "bss": 2.5}
