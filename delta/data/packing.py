"""Decoding a data set once into packed arrays, for the default and the improved view (sections 4.2 and 4.3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from delta.data.images import BROKEN_IMAGE, decode, in_order, reason, resize_shorter_edge, resize_square
from delta.io.errors import UserError

T = TypeVar("T")


def write_packed(root: Path, index: pd.DataFrame, resize: int, crop: int, out: Path) -> None:
    """Write a packed data set for `delta.views.DefaultViewData` into the folder `out`: index.csv and the two packed views.

    Args:
        root: the folder that the index's paths are relative to.
        index: what `assign_splits` returned.
        resize, crop: pixels a side, see `delta.data.images.pack_views`.

    Raises:
        UserError: naming every image that cannot be decoded.
    """
    pack_views(root, list(index["path"]), list(index["split"] == "train"), resize, crop, out)
    index[["path", "label", "target", "split"]].to_csv(out / "index.csv", index=False)


def write_packed_whole(root: Path, index: pd.DataFrame, shorter_edge: int, out: Path) -> None:
    """Write a packed data set for `delta.views.ImprovedViewData` into the folder `out`: index.csv and images.bin.

    Args:
        root: the folder that the index's paths are relative to.
        index: a packed data set's index, see `write_packed`.
        shorter_edge: pixels, see `delta.data.images.pack_whole`.

    Raises:
        UserError: naming every image that cannot be decoded.
    """
    heights, widths = zip(*pack_whole(root, list(index["path"]), shorter_edge, out), strict=True)
    index = index[["path", "label", "target", "split"]]
    index.assign(height=heights, width=widths).to_csv(out / "index.csv", index=False)


def pack_views(
    root: Path,
    paths: Sequence[str],
    is_train: Sequence[bool],
    resize: int,
    crop: int,
    out: Path,
    workers: int | None = None,
) -> None:
    """Decode every image once and keep the two sizes that the default view needs, as uint8 [n, size, size, 3].

    `test_view.npy` holds every image resized straight to the crop's size; `train_view.npy` the training images alone,
    resized to `resize`, from which random crops are cut. Both resizes ignore the aspect, antialiased bilinear. The
    arrays are written image by image, so memory stays bounded by a few images a worker.

    Args:
        root, paths: the images' folder and their paths below it.
        is_train: which of them belong to the training split.
        out: an existing folder.
        workers: threads that decode, by default one a processor; the bytes do not depend on it.

    Raises:
        UserError: naming every file that cannot be decoded.
    """

    def views(row: int, image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
        return resize_square(image, crop), resize_square(image, resize) if is_train[row] else None

    with (
        _array_file(out / "train_view.npy", int(sum(is_train)), resize) as train_view,
        _array_file(out / "test_view.npy", len(paths), crop) as test_view,
    ):
        for test, train in _each(root, paths, views, workers):
            test_view.write(test)
            if train is not None:
                train_view.write(train)


def pack_whole(
    root: Path, paths: Sequence[str], shorter_edge: int, out: Path, workers: int | None = None
) -> list[tuple[int, int]]:
    """Decode every image once and keep it whole, its aspect kept and its shorter edge resized (section 4.3).

    `images.bin` holds the images' bytes one after the other, uint8 [height, width, 3] each; antialiased bilinear.

    Args:
        root, paths: the images' folder and their paths below it.
        shorter_edge: pixels.
        out: an existing folder.
        workers: threads that decode, by default one a processor; the bytes do not depend on it.

    Returns:
        Each image's height and width in `images.bin`.

    Raises:
        UserError: naming every file that cannot be decoded.
    """

    sizes = []
    with (out / "images.bin").open("wb") as file:
        for pixels in _each(root, paths, lambda _, image: resize_shorter_edge(image, shorter_edge), workers):
            file.write(pixels)
            sizes.append(pixels.shape[:2])
    return sizes


def _each(root: Path, paths: Sequence[str], make: Callable[[int, Image.Image], T], workers: int | None) -> Iterator[T]:
    """What `make` makes of each row and its image, in order; unreadable images are named together at the end."""

    def attempt(row: int) -> tuple[T | None, str | None]:
        try:
            return make(row, decode(root / paths[row])), None
        except BROKEN_IMAGE as error:
            return None, f"{paths[row]} ({reason(error)})"

    bad = []
    results = in_order(attempt, len(paths), workers or os.cpu_count() or 1)
    for made, problem in tqdm(results, total=len(paths), desc="pack", unit="image"):
        if problem is None:
            yield made
        else:
            bad.append(problem)
    if bad:
        raise UserError(f"{len(bad)} unreadable image file(s) in {root}: {', '.join(bad)}: repair or remove them")


def _array_file(path: Path, count: int, size: int) -> BinaryIO:
    """A .npy file that takes `count` images of uint8 [size, size, 3], one written after the other."""
    file = path.open("wb")
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
    return file
