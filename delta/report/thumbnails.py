"""Small pictures of a data set's images, as files and on the page; their number and bytes are bounded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from delta.data.packed.disk_array import open_images
from delta.data.packed.index import read_index
from delta.io.errors import UserError
from delta.report.inline_pictures import CSS_DPI, Picture, inline_picture

SHOWN = 12  # of a gallery
SIDE = 192  # pixels of the longer edge
LARGEST = 20_000  # bytes
QUALITIES = (88, 75, 60, 45, 30)  # of a JPEG; the first that is small enough


def write_thumbnails(out: Path, name: str, packed: Path, paths: Sequence[str]) -> None:
    """Write the first SHOWN images as `<name>-00.jpg`, `<name>-01.jpg`, … into the folder `out`, as the networks see
    them when they are tested.

    Args:
        packed: a packed data set that has the images, of either split.
        paths: the images', as its index has them.

    Raises:
        UserError: an image cannot be read.
    """
    places = {path: place for place, path in enumerate(read_index(packed)["path"])}
    try:
        pixels = open_images(packed, "test_view")
        found = [pixels[places[path]] for path in paths[:SHOWN]]
    except UserError:
        raise
    except Exception as error:  # a damaged .npy file raises many types
        raise UserError(f"{packed}: not a packed data set ({error}): run `dvc repro`") from None
    out.mkdir(exist_ok=True)
    for number, image in enumerate(found):
        (out / f"{_numbered(name, number)}.jpg").write_bytes(_thumbnail(Image.fromarray(image)))


def read_thumbnails(folder: Path, name: str, texts: Sequence[tuple[str, str]]) -> list[Picture]:
    """The pictures that `write_thumbnails` wrote, those that are there.

    Args:
        texts: each one's title and caption.
    """
    pictures = [
        inline_picture(folder, _numbered(name, number), *text, CSS_DPI) for number, text in enumerate(texts[:SHOWN])
    ]
    return [picture for picture in pictures if picture]


def _numbered(name: str, number: int) -> str:
    return f"{name}-{number:02d}"


def _thumbnail(image: Image.Image) -> bytes:
    image.thumbnail((SIDE, SIDE))
    for quality in QUALITIES:
        image.save(file := io.BytesIO(), "JPEG", quality=quality)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()
