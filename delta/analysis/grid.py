"""Grid search by stratified cross-validation on the training images (section 4.2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from delta.analysis.folds import learn_channel_weights, stratified_folds
from delta.analysis.grid_config import Grid
from delta.data.packed.views import DefaultViewData
from delta.io.errors import Diverged
from delta.methods.base import Method
from delta.networks.devices import deterministic
from delta.networks.network import Network, build_network, load_classifier
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe
from delta.training.evaluation import top1
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
) -> pd.DataFrame:
    """Train and validate a method with every (α, β) of the grid, for one fold.

    If the method uses attention, L2-FE and the attention are fitted on the fold's training part only: validation and
    test images are not used before a cell is validated. A cell that diverges is recorded as failed, and the others
    continue.

    Args:
        fold: the index of the part that is held out.
        recipe: its method's α and β are replaced by every pair of `grid.alpha` and `grid.beta` in turn, its training
            is shortened to `grid.iterations`, and its seed is replaced by the grid's.
        weights: the file of the backbone's source weights.
        l2_fe: the method of the network that the attention is computed from.
        grid: the grid's values, folds, iterations, estimator and seed.
        normalization: of the attention, see `delta.attention.normalization.attention`.
        device: where to train.
        checkpoint: saves finished cells; the cell in training has its own checkpoint beside it.
        classifier: the file of the source network's own classifier, for a method that uses it.

    Returns:
        One row per cell: alpha, beta, fold, top1 (percent; NaN if failed), problem (why it failed).

    Raises:
        UserError: an input cannot be read, L2-FE diverges, or a class has too few images.
    """
    part = data.hold_out(stratified_folds(data, len(grid.folds), grid.seed, "grid.folds")[fold])
    recipe = replace(recipe, training=recipe.training.lasting(grid.iterations), seed=grid.seed)

    def start() -> Network:
        return build_network(weights, len(data.classes), grid.seed).to(device)

    parameters = (fold, l2_fe, recipe, grid, normalization)
    saved = checkpoint and checkpoint.load(device, part, parameters=parameters, weights=(weights, classifier))
    learned, rows = (saved["channel_weights"], saved["rows"]) if saved else (None, [])
    run_checkpoint = checkpoint and checkpoint.beside("run")

    def save() -> None:
        """Save the finished cells, and remove the checkpoint of the run that has just finished."""
        if checkpoint and run_checkpoint:
            checkpoint.save({"channel_weights": learned, "rows": rows})
            run_checkpoint.remove()

    with deterministic():
        source = start()
        own = load_classifier(classifier) if classifier and recipe.method.uses_classifier else None
        if learned is None:
            learned = {}
            if recipe.method.uses_attention:
                network = start()
                fine_tune(network, source, part, replace(recipe, method=l2_fe), {}, checkpoint=run_checkpoint)
                learned = learn_channel_weights(network, part, grid.estimator, normalization)
            save()
        pairs = [(alpha, beta) for alpha in grid.alpha for beta in grid.beta]
        done = len(rows)
        for alpha, beta in tqdm(pairs[done:], desc=f"fold {fold}", unit="cell", initial=done, total=len(pairs)):
            network = start()
            cell = replace(recipe, method=recipe.method.model_copy(update={"alpha": alpha, "beta": beta}))
            try:
                given = own and own.to(device)
                fine_tune(network, source, part, cell, learned, checkpoint=run_checkpoint, classifier=given)
                rows.append((alpha, beta, fold, top1(network, part, "validation"), None))
            except Diverged as problem:
                tqdm.write(f"failed cell: {problem}")
                rows.append((alpha, beta, fold, float("nan"), str(problem)))
            save()
    return pd.DataFrame(rows, columns=["alpha", "beta", "fold", "top1", "problem"])
