"""A training run on disk: trained, tested and written as one folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from dvclive import Live

from delta.checkpoints import Checkpoint
from delta.devices import deterministic, device_name
from delta.evaluation import top1
from delta.factors import read_factors
from delta.networks import build_network, save_network
from delta.params import Input, Training
from delta.regularizers import Method
from delta.training import Step, as_tensors, epoch_length, fine_tune
from delta.views import PackedImages


def write_run(
    out: Path,
    *,
    data: PackedImages,
    weights: Path,
    factors: Path | None,
    method: Method,
    view: Input,
    training: Training,
    seed: int,
    device: torch.device,
    decay_per_epoch: float | None = None,
    test_every_epoch: bool = True,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Fine-tune with one method and one seed, test the last iterate, and write the run into the folder `out`.

    Written are the network (see `delta.networks.save_network`), its learning curves as DVCLive writes them (`curves`:
    loss, cross_entropy and learning_rate by iteration, test_top1 after every epoch and at the end) and `result.json`:
    top1 on the test images in percent, alpha, beta, iterations_per_epoch, source_network, device, the class names by
    target, and the view (`delta.classifier.View`). The curves grow epoch by epoch; nothing is selected by them.

    Args:
        weights: the backbone's source weights.
        factors: the method's file of factors C·W_j; None for a method whose penalty reads none.
        decay_per_epoch: see `delta.training.fine_tune`.
        test_every_epoch: test after every epoch as well, not at the end alone.
        checkpoint: see `delta.training.fine_tune`; to be removed when `out` is where it belongs.

    Raises:
        UserError: an input cannot be read, or the run diverged.
    """
    network, source = (build_network(weights, len(data.classes), seed).to(device) for _ in range(2))
    multipliers = as_tensors(read_factors(factors)) if factors else {}
    with deterministic(), Live(str(out / "curves"), save_dvc_exp=False, dvcyaml=None) as live:

        def log(step: Step) -> None:
            live.step = step.iteration
            for name in ("loss", "cross_entropy", "learning_rate", "test_top1"):
                if (value := getattr(step, name)) is not None:
                    live.log_metric(name, value)

        fine_tune(
            network,
            source,
            data,
            method,
            multipliers,
            training,
            view,
            seed,
            decay_per_epoch,
            log,
            test=lambda: top1(network, data, "test"),
            test_every_epoch=test_every_epoch,
            checkpoint=checkpoint,
        )
        result = {
            "top1": live.summary["test_top1"],
            "alpha": method.alpha,
            "beta": method.beta,
            "iterations_per_epoch": epoch_length(len(data.targets("train")), training.batch_size),
            "source_network": network.spec.name,
            "device": device_name(device),
            "classes": data.classes,
            "view": {"resize": view.resize, "crop": view.crop, "crops": data.crops},
        }
    save_network(network, out)
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
