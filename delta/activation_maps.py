"""The maps that networks fine-tuned from one source show of the same images (section 4.4, Figures 1, 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from delta.activations import last_convolution, layer_maps, normalised_maps, upsampled
from delta.devices import deterministic
from delta.networks import Network, trained_network
from delta.views import Packed

SOURCE, REFERENCE = "l2_fe", "l2_sp"  # L2-FE's backbone is the source network's
NETWORK = "network"  # the map of all filters together


@dataclass(frozen=True)
class ActivationMaps:
    """What several networks' last convolution shows of some images.

    Attributes:
        images: label and path, a row an image.
        pixels: the images as the networks see them, uint8 [n, crop, crop, 3].
        filters: a row a filter: its number, source_mean and tuned_mean (its mean activation over the test images, of
            the source network and of the others together), considered (how many filters were candidates), filters (how
            many the layer has) and layer.
        maps: by method, float32 [n, 1 + filters, crop, crop] in [0, 1]: the mean of all filters' rectified maps, then
            one map a row of `filters`, as its convolution gives it ("the original activation map", section 4.4: a
            filter that is hardly ever activated is negative nearly everywhere, and rectified there were nothing to
            see); each brought to [0, 1] by its own minimum and maximum (0 without a contrast).
    """

    images: pd.DataFrame
    pixels: np.ndarray
    filters: pd.DataFrame
    maps: Mapping[str, np.ndarray]

    @property
    def names(self) -> list[str]:
        """What each map of an image shows: `network`, or a filter's number."""
        return [NETWORK, *self.filters["filter"].astype(str)]


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
    data = Packed.open(packed)
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


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` places, evenly spread from the first to the last; all of them where they are fewer."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def observed(network: Network, data: Packed, places: np.ndarray, batch_size: int = 64) -> tuple[Tensor, Tensor]:
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


def map_table(shown: ActivationMaps) -> pd.DataFrame:
    """What the maps measure: label, path, map (`network` or a filter's number), method, area and correlation.

    The area is the share of the map above one half, in percent; the correlation is Pearson's with L2-SP's map of the
    same image, NaN where one of the two has no contrast.
    """
    return pd.DataFrame(
        [
            (label, path, name, method, 100 * (map > 0.5).mean(), correlation(map, shown.maps[REFERENCE][i, j]))
            for i, j, label, path, name in _places(shown)
            for method, maps in shown.maps.items()
            for map in [maps[i, j]]
        ],
        columns=["label", "path", "map", "method", "area", "correlation"],
    )


def _places(shown: ActivationMaps) -> Iterator[tuple[int, int, str, str, str]]:
    for i, (label, path) in enumerate(shown.images[["label", "path"]].itertuples(index=False)):
        for j, name in enumerate(shown.names):
            yield i, j, label, path, name


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two maps over their pixels; NaN where one of them has no contrast."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    a, b = (each.astype(np.float64) - each.mean(dtype=np.float64) for each in (a, b))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
