"""A network of a few hundred weights, and a trainer written down step by step, to compare the training loop with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from delta.data.packed.views import ViewData, endless_batches, normalised, random_crops
from delta.networks.network import Network
from tests.helpers.tiny import CPU, CROP, LEARNING_RATE, SPEC, STATISTICS, TRAINING

TOY = replace(SPEC, name="toy", feature_layers={"0": ("0",), "3": ("3",)}, stages={}, path=())
FEATURES, SOURCE_CLASSES, MOMENTUM = 5, 6, 0.9


class ToyNetwork(Network):
    """Two convolutions with batch-norm, and a head; random weights of this seed."""

    def __init__(self, classes: int = 3, seed: int = 0):
        nn.Module.__init__(self)
        self.spec = TOY
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.backbone = nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Conv2d(4, FEATURES, 3, bias=False),
                nn.BatchNorm2d(FEATURES),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
            self.head = nn.Linear(FEATURES, classes)
            for norm in (self.backbone[1], self.backbone[4]):
                norm.running_mean.normal_(0, 0.3)
                norm.running_var.uniform_(0.3, 2)


def source_classifier() -> nn.Linear:
    """The source network's own classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(99)
        return nn.Linear(FEATURES, SOURCE_CLASSES)


def batches(data: ViewData, seed: int = 0, count: int = 3, views: int = 1) -> Iterator[tuple[list[Tensor], Tensor]]:
    """The first mini-batches of a run: the crops of each view, and targets.

    Further views are drawn from the run's global generator, which the caller seeds as the run does.
    """
    order, crops = torch.Generator().manual_seed(2 * seed), torch.Generator().manual_seed(2 * seed + 1)
    targets = data.targets("train")
    for rows, _ in zip(endless_batches(len(targets), TRAINING.batch_size, order), range(count), strict=False):
        images = data.training_images(rows)
        generators = [crops, *[torch.default_generator] * (views - 1)]
        yield (
            [normalised(random_crops(images, CROP, generator, CPU), STATISTICS) for generator in generators],
            targets[rows],
        )


class SlowSGD:
    """v ← 0.9 v + g + decay · w, w ← w − rate · v, tensor by tensor; the rate is a tenth after two steps."""

    def __init__(self, weights: list[Tensor], decay: float = 0.0, rate: float = LEARNING_RATE):
        self.weights, self.decay, self.rate, self.steps = weights, decay, rate, 0
        self.velocities = [torch.zeros_like(weight) for weight in weights]

    def step(self, gradients: list[Tensor]) -> None:
        rate = self.rate * (0.1 if self.steps >= TRAINING.decay_after else 1)
        for weight, velocity, gradient in zip(self.weights, self.velocities, gradients, strict=True):
            velocity.copy_(MOMENTUM * velocity + gradient + self.decay * weight.detach())
            weight.data -= rate * velocity
        self.steps += 1


def train_by_hand(
    data: ViewData,
    seed: int = 0,
    decay: float = 0.0,
    network: ToyNetwork | None = None,
    loss: Callable[[ToyNetwork, Tensor, Tensor], Tensor] | None = None,
    after: Callable[[ToyNetwork, int], None] = lambda network, iteration: None,
    extra: tuple[Tensor, ...] = (),
    rate: float = LEARNING_RATE,
) -> ToyNetwork:
    """Three steps of SGD on `loss` of the features' logits, by default the cross-entropy, and `after` each of them."""
    network = network or ToyNetwork(seed=seed)
    optimizer = SlowSGD([*network.parameters(), *extra], decay, rate)
    for iteration, ((images,), targets) in enumerate(batches(data, seed), 1):
        value = loss(network, images, targets) if loss else cross_entropy(network(images), targets)
        optimizer.step(list(torch.autograd.grad(value, optimizer.weights)))
        after(network, iteration)
    return network
