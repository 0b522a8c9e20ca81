"""Filter importance by supervised attention: Equation (9), Algorithm 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from delta.attention.fisher import estimate_loss_increases
from delta.attention.removal import FilterRemoval, fold_batch_norms, step_inputs
from delta.data.packed.views import DefaultViewData
from delta.networks.devices import deterministic, full_float32
from delta.networks.hooks import in_eval_mode
from delta.networks.network import Network, trained_network


def run_importance(run: Path, packed: Path, estimator: str, device: torch.device) -> dict[str, np.ndarray]:
    """`filter_importance` of the network of an L2-FE run on a packed data set.

    Args:
        run: the run's folder.
        packed: the data set's folder.
        estimator: see `filter_importance`.

    Returns:
        Importance by feature layer, float64 [C] each.

    Raises:
        UserError: the run or the data set cannot be read.
    """
    network = trained_network(run).to(device)
    with deterministic():
        importance = filter_importance(network, DefaultViewData.open(packed), estimator, progress=True)
    return {layer: scores.numpy() for layer, scores in importance.items()}


def filter_importance(
    network: Network, data: DefaultViewData, estimator: str = "exact", batch_size: int = 32, progress: bool = False
) -> dict[str, Tensor]:
    """The increase of the summed loss on removal of a filter, for every filter of every feature layer.

    W_j = Σ_i [ L(z(x_i, ω*\\j), y_i) − L(z(x_i, ω*), y_i) ], Equation (9). Removing filter j means setting its weights
    to zero, which zeroes its feature map. It is computed in float32 without TF32, as the differences are small.
    L is the cross-entropy, every image counting alike, also where `training.class_weights` weighs classes in training.

    Args:
        network: the L2-FE network; it is used in eval mode, and its mode is restored.
        data: all of its training images are used, in the test view.
        estimator: `exact` (see `delta.attention.removal`) or `fisher` (see `delta.attention.fisher`). `fisher` is an
            estimate except for layers where the exact value takes no forward pass, such as a ResNet's last one.
        batch_size: images per batch.
        progress: whether to show a progress bar.

    Returns:
        W by feature layer, float64 [C] each, on the CPU.
    """
    device, removals = next(network.parameters()).device, None
    importance: dict[str, Tensor] = {}
    bar = tqdm(total=len(data.rows("train")), desc="attention", unit="image", disable=not progress)
    with torch.no_grad(), in_eval_mode(network), full_float32(), bar:
        for x, y in data.test_batches("train", network.spec, batch_size, device):
            inputs, logits = step_inputs(network, x)
            removals = removals or _removals(network, x, inputs, estimator)
            increases = estimate_loss_increases(network, x, y) if estimator == "fisher" else {}
            loss = cross_entropy(logits.double(), y, reduction="sum")
            increases |= {removal.layer: removal.losses(inputs[removal.start], y) - loss for removal in removals}
            for layer in network.spec.feature_layers:
                importance[layer] = importance.get(layer, 0) + increases[layer].cpu()
            bar.update(len(y))
    return importance


def _removals(network: Network, x: Tensor, inputs: dict[int, Tensor], estimator: str) -> list[FilterRemoval]:
    """The filter removal of each layer; with the `fisher` estimator, only of layers where it is free."""
    folded = fold_batch_norms(network, x)
    removals = [FilterRemoval(network, folded, layer, inputs) for layer in network.spec.feature_layers]
    if estimator == "fisher":
        return [removal for removal in removals if removal.is_free]
    if slow := [removal.layer for removal in removals if not removal.is_shared]:
        tqdm.write(f"attention: one forward pass per filter for {', '.join(slow)}, whose filters cannot be batched")
    return removals
