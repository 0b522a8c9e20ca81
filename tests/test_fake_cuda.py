"""The path on a GPU, with a card that is not there: the CPU's results, no mix of devices, no wait in an iteration.

A mix of devices raises an error, so each comparison with the CPU also says that there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from delta.analysis.activation_maps import mean_activations_and_maps
from delta.analysis.concepts import Concepts
from delta.analysis.dissection import dissect
from delta.analysis.layer_maps import last_stage, upsample
from delta.analysis.parts import activations_at_parts, to_upright_pixels
from delta.analysis.unit_gallery import write_gallery
from delta.attention.importance import filter_importance
from delta.data.packed.views import random_crops
from delta.methods.l2_sp import L2SP
from delta.methods.registry import PAPER, method_class
from delta.networks.devices import deterministic, pick_device, to_device
from delta.networks.network import Network, build_network, trained_network
from delta.predict.classifier import Classifier
from delta.sources.introspection import find_path
from delta.training.evaluation import split_logits
from delta.training.loop import fine_tune, objective
from delta.training.run import write_run
from tests.helpers import broden
from tests.helpers.fake_cuda import CUDA, fake_card
from tests.helpers.tiny import (
    CPU,
    CROP,
    LAYERS,
    RESIZE,
    SPEC,
    TRAINED,
    TRAINING,
    recipe,
    same_state,
    source_classifier,
    uneven_channel_weights,
)

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: tests/networks/test_cuda.py uses it")

VIEWS = ("data", "whole")
PRECISIONS = ("fp32", "bf16")
RUNS = (*((key, "fp32") for key in TRAINED), ("delta", "bf16"))


def on_both(compute: Callable[[torch.device], Any]) -> tuple[Any, Any]:
    """What a function returns for the CPU and for the card."""
    expected = compute(CPU)
    with fake_card() as card:
        found = compute(CUDA)
    assert card.kernels.total()
    return expected, found


def method_of(key: str):
    penalised = method_class(key).has_penalty()
    return method_class(key)(**({"alpha": 0.03, "beta": 0.2} if penalised else {"weight_decay": 1e-4}))


def networks(weights, device: torch.device) -> tuple[Network, Network]:
    """A network a little away from its source, and its source."""
    network, source = (build_network(weights, 3) for _ in range(2))
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=noise)
    return network.to(device), source.to(device).eval().requires_grad_(False)


def channel_weights(device: torch.device) -> dict[str, Tensor]:
    return {layer: each.to(device) for layer, each in uneven_channel_weights().items()}


def tuned(weights, data, method, device: torch.device, precision: str = "fp32", **training: Any) -> dict[str, Tensor]:
    """The state of a network after some iterations, on the CPU."""
    network, source = (build_network(weights, 3).to(device) for _ in range(2))
    chosen = TRAINING.model_copy(update={"precision": precision, "clip_norm": 1.0} | training)
    classifier, chosen_recipe = source_classifier().to(device), recipe(method, training=chosen, learning_rate=0.001)
    with deterministic():
        fine_tune(network, source, data, chosen_recipe, uneven_channel_weights(), classifier=classifier)
    return {name: tensor.cpu() for name, tensor in network.state_dict().items()}


def per_iteration(weights, data, method, **training: Any) -> tuple[Counter[str], Counter[str]]:
    """The kernels and the waits of two of an epoch's four iterations, the third and the fourth."""
    counted = []
    for iterations in (2, 4):
        with fake_card() as card:
            tuned(weights, data, method, CUDA, iterations=iterations, batch_size=3, **training)
        counted.append(card)
    few, many = counted
    return many.kernels - few.kernels, many.waits - few.waits


def test_the_card_is_found_and_named(capsys):
    with fake_card():
        assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert capsys.readouterr().err.splitlines() == ["device: cuda, Fake GPU"] * 2


@pytest.mark.parametrize("view", VIEWS)
def test_training_crops(view, request):
    data = request.getfixturevalue(view)

    def crops(device: torch.device) -> Tensor:
        images = data.training_images(torch.tensor([3, 0, 7, 11]))
        return random_crops(images, CROP, torch.Generator().manual_seed(4), device).cpu()

    expected, found = on_both(crops)
    assert torch.equal(expected, found)


@pytest.mark.parametrize("view", VIEWS)
def test_logits_of_the_test_images(view, weights, request):
    data = request.getfixturevalue(view)
    expected, found = on_both(lambda device: split_logits(networks(weights, device)[0], data, "test"))
    assert torch.equal(expected, found)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("key", PAPER)
