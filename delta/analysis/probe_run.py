"""The run of the probe on disk: fitted, tested and written as one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from delta.analysis.probe import ClassWeights, fit_probe, probe_folds
from delta.data.packed.index import near_duplicate_groups
from delta.io.signals import say
from delta.methods.probe import Probe
from delta.networks.network import build_network, save_network
from delta.training.evaluation import accuracy, macro_accuracy
from delta.training.predictions import predictions, write_predictions
from delta.training.result import RunResult, TestView


def write_probe(
    out: Path,
    method: Probe,
    features: np.ndarray,
    index: pd.DataFrame,
    weights: Path,
    seed: int,
    view: TestView,
    class_weights: ClassWeights = None,
    temperature: float = 1.0,
) -> None:
    """Fit the probe, test it, and write its run into the folder `out`, as `delta.training.run.write_run` does.

    There are no curves. The network has the source backbone, and the regression's weight and bias as its head.

    Args:
        features: of all images, float32 [n, d], see `delta.analysis.features.pooled_features`.
        index: the packed data set's, see `delta.data.packed.index.read_index`.
        weights: the backbone's source weights.
        seed: of the folds.
        view: how the features' images were seen.
        class_weights: see `fit_probe`.
        temperature: logits are divided by it before they become the predictions' probabilities.

    Raises:
        UserError: the weights cannot be read, or a class has too few training images.
    """
    classes = sorted(index["label"].unique())
    train, test = (np.flatnonzero(index["split"] == split) for split in ("train", "test"))
    targets = index["target"].to_numpy()
    folds = probe_folds(targets[train], classes, seed, near_duplicate_groups(index)[train])
    fit = fit_probe(features[train], targets[train], folds, method.c, class_weights)
    network = build_network(weights, len(classes))
    network.head.load_state_dict(fit.head.state())
    with torch.inference_mode():
        logits = network.head(torch.from_numpy(features[test]))
    right = torch.from_numpy(targets[test])
    result = RunResult(
        label=method.label,
        top1=accuracy(logits, right),
        macro=macro_accuracy(logits, right),
        alpha=method.alpha,
        beta=method.beta,
        c=fit.c,
        penalty_share=0,
        penalty_share_first_epoch=0,
        iterations_per_epoch=1,  # each step of L-BFGS sees all images
        source_network=network.spec.name,
        device="cpu",
        classes=classes,
        view=view,
    )
    save_network(network, out)
    write_predictions(out, predictions(list(index["path"].iloc[test]), logits / temperature, right, classes))
    result.write(out)
    validated = accuracy(torch.from_numpy(fit.decisions), torch.from_numpy(targets[train]))
    say(
        f"{result.label}, seed {seed}: top-1 {validated:.1f} % cross-validated on the training images, "
        f"{result.top1:.1f} % on the test images (C = {fit.c:g})"
    )
