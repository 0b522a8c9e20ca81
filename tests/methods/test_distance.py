"""The distance between all weights and the source's: value and gradient. Its kernels: tests/test_fake_cuda.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from delta.methods.base import PenaltyInputs, parameter_distance

SHAPES = {"stem": (8, 3, 3, 3), "conv": (16, 8, 1, 1), "depthwise": (16, 1, 3, 3), "norm": (16,), "scale": ()}


def tensors(seed: int, names=SHAPES) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(SHAPES[name], generator=noise) for name in names}
    return {
        name: each.to(memory_format=torch.channels_last) if each.dim() == 4 else each for name, each in made.items()
    }


@pytest.fixture
def pair() -> PenaltyInputs:
    """Weights and source weights, which are named in another order."""
    weights = {name: each.requires_grad_() for name, each in tensors(0).items()}
    return PenaltyInputs(weights, tensors(1, reversed(SHAPES)))


def test_value_and_gradient_are_those_of_the_formula(pair):
    ours = {name: weight.detach().numpy().astype(np.float64) for name, weight in pair.weights.items()}
    theirs = {name: pair.source_weights[name].numpy().astype(np.float64) for name in ours}
    penalty = parameter_distance(pair)
    assert penalty.shape == () and penalty.dtype == torch.float32
    assert penalty.item() == pytest.approx(sum(((ours[name] - theirs[name]) ** 2).sum() for name in ours) / 2, rel=1e-6)
    (3 * penalty).backward()
    for name, weight in pair.weights.items():
        if weight.dim() == 4:  # the layout of the network's own gradient, to which it is added
            assert weight.grad.is_contiguous(memory_format=torch.channels_last), name
        assert weight.grad.numpy() == pytest.approx(3 * (ours[name] - theirs[name]), rel=1e-6), name


def test_gradients_of_other_terms_are_added(pair):
    """Autograd adds into the gradient that the distance returns, which must not be its own tensor by then."""
    weight, source = pair.weights["conv"], pair.source_weights["conv"]
    (parameter_distance(pair) + (2 * weight).sum() + weight.square().sum()).backward()
    expected = 3 * weight.detach() - source + 2
    assert torch.allclose(weight.grad, expected, rtol=1e-5, atol=1e-5)
    assert not any(each.requires_grad or each.grad is not None for each in pair.source_weights.values())


def test_at_the_source_value_and_gradient_are_0(pair):
    there = {name: weight.detach().clone() for name, weight in pair.weights.items()}
    penalty = parameter_distance(replace(pair, source_weights=there))
    penalty.backward()
    assert penalty.item() == 0
    assert all(weight.grad.eq(0).all() for weight in pair.weights.values())


def test_another_backward_pass_is_refused(pair):
    """It would return a gradient that has been scaled twice."""
    penalty = parameter_distance(pair)
    penalty.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        penalty.backward()
