"""Images: decoded once into packed arrays, for the default and the improved view (sections 4.2 and 4.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from delta.errors import UserError

# What Pillow raises for a file that is missing, truncated, hostile or no image at all.
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(path: Path) -> Image.Image:
    """One image as upright RGB.

    Raises:
        BROKEN_IMAGE: one of these errors, where the file cannot be decoded.
    """
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def pack_views(root: Path, paths: Sequence[str], is_train: Sequence[bool], resize: int, crop: int, out: Path) -> None:
    """Decode every image once and keep the two sizes that the default view needs, as uint8 [n, size, size, 3].

    `test_view.npy` holds every image resized straight to the crop's size; `train_view.npy` the training images alone,
    resized to `resize`, from which random crops are cut. Both resizes ignore the aspect, antialiased bilinear. The
    arrays are written through memory maps, so memory stays bounded by one image.

    Args:
        root, paths: the images' folder and their paths below it.
        is_train: which of them belong to the training split.
        out: an existing folder.

    Raises:
        UserError: naming every file that cannot be decoded.
    """
    train_rows = np.cumsum(is_train) - 1
    train_view = _memory_map(out / "train_view.npy", int(sum(is_train)), resize)
    test_view = _memory_map(out / "test_view.npy", len(paths), crop)
    for row, image in _decoded(root, paths):
        test_view[row] = _resized(image, crop, crop)
        if is_train[row]:
            train_view[train_rows[row]] = _resized(image, resize, resize)
    train_view.flush()
    test_view.flush()


def pack_whole(root: Path, paths: Sequence[str], shorter_edge: int, out: Path) -> list[tuple[int, int]]:
    """Decode every image once and keep it whole, its aspect kept and its shorter edge resized (section 4.3).

    `images.bin` holds the images' bytes one after the other, uint8 [height, width, 3] each; antialiased bilinear.

    Args:
        root, paths: the images' folder and their paths below it.
        shorter_edge: pixels.
        out: an existing folder.

    Returns:
        Each image's height and width in `images.bin`.

    Raises:
        UserError: naming every file that cannot be decoded.
    """
    sizes = []
    with (out / "images.bin").open("wb") as file:
        for _, image in _decoded(root, paths):
            shorter = min(image.size)
            width, height = (shorter_edge * edge // shorter for edge in image.size)
            file.write(_resized(image, width, height).tobytes())
            sizes.append((height, width))
    return sizes


def _decoded(root: Path, paths: Sequence[str]) -> Iterator[tuple[int, Image.Image]]:
    """Every image with its row, one after the other; the unreadable ones are named together at the end."""
    bad = []
    for row, path in enumerate(tqdm(paths, desc="pack", unit="image")):
        try:
            image = decode(root / path)
        except BROKEN_IMAGE as error:
            bad.append(f"{path} ({reason(error)})")
            continue
        yield row, image
    if bad:
        raise UserError(f"{len(bad)} unreadable image file(s) in {root}: {', '.join(bad)}: repair or remove them")


def _memory_map(path: Path, count: int, size: int) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))


def _resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def reason(error: Exception) -> str:
    """Why an image could not be decoded, in a few words."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split())
