"""Filter importance, compared with brute force."""

from __future__ import annotations

import copy
import dataclasses
import re

import numpy as np
import pytest
import timm
import torch
from torch.nn.functional import conv2d, cross_entropy
from torch.overrides import TorchFunctionMode

from delta.attention import fisher
from delta.attention.fisher import group_classes
from delta.attention.importance import filter_importance, run_importance
from delta.attention.removal import _FirstMixingModule, fold_batch_norms
from delta.io.errors import UserError
from delta.networks.hooks import capture_maps
from delta.networks.network import Network, build_network, save_network, trained_network
from delta.networks.spec import BackboneSpec
from delta.sources.catalogue import NETWORKS
from delta.sources.introspection import find_path
from tests.helpers.tiny import CPU, FILTERS, SPEC, hooks, same_state


@pytest.fixture(scope="module")
def network(weights):
    return build_network(weights, 3).train()


@pytest.fixture(scope="module")
def one_per_class(data):
    """The same data with one training image per class, for brute force in float64."""
    return data.hold_out(np.array([place for place in range(len(data.rows("train"))) if place % 4]))


@pytest.fixture(scope="module")
def importance(network, data):
    return filter_importance(network, data)


class Float64:
    """The same data as float64 inputs, so that rounding cannot hide an error."""

    def __init__(self, data):
        self.rows, self._data = data.rows, data

    def test_batches(self, *arguments):
        for images, targets in self._data.test_batches(*arguments):
            yield images.double(), targets


def brute_force(network, data, convolutions, every=1) -> list[float]:
    """Set each filter's weights to 0 in turn and run full passes over the training images; one entry per filter."""
    images, targets = map(torch.cat, zip(*data.test_batches("train", network.spec, 64, CPU), strict=True))
    brute, found = copy.deepcopy(network).eval(), []

    @torch.no_grad()
    def loss() -> float:
        return cross_entropy(brute(images).double(), targets, reduction="sum").item()

    intact = loss()
    filters = [(name, j) for name in convolutions for j in range(brute.backbone.get_submodule(name).out_channels)]
    for name, j in filters[::every]:
        weight = brute.backbone.get_submodule(name).weight
        kept = weight.data[j].clone()
        weight.data[j] = 0
        found.append(loss() - intact)
        weight.data[j] = kept
    return found


