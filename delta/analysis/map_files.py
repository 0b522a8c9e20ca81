"""Writing and reading activation maps, and their measures; without PyTorch, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from delta.io.errors import UserError

METHODS = ("l2_fe", "l2", "l2_sp", "delta_wo_att", "delta")  # the columns of Figures 1, 6 and 7
SOURCE, REFERENCE = "l2_fe", "l2_sp"  # L2-FE's backbone is the source network's
NETWORK = "network"  # the name of the mean map of all filters


@dataclass(frozen=True)
class ActivationMaps:
    """Maps of one layer of several networks for some images.

    Attributes:
        images: one row per image, with the columns label and path.
        pixels: the images as input to the networks, before normalisation: uint8 [n, crop, crop, 3].
        filters: one row per filter: filter (its index), source_mean and tuned_mean (its mean activation over the test
            images in the source network, and averaged over the fine-tuned networks), considered (the number of
            candidates), filters (the number of filters in the layer) and layer.
        maps: by method, float32 [n, 1 + filters, crop, crop]: the mean of all filters' rectified maps, then the map of
            each row of `filters`, not rectified ("the original activation map", section 4.4: a rarely activated filter
            is negative nearly everywhere, so its rectified map would be empty). Each is scaled to [0, 1] by its own
            minimum and maximum; constant maps are 0.
    """

    images: pd.DataFrame
    pixels: np.ndarray
    filters: pd.DataFrame
    maps: Mapping[str, np.ndarray]

    @property
    def names(self) -> list[str]:
        """The names of an image's maps: `network`, or a filter's index."""
        return [NETWORK, *self.filters["filter"].astype(str)]


def write_maps(out: Path, activation_maps: ActivationMaps) -> None:
    """Write the maps and their measures into the folder `out`.

    `images.csv`, `pixels.npy`, `filters.csv`, `<method>.npy` for each method, and `maps.csv`, see `map_table`.
    """
    activation_maps.images.to_csv(out / "images.csv", index=False)
    activation_maps.filters.to_csv(out / "filters.csv", index=False)
    map_table(activation_maps).to_csv(out / "maps.csv", index=False)
    np.save(out / "pixels.npy", activation_maps.pixels)
    for method, maps in activation_maps.maps.items():
        np.save(out / f"{method}.npy", maps)


def read_maps(folder: Path) -> ActivationMaps:
    """Read the maps that `write_maps` wrote.

    Raises:
        UserError: a file is missing or damaged.
    """
    try:
        return ActivationMaps(
            images=pd.read_csv(folder / "images.csv", dtype=str, keep_default_na=False),
            pixels=np.load(folder / "pixels.npy", allow_pickle=False),
            filters=pd.read_csv(folder / "filters.csv", dtype={"layer": str}),
            maps={method: np.load(folder / f"{method}.npy", allow_pickle=False) for method in METHODS},
        )
    except Exception as error:  # NumPy raises nearly every kind of error for a damaged header
        raise UserError(f"{folder}: no activation maps ({error}): run `dvc repro`") from None


def map_table(activation_maps: ActivationMaps) -> pd.DataFrame:
    """The measures of the maps: label, path, map (`network` or a filter's index), method, area and correlation.

    The area is the percentage of the map's pixels above 0.5. The correlation is Pearson's with L2-SP's map of the same
    image, NaN if one of the two is constant.
    """
    reference = activation_maps.maps[REFERENCE]
    return pd.DataFrame(
        [
            (
                label,
                path,
                name,
                method,
                100 * (map > 0.5).mean(),
                correlation(map, reference[i, j]),
            )
            for i, (label, path) in enumerate(activation_maps.images[["label", "path"]].itertuples(index=False))
            for j, name in enumerate(activation_maps.names)
            for method, maps in activation_maps.maps.items()
            for map in [maps[i, j]]
        ],
        columns=["label", "path", "map", "method", "area", "correlation"],
    )


def evenly_spaced(count: int, limit: int) -> np.ndarray:
    """At most `limit` evenly spaced indices from 0 to `count` − 1, both included; int64."""
    return np.linspace(0, count - 1, min(limit, count)).round().astype(int)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two maps over their pixels; NaN if one of them is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1])
