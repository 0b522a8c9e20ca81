"""The gallery of network dissection: for each detected concept, the top images of its best unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from delta.analysis.concepts import Concepts
from delta.analysis.dissection import Dissection, iterate_maps
from delta.analysis.layer_maps import upsample
from delta.networks.devices import deterministic
from delta.networks.network import Network

CONCEPTS = 12

_TILE = 112  # pixels per side
_GAP = 4  # pixels between tiles
_DIMMING = 0.3  # brightness of dimmed pixels
_OUTLINE = (255, 214, 10)  # yellow, which is bright in greyscale, too
_GREY = 128


def best_units(units: pd.DataFrame, limit: int = CONCEPTS) -> pd.DataFrame:
    """The best unit of each of the detected concepts with the highest IoU.

    Args:
        units: `Dissection.units`.
        limit: the maximum number of concepts.

    Returns:
        One row per concept, in decreasing order of IoU: label, category, unit, iou.
    """
    ranked = units[units["detects"]].sort_values(["iou", "unit"], ascending=[False, True])
    first = ranked.drop_duplicates(["label", "category"]).head(limit)
    return first[["label", "category", "unit", "iou"]].reset_index(drop=True)


def write_gallery(
    out: Path, dissection: Dissection, network: Network, concepts: Concepts, crop: int, batch_size: int = 32
) -> None:
    """Write `gallery.csv` and its pictures into the existing folder `out`.

    The table has the columns of `best_units` and file, the name of the picture: the unit's top images side by side,
    resized as for the network, and dimmed where the unit's map does not exceed its threshold.

    Args:
        dissection: of this network with these concepts.
        crop: pixels per side of the network's inputs.
        batch_size: images per batch.

    Raises:
        UserError: an image cannot be read.
    """
    gallery = best_units(dissection.units)
    gallery["file"] = [f"unit_{unit:04d}.jpg" for unit in gallery["unit"]]
    units, thresholds = gallery["unit"].to_numpy(), dissection.units["threshold"].to_numpy()
    tops = dissection.top_images[units]
    rows, tiles = np.unique(tops).tolist(), {}
    with deterministic(), torch.inference_mode():
        remaining = iter(rows)
        for maps, batch in iterate_maps(network, dissection.layer, concepts, rows, crop, batch_size):
            for image_maps, (pixels, _) in zip(maps, batch, strict=True):
                row = next(remaining)
                for unit in units[(tops == row).any(1)]:
                    tiles[unit, row] = masked_tile(pixels, image_maps[unit], thresholds[unit])
    for unit, images, file in zip(units, tops, gallery["file"], strict=True):
        _strip([tiles[unit, row] for row in images]).save(out / file, quality=88, subsampling=0)
    gallery.to_csv(out / "gallery.csv", index=False)


def masked_tile(pixels: np.ndarray, activation: Tensor, threshold: float) -> np.ndarray:
    """An image dimmed where a unit's map does not exceed the threshold, with an outline around where it does.

    Args:
        pixels: uint8 [crop, crop, 3].
        activation: the unit's map, [h, w].
        threshold: the unit's.

    Returns:
        uint8 [112, 112, 3].
    """
    size = (_TILE, _TILE)
    image = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    mask = (upsample(activation[None, None].contiguous(), size)[0, 0] > threshold).cpu().numpy()
    padded = np.pad(mask, 1, mode="edge")  # so that there is no outline along the image's border
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    tile = np.where(mask[..., None], image, (_DIMMING * image).astype(np.uint8))
    tile[mask & ~inner] = _OUTLINE
    return tile


def _strip(tiles: list[np.ndarray]) -> Image.Image:
    """Tiles side by side."""
    strip = Image.new("RGB", (len(tiles) * (_TILE + _GAP) - _GAP, _TILE), (_GREY,) * 3)
    for index, tile in enumerate(tiles):
        strip.paste(Image.fromarray(tile), (index * (_TILE + _GAP), 0))
    return strip
