"""Decoding and resizing images for the default and the improved view (sections 4.2 and 4.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from delta.io.cores import available_cores

# Pillow raises nearly any exception for a file that is truncated, malicious or not an image.
DECODE_ERRORS = Exception

T = TypeVar("T")


def decode(path: Path) -> Image.Image:
    """Decode a file as an upright RGB image; its format is detected from its contents, and transparency is dropped.

    EPS is not supported, as Pillow would execute PostScript with Ghostscript.

    Raises:
        DECODE_ERRORS: the file cannot be decoded.
    """
    Image.init()
    with Image.open(path, formats=[name for name in Image.OPEN if name != "EPS"]) as file:
        file.load()
        ImageOps.exif_transpose(file, in_place=True)
        # By way of RGBA, a palette keeps its colours and there is no warning about a transparent one.
        image = file.convert("RGBA") if file.mode == "P" else file
        return image if image.mode == "RGB" else image.convert("RGB")


def resize_square(image: Image.Image, size: int) -> np.ndarray:
    """Resize to a square, ignoring the aspect ratio, for the default view: uint8 [size, size, 3].

    Interpolation is antialiased bilinear.
    """
    return _resized(image, size, size)


def resize_shorter_edge(image: Image.Image, shorter_edge: int) -> np.ndarray:
    """Resize the shorter edge, keeping the aspect ratio, for the improved view: uint8 [height, width, 3].

    Interpolation is antialiased bilinear.

    Raises:
        ValueError: the image is so elongated that the result would exceed Pillow's limit on pixels.
    """
    shorter = min(image.size)
    width, height = (shorter_edge * edge // shorter for edge in image.size)
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"too elongated: {image.width} × {image.height} pixels")
    return _resized(image, width, height)


def _resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def map_in_order(work: Callable[[int], T], count: int, workers: int | None = None) -> Generator[T, None, None]:
    """Yield work(0), work(1), … in order, computed by threads at most two results per worker ahead of the consumer.

    Threads are enough, as Pillow releases the interpreter lock while it decodes and resizes. The bound keeps memory
    small when the consumer is slow; joblib's generator has none.

    Args:
        work: takes an index.
        count: how many indices.
        workers: how many threads; by default one per core, see `available_cores`.
    """
    workers = workers or available_cores()
    Image.init()  # Pillow registers its formats lazily, which is not thread-safe
    indices = iter(range(count))
    with ThreadPoolExecutor(workers) as pool:
        pending = deque(pool.submit(work, index) for index in islice(indices, 2 * workers))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(work, index) for index in islice(indices, 1))
            yield result


def failure_reason(error: Exception) -> str:
    """Why an image could not be decoded, in a few words."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
