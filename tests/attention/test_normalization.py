"""From filter importance to channel weights, compared with the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from delta.attention.normalization import attention, channel_weights

IMPORTANCE = {"late": np.array([3.0, -1.0, 4.0, 0.1]), "early": np.array([0.5, 0.25])}


def softmax(exponents: list[float]) -> list[float]:
    total = sum(map(math.exp, exponents))
    return [math.exp(exponent) / total for exponent in exponents]


def standardized(raw: list[float]) -> list[float]:
    mean = sum(raw) / len(raw)
    std = math.sqrt(sum((w - mean) ** 2 for w in raw) / len(raw))
    return softmax([(w - mean) / std / 5 for w in raw])


def test_attention_equals_the_formula():
    raw = IMPORTANCE["late"]
    assert attention(raw, "standardized") == pytest.approx(standardized(raw.tolist()), rel=1e-12)
    assert attention(raw, "literal") == pytest.approx(softmax(raw.tolist()), rel=1e-12)


def test_attention_of_extreme_importance():
    assert attention(np.array([2000.0, -2000.0]), "literal").tolist() == [1, 0]
    assert attention(np.full(4, 2.0), "standardized").tolist() == [0.25] * 4


def test_standardized_attention_ignores_scale_and_offset():
    raw = IMPORTANCE["late"]
    assert attention(3 * raw + 7, "standardized") == pytest.approx(attention(raw, "standardized"), rel=1e-12)


@pytest.mark.parametrize(("normalization", "by_hand"), [("standardized", standardized), ("literal", softmax)])
def test_channel_weights_average_1_in_each_layer(normalization, by_hand):
    found = channel_weights(IMPORTANCE, normalization)
    assert list(found) == ["late", "early"]
    for layer, raw in IMPORTANCE.items():
        assert found[layer] == pytest.approx([len(raw) * w for w in by_hand(raw.tolist())], rel=1e-12)
        assert found[layer].mean() == pytest.approx(1)
