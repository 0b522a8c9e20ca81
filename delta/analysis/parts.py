"""A network's activation at the annotated parts of objects (section 4.4, Table 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from PIL import ExifTags, Image
from torch import Tensor
from tqdm import tqdm

from delta.analysis.layer_maps import last_convolution, layer_maps, min_max_normalise, upsample
from delta.data.images import DECODE_ERRORS, failure_reason
from delta.data.packed.views import DefaultViewData
from delta.io.errors import UserError
from delta.networks.devices import deterministic
from delta.networks.network import Network, trained_network

ALL = "all"  # the name of the row for all parts together

# EXIF orientation -> how to transform coordinates of the stored image to the upright image: flip x, flip y, and then
# swap them. This is what Pillow's `exif_transpose`, which `delta.data.images.decode` uses, does to the pixels.
_TRANSFORMS = {
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}


def part_activation(
    runs: Mapping[int, Path],
    packed: Path,
    parts: pd.DataFrame,
    root: Path,
    device: torch.device,
    layer: str | None = None,
) -> pd.DataFrame:
    """The measure of Table 3 for one method, by seed and part.

    Args:
        runs: run folders by seed.
        packed: the packed data set's folder.
        parts: path, part, x, y and visible, see `delta.data.listing.read_parts`.
        root: the folder that the paths are relative to.
        device: where the networks run.
        layer: the module whose maps are measured, by its name in the backbone; by default the last feature layer.

    Returns:
        seed, part, activation and images (how many). For each seed there is a row `all`, the mean over the annotated
        test images of the sum over their visible parts, and a row for each part, the mean over the test images on
        which it is visible (NaN if there are none).

    Raises:
        UserError: a run, the data set or an image cannot be read, no test image has part annotations, or there is no
            such layer.
    """
    data = DefaultViewData.open(packed)
    parts = to_upright_pixels(parts, data.index["path"].iloc[data.rows("test")], root)
    rows = []
    for seed, run in runs.items():
        network = trained_network(run).to(device)
        with deterministic():
            values = activations_at_parts(network, data, parts, layer, progress=f"parts, seed {seed}")
        rows.append(summarise_parts(parts, values).assign(seed=seed))
    return pd.concat(rows, ignore_index=True)[["seed", "part", "activation", "images"]]


def to_upright_pixels(parts: pd.DataFrame, paths: pd.Series, root: Path) -> pd.DataFrame:
    """Convert the parts' coordinates to pixels of the upright images, for some images.

    Coordinates are rounded down, and those outside the image, as a few of CUB-200-2011's are, are clipped to it.

    Args:
        parts: path, part, x, y (in the stored image, before EXIF rotation) and visible.
        paths: of the images.
        root: the folder that the paths are relative to.

    Returns:
        path, part, visible, x, y (int), width and height of the upright image.

    Raises:
        UserError: an image is missing or damaged, or none of the images has part annotations.
    """
    parts = parts[parts["path"].isin(paths)].reset_index(drop=True)
    if parts.empty:
        raise UserError(f"{root}: no test image has annotated parts: remove the data set from part_activation.datasets")
    headers = {path: _header(root / path) for path in parts["path"].unique()}
    pixels = [
        _upright(int(x), int(y), *headers[path])
        for path, x, y in parts[["path", "x", "y"]].itertuples(index=False, name=None)
    ]
    columns = ["x", "y", "width", "height"]
    return parts[["path", "part", "visible"]].join(pd.DataFrame(pixels, columns=columns))


def _header(path: Path) -> tuple[int, int, int]:
    """An image's width and height as stored, and its EXIF orientation."""
    try:
        with Image.open(path) as image:
            return *image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS as error:
        raise UserError(f"{path}: not readable ({failure_reason(error)}): run `dvc repro --force download`") from None


def _upright(x: int, y: int, width: int, height: int, orientation: int) -> tuple[int, int, int, int]:
    """The x and y of a stored pixel in the upright image, and the upright image's width and height."""
    flip_x, flip_y, swap = _TRANSFORMS.get(orientation, (False, False, False))
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    x, y = width - 1 - x if flip_x else x, height - 1 - y if flip_y else y
    return (y, x, height, width) if swap else (x, y, width, height)


def activations_at_parts(
    network: Network,
    data: DefaultViewData,
    parts: pd.DataFrame,
    layer: str | None = None,
    batch_size: int = 64,
    progress: str | None = None,
) -> Tensor:
    """A network's normalised activation at parts of test images.

    The activation map is the mean over the channels of a layer's rectified maps, upsampled to the size of the image and
    scaled to [0, 1] by its minimum and maximum; a constant map becomes 0.

    Args:
        data: all of its test images are used, in the test view.
        parts: path, x, y, width and height, see `to_upright_pixels`.
        layer: a module's name in the backbone; by default the last feature layer.
        batch_size: images per batch.
        progress: the title of the progress bar; None for no progress bar.

    Returns:
        float64 [parts] on the CPU; NaN for parts of images that are not test images.
    """
    device = next(network.parameters()).device
    batches = (images for images, _ in data.test_batches("test", network.spec, batch_size, device))
    maps = (one for batch in layer_maps(network, layer or last_convolution(network), batches) for one in batch.mean(1))
    paths, rows_by_path = data.index["path"].iloc[data.rows("test")], parts.groupby("path").indices
    values = torch.full((len(parts),), torch.nan, dtype=torch.float64)
    bar = tqdm(paths, desc=progress, unit="image", disable=progress is None)
    for path, image_map in zip(bar, maps, strict=True):
        if path in rows_by_path:
            rows = rows_by_path[path]
            own = parts.iloc[rows]
            size = int(own["height"].iloc[0]), int(own["width"].iloc[0])
            # Normalise first, too: rounding in the upsampling would otherwise become the contrast of a constant map.
            upright_map = min_max_normalise(upsample(min_max_normalise(image_map)[None, None], size))[0, 0]
            values[rows] = upright_map[own["y"].to_list(), own["x"].to_list()].double().cpu()
    return values


def summarise_parts(parts: pd.DataFrame, values: Tensor) -> pd.DataFrame:
    """Summarise activations at parts, see `part_activation`.

    Args:
        parts: path, part and visible.
        values: the activation at each part, [parts].

    Returns:
        part, activation and images: the row `all`, and one row per part in the annotation's order.
    """
    table = parts.assign(activation=values.numpy())[["path", "part", "visible", "activation"]]
    table["activation"] = table["activation"].where(table["visible"])
    sums = table.groupby("path")["activation"].sum()
    by_part = table.groupby("part", sort=False)["activation"].agg(activation="mean", images="count").reset_index()
    overall = pd.DataFrame({"part": [ALL], "activation": [sums.mean()], "images": [len(sums)]})
    return pd.concat([overall, by_part], ignore_index=True)
