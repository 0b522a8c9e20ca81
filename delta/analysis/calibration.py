"""Probabilities that mean what they say: one temperature for a network's logits (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15  # Guo et al.
_LOG_RANGE = (-5.0, 5.0)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The T > 0 that minimises the cross-entropy of softmax(z / T) on images that the network was not trained on.

    With s = 1 / (n + 2), a target counts 1 - s and the other classes share s (as in Platt 1999), since otherwise n
    right predictions would give T = 0: certainty. The predicted classes do not depend on T.

    Args:
        logits: z, [n, classes].
        targets: class indices, int [n].
    """
    images, classes = logits.shape
    smoothing = 1 / (images + 2)
    wanted = np.full(logits.shape, smoothing / (classes - 1))
    wanted[np.arange(images), targets] = 1 - smoothing

    def cross_entropy(log_temperature: float) -> float:
        return -(wanted * log_softmax(logits / np.exp(log_temperature), axis=1)).sum() / images

    best = minimize_scalar(cross_entropy, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def calibration_error(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The expected calibration error, in percent: Σ_b n_b / n · |accuracy of b - mean confidence of b|.

    An image's confidence is its largest probability. The bins b are (0, 1/15], (1/15, 2/15], …, (14/15, 1]. It is
    biased upwards where bins hold few images, so compare only errors of the same images.

    Args:
        probabilities: [n, classes].
        targets: class indices, int [n].
    """
    confidence = probabilities.max(1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int), 1, BINS)
    surplus = np.bincount(bins, (probabilities.argmax(1) == targets) - confidence)
    return float(100 * np.abs(surplus).sum() / len(targets))


def cross_fitted(logits: np.ndarray, targets: np.ndarray, folds: Sequence[np.ndarray]) -> np.ndarray:
    """Probabilities of held-out images, each fold's at the temperature that the other folds have, [n, classes].

    Args:
        logits, targets: as for `fit_temperature`.
        folds: disjoint parts of the images as indices, at least two, which cover all of them.
    """
    probabilities = np.empty(logits.shape)
    for fold in folds:
        others = np.setdiff1d(np.arange(len(targets)), fold)
        temperature = fit_temperature(logits[others], targets[others])
        probabilities[fold] = softmax(logits[fold] / temperature, axis=1)
    return probabilities
