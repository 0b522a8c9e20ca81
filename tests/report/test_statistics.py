"""Intervals and p-values compared with scipy, with formulas written out, and with cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2, t, ttest_1samp, ttest_ind_from_stats

from delta.report.statistics import (
    holm,
    seed_interval,
    sums_of_squares,
    two_way_errors,
    two_way_interval,
    welch_interval,
)

NAN = float("nan")


def random_differences(seeds, images, rng=0):
    """Seeds and images that differ by more than noise."""
    random = np.random.default_rng(rng)
    shifts = random.normal(0, 0.3, (seeds, 1)) + random.normal(0.2, 0.7, images)
    return np.clip(np.round(shifts + random.normal(0, 0.5, (seeds, images))), -1, 1)


def anova(values):
    """The sums of squares of seeds, images and residual, from the definition, value by value."""
    seeds, images = len(values), len(values[0])
    mean = sum(sum(row) for row in values) / (seeds * images)
    rows = [sum(row) / images for row in values]
    columns = [sum(values[s][i] for s in range(seeds)) / seeds for i in range(images)]
    of_seeds = of_images = residual = 0.0
    for s in range(seeds):
        for i in range(images):
            of_seeds += (rows[s] - mean) ** 2
            of_images += (columns[i] - mean) ** 2
            residual += (values[s][i] - rows[s] - columns[i] + mean) ** 2
    return of_seeds, of_images, residual


@pytest.mark.parametrize(("seeds", "images"), [(3, 4), (3, 40), (5, 17), (2, 2)])
def test_the_sums_of_squares_are_those_of_the_analysis_of_variance(seeds, images):
    values = random_differences(seeds, images, rng=images)
    assert sums_of_squares(values) == pytest.approx(anova(values.tolist()))


def test_the_sums_of_squares_equal_a_worked_example():
    """Rows 1 2 3 and 3 4 8: row means 2 and 5, column means 2, 3 and 5.5, mean 3.5."""
    assert sums_of_squares(np.array([[1.0, 2, 3], [3, 4, 8]])) == pytest.approx((13.5, 13.0, 3.0))


@pytest.mark.parametrize(("seeds", "images"), [(3, 8), (3, 200), (5, 31)])
def test_the_errors_equal_the_formulas(seeds, images):
    values = random_differences(seeds, images, rng=seeds)
    of_seeds, of_images, residual = anova(values.tolist())
    agreeing = sum((sum(values[:, i]) / seeds) ** 2 for i in range(images))
    disagreeing = sum(value * value for row in values.tolist() for value in row) / seeds
    a = of_seeds / (seeds - 1)
    b = (of_images + seeds * (agreeing + 1) / (disagreeing + 1)) / (images - 1)
    e = residual / (seeds - 1) / (images - 1)
    upper = of_seeds / chi2.isf(0.75, seeds - 1)
    freedom = (upper + b - e) ** 2 / (upper**2 / (seeds - 1) + b**2 / (images - 1) + e**2 / (seeds - 1) / (images - 1))
    errors, freedoms = two_way_errors(values)
    assert errors == pytest.approx([math.sqrt((a + b - e) / seeds / images), math.sqrt(b / seeds / images) / 2])
    assert freedoms == pytest.approx([max(freedom, seeds - 1), images - 1])


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_variance_is_that_of_the_mean(seeds):
    """Of values whose three variances are known the estimate's mean is the variance of the mean; the pseudo-image adds
    less than 1 %."""
    random = np.random.default_rng(seeds)
    repetitions, images = 4000, 60
    values = (
        random.normal(0, 0.5, (repetitions, seeds, 1))
        + random.normal(0, 3, (repetitions, 1, images))
        + random.normal(0, 2, (repetitions, seeds, images))
    )
    variances = two_way_errors(values)[0][0] ** 2
    assert variances.mean() == pytest.approx(0.5**2 / seeds + 3**2 / images + 2**2 / (seeds * images), rel=0.04)


def test_seeds_that_agree_give_the_interval_of_agresti_and_min():
    """Ten images, three for the one method and one for the other, the same for each seed: by their formula the variance
    is (3 + 1 + 1 - 10 · 0.2²) / 9 / 10, and t(0.975, 9) = 2.262157."""
    values = np.tile([1, 1, 1, -1, 0, 0, 0, 0, 0, 0], (3, 1))
    interval = two_way_interval(values)
    margin = 100 * 2.262157 * math.sqrt(4.6 / 90)
    assert (interval.difference, interval.low, interval.high) == pytest.approx((20, 20 - margin, 20 + margin), abs=1e-4)


def test_images_that_agree_give_students_interval_of_the_seeds():
    """The methods differ by seed, equally on all of many images: nothing else is left."""
    values = np.repeat([[1], [1], [0], [0], [-1]], 100_000, axis=1)
    expected = ttest_1samp([100, 100, 0, 0, -100], 0)
    low, high = expected.confidence_interval(0.95)
    interval = two_way_interval(values)
    found = (interval.difference, interval.low, interval.high, interval.p)
    assert found == pytest.approx((20, low, high, expected.pvalue), rel=1e-3)


def test_where_no_method_is_ever_the_better_there_is_still_a_width():
    """One pseudo-image in 200: a standard error of 100 · sqrt(1 / 199 / 200) points."""
    interval = two_way_interval(np.zeros((3, 200)))
    margin = 100 * t.ppf(0.975, 199) / math.sqrt(199 * 200)
    assert interval.difference == 0
    assert (interval.low, interval.high, interval.p) == pytest.approx((-margin, margin, 1))


def test_seeds_with_equal_means_are_no_certainty():
    """Each third image is right with one seed, each with another: neither the seeds' means nor the images' differ."""
    values = np.tile(np.eye(3), 10)
    errors, freedoms = two_way_errors(values)
    interval = two_way_interval(values)
    assert errors[0] == 0 < errors[1]
    assert freedoms.tolist() == [2, 29]
    assert interval.high - interval.low == pytest.approx(2 * 100 * t.ppf(0.975, 29) * errors[1])
    assert interval.p > 0


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("rng", range(8))
def test_p_is_the_level_at_which_the_interval_touches_zero(confidence, rng):
    values = random_differences(3, 25, rng)
    interval = two_way_interval(values, confidence)
    assert (interval.low > 0 or interval.high < 0) == (interval.p < 1 - confidence)
    touching = two_way_interval(values, 1 - interval.p)
    assert min(abs(touching.low), abs(touching.high)) == pytest.approx(0, abs=1e-6)


def test_swapping_the_methods_mirrors_the_interval():
    values = random_differences(3, 50)
    one, other = two_way_interval(values), two_way_interval(-values)
    found = (-other.difference, -other.high, -other.low, other.p)
    assert found == pytest.approx((one.difference, one.low, one.high, one.p))


@pytest.mark.parametrize("shape", [(1, 50), (2, 50), (3, 1)])
def test_one_or_two_seeds_or_one_image_give_no_interval(shape):
    interval = two_way_interval(np.ones(shape))
    assert interval.difference == 100
    assert np.isnan([interval.low, interval.high, interval.p]).all()


@pytest.mark.parametrize("values", [np.zeros(5), np.zeros((3, 0)), np.full((3, 4), 50.0), np.full((3, 4), NAN)])
def test_what_are_no_differences_is_refused(values):
    with pytest.raises(ValueError, match="differences must be"):
        two_way_interval(values)


@pytest.mark.parametrize("seeds", [3, 5, 12])
def test_intervals_over_seeds_equal_scipys(seeds):
    values = np.random.default_rng(seeds).normal(1, 3, seeds)
    expected = ttest_1samp(values, 0)
    low, high = expected.confidence_interval(0.9)
    interval = seed_interval(values, 0.9)
    found = (interval.difference, interval.low, interval.high, interval.p)
    assert found == pytest.approx((values.mean(), low, high, expected.pvalue))


def test_an_interval_over_seeds_equals_the_formula():
    # Differences 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.302653.
    interval = seed_interval([1, 2, 3])
    margin = 4.302653 / math.sqrt(3)
    assert (interval.difference, interval.low, interval.high) == pytest.approx((2, 2 - margin, 2 + margin), abs=1e-5)


@pytest.mark.parametrize("values", [[0.1], [2, 3], [0, 0, 0], [0.1 + 0.2, 0.3, 0.3], [-7, -7, -7, -7]])
def test_two_seeds_or_equal_values_give_no_interval(values):
    interval = seed_interval(values)
    assert interval.difference == pytest.approx(np.mean(values))
    assert np.isnan([interval.low, interval.high, interval.p]).all()


@pytest.mark.parametrize("values", [[], [1, NAN, 3]])
def test_without_values_all_is_nan(values):
    interval = seed_interval(values)
    assert np.isnan([interval.difference, interval.low, interval.high, interval.p]).all()


@pytest.mark.parametrize("stds", [(0.3, 0.9), (1.1, 0.1)])
def test_welchs_interval_equals_scipys(stds):
    expected = ttest_ind_from_stats(78.4, stds[0], 5, 77.1, stds[1], 5, equal_var=False)
    interval = welch_interval(78.4, stds[0], 77.1, stds[1], runs=5)
    assert (interval.difference, interval.p) == pytest.approx((1.3, expected.pvalue))
    # At the confidence of 1 - p the interval touches 0.
    assert welch_interval(78.4, stds[0], 77.1, stds[1], 5, 1 - expected.pvalue).low == pytest.approx(0, abs=1e-9)


def test_welchs_interval_of_equal_deviations_equals_the_formula():
    # Standard error sqrt(2 · 0.5² / 5), 8 degrees of freedom, t(0.975, 8) = 2.306004.
    interval = welch_interval(80, 0.5, 79, 0.5, runs=5)
    margin = 2.306004 * math.sqrt(0.1)
    assert (interval.low, interval.high) == pytest.approx((1 - margin, 1 + margin), abs=1e-6)


def test_a_printed_deviation_of_zero_is_up_to_its_rounding():
    assert welch_interval(80, 0.0, 79, 0.0, runs=5) == welch_interval(80, 0.05, 79, 0.05, runs=5)
    assert welch_interval(80, 0.0, 79, 0.3, runs=5) == welch_interval(80, 0.05, 79, 0.3, runs=5)
    whole = welch_interval(80, 0.0, 79, 0.0, runs=5, resolution=1)
    assert whole == welch_interval(80, 0.5, 79, 0.5, runs=5)


@pytest.mark.parametrize(("std", "runs"), [(NAN, 5), (0.3, 1), (0.3, 2)])
def test_without_deviations_or_runs_there_is_no_interval(std, runs):
    interval = welch_interval(80, std, 79, 0.3, runs)
    assert interval.difference == 1
    assert np.isnan([interval.low, interval.high, interval.p]).all()


def test_holm_equals_a_worked_example():
    """Wikipedia, "Holm-Bonferroni method": at 5 %, H4 and H1 are rejected (0.005 < 0.05 / 4, 0.01 < 0.05 / 3), H3 is
    not (0.03 > 0.05 / 2), nor therefore H2."""
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([3 * 0.01, 2 * 0.03, 2 * 0.03, 4 * 0.005])
    assert (adjusted < 0.05).tolist() == [True, False, False, True]


def test_holm_counts_no_nan_and_stops_at_one():
    assert holm([0.6, NAN, 0.01, NAN, 0.7]) == pytest.approx([1, NAN, 0.03, NAN, 1], nan_ok=True)
    assert holm([NAN]) == pytest.approx([NAN], nan_ok=True)
    assert holm([]).size == 0
    assert holm([0.02]) == pytest.approx([0.02])


@pytest.mark.parametrize("rng", range(5))
def test_holm_rejects_what_its_steps_reject(rng):
    p_values, level = np.random.default_rng(rng).beta(0.3, 3, 12), 0.05
    rejected = np.zeros(12, bool)
    for left, test in zip(range(12, 0, -1), np.argsort(p_values), strict=True):
        if p_values[test] > level / left:
            break
        rejected[test] = True
    assert ((holm(p_values) <= level) == rejected).all()


def test_holm_leaves_its_argument_alone():
    p_values = np.array([0.5, 0.01])
    holm(p_values)
    assert p_values.tolist() == [0.5, 0.01]
