"""Filter importance by supervised attention: Equation (9), Algorithm 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from delta.attention.fisher import estimated_rises
from delta.attention.removal import Removal, folded, inputs_of
from delta.data.packed.views import DefaultViewData
from delta.networks.devices import deterministic
from delta.networks.hooks import in_eval_mode
from delta.networks.network import Network, trained_network


def run_importance(run: Path, packed: Path, estimator: str, device: torch.device) -> dict[str, np.ndarray]:
    """`filter_importance` by the network of an L2-FE run, over a packed data set.

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
    """How much the summed loss rises when a filter is removed, for every filter of every feature layer.

    W_j = Σ_i [ L(z(x_i, ω*\\j), y_i) − L(z(x_i, ω*), y_i) ], Equation (9). Removing filter j means setting its weights
    to zero, which zeroes its map.

    Args:
        network: the L2-FE network; used in eval mode, and left in the mode it came in.
        data: its training images are used, all of them, in the test view.
        estimator: `exact`, see `delta.attention.removal`, or `fisher`, see `delta.attention.fisher`, which is exact only at
            layers where
            that takes no pass at all: a ResNet's last one.

    Returns:
        W by feature layer, float64 [C] each, on the CPU.
    """
    device, removals, importance = next(network.parameters()).device, None, {}
    bar = tqdm(total=len(data.rows("train")), desc="attention", unit="image", disable=not progress)
    with torch.no_grad(), in_eval_mode(network), bar:
        for x, y in data.test_batches("train", network.spec, batch_size, device):
            inputs, logits = inputs_of(network, x)
            removals = removals or _removals(network, x, inputs, estimator)
            rises = estimated_rises(network, x, y) if estimator == "fisher" else {}
            loss = cross_entropy(logits.double(), y, reduction="sum")
            rises |= {removal.layer: removal.losses(inputs[removal.start], y) - loss for removal in removals}
            for layer in network.spec.feature_layers:
                importance[layer] = importance.get(layer, 0) + rises[layer].cpu()
            bar.update(len(y))
    return importance


def _removals(network: Network, x: Tensor, inputs: dict[int, Tensor], estimator: str) -> list[Removal]:
    """How the filters of each layer are removed; where they are estimated, of the layers where it costs nothing."""
    rest = folded(network, x)
    removals = [Removal(network, rest, layer, inputs) for layer in network.spec.feature_layers]
    if estimator == "fisher":
        return [removal for removal in removals if removal.is_free]
    if alone := [removal.layer for removal in removals if not removal.is_shared]:
        tqdm.write(f"attention: one pass a filter for {', '.join(alone)}, whose filters have nothing in common")
    return removals
