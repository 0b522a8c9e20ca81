"""How strongly a network is activated at the annotated parts of objects (section 4.4, Table 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from PIL import ExifTags, Image
from torch import Tensor
from tqdm import tqdm

from delta.analysis.layer_maps import last_convolution, layer_maps, normalised_maps, upsampled
from delta.data.images import BROKEN_IMAGE, reason
from delta.data.packed.views import DefaultViewData
from delta.io.errors import UserError
from delta.networks.devices import deterministic
from delta.networks.network import Network, trained_network

ALL = "all"

# By EXIF orientation how a stored pixel comes upright: x counted from the right, y from the bottom, then x and y
# exchanged. Pillow's `exif_transpose`, which `delta.data.images.decode` uses, turns the pixels so.
_TURNS = {
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}


def part_activation(
    runs: Mapping[int, Path], packed: Path, parts: pd.DataFrame, root: Path, device: torch.device
) -> pd.DataFrame:
    """Table 3's measure of one method, for each seed and part.

    Args:
        runs: run folders by seed.
        packed: the packed data set.
        parts: path, part, x, y and visible, see `delta.datasets.read_parts`.
        root: the folder that the paths are relative to.

    Returns:
        seed, part, activation, images: of each seed a row `all`, the mean over the annotated test images of the sum
        over their visible parts, and a row a part, its mean over the test images where it is visible (empty where
        there is none); `images` counts the images.

    Raises:
        UserError: a run, the data set or an image cannot be read, or no test image has part annotations.
    """
    data = DefaultViewData.open(packed)
    parts = located(parts, data.index["path"].iloc[data.rows("test")], root)
    rows = []
    for seed, run in runs.items():
        network = trained_network(run).to(device)
        with deterministic():
            values = activations_at(network, data, parts, progress=f"parts, seed {seed}")
        rows.append(summary(parts, values).assign(seed=seed))
    return pd.concat(rows, ignore_index=True)[["seed", "part", "activation", "images"]]


def located(parts: pd.DataFrame, paths: pd.Series, root: Path) -> pd.DataFrame:
    """The parts of some images by the pixels of the upright images.

    A part's pixel is the one that holds its coordinates, or the nearest one where they lie outside the image, as a few
    of CUB-200-2011's do.

    Args:
        parts: path, part, x, y (of the pixels as stored) and visible.
        paths: of the images.
        root: the folder that the paths are relative to.

    Returns:
        path, part, visible, x, y (whole), width and height of the upright image.

    Raises:
        UserError: an image is missing or broken, or none of them has part annotations.
    """
    parts = parts[parts["path"].isin(paths)].reset_index(drop=True)
    if parts.empty:
        raise UserError(f"{root}: no test image has annotated parts: leave it out of part_activation.datasets")
    headers = {path: _header(root / path) for path in parts["path"].unique()}
    pixels = [
        _upright(int(x), int(y), *headers[path])
        for path, x, y in parts[["path", "x", "y"]].itertuples(index=False, name=None)
    ]
    columns = ["x", "y", "width", "height"]
    return parts[["path", "part", "visible"]].join(pd.DataFrame(pixels, columns=columns))


def _header(path: Path) -> tuple[int, int, int]:
    """Width, height (as stored) and EXIF orientation."""
    try:
        with Image.open(path) as image:
            return *image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
    except BROKEN_IMAGE as error:
        raise UserError(f"{path}: not readable ({reason(error)}): run `dvc repro --force download`") from None


def _upright(x: int, y: int, width: int, height: int, orientation: int) -> tuple[int, int, int, int]:
    """A stored pixel's x and y in the upright image, and that image's width and height."""
    from_right, from_bottom, exchanged = _TURNS.get(orientation, (False, False, False))
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    x, y = width - 1 - x if from_right else x, height - 1 - y if from_bottom else y
    return (y, x, height, width) if exchanged else (x, y, width, height)


def activations_at(
    network: Network, data: DefaultViewData, parts: pd.DataFrame, batch_size: int = 64, progress: str | None = None
) -> Tensor:
    """A network's normalised activation at parts of test images.

    The last convolution's rectified maps, averaged over the channels, upsampled to the image's own size and brought
    to [0, 1] by their minimum and maximum; one without a contrast is 0.

    Args:
        data: its test images are used, in the test view.
        parts: path, x, y, width, height, see `located`; images that are no test images get nothing.
        progress: what to call the work, where it is to be shown.

    Returns:
        float64 [parts] on the CPU; NaN for a part of another image.
    """
    device = next(network.parameters()).device
    batches = (images for images, _ in data.test_batches("test", network.spec, batch_size, device))
    maps = (each for batch in layer_maps(network, last_convolution(network), batches) for each in batch.mean(1))
    paths, places = data.index["path"].iloc[data.rows("test")], parts.groupby("path").indices
    values = torch.full((len(parts),), torch.nan, dtype=torch.float64)
    bar = tqdm(paths, desc=progress, unit="image", disable=progress is None)
    for path, image_map in zip(bar, maps, strict=True):
        if path in places:
            here = parts.iloc[places[path]]
            size = int(here["height"].iloc[0]), int(here["width"].iloc[0])
            # Before as well: upsampling rounds, which would be the only contrast of a map that has none.
            whole = normalised_maps(upsampled(normalised_maps(image_map)[None, None], size))[0, 0]
            values[places[path]] = whole[here["y"].to_list(), here["x"].to_list()].double().cpu()
    return values


def summary(parts: pd.DataFrame, values: Tensor) -> pd.DataFrame:
    """part, activation, images: the row `all` and one a part, in the annotation's order; see `part_activation`.

    Args:
        parts: path, part and visible.
        values: the activation at each.
    """
    seen = parts.assign(activation=values.numpy())[["path", "part", "visible", "activation"]]
    seen["activation"] = seen["activation"].where(seen["visible"])
    sums = seen.groupby("path")["activation"].sum()
    each = seen.groupby("part", sort=False)["activation"].agg(activation="mean", images="count").reset_index()
    whole = pd.DataFrame({"part": [ALL], "activation": [sums.mean()], "images": [len(sums)]})
    return pd.concat([whole, each], ignore_index=True)
