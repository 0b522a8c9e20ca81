"""Images: decoded once into packed arrays, for the default and the improved view (sections 4.2 and 4.3)."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from delta.errors import UserError

# Pillow has nearly every kind of error for a file that is truncated, hostile or no image at all.
BROKEN_IMAGE = Exception

T = TypeVar("T")


def decode(path: Path) -> Image.Image:
    """One image as upright RGB, whatever its file's name says it is; transparency is dropped.

    PostScript is no image here: Pillow would have Ghostscript run it.

    Raises:
        BROKEN_IMAGE: the file cannot be decoded.
    """
    Image.init()
    with Image.open(path, formats=[name for name in Image.OPEN if name != "EPS"]) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "P":
            image = image.convert("RGBA")  # the same colours, and no warning about a transparent palette
        return image if image.mode == "RGB" else image.convert("RGB")


def squashed(image: Image.Image, size: int) -> np.ndarray:
    """An image as the default view has it, its aspect ignored: uint8 [size, size, 3], antialiased bilinear."""
    return _resized(image, size, size)


def scaled(image: Image.Image, shorter_edge: int) -> np.ndarray:
    """An image as the improved view has it, its aspect kept: uint8 [height, width, 3], antialiased bilinear.

    Raises:
        ValueError: it is so long that a few bytes would become gigabytes.
    """
    shorter = min(image.size)
    width, height = (shorter_edge * edge // shorter for edge in image.size)
    if width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"too long for its shorter edge: {image.width} × {image.height} pixels")
    return _resized(image, width, height)


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
        return squashed(image, crop), squashed(image, resize) if is_train[row] else None

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
        for pixels in _each(root, paths, lambda _, image: scaled(image, shorter_edge), workers):
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


def in_order(work: Callable[[int], T], count: int, workers: int) -> Iterator[T]:
    """work(0), work(1), ... from threads that run at most two results a worker ahead of the reader.

    Threads do: Pillow holds no interpreter lock while it decodes and resizes. joblib's generator would run ahead of
    a slow reader without bound.
    """
    Image.init()  # Pillow finds its formats lazily, and not safely from several threads
    rows = iter(range(count))
    with ThreadPoolExecutor(workers) as pool:
        pending = deque(pool.submit(work, row) for row in islice(rows, 2 * workers))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(work, row) for row in islice(rows, 1))
            yield result


def _array_file(path: Path, count: int, size: int) -> BinaryIO:
    """A .npy file that takes `count` images of uint8 [size, size, 3], one written after the other."""
    file = path.open("wb")
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def _resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def reason(error: Exception) -> str:
    """Why an image could not be decoded, in a few words."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
