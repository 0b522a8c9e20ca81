"""Recall and precision of every class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassScores:
    """How often a network is right, class by class.

    Attributes:
        images: of the class, int [classes].
        said: images of any class that the network takes for the class, int [classes].
        right: images of the class that it takes for the class, int [classes].
    """

    images: np.ndarray
    said: np.ndarray
    right: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """Of a class's images, the share that the network takes for it; percent, NaN for a class without images."""
        return _percent(self.right, self.images)

    @property
    def precision(self) -> np.ndarray:
        """Of the images that it takes for a class, the share that are of it; percent, NaN where there is none."""
        return _percent(self.right, self.said)


def class_scores(targets: np.ndarray, predicted: np.ndarray, classes: int) -> ClassScores:
    """Count the images.

    Args:
        targets, predicted: each image's class and what the network says, int [images].
        classes: their number.
    """
    images, said, right = (
        np.bincount(values, minlength=classes) for values in (targets, predicted, targets[targets == predicted])
    )
    return ClassScores(images, said, right)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return 100 * np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
