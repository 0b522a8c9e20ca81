"""Filter importance by supervised attention: Equation (9), Algorithm 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from delta.devices import deterministic
from delta.evaluation import in_eval_mode
from delta.networks import Network, trained_network
from delta.views import Packed


def run_importance(run: Path, packed: Path, device: torch.device) -> dict[str, np.ndarray]:
    """`filter_importance` by the network of an L2-FE run, over a packed data set.

    Raises:
        UserError: the run or the data set cannot be read.
    """
    network = trained_network(run).to(device)
    with deterministic():
        importance = filter_importance(network, Packed.open(packed), progress=True)
    return {layer: scores.numpy() for layer, scores in importance.items()}


def filter_importance(
    network: Network, data: Packed, batch_size: int = 32, progress: bool = False
) -> dict[str, Tensor]:
    """How much the summed loss rises when a filter is removed, for every filter of every feature layer.

    W_j = Σ_i [ L(z(x_i, ω*\\j), y_i) − L(z(x_i, ω*), y_i) ], Equation (9). Removing filter j means setting its weights
    to zero, which zeroes its map. Only what follows the filter changes, so each pass starts from the kept input of
    the path's step that holds the filter.

    Args:
        network: the L2-FE network; used in eval mode, and left in the mode it came in.
        data: its training images are used, all of them, in the test view.

    Returns:
        W by feature layer, float64 [C] each, on the CPU.
    """
    steps = [module for _, module in network.steps()]
    filters_of = {layer: _filters(network, layer) for layer in network.spec.feature_layers}
    importance = {layer: torch.zeros(len(filters), dtype=torch.float64) for layer, filters in filters_of.items()}
    passes = len(data.rows("train")) * sum(map(len, importance.values()))
    bar = tqdm(total=passes, desc="attention", unit="filter·image", disable=not progress)
    device = next(network.parameters()).device
    with torch.inference_mode(), in_eval_mode(network), bar:
        for x, y in data.test_batches("train", network.spec, batch_size, device):
            entries, logits = _entries(network, x)
            loss = _summed_loss(logits, y)
            for layer, filters in filters_of.items():
                start, entry = entries[layer]
                tail = [*steps[start:], network.head]
                for j, (convolution, removed) in enumerate(filters):
                    without_j = _run(tail, entry, convolution, removed)
                    importance[layer][j] += (_summed_loss(without_j, y) - loss).cpu()
                    bar.update(len(y))
    return importance


def _filters(network: Network, layer: str) -> list[tuple[nn.Module, int]]:
    """The convolution and the place in it of the filter that makes each channel of a feature layer."""
    convolutions = map(network.backbone.get_submodule, network.spec.feature_layers[layer])
    return [(convolution, place) for convolution in convolutions for place in range(convolution.out_channels)]


def _summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits, targets, reduction="none").sum(dtype=torch.float64)


def _entries(network: Network, x: Tensor) -> tuple[dict[str, tuple[int, Tensor]], Tensor]:
    """One pass along the path: for each feature layer the index and the input of the step that holds it; the logits."""
    entries = {}
    for index, (name, module) in enumerate(network.steps()):
        for layer in network.spec.feature_layers:
            if not name or layer == name or layer.startswith(f"{name}."):
                entries[layer] = (index, x.clone())
        x = module(x)
    return entries, network.head(x)


def _run(tail: list[nn.Module], x: Tensor, convolution: nn.Module, removed: int) -> Tensor:
    def zero(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        output[:, removed] = 0

    handle = convolution.register_forward_hook(zero)
    try:
        # The first step may work in place, and its input is needed again.
        x = x.clone()
        for module in tail:
            x = module(x)
        return x
    finally:
        handle.remove()
