"""The penalties of the field's methods compared with plain loops in float64: values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from delta.methods.base import PenaltyInputs
from delta.methods.registry import method_class

BATCH, FEATURES, SOURCE_CLASSES, CLASSES, QUEUE, PROJECTED = 4, 5, 6, 3, 2, 3
TARGETS = torch.tensor([0, 2, 0, 1])


def noise(seed: int, *size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def module(**tensors: Tensor | nn.Module) -> nn.Module:
    made = nn.Module()
    for name, tensor in tensors.items():
        if isinstance(tensor, nn.Module):
            setattr(made, name, tensor)
        else:
            made.register_buffer(name, tensor)
    return made


def linear(seed: int, outputs: int, inputs: int = FEATURES) -> nn.Linear:
    layer = nn.Linear(inputs, outputs).double()
    layer.load_state_dict({"weight": noise(seed, outputs, inputs), "bias": noise(seed + 1, outputs)})
    return layer.requires_grad_(False)


def inputs_of(key: str) -> PenaltyInputs:
    """Random inputs; all that the network in training computes is a leaf that takes a gradient."""
    shapes = {"stem": (2, 6, 5), "late": (3, 3, 4)}
    weights = {"conv.weight": (4, 2, 3, 3), "point.weight": (3, 4, 1, 1), "norm.weight": (4,)}
    mixture = nn.ParameterDict()
    if key == "bayes_sp":
        for part, values in (
            ("weights_", torch.tensor([0.3, 0.7])),
            ("means_", noise(31, 2, 9)),
            ("covariances_", noise(32, 2, 9).exp()),
        ):
            mixture[f"conv/weight:{part}"] = nn.Parameter(values.double(), requires_grad=False)
    own = {
        "lwf": lambda: linear(40, SOURCE_CLASSES),
        "co_tuning": lambda: module(
            classifier=linear(42, SOURCE_CLASSES), relations=noise(44, CLASSES, SOURCE_CLASSES).softmax(1)
        ),
        "l2_sp_fisher": lambda: module(
            **{str(i): noise(50 + i, *size).square() for i, size in enumerate(weights.values())}
        ),
        "bayes_sp": lambda: mixture,
        "bi_tuning": lambda: module(
            projector=linear(60, PROJECTED),
            key_backbone=nn.Sequential(nn.Flatten(), linear(62, FEATURES, 12)),
            key_projector=linear(64, PROJECTED),
            h=nn.functional.normalize(noise(66, CLASSES, QUEUE, FEATURES + 1), dim=2),
            z=nn.functional.normalize(noise(67, CLASSES, QUEUE, PROJECTED), dim=2),
            end=torch.tensor([1, 0, 1]),
        ),
    }
    return PenaltyInputs(
        weights={name: noise(i, *size).requires_grad_() for i, (name, size) in enumerate(weights.items())},
        source_weights={name: noise(10 + i, *size) for i, (name, size) in enumerate(weights.items())},
        maps={name: noise(20 + i, BATCH, *size).requires_grad_() for i, (name, size) in enumerate(shapes.items())},
        source_maps={name: noise(25 + i, BATCH, *size) for i, (name, size) in enumerate(shapes.items())},
        head={"weight": noise(70, CLASSES, FEATURES), "bias": noise(71, CLASSES)},
        features=noise(72, BATCH, FEATURES).requires_grad_(),
        source_features=noise(73, BATCH, FEATURES),
        targets=TARGETS,
        views=[noise(74, BATCH, 3, 2, 2)],
        own=own.get(key, lambda: None)(),
    )


def leaves(inputs: PenaltyInputs) -> Iterator[Tensor]:
    yield from (*inputs.weights.values(), *inputs.maps.values(), inputs.features)


def logits(layer: nn.Linear, features: list[float]) -> list[float]:
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [sum(w * f for w, f in zip(row, features, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(value - max(values)) for value in values]
    return [each / sum(exponentials) for each in exponentials]


def rectified(maps: Tensor) -> list:
    return maps.detach().clamp_min(0).tolist()


def normalised(values: list[float]) -> list[float]:
    length = math.sqrt(sum(value**2 for value in values))
    return [value / length for value in values]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def looped_lwf(inputs: PenaltyInputs) -> float:
    total = 0.0
    for ours, theirs in zip(inputs.features.tolist(), inputs.source_features.tolist(), strict=True):
        q, p = (softmax([value / 3 for value in logits(inputs.own, each)]) for each in (ours, theirs))
        total += sum(b * (math.log(b) - math.log(a)) for a, b in zip(q, p, strict=True))
    return total / BATCH


def looped_fitnets(inputs: PenaltyInputs) -> float:
    ours, theirs = (np.array(rectified(maps["late"])) for maps in (inputs.maps, inputs.source_maps))
    total, count = 0.0, 0
    for a, b in zip(ours.flat, theirs.flat, strict=True):
        total, count = total + (a - b) ** 2, count + 1
    return total / count


def looped_attention_transfer(inputs: PenaltyInputs) -> float:
    total = 0.0
    for layer, maps in inputs.maps.items():
        squares, (batch, channels, height, width) = 0.0, maps.shape
        both = [rectified(each) for each in (maps, inputs.source_maps[layer])]
        for i in range(batch):
            q = [
                normalised(
                    [
                        sum(each[i][c][y][x] ** 2 for c in range(channels)) / channels
                        for y in range(height)
                        for x in range(width)
                    ]
                )
                for each in both
            ]
            squares += sum((a - b) ** 2 for a, b in zip(*q, strict=True))
        total += squares / (batch * height * width)
    return total


def looped_fsp(inputs: PenaltyInputs) -> float:
    """The maps of 6×5 places are averaged to 3×4: of two rows each, and of the columns ⌊5x/4⌋ to ⌈5(x+1)/4⌉."""
    both = []
    for maps in (inputs.maps, inputs.source_maps):
        large, small = rectified(maps["stem"]), rectified(maps["late"])
        flow = np.zeros((BATCH, 2, 3))
        for i in range(BATCH):
            for a in range(2):
                for b in range(3):
                    for y in range(3):
                        for x in range(4):
                            columns = range(5 * x // 4, -(-5 * (x + 1) // 4))
                            block = [large[i][a][row][column] for row in (2 * y, 2 * y + 1) for column in columns]
                            flow[i, a, b] += sum(block) / len(block) * small[i][b][y][x] / 12
        both.append(flow)
    return sum((a - b) ** 2 for a, b in zip(both[0].flat, both[1].flat, strict=True)) / both[0].size


def looped_bss(inputs: PenaltyInputs) -> float:
    """The squares are the eigenvalues of the Gram matrix."""
    features = inputs.features.tolist()
    gram = [[dot(one, other) for other in features] for one in features]
    return sum(sorted(np.linalg.eigvalsh(np.array(gram)))[:2])


def looped_l2_sp(inputs: PenaltyInputs) -> float:
    return sum(
        (a - b) ** 2 / 2
        for name, weight in inputs.weights.items()
        for a, b in zip(weight.flatten().tolist(), inputs.source_weights[name].flatten().tolist(), strict=True)
    )


def looped_l2_sp_fisher(inputs: PenaltyInputs) -> float:
    total = 0.0
    for number, (name, weight) in enumerate(inputs.weights.items()):
        information = getattr(inputs.own, str(number)).flatten().tolist()
        pairs = zip(weight.flatten().tolist(), inputs.source_weights[name].flatten().tolist(), information, strict=True)
        total += sum(f * (a - b) ** 2 / 2 for a, b, f in pairs)
    return total


def looped_bayes_sp(inputs: PenaltyInputs) -> float:
    shares, means, variances = (
        inputs.own[f"conv/weight:{part}"].tolist() for part in ("weights_", "means_", "covariances_")
    )

    def log_density(kernel: list[float]) -> float:
        density = 0.0
        for share, mean, variance in zip(shares, means, variances, strict=True):
            for w, m, v in zip(kernel, mean, variance, strict=True):
                share *= math.exp(-((w - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
            density += share
        return math.log(density)

    ours, theirs = (
        weights["conv.weight"].detach().reshape(-1, 9).tolist() for weights in (inputs.weights, inputs.source_weights)
    )
    return sum(log_density(b) - log_density(a) for a, b in zip(ours, theirs, strict=True))


def looped_co_tuning(inputs: PenaltyInputs) -> float:
    relations, total = inputs.own.relations.tolist(), 0.0
    for features, target in zip(inputs.features.tolist(), TARGETS.tolist(), strict=True):
        likelihoods = softmax(logits(inputs.own.classifier, features))
        total -= sum(p * math.log(q) for p, q in zip(relations[target], likelihoods, strict=True))
    return total / BATCH


def looped_bi_tuning(inputs: PenaltyInputs) -> float:
    own = inputs.own
    h_queue, z_queue, end = own.h.tolist(), own.z.tolist(), own.end.tolist()
    rows = [
        normalised([*weight, bias])
        for weight, bias in zip(inputs.head["weight"].tolist(), inputs.head["bias"].tolist(), strict=True)
    ]
    keys = [logits(own.key_backbone[1], image.flatten().tolist()) for image in inputs.views[0]]

    def contrast(first: float, others: list[list[float]], target: int) -> float:
        exponentials = [math.exp(value / 0.07) for value in (first, *(each for of in others for each in of))]
        positives = [first, *others[target]]
        return -sum(value / 0.07 - math.log(sum(exponentials)) for value in positives) / len(positives)

    total, targets = 0.0, TARGETS.tolist()
    key_h, key_z = [normalised([*k, 1.0]) for k in keys], [normalised(logits(own.key_projector, k)) for k in keys]
    for i, features in enumerate(inputs.features.tolist()):
        z = normalised(logits(own.projector, features))
        others = [[dot(z, key) for key in of] for of in z_queue]
        total += contrast(dot(z, key_z[i]), others, targets[i])
    for i, target in enumerate(targets):
        h_queue[target][end[target]] = key_h[i]
        end[target] = (end[target] + 1) % QUEUE
    for i, features in enumerate(inputs.features.tolist()):
        row = rows[targets[i]]
        others = [[dot(key, row) for key in of] for of in h_queue]
        total += contrast(dot(normalised([*features, 1.0]), row), others, targets[i])
    return total / BATCH


CASES: dict[str, tuple[dict, Callable[[PenaltyInputs], float]]] = {
    "lwf": ({}, looped_lwf),
    "fitnets": ({}, looped_fitnets),
    "attention_transfer": ({}, looped_attention_transfer),
    "fsp": ({}, looped_fsp),
    "bss": ({"k": 2}, looped_bss),
    "grod": ({}, looped_l2_sp),
    "l2_sp_fisher": ({}, looped_l2_sp_fisher),
    "bayes_sp": ({}, looped_bayes_sp),
    "co_tuning": ({}, looped_co_tuning),
    "bi_tuning": ({"queue": QUEUE, "dimensions": PROJECTED}, looped_bi_tuning),
}


@pytest.mark.parametrize("key", CASES)
def test_penalty_and_gradient_equal_the_formula(key):
    options, looped = CASES[key]
    inputs = inputs_of(key)
    penalty = method_class(key)(**options).shared_penalty(inputs)
    assert penalty.item() == pytest.approx(looped(inputs_of(key)), rel=1e-9)
    penalty.backward()
    step, moved, found = 1e-5, inputs_of(key), 0
    for ours, leaf in zip(leaves(inputs), leaves(moved), strict=True):
        flat = leaf.data.view(-1)
        gradient = torch.zeros_like(flat) if ours.grad is None else ours.grad.reshape(-1)
        for place in range(0, len(flat), 3):
            before, around = flat[place].item(), []
            for shift in (step, -step):
                flat[place] = before + shift
                around.append(looped(moved))
            flat[place] = before
            expected = (around[0] - around[1]) / (2 * step)
            assert gradient[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-7)
            found += expected != 0
    assert found > 3


@pytest.mark.parametrize("key", ["fitnets", "attention_transfer", "fsp", "grod", "l2_sp_fisher", "bayes_sp", "lwf"])
def test_penalty_is_zero_at_the_source(key):
    inputs = inputs_of(key)
    there = SimpleNamespace(
        **{
            **vars(inputs),
            "weights": inputs.source_weights,
            "maps": inputs.source_maps,
            "features": inputs.source_features,
        }
    )
    there = PenaltyInputs(**vars(there))
    assert method_class(key)().shared_penalty(there).item() == pytest.approx(0, abs=1e-12)


def test_the_queues_keep_the_last_keys_of_each_class():
    """Three of class 0 in a queue of two: the first one is gone, and the next place is the second one's."""
    from delta.methods.bi_tuning import enqueue

    own = module(h=torch.zeros(2, 2, 1), z=torch.zeros(2, 2, 1), end=torch.tensor([1, 0]))
    keys = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    enqueue(own, keys, 10 * keys, torch.tensor([0, 1, 0, 0]))
    assert own.h[..., 0].tolist() == [[3, 4], [2, 0]]
    assert own.z[..., 0].tolist() == [[30, 40], [20, 0]]
    assert own.end.tolist() == [0, 1]
