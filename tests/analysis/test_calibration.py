"""Temperature and calibration error, against formulas by hand and against logits whose temperature is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax

from delta.analysis.calibration import calibration_error, cross_fitted, fit_temperature


def drawn(temperature: float, images: int = 20_000, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    noise = np.random.default_rng(seed)
    logits = 3 * noise.normal(size=(images, classes))
    cumulative = softmax(logits / temperature, axis=1).cumsum(1)
    return logits, (noise.random((images, 1)) > cumulative).sum(1).clip(max=classes - 1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(temperature):
    logits, targets = drawn(temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.05)


def test_two_classes_have_a_closed_form():
    """Of ten images with logits (2, 0), k = 7 of class 0: with s = 1/12, 7 (1 - s) + 3 s of 10 fall to class 0, and
    the sigmoid of 2 / T is that share."""
    logits, targets = np.tile([2.0, 0.0], (10, 1)), np.array([0] * 7 + [1] * 3)
    share = (7 * 11 / 12 + 3 / 12) / 10
    assert fit_temperature(logits, targets) == pytest.approx(2 / math.log(share / (1 - share)), rel=1e-4)


def test_a_network_without_an_error_is_not_certain():
    """Of n right images, (n + 1) / (n + 2) is the smoothed share, by Laplace's rule of succession."""
    probability = softmax(np.array([2.0, 0.0]) / fit_temperature(np.tile([2.0, 0.0], (8, 1)), np.zeros(8, int)))
    assert probability[0] == pytest.approx(9 / 10, rel=1e-4)


def test_the_calibration_error_by_hand():
    """Confidences 0.6 and 0.62 share the bin (9/15, 10/15], if 0.6 itself is in the bin below; 1.0 is in the last."""
    confidences, right = [0.6, 0.62, 0.64, 1.0], [True, False, True, True]
    probabilities = np.array([[c, 1 - c] for c in confidences])
    targets = np.array([0 if ok else 1 for ok in right])
    expected = 100 * (abs(1 - 0.6) + abs((0 - 0.62) + (1 - 0.64)) + 0) / 4
    assert calibration_error(probabilities, targets) == pytest.approx(expected)


def test_calibration_error_of_brute_force_bins():
    logits, targets = drawn(2.0, images=500)
    probabilities = softmax(logits, axis=1)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(probabilities, targets) == pytest.approx(100 * total)


def test_the_temperature_lowers_the_error_and_changes_no_prediction():
    logits, targets = drawn(3.0, images=3_000)
    folds = np.array_split(np.random.default_rng(1).permutation(3_000), 3)
    before, after = softmax(logits, axis=1), cross_fitted(logits, targets, folds)
    assert calibration_error(before, targets) > 10
    assert calibration_error(after, targets) < 3
    assert (before.argmax(1) == after.argmax(1)).all()


def test_a_folds_labels_do_not_reach_its_own_probabilities():
    logits, targets = drawn(2.0, images=90)
    folds = np.array_split(np.arange(90), 3)
    other = targets.copy()
    other[folds[1]] = (targets[folds[1]] + 1) % 4
    honest, changed = (cross_fitted(logits, each, folds) for each in (targets, other))
    assert np.array_equal(honest[folds[1]], changed[folds[1]])
    assert not np.allclose(honest[folds[0]], changed[folds[0]])
