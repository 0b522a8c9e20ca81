"""Decoding a data set once into packed images for the default and the improved view (sections 4.2 and 4.3)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

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
from delta.data.packing_config import Packing
from delta.io.errors import UserError, abbreviate

Encoded: TypeAlias = bytes | memoryview  # what is written of an image
Write: TypeAlias = Callable[[Encoded], object]

T = TypeVar("T")

_QUALITY = 95
_LONGEST_JPEG = 65_500  # pixels of a side


def write_packed(root: Path, index: pd.DataFrame, resize: int, crop: int, out: Path, packing: Packing = "raw") -> None:
    """Write a packed data set into the folder `out`: index.csv and the files of `pack_views`.

    `delta.data.packed.views.DefaultViewData` reads it.

    Args:
        root: the folder that the index's paths are relative to.
        index: the result of `delta.data.split.assign_splits`.
        resize, crop: pixels per side, see `pack_views`.
        packing: see `pack_views`.

    Raises:
        UserError: some images cannot be decoded; the message names all of them.
    """
    pack_views(root, list(index["path"]), list(index["split"] == "train"), resize, crop, out, packing=packing)
    _columns(index).to_csv(out / "index.csv", index=False)


def write_packed_whole(root: Path, index: pd.DataFrame, shorter_edge: int, out: Path, packing: Packing = "raw") -> None:
    """Write a packed data set into the folder `out`: index.csv and the files of `pack_whole`.

    `delta.data.packed.views.ImprovedViewData` reads it.

    Args:
        root: the folder that the index's paths are relative to.
        index: a packed data set's index, see `write_packed`.
        shorter_edge: pixels, see `pack_whole`.
        packing: see `pack_whole`.

    Raises:
        UserError: some images cannot be decoded; the message names all of them.
    """
    heights, widths = zip(*pack_whole(root, list(index["path"]), shorter_edge, out, packing=packing), strict=True)
    _columns(index).assign(height=heights, width=widths).to_csv(out / "index.csv", index=False)


def _columns(index: pd.DataFrame) -> pd.DataFrame:
    """The columns of a packed data set's index; groups of near-duplicates only if there are any."""
    groups = ["group"] if "group" in index and index["group"].any() else []
    return index[["path", "label", "target", "split", *groups]]


def pack_views(
    root: Path,
    paths: Sequence[str],
    is_train: Sequence[bool],
    resize: int,
    crop: int,
    out: Path,
    workers: int | None = None,
    packing: Packing = "raw",
) -> None:
    """Decode every image once and store it at the two sizes of the default view.

    `test_view` has every image resized to the crop size; `train_view` has the training images only, resized to
    `resize`, to take random crops from. Both ignore the aspect ratio and interpolate antialiased bilinear. The files
    are written image by image, so memory is bounded by a few images per worker.

    Args:
        root, paths: the images' folder and their paths relative to it.
        is_train: whether each image belongs to the training split.
        resize, crop: pixels per side of the training and of the test images.
        out: an existing folder.
        workers: decoding threads, by default one per core; the output does not depend on their number.
        packing: `raw` writes pixels, uint8 [n, size, size, 3] in `<view>.npy`; `jpeg` writes JPEGs of quality 95
            without chroma subsampling, about a sixth of the bytes: one after the other in `<view>.mjpeg`, and in
            `<view>.ends.npy` where each of them ends, int64 [n].

    Raises:
        UserError: some images cannot be decoded; the message names all of them.
    """
    encoded = _encoder(packing)

    def views(row: int, image: Image.Image) -> tuple[Encoded, Encoded | None]:
        return encoded(resize_square(image, crop)), encoded(resize_square(image, resize)) if is_train[row] else None

    with (
        _view_file(out, "train_view", packing, int(sum(is_train)), resize) as write_train,
        _view_file(out, "test_view", packing, len(paths), crop) as write_test,
    ):
        for test, train in _decode_all(root, paths, views, workers):
            write_test(test)
            if train is not None:
                write_train(train)


def pack_whole(
    root: Path,
    paths: Sequence[str],
    shorter_edge: int,
    out: Path,
    workers: int | None = None,
    packing: Packing = "raw",
) -> list[tuple[int, int]]:
    """Decode every image once and store it uncropped, its shorter edge resized, antialiased bilinear (section 4.3).

    Args:
        root, paths: the images' folder and their paths relative to it.
        shorter_edge: pixels.
        out: an existing folder.
        workers: decoding threads, by default one per core; the output does not depend on their number.
        packing: `raw` writes the concatenation of the images, uint8 [height, width, 3] each, as `images.bin`; `jpeg`
            writes JPEGs as `images.mjpeg` and `images.ends.npy`, see `pack_views`.

    Returns:
        Each stored image's height and width.

    Raises:
        UserError: some images cannot be decoded; the message names all of them.
    """
    encoded = _encoder(packing)

    def whole(_: int, image: Image.Image) -> tuple[Encoded, tuple[int, int]]:
        pixels = resize_shorter_edge(image, shorter_edge)
        return encoded(pixels), (pixels.shape[0], pixels.shape[1])

    sizes = []
    with _jpeg_file(out / "images.mjpeg") if packing == "jpeg" else _plain_file(out / "images.bin") as write:
        for image, size in _decode_all(root, paths, whole, workers):
            write(image)
            sizes.append(size)
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
    results = map_in_order(attempt, len(paths), workers)
    for result in tqdm(results, total=len(paths), desc="pack", unit="image"):
        if isinstance(result, _Unreadable):
            bad.append(result.problem)
        else:
            yield result
    if bad:
        raise UserError(
            f"{len(bad)} unreadable image file(s) in {root}: {abbreviate(bad)}: run `dvc repro --force download`"
        )


def _encoder(packing: Packing) -> Callable[[np.ndarray], Encoded]:
    return _jpeg if packing == "jpeg" else lambda pixels: pixels.data


def _jpeg(pixels: np.ndarray) -> bytes:
    """An image, uint8 [h, w, 3], as a JPEG."""
    if max(pixels.shape) > _LONGEST_JPEG:
        raise ValueError(f"too elongated for a JPEG: {pixels.shape[1]} × {pixels.shape[0]} pixels")
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _view_file(out: Path, name: str, packing: Packing, count: int, size: int) -> AbstractContextManager[Write]:
    """The function that writes an image of a view, encoded, to the view's file."""
    if packing == "jpeg":
        return _jpeg_file(out / f"{name}.mjpeg")
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(header, shape)
    return _plain_file(out / f"{name}.npy", header.getvalue())


@contextmanager
def _plain_file(path: Path, header: bytes = b"") -> Iterator[Write]:
    with path.open("wb") as file:
        file.write(header)
        yield file.write


@contextmanager
def _jpeg_file(path: Path) -> Iterator[Write]:
    """Write JPEGs one after the other, and beside them where each ends."""
    ends: list[int] = []
    with path.open("wb") as file:

        def write(jpeg: Encoded) -> None:
            file.write(jpeg)
            ends.append(file.tell())

        yield write
    np.save(path.with_suffix(".ends.npy"), np.array(ends, np.int64))
