"""Parts for cross-validation: scikit-learn's where all images differ; near-duplicates stay together."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from delta.analysis.folds import stratified_folds
from delta.analysis.probe import probe_folds
from delta.analysis.stratified import distinct_counts, stratified_parts
from delta.io.errors import UserError


def test_images_that_all_differ_are_split_as_by_scikit_learn():
    targets = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [20, 10, 7]))
    for seed in range(3):
        expected = StratifiedKFold(5, shuffle=True, random_state=seed).split(targets, targets)
        found = stratified_parts(targets, np.arange(37), 5, seed)
        assert all(np.array_equal(part, other) for part, (_, other) in zip(found, expected, strict=True))


def test_near_duplicates_are_in_one_part():
    """Also if their numbers are in no order; every part has as many distinct images of each class."""
    random = np.random.default_rng(0)
    targets, groups = np.repeat([0, 1], [40, 20]), np.concatenate([np.arange(40) // 4, 90 - np.arange(20)])
    order = random.permutation(60)
    targets, groups = targets[order], groups[order]
    parts = stratified_parts(targets, groups, 5, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(60))
    for part in parts:
        assert not set(groups[part]) & set(np.delete(groups, part))
        assert [len(set(groups[part][targets[part] == target])) for target in (0, 1)] == [2, 4]
    assert distinct_counts(targets, groups, 3).tolist() == [10, 20, 0]


def test_the_grid_the_comparison_and_the_probe_keep_near_duplicates_together(data):
    rows, names = data.rows("train"), np.full(len(data.index), "", object)
    names[rows[:2]] = "1"  # of the four ants
    data.index["group"] = names
    try:
        groups = data.groups("train")
        targets = data.targets("train").numpy()
        for folds in (stratified_folds(data, 3, 0, "folds"), probe_folds(targets, data.classes, 0, groups)):
            assert len(folds) == 3
            assert sum({0, 1} <= set(fold) for fold in folds) == 1
        with pytest.raises(UserError, match="4 folds, but of training images ant has 3: fewer"):
            stratified_folds(data, 4, 0, "folds")
    finally:
        del data.index["group"]
