"""Cross-validation on the training images: its folds, and the attention of a fold's training part."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from delta.analysis.stratified import distinct_counts, stratified_parts
from delta.attention.importance import filter_importance
from delta.attention.normalization import channel_weights
from delta.data.packed.views import DefaultViewData
from delta.io.errors import UserError, abbreviate
from delta.networks.network import Network
from delta.training.loop import as_tensors


def stratified_folds(data: DefaultViewData, folds: int, seed: int, parameter: str) -> list[np.ndarray]:
    """Split the training images into `folds` disjoint, stratified parts; near-duplicates stay together.

    Args:
        parameter: the name of the number of folds, for messages.

    Returns:
        Each part as indices into the training split, int64 [n].

    Raises:
        UserError: some classes have fewer training images than folds, counting near-duplicates once; the message names
            them.
    """
    targets, groups = data.targets("train").numpy(), data.groups("train")
    counts = distinct_counts(targets, groups, len(data.classes))
    if short := [f"{data.classes[target]} has {count}" for target, count in enumerate(counts) if count < folds]:
        raise UserError(
            f"{parameter}: {folds} folds, but of training images {abbreviate(short)}: fewer folds are needed"
        )
    return stratified_parts(targets, groups, folds, seed)


def learn_channel_weights(
    network: Network, data: DefaultViewData, estimator: str, normalization: str
) -> dict[str, Tensor]:
    """C·W_j by feature layer, float32 [C] each, computed with an L2-FE network on the training images of `data`."""
    importance = filter_importance(network, data, estimator, progress=True)
    return as_tensors(channel_weights({layer: scores.numpy() for layer, scores in importance.items()}, normalization))
