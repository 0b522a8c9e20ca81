"""From importance to channel_weights, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from delta.io.errors import UserError
from delta.methods.channel_weights import normalized, read_channel_weights, write_channel_weights, write_importance

IMPORTANCE = {"late": np.array([3.0, -1.0, 4.0, 0.1]), "early": np.array([0.5, 0.25])}


def softmax(exponents: list[float]) -> list[float]:
    total = sum(map(math.exp, exponents))
    return [math.exp(exponent) / total for exponent in exponents]


def by_hand(raw: list[float]) -> list[float]:
    mean = sum(raw) / len(raw)
    std = math.sqrt(sum((w - mean) ** 2 for w in raw) / len(raw))
    return softmax([(w - mean) / std / 5 for w in raw])


def test_normalizations():
    raw = IMPORTANCE["late"]
    assert normalized(raw, "standardized") == pytest.approx(by_hand(raw.tolist()), rel=1e-12)
    assert normalized(raw, "literal") == pytest.approx(softmax(raw.tolist()), rel=1e-12)
    assert normalized(np.array([2000.0, -2000.0]), "literal").tolist() == [1, 0]
    assert normalized(np.full(4, 2.0), "standardized").tolist() == [0.25] * 4


def test_files_hold_what_a_method_uses(tmp_path):
    write_importance(tmp_path / "importance.csv", IMPORTANCE)
    write_channel_weights(tmp_path / "delta.csv", tmp_path / "importance.csv", "standardized")
    write_channel_weights(tmp_path / "l2.csv", tmp_path / "importance.csv", None)
    learned, uniform = (read_channel_weights(tmp_path / f"{key}.csv") for key in ("delta", "l2"))
    assert list(learned) == list(uniform) == ["late", "early"]
    for layer, raw in IMPORTANCE.items():
        assert learned[layer] == pytest.approx([len(raw) * w for w in by_hand(raw.tolist())], rel=1e-12)
        assert learned[layer].mean() == pytest.approx(1)
        assert uniform[layer].tolist() == [1] * len(raw)


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.csv: not readable"):
        read_channel_weights(tmp_path / "nowhere.csv")
