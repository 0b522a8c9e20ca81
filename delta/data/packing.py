"""Decoding a data set once into packed arrays for the default and the improved view (sections 4.2 and 4.3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from delta.data.images import (
    DECODE_ERRORS,
    decode,
    failure_reason,
    map_in_order,
    resize_shorter_edge,
    resize_square,
)
from delta.io.errors import UserError

T = TypeVar("T")


def write_packed(root: Path, index: pd.DataFrame, resize: int, crop: int, out: Path) -> None:
    """Write a packed data set into the folder `out`: index.csv, train_view.npy and test_view.npy.

    `delta.data.packed.views.DefaultViewData` reads it.

    Args:
        root: the folder that the index's paths are relative to.
        index: the result of `delta.data.split.assign_splits`.
        resize, crop: pixels per side, see `pack_views`.

    Raises:
        UserError: some images cannot be decoded; the message names all of them.
    """
    pack_views(root, list(index["path"]), list(index["split"] == "train"), resize, crop, out)
    index[["path", "label", "target", "split"]].to_csv(out / "index.csv", index=False)


def write_packed_whole(root: Path, index: pd.DataFrame, shorter_edge: int, out: Path) -> None:
    """Write a packed data set into the folder `out`: index.csv and images.bin.

    `delta.data.packed.views.ImprovedViewData` reads it.

    Args:
        root: the folder that the index's paths are relative to.
        index: a packed data set's index, see `write_packed`.
        shorter_edge: pixels, see `pack_whole`.

    Raises:
        UserError: some images cannot be decoded; the message names all of them.
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
    """Decode every image once and store it at the two sizes of the default view, as uint8 [n, size, size, 3].

    `test_view.npy` has every image resized to the crop size; `train_view.npy` has the training images only, resized to
    `resize`, to take random crops from. Both ignore the aspect ratio and interpolate antialiased bilinear. The arrays
    are written image by image, so memory is bounded by a few images per worker.

    Args:
        root, paths: the images' folder and their paths relative to it.
        is_train: whether each image belongs to the training split.
        resize, crop: pixels per side of the training and of the test images.
        out: an existing folder.
        workers: decoding threads, by default one per CPU; the output does not depend on their number.

    Raises:
        UserError: some images cannot be decoded; the message names all of them.
    """

    def views(row: int, image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
        return resize_square(image, crop), resize_square(image, resize) if is_train[row] else None

    with (
        _array_file(out / "train_view.npy", int(sum(is_train)), resize) as train_view,
        _array_file(out / "test_view.npy", len(paths), crop) as test_view,
    ):
        for test, train in _decode_all(root, paths, views, workers):
            test_view.write(test.data)
            if train is not None:
                train_view.write(train.data)


def pack_whole(
    root: Path, paths: Sequence[str], shorter_edge: int, out: Path, workers: int | None = None
) -> list[tuple[int, int]]:
    """Decode every image once and store it uncropped, with its shorter edge resized (section 4.3).

    `images.bin` is the concatenation of the images, uint8 [height, width, 3] each; antialiased bilinear.

    Args:
        root, paths: the images' folder and their paths relative to it.
        shorter_edge: pixels.
        out: an existing folder.
        workers: decoding threads, by default one per CPU; the output does not depend on their number.

    Returns:
        Each image's height and width in `images.bin`.

    Raises:
        UserError: some images cannot be decoded; the message names all of them.
    """

    sizes = []
    with (out / "images.bin").open("wb") as file:
        for pixels in _decode_all(root, paths, lambda _, image: resize_shorter_edge(image, shorter_edge), workers):
            file.write(pixels.data)
            height, width = pixels.shape[:2]
            sizes.append((height, width))
    return sizes


@dataclass(frozen=True)
class _Unreadable:
    """An image that cannot be decoded: its path and the reason."""

    problem: str


def _decode_all(
    root: Path, paths: Sequence[str], transform: Callable[[int, Image.Image], T], workers: int | None
) -> Iterator[T]:
    """Yield transform(row, image) for each path in order; at the end, raise for all unreadable images together."""

    def attempt(row: int) -> T | _Unreadable:
        try:
            return transform(row, decode(root / paths[row]))
        except DECODE_ERRORS as error:
            return _Unreadable(f"{paths[row]} ({failure_reason(error)})")

    bad = []
    results = map_in_order(attempt, len(paths), workers or os.cpu_count() or 1)
    for result in tqdm(results, total=len(paths), desc="pack", unit="image"):
        if isinstance(result, _Unreadable):
            bad.append(result.problem)
        else:
            yield result
    if bad:
        raise UserError(
            f"{len(bad)} unreadable image file(s) in {root}: {', '.join(bad)}: run `dvc repro --force download`"
        )


def _array_file(path: Path, count: int, size: int) -> BinaryIO:
    """Open a .npy file of shape uint8 [count, size, size, 3] for writing, with its header already written."""
    file = path.open("wb")
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
    return file
