"""Whether 95 % intervals contain the true difference 95 % of the time: seeds and test images drawn again and again.

Two methods classify the same images. A method is right where a normal variable is above 0: the method's level, the
image's difficulty, which both share, what the image is worth to this method, what the seed is worth to this method, and
noise of variance 1. The true difference is that of two normal probabilities.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp

from delta.report.statistics import student, two_way_errors, two_way_interval

REPETITIONS = 4000  # a coverage of 95 % is measured with a standard error of 0.34 points
BLOCK = 400
SEEDS, IMAGES, SEED_STDS = (3, 5), (200, 1000), (0.0, 0.05, 0.1, 0.2)
# Levels of the methods (on the scale of the noise), standard deviation of difficulty, of image × method.
USUAL = ((1.3, 1.2), 1.5, 0.5)
ALIKE = ((1.3, 1.2), 1.5, 0.0)  # the methods differ on an image by noise alone
UNLIKE = ((1.3, 1.2), 1.5, 1.0)
EASY = ((5.0, 4.7), 3.0, 0.5)  # 94 and 93 % right, few disagreements


def draw(random, seeds, images, seed_std, model, repetitions):
    """Differences [repetitions, seeds, images]."""
    levels, difficulty_std, interaction_std = model

    def normal(*shape):
        return random.standard_normal((repetitions, *shape), dtype=np.float32)

    difficulty = difficulty_std * normal(1, images)
    right = [
        level + difficulty + interaction_std * normal(1, images) + seed_std * normal(seeds, 1) + normal(seeds, images)
        > 0
        for level in levels
    ]
    return right[0].astype(np.int8) - right[1]


def true_difference(seed_std, model):
    levels, *stds = model
    scale = np.sqrt(1 + seed_std**2 + np.square(stds).sum())
    return norm.cdf(levels[0] / scale) - norm.cdf(levels[1] / scale)


def misses(seeds, images, seed_std, model, repetitions=REPETITIONS, confidence=0.95):
    """For each repetition whether the interval misses the true difference."""
    random = np.random.default_rng([seeds, images, round(1000 * seed_std)])
    found = []
    for _ in range(repetitions // BLOCK):
        differences = draw(random, seeds, images, seed_std, model, BLOCK)
        error = differences.mean((1, 2)) - true_difference(seed_std, model)
        margins, _p = student(error, *two_way_errors(differences), confidence)
        found.append(np.abs(error) > margins.max(0))
    return np.concatenate(found)


def coverage(*case, **options):
    return 1 - misses(*case, **options).mean()


@pytest.mark.parametrize(("seeds", "images", "seed_std"), [*product(SEEDS, IMAGES, SEED_STDS)])
def test_an_interval_contains_the_truth_as_often_as_it_says(seeds, images, seed_std):
    assert 0.93 <= coverage(seeds, images, seed_std, USUAL) <= 0.97


@pytest.mark.parametrize("model", [ALIKE, UNLIKE, EASY], ids=["alike", "unlike", "easy"])
@pytest.mark.parametrize(("seeds", "images", "seed_std"), [*product(SEEDS, IMAGES, (0.0, 0.2))])
def test_so_it_does_however_much_the_methods_disagree(seeds, images, seed_std, model):
    assert 0.93 <= coverage(seeds, images, seed_std, model) <= 0.97


@pytest.mark.parametrize(("seeds", "images", "seed_std"), [*product(SEEDS, IMAGES, (0.0, 0.2))])
def test_so_does_that_of_one_methods_accuracy(seeds, images, seed_std):
    """Of a method that is right on 75 % of the images."""
    random, covered = np.random.default_rng([seeds, images]), []
    for _ in range(REPETITIONS // BLOCK):
        difficulty, seed, noise = (
            random.standard_normal((BLOCK, *shape), dtype=np.float32)
            for shape in ((1, images), (seeds, 1), (seeds, images))
        )
        right = (1.2 + 1.5 * difficulty + seed_std * seed + noise > 0).astype(int)
        margins, _p = student(right.mean((1, 2)), *two_way_errors(right), 0.95)
        truth = norm.cdf(1.2 / np.sqrt(1 + 1.5**2 + seed_std**2))
        covered.append(np.abs(right.mean((1, 2)) - truth) <= margins.max(0))
    assert 0.93 <= np.concatenate(covered).mean() <= 0.97


def test_the_arrays_of_the_simulation_are_judged_as_single_ones_are():
    differences = draw(np.random.default_rng(0), 3, 50, 0.1, USUAL, 4)
    margins, p_values = student(differences.mean((1, 2)), *two_way_errors(differences), 0.95)
    for each, margin, p in zip(differences, margins.max(0), p_values.max(0), strict=True):
        interval = two_way_interval(each)
        assert ((interval.high - interval.low) / 2, interval.p) == pytest.approx((100 * margin, p))


def test_the_simulation_tells_an_interval_that_leaves_out_the_images():
    differences = draw(np.random.default_rng(0), 5, 200, 0.0, UNLIKE, 1000)
    assert students_coverage(differences.mean(2), true_difference(0.0, UNLIKE)) < 0.85


def test_the_simulation_tells_an_interval_that_leaves_out_the_seeds():
    differences = draw(np.random.default_rng(0), 5, 1000, 0.2, USUAL, 500)
    assert students_coverage(differences.mean(1), true_difference(0.2, USUAL)) < 0.75


def students_coverage(means, truth):
    low, high = ttest_1samp(means, 0, axis=1).confidence_interval(0.95)
    return ((low <= truth) & (truth <= high)).mean()
