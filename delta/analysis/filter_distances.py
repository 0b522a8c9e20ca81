"""The distance of each convolution filter from its source weights after fine-tuning (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
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


def distances_by_seed(weights: Path, runs: Mapping[str, Mapping[int, Path]]) -> pd.DataFrame:
    """`filter_distances` of several methods' runs of the same seeds.

    Args:
        weights: the file of the backbone's source weights.
        runs: run folders by method and seed.

    Returns:
        One row per seed and filter, with the columns seed, stage, layer, filter (its index) and one per method.

    Raises:
        UserError: a run or the weights cannot be read.
    """
    source, tables = build_network(weights, n_classes=1), []
    for seed in next(iter(runs.values())):
        columns = {method: filter_distances(trained_network(runs[method][seed]), source) for method in runs}
        for stage, layer in next(iter(columns.values())):
            distances = {method: column[stage, layer].numpy() for method, column in columns.items()}
            table = pd.DataFrame(distances).rename_axis("filter").reset_index()
            tables.append(table.assign(seed=seed, stage=stage, layer=layer))
    return pd.concat(tables, ignore_index=True)[["seed", "stage", "layer", "filter", *runs]]
