"""One fine-tuning run (section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from delta.checkpoints import Checkpoint, random_states, say, set_random_states, uninterrupted
from delta.devices import keep_freed_memory, moved
from delta.errors import Diverged
from delta.features import captured
from delta.networks import Network
from delta.params import Input, Training
from delta.regularizers import Comparison, Method, private_penalty
from delta.views import PackedImages, endless_batches, input_statistics, normalised


class Step(NamedTuple):
    """What one iteration (from 1) came to, whether it ends a pass over the training images, and a test after it."""

    iteration: int
    ends_epoch: bool
    loss: float
    cross_entropy: float
    learning_rate: float
    test_top1: float | None = None


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
    test: Callable[[], float] | None = None,
    test_every_epoch: bool = True,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Fine-tune `network` in place; the last iterate is the result, nothing is selected on test data.

    Only the training split's views and labels are read. The source runs in eval mode and takes no gradient.

    Args:
        network: starts at the source weights, on the device to train on.
        source: the source network, on the same device; it is not changed.
        factors: C·W_j by feature layer, see `delta.factors`.
        view: the crop's size and the initial learning rate.
        seed: decides the order of the images, their crops and what a network itself draws (dropout); the head's
            initialisation is `build_network`'s.
        decay_per_epoch: the factor of ExponentialLR; None for StepLR (Figure 3).
        log: called with every iteration, an epoch's together at its end; first with those before the checkpoint.
        test: what `Step.test_top1` is at the end, and with `test_every_epoch` after every epoch.
        checkpoint: where the run is saved when that is due and when Ctrl-C or SIGTERM (as SystemExit) ends it. One
            that is this run's own is gone on from, to the same bits; it stays when the run has ended.

    Raises:
        Diverged: the loss, or a weight at the end or where it is to be saved, is not finite.
    """
    device = next(network.parameters()).device
    if device.type == "cpu":
        keep_freed_memory()
    order, crops = (torch.Generator().manual_seed(2 * seed + part) for part in range(2))
    source.eval().requires_grad_(False)
    network.train()
    network.backbone.train(not method.frozen_backbone).requires_grad_(not method.frozen_backbone)
    factors = {layer: factor.to(device) for layer, factor in factors.items()}

    optimizer = torch.optim.SGD(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=view.learning_rate,
        momentum=training.momentum,
        weight_decay=method.weight_decay,
    )
    targets, statistics = data.targets("train"), input_statistics(network.spec, device)
    epoch = epoch_length(len(targets), training.batch_size)
    if decay_per_epoch is None:
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, training.decay_after, training.decay_factor)
    else:
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay_per_epoch)
    # Each iteration so far is in one of them: logged, or with its losses still on the device.
    curve, waiting = [], []

    def check(steps: list[Step], weights: bool) -> None:
        ruined = [step for step in steps if not math.isfinite(step.loss)]
        if ruined or (weights and not _all_finite(network)):
            step = (ruined or [*curve, *steps][-1:])[0]
            raise Diverged(
                f"{method.label}, seed {seed}: diverged at iteration {step.iteration} with loss {step.loss:g} "
                f"(learning rate {step.learning_rate:g}, alpha {method.alpha:g}): lower the learning rate or alpha"
            )

    def save() -> bool:
        check(_read(waiting), weights=True)  # a run that diverges leaves the last good checkpoint
        parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"crops": crops.get_state(), "drawn": random_states(device)}
        return checkpoint.save(state | {"curve": [tuple(step) for step in curve], "waiting": waiting})

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        saved = checkpoint and checkpoint.load(
            device,
            data,
            parameters=(method, training, view, seed, decay_per_epoch, test_every_epoch),
            weights=(network.spec, network.state_dict(), source.state_dict(), factors),
        )
        if saved:
            network.load_state_dict(saved["network"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            crops.set_state(saved["crops"].cpu())
            set_random_states(saved["drawn"], device)
            curve, waiting = [Step(*values) for values in saved["curve"]], saved["waiting"]
            for step in curve:
                log(step)
        start = len(curve) + len(waiting)
        if saved:
            say(f"{checkpoint.path}: going on after iteration {start} of {training.iterations}")
        # The order is the seed's alone, so that passing over what was taken leads to where it was.
        batches = islice(endless_batches(len(targets), training.batch_size, order), start, None)
        bar = {"desc": "train", "unit": "it", "mininterval": 1, "leave": False}
        try:
            for done in tqdm(range(start, training.iterations + 1), initial=start, total=training.iterations, **bar):
                last = done == training.iterations
                # A GPU is asked for its losses once an epoch: asking each time would make it wait for the CPU.
                if waiting and (last or done % epoch == 0):
                    steps = _read(waiting)
                    check(steps, weights=last)
                    if test and (last or test_every_epoch):
                        steps[-1] = steps[-1]._replace(test_top1=test())
                    for step in steps:
                        log(step)
                    with uninterrupted():
                        curve.extend(steps)
                        waiting.clear()
                if last:
                    break
                with uninterrupted():
                    rows = next(batches)
                    images = normalised(data.training_crops(rows, view.crop, crops, device), statistics)
                    loss, error = objective(
                        network, source, images, moved(targets[rows], device), method, factors, training.precision
                    )
                    optimizer.zero_grad()
                    loss.backward()
                    if training.clip_norm is not None and not method.frozen_backbone:
                        clip_grad_norm_(network.shared_weights().values(), training.clip_norm)
                    rate, ends_epoch = schedule.get_last_lr()[0], (done + 1) % epoch == 0
                    optimizer.step()
                    if decay_per_epoch is None or ends_epoch:
                        schedule.step()
                    waiting.append((done + 1, ends_epoch, torch.stack([loss.detach(), error.detach()]), rate))
                if checkpoint and checkpoint.due():
                    save()
        except (KeyboardInterrupt, SystemExit):
            if checkpoint and (curve or waiting) and save():
                say(f"{checkpoint.path}: saved after iteration {len(curve) + len(waiting)} of {training.iterations}")
            raise


def objective(
    network: Network,
    source: Network,
    images: Tensor,
    targets: Tensor,
    method: Method,
    factors: Mapping[str, Tensor],
    precision: str = "fp32",
) -> tuple[Tensor, Tensor]:
    """mean_i CE(z(x_i, ω), y_i) + α · Ω_shared + β · ½‖ω_P‖² of one mini-batch, Equations (6) and (7).

    Args:
        images: normalised, float [b, 3, h, w].
        targets: class indices, int64 [b].
        factors: C·W_j by feature layer.
        precision: `bf16` passes the images through both networks under autocast; losses and penalty stay in float32.

    Returns:
        The objective, and its first term alone; scalars that gradients flow through.
    """
    layers = network.spec.feature_layers if method.compares_maps else ()
    low = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16")
    with captured(network.backbone, layers) as maps, captured(source.backbone, layers) as source_maps, low:
        with torch.no_grad() if method.frozen_backbone else nullcontext():
            pooled = network.backbone(images)
        logits = network.head(pooled)
        if method.compares_maps:
            with torch.no_grad():
                source.backbone(images)
    if precision == "bf16":
        logits = logits.float()
        maps, source_maps = ({name: each.float() for name, each in both.items()} for both in (maps, source_maps))
    error = cross_entropy(logits, targets)
    pair = Comparison(
        network.shared_weights(), source.shared_weights(), maps, source_maps, factors, network.spec.feature_layers
    )
    penalty = method.shared_penalty(pair)
    loss = error + method.beta * private_penalty(network.private_weights())
    return (loss if penalty is None else loss + method.alpha * penalty), error


def as_tensors(factors: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Factors C·W_j by feature layer as `fine_tune` takes them, float32 [C] each."""
    return {layer: torch.tensor(values, dtype=torch.float32) for layer, values in factors.items()}


def _read(waiting: list[tuple[int, bool, Tensor, float]]) -> list[Step]:
    """The steps whose losses are still on the device, which is asked for them once."""
    if not waiting:
        return []
    losses = torch.stack([pair for _, _, pair, _ in waiting]).tolist()
    return [
        Step(iteration, ends_epoch, loss, error, rate)
        for (iteration, ends_epoch, _, rate), (loss, error) in zip(waiting, losses, strict=True)
    ]


def epoch_length(images: int, batch_size: int) -> int:
    """Iterations that pass over the training images once, see `delta.views.endless_batches`."""
    return max(1, images // batch_size)


def _all_finite(network: Network) -> bool:
    return all(tensor.isfinite().all() for tensor in network.state_dict().values())
