"""Accuracy over images and over classes, compared with scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from delta.training.evaluation import accuracy, macro_accuracy


def test_accuracies_equal_scikit_learns():
    noise = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 5, generator=noise)
    targets = (4 * torch.rand(200, generator=noise) ** 3).long()  # uneven, and none of the last class
    predicted = logits.argmax(1)
    assert accuracy(logits, targets) == pytest.approx(100 * accuracy_score(targets, predicted))
    # scikit-learn's mean, too, is over the classes that have images.
    expected = balanced_accuracy_score(targets[predicted < 4], predicted[predicted < 4])
    assert macro_accuracy(logits[predicted < 4], targets[predicted < 4]) == pytest.approx(100 * expected)
    assert abs(accuracy(logits, targets) - macro_accuracy(logits, targets)) > 1


def test_a_class_counts_alike_however_many_images_it_has():
    targets = torch.tensor([0] * 9 + [1])
    always_first = torch.tensor([[1.0, 0.0]]).expand(10, 2)
    assert accuracy(always_first, targets) == pytest.approx(90)
    assert macro_accuracy(always_first, targets) == pytest.approx(50)