def random_network(architecture: str, layers: dict[str, tuple[str, ...]], size: int) -> Network:
    """A float64 network with random weights and batch norms that keep the scale of the maps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model(architecture, num_classes=0).eval()
        path = find_path(backbone, torch.randn(1, 3, size, size))
        network = Network(BackboneSpec(architecture, "", path, layers, {}, SPEC.mean, SPEC.std), 3)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.3)
        with torch.no_grad():
            for _ in range(8):
                network.train()(torch.randn(6, 3, size, size))
    return network.eval().double()


@pytest.fixture
def last_layer_only(network, monkeypatch):
    """Compute only the last layer, which is quick, for tests that do not depend on the layer."""
    monkeypatch.setattr(
        network, "spec", dataclasses.replace(SPEC, feature_layers=dict([*SPEC.feature_layers.items()][-1:]))
    )


def test_importance_equals_brute_force(network, data, importance):
    assert {layer: len(scores) for layer, scores in importance.items()} == FILTERS
    for layer, scores in importance.items():
        brute = brute_force(network, data, [layer], every=3)
        assert scores[::3].tolist() == pytest.approx(brute, abs=1e-5)
        assert max(map(abs, brute)) > 1e-4


def test_importance_equals_brute_force_in_float64(network, one_per_class):
    exact, precise = copy.deepcopy(network).double(), Float64(one_per_class)
    for layer, scores in filter_importance(exact, precise).items():
        brute = brute_force(exact, precise, [layer], every=7)
        assert scores[::7].tolist() == pytest.approx(brute, rel=1e-10, abs=1e-11)


# These networks differ in what filters can share. No convolution follows the last layer of a ResNet. The first filters
# of a block, and those before squeeze-and-excitation, are mixed with others inside the block. MobileNet blocks without
# a shortcut are chains of modules.
@pytest.mark.parametrize(
    ("architecture", "layers", "alone"),
    [
        ("resnet18", ["layer1.1.conv2", "layer3.1.conv2", "layer4.1.conv2"], []),
        ("resnet14t", ["layer2.0.conv1", "layer4.0.conv3"], ["layer2.0.conv1"]),
        ("seresnet18", ["layer2.1.conv2"], ["layer2.1.conv2"]),
        ("mobilenetv2_035", ["blocks.3.0.conv_pwl", "conv_head"], []),
    ],
)
def test_importance_of_any_network_equals_brute_force(architecture, layers, alone, one_per_class, capsys):
    network, precise = random_network(architecture, {layer: (layer,) for layer in layers}, 32), Float64(one_per_class)
    found = filter_importance(network, precise)
    for layer in layers:
        every = 1 + len(found[layer]) // 8
        brute = brute_force(network, precise, [layer], every)
        assert found[layer][::every].tolist() == pytest.approx(brute, rel=1e-10, abs=1e-10 * max(map(abs, brute)))
        assert max(map(abs, brute)) > 1e-6
    assert layers_without_sharing(capsys) == alone


def test_removing_one_filter_at_a_time_equals_brute_force(one_per_class, monkeypatch):
    """Large maps force this. The weights are channels-last, as in networks that were loaded."""
    monkeypatch.setattr("delta.attention.removal._CHUNK_SIZE", {"cpu": 1})
    network = random_network("resnet10t", {"layer2.0.conv2": ("layer2.0.conv2",)}, 32)
    network = network.to(memory_format=torch.channels_last)
    (found,) = filter_importance(network, Float64(one_per_class)).values()
    brute = brute_force(network, Float64(one_per_class), ["layer2.0.conv2"], 9)
    assert found[::9].tolist() == pytest.approx(brute, rel=1e-10, abs=1e-10 * max(map(abs, brute)))


def test_a_network_with_an_unknown_path_needs_one_pass_per_filter(network, data, monkeypatch, capsys):
    monkeypatch.setattr(
        network, "spec", dataclasses.replace(SPEC, path=("",), feature_layers=dict([*SPEC.feature_layers.items()][:1]))
    )
    (layer, scores), *_ = filter_importance(network, data).items()
    assert scores.tolist() == pytest.approx(brute_force(network, data, [layer]), abs=1e-5)
    assert layers_without_sharing(capsys) == [layer]


def layers_without_sharing(capsys) -> list[str]:
    """The layers that, by the printed message, need one pass per filter."""
    said = re.search("one forward pass per filter for (.+), whose", capsys.readouterr().out)
    return said[1].split(", ") if said else []


def linearised(network, data, layer: str) -> list[float]:
    """The loss after the first-order change of the logits, with the Jacobian computed by image and class."""
    rises, backbone = 0, network.backbone
    for images, targets in data.test_batches("train", network.spec, 1, CPU):
        with capture_maps(backbone, [layer]) as maps:
            logits = network(images.requires_grad_())
        rows = [torch.autograd.grad(logit, maps[layer], retain_graph=True)[0] for logit in logits[0]]
        change = torch.stack([(row * maps[layer]).sum((2, 3))[0] for row in rows], 1)  # filter, class
        after, before = logits - change, logits.expand(len(change), -1)
        every = targets.expand(len(change))
        rises = rises + cross_entropy(after, every, reduction="none") - cross_entropy(before, every, reduction="none")
    return rises.tolist()


@pytest.mark.parametrize("pixels", [1, 1 << 19], ids=["image by image", "all images at once"])
def test_the_fisher_estimate_is_the_loss_of_linearised_logits(network, one_per_class, pixels, monkeypatch):
    """With three classes, gathering keeps all classes separate."""
    monkeypatch.setitem(fisher._CHUNK_SIZE, "cpu", pixels)
    exact, precise = copy.deepcopy(network).double().eval(), Float64(one_per_class)
    found = filter_importance(exact, precise, "fisher")
    for layer in list(SPEC.feature_layers)[1::2]:
        assert found[layer].tolist() == pytest.approx(linearised(exact, precise, layer), rel=1e-8, abs=1e-12)


def test_gathering_classes_keeps_the_loss():
    noise = torch.Generator().manual_seed(0)
    logits, targets = 3 * torch.randn(50, 7, generator=noise), torch.randint(7, (50,), generator=noise)
    groups, weights = group_classes(logits, targets)
    own = cross_entropy(groups, torch.zeros(50, dtype=torch.int64), reduction="none")
    assert own.tolist() == pytest.approx(cross_entropy(logits.double(), targets, reduction="none").tolist())
    assert groups[:, 1].tolist() == [
        max(v for k, v in enumerate(row) if k != t) for row, t in zip(logits.tolist(), targets, strict=True)
    ]
    assert weights.sum(2).flatten().tolist() == pytest.approx([1.0] * 150)
    small = 1e-4 * torch.randn(50, 7, generator=noise, dtype=torch.float64)
    change = group_classes((logits.double() + small), targets)[0] - group_classes(logits.double(), targets)[0]
    assert change.flatten().tolist() == pytest.approx((weights * small).sum(2).T.flatten().tolist(), rel=1e-2, abs=1e-8)


def test_fisher_is_exact_at_the_last_layer_of_a_resnet(one_per_class):
    layers = {name: (name,) for name in ("layer1.0.conv3", "layer4.0.conv3")}
    network, precise = random_network("resnet14t", layers, 32), Float64(one_per_class)
    exact, estimated = filter_importance(network, precise), filter_importance(network, precise, "fisher")
    assert torch.equal(exact["layer4.0.conv3"], estimated["layer4.0.conv3"])
    assert not torch.equal(exact["layer1.0.conv3"], estimated["layer1.0.conv3"])


class TF32(TorchFunctionMode):
    """Convolutions as on a GPU: where PyTorch's setting allows it, their factors have 10 bits of mantissa."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is conv2d and torch.backends.cudnn.conv.fp32_precision == "tf32":
            args = (*map(self.rounded, args[:2]), *args[2:])
        return function(*args, **(kwargs or {}))

    @staticmethod
    def rounded(numbers: torch.Tensor) -> torch.Tensor:
        return ((numbers.view(torch.int32) + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def test_rounding_to_tf32():
    numbers = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -3.1415927])
    assert TF32.rounded(numbers).tolist() == [1.0, 1 + 2**-10, 1 + 2**-10, 1.0, -3.140625]


