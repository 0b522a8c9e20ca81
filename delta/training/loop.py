"""The training loop of one fine-tuning run (section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from itertools import islice
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from delta.data.packed.ahead import read_ahead
from delta.data.packed.views import ViewData, endless_batches, input_statistics, normalised, random_crops
from delta.io.errors import UserError
from delta.io.signals import uninterrupted
from delta.methods.base import Method, PenaltyInputs, Run, private_penalty
from delta.networks.devices import check_precision, keep_freed_memory, seeded, to_device
from delta.networks.hooks import capture_maps
from delta.networks.network import Network
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe
from delta.training.state import Objective, Step, TrainingState, resumable


def fine_tune(
    network: Network,
    source: Network,
    data: ViewData,
    recipe: Recipe,
    channel_weights: Mapping[str, Tensor],
    log: Callable[[Step], None] = lambda step: None,
    test: Callable[[], float] | None = None,
    checkpoint: Checkpoint | None = None,
    classifier: nn.Linear | None = None,
) -> None:
    """Fine-tune `network` in place; the last iterate is the result, nothing is selected on test data.

    Only the training split's views and labels are read, the next batches' while this one is computed. The source runs
    in eval mode and takes no gradient.

    Args:
        network: starts at the source weights or those of another run, on the device to train on.
        source: the source network, on the same device; it is not changed.
        channel_weights: C·W_j by feature layer, float32 [C] each; empty for a method without attention.
        log: called for every step, at the end of its epoch; on resuming, first for the steps in the checkpoint.
        test: gives `Step.test_top1`, at the end and, if the recipe says so, after every epoch.
        checkpoint: saves the run at intervals and on Ctrl-C or SIGTERM (as SystemExit). If it holds this run already,
            the run resumes from it, to the same bits. It is not removed at the end.
        classifier: the source network's own, on the same device; None if it has none.

    Raises:
        Diverged: the loss, or a weight at the end or when it is saved, is not finite.
        UserError: the GPU does not compute in the recipe's precision, an image cannot be read, or the network or the
            data lack what the method needs.
    """
    method, training, device = recipe.method, recipe.training, next(network.parameters()).device
    targets, statistics = data.targets("train"), input_statistics(network.spec, device)
    channel_weights = {layer: weights.to(device) for layer, weights in channel_weights.items()}
    class_weights = balanced_class_weights(targets, len(data.classes)).to(device) if training.class_weights else None
    run = begin(network, source, classifier, data, recipe)
    initial = (network.spec, network.state_dict(), source.state_dict(), channel_weights, classifier)
    batches = endless_batches(len(targets), training.batch_size, torch.Generator().manual_seed(2 * recipe.seed))
    state = TrainingState(network, recipe, iterations_per_epoch(len(targets), training.batch_size), run)
    with (
        seeded(recipe.seed, device),
        resumable(state, checkpoint, data, initial, log) as save_if_due,
        closing(read_ahead(data.training_images, islice(batches, state.iteration, run.iterations))) as rest,
    ):
        state.end_epoch(test, log)  # a checkpoint may lie between an epoch's last iteration and its test
        bar = partial(tqdm, desc="train", unit="it", mininterval=1, leave=False)
        for rows, pixels in bar(rest, initial=state.iteration, total=run.iterations):
            with uninterrupted():
                images, *views = random_views(pixels, state, statistics)
                batch = images, to_device(targets[rows], device), method, channel_weights
                terms = objective(network, source, *batch, training.precision, class_weights, views, run.own)
                state.optimizer.zero_grad()
                backward(terms, network, recipe)
                method.step(run, state.iteration + 1)
                state.advance(terms)
            save_if_due()
            state.end_epoch(test, log)
        state.finish()


def begin(network: Network, source: Network, classifier: nn.Linear | None, data: ViewData, recipe: Recipe) -> Run:
    """Set the modes of both networks for training, and let the method prepare.

    Raises:
        UserError: as `fine_tune`.
    """
    method, device = recipe.method, next(network.parameters()).device
    check_precision(recipe.training.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    if method.uses_classifier and classifier is None:
        raise UserError(
            f"{method.label} needs the source network's own classifier, which {network.spec.name} comes without: take "
            "another network or another method"
        )
    source.eval().requires_grad_(False)
    network.train()
    network.backbone.train(not method.frozen_backbone).requires_grad_(not method.frozen_backbone)
    if method.frozen_statistics:
        for module in network.backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    batch_size = min(recipe.training.batch_size, len(data.targets("train")))

    def images() -> Iterator[tuple[Tensor, Tensor]]:
        for crops, targets in data.test_batches("train", network.spec, batch_size, device):
            yield crops, targets.repeat_interleave(data.crops)

    run = Run(
        network.backbone,
        network.head,
        source.backbone,
        tuple(network.spec.feature_layers),
        classifier and classifier.eval().requires_grad_(False),
        images,
        classes=len(data.classes),
        iterations=recipe.training.iterations if method.trains else 0,
        batch_size=batch_size,
        seed=recipe.seed,
    )
    with seeded(recipe.seed, device):
        run.own = method.prepare(run)
    return run


def random_views(pixels: Sequence[np.ndarray], state: TrainingState, statistics: Tensor) -> list[Tensor]:
    """As many random crops of each image of a batch as the method asks for, each normalised [b, 3, h, w]."""
    crop, count = state.recipe.crop, state.recipe.method.view_count
    # Further views take no draws from the first one's generator: without a penalty, a run is L2's.
    generators = [state.crops, *[torch.default_generator] * (count - 1)]
    crops = (random_crops(pixels, crop, generator, state.device) for generator in generators)
    return [normalised(each, statistics) for each in crops]


def objective(
    network: Network,
    source: Network,
    images: Tensor,
    targets: Tensor,
    method: Method,
    channel_weights: Mapping[str, Tensor],
    precision: str = "fp32",
    class_weights: Tensor | None = None,
    views: Sequence[Tensor] = (),
    own: nn.Module | None = None,
) -> Objective:
    """mean_i CE(z(x_i, ω), y_i) + α · Ω_shared + β · ½‖ω_P‖² of one mini-batch, Equations (6) and (7).

    With class weights w, the mean is that of w_{y_i} · CE(z(x_i, ω), y_i). It is not divided by the weights' mean over
    the batch, so that in expectation it is the weighted mean over all training images.

    Args:
        images: normalised, float [b, 3, h, w].
        targets: class indices, int64 [b].
        channel_weights: C·W_j by feature layer.
        precision: `bf16` passes the images through both networks under autocast; losses and penalty stay in float32.
        class_weights: w, float [n_classes]; None for 1.
        views: further views of the same images, for the penalty.
        own: what the method's `prepare` returned.

    Returns:
        Scalars; gradients flow through the loss.
    """
    layers = network.spec.feature_layers if method.compares_maps else ()
    low = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16")
    with capture_maps(network.backbone, layers) as maps, capture_maps(source.backbone, layers) as source_maps, low:
        with torch.no_grad() if method.frozen_backbone else nullcontext():
            pooled = network.backbone(images)
        logits = network.head(pooled)
        source_pooled = pooled
        if method.compares_maps or method.compares_features:
            with torch.no_grad():
                source_pooled = source.backbone(images)
    if precision == "bf16":
        logits, pooled, source_pooled = logits.float(), pooled.float(), source_pooled.float()
        maps, source_maps = ({name: each.float() for name, each in both.items()} for both in (maps, source_maps))
    if class_weights is None:
        error = cross_entropy(logits, targets)
    else:
        error = cross_entropy(logits, targets, class_weights, reduction="sum") / len(targets)
    penalty = method.shared_penalty(
        PenaltyInputs(
            weights=network.shared_weights(),
            source_weights=source.shared_weights(),
            maps=maps,
            source_maps=source_maps,
            channel_weights=channel_weights,
            filters=network.spec.feature_layers,
            head=network.private_weights(),
            features=pooled,
            source_features=source_pooled,
            targets=targets,
            views=views,
            own=own,
        )
    )
    rest = error + method.beta * private_penalty(network.private_weights())
    if penalty is None:
        return Objective(rest, error, torch.zeros_like(error), rest)
    weighted = method.alpha * penalty
    penalty = torch.as_tensor(weighted, dtype=error.dtype, device=error.device)
    return Objective(rest + weighted, error, penalty, rest)


def backward(terms: Objective, network: Network, recipe: Recipe) -> None:
    """Add the objective's gradient to those of all weights: combined by the method, if it does, and then clipped."""
    method, weights = recipe.method, list(network.shared_weights().values())
    if method.has_own_gradients():
        of_penalty = torch.autograd.grad(
            terms.penalty, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        terms.rest.backward()
        of_rest = [cast(Tensor, weight.grad) for weight in weights]
        for weight, gradient in zip(weights, method.combine_gradients(of_rest, of_penalty), strict=True):
            weight.grad = gradient
    else:
        terms.loss.backward()
    if recipe.training.clip_norm is not None and not method.frozen_backbone:
        clip_grad_norm_(weights, recipe.training.clip_norm)


def balanced_class_weights(targets: Tensor, classes: int) -> Tensor:
    """w_c = n / (K · n_c), as scikit-learn's `class_weight="balanced"`: their mean over the images is 1.

    Args:
        targets: class indices of n training images of K classes, n_c of them of class c; int64 [n].
        classes: how many classes the network tells apart.

    Returns:
        float32 [classes]; 0 for a class without training images, which K does not count.
    """
    counts = targets.bincount(minlength=classes).double()
    weights = len(targets) / (counts.count_nonzero() * counts)
    return torch.where(counts > 0, weights, 0).float()


def iterations_per_epoch(images: int, batch_size: int) -> int:
    """Iterations that pass over the training images once, see `delta.data.packed.views.endless_batches`."""
    return max(1, images // batch_size)


def as_tensors(channel_weights: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Channel weights C·W_j by feature layer as `fine_tune` takes them, float32 [C] each."""
    return {layer: torch.tensor(values, dtype=torch.float32) for layer, values in channel_weights.items()}
