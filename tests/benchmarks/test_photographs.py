"""The benchmark of photographs: how they are chosen, and the paired comparison against numbers by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.photographs import chosen, paired


def table(**classes: int) -> pd.DataFrame:
    names = [(f"{label}/{number:02}.jpg", label) for label, count in classes.items() for number in range(count)]
    return pd.DataFrame(names, columns=["path", "label"]).assign(group="")


def paths(index: pd.DataFrame, split: str, label: str) -> set[str]:
    return set(index["path"][(index["split"] == split) & (index["label"] == label)])


def test_both_sizes_are_tested_on_the_same_photographs():
    few, many = (chosen(table(cat=60, dog=41), size) for size in (10, 30))
    for label, tests in (("cat", 20), ("dog", 11)):
        assert paths(few, "test", label) == paths(many, "test", label)
        assert len(paths(few, "test", label)) == tests
        assert (len(paths(few, "train", label)), len(paths(many, "train", label))) == (10, 30)
        assert paths(few, "train", label) < paths(many, "train", label)
        assert not paths(many, "train", label) & paths(many, "test", label)
    assert list(many["path"]) == sorted(many["path"])


def test_of_near_duplicates_one_is_used():
    photographs = table(cat=40, dog=40)
    photographs.loc[photographs["path"].isin([f"cat/{number:02}.jpg" for number in range(8)]), "group"] = "0"
    index = chosen(photographs, 30)
    assert index["path"].isin(photographs["path"][photographs["group"] == "0"]).sum() <= 1
    assert len(paths(index, "test", "cat")) == 3  # 40 - 7 - 30


def test_a_class_with_too_few_photographs_is_refused():
    with pytest.raises(SystemExit, match="31"):
        chosen(table(cat=40, dog=30), 10)


def test_paired_difference():
    ours, other = np.ones(10, bool), np.ones(10, bool)
    other[:3] = False
    difference, low, high, p = paired(ours, other)
    assert difference == pytest.approx(30)
    # Of three that differ all are ours: p = 2 · 0.5³; the interval of the share ends at (0.05 / 2)^(1/3) and 1.
    assert p == pytest.approx(0.25)
    assert (low, high) == pytest.approx((30 * (2 * 0.025 ** (1 / 3) - 1), 30))
    assert paired(other, ours)[0] == pytest.approx(-30)
    assert paired(ours, ours) == (0, 0, 0, 1)
