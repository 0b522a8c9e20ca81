"""What is told from the classes: class means, similarity and threshold against formulas by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from delta.analysis.unknown import choose_threshold, class_means, read_class_means, similarity, write_class_means
from delta.io.errors import UserError

FEATURES = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0], [0.0, 0.1]])
TARGETS = torch.tensor([0, 0, 1, 0])


def test_class_means_are_mean_directions():
    """Class 0 has (1, 0) and twice (0, 1), however long they are."""
    expected = torch.tensor([[1 / math.sqrt(5), 2 / math.sqrt(5)], [-1.0, 0.0]])
    assert torch.allclose(class_means(FEATURES, TARGETS, 2), expected)


def test_similarity_is_the_cosine_to_the_nearest_mean():
    found = similarity(torch.tensor([[7.0, 14.0], [-0.5, 0.0], [2.0, -1.0]]), class_means(FEATURES, TARGETS, 2))
    assert torch.allclose(found, torch.tensor([1.0, 1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize("count", [1, 7, 20, 300])
def test_the_threshold_keeps_at_least_95_percent_and_no_higher_one_does(count):
    values = np.random.default_rng(count).random(count)
    threshold = choose_threshold(values)
    assert (values >= threshold).mean() >= 0.95
    assert (values > threshold).mean() < 0.95


def test_class_means_are_read_as_they_were_written(tmp_path):
    means = class_means(FEATURES, TARGETS, 2)
    write_class_means(tmp_path, means)
    assert torch.equal(read_class_means(tmp_path), means)
    (tmp_path / "class_means.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="class_means.safetensors: no class means .*: run `dvc repro`$"):
        read_class_means(tmp_path)
    (tmp_path / "class_means.safetensors").unlink()
    with pytest.raises(UserError, match="class_means.safetensors: no class means"):
        read_class_means(tmp_path)
