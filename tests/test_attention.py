"""Filter importance against brute force."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import timm
import torch
from conftest import SPEC, STATISTICS
from torch.nn.functional import cross_entropy

from delta.anatomy import find_path
from delta.attention import filter_importance, run_importance
from delta.backbones import Backbone
from delta.catalogue import NETWORKS
from delta.errors import UserError
from delta.networks import Network, build_network, save_network, trained_network
from delta.views import normalised


@pytest.fixture(scope="module")
def network(weights):
    return build_network(weights, 3).train()


@pytest.fixture(scope="module")
def importance(network, data):
    return filter_importance(network, data)


def same_bits(one, other) -> bool:
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


@pytest.fixture
def last_layer_only(network, monkeypatch):
    """Enough for what holds of every layer, and quick."""
    monkeypatch.setattr(
        network, "spec", dataclasses.replace(SPEC, feature_layers=dict([*SPEC.feature_layers.items()][-1:]))
    )


def test_importance_equals_brute_force(network, data, importance):
    """Weights zeroed filter by filter, full forward passes over the training images."""
    assert {layer: len(scores) for layer, scores in importance.items()} == dict(
        zip(SPEC.feature_layers, (24, 40, 112, 320), strict=True)
    )
    rows = data.index["split"] == "train"
    images = normalised(torch.from_numpy(data.test_view[rows.to_numpy()]), STATISTICS)
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
    assert same_bits(network, build_network(weights, 3))


def test_batches_do_not_matter(network, data, importance, last_layer_only):
    for layer, scores in filter_importance(network, data, batch_size=5).items():
        assert torch.allclose(scores, importance[layer], atol=1e-5)


def test_test_images_and_labels_do_not_matter(network, data, importance, last_layer_only):
    test = data.rows("test")
    view, index = data.test_view.copy(), data.index.copy()
    view[test] = 255 - view[test]
    index.loc[test, "target"] = 0
    other = filter_importance(network, dataclasses.replace(data, index=index, test_view=view))
    assert all(torch.equal(scores, importance[layer]) for layer, scores in other.items())


def test_importance_of_a_run_is_that_of_its_network(network, packed, importance, tmp_path):
    save_network(network, tmp_path)
    assert same_bits(trained_network(tmp_path), network)
    again = run_importance(tmp_path, packed, torch.device("cpu"))
    assert all((again[layer] == importance[layer].numpy()).all() for layer in SPEC.feature_layers)


@pytest.fixture(scope="module")
def inception() -> Network:
    """Random, with one plain and one Mixed feature layer of the protocol's."""
    published = NETWORKS["inception_v3"]
    layers = {layer: published.feature_layers[layer] for layer in ("Conv2d_2b_3x3", "Mixed_5d")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model("inception_v3", num_classes=0).eval()
        path = find_path(backbone, torch.randn(1, 3, 96, 96))
    spec = Backbone("inception_v3", "", path, layers, {}, published.mean, published.std)
    network = Network(spec, 3).eval()
    noise = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.05, 0.2, generator=noise)
            module.bias.data.normal_(0, 0.3, generator=noise)
    return network


@pytest.mark.slice
def test_a_mixed_block_s_filter_is_the_branch_s_that_makes_the_channel(inception, data):
    """Channel by channel: the weights of one branch's filter zeroed, full forward passes."""
    part = dataclasses.replace(data, test_view=np.repeat(np.repeat(data.test_view, 3, 1), 3, 2))
    importance = filter_importance(inception, part)
    assert {layer: len(scores) for layer, scores in importance.items()} == {"Conv2d_2b_3x3": 64, "Mixed_5d": 288}
    images = normalised(torch.from_numpy(part.test_view[part.rows("train")]), STATISTICS)
    targets = part.targets("train")
    brute, found = copy.deepcopy(inception), []
    # The published order of the block's branches: 64 + 64 + 96 + 64 channels.
    branches = [("branch1x1", 64), ("branch5x5_2", 64), ("branch3x3dbl_3", 96), ("branch_pool", 64)]
    makers = [(f"Mixed_5d.{branch}.conv", j, "Mixed_5d") for branch, count in branches for j in range(count)]
    makers += [("Conv2d_2b_3x3.conv", j, "Conv2d_2b_3x3") for j in range(64)]

    @torch.no_grad()
    def loss() -> float:
        return cross_entropy(brute(images), targets, reduction="none").double().sum().item()

    intact = loss()
    places = {"Mixed_5d": 0, "Conv2d_2b_3x3": 0}
    for convolution, j, layer in makers:
        place = places[layer]
        places[layer] += 1
        if place % 7:
            continue
        weight = brute.backbone.get_submodule(convolution).weight
        kept = weight.data[j].clone()
        weight.data[j] = 0
        found.append(importance[layer][place].item())
        assert found[-1] == pytest.approx(loss() - intact, abs=1e-5)
        weight.data[j] = kept
    assert max(map(abs, found)) > 1e-4


def test_what_is_no_run_says_so(tmp_path):
    with pytest.raises(UserError, match="no trained network"):
        trained_network(tmp_path)
