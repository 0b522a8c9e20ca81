"""Decoding and resizing images for the default and the improved view (sections 4.2 and 4.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageFile

from delta.io.cores import available_cores

# Pillow raises nearly any exception for a file that is truncated, malicious or not an image.
DECODE_ERRORS = Exception

ONE_COLOUR = "of one colour only"
SEVERAL_FRAMES = "of several frames or pages, of which the first is used"

# Pillow would execute EPS, which is PostScript, with Ghostscript; it recognises MPEG but cannot decode it.
_REFUSED = ("EPS", "MPEG")
_FURTHER_SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif", ".mpo"}  # that Pillow does not register as readable
# Their further frames are layers, other exposures or smaller copies of the picture that is shown.
_ONE_PICTURE = ("HEIF", "MPO", "PSD")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

T = TypeVar("T")


class Decoded(NamedTuple):
    """An upright RGB image, and what a user should know of its file: some of ONE_COLOUR and SEVERAL_FRAMES."""

    image: Image.Image
    remarks: tuple[str, ...]


def decode(path: Path) -> Image.Image:
    """Decode a file as an upright RGB image; its format is detected from its contents.

    Transparency is laid over white. Grey of 16 bits, 32 bits or floating point is stretched, so that the picture's own
    smallest value becomes 0 and its largest 255: which of these values is white differs from camera to camera. Of an
    animation or a document the first frame or page is decoded.

    EPS is not supported, as Pillow would execute PostScript with Ghostscript.

    Raises:
        DECODE_ERRORS: the file cannot be decoded.
    """
    return _decode(path)[0]


def decode_with_remarks(path: Path) -> Decoded:
    """Like `decode`, with remarks.

    Raises:
        DECODE_ERRORS: the file cannot be decoded.
    """
    image, has_frames = _decode(path)
    is_flat = not np.ptp(image.getextrema(), axis=1).any()
    found = ((SEVERAL_FRAMES, has_frames), (ONE_COLOUR, is_flat))
    return Decoded(image, tuple(remark for remark, applies in found if applies))


def readable_suffixes() -> set[str]:
    """The suffixes of the formats that `decode` reads, in lower case, such as `.jpg`."""
    formats = _formats()
    return _FURTHER_SUFFIXES | {suffix for suffix, name in Image.registered_extensions().items() if name in formats}


def is_image(path: Path) -> bool:
    """Whether a file begins as one that `decode` reads; it may still be damaged."""
    try:
        with path.open("rb") as stream, _open(stream):
            return True
    except DECODE_ERRORS:
        return False


def orientation(file: Image.Image) -> Any:
    """The orientation in a file's EXIF data, 1 to 8 if it is valid; None for none.

    Only this tag is read, because cameras and editors write others that do not follow the standard.
    """
    try:
        return file.getexif().get(ExifTags.Base.Orientation)
    except DECODE_ERRORS:
        return None


def _decode(path: Path) -> tuple[Image.Image, bool]:
    """An upright RGB image, and whether it is one of several frames or pages."""
    with path.open("rb") as stream, _open(stream) as file:
        has_frames = getattr(file, "is_animated", False) and file.format not in _ONE_PICTURE
        file.load()
        turn = _UPRIGHT.get(orientation(file))
        image = _rgb(file)
    return (image if turn is None else image.transpose(turn)), has_frames


def _open(stream: BinaryIO) -> Image.Image:
    """Open an image file for Pillow, without registering HEIC, which would change Pillow for the whole process."""
    try:
        return Image.open(stream, formats=_formats())
    except Image.UnidentifiedImageError:
        stream.seek(0)
        if not pillow_heif.is_supported(stream):
            raise
    try:
        file = pillow_heif.HeifImageFile(stream)
    except SyntaxError as error:
        raise ValueError(f"damaged HEIC: {error}") from None
    if Image.MAX_IMAGE_PIXELS is not None and file.width * file.height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"too large: {file.width} × {file.height} pixels")
    return file


def _formats() -> list[str]:
    """The names of Pillow's formats that can be decoded: not of stubs, which only recognise a format."""
    Image.init()
    stubs = {
        name
        for name, (opener, _) in Image.OPEN.items()
        if isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)
    }
    return [name for name in Image.OPEN if name not in stubs and name not in _REFUSED]


def _rgb(file: Image.Image) -> Image.Image:
    """A loaded image in RGB, see `decode`."""
    if file.mode in ("I", "F") or file.mode.startswith("I;16"):
        return Image.fromarray(_stretched(np.asarray(file, np.float64))).convert("RGB")
    if file.has_transparency_data:
        picture = file.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return file if file.mode == "RGB" else file.convert("RGB")


def _stretched(values: np.ndarray) -> np.ndarray:
    """Values scaled from their own range to uint8; what is not finite counts as the smallest or largest value.

    Raises:
        ValueError: no value is finite.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise ValueError("no pixel has a finite value")
    low, high = finite.min(), finite.max()
    shifted = np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low
    return np.rint(255 * shifted / ((high - low) or 1)).astype(np.uint8)


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
