"""A training run on disk: trained, tested and written as one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import torch
from dvclive import Live
from torch import Tensor

from delta.data.packed.views import ViewData
from delta.io.errors import UserError
from delta.io.signals import say
from delta.methods.channel_weights import read_channel_weights
from delta.networks.devices import deterministic, device_name
from delta.networks.network import Network, build_network, load_classifier, save_network, trained_network
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe
from delta.training.evaluation import accuracy, macro_accuracy, split_logits
from delta.training.loop import as_tensors, fine_tune, iterations_per_epoch
from delta.training.predictions import predictions, write_predictions
from delta.training.result import RunResult, TestView
from delta.training.state import Step


def write_run(
    out: Path,
    recipe: Recipe,
    data: ViewData,
    weights: Path,
    channel_weights: Path | None,
    resize: int,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    classifier: Path | None = None,
    start: Path | None = None,
    temperature: float = 1.0,
    head: Mapping[str, Tensor] | None = None,
) -> float:
    """Fine-tune one network, test the last iterate, and write the run into the folder `out`.

    Written are the network (see `delta.networks.network.save_network`), its learning curves as DVCLive writes them
    (`curves`: loss, cross_entropy, penalty and learning_rate by iteration, test_top1 at the end and, if the recipe says
    so, after every epoch), its predictions on the test images (`delta.training.predictions`) and `result.json`
    (`delta.training.result.RunResult`). The curves grow epoch by epoch; nothing is selected by them.

    Args:
        weights: the backbone's source weights.
        channel_weights: the method's file of channel weights C·W_j, empty for a method without attention; None for a
            method that has no file.
        resize: pixels of an image's shorter edge before it is cropped, in the improved view.
        checkpoint: see `delta.training.loop.fine_tune`; remove it after `out` has been renamed into place.
        classifier: the file of the source network's own classifier; None for a method that does not use it.
        start: the folder of the run that this one starts from; None to start from the source network.
        temperature: logits are divided by it before they become the predictions' probabilities.
        head: the classifier's weight and bias to start from, [n_classes, d] and [n_classes]; None for random ones.

    Returns:
        How many seconds it trained, without tests. It is not in the run, of which the same machine makes the same bits.

    Raises:
        UserError: an input cannot be read, or the run diverged.
    """
    network, source = (build_network(weights, len(data.classes), recipe.seed).to(device) for _ in range(2))
    if start:
        network = started(start, network).to(device)
    if head:
        network.head.load_state_dict(head)
    own = load_classifier(classifier) if classifier and recipe.method.uses_classifier else None
    multipliers = as_tensors(read_channel_weights(channel_weights)) if channel_weights else {}
    targets, logits, curve, testing = data.targets("test"), torch.empty(0), [], 0.0
    with deterministic(), Live(str(out / "curves"), save_dvc_exp=False, dvcyaml=None) as live:

        def log(step: Step) -> None:
            live.step = step.iteration
            for name in ("loss", "cross_entropy", "penalty", "learning_rate", "test_top1"):
                if (value := getattr(step, name)) is not None:
                    live.log_metric(name, value)
            curve.append(step)

        def test() -> float:
            nonlocal logits, testing
            since = perf_counter()
            logits = split_logits(network, data, "test")
            testing += perf_counter() - since
            return accuracy(logits, targets)

        since = perf_counter()
        fine_tune(network, source, data, recipe, multipliers, log, test, checkpoint, own and own.to(device))
        seconds = perf_counter() - since - testing
        if not len(logits):  # resumed after the last test
            test()
        epoch = iterations_per_epoch(len(data.targets("train")), recipe.training.batch_size)
        result = RunResult(
            label=recipe.method.label,
            top1=accuracy(logits, targets),
            macro=macro_accuracy(logits, targets),
            alpha=recipe.method.alpha,
            beta=recipe.method.beta,
            penalty_share=penalty_share(curve[:1]),
            penalty_share_first_epoch=penalty_share(curve[:epoch]),
            iterations_per_epoch=epoch,
            source_network=network.spec.name,
            device=device_name(device),
            classes=data.classes,
            view=TestView(resize=resize, crop=recipe.crop, crops=data.crops),
        )
    save_network(network, out)
    paths = data.index["path"].iloc[data.rows("test")]
    write_predictions(out, predictions(list(paths), logits / temperature, targets, data.classes))
    result.write(out)
    say(
        f"{result.label}: top-1 {result.top1:.1f} %; αΩ is {result.penalty_share:.3g} % of the objective in the first "
        f"iteration, {result.penalty_share_first_epoch:.3g} % over the first epoch"
    )
    return seconds


def started(run: Path, network: Network) -> Network:
    """The network of a finished run, on the CPU.

    Args:
        network: of the same backbone and classes.

    Raises:
        UserError: there is no such run, or its network is another.
    """
    found = trained_network(run)
    if found.spec != network.spec or found.head.out_features != network.head.out_features:
        raise UserError(f"{run}: cannot start from this run, which is of another network or other classes")
    return found


def penalty_share(steps: Sequence[Step]) -> float:
    """The share of α · Ω_shared in the objective, both summed over the steps, in percent; 0 of no steps."""
    return 100 * sum(step.penalty for step in steps) / sum(step.loss for step in steps) if steps else 0.0
