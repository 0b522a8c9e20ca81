"""The gallery of network dissection: for each detected concept the images that activate its best unit most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from delta.analysis.concepts import Concepts
from delta.analysis.dissection import Dissection, stream_maps
from delta.analysis.layer_maps import upsampled
from delta.networks.devices import deterministic
from delta.networks.network import Network

CONCEPTS = 12

_TILE = 112  # pixels a side
_GAP = 4
_DIMMED = 0.3
_OUTLINE = (255, 214, 10)  # bright in grey as well
_GREY = 128


def best_units(units: pd.DataFrame, most: int = CONCEPTS) -> pd.DataFrame:
    """Of the detected concepts with the highest IoU each one's best unit.

    Args:
        units: `Dissection.units`.

    Returns:
        A row a concept, best first: label, category, unit, iou.
    """
    ranked = units[units["detects"]].sort_values(["iou", "unit"], ascending=[False, True])
    first = ranked.drop_duplicates(["label", "category"]).head(most)
    return first[["label", "category", "unit", "iou"]].reset_index(drop=True)


def write_gallery(
    out: Path, dissection: Dissection, network: Network, concepts: Concepts, crop: int, batch_size: int = 32
) -> None:
    """Write `gallery.csv` and its pictures into the existing folder `out`.

    The table has the columns of `best_units` and file, the picture's name: the unit's most activating images beside
    one another, as the network sees them, dimmed where the unit's map does not exceed its threshold.

    Args:
        dissection: of this network by these concepts.
        crop: pixels a side of the network's inputs.

    Raises:
        UserError: an image cannot be read.
    """
    gallery = best_units(dissection.units)
    gallery["file"] = [f"unit_{unit:04d}.jpg" for unit in gallery["unit"]]
    units, thresholds = gallery["unit"].to_numpy(), dissection.units["threshold"].to_numpy()
    tops = dissection.top_images[units]
    rows, tiles = np.unique(tops), {}
    with deterministic(), torch.inference_mode():
        place = 0
        for maps, batch in stream_maps(network, dissection.layer, concepts, rows, crop, batch_size):
            for image, (pixels, _) in zip(maps, batch, strict=True):
                for unit in units[(tops == rows[place]).any(1)]:
                    tiles[unit, rows[place]] = masked_tile(pixels, image[unit], thresholds[unit])
                place += 1
    for unit, images, file in zip(units, tops, gallery["file"], strict=True):
        _strip([tiles[unit, row] for row in images]).save(out / file, quality=88, subsampling=0)
    gallery.to_csv(out / "gallery.csv", index=False)


def masked_tile(pixels: np.ndarray, activation: Tensor, threshold: float) -> np.ndarray:
    """An image, dimmed where a unit's map does not exceed the threshold, and an outline around where it does.

    Args:
        pixels: uint8 [crop, crop, 3].
        activation: the unit's map, [h, w].

    Returns:
        uint8 [112, 112, 3].
    """
    size = (_TILE, _TILE)
    image = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    mask = (upsampled(activation[None, None].contiguous(), size)[0, 0] > threshold).cpu().numpy()
    padded = np.pad(mask, 1, mode="edge")  # the picture's border is no outline
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    tile = np.where(mask[..., None], image, (_DIMMED * image).astype(np.uint8))
    tile[mask & ~inner] = _OUTLINE
    return tile


def _strip(tiles: list[np.ndarray]) -> Image.Image:
    strip = Image.new("RGB", (len(tiles) * (_TILE + _GAP) - _GAP, _TILE), (_GREY,) * 3)
    for place, tile in enumerate(tiles):
        strip.paste(Image.fromarray(tile), (place * (_TILE + _GAP), 0))
    return strip
