"""Every penalty compared with plain loops on a tiny network in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from delta.methods.base import PenaltyInputs, private_penalty
from delta.methods.registry import KEYS, method_class
from delta.networks.hooks import capture_maps

LAYERS = ("0", "2")
CHANNEL_WEIGHTS = {"0": torch.tensor([0.5, 1.5, 1.0]).double(), "2": torch.tensor([1.9, 0.1]).double()}
UNIFORM = {layer: torch.ones_like(values) for layer, values in CHANNEL_WEIGHTS.items()}


def tiny(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 2, bias=False)).double()


@pytest.fixture
def networks():
    target, source = tiny(1), tiny(2).eval()
    images = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(3)).double()
    return target, source, images


def compare(
    target: nn.Module, source: nn.Module, images: torch.Tensor, channel_weights=CHANNEL_WEIGHTS
) -> PenaltyInputs:
    with capture_maps(target, LAYERS) as maps, capture_maps(source, LAYERS) as source_maps:
        target(images)
        with torch.no_grad():
            source(images)
    filters = {layer: (layer,) for layer in LAYERS}
    return PenaltyInputs(
        dict(target.named_parameters()), dict(source.named_parameters()), maps, source_maps, channel_weights, filters
    )


def looped_l2_sp(pair: PenaltyInputs, attention: bool) -> float:
    total = 0.0
    for name, weight in pair.weights.items():
        layer = name.removesuffix(".weight")
        for j in range(len(weight)):
            counted = pair.channel_weights[layer][j].item() if attention and layer in pair.channel_weights else 1.0
            ours, theirs = weight[j].reshape(-1).tolist(), pair.source_weights[name][j].reshape(-1).tolist()
            for a, b in zip(ours, theirs, strict=True):
                total += counted * (a - b) ** 2 / 2
    return total


def looped_delta(pair: PenaltyInputs, scale: str, rectify: bool, attention: bool) -> float:
    total = 0.0
    for layer, maps in pair.maps.items():
        b, c, h, w = maps.shape
        ours, theirs = maps.tolist(), pair.source_maps[layer].tolist()
        distance, square = 0.0, 0.0
        for i in range(b):
            for j in range(c):
                counted = pair.channel_weights[layer][j].item() if attention else 1.0
                for y in range(h):
                    for x in range(w):
                        p, q = ours[i][j][y][x], theirs[i][j][y][x]
                        if rectify:
                            p, q = max(p, 0.0), max(q, 0.0)
                        distance += counted * (p - q) ** 2
                        square += q * q
        if scale == "equation":  # Σ_j W_j ‖ΔFM_j‖², W_j = channel weight / C, averaged over images
            total += distance / c / b
        elif scale == "sum":
            total += distance / (h * w) / 2
        else:
            total += distance / (h * w) / 2 / (square / (b * c * h * w))
    return total


DELTAS = [(scale, rectify) for scale in ("sum", "source", "equation") for rectify in (True, False)]
CASES = [
    ("l2_sp", {}, partial(looped_l2_sp, attention=False)),
    ("l2_sp_att", {}, partial(looped_l2_sp, attention=True)),
    *(
        (key, {"scale": scale, "rectify": rectify}, partial(looped_delta, scale=scale, rectify=rectify, attention=a))
        for key, a in (("delta", True), ("delta_wo_att", False))
        for scale, rectify in DELTAS
    ),
]


@pytest.mark.parametrize(("key", "options", "looped"), CASES)
def test_penalty_and_gradient_equal_the_formula(networks, key, options, looped):
    target, source, images = networks
    method = method_class(key)(**options)
    penalty = method.shared_penalty(compare(target, source, images))
    assert penalty.item() == pytest.approx(looped(compare(target, source, images)), rel=1e-9)
    penalty.backward()
    step = 1e-5
    for parameter in target.parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(flat), 5):
            before, around = flat[place].item(), []
            for shift in (step, -step):
                flat[place] = before + shift
                around.append(looped(compare(target, source, images)))
            flat[place] = before
            assert gradient[place].item() == pytest.approx((around[0] - around[1]) / (2 * step), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("scale", "rectify"), DELTAS)
def test_delta_without_attention_is_delta_with_weights_of_1(networks, scale, rectify):
    pair = compare(*networks, channel_weights=UNIFORM)
    with_attention, without = (method_class(key)(scale=scale, rectify=rectify) for key in ("delta", "delta_wo_att"))
    expected = with_attention.shared_penalty(pair)
    assert torch.equal(expected, without.shared_penalty(pair))
    assert torch.equal(expected, without.shared_penalty(replace(pair, channel_weights={})))


def test_l2_sp_with_attention_weights_of_1_is_l2_sp(networks):
    pair = compare(*networks, channel_weights=UNIFORM)
    expected = method_class("l2_sp")().shared_penalty(replace(pair, channel_weights={}))
    assert torch.equal(method_class("l2_sp_att")().shared_penalty(pair), expected)
    assert expected.item() > 0


def shuffled_own(seed: int) -> nn.Module:
    return method_class("delta_shuffled")().prepare(SimpleNamespace(seed=seed))


def test_delta_shuffled_is_the_formula_with_permuted_weights(networks):
    """Of all permutations of both layers' filters one fits, the same one for other images; every one is drawn."""
    target, source, images = networks
    method, drawn = method_class("delta_shuffled")(scale="source"), set()
    orders = [(one, two) for one in permutations(range(3)) for two in permutations(range(2))]
    for seed in range(60):
        fitting = []
        for shown in (images, images.flip(0, 3) + 0.5):
            pair = replace(compare(target, source, shown), own=shuffled_own(seed))
            penalty = method.shared_penalty(pair).item()
            fits = {
                order
                for order in orders
                if penalty == pytest.approx(looped_delta(permuted(pair, order), "source", True, True), rel=1e-9)
            }
            fitting.append(fits)
        (order,) = fitting[0]
        assert fitting[1] == {order}
        drawn.add(order)
    assert drawn == set(orders)


