"""One fine-tuning run (section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from delta.errors import Diverged
from delta.features import captured
from delta.networks import Network
from delta.params import Input, Training
from delta.regularizers import Comparison, Method, private_penalty
from delta.views import PackedImages, endless_batches, normalised


class Step(NamedTuple):
    """What one iteration (from 1) came to, and whether it ends a pass over the training images."""

    iteration: int
    ends_epoch: bool
    loss: float
    cross_entropy: float
    learning_rate: float


def fine_tune(
    network: Network,
    source: Network,
    data: PackedImages,
    method: Method,
    factors: Mapping[str, Tensor],
    training: Training,
    view: Input,
    seed: int,
    decay_per_epoch: float | None = None,
    log: Callable[[Step], None] = lambda step: None,
) -> None:
    """Fine-tune `network` in place; the last iterate is the result, nothing is selected on test data.

    Only the training split's views and labels are read. The source runs in eval mode and takes no gradient.

    Args:
        network: starts at the source weights, on the device to train on.
        source: the source network, on the same device; it is not changed.
        factors: C·W_j by feature layer, see `delta.factors`.
        view: the crop's size and the initial learning rate.
        seed: decides the order of the images and their crops; the head's initialisation is `build_network`'s.
        decay_per_epoch: the factor of ExponentialLR; None for StepLR (Figure 3).
        log: called after every iteration.

    Raises:
        Diverged: the loss, or a weight at the end, is not finite.
    """
    device = next(network.parameters()).device
    order, crops = (torch.Generator().manual_seed(2 * seed + part) for part in range(2))
    source.eval().requires_grad_(False)
    network.train()
    network.backbone.train(not method.frozen_backbone).requires_grad_(not method.frozen_backbone)
    factors = {layer: factor.to(device) for layer, factor in factors.items()}
    weights, source_weights = network.shared_weights(), source.shared_weights()

    optimizer = torch.optim.SGD(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=view.learning_rate,
        momentum=training.momentum,
        weight_decay=method.weight_decay,
    )
    targets = data.targets("train")
    epoch = epoch_length(len(targets), training.batch_size)
    if decay_per_epoch is None:
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, training.decay_after, training.decay_factor)
    else:
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay_per_epoch)
    layers = network.spec.feature_layers if method.compares_maps else ()

    batches = endless_batches(len(targets), training.batch_size, order)
    with captured(network.backbone, layers) as maps, captured(source.backbone, layers) as source_maps:
        for iteration in tqdm(range(1, training.iterations + 1), desc="train", unit="it", mininterval=1, leave=False):
            rows = next(batches)
            images = normalised(data.training_crops(rows, view.crop, crops).to(device), network.spec)
            with torch.no_grad() if method.frozen_backbone else nullcontext():
                pooled = network.backbone(images)
            error = cross_entropy(network.head(pooled), targets[rows].to(device))
            if method.compares_maps:
                with torch.no_grad():
                    source.backbone(images)
            penalty = method.shared_penalty(Comparison(weights, source_weights, maps, source_maps, factors))
            loss = error + method.beta * private_penalty(network.private_weights())
            if penalty is not None:
                loss = loss + method.alpha * penalty
            optimizer.zero_grad()
            loss.backward()
            if training.clip_norm is not None and not method.frozen_backbone:
                clip_grad_norm_(weights.values(), training.clip_norm)
            rate = schedule.get_last_lr()[0]
            optimizer.step()
            step = Step(iteration, iteration % epoch == 0, loss.item(), error.item(), rate)
            if decay_per_epoch is None or step.ends_epoch:
                schedule.step()
            last = iteration == training.iterations
            if not math.isfinite(step.loss) or (last and not _all_finite(network)):
                raise Diverged(
                    f"{method.label}, seed {seed}: diverged at iteration {iteration} with loss {step.loss:g} "
                    f"(learning rate {rate:g}, alpha {method.alpha:g}): lower the learning rate or alpha"
                )
            log(step)


def epoch_length(images: int, batch_size: int) -> int:
    """Iterations that pass over the training images once, see `delta.views.endless_batches`."""
    return max(1, images // batch_size)


def _all_finite(network: Network) -> bool:
    return all(tensor.isfinite().all() for tensor in network.state_dict().values())
