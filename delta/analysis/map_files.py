"""Activation maps as files: what is measured with PyTorch and drawn, or looked at in numbers, without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from delta.io.errors import UserError

METHODS = ("l2_fe", "l2", "l2_sp", "delta_wo_att", "delta")  # the columns of Figures 1, 6 and 7
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
            filter that is hardly ever activated is negative nearly everywhere, and rectified it would show nothing);
            each scaled to [0, 1] by its own minimum and maximum (0 where it is constant).
    """

    images: pd.DataFrame
    pixels: np.ndarray
    filters: pd.DataFrame
    maps: Mapping[str, np.ndarray]

    @property
    def names(self) -> list[str]:
        """What each map of an image shows: `network`, or a filter's number."""
        return [NETWORK, *self.filters["filter"].astype(str)]


def write_maps(out: Path, shown: ActivationMaps) -> None:
    """Write the maps and what they measure into the folder `out`.

    `images.csv`, `pixels.npy`, `filters.csv`, `<method>.npy` for each method, and `maps.csv`, see `map_table`.
    """
    shown.images.to_csv(out / "images.csv", index=False)
    shown.filters.to_csv(out / "filters.csv", index=False)
    map_table(shown).to_csv(out / "maps.csv", index=False)
    np.save(out / "pixels.npy", shown.pixels)
    for method, maps in shown.maps.items():
        np.save(out / f"{method}.npy", maps)


def read_maps(folder: Path) -> ActivationMaps:
    """What `write_maps` wrote.

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
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder}: no activation maps ({error}): run `dvc repro`") from None


def map_table(shown: ActivationMaps) -> pd.DataFrame:
    """What the maps measure: label, path, map (`network` or a filter's number), method, area and correlation.

    The area is the share of the map above one half, in percent; the correlation is Pearson's with L2-SP's map of the
    same image, NaN where one of the two is constant.
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


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` places, evenly spread from the first to the last; all of them where they are fewer."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two maps over their pixels; NaN where one of them is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1])


def _places(shown: ActivationMaps) -> Iterator[tuple[int, int, str, str, str]]:
    for i, (label, path) in enumerate(shown.images[["label", "path"]].itertuples(index=False)):
        for j, name in enumerate(shown.names):
            yield i, j, label, path, name