def test_objective_and_gradient(key, precision, weights):
    images = torch.randn(4, 3, CROP, CROP, generator=torch.Generator().manual_seed(1))
    targets, method = torch.tensor([0, 2, 1, 1]), method_of(key)

    def terms_and_gradients(device: torch.device) -> tuple[list[float], dict[str, Tensor]]:
        network, source = networks(weights, device)
        network.backbone.train(not method.frozen_backbone).requires_grad_(not method.frozen_backbone)
        batch = to_device(images, device), to_device(targets, device)
        terms = objective(network, source, *batch, method, channel_weights(device), precision)
        terms.loss.backward()
        gradients = {name: p.grad.cpu() for name, p in network.named_parameters() if p.grad is not None}
        return [term.item() for term in terms], gradients

    (expected, expected_gradients), (found, gradients) = on_both(terms_and_gradients)
    assert found == expected
    assert same_state(gradients, expected_gradients)
    assert len(gradients) == (2 if method.frozen_backbone else 149)


@pytest.mark.parametrize(("key", "precision"), RUNS)
def test_fine_tuning(key, precision, weights, data):
    # This penalty's gradient has another memory layout on the card, in whose order a clipped norm is summed.
    clip = {"clip_norm": None} if key == "bayes_sp" else {}
    expected, found = on_both(lambda device: tuned(weights, data, method_of(key), device, precision, **clip))
    assert same_state(expected, found)
    start = build_network(weights, 3).state_dict()
    assert torch.equal(found["head.weight"], start["head.weight"]) != method_class(key).trains


