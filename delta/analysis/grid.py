"""Grid search by stratified cross-validation on the training images (section 4.2)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from delta.analysis.folds import learn_channel_weights, stratified_folds
from delta.analysis.grid_config import Grid
from delta.analysis.probe import fit_probe, probe_folds
from delta.data.packed.views import DefaultViewData
from delta.io.errors import Diverged
from delta.methods.base import Method
from delta.methods.probe import Probe
from delta.networks.devices import deterministic
from delta.networks.network import Network, build_network, load_classifier
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe
from delta.training.evaluation import split_features, top1
from delta.training.loop import fine_tune


def cross_validate(
    data: DefaultViewData,
    fold: int,
    recipe: Recipe,
    *,
    weights: Path,
    l2_fe: Method,
    grid: Grid,
    normalization: str,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    classifier: Path | None = None,
    start: Method | None = None,
) -> pd.DataFrame:
    """Train and validate a method with every cell of its grid, for one fold.

    The run that the method starts from, the attention and the L2-FE that it is learned from are fitted on the fold's
    training part only: validation and test images are not used before a cell is validated. A cell that diverges is
    recorded as failed, and the others continue.

    Args:
        fold: the index of the part that is held out.
        recipe: its method's parameters are replaced by those of every cell in turn, see
            `delta.methods.base.Method.cells`; its training is shortened to `grid.iterations`, and its seed is replaced
            by the grid's.
        weights: the file of the backbone's source weights.
        l2_fe: the method of the network that the attention is computed from.
        grid: the grid's values, folds, iterations, estimator and seed.
        normalization: of the attention, see `delta.attention.normalization.attention`.
        device: where to train.
        checkpoint: saves finished cells; the cell in training has its own checkpoint beside it.
        classifier: the file of the source network's own classifier, for a method that uses it.
        start: the method of the run that a cell starts from; None for the source network.

    Returns:
        One row per cell: alpha and beta, values (JSON of the parameters that the grid chooses), fold, top1 (percent;
        NaN if failed), problem (why it failed).

    Raises:
        UserError: an input cannot be read, L2-FE or the start diverges, or a class has too few images.
    """
    part = data.hold_out(stratified_folds(data, len(grid.folds), grid.seed, "grid.folds")[fold])
    recipe = replace(recipe, training=recipe.training.lasting(grid.iterations), seed=grid.seed)
    methods = [method for method in (recipe.method, start) if method]
    own = load_classifier(classifier) if classifier and any(method.uses_classifier for method in methods) else None
    own = own and own.to(device)

    def network(state: dict[str, Tensor] | None = None) -> Network:
        """The source network with a new classifier, or with another network's state."""
        built = build_network(weights, len(data.classes), grid.seed)
        if state:
            built.load_state_dict(state)
        return built.to(device)

    def trained(method: Method, state: dict[str, Tensor] | None = None) -> Network:
        tuned, this = network(state), replace(recipe, method=method)
        fine_tune(tuned, source, part, this, learned or {}, checkpoint=run_checkpoint, classifier=own)
        return tuned

    parameters = (fold, l2_fe, recipe, grid, normalization, start)
    saved = checkpoint and checkpoint.load(device, part, parameters=parameters, weights=(weights, classifier))
    learned, begun, rows = (saved["channel_weights"], saved["start"], saved["rows"]) if saved else (None, None, [])
    run_checkpoint = checkpoint and checkpoint.beside("run")

    def save() -> None:
        """Save what is finished, and remove the checkpoint of the run that has just finished."""
        if checkpoint and run_checkpoint:
            checkpoint.save({"channel_weights": learned, "start": begun, "rows": rows})
            run_checkpoint.remove()

    with deterministic():
        source = network()
        if learned is None:
            learned = {}
            if any(method.uses_attention for method in methods):
                learned = learn_channel_weights(trained(l2_fe), part, grid.estimator, normalization)
            save()
        if start and begun is None:
            first = with_probe(network(), part, start, recipe) if isinstance(start, Probe) else trained(start)
            begun = first.state_dict()
            save()
        cells = recipe.method.cells(grid.alpha, grid.beta)
        done = len(rows)
        for values in tqdm(cells[done:], desc=f"fold {fold}", unit="cell", initial=done, total=len(cells)):
            method = recipe.method.with_values(values)
            cell = (method.alpha, method.beta, json.dumps(values), fold)
            try:
                rows.append((*cell, top1(trained(method, begun), part, "validation"), None))
            except Diverged as problem:
                tqdm.write(f"failed cell: {problem}")
                rows.append((*cell, float("nan"), str(problem)))
            save()
    return pd.DataFrame(rows, columns=["alpha", "beta", "values", "fold", "top1", "problem"])


def with_probe(network: Network, data: DefaultViewData, method: Probe, recipe: Recipe) -> Network:
    """A source network with the probe of the training images of `data` as its classifier."""
    features, targets = split_features(network, data, "train").numpy(), data.targets("train").numpy()
    folds = probe_folds(targets, data.classes, recipe.seed, data.groups("train"))
    fit = fit_probe(features, targets, folds, method.c, recipe.training.class_weights)
    network.head.load_state_dict(fit.head.state())
    return network
