"""HEIC files for tests."""

from __future__ import annotations

from pathlib import Path

import pillow_heif
from PIL import Image


def write_heic(path: Path, picture: Image.Image, orientation: int = 1) -> None:
    """Write a picture as HEIC, nearly lossless, to be shown turned as EXIF's orientation says."""
    file, exif = pillow_heif.from_pillow(picture), Image.Exif()
    exif[0x0112] = orientation
    file.info["exif"] = exif.tobytes()
    file.save(path, quality=-1, chroma=444)
