"""The probe: multinomial logistic regression on pooled features, its C chosen by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from delta.analysis.stratified import distinct_counts, stratified_parts
from delta.io.errors import UserError

FOLDS = 5
_ITERATIONS = 10_000  # of L-BFGS, at most; a few hundred are usual

ClassWeights = Literal["balanced"] | None


class Head(NamedTuple):
    """A linear classifier's weight and bias, float64 [K, d] and [K]: its logits are f · weightᵀ + bias."""

    weight: np.ndarray
    bias: np.ndarray

    def state(self) -> dict[str, Tensor]:
        """It as the state of a network's head."""
        return {"weight": torch.from_numpy(self.weight), "bias": torch.from_numpy(self.bias)}


@dataclass(frozen=True)
class ProbeFit:
    """A logistic regression of K classes on d features, fitted on n images.

    Attributes:
        c: the value of C that was chosen.
        decisions: each image's logits from the regression on the other folds, float64 [n, K].
        head: of the regression on all n images.
        fold_heads: of the regressions without each fold.
    """

    c: float
    decisions: np.ndarray
    head: Head
    fold_heads: list[Head]


def fit_probe(
    features: np.ndarray,
    targets: np.ndarray,
    folds: Sequence[np.ndarray],
    values: Iterable[float],
    class_weights: ClassWeights = None,
) -> ProbeFit:
    """Choose C by cross-validation and fit the regression on all images.

    The C with the least cross-entropy on the held-out images of all folds is taken, the smallest one of equals. The
    accuracy would be a poor guide: of few images it is the same for many C, or differs by luck. With balanced class
    weights, the cross-entropy weighs all classes alike. The regression is fitted in one thread, which gives the same
    bits on any number of cores and is fastest on few images.

    Args:
        features: float [n, d].
        targets: class indices, int [n]: each of 0, …, K − 1 occurs in all images but those of any fold.
        folds: disjoint parts of the images that make up all of them, int [m] each, see `probe_folds`.
        values: of C.
        class_weights: `balanced` weighs an image by n / (K · n_c), n_c of the n images it is fitted on being of its
            class, as `training.class_weights`.
    """
    features, chosen = features.astype(np.float64), None
    image_weights = compute_sample_weight(class_weights, targets)
    best = np.inf
    bar = tqdm(sorted(values), desc="probe", unit="C", leave=False)
    with threadpool_limits(1):
        for c in bar:
            decisions, heads = np.empty((len(targets), targets.max() + 1)), []
            for fold in folds:
                part = np.setdiff1d(np.arange(len(targets)), fold)
                heads.append(_regression(features[part], targets[part], c, class_weights))
                decisions[fold] = features[fold] @ heads[-1].weight.T + heads[-1].bias
            found = log_loss(targets, softmax(decisions, axis=1), sample_weight=image_weights)
            if found < best:
                best, chosen = found, (c, decisions, heads)
        assert chosen is not None
        c, decisions, heads = chosen
        return ProbeFit(c, decisions, _regression(features, targets, c, class_weights), heads)


def probe_folds(
    targets: np.ndarray, classes: Sequence[str], seed: int, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """Stratified folds of the training images: five, or as many as the smallest class has images.

    Args:
        targets: class indices, int [n].
        classes: names by index.
        groups: numbers that near-duplicates share, int [n]; they stay together and count as one image. None for none.

    Returns:
        Each fold as indices into `targets`, int64 [m].

    Raises:
        UserError: some classes have fewer than two training images; the message names them.
    """
    groups = np.arange(len(targets)) if groups is None else groups
    counts = distinct_counts(targets, groups, len(classes))
    if short := [f"{name} has {count}" for name, count in zip(classes, counts, strict=True) if count < 2]:
        raise UserError(
            f"cross-validation takes at least two training images a class, but {', '.join(short)}: add images, or "
            "leave these out of `classes`"
        )
    return stratified_parts(targets, groups, min(FOLDS, counts.min()), seed)


def _regression(features: np.ndarray, targets: np.ndarray, c: float, class_weights: ClassWeights) -> Head:
    """The regression on some images."""
    regression = LogisticRegression(C=c, class_weight=class_weights, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(features, targets)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # of two classes, scikit-learn has the difference of the logits alone
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Head(weight, bias)
