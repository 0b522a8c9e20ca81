"""A training run on disk: trained, tested and written as one folder."""

from __future__ import annotations

from pathlib import Path

import torch
from dvclive import Live

from delta.data.packed.views import ViewData
from delta.methods.channel_weights import read_channel_weights
from delta.networks.devices import deterministic, device_name
from delta.networks.network import build_network, save_network
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe
from delta.training.evaluation import top1
from delta.training.loop import as_tensors, fine_tune, iterations_per_epoch
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
) -> None:
    """Fine-tune one network, test the last iterate, and write the run into the folder `out`.

    Written are the network (see `delta.networks.network.save_network`), its learning curves as DVCLive writes them
    (`curves`: loss, cross_entropy and learning_rate by iteration, test_top1 after every epoch and at the end) and
    `result.json` (`delta.training.result.RunResult`). The curves grow epoch by epoch; nothing is selected by them.

    Args:
        weights: the backbone's source weights.
        channel_weights: the method's file of channel weights C·W_j, empty for a method without attention; None for
            L2-FE, which has no file.
        resize: pixels of an image's shorter edge before it is cropped, in the improved view.
        checkpoint: see `delta.training.loop.fine_tune`; remove it after `out` has been renamed into place.

    Raises:
        UserError: an input cannot be read, or the run diverged.
    """
    network, source = (build_network(weights, len(data.classes), recipe.seed).to(device) for _ in range(2))
    multipliers = as_tensors(read_channel_weights(channel_weights)) if channel_weights else {}
    with deterministic(), Live(str(out / "curves"), save_dvc_exp=False, dvcyaml=None) as live:

        def log(step: Step) -> None:
            live.step = step.iteration
            for name in ("loss", "cross_entropy", "learning_rate", "test_top1"):
                if (value := getattr(step, name)) is not None:
                    live.log_metric(name, value)

        def test() -> float:
            return top1(network, data, "test")

        fine_tune(network, source, data, recipe, multipliers, log, test, checkpoint)
        result = RunResult(
            label=recipe.method.label,
            top1=live.summary["test_top1"],
            alpha=recipe.method.alpha,
            beta=recipe.method.beta,
            iterations_per_epoch=iterations_per_epoch(len(data.targets("train")), recipe.training.batch_size),
            source_network=network.spec.name,
            device=device_name(device),
            classes=data.classes,
            view=TestView(resize=resize, crop=recipe.crop, crops=data.crops),
        )
    save_network(network, out)
    result.write(out)