def test_batch_norms_are_folded_on_a_gpu_that_rounds_to_tf32(network, data, importance, capsys):
    """The proof that folding keeps the outputs, and all that follows, are computed without that rounding."""
    images, _ = next(data.test_batches("train", network.spec, 6, CPU))
    exact = copy.deepcopy(network).eval()
    with torch.no_grad(), TF32():
        assert fold_batch_norms(exact, images) is exact
    said = "attention: batch norms are not folded into convolutions, as that changes the outputs: it takes longer\n"
    assert capsys.readouterr().err == said
    with TF32():
        found = filter_importance(network, data)
    assert "not folded" not in capsys.readouterr().err
    assert same_state(found, importance)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 5)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_first_module_gets_each_filter_removed_in_turn(shape, memory_format):
    noise = torch.Generator().manual_seed(0)
    intact, removed = (torch.randn(shape, generator=noise) for _ in range(2))
    if len(shape) == 4:
        intact, removed = (maps.contiguous(memory_format=memory_format) for maps in (intact, removed))
    expected = []
    for j in (3, 0):
        maps = intact.clone()
        maps[:, j] = removed[:, j]
        expected.append(maps)
    found = _FirstMixingModule(torch.nn.Identity(), intact, removed)(torch.tensor([3, 0]))
    assert torch.equal(found, torch.cat(expected))
    assert len(shape) == 2 or found.is_contiguous(memory_format=torch.channels_last)


def test_importance_does_not_change_the_network(network, weights, importance):
    assert network.training
    assert not hooks(network)
    assert same_state(network.state_dict(), build_network(weights, 3).state_dict())


def test_the_batch_size_does_not_matter(network, data, importance, last_layer_only):
    for layer, scores in filter_importance(network, data, batch_size=5).items():
        assert torch.allclose(scores, importance[layer], atol=1e-5)


def test_test_images_and_labels_do_not_matter(network, data, importance, last_layer_only):
    test = data.rows("test")
    view, index = np.array(data.test_view), data.index.copy()
    view[test] = 255 - view[test]
    index.loc[test, "target"] = 0
    other = filter_importance(network, dataclasses.replace(data, index=index, test_view=view))
    assert all(torch.equal(scores, importance[layer]) for layer, scores in other.items())


def test_importance_of_a_run_equals_that_of_its_network(network, packed, importance, tmp_path):
    save_network(network, tmp_path)
    assert same_state(trained_network(tmp_path).state_dict(), network.state_dict())
    again = run_importance(tmp_path, packed, "exact", CPU)
    assert all((again[layer] == importance[layer].numpy()).all() for layer in SPEC.feature_layers)


@pytest.mark.slice
def test_channels_of_a_mixed_block_belong_to_the_filters_of_their_branch(one_per_class):
    """The reference sets filters of each branch to 0. The branches have 64 + 64 + 96 + 64 channels, in this order."""
    published = NETWORKS["inception_v3"]
    layers = {layer: published.feature_layers[layer] for layer in ("Conv2d_2b_3x3", "Mixed_5d")}
    network = random_network("inception_v3", layers, 96)
    larger = dataclasses.replace(one_per_class, test_view=np.repeat(np.repeat(one_per_class.test_view, 3, 1), 3, 2))
    importance = filter_importance(network, Float64(larger))
    branches = ("branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool")
    makers = {"Conv2d_2b_3x3": ["Conv2d_2b_3x3.conv"], "Mixed_5d": [f"Mixed_5d.{branch}.conv" for branch in branches]}
    for layer, count in (("Conv2d_2b_3x3", 64), ("Mixed_5d", 288)):
        brute = brute_force(network, Float64(larger), makers[layer], every=7)
        assert len(importance[layer]) == count
        assert importance[layer][::7].tolist() == pytest.approx(brute, rel=1e-9, abs=1e-9 * max(map(abs, brute)))


def test_a_folder_without_a_network_is_reported(tmp_path):
    with pytest.raises(UserError, match="no trained network"):
        trained_network(tmp_path)
