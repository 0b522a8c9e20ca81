"""How far fine-tuning moved each convolution filter (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from delta.networks.network import Network, build_network, trained_network


def filter_distances(network: Network, source: Network) -> dict[tuple[str, str], Tensor]:
    """‖ω_j − ω*_j‖₂ of every filter j of every convolution of the stages, each filter flattened to a vector.

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
    """`filter_distances` of several methods' runs, averaged over each method's runs (its seeds).

    Args:
        weights: the backbone's source weights.
        runs: run folders by method.

    Returns:
        A row a filter: stage, layer, filter, and one column a method.

    Raises:
        UserError: a run or the weights cannot be read.
    """
    source, columns = build_network(weights, n_classes=1), {}
    for method, folders in runs.items():
        found = [filter_distances(trained_network(folder), source) for folder in folders]
        columns[method] = {key: torch.stack([each[key] for each in found]).mean(0) for key in found[0]}
    layers = next(iter(columns.values()))
    rows = [
        pd.DataFrame(
            {"stage": stage, "layer": layer, "filter": range(len(layers[stage, layer]))}
            | {method: distances[stage, layer].numpy() for method, distances in columns.items()}
        )
        for stage, layer in layers
    ]
    return pd.concat(rows, ignore_index=True)
