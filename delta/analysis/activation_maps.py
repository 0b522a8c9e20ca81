"""The maps that networks fine-tuned from one source show of the same images (section 4.4, Figures 1, 6 and 7)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from delta.analysis.layer_maps import last_convolution, layer_maps, normalised_maps, upsampled
from delta.analysis.map_files import SOURCE, ActivationMaps, spread
from delta.data.packed.views import DefaultViewData
from delta.networks.devices import deterministic
from delta.networks.network import Network, trained_network


def activation_maps(
    runs: Mapping[str, Path], packed: Path, images: int, filters: int, device: torch.device
) -> ActivationMaps:
    """The maps of test images by one run of each method.

    Args:
        runs: run folders by method, `l2_fe` among them.
        packed: the packed data set.
        images: how many images, of as many classes spread evenly over the sorted ones; of each the first test image.
        filters: how many filters, see `little_activated`.

    Raises:
        UserError: a run or the data set cannot be read.
    """
    data = DefaultViewData.open(packed)
    tests = data.index.iloc[data.rows("test")].reset_index(drop=True)
    first = tests.drop_duplicates("label").sort_values("target")
    shown = first.iloc[spread(len(first), images)]
    means, maps = {}, {}
    for method, run in tqdm(runs.items(), desc="activation maps", unit="network"):
        network = trained_network(run).to(device)
        with deterministic():
            means[method], maps[method] = observed(network, data, shown.index.to_numpy())
    tuned = torch.stack([mean for method, mean in means.items() if method != SOURCE]).mean(0)
    chosen, considered = little_activated(means[SOURCE], tuned, filters)
    pixels = data.test_view[data.rows("test")[shown.index]]
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
                "layer": last_convolution(network),
            }
        ),
        maps={method: _shown(every, chosen, pixels.shape[1:3]) for method, every in maps.items()},
    )


def observed(
    network: Network, data: DefaultViewData, places: np.ndarray, batch_size: int = 64
) -> tuple[Tensor, Tensor]:
    """What a network's last convolution is activated by.

    Args:
        places: of some images, among the test images.

    Returns:
        Each filter's mean activation, rectified, over all test images and positions, float64 [C], and its maps of
        these images as they are, float32 [images, C, h, w]; on the CPU.
    """
    device = next(network.parameters()).device
    batches = (images for images, _ in data.test_batches("test", network.spec, batch_size, device))
    total, kept, start = 0, {}, 0
    for maps in layer_maps(network, last_convolution(network), batches, rectify=False):
        total = total + maps.relu().mean((2, 3), dtype=torch.float64).sum(0)
        kept |= {place: maps[place - start].cpu() for place in places if start <= place < start + len(maps)}
        start += len(maps)
    return total.cpu() / start, torch.stack([kept[place] for place in places])


def little_activated(source: Tensor, tuned: Tensor, count: int) -> tuple[Tensor, int]:
    """Filters that the source network activates little and the fine-tuned ones much.

    Of the tenth of the filters on which the source's mean activation is lowest, those with the highest of the
    fine-tuned networks. Equals come in the filters' order.

    Args:
        source, tuned: mean activation by filter, [C].
        count: how many; there are at least as many candidates.

    Returns:
        Their numbers, the most activated first, and how many candidates there were.
    """
    candidates = source.argsort(stable=True)[: max(count, len(source) // 10)].sort().values
    return candidates[tuned[candidates].argsort(descending=True, stable=True)[:count]], len(candidates)


def _shown(maps: Tensor, filters: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The mean of an image's rectified maps [n, C, h, w], then the filters' own, as they are shown."""
    chosen = torch.cat([maps.relu().mean(1, keepdim=True), maps[:, filters]], 1)
    # Before as well: upsampling rounds, which would be the only contrast of a map that has none.
    return normalised_maps(upsampled(normalised_maps(chosen), size)).numpy()
