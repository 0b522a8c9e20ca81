"""Filter importance against brute force, and its normalisation by hand."""

from __future__ import annotations

import copy
import dataclasses
import math

import pandas as pd
import pytest
import torch
from conftest import SPEC
from torch.nn.functional import cross_entropy

from delta.attention import filter_importance, normalized, read_factors, write_attention
from delta.networks import build_network
from delta.views import normalised


@pytest.fixture(scope="module")
def network(weights):
    return build_network(SPEC, weights, 3).train()


@pytest.fixture(scope="module")
def importance(network, data):
    return filter_importance(network, data)


@pytest.fixture
def last_layer_only(network, monkeypatch):
    """Enough for what holds of every layer, and quick."""
    monkeypatch.setattr(network, "spec", dataclasses.replace(SPEC, feature_layers=SPEC.feature_layers[-1:]))


def test_importance_equals_brute_force(network, data, importance):
    """Weights zeroed filter by filter, full forward passes over the training images."""
    assert {layer: len(scores) for layer, scores in importance.items()} == dict(
        zip(SPEC.feature_layers, (24, 40, 112, 320), strict=True)
    )
    rows = data.index["split"] == "train"
    images = normalised(torch.from_numpy(data.test_view[rows.to_numpy()]), SPEC)
    targets = torch.tensor(data.index["target"][rows].to_numpy())
    brute = copy.deepcopy(network).eval()

    @torch.no_grad()
    def loss() -> float:
        return cross_entropy(brute(images), targets, reduction="none").double().sum().item()

    intact = loss()
    for layer, scores in importance.items():
        weight = brute.backbone.get_submodule(layer).weight
        for j in range(0, len(scores), 3):
            kept = weight.data[j].clone()
            weight.data[j] = 0
            assert scores[j].item() == pytest.approx(loss() - intact, abs=1e-5)
            weight.data[j] = kept
        assert scores.abs().max() > 1e-4


def test_importance_leaves_the_network_as_it_was(network, weights, importance):
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    fresh = build_network(SPEC, weights, 3).state_dict()
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in network.state_dict().items())


def test_batches_do_not_matter(network, data, importance, last_layer_only):
    for layer, scores in filter_importance(network, data, batch_size=5).items():
        assert torch.allclose(scores, importance[layer], atol=1e-5)


def test_test_images_and_labels_do_not_matter(network, data, importance, last_layer_only):
    test = data.rows("test")
    view, index = data.test_view.copy(), data.index.copy()
    view[test] = 255 - view[test]
    index.loc[test, "target"] = 0
    other = filter_importance(network, type(data)(index, data.train_view, view))
    assert all(torch.equal(scores, importance[layer]) for layer, scores in other.items())


def test_normalizations_by_hand():
    raw = [3.0, -1.0, 4.0, 0.5]
    mean = sum(raw) / 4
    std = math.sqrt(sum((w - mean) ** 2 for w in raw) / 4)
    for name, exponents in {"standardized": [(w - mean) / std / 5 for w in raw], "literal": raw}.items():
        total = sum(map(math.exp, exponents))
        expected = [math.exp(exponent) / total for exponent in exponents]
        assert normalized(torch.tensor(raw).double(), name).tolist() == pytest.approx(expected, rel=1e-12)
    assert normalized(torch.full((4,), 2.0), "standardized").tolist() == [0.25] * 4


def test_files_hold_what_a_method_uses(tmp_path):
    importance = {"a": torch.tensor([1.0, 2.0, 4.0]).double(), "b": torch.tensor([0.5, 0.25]).double()}
    write_attention(tmp_path / "delta.csv", importance, "standardized")
    write_attention(tmp_path / "l2.csv", importance, None)
    factors = read_factors(tmp_path / "delta.csv")
    assert list(factors) == ["a", "b"]
    for layer, raw in importance.items():
        assert torch.allclose(factors[layer], (len(raw) * normalized(raw, "standardized")).float(), atol=0, rtol=1e-6)
    assert all(torch.equal(factor, torch.ones(len(factor))) for factor in read_factors(tmp_path / "l2.csv").values())
    assert list(pd.read_csv(tmp_path / "delta.csv")["importance"]) == [1, 2, 4, 0.5, 0.25]