def residual_network(device: torch.device) -> Network:
    """A ResNet with one feature layer, which a 3 × 3 convolution follows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        path = find_path(timm.create_model("resnet10t", num_classes=0).eval(), torch.randn(1, 3, CROP, CROP))
        layers = {"layer2.0.conv2": ("layer2.0.conv2",)}
        return Network(replace(SPEC, architecture="resnet10t", path=path, feature_layers=layers), 3).to(device)


@pytest.mark.parametrize("architecture", ["efficientnet", "resnet"])
@pytest.mark.parametrize("estimator", ["exact", "fisher"])
def test_attention(architecture, estimator, weights, data):
    def importance(device: torch.device) -> dict[str, Tensor]:
        network = networks(weights, device)[0] if architecture == "efficientnet" else residual_network(device)
        with deterministic():
            return filter_importance(network, data, estimator)

    expected, found = on_both(importance)
    assert len(found) == (4 if architecture == "efficientnet" else 1)
    assert same_state(expected, found)


def test_attention_waits_for_no_chunk_of_filters(data, monkeypatch):
    cards = []
    for size in (1 << 16, 1 << 27):
        monkeypatch.setattr("delta.attention.removal._CHUNK_SIZE", {"cuda": size})
        with fake_card() as card, deterministic():
            filter_importance(residual_network(CUDA), data)
        cards.append(card)
    small, large = cards
    assert small.kernels.total() > 2 * large.kernels.total()
    assert small.waits == large.waits


def test_dissection_and_its_gallery(weights, tmp_path):
    concepts = Concepts.open(broden.write(tmp_path / "concepts", broden.random_images(5)))

    def dissection(device: torch.device) -> tuple[pd.DataFrame, np.ndarray, list[bytes]]:
        network, out = networks(weights, device)[0], tmp_path / device.type
        out.mkdir()
        assert last_stage(network, CROP) == "bn2"
        found = dissect(network, concepts, CROP, LAYERS[0], batch_size=2)
        write_gallery(out, found, network, concepts, CROP)
        return found.units, found.top_images, [file.read_bytes() for file in sorted(out.iterdir())]

    (expected, expected_tops, expected_files), (found, tops, files) = on_both(dissection)
    pd.testing.assert_frame_equal(expected, found, check_exact=True)
    assert found["detects"].any()
    assert (expected_tops == tops).all()
    assert expected_files == files
    assert len(files) > 1


def test_activation_at_parts_and_activation_maps(weights, data, photographs):
    tests = data.index["path"].iloc[data.rows("test")]
    points = pd.DataFrame({"path": tests, "part": "leg", "x": 20.0, "y": range(len(tests)), "visible": True})
    parts = to_upright_pixels(points, tests, photographs)

    def measured(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        network = networks(weights, device)[0]
        with deterministic():
            maps = mean_activations_and_maps(network, data, np.array([1, 4]), LAYERS[1], batch_size=4)
            return activations_at_parts(network, data, parts, LAYERS[1], batch_size=4), *maps

    for expected, found in zip(*on_both(measured), strict=True):
        assert expected.abs().sum() > 0
        assert torch.equal(expected, found)


@pytest.mark.parametrize("name", ["run", "improved_run"])
def test_classifying_files(name, photographs, request):
    run, paths = request.getfixturevalue(name), sorted(photographs.rglob("*.png"))[::5]

    def probabilities(device: torch.device) -> np.ndarray:
        return np.stack([each.probabilities for each in Classifier.open(run, device).classify(paths)])

    expected, found = on_both(probabilities)
    assert (expected == found).all()


def test_a_whole_run(weights, data, tmp_path):
    """Trained, tested and written: the same predictions and the same weights, in files that need no GPU."""

    def files(device: torch.device) -> tuple[bytes, dict[str, Tensor]]:
        out = tmp_path / device.type
        out.mkdir()
        write_run(out, recipe(method_of("l2_sp")), data, weights, None, resize=RESIZE, device=device)
        predictions = [file for file in out.iterdir() if file.name.startswith("predictions")]
        return predictions[0].read_bytes(), trained_network(out).state_dict()

    (expected, expected_state), (found, state) = on_both(files)
    assert expected == found
    assert same_state(expected_state, state)


@pytest.mark.parametrize(("key", "precision"), RUNS)
def test_an_iteration_does_not_wait_for_the_card(key, precision, weights, data):
    """Of an epoch, four iterations wait as often as two do: at the start and where the losses are read."""
    _, waits = per_iteration(weights, data, method_of(key), precision=precision, clip_norm=1.0)
    assert not waits


def test_l2_sp_launches_at_most_half_more_kernels_than_l2(weights, data):
    l2, l2_sp = (per_iteration(weights, data, method_of(key), clip_norm=None)[0] for key in ("l2", "l2_sp"))
    assert l2["convolution"] == l2["convolution_backward"] == 2 * 49
    assert l2_sp.total() <= 1.5 * l2.total(), l2_sp - l2


class Waiting(L2SP):
    def shared_penalty(self, inputs):
        penalty = super().shared_penalty(inputs)
        return penalty * (1 + penalty.item())


class Mixing(L2SP):
    def shared_penalty(self, inputs):
        return super().shared_penalty(inputs) + (inputs.weights["bn1.weight"] * torch.ones(32)).sum()


def test_a_wait_that_is_planted_is_found(weights, data):
    _, waits = per_iteration(weights, data, Waiting(alpha=0.01))
    ((where, count),) = waits.items()
    assert where.startswith("_local_scalar_dense at tests/test_fake_cuda.py:")
    assert count == 2


def test_a_mix_of_devices_that_is_planted_fails(weights, data, monkeypatch):
    expected_on_cpu = tuned(weights, data, Mixing(alpha=0.01), CPU)
    assert expected_on_cpu
    with (
        fake_card(),
        pytest.raises(RuntimeError, match=r"mul: .* on the same device, but found cuda \(32,\), cpu \(32,\)"),
    ):
        tuned(weights, data, Mixing(alpha=0.01), CUDA)
    monkeypatch.setattr("delta.training.loop.to_device", lambda tensor, device: tensor)  # targets stay on the CPU
    with fake_card(), pytest.raises(RuntimeError, match="nll_loss_forward: .* on the same device"):
        tuned(weights, data, method_of("l2"), CUDA)


def test_an_operation_without_a_deterministic_kernel_fails():
    with fake_card():
        x = torch.ones(1, 1, 4, 4, device=CUDA, requires_grad=True)
        for operation in (lambda: adaptive_avg_pool2d(x, 2), lambda: torch.bincount(x.detach().flatten().long())):
            operation().sum().backward() if operation().requires_grad else None
            with deterministic(), pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
                operation().sum().backward()


def test_what_the_card_counts():
    with fake_card() as card:
        x = torch.arange(6, device=CUDA).view(2, 3)  # a view launches nothing
        y = torch.empty_like(x).copy_(x)[0]
        assert (card.kernels, card.waits) == ({"arange": 1, "copy_": 1}, {})
        to_device(torch.ones(3), CUDA)  # pinned
        assert not card.waits
        assert y.tolist() == [0, 1, 2]
        torch.ones(3).to(CUDA, non_blocking=True)  # not pinned
        assert x[0, 1].item() == 1
        assert [place.split(" at ")[0] for place in card.waits] == [
            "copy to the CPU",
            "copy to the GPU from memory that is not pinned",
            "_local_scalar_dense",
        ]
        with pytest.raises(TypeError, match="cuda:0 device type tensor to numpy"):
            x.numpy()


def test_upsampling_takes_one_kernel_and_leaves_the_mode_on():
    """PyTorch's own detour in deterministic mode, for the sake of the gradient, takes many."""
    maps, launched = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)), []
    with fake_card() as card, deterministic():
        on_card = maps.to(CUDA)
        for resize in (upsample, partial(interpolate, mode="bilinear", align_corners=False)):
            card.kernels.clear()
            resized = resize(on_card, (9, 7))
            launched.append(card.kernels.total())
            torch.testing.assert_close(resized.cpu(), upsample(maps, (9, 7)))
    assert launched[0] == 1
    assert launched[1] > 20