def permuted(pair: PenaltyInputs, orders: tuple[tuple[int, ...], ...]) -> PenaltyInputs:
    weights = {layer: CHANNEL_WEIGHTS[layer][list(order)] for layer, order in zip(LAYERS, orders, strict=True)}
    return replace(pair, channel_weights=weights)


def test_each_layer_has_a_permutation_of_its_own_and_each_seed_others():
    """With maps of one pixel, 1 in the network and 0 in the source, the gradient of Ω is each filter's weight."""
    weights = torch.rand(40, generator=torch.Generator().manual_seed(0)).double()

    def weighed(seed: int) -> list[list[float]]:
        maps = {layer: torch.ones(1, 40, 1, 1).double().requires_grad_() for layer in LAYERS}
        sources = {layer: torch.zeros(1, 40, 1, 1).double() for layer in LAYERS}
        inputs = PenaltyInputs({}, {}, maps, sources, dict.fromkeys(LAYERS, weights), own=shuffled_own(seed))
        method_class("delta_shuffled")().shared_penalty(inputs).backward()
        return [each.grad.flatten().tolist() for each in maps.values()]

    found = [layer for seed in range(3) for layer in weighed(seed)]
    assert all(sorted(layer) == sorted(weights.tolist()) for layer in found)
    assert len({tuple(layer) for layer in [weights.tolist(), *found]}) == 7
    assert weighed(2) == found[4:]


@pytest.mark.parametrize(("scale", "rectify"), DELTAS)
def test_delta_shuffled_with_equal_weights_is_delta(networks, scale, rectify):
    equal = {layer: torch.full_like(values, 0.7) for layer, values in CHANNEL_WEIGHTS.items()}
    pair = replace(compare(*networks, channel_weights=equal), own=shuffled_own(0))
    shuffled, attentive = (method_class(key)(scale=scale, rectify=rectify) for key in ("delta_shuffled", "delta"))
    assert torch.equal(shuffled.shared_penalty(pair), attentive.shared_penalty(pair))


def test_three_methods_use_attention():
    assert {key for key in KEYS if method_class(key).uses_attention} == {"delta", "delta_shuffled", "l2_sp_att"}


@pytest.mark.parametrize("key", ["l2_sp", "l2_sp_att", "delta_wo_att", "delta"])
def test_penalty_is_zero_at_the_source(networks, key):
    _, source, images = networks
    assert method_class(key)().shared_penalty(compare(source, source, images)).item() == 0


@pytest.mark.parametrize("key", ["l2_fe", "l2"])
def test_methods_without_a_penalty(networks, key):
    assert method_class(key)().shared_penalty(compare(*networks)) is None


def test_private_penalty_covers_weight_and_bias():
    head = {"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([2.0])}
    assert private_penalty(head).item() == (9 + 16 + 4) / 2


def test_an_inactive_source_layer_gives_no_nan(networks):
    target, source, images = networks
    for parameter in source.parameters():
        parameter.data.zero_()
    penalty = method_class("delta")(scale="source").shared_penalty(compare(target, source, images))
    assert math.isfinite(penalty.item())


def test_capturing_maps_removes_its_hooks(networks):
    target, _, images = networks
    with pytest.raises(ZeroDivisionError), capture_maps(target, LAYERS):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in target.modules())
    with capture_maps(target, LAYERS) as maps:
        target(images)
    assert set(maps) == set(LAYERS)
    assert torch.equal(maps["0"], target[0](images))
