"""Activation maps of networks fine-tuned from the same source network (section 4.4, Figures 1, 6 and 7)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from delta.analysis.layer_maps import last_convolution, layer_maps, min_max_normalise, upsample
from delta.analysis.map_files import SOURCE, ActivationMaps, evenly_spaced
from delta.data.packed.views import DefaultViewData
from delta.networks.devices import deterministic
from delta.networks.network import Network, trained_network


def activation_maps(
    runs: Mapping[str, Path], packed: Path, images: int, filters: int, device: torch.device, layer: str | None = None
) -> ActivationMaps:
    """Activation maps of some test images in one run of each method.

    Args:
        runs: run folders by method, including `l2_fe`.
        packed: the packed data set's folder.
        images: the number of images: the first test image of each of this many classes, evenly spaced among the
            sorted classes.
        filters: the number of filters, see `select_filters`.
        device: where the networks run.
        layer: the convolution, by its name in the backbone; by default the last feature layer.

    Raises:
        UserError: a run or the data set cannot be read, or there is no such layer.
    """
    data = DefaultViewData.open(packed)
    tests = data.index.iloc[data.rows("test")].reset_index(drop=True)
    first = tests.drop_duplicates("label").sort_values("target")
    shown = first.iloc[evenly_spaced(len(first), images)]
    means, maps = {}, {}
    for method, run in tqdm(runs.items(), desc="activation maps", unit="network"):
        network = trained_network(run).to(device)
        layer = layer or last_convolution(network)
        with deterministic():
            means[method], maps[method] = mean_activations_and_maps(network, data, shown.index.to_numpy(), layer)
    tuned = torch.stack([mean for method, mean in means.items() if method != SOURCE]).mean(0)
    chosen, considered = select_filters(means[SOURCE], tuned, filters)
    pixels = data.test_view[data.rows("test")[shown.index]]
    crop = pixels.shape[1], pixels.shape[2]
    return ActivationMaps(
        images=shown[["label", "path"]].reset_index(drop=True),
        pixels=pixels,
        filters=pd.DataFrame(
            {
                "filter": chosen.numpy(),
                "source_mean": means[SOURCE][chosen].numpy(),
                "tuned_mean": tuned[chosen].numpy(),
                "considered": considered,
                "filters": len(tuned),
                "layer": layer,
            }
        ),
        maps={method: _displayed(all_maps, chosen, crop) for method, all_maps in maps.items()},
    )


def mean_activations_and_maps(
    network: Network, data: DefaultViewData, images: np.ndarray, layer: str, batch_size: int = 64
) -> tuple[Tensor, Tensor]:
    """The activations of one layer of a network.

    Args:
        images: the images to return maps of, as indices into the test split.
        layer: a convolution's name in the backbone.

    Returns:
        The mean of each filter's rectified activation over all test images and positions, float64 [C], and the maps of
        the given images, not rectified, float32 [images, C, h, w]; on the CPU.
    """
    device = next(network.parameters()).device
    batches = (crops for crops, _ in data.test_batches("test", network.spec, batch_size, device))
    total: Tensor | int = 0
    kept: dict[int, Tensor] = {}
    start = 0
    for maps in layer_maps(network, layer, batches, rectify=False):
        total = total + maps.relu().mean((2, 3), dtype=torch.float64).sum(0)
        kept |= {image: maps[image - start].cpu() for image in images if start <= image < start + len(maps)}
        start += len(maps)
    assert isinstance(total, Tensor)  # there are test images
    return total.cpu() / start, torch.stack([kept[image] for image in images])


def select_filters(source: Tensor, tuned: Tensor, count: int) -> tuple[Tensor, int]:
    """Select filters with low activation in the source network and high activation in the fine-tuned networks.

    The candidates are the 10 % of the filters (but at least `count`) with the lowest mean activation in the source
    network. Of these, the ones with the highest mean activation in the fine-tuned networks are selected. Ties are
    broken by the filter's index.

    Args:
        source, tuned: mean activation of each filter, [C].
        count: the number of filters to select.

    Returns:
        The selected filters' indices, in order of decreasing activation, and the number of candidates.
    """
    candidates = source.argsort(stable=True)[: max(count, len(source) // 10)].sort().values
    return candidates[tuned[candidates].argsort(descending=True, stable=True)[:count]], len(candidates)


def _displayed(maps: Tensor, filters: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The maps to display: the mean of all rectified maps and the maps of some filters, upsampled and in [0, 1].

    Args:
        maps: [n, C, h, w].
        filters: indices of filters.

    Returns:
        float32 [n, 1 + filters, *size].
    """
    chosen = torch.cat([maps.relu().mean(1, keepdim=True), maps[:, filters]], 1)
    # Normalise first, too: rounding in the upsampling would otherwise become the contrast of a constant map.
    return min_max_normalise(upsample(min_max_normalise(chosen), size)).numpy()
