"""Grid search by stratified cross-validation on the training images (section 4.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from delta.attention import filter_importance
from delta.checkpoints import Checkpoint
from delta.devices import deterministic
from delta.errors import Diverged, UserError
from delta.evaluation import top1
from delta.factors import factors_of
from delta.networks import Network, build_network
from delta.params import Grid, Input, Training
from delta.regularizers import Method
from delta.training import as_tensors, fine_tune
from delta.views import Packed


def stratified_folds(data: Packed, folds: int, seed: int) -> list[np.ndarray]:
    """The training images shared out among `folds` disjoint parts with each class spread evenly over them.

    Returns:
        Each part's places among the training images.

    Raises:
        UserError: naming the classes with fewer training images than folds.
    """
    targets = data.targets("train").numpy()
    counts = np.bincount(targets)
    if short := [f"{data.classes[target]} has {count}" for target, count in enumerate(counts) if count < folds]:
        raise UserError(f"grid.folds: {folds} folds, but of training images {', '.join(short)}: list fewer folds")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [part for _, part in splitter.split(np.zeros(len(targets)), targets)]


def cross_validate(
    data: Packed,
    fold: int,
    *,
    weights: Path,
    l2_fe: Method,
    method: Method,
    grid: Grid,
    normalization: str,
    view: Input,
    training: Training,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> pd.DataFrame:
    """Train and validate one method at every cell of the grid, for one fold.

    L2-FE and attention are fitted on the fold's training part only; neither the validation part nor the test images
    are seen before a cell is validated. A cell that diverges is a failed one and does not stop the others.

    Args:
        fold: which part is held out.
        method: takes every pair of `grid.alpha` and `grid.beta` in turn.
        normalization: of attention, see `delta.factors.normalized`.
        training: its iterations and decay_after are shortened to `grid.iterations` in proportion.
        checkpoint: where finished cells are kept; the run that is on has one of its own beside it.

    Returns:
        A row a cell: alpha, beta, fold, top1 (percent; NaN for a failed cell), problem (why it failed).

    Raises:
        UserError: an input cannot be read, L2-FE diverges, or a class has too few images.
    """
    part = data.hold_out(stratified_folds(data, len(grid.folds), grid.seed)[fold])
    training = grid.shortened(training)

    def start() -> Network:
        return build_network(weights, len(data.classes), grid.seed).to(device)

    parameters = (fold, l2_fe, method, grid, normalization, view, training)
    saved = checkpoint and checkpoint.load(device, part, parameters=parameters, weights=weights)
    factors, rows = (saved["factors"], saved["rows"]) if saved else (None, [])
    run = checkpoint and checkpoint.beside("run")

    def keep() -> None:
        """What is finished; the run that was on until now is part of it."""
        if checkpoint:
            checkpoint.save({"factors": factors, "rows": rows})
            run.remove()

    with deterministic():
        source = start()
        if factors is None:
            network = start()
            fine_tune(network, source, part, l2_fe, {}, training, view, grid.seed, checkpoint=run)
            factors = attention_factors(network, part, grid.estimator, normalization)
            keep()
        pairs = [(alpha, beta) for alpha in grid.alpha for beta in grid.beta]
        done = len(rows)
        for alpha, beta in tqdm(pairs[done:], desc=f"fold {fold}", unit="cell", initial=done, total=len(pairs)):
            network = start()
            cell = method.model_copy(update={"alpha": alpha, "beta": beta})
            try:
                fine_tune(network, source, part, cell, factors, training, view, grid.seed, checkpoint=run)
                rows.append((alpha, beta, fold, top1(network, part, "validation"), None))
            except Diverged as problem:
                tqdm.write(f"failed cell: {problem}")
                rows.append((alpha, beta, fold, float("nan"), str(problem)))
            keep()
    return pd.DataFrame(rows, columns=["alpha", "beta", "fold", "top1", "problem"])


def attention_factors(network: Network, data: Packed, estimator: str, normalization: str) -> dict[str, torch.Tensor]:
    """C·W_j by feature layer, float32 [C] each, learned from the training images of `data` by an L2-FE network."""
    importance = filter_importance(network, data, estimator, progress=True)
    return as_tensors({layer: factors_of(scores.numpy(), normalization) for layer, scores in importance.items()})
