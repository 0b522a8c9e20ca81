"""Decoding and resizing images, for the default and the improved view (sections 4.2 and 4.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

# Pillow raises nearly every kind of error for a file that is truncated, hostile or no image at all.
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


def resize_square(image: Image.Image, size: int) -> np.ndarray:
    """An image as the default view has it, its aspect ignored: uint8 [size, size, 3], antialiased bilinear."""
    return _resized(image, size, size)


def resize_shorter_edge(image: Image.Image, shorter_edge: int) -> np.ndarray:
    """An image as the improved view has it, its aspect kept: uint8 [height, width, 3], antialiased bilinear.

    Raises:
        ValueError: it is so long that a few bytes would become gigabytes.
    """
    shorter = min(image.size)
    width, height = (shorter_edge * edge // shorter for edge in image.size)
    if width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"too long for its shorter edge: {image.width} × {image.height} pixels")
    return _resized(image, width, height)


def _resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


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


def reason(error: Exception) -> str:
    """Why an image could not be decoded, in a few words."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
