"""Pictures inside the page's HTML, as data URIs, so that the page is one file."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

LARGEST_SVG = 300_000  # bytes; browsers draw a larger SVG slowly, so the PNG is taken
FIGURE_DPI = 150
CSS_DPI = 96
MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """A picture with its description; source is a data URI, width and height are CSS pixels."""

    title: str
    caption: str
    source: str
    width: int
    height: int


def inline_picture(folder: Path, name: str, title: str, caption: str, dpi: int = FIGURE_DPI) -> Picture | None:
    """The picture `name` of a folder, a JPEG or PNG; None if there is none. An SVG beside it is preferred.

    Args:
        name: without its suffix.
        dpi: how many of its pixels are an inch of the page.
    """
    pixels = next((file for suffix in (".jpg", ".png") if (file := folder / f"{name}{suffix}").exists()), None)
    if pixels is None:
        return None
    with Image.open(pixels) as image:
        width, height = (round(length * CSS_DPI / dpi) for length in image.size)
    vector = folder / f"{name}.svg"
    file = vector if vector.exists() and vector.stat().st_size <= LARGEST_SVG else pixels
    source = f"data:{MEDIA_TYPES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"
    return Picture(title, caption, source, width, height)
