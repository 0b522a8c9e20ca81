"""Stratified parts of images for cross-validation, in which near-duplicates stay together."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold


def distinct_counts(targets: np.ndarray, groups: np.ndarray, classes: int) -> np.ndarray:
    """How many images each class has, counting near-duplicates once, for the class of the first of them: int [classes].

    Args:
        targets: class indices, int [n].
        groups: numbers that near-duplicates share, int [n], see `delta.data.packed.index.near_duplicate_groups`.
    """
    _, first = np.unique(groups, return_index=True)
    return np.bincount(targets[first], minlength=classes)


def stratified_parts(targets: np.ndarray, groups: np.ndarray, parts: int, seed: int) -> list[np.ndarray]:
    """Disjoint parts of images that make up all of them, each with about the same share of every class.

    Args:
        targets, groups: as in `distinct_counts`, by which no class has fewer images than `parts`.

    Returns:
        Each part as indices into `targets`, int64 [m].
    """
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as the images, so that without near-duplicates the images themselves are split
    splitter = StratifiedKFold(parts, shuffle=True, random_state=seed)
    found = splitter.split(np.zeros(len(order)), targets[first[order]])
    return [np.flatnonzero(np.isin(members, order[part])) for _, part in found]
