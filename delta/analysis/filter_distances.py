"""The distance of each convolution filter from its source weights after fine-tuning (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from delta.networks.network import Network, build_network, trained_network


def filter_distances(network: Network, source: Network) -> dict[tuple[str, str], Tensor]:
    """‖ω_j − ω*_j‖₂ for every filter j of every convolution in the spec's stages, each filter flattened to a vector.

    Returns:
        By (stage, layer): float64 [filters].
    """
    distances = {}
    for stage, layers in network.spec.stages.items():
        for name in (f"{layer}.weight" for layer in layers):
            difference = network.shared_weights()[name].double() - source.shared_weights()[name].double()
            distances[stage, name.removesuffix(".weight")] = difference.detach().flatten(1).norm(dim=1)
    return distances


def mean_distances(weights: Path, runs: Mapping[str, Sequence[Path]]) -> pd.DataFrame:
    """`filter_distances` of several methods, averaged over each method's runs (its seeds).

    Args:
        weights: the file of the backbone's source weights.
        runs: run folders by method.

    Returns:
        One row per filter, with the columns stage, layer, filter (its index) and one per method.

    Raises:
        UserError: a run or the weights cannot be read.
    """
    source, columns = build_network(weights, n_classes=1), {}
    for method, folders in runs.items():
        distances = [filter_distances(trained_network(folder), source) for folder in folders]
        columns[method] = {key: torch.stack([run[key] for run in distances]).mean(0) for key in distances[0]}
    layers = next(iter(columns.values()))
    rows = [
        pd.DataFrame(
            {"stage": stage, "layer": layer, "filter": range(len(layers[stage, layer]))}
            | {method: column[stage, layer].numpy() for method, column in columns.items()}
        )
        for stage, layer in layers
    ]
    return pd.concat(rows, ignore_index=True)
